//! Kubernetes: the SR-IOV device plugin's configuration, and a pod that asks for one VF.

use serde_json::{Value, json};
use vfnic::VfSet;

use super::Export;
use crate::host::cards::Card;

/// The plugin's own prefix, when its configuration names none.
const PREFIX: &str = "intel.com";

/// Both, as one stream of YAML documents.
pub(super) fn text(export: &Export<'_>) -> anyhow::Result<String> {
    let name = &export.name;
    let config = serde_json::to_string_pretty(&json!({
        "resourceList": [{
            "resourceName": name,
            "resourcePrefix": PREFIX,
            "selectors": export.cards.iter().map(|card| selector(card, export.by_root)).collect::<Vec<_>>(),
        }],
    }))?;
    // JSON stands in YAML as it is, below a key and indented.
    let config: String = config.lines().map(|line| format!("    {line}\n")).collect();
    Ok(format!(
        "# Restart the device plugin after a change: it reads this when it starts.\n\
         apiVersion: v1\n\
         kind: ConfigMap\n\
         metadata:\n\
         \x20 name: sriovdp-config\n\
         \x20 namespace: kube-system\n\
         data:\n\
         \x20 config.json: |\n\
         {config}\
         ---\n\
         # The program finds its VF as k8s:{PREFIX}/{name}.\n\
         apiVersion: v1\n\
         kind: Pod\n\
         metadata:\n\
         \x20 name: vfnic\n\
         spec:\n\
         \x20 containers:\n\
         \x20 - name: vfnic\n\
         \x20   image: vfnic:latest\n\
         \x20   command: [\"vfnic\", \"stats\", \"--device\", \"k8s:{PREFIX}/{name}\"]\n\
         \x20   securityContext:\n\
         \x20     allowPrivilegeEscalation: false\n\
         \x20     readOnlyRootFilesystem: true\n\
         \x20     capabilities:\n\
         \x20       drop: [\"ALL\"]\n\
         \x20       # Memory for DMA is pinned. A memlock limit of the runtime's that is high enough does as well.\n\
         \x20       add: [\"IPC_LOCK\"]\n\
         \x20   resources:\n\
         \x20     requests:\n\
         \x20       {PREFIX}/{name}: \"1\"\n\
         \x20     limits:\n\
         \x20       {PREFIX}/{name}: \"1\"\n"
    ))
}

fn selector(card: &Card, by_root: bool) -> Value {
    let ids = |id: fn(&crate::host::function::Function) -> u16| {
        let mut ids: Vec<_> = card.vfs.iter().map(id).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.iter().map(|id| format!("{id:04x}")).collect::<Vec<_>>()
    };
    let mut selector = json!({
        "vendors": ids(|vf| vf.vendor_id),
        "devices": ids(|vf| vf.device_id),
        "drivers": ["vfio-pci"],
    });
    let numbers: Option<Vec<u16>> = card.vfs.iter().map(|vf| vf.vf).collect();
    let (Some(pf), Some(numbers)) = (&card.pf, numbers) else {
        // In a virtual machine there is no PF to go by.
        let addresses: Vec<_> = card.vfs.iter().map(|vf| &vf.address).collect();
        selector["pciAddresses"] = json!(addresses);
        return selector;
    };
    let vfs = match card.is_whole() {
        true => VfSet::All,
        false => ranges(&numbers),
    };
    // An interface's name may not be fit for a file, and a PF on vfio-pci has none; the address is always there.
    match card.plain_interface().filter(|_| !by_root) {
        Some(interface) => selector["pfNames"] = json!([format!("{interface}{vfs}")]),
        None => selector["rootDevices"] = json!([format!("{}{vfs}", pf.address)]),
    }
    selector
}

/// Ascending numbers, as few ranges as there can be.
fn ranges(numbers: &[u16]) -> VfSet {
    let mut ranges: Vec<(u16, u16)> = Vec::new();
    for &number in numbers {
        match ranges.last_mut() {
            Some((_, last)) if last.checked_add(1) == Some(number) => *last = number,
            _ => ranges.push((number, number)),
        }
    }
    VfSet::Ranges(ranges)
}
