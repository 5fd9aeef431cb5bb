//! libvirt: devices for a domain, or a network that is a pool of VFs.

use std::fmt::Write;

use vfnic::backend::PciAddress;

use super::Export;
use crate::host::cards::{Changed, Vlan};

const PCI: &str = " type='pci'";

/// `kind` is ` type='pci'` where libvirt's schema wants it said; a `<hostdev>` has said it already, and may not again.
fn address(at: PciAddress, kind: &str) -> String {
    format!(
        "<address{kind} domain='0x{:04x}' bus='0x{:02x}' slot='0x{:02x}' function='0x{:x}'/>",
        at.domain, at.bus, at.device, at.function
    )
}

/// One device for each VF. `<interface>` where libvirt can reach the PF to set address and VLAN, else `<hostdev>`.
pub(super) fn devices(export: &Export<'_>) -> String {
    let mut text = String::from(
        "<!-- For <devices> of a domain. managed='yes': libvirt binds to vfio-pci and back. -->\n",
    );
    for vf in export.vfs() {
        if vf.pf_interface.is_none() {
            let source = address(vf.at, "");
            let _ = write!(
                text,
                "<hostdev mode='subsystem' type='pci' managed='yes'>\n  <source>\n    {source}\n  </source>\n</hostdev>\n"
            );
            continue;
        }
        let source = address(vf.at, PCI);
        let changed = Changed::of(vf.settings.as_ref());
        let _ = write!(
            text,
            "<interface type='hostdev' managed='yes'>\n  <driver name='vfio'/>\n  <source>\n    {source}\n  </source>\n"
        );
        if let Some(mac) = changed.mac {
            let _ = writeln!(text, "  <mac address='{mac}'/>");
        }
        match changed.vlan {
            // libvirt would set an 802.1Q tag in its place.
            Some(Vlan { id, ad: true, .. }) => {
                let _ = writeln!(
                    text,
                    "  <!-- Its VLAN {id} has 802.1ad tags, which libvirt has no word for: as long as <vlan> is not said here, the PF's setting stays. -->"
                );
            }
            Some(Vlan { id, .. }) => {
                let _ = write!(text, "  <vlan>\n    <tag id='{id}'/>\n  </vlan>\n");
            }
            None => {}
        }
        text.push_str("</interface>\n");
    }
    text
}

/// A network from which a domain's `<interface type='network'>` takes whichever VF is free.
pub(super) fn network(export: &Export<'_>) -> String {
    let name = &export.name;
    let mut text = format!(
        "<!-- virsh net-define FILE; in a domain: <interface type='network'><source network='{name}'/></interface> -->\n\
         <network>\n  <name>{name}</name>\n  <forward mode='hostdev' managed='yes'>\n    <driver name='vfio'/>\n"
    );
    match export.cards {
        [card] if card.is_whole() && card.plain_interface().is_some() => {
            let pf = card.plain_interface().unwrap_or_default();
            let _ = writeln!(text, "    <pf dev='{pf}'/>");
        }
        _ => {
            for vf in export.vfs() {
                let _ = writeln!(text, "    {}", address(vf.at, PCI));
            }
        }
    }
    text.push_str("  </forward>\n</network>\n");
    text
}
