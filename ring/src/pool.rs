//! The buffer pool: one DMA area of equal buffers, named by index.
//!
//! An index is in exactly one place: the shared free list here, a batch's own free list, a ring, a batch, or an owned
//! packet. Nothing is written to packet memory to keep track of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU32, Ordering};

use crossbeam_queue::ArrayQueue;

use crate::{Batch, DmaRegion, Iova, RingError};

/// Buffers moved between a batch and the shared free list at a time.
pub(crate) const BLOCK: usize = 64;
/// Most buffers a pool may have; keeps every index inside 24 bits.
const MAX_BUFFERS: u32 = 1 << 22;

/// How a pool is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolConfig {
    /// Buffers in the pool.
    pub buffers: u32,
    /// Bytes of data in each, a multiple of 1024 from 1024 to 16384: what the hardware is told it may fill.
    pub buffer_size: u32,
    /// Bytes before the data, a multiple of 64 up to 1024, for headers pushed in front.
    pub headroom: u16,
}

impl Default for PoolConfig {
    fn default() -> Self {
        Self {
            buffers: 4096,
            buffer_size: 2048,
            headroom: 64,
        }
    }
}

impl PoolConfig {
    /// Bytes from one buffer to the next: an odd multiple of 64, because a stride of exactly 2048 puts all first
    /// lines into two of 64 cache sets and costs five times as much (perf.md §0).
    #[must_use]
    pub const fn stride(&self) -> usize {
        let lines = (self.headroom as usize + self.buffer_size as usize).div_ceil(64);
        (lines | 1) * 64
    }

    /// Bytes a region must have for this pool.
    #[must_use]
    pub const fn region_len(&self) -> usize {
        self.stride() * self.buffers as usize
    }

    fn check(&self, have: usize) -> Result<(), RingError> {
        if !(1024..=16384).contains(&self.buffer_size) || !self.buffer_size.is_multiple_of(1024) {
            return Err(RingError::BufferSize {
                asked: self.buffer_size,
            });
        }
        if self.headroom > 1024 || !self.headroom.is_multiple_of(64) {
            return Err(RingError::Headroom {
                asked: self.headroom,
            });
        }
        if !(64..=MAX_BUFFERS).contains(&self.buffers) {
            return Err(RingError::Buffers {
                asked: self.buffers,
                max: MAX_BUFFERS,
            });
        }
        if self.region_len() > have {
            return Err(RingError::PoolRegion {
                need: self.region_len(),
                have,
            });
        }
        Ok(())
    }
}

/// Full blocks only, so that the queue of them needs no more than `buffers / BLOCK` places.
struct Block([u32; BLOCK]);

/// What all handles of a pool share.
pub(crate) struct Shared {
    region: DmaRegion,
    config: PoolConfig,
    stride: u32,
    blocks: ArrayQueue<Block>,
    singles: ArrayQueue<u32>,
    lost: AtomicU32,
    /// Buffers in use: fewer than the layout has, where some were left out.
    total: u32,
}

/// Where the device sees buffers' data: arithmetic, no table.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Addresses {
    /// Of buffer 0.
    pub(crate) first: u64,
    /// Bytes from one to the next.
    pub(crate) stride: u32,
}

impl Addresses {
    #[inline]
    pub(crate) const fn of(self, index: u32) -> u64 {
        self.first.wrapping_add(index as u64 * self.stride as u64)
    }
}

/// A pool's memory as a frame sees it: four words, copied rather than looked up again for every frame.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    bytes: &'a [AtomicU8],
    stride: usize,
    headroom: usize,
    /// Headroom and data together: what of a buffer may be used.
    room: usize,
}

impl<'a> View<'a> {
    /// No memory at all.
    pub(crate) const NONE: Self = Self {
        bytes: &[],
        stride: 0,
        headroom: 0,
        room: 0,
    };

    /// Bytes before the data in every buffer.
    #[inline]
    pub(crate) const fn headroom(&self) -> usize {
        self.headroom
    }

