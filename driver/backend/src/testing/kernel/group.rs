//! The container, its groups, and the type 1 driver behind it.

use std::fs::{self, File};
use std::os::fd::IntoRawFd;

use super::{Answer, Argument, Function, Lock, Node, State, identity, unmap};

/// A group, and what is to be said of it.
pub(crate) struct Group {
    pub(crate) viable: bool,
    /// A function that was opened through it keeps it in the container.
    pub(super) functions_hold: bool,
    pub(crate) lock: Lock,
}

impl Group {
    pub(super) fn new(lock: Lock) -> Self {
        Self {
            viable: true,
            functions_hold: false,
            lock,
        }
    }
}

impl State {
    /// Whether a group is in a container: by whoever has it open, or a function that was opened through it.
    pub(super) fn is_joined(&self, number: u32) -> bool {
        let group = &self.groups[&number];
        let of = |function: &Function| function.group == number && function.lock.is_held();
        group.lock.is_held() || group.functions_hold && self.functions.iter().any(of)
    }

    pub(super) fn any_joined(&self) -> bool {
        self.groups.keys().any(|&group| self.is_joined(group))
    }

    pub(super) fn container(&mut self, name: &str, argument: &mut Argument<'_>) -> Answer {
        match name {
            "VFIO_GET_API_VERSION" => return Ok(self.api_version),
            // Version 2 of type 1 is the only one there is.
            "VFIO_CHECK_EXTENSION" => return Ok((argument.value == 3 && self.has_type1).into()),
            "VFIO_SET_IOMMU" => {
                if argument.value != 3 || !self.any_joined() || self.type1 {
                    return Err(libc::EINVAL);
                }
                self.type1 = true;
                return Ok(0);
            }
            // Whatever else it is: there is nobody yet to ask.
            _ if !self.type1 => return Err(libc::EINVAL),
            _ => {}
        }
        match name {
            "VFIO_IOMMU_GET_INFO" => {
                let size = argument.sized(20)?;
                argument.set_u32(4, u32::from(self.page_sizes != 0));
                argument.set_u64(8, self.page_sizes);
                let caps = self
                    .type1_caps
                    .clone()
                    .unwrap_or_else(|| (24, self.range_capability()));
                argument.capabilities(size, (2, 16), &caps, 24)?;
                argument.back()
            }
            "VFIO_IOMMU_MAP_DMA" => {
                argument.sized(32)?;
                let (memory, iova, len) = (argument.u64(8), argument.u64(16), argument.u64(24));
                // Readable, writable or both.
                if !matches!(argument.u32(4), 1..=3) || memory % 4096 != 0 {
                    return Err(libc::EINVAL);
                }
                self.can_map(&self.mapped, iova, len)?;
                argument.copy_in::<1>(memory + len - 1)?;
                self.mapped.insert(iova, len);
                Ok(0)
            }
            "VFIO_IOMMU_UNMAP_DMA" => {
                argument.sized(24)?;
                if argument.u32(4) != 0 {
                    return Err(libc::EINVAL);
                }
                let ended = unmap(&mut self.mapped, argument.u64(8), argument.u64(16));
                argument.set_u64(16, ended.ok_or(libc::EINVAL)?);
                argument.back()
            }
            _ => Err(libc::ENOTTY),
        }
    }

    /// The capability that has the ranges: id 1, version 1, the last one; a count, then pairs.
    fn range_capability(&self) -> Vec<u8> {
        let count = u32::try_from(self.ranges.len()).unwrap();
        let mut bytes = [1_u16, 1, 0, 0].map(u16::to_ne_bytes).concat();
        bytes.extend([count, 0].map(u32::to_ne_bytes).concat());
        for &(first, last) in &self.ranges {
            bytes.extend([first, last].map(u64::to_ne_bytes).concat());
        }
        bytes
    }

    pub(super) fn group(
        &mut self,
        number: u32,
        file: &File,
        name: &str,
        argument: &mut Argument<'_>,
    ) -> Answer {
        let joined = self.is_joined(number);
        let group = self.groups.get_mut(&number).unwrap();
        match name {
            "VFIO_GROUP_GET_STATUS" => {
                argument.sized(8)?;
                argument.set_u32(4, u32::from(group.viable) | u32::from(joined) << 1);
                argument.back()
            }
            "VFIO_GROUP_SET_CONTAINER" => {
                let container = u32::from_ne_bytes(argument.copy_in(argument.value)?);
                let path = format!("/proc/self/fd/{container}");
                let container = identity(&fs::metadata(path).map_err(|_| libc::EBADF)?);
                if joined || !self.nodes.contains(&(container, Node::Container)) {
                    return Err(libc::EINVAL);
                }
                group.lock.hold(file);
                Ok(0)
            }
            "VFIO_GROUP_GET_DEVICE_FD" => {
                if !joined || !self.type1 {
                    return Err(libc::EINVAL);
                }
                let text = argument.text();
                let (device, options) = text.split_once(' ').unwrap_or((&text, ""));
                let mut of = self.functions.iter_mut();
                let function = of
                    .find(|function| function.name == device && function.group == number)
                    .ok_or(libc::ENODEV)?;
                let token = options.strip_prefix("vf_token=");
                let token = token.map(|token| token.parse::<crate::VfToken>().unwrap().0);
                function.knows(token)?;
                let device = File::options().read(true).write(true).open(&function.path);
                let device = device.unwrap();
                function.lock.hold(&device);
                group.functions_hold = true;
                Ok(device.into_raw_fd())
            }
            _ => Err(libc::ENOTTY),
        }
    }
}
