//! Memory that the card reaches by DMA: mappings, their translation, and every access to them.
//!
//! The only module of the simulator that may contain `unsafe`. A driver may scribble over mapped memory while the card
//! uses it, so nothing here forms a reference to a frame's bytes: they are copied, once, and judged from the copy.
//! Descriptors are read and written as atomic words. DMA reaches mapped memory only, so never a register.

mod shared;
#[cfg(test)]
mod tests;
mod tun;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use vfnic_ring::{DmaBacking, DmaRegion};
pub(crate) use vm_memory::VolatileSlice;

pub(crate) use self::shared::{FileId, Sealed, SharedFile};
pub(crate) use self::tun::open_tap;
use crate::counting::Count;

/// One contiguous mapping of an IOVA space.
#[derive(Clone, Debug)]
pub struct Mapping {
    iova: u64,
    region: DmaRegion,
    readable: bool,
    writable: bool,
}

impl Mapping {
    /// Maps all of `backing` at `iova`, readable and writable. Holding it keeps the memory, not the mapping, alive.
    #[must_use]
    pub fn new(iova: u64, backing: Arc<dyn DmaBacking>) -> Self {
        Self {
            iova,
            region: DmaRegion::new(backing),
            readable: true,
            writable: true,
        }
    }

    /// The same mapping with other permissions for the device.
    #[must_use]
    pub fn with_access(mut self, readable: bool, writable: bool) -> Self {
        self.readable = readable;
        self.writable = writable;
        self
    }

    /// First device address.
    #[must_use]
    pub const fn iova(&self) -> u64 {
        self.iova
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.region.len()
    }

    /// Offset of `iova` in the mapping if `len` bytes from there lie inside it.
    #[inline]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "below the region's length, which is a usize"
    )]
    fn offset(&self, iova: u64, len: usize) -> Option<usize> {
        let offset = iova.wrapping_sub(self.iova);
        let total = self.region.len() as u64;
        let inside = offset < total && len as u64 <= total.wrapping_sub(offset);
        inside.then_some(offset as usize)
    }

    /// `len` bytes at `iova` if they lie inside.
    #[inline]
    pub(crate) fn part(&self, iova: u64, len: usize) -> Option<VolatileSlice<'_>> {
        let offset = self.offset(iova, len)?;
        Some(self.slice(offset, len))
    }

    #[inline]
    const fn allows(&self, direction: Direction) -> bool {
        match direction {
            Direction::Read => self.readable,
            Direction::Write => self.writable,
        }
    }

    #[inline]
    fn slice(&self, offset: usize, len: usize) -> VolatileSlice<'_> {
        debug_assert!(offset.saturating_add(len) <= self.region.len());
        // SAFETY: `offset`'s check put the bytes inside the region, whose backing `self` keeps alive, and `'_` ends
        // before `self` does. Everybody in this process reaches the region by atomics or by volatile slices.
        unsafe { VolatileSlice::new(self.region.base().as_ptr().wrapping_add(offset), len) }
    }
}

/// The IOMMU as one function of the card sees it.
///
/// The data path asks only on a miss of its own cache, and once a burst for the generation. Whoever removes a mapping
/// changes the generation first, then waits for the tick in progress to end, and only then tells anybody.
pub trait Translate: Send + Sync + fmt::Debug {
    /// Changes (never to an older value) whenever a mapping is added, changed or removed.
    fn generation(&self) -> u64;
    /// The mapping that contains `iova`, if any.
    fn lookup(&self, iova: u64) -> Option<Mapping>;
}

/// An access that the IOMMU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFault {
    /// Pool of the function that did it.
    pub pool: u8,
    /// First address of the access.
    pub iova: u64,
    /// Bytes wanted.
    pub len: u32,
    /// A write, that is towards memory.
    pub write: bool,
}

/// Which way an access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Read,
    Write,
}

/// Bytes of so many descriptors; too many are longer than any mapping.
const fn descriptors_len(count: usize) -> usize {
    count.saturating_mul(16)
}