    /// Bytes of headroom and data together.
    #[inline]
    pub(crate) const fn room(&self) -> usize {
        self.room
    }

    /// Begins to load the first data line of each of these buffers.
    #[inline]
    pub(crate) fn prefetch(self, indices: &[u32]) {
        #[cfg(all(target_arch = "x86_64", not(miri)))]
        for index in indices {
            let start = *index as usize * self.stride + self.headroom;
            let first = self.bytes.as_ptr().wrapping_add(start);
            // SAFETY: SSE is part of x86-64, and a prefetch of any address at all is allowed.
            unsafe {
                core::arch::x86_64::_mm_prefetch::<{ core::arch::x86_64::_MM_HINT_T0 }>(
                    first.cast(),
                )
            };
        }
        #[cfg(not(all(target_arch = "x86_64", not(miri))))]
        let _ = indices;
    }

    /// The bytes of buffer `index` from `offset` bytes into it (headroom counted), `len` of them.
    ///
    /// # Safety
    ///
    /// `index` is one of the pool's, `offset + len` at most its stride. The caller owns `index` and lets nobody else make a slice of the buffer for `'a`: no other place holds the
    /// index, so no descriptor lets the device write the buffer. A device that writes it all the same is what the
    /// IOMMU cannot stop; the bytes may then change under the reader, which is why nothing here is trusted to stay
    /// what it was (faults.md D18).
    #[inline]
    pub(crate) unsafe fn slice(self, index: u32, offset: usize, len: usize) -> &'a mut [u8] {
        let start = index as usize * self.stride + offset;
        debug_assert!(offset + len <= self.stride, "a slice beyond its buffer");
        debug_assert!(start + len <= self.bytes.len(), "a buffer beyond its pool");
        let first = self.bytes.as_ptr().cast::<u8>().wrapping_add(start);
        // SAFETY: initialised memory (mapped zeroed) inside the pool, because indices are only minted in `Pool::new`
        // and the caller vouches for the rest; bytes that may be written through a shared reference (atomics);
        // exclusive by the caller's ownership of the index.
        unsafe { std::slice::from_raw_parts_mut(first.cast_mut(), len) }
    }
}

/// Where a pool's buffers are at one moment; only exact while nothing moves.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PoolStats {
    /// Buffers in the pool.
    pub total: u32,
    /// In the shared free list.
    pub home: u32,
    /// In rings, batches and owned packets.
    pub lent: u32,
    /// Left in rings that were dropped without proof that no DMA can follow.
    pub lost: u32,
}

/// A handle on a pool. Clones are cheap; the memory stays until the last handle, batch, queue and packet has gone.
#[derive(Clone)]
pub struct Pool(pub(crate) Arc<Shared>);

impl std::fmt::Debug for Pool {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pool")
            .field("config", &self.0.config)
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl Pool {
    /// Lays a pool out in `region`.
    ///
    /// # Errors
    ///
    /// [`RingError`] naming the parameter that is out of range, or the bytes that are missing.
    pub fn new(region: DmaRegion, config: PoolConfig) -> Result<Self, RingError> {
        Self::new_within(region, config, usize::MAX)
    }

    /// As [`new`](Self::new), but leaves out every buffer whose data would cross a multiple of `page` bytes of the
    /// region: for devices that cannot follow a buffer from one page into another. About half of all 2 KiB buffers
    /// cross a 4 KiB page; [`PoolStats::total`] says how many are left.
    ///
    /// # Errors
    ///
    /// As for [`new`](Self::new).
    pub fn new_within(
        region: DmaRegion,
        config: PoolConfig,
        page: usize,
    ) -> Result<Self, RingError> {
        config.check(region.len())?;
        let buffers = config.buffers as usize;
        let page = page.max(1);
        let crosses = |index: &u32| {
            let start = *index as usize * config.stride() + usize::from(config.headroom);
            start / page != (start + config.buffer_size as usize - 1) / page
        };
        // Highest first, so that the first buffers handed out are the lowest.
        let all: Vec<u32> = (0..config.buffers)
            .rev()
            .filter(|index| !crosses(index))
            .collect();
        let shared = Shared {
            // At most 17 KiB.
            stride: u32::try_from(config.stride()).unwrap_or(u32::MAX),
            blocks: ArrayQueue::new(buffers / BLOCK),
            singles: ArrayQueue::new(buffers),
            lost: AtomicU32::new(0),
            total: u32::try_from(all.len()).unwrap_or(config.buffers),
            region,
            config,
        };
        let pool = Self(Arc::new(shared));
        pool.0.take_home(&all);
        Ok(pool)
    }

    /// A batch of this pool that holds up to `capacity` descriptors at once (at least 8). It allocates; the buffers come
    /// when they are needed.
    #[must_use]
    pub fn batch(&self, capacity: usize) -> Batch {
        Batch::new(self.clone(), capacity)
    }

    /// Where the buffers are.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        let total = self.0.total;
        let home =
            u32::try_from(self.0.blocks.len() * BLOCK + self.0.singles.len()).unwrap_or(u32::MAX);
        let lost = self.0.lost.load(Ordering::Relaxed);
        PoolStats {
            total,
            home,
            lent: total.saturating_sub(home).saturating_sub(lost),
            lost,
        }
    }

