//! Memory for devices, and the order in which it ends: the mapping first, the memory second, and the memory not at all
//! when it is not certain that the mapping has ended.

use std::fs::File;
use std::io;
use std::mem;
use std::ptr::NonNull;
use std::sync::Arc;

use memmap2::{Advice, MmapOptions, MmapRaw};
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use vfnic_ring::{DmaBacking, DmaRegion, Iova};

/// The huge pages used: 2 MiB.
pub(crate) const HUGE_PAGE: usize = 2 << 20;

/// The system's page size, bytes.
pub(crate) fn page_size() -> usize {
    rustix::param::page_size()
}

/// Whether memory is worth huge pages, of which so many are free: not an area that would leave most of the last one
/// unused.
pub(crate) const fn is_worth_huge_pages(len: usize, free: u64) -> bool {
    len >= HUGE_PAGE / 2 && len.div_ceil(HUGE_PAGE) as u64 <= free
}

/// Zeroed pages that only devices and raw pointers reach.
///
/// A child of `fork` does not get them: it would see, and after a write share, only copies of some, while the device
/// goes on with the parent's. Touching them there is a fault.
#[derive(Debug)]
pub(crate) struct Memory {
    map: MmapRaw,
    file: Option<File>,
}

impl Memory {
    /// This process's own memory. `len` is a multiple of the page size chosen.
    pub(crate) fn private(len: usize, huge: bool) -> io::Result<Self> {
        let mut options = MmapOptions::new();
        options.len(len);
        if huge {
            options.huge(Some(21)).populate();
        }
        let map = MmapRaw::from(options.map_anon()?);
        map.advise(Advice::DontFork)?;
        if !huge && len >= HUGE_PAGE {
            // Where the system makes huge pages of ordinary ones, a pool is what they are for. Not having them is fine.
            let _ = map.advise(Advice::HugePage);
        }
        Ok(Self { map, file: None })
    }

    /// Memory behind a descriptor that another process can map. Its size is sealed: nobody can pull it from under
    /// somebody else's mapping.
    pub(crate) fn shared(len: usize, huge: bool) -> io::Result<Self> {
        let mut flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        if huge {
            flags |= MemfdFlags::HUGETLB | MemfdFlags::HUGE_2MB;
        }
        let file = File::from(memfd_create("vfnic-dma", flags)?);
        ftruncate(&file, len as u64)?;
        fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        let map = MmapOptions::new().len(len).populate().map_raw(&file)?;
        map.advise(Advice::DontFork)?;
        Ok(Self {
            map,
            file: Some(file),
        })
    }

    pub(crate) fn map(&self) -> &MmapRaw {
        &self.map
    }

    pub(crate) fn len(&self) -> usize {
        self.map.len()
    }

    /// The descriptor of shared memory.
    pub(crate) fn file(&self) -> Option<&File> {
        self.file.as_ref()
    }
}

/// Whoever ends mappings.
pub(crate) trait Unmap: Send + Sync + std::fmt::Debug {
    /// Ends a mapping. True only when no device can reach the memory any more.
    fn unmap(&self, iova: u64, len: u64) -> bool;
}

/// Mapped memory as a region that unmaps itself.
pub(crate) fn region(memory: Memory, iova: u64, space: Arc<dyn Unmap>) -> DmaRegion {
    DmaRegion::new(Arc::new(Mapped {
        memory: Arc::new(memory),
        iova,
        space,
    }))
}

#[derive(Debug)]
struct Mapped {
    memory: Arc<Memory>,
    iova: u64,
    space: Arc<dyn Unmap>,
}

// SAFETY: the mapping is made with at least 4 KiB pages, readable and writable, never moves or changes its length, and
// lives at least as long as the value.
unsafe impl DmaBacking for Mapped {
    fn base(&self) -> NonNull<u8> {
        NonNull::new(self.memory.map.as_mut_ptr()).expect("mmap returns no null pointer")
    }
    fn len(&self) -> usize {
        self.memory.len()
    }
    fn iova(&self) -> Iova {
        Iova(self.iova)
    }
}

