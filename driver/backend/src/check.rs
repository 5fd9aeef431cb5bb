//! What can be told about a function before anything of it is opened, and what a node that would not open means.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::io::Errno;
use vfnic_hw::PciError;

use crate::handed::Nodes;
use crate::holders::holders;
use crate::sysfs::is_vfio;
use crate::{OpenOptions, PciAddress, Sysfs};

/// A function that looks as if it could be opened.
#[derive(Clone, Debug)]
pub(crate) struct Target {
    pub(crate) address: PciAddress,
    /// The address as text: what messages call it.
    pub(crate) device: String,
    pub(crate) group: u32,
    /// `/dev/vfio/GROUP`.
    pub(crate) group_node: PathBuf,
    /// `/dev/vfio/devices/vfioN`, where the kernel makes such nodes.
    pub(crate) device_node: Option<PathBuf>,
    /// Whether the PF may have a token: it is another VFIO user's. The kernel refuses to be told one for nothing.
    pub(crate) takes_token: bool,
    /// The nodes, where somebody else has opened them: they are taken in place of those paths.
    pub(crate) handed: Option<Arc<Nodes>>,
}

impl Target {
    pub(crate) fn find(address: PciAddress, options: &OpenOptions) -> Result<Self, PciError> {
        let device = address.to_string();
        let sysfs = Sysfs::new(&options.sysfs);
        if !sysfs.exists(address) {
            return Err(PciError::NotFound {
                path: sysfs.function(address).display().to_string(),
                device,
            });
        }
        // Before the driver: without a group vfio-pci does not bind, and then a missing driver is not the news.
        let Some(group) = sysfs.iommu_group(address) else {
            return Err(PciError::NoIommu { device });
        };
        if sysfs.group_name(group).as_deref() == Some("vfio-noiommu") {
            return Err(PciError::NoIommu { device });
        }
        match sysfs.driver(address) {
            Some(driver) if is_vfio(&driver) => {}
            driver => {
                return Err(PciError::NotBound {
                    device,
                    driver: driver.unwrap_or_else(|| "no driver".to_owned()),
                });
            }
        }
        let vfio = options.dev.join("vfio");
        let target = Self {
            group_node: vfio.join(group.to_string()),
            device_node: sysfs
                .vfio_device(address)
                .map(|name| vfio.join("devices").join(name)),
            address,
            device,
            group,
            takes_token: sysfs
                .pf(address)
                .and_then(|pf| sysfs.driver(pf))
                .is_some_and(|driver| is_vfio(&driver)),
            handed: None,
        };
        if let Some(error) = target.not_viable(&sysfs) {
            return Err(error);
        }
        Ok(target)
    }

    /// A function whose nodes were handed over. Sysfs is asked what it knows; where it does not know the function,
    /// because this process is not to see it, the nodes will say.
    pub(crate) fn handed(
        address: PciAddress,
        nodes: Nodes,
        options: &OpenOptions,
    ) -> Result<Self, PciError> {
        let vfio = options.dev.join("vfio");
        let mut target = match Self::find(address, options) {
            Err(PciError::NotFound { device, .. }) => {
                let group = nodes.group();
                Self {
                    group_node: vfio.join(group.to_string()),
                    device_node: None,
                    address,
                    device,
                    group,
                    takes_token: true,
                    handed: None,
                }
            }
            other => other?,
        };
        // Only ever said, in errors; the function's node goes by a number that nobody told.
        target
            .device_node
            .get_or_insert_with(|| vfio.join("devices"));
        target.handed = Some(Arc::new(nodes));
        Ok(target)
    }

    /// The error to give when the group has a member in the hands of a driver that does DMA by itself.
    pub(crate) fn not_viable(&self, sysfs: &Sysfs) -> Option<PciError> {
        let members = sysfs.group_members(self.group).ok()?;
        let trusted = |driver: &str| is_vfio(driver) || matches!(driver, "pci-stub" | "pcieport");
        members
            .iter()
            .any(|member| member.driver.as_deref().is_some_and(|name| !trusted(name)))
            .then(|| self.group_error(sysfs))
    }

