//! The receive ring.
//!
//! Every slot always has a buffer; all but one slot are the card's. Receiving takes a slot's buffer and puts a fresh
//! one in its place in the same step, so the ring stays full and the tail follows right behind.

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::desc::{DescRing, Dialect, Plain, rx};
use crate::frame::{MIN_FRAME, seg_len};
use crate::pool::Pool;
use crate::simd::{self, Simd};
use crate::stats::RxCounts;
use crate::{DmaRegion, Doorbell, Iova, PoolMismatch, Quiesced, RingError, RxStats};

/// Most segments a frame may have: 9728 bytes in 1 KiB buffers.
pub(crate) const MAX_SEGMENTS: usize = 10;

/// What an RX ring is made of.
#[derive(Debug)]
pub struct RxParams {
    /// Where the descriptors are.
    pub ring: DmaRegion,
    /// Byte offset of the first descriptor in `ring`, a multiple of 128.
    pub offset: usize,
    /// Descriptors: a multiple of 8 from [`MIN_RING`](crate::MIN_RING) to [`MAX_RING`](crate::MAX_RING).
    pub size: u16,
    /// Where buffers come from.
    pub pool: Pool,
    /// The queue's tail register.
    pub doorbell: Doorbell,
    /// How the card's write-backs are read.
    pub dialect: Dialect,
    /// Longest frame to deliver, in bytes without FCS.
    pub max_frame: u32,
}

/// A receive ring. `Send`: one thread at a time polls it.
pub struct RxRing {
    pub(crate) ring: DescRing,
    /// Buffer of each slot. What stands in the ring is never read back.
    pub(crate) slots: Vec<u32>,
    /// The slot to look at next.
    pub(crate) next: u32,
    pub(crate) simd: Simd,
    /// Device address of buffer 0's data, and bytes from one buffer to the next.
    pub(crate) base: u64,
    pub(crate) stride: u64,
    pool: Pool,
    doorbell: Doorbell,
    dialect: Dialect,
    /// What makes a completion a plain good frame.
    pub(crate) plain: Plain,
    max_frame: usize,
    /// Segments of a frame whose EOP has not come yet.
    partial: Vec<(u32, [u64; 2])>,
    partial_bytes: usize,
    /// Dropping segments up to and including the next EOP.
    dropping: bool,
    armed: bool,
    counts: RxCounts,
    stats: Arc<RxStats>,
}

/// What a completion of a plain good frame of up to `longest` bytes looks like.
const fn plain(dialect: Dialect, longest: usize) -> Plain {
    let decisive = rx::DD | rx::EOP | rx::SIDE | dialect.rx_errors();
    Plain::new(decisive, rx::DD | rx::EOP, MIN_FRAME, longest)
}

impl RxRing {
    /// Makes a ring; nothing is posted before [`arm`](Self::arm).
    ///
    /// # Errors
    ///
    /// [`RingError`] naming the parameter that is wrong.
    pub fn new(params: RxParams) -> Result<Self, RingError> {
        let ring = DescRing::new(params.ring, params.offset, params.size)?;
        let buffer = params.pool.config().buffer_size as usize;
        let max_frame = params.max_frame as usize;
        Ok(Self {
            ring,
            slots: Vec::new(),
            next: 0,
            doorbell: params.doorbell,
            dialect: params.dialect,
            plain: plain(params.dialect, buffer.min(max_frame)),
            simd: Simd::chosen(),
            base: params.pool.0.iova(0).0,
            stride: params.pool.config().stride() as u64,
            max_frame,
            partial: Vec::with_capacity(MAX_SEGMENTS),
            partial_bytes: 0,
            dropping: false,
            armed: false,
            counts: RxCounts::default(),
            stats: Arc::default(),
            pool: params.pool,
        })
    }

    /// Changes the longest frame to deliver, in bytes without FCS, from the next one on.
    pub fn set_max_frame(&mut self, bytes: u32) {
        let buffer = self.pool.config().buffer_size as usize;
        self.max_frame = bytes as usize;
        self.plain = plain(self.dialect, buffer.min(self.max_frame));
    }

