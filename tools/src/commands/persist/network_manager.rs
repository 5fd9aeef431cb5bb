//! A profile of NetworkManager's.

use std::fmt::{self, Write};

use super::{file_name, kept, udev};
use crate::host::cards::{Card, Changed, Vlan};

/// The PF's profile, and a rule for the VFs' driver, of which profiles know nothing.
pub(super) fn write(text: &mut String, card: &Card) -> fmt::Result {
    let Some(pf) = &card.pf else {
        writeln!(
            text,
            "# The PF is not to be seen here, so there is no profile: the number of VFs and their settings are the host's."
        )?;
        return udev::write_bindings(text, card);
    };
    let name = file_name(card);
    match &pf.in_use {
        // A second profile for the interface would take its addresses away.
        Some(why) => writeln!(
            text,
            "# To be added to the profile {} has already: {why}.",
            crate::output::printable(pf.interfaces.first().unwrap_or(&pf.address))
        )?,
        None => writeln!(
            text,
            "# /etc/NetworkManager/system-connections/vfnic-{name}.nmconnection, owner root, mode 600\n\
             # For a PF that is there for its VFs only. Where it has a profile, add the section [sriov] to that.\n\
             [connection]\nid=vfnic-{name}\ntype=ethernet\n\n\
             [match]\npath=pci-{};\n\n\
             [ethernet]\n\n[ipv4]\nmethod=disabled\n\n[ipv6]\nmethod=disabled\n",
            pf.address
        )?,
    }
    writeln!(text, "[sriov]\ntotal-vfs={}", card.count())?;
    if card.is_whole() {
        writeln!(text, "autoprobe-drivers=0")?;
    }
    writeln!(
        text,
        "# From 1.54 on; older ones do not know the word, and take the VFs away when the profile goes down.\n\
         preserve-on-down=1"
    )?;
    for kept in kept(card) {
        let words = attributes(&kept.changed);
        if let (Some(vf), false) = (kept.vf.vf, words.is_empty()) {
            writeln!(text, "vf.{vf}={words}")?;
        }
        if kept.changed.link.is_some() || kept.changed.reads_rss {
            writeln!(
                text,
                "# Profiles know neither `state` nor `query_rss`; --format udev does."
            )?;
        }
    }
    udev::write_bindings(text, card)
}

fn attributes(changed: &Changed) -> String {
    let mut words = Vec::new();
    if let Some(mac) = changed.mac {
        words.push(format!("mac={mac}"));
    }
    if changed.spoofs {
        words.push("spoof-check=false".to_owned());
    }
    if changed.trusted {
        words.push("trust=true".to_owned());
    }
    if let Some((least, most)) = changed.rates {
        words.push(format!("min-tx-rate={least} max-tx-rate={most}"));
    }
    match changed.vlan {
        Some(Vlan { id, qos, ad: true }) => words.push(format!("vlans={id}.{qos}.ad")),
        Some(Vlan { id, qos: 0, .. }) => words.push(format!("vlans={id}")),
        Some(Vlan { id, qos, .. }) => words.push(format!("vlans={id}.{qos}")),
        None => {}
    }
    words.join(" ")
}
