//! What sysfs says about PCI functions, IOMMU groups and VFIO nodes. Reading only, and no opinions: what follows from a
//! fact is decided by who asked.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::PciAddress;

/// A sysfs tree.
#[derive(Clone, Debug)]
pub struct Sysfs {
    root: PathBuf,
}

/// A member of an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Member {
    /// Its name: a PCI address, or another bus's name for a device of its own.
    pub name: String,
    /// The driver bound to it, if any.
    pub driver: Option<String>,
}

impl Sysfs {
    /// The tree at `root`; the system's own is at `/sys`.
    #[must_use]
    pub fn new(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where the function is found in the tree, whether or not it is there.
    #[must_use]
    pub fn function(&self, address: PciAddress) -> PathBuf {
        self.root.join("bus/pci/devices").join(address.to_string())
    }

    /// All PCI functions, ascending.
    ///
    /// # Errors
    ///
    /// When the list cannot be read.
    pub fn functions(&self) -> io::Result<Vec<PciAddress>> {
        let mut all: Vec<_> = names(&self.root.join("bus/pci/devices"))?
            .iter()
            .filter_map(|name| name.parse().ok())
            .collect();
        all.sort_unstable();
        Ok(all)
    }

    /// Whether there is such a function.
    #[must_use]
    pub fn exists(&self, address: PciAddress) -> bool {
        self.function(address).exists()
    }

    /// The driver bound to the function.
    #[must_use]
    pub fn driver(&self, address: PciAddress) -> Option<String> {
        link(&self.function(address).join("driver"))
    }

    /// The function's IOMMU group.
    #[must_use]
    pub fn iommu_group(&self, address: PciAddress) -> Option<u32> {
        link(&self.function(address).join("iommu_group"))?
            .parse()
            .ok()
    }

    /// The name a group was given, e.g. `vfio-noiommu` for one that no IOMMU stands behind.
    #[must_use]
    pub fn group_name(&self, group: u32) -> Option<String> {
        text(&self.group(group).join("name"))
    }

    /// How the kernel's own drivers use the IOMMU for a group: `DMA`, `DMA-FQ` or `identity`.
    #[must_use]
    pub fn iommu_type(&self, group: u32) -> Option<String> {
        text(&self.group(group).join("type"))
    }

    /// The members of an IOMMU group, ascending by name.
    ///
    /// # Errors
    ///
    /// When the group's folder cannot be read.
    pub fn group_members(&self, group: u32) -> io::Result<Vec<Member>> {
        let devices = self.group(group).join("devices");
        let mut members: Vec<_> = names(&devices)?
            .into_iter()
            .map(|name| Member {
                driver: link(&devices.join(&name).join("driver")),
                name,
            })
            .collect();
        members.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        Ok(members)
    }

    /// The name of the function's own VFIO node (`vfio3`), where the kernel makes such nodes and vfio-pci is bound.
    #[must_use]
    pub fn vfio_device(&self, address: PciAddress) -> Option<String> {
        names(&self.function(address).join("vfio-dev"))
            .ok()?
            .into_iter()
            .find(|name| name.starts_with("vfio"))
    }

    /// Vendor and device id, as the kernel knows them (a VF's own config space says ffff:ffff).
    #[must_use]
    pub fn ids(&self, address: PciAddress) -> Option<(u16, u16)> {
        let path = self.function(address);
        Some((
            number(&path.join("vendor"))?.try_into().ok()?,
            number(&path.join("device"))?.try_into().ok()?,
        ))
    }

    /// The 24-bit class code; 0x020000 is Ethernet.
    #[must_use]
    pub fn class(&self, address: PciAddress) -> Option<u32> {
        number(&self.function(address).join("class"))?
            .try_into()
            .ok()
    }

    /// The PF of a VF; `None` for anything that is no VF.
    #[must_use]
    pub fn pf(&self, address: PciAddress) -> Option<PciAddress> {
        link(&self.function(address).join("physfn"))?.parse().ok()
    }

    /// The VFs of a PF as (number, address), ascending; empty for anything that has none.
    #[must_use]
    pub fn vfs(&self, address: PciAddress) -> Vec<(u16, PciAddress)> {
        let path = self.function(address);
        let mut vfs: Vec<_> = names(&path)
            .unwrap_or_default()
            .iter()
            .filter_map(|name| {
                let number = name.strip_prefix("virtfn")?.parse().ok()?;
                Some((number, link(&path.join(name))?.parse().ok()?))
            })
            .collect();
        vfs.sort_unstable();
        vfs
    }

    /// How many VFs the PF has switched on, and how many it can have; `None` for anything that is no PF.
    #[must_use]
    pub fn vf_counts(&self, address: PciAddress) -> Option<(u16, u16)> {
        let path = self.function(address);
        Some((
            number(&path.join("sriov_numvfs"))?.try_into().ok()?,
            number(&path.join("sriov_totalvfs"))?.try_into().ok()?,
        ))
    }

    /// The driver that binding is restricted to, if it is.
    #[must_use]
    pub fn driver_override(&self, address: PciAddress) -> Option<String> {
        text(&self.function(address).join("driver_override")).filter(|name| name != "(null)")
    }

    /// The network interfaces that a kernel driver made of the function, ascending.
    #[must_use]
    pub fn interfaces(&self, address: PciAddress) -> Vec<String> {
        let mut all = names(&self.function(address).join("net")).unwrap_or_default();
        all.sort_unstable();
        all
    }

    /// The function that a network interface belongs to.
    #[must_use]
    pub fn of_interface(&self, interface: &str) -> Option<PciAddress> {
        if interface.contains('/') || interface.starts_with('.') {
            return None;
        }
        link(&self.root.join("class/net").join(interface).join("device"))?
            .parse()
            .ok()
    }

    /// The NUMA node the function is on, where the machine says.
    #[must_use]
    pub fn numa_node(&self, address: PciAddress) -> Option<u32> {
        text(&self.function(address).join("numa_node"))?
            .parse()
            .ok()
    }

    /// Free huge pages of `size` bytes.
    #[must_use]
    pub fn free_huge_pages(&self, size: usize) -> u64 {
        let folder = format!("kernel/mm/hugepages/hugepages-{}kB", size / 1024);
        number(&self.root.join(folder).join("free_hugepages")).unwrap_or(0)
    }

    fn group(&self, group: u32) -> PathBuf {
        self.root
            .join("kernel/iommu_groups")
            .join(group.to_string())
    }
}

/// Whether a driver is vfio-pci, or one of those built on it for certain devices.
#[must_use]
pub fn is_vfio(driver: &str) -> bool {
    driver == "vfio-pci" || driver.ends_with("-vfio-pci") || driver.ends_with("_vfio_pci")
}

/// The names in a folder.
fn names(folder: &Path) -> io::Result<Vec<String>> {
    fs::read_dir(folder)?
        .map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned()))
        .collect()
}