/// How many translations a queue remembers besides the last one.
const REMEMBERED: usize = 3;

/// The translations a queue used last. Valid for one generation of the function's IOMMU table.
#[derive(Debug, Default)]
pub(crate) struct Windows {
    generation: u64,
    last: Option<Mapping>,
    older: Vec<Mapping>,
}

impl Windows {
    /// Forgets everything if the table changed since; once a burst.
    pub(crate) fn refresh(&mut self, space: &dyn Translate) {
        let now = space.generation();
        if self.generation != now {
            self.clear();
            self.generation = now;
        }
    }

    /// Forgets everything, and with it the memory it keeps alive.
    pub(crate) fn clear(&mut self) {
        self.last = None;
        self.older.clear();
        self.generation = 0;
    }

    #[inline]
    fn known(&self, iova: u64, len: usize, direction: Direction) -> Option<(&Mapping, usize)> {
        if let Some(mapping) = &self.last
            && let Some(offset) = mapping.offset(iova, len)
            && mapping.allows(direction)
        {
            return Some((mapping, offset));
        }
        self.known_longer(iova, len, direction)
    }

    #[inline(never)]
    fn known_longer(
        &self,
        iova: u64,
        len: usize,
        direction: Direction,
    ) -> Option<(&Mapping, usize)> {
        self.older.iter().find_map(|mapping| {
            let offset = mapping.offset(iova, len)?;
            mapping.allows(direction).then_some((mapping, offset))
        })
    }