impl Drop for Mapped {
    fn drop(&mut self) {
        if !self.space.unmap(self.iova, self.memory.len() as u64) {
            mem::forget(Arc::clone(&self.memory));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;
    use std::sync::Mutex;
    use std::sync::atomic::Ordering;

    #[derive(Debug, Default)]
    struct Space {
        works: bool,
        calls: Mutex<Vec<(u64, u64)>>,
    }

    impl Unmap for Space {
        fn unmap(&self, iova: u64, len: u64) -> bool {
            self.calls.lock().unwrap().push((iova, len));
            self.works
        }
    }

    /// Whether an address of this process is mapped.
    fn is_mapped(address: usize) -> bool {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        maps.lines().any(|line| {
            let (range, _) = line.split_once(' ').unwrap();
            let (start, end) = range.split_once('-').unwrap();
            let hex = |text| usize::from_str_radix(text, 16).unwrap();
            (hex(start)..hex(end)).contains(&address)
        })
    }

    #[test]
    fn h11_huge_pages_are_for_what_fills_half_of_one_and_there_are_enough_of_them() {
        for (len, free, worth_it) in [
            (HUGE_PAGE / 2 - 1, 9, false),
            (HUGE_PAGE / 2, 1, true),
            (HUGE_PAGE / 2, 0, false),
            (HUGE_PAGE, 1, true),
            (HUGE_PAGE + 1, 1, false),
            (HUGE_PAGE + 1, 2, true),
            (usize::MAX, 2, false),
        ] {
            assert_eq!(is_worth_huge_pages(len, free), worth_it, "{len} of {free}");
        }
    }

    #[test]
    fn memory_is_freed_after_the_mapping_and_only_when_it_ended() {
        for works in [true, false] {
            let space = Arc::new(Space {
                works,
                ..Space::default()
            });
            // Odd size, so that no neighbouring mapping of the allocator's can stand in for it.
            let memory = Memory::private(13 * page_size(), false).unwrap();
            let region = region(memory, 0x10_0000, space.clone());
            assert_eq!(region.iova(), Iova(0x10_0000));
            let address = region.base().as_ptr().addr();
            region.words()[1].store(7, Ordering::Relaxed);
            let clone = region.clone();
            drop(region);
            assert!(space.calls.lock().unwrap().is_empty(), "a clone is left");
            drop(clone);
            let len = 13 * page_size() as u64;
            assert_eq!(*space.calls.lock().unwrap(), [(0x10_0000, len)]);
            if !works {
                assert!(
                    is_mapped(address),
                    "memory a device may still reach was freed"
                );
            }
        }
    }

    #[test]
    fn h19_private_memory_is_zeroed_and_kept_from_children() {
        let memory = Memory::private(3 * page_size(), false).unwrap();
        let address = format!("{:x}-", memory.map().as_ptr().addr());
        let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let flags = smaps
            .lines()
            .skip_while(|line| !line.starts_with(&address))
            .find(|line| line.starts_with("VmFlags:"));
        // The kernel may have joined it with a neighbour of the same flags; then its own line is not to be found.
        if let Some(flags) = flags {
            assert!(flags.contains(" dc"), "{flags}");
        }
        let region = region(memory, 0, Arc::new(Space::default()));
        assert!(
            region
                .words()
                .iter()
                .all(|word| word.load(Ordering::Relaxed) == 0)
        );
    }

    #[test]
    fn shared_memory_is_one_with_its_descriptor_and_cannot_shrink() {
        let memory = Memory::shared(2 * page_size(), false).unwrap();
        let file = memory.file().unwrap().try_clone().unwrap();
        let region = region(memory, 0, Arc::new(Space::default()));
        file.write_all_at(&[1, 2, 3, 4], 4096).unwrap();
        assert_eq!(
            region.dwords()[1024].load(Ordering::Relaxed).to_ne_bytes(),
            [1, 2, 3, 4]
        );
        assert!(file.set_len(0).is_err());
    }
}
