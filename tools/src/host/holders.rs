//! Who holds a function.

use serde::Serialize;
use vfnic::backend::{PciAddress, holders};

use super::Host;

/// A process that has one of a function's nodes open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Holder {
    /// Its number.
    pub pid: u32,
    /// What it calls itself.
    pub name: String,
}

/// The nodes a function is opened by, as they are called on the host.
#[must_use]
pub fn nodes(host: &Host, address: PciAddress) -> Vec<String> {
    let mut nodes = Vec::new();
    if let Some(group) = host.sysfs().iommu_group(address) {
        let name = if host.sysfs().group_name(group).as_deref() == Some("vfio-noiommu") {
            // A pod finds the same node under the number alone.
            let plain = format!("/dev/vfio/{group}");
            if host.has(&plain) {
                plain
            } else {
                format!("/dev/vfio/noiommu-{group}")
            }
        } else {
            format!("/dev/vfio/{group}")
        };
        nodes.push(name);
    }
    if let Some(device) = host.sysfs().vfio_device(address) {
        nodes.push(format!("/dev/vfio/devices/{device}"));
    }
    nodes
}

/// The processes that hold `address`, as far as this one may see. Another group member's holder holds it as well: a group is opened as
/// a whole.
#[must_use]
pub fn of(host: &Host, address: PciAddress) -> Vec<Holder> {
    let mut found: Vec<Holder> = nodes(host, address)
        .iter()
        .flat_map(|node| holders(&host.path(node), &host.path("/proc")))
        .map(|holder| Holder {
            pid: holder.pid,
            name: holder.name,
        })
        .collect();
    found.sort_unstable_by_key(|holder| holder.pid);
    found.dedup();
    found
}