    /// The same ring with other code moving its descriptors; the portable code where the CPU cannot run it.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.simd = simd.or_portable();
        self
    }

    /// Which code moves its descriptors.
    #[must_use]
    pub const fn simd(&self) -> Simd {
        self.simd
    }

    /// Device address of the first descriptor.
    #[must_use]
    pub const fn iova(&self) -> Iova {
        self.ring.iova()
    }

    /// Descriptors in the ring.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.ring.size()
    }

    /// The pool its buffers come from.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Counters, readable from anywhere.
    #[must_use]
    pub fn stats(&self) -> Arc<RxStats> {
        Arc::clone(&self.stats)
    }

    /// Fills the ring and hands all but one descriptor to the card. Call once the card says the queue is enabled.
    ///
    /// # Errors
    ///
    /// [`RingError::NoBuffers`] when the pool cannot fill the ring; what was taken has gone back.
    pub fn arm(&mut self) -> Result<(), RingError> {
        let size = self.ring.size();
        let need = size as usize;
        if !self.armed {
            while self.slots.len() < need {
                if self.pool.0.lend(&mut self.slots) == 0 {
                    let have = u32::try_from(self.slots.len()).unwrap_or(u32::MAX);
                    self.pool.0.take_home(&self.slots);
                    self.slots.clear();
                    return Err(RingError::NoBuffers { need: size, have });
                }
            }
            self.pool.0.take_home(&self.slots[need..]);
            self.slots.truncate(need);
        }
        self.next = 0;
        for slot in 0..size {
            self.post(slot);
        }
        self.armed = true;
        self.doorbell.ring(size - 1);
        Ok(())
    }

    #[inline]
    fn post(&self, slot: u32) {
        self.ring
            .store(slot, self.pool.0.iova(self.slots[slot as usize]).0, 0);
    }

    /// Whether a completion is waiting: the look after arming an interrupt.
    #[must_use]
    #[inline]
    pub fn has_work(&self) -> bool {
        self.armed && self.ring.done_word(self.next) & rx::DD != 0
    }

    /// Takes what has arrived into `batch`, as much as it has room for, and refills the ring. Never blocks.
    /// Returns the frames appended. Costs one tail write a call.
    ///
    /// Frames with receive errors or impossible lengths are dropped and counted, up to and including their last
    /// segment. When no fresh buffer is to be had the frames stay in the ring.
    ///
    /// # Errors
    ///
    /// [`PoolMismatch`] when the batch is of another pool.
    #[inline]
    pub fn receive(&mut self, batch: &mut Batch) -> Result<usize, PoolMismatch> {
        self.receive_up_to(batch, usize::MAX)
    }

    /// As [`receive`](Self::receive), but takes at most `limit` descriptors.
    ///
    /// # Errors
    ///
    /// [`PoolMismatch`] when the batch is of another pool.
    pub fn receive_up_to(
        &mut self,
        batch: &mut Batch,
        limit: usize,
    ) -> Result<usize, PoolMismatch> {
        if !batch.pool().is(&self.pool) {
            return Err(PoolMismatch);
        }
        if batch.is_empty() {
            batch.dialect = self.dialect;
        }
        if !self.armed {
            return Ok(0);
        }
        let before = batch.frames;
        // One slot is never the card's, so a device that marks all of them done gains nothing by it.
        let mut left = batch.room().min(limit).min(self.ring.size() as usize - 1);
        let start = self.next;
        while left > 0 {
            if self.partial.is_empty() && !self.dropping {
                let (taken, bytes) = simd::receive(self, batch, left);
                self.counts.bytes += bytes;
                left -= taken;
                if left == 0 {
                    break;
                }
            }
            if !self.step(batch) {
                break;
            }
            // The end of a longer frame brings segments of earlier calls with it.
            left = (left - 1).min(batch.room());
        }
        if self.next != start {
            let tail = if self.next == 0 {
                self.ring.size() - 1
            } else {
                self.next - 1
            };
            self.doorbell.ring(tail);
            batch.trim();
        }
        let frames = batch.frames - before;
        self.counts.packets += frames as u64;
        self.counts.publish(&self.stats);
        Ok(frames)
    }

    /// Takes one descriptor, whatever it holds; false when there is none or it has to wait.
    #[inline]
    fn step(&mut self, batch: &mut Batch) -> bool {
        let word1 = self.ring.done_word(self.next);
        if word1 & rx::DD == 0 || !self.slow_fits(word1, batch) {
            return false;
        }
        let Some(fresh) = batch.fresh() else {
            self.counts.no_buffers += 1;
            return false;
        };
        let words = [self.ring.first_word(self.next), word1];
        let slot = self.next as usize;
        let index = std::mem::replace(&mut self.slots[slot], fresh);
        self.ring
            .store(self.next, self.base + u64::from(fresh) * self.stride, 0);
        self.next = self.ring.after(self.next);
        if self.plain.holds(word1) && self.partial.is_empty() && !self.dropping {
            self.counts.bytes += seg_len(word1) as u64;
            batch.push_entry(index, words);
        } else {
            self.piece(batch, index, words);
        }
        true
    }

    /// Whether the batch has room for the frame this completion would end. Dropped instead of waited for when the
    /// batch could never hold it.
    #[inline]
    fn slow_fits(&mut self, word1: u64, batch: &Batch) -> bool {
        if self.partial.is_empty() || word1 & rx::EOP == 0 || self.partial.len() < batch.room() {
            return true;
        }
        if batch.is_empty() {
            self.counts.batch_too_small += 1;
            self.dropping = true;
            return true;
        }
        false
    }

    /// A segment of a longer frame, or something wrong.
    #[cold]
    fn piece(&mut self, batch: &mut Batch, index: u32, mut words: [u64; 2]) {
        words[1] &= !rx::SIDE;
        let len = seg_len(words[1]);
        let eop = words[1] & rx::EOP != 0;
        if !self.dropping {
            let buffer = self.pool.config().buffer_size as usize;
            let total = self.partial_bytes + len;
            let reason = if words[1] & self.dialect.rx_errors() != 0 && eop {
                Some(&mut self.counts.card_error)
            } else if len == 0 || len > buffer || (eop && total < MIN_FRAME) {
                Some(&mut self.counts.bad_len)
            } else if total > self.max_frame {
                Some(&mut self.counts.too_long)
            } else if self.partial.len() + 1 >= MAX_SEGMENTS && !eop {
                Some(&mut self.counts.too_many_segments)
            } else {
                None
            };
            if let Some(counter) = reason {
                *counter += 1;
                self.dropping = true;
            }
        }
        if self.dropping {
            batch.free.push(index);
            batch
                .free
                .extend(self.partial.drain(..).map(|(index, _)| index));
            self.partial_bytes = 0;
            // A dropped frame is dropped up to and including its EOP, so that its tail is never taken for a frame.
            self.dropping = !eop;
            return;
        }
        self.partial.push((index, words));
        self.partial_bytes += len;
        if eop {
            for (index, words) in self.partial.drain(..) {
                batch.push_entry(index, words);
            }
            self.counts.bytes += self.partial_bytes as u64;
            self.partial_bytes = 0;
        }
    }

    /// Takes the ring back after the device was reset: half frames are dropped, buffers stay for the next
    /// [`arm`](Self::arm), nothing of the old life can be delivered.
    pub fn reset(&mut self, _: Quiesced) {
        if !self.partial.is_empty() || self.dropping {
            self.counts.reset_partial += u64::from(!self.dropping);
            let partial: Vec<u32> = self.partial.drain(..).map(|(index, _)| index).collect();
            self.pool.0.take_home(&partial);
        }
        self.partial_bytes = 0;
        self.dropping = false;
        for slot in 0..self.ring.size() {
            self.ring.store(slot, 0, 0);
        }
        self.pool.0.take_home(&self.slots);
        self.slots.clear();
        self.armed = false;
        self.next = 0;
        self.counts.publish(&self.stats);
    }
}

impl Drop for RxRing {
    fn drop(&mut self) {
        // Half frames are the driver's own; posted buffers may still be written by a device nobody has reset.
        let partial: Vec<u32> = self.partial.drain(..).map(|(index, _)| index).collect();
        self.pool.0.take_home(&partial);
        if !self.slots.is_empty() {
            self.pool
                .0
                .lose(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
        }
    }
}

impl fmt::Debug for RxRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxRing")
            .field("size", &self.ring.size())
            .field("next", &self.next)
            .field("armed", &self.armed)
            .finish_non_exhaustive()
    }
}