    /// The layout.
    #[must_use]
    pub fn config(&self) -> PoolConfig {
        self.0.config
    }

    /// Whether both are handles on one pool.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl Shared {
    /// Device address of a buffer's data.
    #[inline]
    pub(crate) const fn iova(&self, index: u32) -> Iova {
        self.region
            .iova()
            .offset(index as u64 * self.stride as u64 + self.config.headroom as u64)
    }

    /// Where the buffers are, for whoever owns some.
    #[inline]
    pub(crate) fn view(&self) -> View<'_> {
        View {
            bytes: self.region.bytes(),
            stride: self.stride as usize,
            headroom: self.config.headroom.into(),
            room: self.config.headroom as usize + self.config.buffer_size as usize,
        }
    }

    /// The buffers' device addresses.
    #[inline]
    pub(crate) const fn addresses(&self) -> Addresses {
        Addresses {
            first: self.iova(0).0,
            stride: self.stride,
        }
    }

    /// Fills the front of `into` from the shared free list: a whole block where there is one and room for it, single
    /// buffers otherwise. Returns how many came.
    #[cold]
    pub(crate) fn lend(&self, into: &mut [u32]) -> usize {
        if let Some(front) = into.first_chunk_mut()
            && let Some(Block(block)) = self.blocks.pop()
        {
            *front = block;
            return BLOCK;
        }
        let mut taken = 0;
        for place in into.iter_mut().take(BLOCK) {
            let Some(index) = self.singles.pop() else {
                break;
            };
            *place = index;
            taken += 1;
        }
        if taken == 0
            && let Some(Block(block)) = self.blocks.pop()
        {
            // Less room than a block: what does not fit goes back one by one.
            let mut rest = block.into_iter();
            for (place, index) in into.iter_mut().zip(rest.by_ref()) {
                *place = index;
                taken += 1;
            }
            self.take_singles(rest.as_slice());
        }
        taken
    }

    /// Puts buffers back into the shared free list.
    #[cold]
    pub(crate) fn take_home(&self, indices: &[u32]) {
        let (blocks, rest) = indices.as_chunks::<BLOCK>();
        for block in blocks {
            if let Err(Block(block)) = self.blocks.push(Block(*block)) {
                self.take_singles(&block);
            }
        }
        self.take_singles(rest);
    }

    /// Puts buffers back one by one: the way home of an owned packet.
    pub(crate) fn take_singles(&self, indices: &[u32]) {
        for index in indices {
            // The queue has a place for every buffer, so it cannot be full while each index is in one place.
            let pushed = self.singles.push(*index);
            debug_assert!(pushed.is_ok(), "more indices than buffers");
        }
    }

    /// Counts buffers that nobody may ever use again.
    pub(crate) fn lose(&self, count: u32) {
        self.lost.fetch_add(count, Ordering::Relaxed);
    }
}
