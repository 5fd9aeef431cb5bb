//! The windows of its memory that a client has lent the function, as the protocol keeps them.
//!
//! A window is a piece of a file that came with the message; each file is mapped whole and once, however many windows
//! are cut from it. Windows without a file (firmware and ROM, which QEMU announces as well) are remembered but cannot be
//! reached: DMA to one is an IOMMU fault like any other. Only files that can no longer shrink are taken; see
//! [`crate::dma`] for why.

use std::collections::{BTreeMap, HashMap};
use std::os::fd::OwnedFd;
use std::sync::{Arc, Weak};

use rustix::io::Errno;

use super::wire::{MapRequest, PAGE, UnmapRequest};
use crate::dma::{FileId, Mapping, Sealed, SharedFile};

const READABLE: u32 = 1;
const WRITABLE: u32 = 1 << 1;
const DIRTY_BITMAP: u32 = 1;
const EVERYTHING: u32 = 1 << 1;

/// Limits on what one client may have mapped.
#[derive(Clone, Copy, Debug)]
pub(crate) struct MapLimits {
    /// Windows.
    pub(crate) windows: usize,
    /// Files: each is a mapping of this process, which the kernel gives 65,530 of for everybody together.
    pub(crate) files: usize,
    /// Address space given to its files, in bytes.
    pub(crate) bytes: u64,
}

/// One client's windows.
#[derive(Debug)]
pub(crate) struct ClientMemory {
    limits: MapLimits,
    /// By first address.
    windows: BTreeMap<u64, Window>,
    /// Files mapped; a file goes with the last window on it.
    files: HashMap<FileId, Weak<SharedFile>>,
}

#[derive(Debug)]
struct Window {
    last: u64,
    /// Kept mapped as long as a window shows it.
    _file: Option<Arc<SharedFile>>,
}

/// Addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(crate) first: u64,
    pub(crate) last: u64,
}

impl ClientMemory {
    pub(crate) fn new(limits: MapLimits) -> Self {
        Self {
            limits,
            windows: BTreeMap::new(),
            files: HashMap::new(),
        }
    }

    /// Adds a window; gives the mapping to hand to the IOMMU, if the window can be reached at all.
    ///
    /// # Errors
    ///
    /// `EINVAL` for a window that cannot be, `EEXIST` for one that overlaps another, `ENOSPC` past a limit, and what the
    /// kernel says of the file.
    pub(crate) fn map(
        &mut self,
        request: &MapRequest,
        fd: Option<OwnedFd>,
    ) -> Result<Option<Mapping>, Errno> {
        let range = Self::range(request)?;
        let before = self.windows.range(..=range.last).next_back();
        if before.is_some_and(|(_, window)| window.last >= range.first) {
            return Err(Errno::EXIST);
        }
        if self.windows.len() >= self.limits.windows {
            return Err(Errno::NOSPC);
        }
        let file = fd.map(|fd| self.file(&fd, request)).transpose()?;
        let mapping = match &file {
            Some(file) => {
                let backing = file
                    .window(request.offset, request.size, request.address)
                    .ok_or(Errno::INVAL)?;
                let (readable, writable) =
                    (request.flags & READABLE != 0, request.flags & WRITABLE != 0);
                Some(Mapping::new(request.address, backing).with_access(readable, writable))
            }
            None => None,
        };
        let window = Window {
            last: range.last,
            _file: file,
        };
        self.windows.insert(range.first, window);
        Ok(mapping)
    }

    fn range(request: &MapRequest) -> Result<Range, Errno> {
        let &MapRequest {
            argsz,
            flags,
            offset,
            address,
            size,
        } = request;
        let aligned = [offset, address, size]
            .iter()
            .all(|field| field.is_multiple_of(PAGE));
        if argsz < 32 || size == 0 || !aligned || flags & !(READABLE | WRITABLE) != 0 || flags == 0
        {
            return Err(Errno::INVAL);
        }
        // The last page of all would end at 2^64, which no exclusive end can say.
        let end = address.checked_add(size).ok_or(Errno::INVAL)?;
        offset.checked_add(size).ok_or(Errno::INVAL)?;
        Ok(Range {
            first: address,
            last: end.saturating_sub(1),
        })
    }

    /// The mapped file behind a descriptor: a known one, or a new mapping of it.
    fn file(&mut self, fd: &OwnedFd, request: &MapRequest) -> Result<Arc<SharedFile>, Errno> {
        let sealed = Sealed::check(fd)?;
        let end = request.offset.saturating_add(request.size);
        if end > sealed.len {
            return Err(Errno::INVAL);
        }
        self.files.retain(|_, file| file.strong_count() > 0);
        if let Some(file) = self.files.get(&sealed.id).and_then(Weak::upgrade)
            // It may have grown since.
            && end <= file.len()
        {
            return Ok(file);
        }
        let mapped: u64 = self
            .files
            .values()
            .filter_map(Weak::upgrade)
            .map(|file| file.len())
            .sum();
        if self.files.len() >= self.limits.files
            || mapped.saturating_add(sealed.len) > self.limits.bytes
        {
            return Err(Errno::NOSPC);
        }
        let file = SharedFile::map(fd, &sealed)?;
        self.files.insert(sealed.id, Arc::downgrade(&file));
        Ok(file)
    }

