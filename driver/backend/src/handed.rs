//! Nodes that somebody else has opened, for a process that may not, or cannot, open them itself.

use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::fs::{FileType, fstat, minor};
use vfnic_hw::{PciError, PciFunction};

use crate::function::VfioFunction;
use crate::{Interface, OpenOptions, PciAddress, VfioSpace};

/// A function's VFIO nodes, opened for reading and writing by whoever may: a parent that then starts its child as an
/// ordinary user, a service manager, the other end of a Unix socket (`SCM_RIGHTS`).
///
/// The kernel lets one opener have a group, and one a function: this process takes over what it was handed, and the other
/// should close its own copies, or the function stays taken after this process has let go of it. What has been
/// inherited rather than received is not closed on `exec`; the copies kept here are.
#[derive(Debug)]
pub enum Handed {
    /// `/dev/vfio/vfio` and `/dev/vfio/GROUP`. The group may be in the container already.
    Group {
        /// The container. In a space that has one already it must be the same.
        container: OwnedFd,
        /// The function's group.
        group: OwnedFd,
    },
    /// `/dev/iommu` and `/dev/vfio/devices/vfioN`; the latter not yet bound to any iommufd.
    Cdev {
        /// The iommufd. In a space that has one already it must be the same.
        iommufd: OwnedFd,
        /// The function's own node.
        device: OwnedFd,
    },
}

/// What a [`Handed`] comes to: one node for the space, one for the function.
#[derive(Debug)]
pub(crate) struct Nodes {
    pub(crate) interface: Interface,
    space: OwnedFd,
    own: OwnedFd,
}

impl From<Handed> for Nodes {
    fn from(handed: Handed) -> Self {
        match handed {
            Handed::Group { container, group } => Self {
                interface: Interface::Group,
                space: container,
                own: group,
            },
            Handed::Cdev { iommufd, device } => Self {
                interface: Interface::Cdev,
                space: iommufd,
                own: device,
            },
        }
    }
}

impl Nodes {
    /// Refuses what cannot be a node at all: asking VFIO's questions of a terminal or a file gives answers, too.
    pub(crate) fn check(&self, device: &str) -> Result<(), PciError> {
        let (space, own) = match self.interface {
            Interface::Cdev => ("iommufd", "function's node"),
            _ => ("container", "group"),
        };
        for (fd, what) in [(&self.space, space), (&self.own, own)] {
            let stat = fstat(fd).map_err(|errno| PciError::Sys {
                device: device.to_owned(),
                call: format!("fstat of the {what} handed over"),
                source: errno.into(),
            })?;
            if FileType::from_raw_mode(stat.st_mode) != FileType::CharacterDevice {
                return Err(PciError::Unsupported {
                    device: device.to_owned(),
                    what: format!("using a descriptor that is no device node as its {what}"),
                });
            }
        }
        Ok(())
    }

    /// A number that tells the group from others, where sysfs does not say its own.
    pub(crate) fn group(&self) -> u32 {
        fstat(&self.own).map_or(0, |stat| minor(stat.st_rdev))
    }

    pub(crate) fn space(&self) -> io::Result<File> {
        self.space.try_clone().map(File::from)
    }

    pub(crate) fn own(&self) -> io::Result<File> {
        self.own.try_clone().map(File::from)
    }
}

/// Opens a function whose nodes were handed over, in an IOVA space of its own. Nothing under `/dev` is opened; sysfs is
/// read for better errors where it is to be seen, and not needed.
///
/// # Errors
///
/// As for [`open`](crate::open), and [`PciError::Unsupported`] for descriptors that are none of VFIO's.
pub fn open_handed(
    address: &str,
    handed: Handed,
    options: &OpenOptions,
) -> Result<Arc<dyn PciFunction>, PciError> {
    open_handed_in(address, handed, &VfioSpace::new(options))
}

/// Opens a function whose nodes were handed over, in a space that others share; all of them by the same interface. The
/// container, or the iommufd, is that of the first.
///
/// # Errors
///
/// As for [`open_handed`] and [`open_in`](crate::open_in).
pub fn open_handed_in(
    address: &str,
    handed: Handed,
    space: &VfioSpace,
) -> Result<Arc<dyn PciFunction>, PciError> {
    let address: PciAddress = address.parse()?;
    let nodes = Nodes::from(handed);
    nodes.check(&address.to_string())?;
    Ok(Arc::new(VfioFunction::open(address, space, Some(nodes))?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Host;

    const VF: &str = "0000:31:10.1";

    fn null() -> OwnedFd {
        File::options()
            .read(true)
            .write(true)
            .open("/dev/null")
            .unwrap()
            .into()
    }

    fn group() -> Handed {
        Handed::Group {
            container: null(),
            group: null(),
        }
    }

    #[test]
    fn a_descriptor_that_is_no_node_is_refused_by_name() {
        let (one, other) = std::os::unix::net::UnixStream::pair().unwrap();
        let handed = Handed::Cdev {
            iommufd: null(),
            device: one.into(),
        };
        let error = open_handed(VF, handed, &Host::new().options()).unwrap_err();
        assert!(matches!(error, PciError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("function's node"), "{error}");
        let handed = Handed::Group {
            container: other.into(),
            group: null(),
        };
        let error = open_handed(VF, handed, &Host::new().options()).unwrap_err();
        assert!(error.to_string().contains("container"), "{error}");
    }

    /// A machine without sysfs, or with one that knows nothing: what was handed over is asked all the same.
    #[test]
    fn the_nodes_are_asked_and_nothing_is_opened() {
        let host = Host::new();
        let error = open_handed(VF, group(), &host.options()).unwrap_err();
        let PciError::Sys { call, source, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(call, "VFIO_GET_API_VERSION");
        assert_eq!(source.raw_os_error(), Some(libc::ENOTTY));

        let handed = Handed::Cdev {
            iommufd: null(),
            device: null(),
        };
        let error = open_handed(VF, handed, &host.options()).unwrap_err();
        let PciError::Sys { call, .. } = error else {
            panic!("{error}")
        };
        assert_eq!(call, "IOMMU_IOAS_ALLOC");
    }

    #[test]
    fn what_sysfs_knows_better_is_said_first() {
        let host = Host::new();
        host.function(VF, Some("ixgbevf"), Some(9));
        let error = open_handed(VF, group(), &host.options()).unwrap_err();
        assert!(matches!(error, PciError::NotBound { .. }), "{error}");
    }

    #[test]
    fn interfaces_do_not_mix_in_one_space() {
        let host = Host::new();
        let space = VfioSpace::new(&host.options());
        space.start_fake();
        let handed = Handed::Cdev {
            iommufd: null(),
            device: null(),
        };
        let error = open_handed_in(VF, handed, &space).unwrap_err();
        assert!(matches!(error, PciError::Unsupported { .. }), "{error}");
        assert!(error.to_string().contains("container"), "{error}");
    }
}
