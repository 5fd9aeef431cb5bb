//! The two ways to one IOVA space: a container that groups join, and an iommufd address space that devices join.

use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::os::fd::AsRawFd;

use vfio_bindings::bindings::vfio::{
    VFIO_API_VERSION, VFIO_GROUP_FLAGS_CONTAINER_SET, VFIO_GROUP_FLAGS_VIABLE,
};
use vfnic_hw::PciError;

use crate::check::Target;
use crate::memlock::Counter;
use crate::memory::Memory;
use crate::sys::{self, Failed, Reach};
use crate::{Interface, OpenOptions, Sysfs};

/// Whoever translates for the functions of a space.
pub(crate) trait Iommu: Send + fmt::Debug {
    /// Opens a function; it is in the space when this returns. Nothing is left of it when this fails.
    fn open(&mut self, target: &Target, options: &OpenOptions) -> Result<File, PciError>;

    /// Ends a function's DMA, just before it is closed.
    fn detach(&mut self, device: &File);

    /// A function was closed. `idle`: it was the last one, and nothing is mapped. Also called when the last mapping
    /// goes after the last function (`target` is `None` then).
    fn closed(&mut self, target: Option<&Target>, idle: bool);

    /// What can be mapped, now that a function has joined.
    fn reach(&self) -> Result<Reach, Failed>;

    fn map(&self, memory: &Memory, iova: u64) -> Result<(), Failed>;

    /// Returns how many bytes were unmapped.
    fn unmap(&self, iova: u64, len: u64) -> Result<u64, Failed>;

    /// Which of a process's counters its mappings end up in.
    fn counter(&self) -> Counter;

    /// Which interface it is.
    fn interface(&self) -> Interface;

    /// Whether a function whose nodes were handed over can join: not by the other interface's.
    fn takes(&self, target: &Target) -> Result<(), PciError> {
        let handed = target.handed.as_ref().map(|nodes| nodes.interface);
        if handed.is_none_or(|interface| interface == self.interface()) {
            return Ok(());
        }
        let (has, got) = match self.interface() {
            Interface::Cdev => ("an iommufd", "a group's"),
            _ => ("a container", "a function's own"),
        };
        Err(PciError::Unsupported {
            device: target.device.clone(),
            what: format!("joining a space that is {has} by {got} node"),
        })
    }
}

/// A call about a function that failed.
pub(crate) fn refused(device: &str, failed: Failed) -> PciError {
    match failed.errno() {
        Some(libc::ENODEV) => PciError::Gone {
            device: device.to_owned(),
        },
        _ => PciError::Sys {
            device: device.to_owned(),
            call: failed.call,
            source: failed.source,
        },
    }
}

/// `/dev/vfio/vfio` and `/dev/vfio/GROUP`.
#[derive(Debug)]
pub(crate) struct Container {
    file: File,
    groups: BTreeMap<u32, Group>,
}

#[derive(Debug)]
struct Group {
    file: File,
    /// Functions of it that are open.
    functions: usize,
}

impl Container {
    pub(crate) fn new(target: &Target, options: &OpenOptions) -> Result<Self, PciError> {
        let device = &target.device;
        let file = target.open_space(&options.dev.join("vfio/vfio"), &options.proc)?;
        let version = sys::api_version(&file).map_err(|failed| refused(device, failed))?;
        let type1 = sys::has_type1(&file).map_err(|failed| refused(device, failed))?;
        if u32::try_from(version) != Ok(VFIO_API_VERSION) || !type1 {
            return Err(PciError::Unsupported {
                device: device.clone(),
                what: format!(
                    "DMA (VFIO version {version}, type 1 IOMMU driver {}; load vfio_iommu_type1)",
                    if type1 { "there" } else { "absent" }
                ),
            });
        }
        Ok(Self {
            file,
            groups: BTreeMap::new(),
        })
    }

    /// The group, opened and in the container.
    fn join(&self, target: &Target, options: &OpenOptions) -> Result<File, PciError> {
        let device = &target.device;
        let file = target.open(&target.group_node, &options.proc)?;
        let flags = sys::group_flags(&file).map_err(|failed| refused(device, failed))?;
        if flags & VFIO_GROUP_FLAGS_VIABLE == 0 {
            return Err(target.group_error(&Sysfs::new(&options.sysfs)));
        }
        // Whoever handed it over may have put it there already, and given the container its IOMMU as well.
        let inside = flags & VFIO_GROUP_FLAGS_CONTAINER_SET != 0;
        if !(inside && target.handed.is_some()) {
            sys::set_container(&file, &self.file).map_err(|failed| refused(device, failed))?;
        }
        if self.groups.is_empty() {
            // The first group decides which IOMMU it is; the last to leave takes it away, with all that is mapped.
            match sys::set_type1(&self.file) {
                Err(failed) if inside && failed.errno() == Some(libc::EINVAL) => {}
                other => other.map_err(|failed| no_remapping(device, failed))?,
            }
        }
        Ok(file)
    }
}

/// EPERM here is not about the user.
fn no_remapping(device: &str, mut failed: Failed) -> PciError {
    if failed.errno() == Some(libc::EPERM) {
        failed
            .call
            .push_str(" (is interrupt remapping off? see dmesg and the firmware's VT-d settings)");
    }
    refused(device, failed)
}