/// The last part of what a symbolic link points to.
fn link(path: &Path) -> Option<String> {
    fs::read_link(path)
        .ok()?
        .file_name()
        .and_then(OsStr::to_str)
        .map(str::to_owned)
}

/// A file's one line.
fn text(path: &Path) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

/// A file's one number, decimal or `0x…`.
fn number(path: &Path) -> Option<u64> {
    let text = text(path)?;
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    #[test]
    fn h27_reads_a_card_with_vfs() {
        let host = Host::new();
        let pf = host.function("0000:31:00.0", Some("ixgbe"), Some(7));
        let vf = host.function("0000:31:10.0", Some("vfio-pci"), Some(8));
        host.write("sys/bus/pci/devices/0000:31:00.0/sriov_numvfs", "1\n");
        host.write("sys/bus/pci/devices/0000:31:00.0/sriov_totalvfs", "63\n");
        host.write("sys/bus/pci/devices/0000:31:00.0/net/eth0/mtu", "1500\n");
        host.link(
            "sys/bus/pci/devices/0000:31:00.0/virtfn0",
            "../0000:31:10.0",
        );
        host.link("sys/bus/pci/devices/0000:31:10.0/physfn", "../0000:31:00.0");
        host.write("sys/bus/pci/devices/0000:31:10.0/vendor", "0x8086\n");
        host.write("sys/bus/pci/devices/0000:31:10.0/device", "0x10ed\n");
        host.write("sys/bus/pci/devices/0000:31:10.0/class", "0x020000\n");
        host.write("sys/bus/pci/devices/0000:31:10.0/numa_node", "-1\n");
        host.write(
            "sys/bus/pci/devices/0000:31:10.0/driver_override",
            "(null)\n",
        );
        host.write(
            "sys/bus/pci/devices/0000:31:10.0/vfio-dev/vfio4/dev",
            "511:4\n",
        );
        host.write("sys/kernel/iommu_groups/8/type", "DMA-FQ\n");
        let sysfs = host.sysfs();

        assert_eq!(sysfs.functions().unwrap(), [pf, vf]);
        assert_eq!(sysfs.driver(vf).as_deref(), Some("vfio-pci"));
        assert_eq!(sysfs.iommu_group(vf), Some(8));
        assert_eq!(sysfs.iommu_type(8).as_deref(), Some("DMA-FQ"));
        assert_eq!(sysfs.vfio_device(vf).as_deref(), Some("vfio4"));
        assert_eq!(sysfs.vfio_device(pf), None);
        assert_eq!(sysfs.ids(vf), Some((0x8086, 0x10ed)));
        assert_eq!(sysfs.ids(pf), None);
        assert_eq!(sysfs.class(vf), Some(0x02_0000));
        assert_eq!(sysfs.pf(vf), Some(pf));
        assert_eq!(sysfs.pf(pf), None);
        assert_eq!(sysfs.vfs(pf), [(0, vf)]);
        assert_eq!(sysfs.vf_counts(pf), Some((1, 63)));
        assert_eq!(sysfs.vf_counts(vf), None);
        assert_eq!(sysfs.driver_override(vf), None);
        assert_eq!(sysfs.interfaces(pf), ["eth0"]);
        assert_eq!(sysfs.numa_node(vf), None);
        assert_eq!(
            sysfs.group_members(8).unwrap(),
            [Member {
                name: "0000:31:10.0".into(),
                driver: Some("vfio-pci".into())
            }]
        );
    }

    #[test]
    fn an_interface_name_cannot_leave_its_folder() {
        let host = Host::new();
        let address = host.function("0000:31:00.0", None, None);
        host.link(
            "sys/class/net/eth0/device",
            "../../../bus/pci/devices/0000:31:00.0",
        );
        assert_eq!(host.sysfs().of_interface("eth0"), Some(address));
        assert_eq!(host.sysfs().of_interface("../net/eth0"), None);
        assert_eq!(host.sysfs().of_interface(".."), None);
    }
}
