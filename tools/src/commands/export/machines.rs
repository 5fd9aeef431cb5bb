//! Xen and QEMU, which take a VF by its address.

use std::fmt::Write;

use super::Export;

/// For XenServer and XCP-ng (`xe`) and for plain Xen (`xl`).
pub(super) fn xen(export: &Export<'_>) -> String {
    let list: Vec<_> = export.vfs().map(|vf| format!("0/{}", vf.address)).collect();
    let mut text = format!(
        "# XenServer, XCP-ng: takes effect when the VM starts\n\
         xe vm-param-set uuid=VM_UUID other-config:pci={}\n\n\
         # Plain Xen: once after each restart of dom0, and in the domain's file\n",
        list.join(",")
    );
    for vf in export.vfs() {
        let _ = writeln!(text, "xl pci-assignable-add {}", vf.address);
    }
    let list: Vec<_> = export.vfs().map(|vf| format!("'{}'", vf.address)).collect();
    let _ = writeln!(text, "pci = [ {} ]", list.join(", "));
    text
}

/// Arguments, one device a line.
pub(super) fn qemu(export: &Export<'_>) -> String {
    // The character devices need an IOMMU object of their own; groups find theirs.
    let iommufd = export.host.has("/dev/iommu")
        && export
            .vfs()
            .all(|vf| vf.nodes.iter().any(|node| node.contains("/devices/")));
    let mut text = String::new();
    if export.vfs().any(|vf| !vf.is_on_vfio()) {
        text.push_str("# Before: vfnic bind, for those that are not on vfio-pci yet\n");
    }
    text.push_str("# QEMU pins all of the guest's memory: its user needs that much memlock.\n");
    if iommufd {
        text.push_str("-object iommufd,id=iommufd0 \\\n");
    }
    let lines: Vec<_> = export
        .vfs()
        .map(|vf| {
            let mut line = format!("-device vfio-pci,host={}", vf.address);
            if iommufd {
                line.push_str(",iommufd=iommufd0");
            }
            let token = vf
                .pf
                .and_then(|pf| export.host.sysfs().driver(pf))
                .is_some_and(|driver| vfnic::backend::sysfs::is_vfio(&driver));
            if token {
                line.push_str(",vf-token=UUID_OF_THE_PF");
            }
            line
        })
        .collect();
    text.push_str(&lines.join(" \\\n"));
    text.push('\n');
    text
}