    /// The group is not viable, whatever the reason: names every member and its driver.
    pub(crate) fn group_error(&self, sysfs: &Sysfs) -> PciError {
        let members: Vec<_> = sysfs
            .group_members(self.group)
            .unwrap_or_default()
            .iter()
            .map(|member| {
                let driver = member.driver.as_deref().unwrap_or("no driver");
                format!("{} ({driver})", member.name)
            })
            .collect();
        PciError::GroupNotViable {
            device: self.device.clone(),
            group: self.group,
            members: members.join(", "),
        }
    }

    /// The node of a space: the container's or the iommufd's.
    pub(crate) fn open_space(&self, node: &Path, proc: &Path) -> Result<File, PciError> {
        match &self.handed {
            Some(nodes) => nodes
                .space()
                .map_err(|error| self.node_error(node, proc, error)),
            None => self.open_path(node, proc),
        }
    }

    /// The function's own node, or its group's.
    pub(crate) fn open(&self, node: &Path, proc: &Path) -> Result<File, PciError> {
        match &self.handed {
            Some(nodes) => nodes
                .own()
                .map_err(|error| self.node_error(node, proc, error)),
            None => self.open_path(node, proc),
        }
    }

    /// Opens a node for reading and writing.
    fn open_path(&self, node: &Path, proc: &Path) -> Result<File, PciError> {
        open_node(node).map_err(|error| self.node_error(node, proc, error))
    }

    /// What it means that a node could not be opened, or could be and is of no use.
    pub(crate) fn node_error(&self, node: &Path, proc: &Path, source: io::Error) -> PciError {
        let device = self.device.clone();
        let path = node.display().to_string();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NOTDIR | Errno::NXIO) => PciError::NoNode { device, path },
            Some(Errno::ACCESS | Errno::PERM) => PciError::Permission {
                device,
                path,
                owner: owner(node),
            },
            Some(Errno::BUSY) => self.busy(node, proc),
            _ => PciError::Sys {
                device,
                call: format!("opening {path}"),
                source,
            },
        }
    }

    /// Somebody else has the function; says who, as far as this process may see.
    pub(crate) fn busy(&self, node: &Path, proc: &Path) -> PciError {
        let nodes = [Some(&self.group_node), self.device_node.as_ref()];
        let holder = nodes.iter().flatten().find_map(|node| holder(node, proc));
        PciError::Busy {
            device: self.device.clone(),
            path: node.display().to_string(),
            holder,
        }
    }
}

fn owner(node: &Path) -> String {
    let user = rustix::process::geteuid().as_raw();
    match fs::metadata(node) {
        Ok(meta) => format!(
            "owner {}:{}, mode {:o}, this user {user}",
            meta.uid(),
            meta.gid(),
            meta.mode() & 0o7777
        ),
        Err(_) => format!("owner not visible, this user {user}"),
    }
}

/// The first process seen to have the node open, as `pid 123 (name)`.
fn holder(node: &Path, proc: &Path) -> Option<String> {
    let holder = holders(node, proc).into_iter().next()?;
    Some(if holder.pid == std::process::id() {
        "this process".to_owned()
    } else {
        format!("pid {} ({})", holder.pid, holder.name)
    })
}

