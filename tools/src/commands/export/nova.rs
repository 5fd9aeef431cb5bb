//! OpenStack Nova.

use std::fmt::Write;

use serde_json::json;

use super::Export;

/// Lines for nova.conf, and the flavor that asks for a VF.
pub(super) fn text(export: &Export<'_>) -> String {
    let mut text = String::from("# nova.conf of the compute node\n[pci]\n");
    for card in export.cards {
        let spec = |vf: &crate::host::function::Function, address: &str| {
            json!({
                "vendor_id": format!("{:04x}", vf.vendor_id),
                "product_id": format!("{:04x}", vf.device_id),
                "address": address,
            })
        };
        match (&card.pf, card.vfs.first()) {
            // A PF's address means every VF of it, also those made later; the product id keeps the PF itself out.
            (Some(pf), Some(vf)) if card.is_whole() => {
                let _ = writeln!(text, "device_spec = {}", spec(vf, &pf.address));
            }
            _ => {
                for vf in &card.vfs {
                    let _ = writeln!(text, "device_spec = {}", spec(vf, &vf.address));
                }
            }
        }
    }
    text.push_str("\n# nova.conf of the compute node and of nova-api\n[pci]\n");
    for (vendor, device) in export.ids() {
        let alias = json!({
            "name": export.name,
            "vendor_id": format!("{vendor:04x}"),
            "product_id": format!("{device:04x}"),
            "device_type": "type-VF",
        });
        let _ = writeln!(text, "alias = {alias}");
    }
    let _ = write!(
        text,
        "\n# A flavor that asks for one\n\
         openstack flavor set FLAVOR --property pci_passthrough:alias={}:1\n\
         # For ports of Neutron's (binding:vnic_type direct) add \"physical_network\": \"NAME\" to each device_spec; it needs no alias.\n",
        export.name
    );
    text
}
