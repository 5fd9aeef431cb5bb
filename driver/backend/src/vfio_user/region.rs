//! A region of a function behind a vfio-user server: what the server says of it, its parts mapped, and the rest by message.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::sync::Arc;

use memmap2::MmapOptions;
use rustix::fs::{SealFlags, fcntl_get_seals, fstat};
use vfio_bindings::bindings::vfio::{VFIO_REGION_INFO_FLAG_CAPS, VFIO_REGION_INFO_FLAG_MMAP};

use super::connection::{Connection, Failure};
use super::frame::{Command, Fields, Message};
use crate::caps;
use crate::window::{Area, Calls};

/// A region as the server describes it.
#[derive(Debug)]
pub(super) struct Region {
    pub(super) len: u64,
    mappable: Option<Mappable>,
}

/// What of a region can be mapped.
#[derive(Debug)]
struct Mappable {
    file: File,
    /// Where the region begins in the file.
    offset: u64,
    /// The parts as (offset in the region, length).
    parts: Vec<(u64, u64)>,
}

impl Region {
    /// What a reply of the server's says; None when it makes no sense.
    pub(super) fn of_reply(body: &[u8], fds: Vec<OwnedFd>) -> Option<Self> {
        let mut fields = Fields(body);
        fields.u32()?;
        let flags = fields.u32()?;
        fields.u32()?;
        let (cap_offset, len, offset) = (fields.u32()?, fields.u64()?, fields.u64()?);
        let file = (flags & VFIO_REGION_INFO_FLAG_MMAP != 0)
            .then(|| fds.into_iter().next())
            .flatten();
        let sparse = (flags & VFIO_REGION_INFO_FLAG_CAPS != 0)
            .then(|| caps::sparse_areas(body, cap_offset))
            .flatten();
        Some(Self {
            len,
            mappable: file.map(|fd| Mappable {
                file: fd.into(),
                offset,
                parts: sparse.unwrap_or_else(|| vec![(0, len)]),
            }),
        })
    }

    /// The mappable parts of a BAR, mapped; none of a file that could shrink under the mapping, since touching it then
    /// would kill this process.
    pub(super) fn areas(&self, device: &str, index: u8) -> Vec<Area> {
        let Some(Mappable {
            file,
            offset,
            parts,
        }) = &self.mappable
        else {
            return Vec::new();
        };
        let size = fstat(file)
            .ok()
            .and_then(|stat| u64::try_from(stat.st_size).ok())
            .unwrap_or(0);
        let sealed = fcntl_get_seals(file).is_ok_and(|seals| seals.contains(SealFlags::SHRINK));
        if !sealed {
            log::info!(
                "{device}: BAR {index} can be mapped, but its file is not sealed against shrinking; messages it is"
            );
            return Vec::new();
        }
        parts
            .iter()
            .filter_map(|&(start, len)| {
                let at = offset.checked_add(start)?;
                let inside = at.checked_add(len)? <= size && start.checked_add(len)? <= self.len;
                if !inside || !start.is_multiple_of(4) {
                    return None;
                }
                let map = MmapOptions::new()
                    .offset(at)
                    .len(usize::try_from(len).ok()?)
                    .map_raw(file)
                    .ok()?;
                Some(Area {
                    start: u32::try_from(start).ok()?,
                    map,
                })
            })
            .collect()
    }
}

pub(super) fn read_request(index: u32, offset: u64, len: u32) -> Message {
    Message::new(Command::RegionRead)
        .u64(offset)
        .u32(index)
        .u32(len)
}

/// The data of a reply to [`read_request`], when it is the reply to just that.
pub(super) fn read_data(body: &[u8], index: u32, offset: u64, len: u32) -> Option<&[u8]> {
    let mut fields = Fields(body);
    let same = fields.u64()? == offset && fields.u32()? == index && fields.u32()? == len;
    let data = fields.rest();
    (same && data.len() == usize::try_from(len).ok()?).then_some(data)
}

pub(super) fn write_request(index: u32, offset: u64, data: &[u8]) -> Message {
    Message::new(Command::RegionWrite)
        .u64(offset)
        .u32(index)
        .u32(u32::try_from(data.len()).unwrap_or(u32::MAX))
        .bytes(data)
}

/// Registers by message: reads wait for the answer, writes are posted.
#[derive(Debug)]
pub(super) struct ByMessage {
    server: Arc<Connection>,
    index: u32,
}

impl ByMessage {
    pub(super) const fn new(server: Arc<Connection>, index: u32) -> Self {
        Self { server, index }
    }
}

impl Calls for ByMessage {
    fn read(&self, offset: u32) -> Option<u32> {
        let at = u64::from(offset);
        let request = read_request(self.index, at, 4);
        let reply = self.server.ask(Command::RegionRead, request, &[]).ok()?;
        let data = read_data(&reply.body, self.index, at, 4)?;
        Some(u32::from_le_bytes(data.try_into().ok()?))
    }

    fn write(&self, offset: u32, value: u32) {
        let message = write_request(self.index, u64::from(offset), &value.to_le_bytes());
        if let Err(Failure::Broken(problem)) = self.server.post(message) {
            log::debug!("vfio-user: writing {offset:#x}: {problem}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_region_s_flags_do_not_say_is_not_believed() {
        // A file comes along, and a capability of one sparse area, whatever the flags.
        let parts = |flags: u32| {
            let head = [80u32, flags, 0, 32].map(u32::to_ne_bytes).concat();
            let sizes = [0x4000u64, 0x1000].map(u64::to_ne_bytes).concat();
            let capability = [[1u16, 1], [0; 2]].concat();
            let capability: Vec<u8> = capability.into_iter().flat_map(u16::to_ne_bytes).collect();
            let area = [1u64, 0x2000, 0x1000].map(u64::to_ne_bytes).concat();
            let body = [head, sizes, capability, area].concat();
            let file = File::open("/dev/null").unwrap();
            let region = Region::of_reply(&body, vec![file.into()]).unwrap();
            assert_eq!(region.len, 0x4000);
            let mappable = region.mappable?;
            assert_eq!(mappable.offset, 0x1000);
            Some(mappable.parts)
        };
        // Read and write, map, capabilities.
        for (flags, expected) in [
            (0b0011, None),
            (0b1011, None),
            (0b0111, Some(vec![(0, 0x4000)])),
            (0b1111, Some(vec![(0x2000, 0x1000)])),
            (0b0100, Some(vec![(0, 0x4000)])),
        ] {
            assert_eq!(parts(flags), expected, "{flags:#b}");
        }
    }
}
