//! The iommufd and its address spaces, and functions that are tied to it by their own nodes.

use std::fs::{self, File};

use super::{Answer, Argument, Node, State, identity, unmap};

impl State {
    /// What is asked of the iommufd.
    pub(super) fn space(&mut self, file: &File, name: &str, argument: &mut Argument<'_>) -> Answer {
        match name {
            "IOMMU_IOAS_ALLOC" => {
                argument.sized(12)?;
                if argument.u32(4) != 0 {
                    return Err(libc::EOPNOTSUPP);
                }
                self.iommufd.hold(file);
                let id = self.spaces.last_key_value().map_or(7, |(id, _)| id + 1);
                self.spaces.insert(id, Default::default());
                argument.set_u32(8, id);
                argument.back()
            }
            "IOMMU_DESTROY" => {
                argument.sized(8)?;
                let id = argument.u32(4);
                if self
                    .functions
                    .iter()
                    .any(|function| function.space == Some(id))
                {
                    return Err(libc::EBUSY);
                }
                self.spaces.remove(&id).map(|_| 0).ok_or(libc::ENOENT)
            }
            "IOMMU_IOAS_IOVA_RANGES" => self.say_ranges(argument),
            "IOMMU_IOAS_MAP" => {
                argument.sized(40)?;
                let space = self.spaces.get(&argument.u32(8)).ok_or(libc::ENOENT)?;
                // At a fixed address, writable, readable.
                if argument.u32(4) != 7 || argument.u32(12) != 0 {
                    return Err(libc::EOPNOTSUPP);
                }
                let (memory, len, iova) = (argument.u64(16), argument.u64(24), argument.u64(32));
                self.can_map(space, iova, len)?;
                argument.copy_in::<1>(memory + len - 1)?;
                let space = self.spaces.get_mut(&argument.u32(8)).unwrap();
                space.insert(iova, len);
                Ok(0)
            }
            "IOMMU_IOAS_UNMAP" => {
                argument.sized(24)?;
                let space = self.spaces.get_mut(&argument.u32(4)).ok_or(libc::ENOENT)?;
                let ended = unmap(space, argument.u64(8), argument.u64(16));
                let ended = ended.filter(|&ended| ended != 0).ok_or(libc::ENOENT)?;
                argument.set_u64(16, ended);
                argument.back()
            }
            _ => Err(libc::ENOTTY),
        }
    }

    fn say_ranges(&self, argument: &mut Argument<'_>) -> Answer {
        argument.sized(32)?;
        let id = argument.u32(4);
        if !self.spaces.contains_key(&id) {
            return Err(libc::ENOENT);
        }
        if argument.u32(12) != 0 {
            return Err(libc::EOPNOTSUPP);
        }
        // Without a device behind it, an address space is all there is.
        let anywhere = vec![(0, u64::MAX)];
        let tied = self
            .functions
            .iter()
            .any(|function| function.space == Some(id));
        let ranges = if tied { &self.ranges } else { &anywhere };
        let room = argument.u32(8) as usize;
        for (i, (first, last)) in ranges.iter().take(room).enumerate() {
            let bytes = [*first, *last].map(u64::to_ne_bytes).concat();
            argument.copy_out(argument.u64(16) + 16 * i as u64, &bytes)?;
        }
        argument.set_u32(8, u32::try_from(ranges.len()).unwrap());
        argument.set_u64(24, self.page_sizes & self.page_sizes.wrapping_neg());
        argument.back()?;
        match ranges.len() > room {
            true => Err(libc::EMSGSIZE),
            false => Ok(0),
        }
    }

    /// What a function's own node is asked about iommufds.
    pub(super) fn tie(
        &mut self,
        index: usize,
        file: &File,
        name: &str,
        argument: &mut Argument<'_>,
    ) -> Answer {
        let function = &mut self.functions[index];
        let bound = function.lock.is_held();
        match name {
            "VFIO_DEVICE_BIND_IOMMUFD" => {
                argument.sized(16)?;
                let flags = argument.u32(4);
                let path = format!("/proc/self/fd/{}", argument.u32(8));
                let iommufd = identity(&fs::metadata(path).map_err(|_| libc::EBADF)?);
                // Once for each opening, and by one at a time.
                if bound || flags > 1 || !self.nodes.contains(&(iommufd, Node::Iommufd)) {
                    return Err(libc::EINVAL);
                }
                let mut token = None;
                if flags == 1 {
                    argument.sized(24)?;
                    token = Some(argument.copy_in(argument.u64(16))?);
                }
                function.knows(token)?;
                function.lock.hold(file);
                argument.set_u32(12, 3);
                argument.back()
            }
            _ if !bound => Err(libc::EINVAL),
            "VFIO_DEVICE_ATTACH_IOMMUFD_PT" => {
                argument.sized(12)?;
                let id = argument.u32(8);
                if argument.u32(4) != 0 || !self.spaces.contains_key(&id) {
                    return Err(libc::ENOENT);
                }
                function.space = Some(id);
                argument.back()
            }
            _ => {
                argument.sized(8)?;
                function.space = None;
                Ok(0)
            }
        }
    }
}