fn open_node(node: &Path) -> io::Result<File> {
    #[cfg(test)]
    if let Some(error) = crate::testing::calls::denied() {
        return Err(error);
    }
    fs::OpenOptions::new().read(true).write(true).open(node)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    const VF: &str = "0000:31:10.1";

    fn find(host: &Host) -> Result<Target, PciError> {
        Target::find(VF.parse().unwrap(), &host.options())
    }

    #[test]
    fn h1_absent_function_names_the_path() {
        let host = Host::new();
        let error = find(&host).unwrap_err();
        assert!(matches!(error, PciError::NotFound { .. }));
        assert!(error.to_string().contains("bus/pci/devices/0000:31:10.1"));
    }

    #[test]
    fn h5_no_group_is_said_before_no_driver() {
        let host = Host::new();
        host.function(VF, None, None);
        assert!(matches!(find(&host), Err(PciError::NoIommu { .. })));
    }

    #[test]
    fn h5_a_group_without_an_iommu_behind_it_does_not_count() {
        let host = Host::new();
        host.function(VF, Some("vfio-pci"), Some(0));
        host.write("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
        assert!(matches!(find(&host), Err(PciError::NoIommu { .. })));
    }

    #[test]
    fn h4_wrong_driver_is_named() {
        let host = Host::new();
        host.function(VF, Some("ixgbevf"), Some(9));
        let Err(PciError::NotBound { driver, .. }) = find(&host) else {
            panic!()
        };
        assert_eq!(driver, "ixgbevf");

        let host = Host::new();
        host.function(VF, None, Some(9));
        let Err(PciError::NotBound { driver, .. }) = find(&host) else {
            panic!()
        };
        assert_eq!(driver, "no driver");
    }

    #[test]
    fn h2_a_foreign_member_makes_the_group_unusable_and_all_are_named() {
        let host = Host::new();
        host.function("0000:31:00.0", Some("ixgbe"), Some(9));
        host.function(VF, Some("vfio-pci"), Some(9));
        host.function("0000:31:10.3", None, Some(9));
        let Err(PciError::GroupNotViable { group, members, .. }) = find(&host) else {
            panic!()
        };
        assert_eq!(group, 9);
        assert_eq!(
            members,
            "0000:31:00.0 (ixgbe), 0000:31:10.1 (vfio-pci), 0000:31:10.3 (no driver)"
        );
    }

    #[test]
    fn bridges_and_idle_members_do_no_harm() {
        let host = Host::new();
        host.function("0000:30:00.0", Some("pcieport"), Some(9));
        host.function(VF, Some("vfio-pci"), Some(9));
        host.function("0000:31:10.3", None, Some(9));
        let target = find(&host).unwrap();
        assert_eq!(target.group_node, host.path("dev/vfio/9"));
        assert_eq!(target.device_node, None);
    }

    #[test]
    fn a_token_is_for_vfs_of_pfs_that_vfio_has() {
        for (driver, takes) in [
            (Some("vfio-pci"), true),
            (Some("ixgbe"), false),
            (None, false),
        ] {
            let host = Host::new();
            let pf = "0000:31:00.0";
            host.function(pf, driver, Some(8));
            host.function(VF, Some("vfio-pci"), Some(9));
            assert!(!find(&host).unwrap().takes_token, "no PF to be seen");
            host.link(
                &format!("sys/bus/pci/devices/{VF}/physfn"),
                format!("../{pf}"),
            );
            assert_eq!(find(&host).unwrap().takes_token, takes, "{driver:?}");
        }
    }

    #[test]
    fn h3_busy_names_who_holds_the_node() {
        let host = Host::new();
        host.function(VF, Some("vfio-pci"), Some(9));
        host.write("dev/vfio/9", "");
        host.write("proc/self/comm", "not a process\n");
        host.write("proc/4711/comm", "testpmd\n");
        host.link("proc/4711/fd/0", "/dev/null");
        host.link("proc/4711/fd/7", host.path("dev/vfio/9"));
        let target = find(&host).unwrap();
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        let error = target.node_error(&target.group_node, &host.path("proc"), busy);
        let PciError::Busy { holder, path, .. } = &error else {
            panic!("{error}")
        };
        assert_eq!(holder.as_deref(), Some("pid 4711 (testpmd)"));
        assert!(path.ends_with("dev/vfio/9"));

        // Nobody to be seen is no reason for another error.
        let busy = io::Error::from_raw_os_error(libc::EBUSY);
        let error = target.node_error(&target.group_node, &host.path("nowhere"), busy);
        assert!(matches!(error, PciError::Busy { holder: None, .. }));
    }

    #[test]
    fn h1_a_node_that_will_not_open_says_why() {
        let host = Host::new();
        host.function(VF, Some("vfio-pci"), Some(9));
        let target = find(&host).unwrap();
        let error = target.open(&target.group_node, &host.path("proc"));
        assert!(matches!(error, Err(PciError::NoNode { .. })), "{error:?}");

        host.write("dev/vfio/9", "");
        for errno in [libc::EACCES, libc::EPERM] {
            let denied = io::Error::from_raw_os_error(errno);
            let error = target.node_error(&target.group_node, &host.path("proc"), denied);
            let PciError::Permission { owner, path, .. } = error else {
                panic!()
            };
            assert!(path.ends_with("dev/vfio/9"));
            assert!(owner.contains("mode 644"), "{owner}");
        }
        let odd = io::Error::from_raw_os_error(libc::EIO);
        let error = target.node_error(&target.group_node, &host.path("proc"), odd);
        assert!(matches!(error, PciError::Sys { .. }));
    }
}
