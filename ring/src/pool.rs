//! The buffer pool: one DMA area of equal buffers, named by index.
//!
//! An index is in exactly one place: the shared free list here, a batch's own free list, a ring, a batch, or an owned
//! packet. Nothing is written to packet memory to keep track of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

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
    stride: usize,
    blocks: ArrayQueue<Block>,
    singles: ArrayQueue<u32>,
    lost: AtomicU32,
    /// Buffers in use: fewer than the layout has, where some were left out.
    total: u32,
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
            stride: config.stride(),
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

    /// A batch of this pool that holds up to `capacity` descriptors at once (at least 8).
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
    pub(crate) const fn config(&self) -> &PoolConfig {
        &self.config
    }

    /// Device address of a buffer's data.
    #[inline]
    pub(crate) const fn iova(&self, index: u32) -> Iova {
        self.region
            .iova()
            .offset(index as u64 * self.stride as u64 + self.config.headroom as u64)
    }

    /// The bytes of buffer `index` from `offset` bytes into it (headroom counted), `len` of them, clamped to the
    /// buffer.
    ///
    /// # Safety
    ///
    /// The caller owns `index`: no other place holds it, so no other slice of this buffer exists and no descriptor
    /// lets the device write it. A device that writes it all the same is what the IOMMU cannot stop; the bytes may
    /// then change under the reader, which is why nothing here is trusted to stay what it was.
    #[inline]
    pub(crate) unsafe fn bytes<'a>(&self, index: u32, offset: usize, len: usize) -> &'a mut [u8] {
        debug_assert!(index < self.config.buffers);
        let offset = offset.min(self.stride);
        let len = len.min(self.stride - offset);
        // SAFETY: `index` is below `buffers` (indices are minted in `Pool::new` and only ever moved), so the buffer
        // lies inside the region.
        let start = unsafe {
            self.region
                .base()
                .add(index as usize * self.stride + offset)
        };
        // SAFETY: initialised (mapped zeroed), inside the region, exclusive by the caller's ownership of the index.
        unsafe { std::slice::from_raw_parts_mut(start.as_ptr(), len) }
    }

    /// Takes a block from the shared free list into `free`; falls back to single ones. Returns how many came.
    #[cold]
    pub(crate) fn lend(&self, free: &mut Vec<u32>) -> usize {
        if let Some(block) = self.blocks.pop() {
            free.extend_from_slice(&block.0);
            return BLOCK;
        }
        let mut taken = 0;
        while taken < BLOCK {
            let Some(index) = self.singles.pop() else {
                break;
            };
            free.push(index);
            taken += 1;
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

    /// Puts one buffer back: the way home of an owned packet.
    #[inline]
    pub(crate) fn take_one(&self, index: u32) {
        self.take_singles(&[index]);
    }

    fn take_singles(&self, indices: &[u32]) {
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