    /// Which windows a request takes away: all those inside its range, none cut in two. The range is what the IOMMU must
    /// give up before [`forget`](Self::forget) may follow.
    ///
    /// # Errors
    ///
    /// `EINVAL` for an impossible range or one that ends inside a window; `ENOTSUP` when a dirty bitmap is wanted.
    pub(crate) fn unmap(&self, request: &UnmapRequest) -> Result<Range, Errno> {
        let &UnmapRequest {
            argsz,
            flags,
            address,
            size,
        } = request;
        if flags & DIRTY_BITMAP != 0 {
            return Err(Errno::NOTSUP);
        }
        if argsz < 24 || flags & !EVERYTHING != 0 {
            return Err(Errno::INVAL);
        }
        if flags & EVERYTHING != 0 {
            return Ok(Range {
                first: 0,
                last: u64::MAX,
            });
        }
        // QEMU unmaps half the address space at a time: the last address may be the very last.
        let last = size
            .checked_sub(1)
            .and_then(|more| address.checked_add(more));
        let range = Range {
            first: address,
            last: last.ok_or(Errno::INVAL)?,
        };
        let before = self.windows.range(..range.first).next_back();
        let final_one = self.windows.range(..=range.last).next_back();
        let cut = before.is_some_and(|(_, window)| window.last >= range.first)
            || final_one.is_some_and(|(_, window)| window.last > range.last);
        if cut { Err(Errno::INVAL) } else { Ok(range) }
    }

    /// Drops the windows that begin in a range, and the files nothing else holds; gives how many.
    pub(crate) fn forget(&mut self, range: Range) -> usize {
        let going: Vec<u64> = self
            .windows
            .range(range.first..=range.last)
            .map(|(&first, _)| first)
            .collect();
        for first in &going {
            self.windows.remove(first);
        }
        going.len()
    }
}

#[cfg(test)]
mod tests {
    use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

    use super::*;
    use crate::Translate;
    use crate::dma::{Direction, Windows};

    #[derive(Debug)]
    struct One(Mapping);

    impl Translate for One {
        fn generation(&self) -> u64 {
            1
        }
        fn lookup(&self, _iova: u64) -> Option<Mapping> {
            Some(self.0.clone())
        }
    }

    #[test]
    fn a_window_is_reached_in_the_directions_its_client_said() {
        for (flags, readable, writable) in [(1, true, false), (2, false, true), (3, true, true)] {
            let flag = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = memfd_create("window", flag).expect("a memory file");
            ftruncate(&file, 4096).expect("one page");
            let mut memory = ClientMemory::new(MapLimits {
                windows: 1,
                files: 1,
                bytes: 1 << 20,
            });
            let request = MapRequest {
                argsz: 32,
                flags,
                offset: 0,
                address: 0x1000,
                size: 4096,
            };
            let mapping = memory.map(&request, Some(file)).expect("mapped");
            let space = One(mapping.expect("it has a file"));
            let mut windows = Windows::default();
            for (direction, allowed) in [(Direction::Read, readable), (Direction::Write, writable)]
            {
                let reached = windows.ensure(&space, 0x1000, 4096, direction);
                assert_eq!(reached, allowed, "{flags} {direction:?}");
            }
        }
    }

    #[test]
    fn windows_are_cut_off_files_and_taken_away_to_the_byte() {
        let file = |pages: u64| {
            let flag = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
            let file = memfd_create("window", flag).expect("a memory file");
            ftruncate(&file, pages * 4096).expect("pages");
            file
        };
        let mut memory = ClientMemory::new(MapLimits {
            windows: 4,
            files: 2,
            bytes: 3 * 4096,
        });
        let window = |address, offset, size| MapRequest {
            argsz: 32,
            flags: 3,
            offset,
            address,
            size,
        };
        let errno = |result: Result<Option<Mapping>, Errno>| result.err();
        let two = file(2);
        let copy = || two.try_clone().expect("a copy");
        // A file as far as it goes.
        assert_eq!(
            errno(memory.map(&window(0x1000, 0, 8192), Some(copy()))),
            None
        );
        let beyond = memory.map(&window(0x8000, 4096, 8192), Some(copy()));
        assert_eq!(errno(beyond), Some(Errno::INVAL));
        // Neighbours, but no overlap on either side.
        for address in [0, 0x1000, 0x2000] {
            let over = memory.map(&window(address, 0, 8192), Some(copy()));
            assert_eq!(errno(over), Some(Errno::EXIST), "{address:#x}");
        }
        assert_eq!(errno(memory.map(&window(0, 0, 4096), Some(copy()))), None);
        assert_eq!(
            errno(memory.map(&window(0x3000, 4096, 4096), Some(copy()))),
            None
        );
        // Bytes of all files up to the limit; a file more than that, and a window more.
        let large = memory.map(&window(0x8000, 0, 8192), Some(file(2)));
        assert_eq!(errno(large), Some(Errno::NOSPC));
        let one = file(1);
        let again = one.try_clone().expect("a copy");
        assert_eq!(errno(memory.map(&window(0x8000, 0, 4096), Some(one))), None);
        let more = memory.map(&window(0x9000, 0, 4096), Some(again));
        assert_eq!(errno(more), Some(Errno::NOSPC));

        let unmap = |address, size| UnmapRequest {
            argsz: 24,
            flags: 0,
            address,
            size,
        };
        for (address, size) in [
            (0x1fff, 1),
            (0x2fff, 1),
            (0x2fff, 0x1001),
            (0x1000, 0x1fff),
            (0x3000, 0),
            (u64::MAX, 2),
        ] {
            let cut = memory.unmap(&unmap(address, size));
            assert_eq!(cut, Err(Errno::INVAL), "{size:#x} bytes at {address:#x}");
        }
        let range = memory.unmap(&unmap(0x1000, 0x3000)).expect("whole windows");
        assert_eq!((range.first, range.last), (0x1000, 0x3fff));
        assert_eq!(memory.forget(range), 2);
        let all = memory.unmap(&unmap(0, u64::MAX)).expect("all but one byte");
        assert_eq!(memory.forget(all), 2);
    }
}
