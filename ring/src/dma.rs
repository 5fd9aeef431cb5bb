//! Memory that a device can reach: addresses, regions and what keeps them mapped.
//!
//! A device may write a mapped region at any moment, so nothing here ever hands out a plain reference to it: only
//! atomics, or the raw base for the few places in this crate that say why they may form more.

use std::any::Any;
use std::fmt;
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

use memmap2::{MmapMut, MmapOptions};

/// An address as the device sees it, translated by the IOMMU; never a CPU address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Iova(pub u64);

impl Iova {
    /// The address `bytes` further on, wrapping at 2^64 as the bus would.
    #[must_use]
    pub const fn offset(self, bytes: u64) -> Self {
        Self(self.0.wrapping_add(bytes))
    }
}

impl fmt::Display for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#x}", self.0)
    }
}

impl fmt::LowerHex for Iova {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(&self.0, f)
    }
}

/// What keeps a piece of memory mapped for a device.
///
/// Dropping the last handle ends the mapping first and frees the memory second; a backing that cannot end the mapping
/// must leak the memory instead of freeing it, and say so.
///
/// # Safety
///
/// For as long as the value lives, `len` bytes from `base` are readable and writable by this process, `base` is
/// aligned to at least 4096 bytes, and all three methods keep returning the same values.
pub unsafe trait DmaBacking: Send + Sync + fmt::Debug {
    /// First byte, as this process sees it.
    fn base(&self) -> NonNull<u8>;
    /// Length in bytes.
    fn len(&self) -> usize;
    /// First byte, as the device sees it.
    fn iova(&self) -> Iova;
}

/// A shared handle on device-reachable memory. Cloning is cheap; the memory stays mapped until the last clone goes.
#[derive(Clone)]
pub struct DmaRegion {
    base: NonNull<u8>,
    len: usize,
    iova: Iova,
    _backing: Arc<dyn DmaBacking>,
}

// SAFETY: the region is only ever accessed through atomics or through owners of disjoint buffers inside it, and the
// backing that keeps it alive is itself `Send + Sync`.
unsafe impl Send for DmaRegion {}
// SAFETY: as for `Send`.
unsafe impl Sync for DmaRegion {}

impl DmaRegion {
    /// Wraps a backing; address and length are read once, here.
    #[must_use]
    pub fn new(backing: Arc<dyn DmaBacking>) -> Self {
        Self {
            base: backing.base(),
            len: backing.len(),
            iova: backing.iova(),
            _backing: backing,
        }
    }

    /// Anonymous memory with a mapping guard: `guard` is dropped, ending the mapping, before the memory can be freed.
    #[must_use]
    pub fn guarded(memory: Arc<HeapDma>, guard: Box<dyn Any + Send + Sync>) -> Self {
        Self::new(Arc::new(Guarded {
            guard: Some(guard),
            memory,
        }))
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// First byte, as the device sees it.
    #[must_use]
    pub const fn iova(&self) -> Iova {
        self.iova
    }

    /// First byte, as this process sees it. Reading or writing through it is for code that may be `unsafe`.
    #[must_use]
    pub const fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// The region as 64-bit words (a last partial word is left out).
    #[must_use]
    pub fn words(&self) -> &[AtomicU64] {
        // SAFETY: `base` is page-aligned and `len` bytes long for the backing's life, which `self` shares; atomics
        // tolerate a device that writes at the same time.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 8) }
    }

    /// The region as 32-bit words (a last partial word is left out).
    #[must_use]
    pub fn dwords(&self) -> &[AtomicU32] {
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len / 4) }
    }

    /// The region as bytes.
    #[must_use]
    pub fn bytes(&self) -> &[AtomicU8] {
        // SAFETY: as in `words`.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr().cast(), self.len) }
    }
}

impl fmt::Debug for DmaRegion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DmaRegion")
            .field("iova", &self.iova)
            .field("len", &self.len)
            .finish_non_exhaustive()
    }
}

/// Zeroed anonymous memory at an address of the caller's choice: what tests and the simulator map.
#[derive(Debug)]
pub struct HeapDma {
    _map: MmapMut,
    base: NonNull<u8>,
    len: usize,
    iova: Iova,
}

/// The huge pages a system makes of ordinary ones, where their borders lie in one piece of memory: 2 MiB.
const HUGE_PAGE: usize = 2 << 20;

// SAFETY: `base` points into `_map`, which moves with the value but whose pages do not move.
unsafe impl Send for HeapDma {}
// SAFETY: shared access goes through atomics only.
unsafe impl Sync for HeapDma {}

impl HeapDma {
    /// Allocates `len` zeroed bytes, rounded up to whole 4 KiB pages, known to the device as `iova`.
    ///
    /// # Errors
    ///
    /// What `mmap` says when the memory is not to be had.
    pub fn new(len: usize, iova: Iova) -> std::io::Result<Self> {
        let len = len.max(1).next_multiple_of(4096);
        // Fewer TLB misses over a pool that begins with a huge page; what cannot be had is not missed.
        let spare = if len < HUGE_PAGE { 0 } else { HUGE_PAGE };
        let mut map = MmapOptions::new().len(len + spare).map_anon()?;
        #[cfg(all(target_os = "linux", not(miri)))]
        let _ = map.advise(memmap2::Advice::HugePage);
        let offset = if spare == 0 {
            0
        } else {
            map.as_ptr().addr().wrapping_neg() % HUGE_PAGE
        };
        let base = NonNull::new(map[offset..].as_mut_ptr())
            .ok_or_else(|| std::io::Error::other("anonymous mapping at address zero"))?;
        Ok(Self {
            _map: map,
            base,
            len,
            iova,
        })
    }
}

// SAFETY: the mapping is page-aligned, readable and writable, and lives as long as the value.
unsafe impl DmaBacking for HeapDma {
    fn base(&self) -> NonNull<u8> {
        self.base
    }
    fn len(&self) -> usize {
        self.len
    }
    fn iova(&self) -> Iova {
        self.iova
    }
}

struct Guarded {
    guard: Option<Box<dyn Any + Send + Sync>>,
    memory: Arc<HeapDma>,
}

impl fmt::Debug for Guarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Guarded").field(&self.memory).finish()
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        // The mapping ends before the memory: the field order alone would do it, the explicit step says it.
        drop(self.guard.take());
    }
}

// SAFETY: forwards to the memory it keeps alive.
unsafe impl DmaBacking for Guarded {
    fn base(&self) -> NonNull<u8> {
        self.memory.base()
    }
    fn len(&self) -> usize {
        DmaBacking::len(&*self.memory)
    }
    fn iova(&self) -> Iova {
        DmaBacking::iova(&*self.memory)
    }
}