    /// The memory behind an access if its translation is remembered.
    #[inline]
    pub(crate) fn get(
        &self,
        iova: u64,
        len: usize,
        direction: Direction,
    ) -> Option<VolatileSlice<'_>> {
        self.known(iova, len, direction)
            .map(|(mapping, offset)| mapping.slice(offset, len))
    }

    /// The mapping of an address if it is remembered.
    #[inline]
    pub(crate) fn mapping(&self, iova: u64, direction: Direction) -> Option<&Mapping> {
        self.known(iova, 1, direction).map(|(mapping, _)| mapping)
    }

    /// Remembers the translation of `iova`, if there is one.
    #[cold]
    pub(crate) fn fill(&mut self, space: &dyn Translate, iova: u64) -> bool {
        let Some(mapping) = space.lookup(iova) else {
            return false;
        };
        let iova = mapping.iova;
        self.older.truncate(REMEMBERED - 1);
        if let Some(last) = self.last.replace(mapping) {
            self.older.insert(0, last);
        }
        self.older.retain(|old| old.iova != iova);
        true
    }

    /// Makes sure that an access inside one mapping is remembered.
    #[inline]
    pub(crate) fn ensure(
        &mut self,
        space: &dyn Translate,
        iova: u64,
        len: usize,
        direction: Direction,
    ) -> bool {
        self.known(iova, len, direction).is_some()
            || (self.fill(space, iova) && self.known(iova, len, direction).is_some())
    }

    /// Walks an access that may span several mappings, piece by piece. False, and cut short, when the IOMMU refuses.
    fn pieces(
        &mut self,
        space: &dyn Translate,
        mut iova: u64,
        mut len: usize,
        direction: Direction,
        mut each: impl FnMut(VolatileSlice<'_>),
    ) -> bool {
        while len > 0 {
            if !self.ensure(space, iova, 1, direction) {
                return false;
            }
            let Some((mapping, offset)) = self.known(iova, 1, direction) else {
                return false;
            };
            let here = len.min(mapping.len().saturating_sub(offset));
            each(mapping.slice(offset, here));
            len = len.saturating_sub(here);
            match iova.checked_add(here as u64) {
                Some(next) => iova = next,
                None => return len == 0,
            }
        }
        true
    }

    /// Appends `len` bytes of memory to `out`. False when the IOMMU refuses any of it.
    pub(crate) fn read(
        &mut self,
        space: &dyn Translate,
        iova: u64,
        len: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        let start = out.len();
        out.resize(start.saturating_add(len), 0);
        let mut rest = out.get_mut(start..).unwrap_or_default();
        self.pieces(space, iova, len, Direction::Read, |piece| {
            let copied = piece.copy_to(&mut *rest);
            let _ = rest.split_off_mut(..copied);
        })
    }

    /// Writes `data` to memory. False when the IOMMU refuses any of it; what comes before is written.
    pub(crate) fn write(&mut self, space: &dyn Translate, iova: u64, data: &[u8]) -> bool {
        let mut rest = data;
        self.pieces(space, iova, data.len(), Direction::Write, |piece| {
            if let Some(here) = rest.split_off(..piece.len()) {
                piece.copy_from(here);
            }
        })
    }

    /// Copies descriptors, 16 bytes each, into `out`, each word once. The first word acquires nothing: the tail did.
    /// Gives how many lie in one mapping from `iova` on; none is a refusal.
    #[inline]
    pub(crate) fn fetch(
        &mut self,
        space: &dyn Translate,
        iova: u64,
        out: &mut [[u64; 2]],
    ) -> usize {
        if !self.ensure(space, iova, 16, Direction::Read) {
            return 0;
        }
        let Some((mapping, offset)) = self.known(iova, 16, Direction::Read) else {
            return 0;
        };
        if !offset.is_multiple_of(8) {
            return 0;
        }
        let words = mapping.region.words().get(offset / 8..).unwrap_or(&[]);
        let mut copied = 0usize;
        for (descriptor, pair) in out.iter_mut().zip(words.as_chunks::<2>().0) {
            *descriptor = [
                u64::from_le(pair[0].load(Ordering::Relaxed)),
                u64::from_le(pair[1].load(Ordering::Relaxed)),
            ];
            copied.count(1);
        }
        copied
    }

    /// The words of `count` descriptors in a row, for write-backs.
    #[inline]
    pub(crate) fn descriptors(&self, iova: u64, count: usize) -> Option<Descriptors<'_>> {
        let (mapping, offset) = self.known(iova, descriptors_len(count), Direction::Write)?;
        if !offset.is_multiple_of(8) {
            return None;
        }
        let words = mapping.region.words().get(offset / 8..)?;
        Some(Descriptors(words.as_chunks::<2>().0.get(..count)?))
    }

    /// Asks the CPU for the lines of `count` descriptors that will be wanted next, for writing or for reading.
    #[inline]
    pub(crate) fn prefetch(&self, iova: u64, count: usize, direction: Direction) {
        let Some(slice) = self.get(iova, descriptors_len(count), direction) else {
            return;
        };
        for line in (0..slice.len()).step_by(64) {
            if let Ok(line) = slice.offset(line) {
                match direction {
                    Direction::Read => prefetch_read(&line),
                    Direction::Write => prefetch_write(&line),
                }
            }
        }
    }

    /// Tells the first word, an address, of each of `count` descriptors in a row, for hints only: whoever uses one fetches
    /// it once more.
    #[inline]
    pub(crate) fn addresses(&self, iova: u64, count: usize, mut each: impl FnMut(u64)) {
        let Some((mapping, offset)) = self.known(iova, descriptors_len(count), Direction::Read)
        else {
            return;
        };
        let words = mapping.region.words().get(offset / 8..).unwrap_or(&[]);
        for [address, _] in words.as_chunks::<2>().0.iter().take(count) {
            each(u64::from_le(address.load(Ordering::Relaxed)));
        }
    }

    /// Publishes one write-back, as [`Descriptors::publish`] does.
    #[inline]
    pub(crate) fn write_back(
        &mut self,
        space: &dyn Translate,
        iova: u64,
        words: [Option<u64>; 2],
    ) -> bool {
        if !self.ensure(space, iova, 16, Direction::Write) {
            return false;
        }
        let Some(Descriptors([[first, second]])) = self.descriptors(iova, 1) else {
            return false;
        };
        if let Some(word) = words[0] {
            first.store(word.to_le(), Ordering::Relaxed);
        }
        if let Some(word) = words[1] {
            second.store(word.to_le(), PUBLISH);
        }
        true
    }

    /// Writes one aligned 32-bit word (head write-back), with release.
    pub(crate) fn write_dword(&mut self, space: &dyn Translate, iova: u64, value: u32) -> bool {
        if !self.ensure(space, iova, 4, Direction::Write) {
            return false;
        }
        let Some((mapping, offset)) = self.known(iova, 4, Direction::Write) else {
            return false;
        };
        let Some(word) = mapping.region.dwords().get(offset / 4) else {
            return false;
        };
        word.store(value.to_le(), Ordering::Release);
        true
    }
}

