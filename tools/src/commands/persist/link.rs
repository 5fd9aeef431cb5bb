//! A .link file of systemd's.

use std::fmt::{self, Write};

use super::{file_name, kept, udev};
use crate::host::cards::{Card, Vlan};
use crate::host::links::vlan_protocol;

/// The PF's file, and a rule for the VFs' driver, of which .link files know nothing.
pub(super) fn write(text: &mut String, card: &Card) -> fmt::Result {
    let Some(pf) = &card.pf else {
        writeln!(
            text,
            "# The PF is not to be seen here, so there is no .link file: the number of VFs and their settings are the host's."
        )?;
        return udev::write_bindings(text, card);
    };
    writeln!(
        text,
        "# /etc/systemd/network/70-vfnic-{}.link",
        file_name(card)
    )?;
    writeln!(
        text,
        "# For systemd 251 or newer. It is applied before the interface is up; a driver that refuses that wants --format udev."
    )?;
    writeln!(text, "[Match]\nPath=pci-{}\n", pf.address)?;
    // The first file that matches is the only one: what 99-default.link says has to be said again.
    writeln!(
        text,
        "[Link]\n\
         NamePolicy=keep kernel database onboard slot path\n\
         AlternativeNamesPolicy=database onboard slot path\n\
         MACAddressPolicy=persistent\n\
         SR-IOVVirtualFunctions={}",
        card.count()
    )?;
    for kept in kept(card) {
        let (Some(vf), changed) = (kept.vf.vf, kept.changed) else {
            continue;
        };
        if changed.words().is_empty() {
            continue;
        }
        writeln!(text, "\n[SR-IOV]\nVirtualFunction={vf}")?;
        if let Some(mac) = changed.mac {
            writeln!(text, "MACAddress={mac}")?;
        }
        if let Some(Vlan { id, qos, ad }) = changed.vlan {
            writeln!(text, "VLANId={id}")?;
            if qos != 0 {
                writeln!(text, "QualityOfService={qos}")?;
            }
            if ad {
                writeln!(text, "VLANProtocol={}", vlan_protocol(ad))?;
            }
        }
        if changed.spoofs {
            writeln!(text, "MACSpoofCheck=no")?;
        }
        if changed.trusted {
            writeln!(text, "Trust=yes")?;
        }
        if let Some(up) = changed.link {
            writeln!(text, "LinkState={}", if up { "yes" } else { "no" })?;
        }
        if changed.reads_rss {
            writeln!(text, "QueryReceiveSideScaling=yes")?;
        }
        if let Some((least, most)) = changed.rates {
            writeln!(
                text,
                "# .link files know no rates; --format udev does: min_tx_rate {least} max_tx_rate {most}"
            )?;
        }
    }
    udev::write_bindings(text, card)
}