impl Iommu for Container {
    fn open(&mut self, target: &Target, options: &OpenOptions) -> Result<File, PciError> {
        let known = self.groups.contains_key(&target.group);
        let mut group = match self.groups.remove(&target.group) {
            Some(group) => group,
            None => Group {
                file: self.join(target, options)?,
                functions: 0,
            },
        };
        let opened = group.open(target, options);
        if opened.is_ok() {
            group.functions = group.functions.saturating_add(1);
        }
        if known || opened.is_ok() {
            self.groups.insert(target.group, group);
        }
        opened
    }

    fn detach(&mut self, _device: &File) {
        // A group leaves as a whole, in `closed`.
    }

    fn closed(&mut self, target: Option<&Target>, idle: bool) {
        if let Some(group) = target.and_then(|target| self.groups.get_mut(&target.group)) {
            group.functions = group.functions.saturating_sub(1);
        }
        if idle {
            self.groups.clear();
        } else if self.groups.values().any(|group| group.functions > 0) {
            // Mappings live as long as any group is in the container.
            self.groups.retain(|_, group| group.functions > 0);
        }
    }

    fn reach(&self) -> Result<Reach, Failed> {
        sys::type1_reach(&self.file)
    }

    fn map(&self, memory: &Memory, iova: u64) -> Result<(), Failed> {
        sys::type1_map(&self.file, memory.map(), iova)
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<u64, Failed> {
        sys::type1_unmap(&self.file, iova, len)
    }

    fn counter(&self) -> Counter {
        Counter::Locked
    }

    fn interface(&self) -> Interface {
        Interface::Group
    }
}

impl Group {
    fn open(&self, target: &Target, options: &OpenOptions) -> Result<File, PciError> {
        let name = match options.vf_token.filter(|_| target.takes_token) {
            Some(token) => format!("{} vf_token={token}", target.device),
            None => target.device.clone(),
        };
        sys::group_device(&self.file, &name).map_err(|failed| match failed.errno() {
            Some(libc::EBUSY) => target.busy(&target.group_node, &options.proc),
            Some(libc::EACCES) => token_needed(target, options),
            _ => refused(&target.device, failed),
        })
    }
}

/// `/dev/iommu` and `/dev/vfio/devices/vfioN`.
#[derive(Debug)]
pub(crate) struct Iommufd {
    file: File,
    ioas: u32,
}

impl Iommufd {
    pub(crate) fn new(target: &Target, options: &OpenOptions) -> Result<Self, PciError> {
        let file = target.open_space(&options.dev.join("iommu"), &options.proc)?;
        let ioas = sys::ioas_alloc(&file).map_err(|failed| refused(&target.device, failed))?;
        Ok(Self { file, ioas })
    }
}

impl Iommu for Iommufd {
    fn open(&mut self, target: &Target, options: &OpenOptions) -> Result<File, PciError> {
        let device = &target.device;
        let Some(node) = &target.device_node else {
            return Err(PciError::NoNode {
                device: device.clone(),
                path: options.dev.join("vfio/devices").display().to_string(),
            });
        };
        let file = target.open(node, &options.proc)?;
        let token = options
            .vf_token
            .filter(|_| target.takes_token)
            .map(|token| token.0);
        sys::bind_iommufd(&file, &self.file, token).map_err(|failed| match failed.errno() {
            // EINVAL is what a second opener gets: the node opens as often as one likes, binding works once.
            Some(libc::EBUSY | libc::EINVAL) => target
                .not_viable(&Sysfs::new(&options.sysfs))
                .unwrap_or_else(|| target.busy(node, &options.proc)),
            Some(libc::EACCES) => token_needed(target, options),
            _ => refused(device, failed),
        })?;
        sys::attach_ioas(&file, self.ioas).map_err(|failed| no_remapping(device, failed))?;
        Ok(file)
    }

    fn detach(&mut self, device: &File) {
        if let Err(failed) = sys::detach_ioas(device) {
            log::debug!("fd {}: {failed}", device.as_raw_fd());
        }
    }

    fn closed(&mut self, _target: Option<&Target>, _idle: bool) {}

    fn reach(&self) -> Result<Reach, Failed> {
        sys::ioas_reach(&self.file, self.ioas)
    }

    fn map(&self, memory: &Memory, iova: u64) -> Result<(), Failed> {
        sys::ioas_map(&self.file, self.ioas, memory.map(), iova)
    }

    fn unmap(&self, iova: u64, len: u64) -> Result<u64, Failed> {
        sys::ioas_unmap(&self.file, self.ioas, iova, len)
    }

    fn counter(&self) -> Counter {
        Counter::Pinned
    }

    fn interface(&self) -> Interface {
        Interface::Cdev
    }
}

impl Drop for Iommufd {
    fn drop(&mut self) {
        if let Err(failed) = sys::ioas_destroy(&self.file, self.ioas) {
            log::debug!("{failed}");
        }
    }
}

/// The PF's owner is a VFIO user too and gave it a token, which this VF's opener must know.
fn token_needed(target: &Target, options: &OpenOptions) -> PciError {
    let given = if options.vf_token.is_some() {
        "the one given is not the PF's"
    } else {
        "none was given"
    };
    PciError::Unsupported {
        device: target.device.clone(),
        what: format!("opening a VF whose PF is bound to vfio-pci without its VF token ({given})"),
    }
}