// ORDERING: a write-back's second word holds status and length. Its release pairs with the driver's acquire (or load and
// fence) of that word: frame data and the first word are visible before it.
const PUBLISH: Ordering = Ordering::Release;

/// Descriptors in a row, open for write-backs.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Descriptors<'a>(&'a [[AtomicU64; 2]]);

impl Descriptors<'_> {
    /// Publishes descriptor `index`: the first word, then with release the second. Past the end it does nothing.
    #[inline]
    pub(crate) fn publish(&self, index: usize, words: [u64; 2]) {
        if let Some([first, second]) = self.0.get(index) {
            first.store(words[0].to_le(), Ordering::Relaxed);
            second.store(words[1].to_le(), PUBLISH);
        }
    }
}

/// Copies of a size known when compiling, which become a few vector moves; a general copy is a call.
pub(crate) trait Chunks {
    /// `N` bytes from `at` on; zeros when they are not all there.
    fn load<const N: usize>(&self, at: usize) -> [u8; N];
    /// Writes `N` bytes from `at` on; nothing when there is no room for all.
    fn store<const N: usize>(&self, at: usize, data: &[u8; N]);
}

impl Chunks for VolatileSlice<'_> {
    #[inline]
    fn load<const N: usize>(&self, at: usize) -> [u8; N] {
        if self.len().checked_sub(at).is_none_or(|left| left < N) {
            return [0; N];
        }
        let from = self.ptr_guard().as_ptr().wrapping_add(at).cast::<[u8; N]>();
        // SAFETY: the bytes are inside the slice, which is readable for its life; bytes need no alignment. A driver that
        // writes them at the same time makes their value arbitrary, nothing else: they are copied, not referenced.
        unsafe { from.read_unaligned() }
    }

    #[inline]
    fn store<const N: usize>(&self, at: usize, data: &[u8; N]) {
        if self.len().checked_sub(at).is_none_or(|left| left < N) {
            return;
        }
        let to = self
            .ptr_guard_mut()
            .as_ptr()
            .wrapping_add(at)
            .cast::<[u8; N]>();
        // SAFETY: as in `load`, and writable: it was translated for writing or is the caller's own.
        unsafe { to.write_unaligned(*data) };
    }
}

/// Asks the CPU to bring the first line of `slice` into its cache for reading.
#[inline]
pub(crate) fn prefetch_read(slice: &VolatileSlice<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let line = slice.ptr_guard().as_ptr().cast();
        // SAFETY: a prefetch is a hint; it faults on no address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(line) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}

/// Asks the CPU to bring the first line of `slice` into its cache for writing, taking it from whoever has it.
#[inline]
pub(crate) fn prefetch_write(slice: &VolatileSlice<'_>) {
    #[cfg(target_arch = "x86_64")]
    {
        let line = slice.ptr_guard().as_ptr();
        // The intrinsic becomes a prefetch for reading where the target's baseline lacks PREFETCHW, as x86-64's does; a CPU
        // that lacks it takes the instruction for a no-op.
        // SAFETY: a prefetch is a hint: it faults on no address and changes nothing but caches.
        unsafe {
            std::arch::asm!("prefetchw [{line}]", line = in(reg) line, options(nostack, preserves_flags, readonly));
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = slice;
}
