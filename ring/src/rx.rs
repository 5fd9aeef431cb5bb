//! The receive ring.
//!
//! Every slot always has a buffer; all but one slot are the card's. Receiving takes a slot's buffer and puts a fresh
//! one in its place in the same step, so the ring stays full and the tail follows right behind.

#![expect(
    clippy::cast_possible_truncation,
    reason = "counts and slots are at most a ring's 4096"
)]

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::desc::{DescRing, Dialect, rx};
use crate::frame::{MIN_FRAME, Side};
use crate::path::{FEW, Plain, RxPath, SLACK, Simd, Taken, portable};
use crate::pool::{Addresses, Pool};
use crate::{DmaRegion, Doorbell, Iova, PoolMismatch, Quiesced, RingError, RxStats};

mod pieces;

use pieces::Pieces;

/// Tail writes are held back until so many descriptors have been refilled …
const HOLD: usize = 32;
/// … or this share of the ring.
const HOLD_SHARE: usize = 4;

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
    /// The slot to look at next.
    pub(crate) next: usize,
    /// Descriptors the card has; 0 while the ring is not armed.
    posted: usize,
    /// Tell the card about refills when it has no more than this left.
    low: usize,
    /// Buffer of each slot, and slack. What stands in the ring is never read back.
    pub(crate) slots: Box<[u32]>,
    pub(crate) plain: Plain,
    pub(crate) addresses: Addresses,
    /// Word 1 of a refilled descriptor: no header buffer. A value and not a constant, because the compiler turns
    /// shuffles with a known zero into slower ones.
    #[cfg_attr(not(target_arch = "x86_64"), expect(dead_code, reason = "for vectors"))]
    pub(crate) header: u64,
    path: RxPath,
    /// Begin to load every frame's first line as it is received.
    prefetch: bool,
    /// The dialect of batches that plain frames may go straight into; None while a frame in pieces is being put
    /// together or dropped.
    usual: Option<Dialect>,
    dialect: Dialect,
    pub(crate) ring: DescRing,
    pool: Pool,
    doorbell: Doorbell,
    stats: Arc<RxStats>,
    pieces: Pieces,
}

/// What a completion of a plain good frame looks like, in buffers of so many bytes.
fn plain(dialect: Dialect, max_frame: u32, buffer: usize) -> Plain {
    let longest = buffer.min(max_frame as usize);
    Plain::new(rx::PLAIN, dialect.rx_errors(), MIN_FRAME, longest)
}

impl RxRing {
    /// Makes a ring; nothing is posted before [`arm`](Self::arm).
    ///
    /// # Errors
    ///
    /// [`RingError`] naming the parameter that is wrong.
    pub fn new(params: RxParams) -> Result<Self, RingError> {
        let ring = DescRing::new(params.ring, params.offset, params.size)?;
        let size = ring.size();
        let buffer = params.pool.config().buffer_size as usize;
        Ok(Self {
            next: 0,
            posted: 0,
            low: size - 1 - HOLD.min(size / HOLD_SHARE),
            slots: vec![0; size + SLACK].into_boxed_slice(),
            plain: plain(params.dialect, params.max_frame, buffer),
            addresses: params.pool.0.addresses(),
            header: 0,
            path: RxPath::new(Simd::chosen()),
            prefetch: false,
            usual: Some(params.dialect),
            dialect: params.dialect,
            pieces: Pieces::new(params.dialect, buffer, params.max_frame),
            ring,
            pool: params.pool,
            doorbell: params.doorbell,
            stats: Arc::default(),
        })
    }

    /// Changes the longest frame to deliver, in bytes without FCS, from the next one on.
    pub fn set_max_frame(&mut self, bytes: u32) {
        let buffer = self.pool.config().buffer_size as usize;
        self.plain = plain(self.dialect, bytes, buffer);
        self.pieces.set_max_frame(bytes);
    }

    /// The same ring with other inner loops; the portable ones where this machine cannot run them.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.path = RxPath::new(simd);
        self
    }

    /// The same ring, which begins to load the first line of every frame as it is received, for applications that read
    /// all of them. It pays where the card writes to memory and not to the cache, and a burst is long; it costs a
    /// little otherwise. Does nothing off x86-64.
    #[must_use]
    pub const fn with_prefetch(mut self, prefetch: bool) -> Self {
        self.prefetch = prefetch;
        self
    }

    /// Which inner loops it uses.
    #[must_use]
    pub const fn simd(&self) -> Simd {
        self.path.simd()
    }

    /// Device address of the first descriptor.
    #[must_use]
    pub const fn iova(&self) -> Iova {
        self.ring.iova()
    }

    /// Descriptors in the ring.
    #[must_use]
    pub const fn size(&self) -> u32 {
        self.ring.size() as u32
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

    const fn is_armed(&self) -> bool {
        // At least three quarters of the ring are always posted.
        self.posted > 0
    }

    /// Fills the ring and hands all but one descriptor to the card. Call once the card says the queue is enabled.
    /// Does nothing when the ring is armed already.
    ///
    /// # Errors
    ///
    /// [`RingError::NoBuffers`] when the pool cannot fill the ring; what was taken has gone back.
    pub fn arm(&mut self) -> Result<(), RingError> {
        if self.is_armed() {
            return Ok(());
        }
        let size = self.ring.size();
        let mut have = 0;
        while have < size {
            match self.pool.0.lend(&mut self.slots[have..size]) {
                0 => {
                    self.pool.0.take_home(&self.slots[..have]);
                    return Err(RingError::NoBuffers {
                        need: size as u32,
                        have: have as u32,
                    });
                }
                taken => have += taken,
            }
        }
        self.next = 0;
        for slot in 0..size {
            self.post(slot);
        }
        self.posted = size - 1;
        self.doorbell.ring(size as u32 - 1);
        Ok(())
    }

    /// Gives the card the buffer of `slot`.
    pub(crate) fn post(&self, slot: usize) {
        if let Some(index) = self.slots.get(slot) {
            self.ring.store(slot, self.pool.0.iova(*index).0, 0);
        }
    }

    /// Whether a completion is waiting: the look after arming an interrupt.
    #[must_use]
    #[inline]
    pub fn has_work(&self) -> bool {
        self.is_armed() && (self.ring.done_word(self.next) & rx::DD != 0 || self.pieces.is_whole())
    }

    /// Takes what has arrived into `batch`, as much as it has room for, and refills the ring. Never blocks.
    /// Returns the frames appended. Costs at most one tail write a call.
    ///
    /// Frames with receive errors or impossible lengths are dropped and counted, up to and including their last
    /// segment. When no fresh buffer is to be had the frames stay in the ring.
    ///
    /// # Errors
    ///
    /// [`PoolMismatch`] when the batch is of another pool.
    #[inline]
    pub fn receive(&mut self, batch: &mut Batch) -> Result<usize, PoolMismatch> {
        let room = batch.room();
        self.receive_up_to(batch, room)
    }

    /// As [`receive`](Self::receive), but takes no more than `most` descriptors.
    ///
    /// # Errors
    ///
    /// [`PoolMismatch`] when the batch is of another pool.
    #[inline]
    pub fn receive_up_to(&mut self, batch: &mut Batch, most: usize) -> Result<usize, PoolMismatch> {
        if !batch.pool().is(&self.pool) {
            return Err(PoolMismatch);
        }
        let most = most.min(batch.room());
        if most < FEW {
            return Ok(self.receive_one(batch, most));
        }
        Ok(self.path.receive(self, batch, most))
    }

    /// A call for one frame at most: with as little as possible around it.
    #[inline(never)]
    fn receive_one(&mut self, batch: &mut Batch, most: usize) -> usize {
        let usual = self.usual == Some(batch.dialect);
        if most == 0 || self.posted == 0 || batch.cached() == 0 || !usual {
            return self.receive_slowly(batch, most);
        }
        let Some(bytes) = portable::take_one(self, batch) else {
            return if self.has_next() {
                self.receive_slowly(batch, most)
            } else {
                0
            };
        };
        if self.next == self.ring.size() {
            self.next = 0;
        }
        self.posted -= 1;
        self.stats.packets.add(1);
        self.stats.bytes.add(bytes);
        self.tell();
        1
    }

    /// A whole call around an inner loop.
    #[inline(always)]
    pub(crate) fn receive_with(
        &mut self,
        batch: &mut Batch,
        most: usize,
        take: impl Fn(&mut Self, &mut Batch, usize) -> Taken,
    ) -> usize {
        let limit = most.min(self.posted);
        let usual = self.usual == Some(batch.dialect);
        // None is one less than there can be.
        if limit.wrapping_sub(1) >= batch.cached() || !usual {
            return self.receive_slowly(batch, most);
        }
        // Nothing there, as a poller mostly finds: not worth the loop's preparations.
        if !self.has_next() {
            return 0;
        }
        let frames = self.take_round(batch, limit, take);
        if self.prefetch {
            let taken = batch.index.get(batch.entries - frames..batch.entries);
            self.pool.0.view().prefetch(taken.unwrap_or_default());
        }
        if frames < limit && self.has_next() {
            return frames + self.receive_slowly(batch, most - frames);
        }
        self.tell();
        frames
    }

    /// Takes up to `limit` plain frames round the ring's end: no more than are posted, than the batch has room for,
    /// than it has free buffers.
    #[inline(always)]
    fn take_round(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        take: impl Fn(&mut Self, &mut Batch, usize) -> Taken,
    ) -> usize {
        let size = self.ring.size();
        let taken = if limit <= size - self.next {
            take(self, batch, limit)
        } else {
            self.take_across(batch, limit, &take)
        };
        if self.next == size {
            self.next = 0;
        }
        self.posted -= taken.frames;
        self.stats.packets.add(taken.frames as u64);
        self.stats.bytes.add(taken.bytes);
        taken.frames
    }

    /// Takes what lies across the ring's end.
    #[cold]
    #[inline(never)]
    fn take_across(
        &mut self,
        batch: &mut Batch,
        limit: usize,
        take: &impl Fn(&mut Self, &mut Batch, usize) -> Taken,
    ) -> Taken {
        let ahead = self.ring.size() - self.next;
        let taken = take(self, batch, ahead);
        if taken.frames < ahead {
            return taken;
        }
        self.next = 0;
        taken + take(self, batch, limit - ahead)
    }

    /// Whether a completion is waiting, plain or not.
    #[inline]
    pub(crate) fn has_next(&self) -> bool {
        self.ring.done_word(self.next) & rx::DD != 0
    }

    /// Moves on by so many plain frames, which have been written into `batch` already.
    #[inline]
    pub(crate) const fn took(&mut self, batch: &mut Batch, frames: usize) {
        self.next += frames;
        batch.head += frames;
        batch.entries += frames;
        batch.frames += frames;
    }

    /// Tells the card about refilled descriptors, when there are enough of them.
    #[inline]
    fn tell(&mut self) {
        if self.posted <= self.low {
            self.publish();
        }
    }

    #[inline]
    fn publish(&mut self) {
        let size = self.ring.size();
        let tail = if self.next == 0 { size } else { self.next } - 1;
        self.posted = size - 1;
        self.doorbell.ring(tail as u32);
    }

    /// Everything out of the ordinary: no free buffers, no room, frames that are not plain, another card's frames in
    /// the batch.
    #[cold]
    #[inline(never)]
    fn receive_slowly(&mut self, batch: &mut Batch, most: usize) -> usize {
        if !self.is_armed() {
            return 0;
        }
        if batch.is_empty() {
            batch.dialect = self.dialect;
        }
        let (entries, frames) = (batch.entries, batch.frames);
        let end = entries + most;
        while batch.entries < end && self.step(batch, end) {}
        if batch.dialect != self.dialect {
            self.sign(batch, entries);
        }
        self.tell();
        batch.frames - frames
    }

    /// Takes what is plain, then one completion that is not. Whether there may be more: never after as many
    /// descriptors as were posted, so that a device that completes without end cannot keep the caller here.
    fn step(&mut self, batch: &mut Batch, end: usize) -> bool {
        if !self.pieces.deliver(batch, &self.stats) {
            self.usual = None;
            return false;
        }
        let wanted = end.saturating_sub(batch.entries).min(self.posted);
        if batch.cached() < wanted {
            batch.stock(wanted);
        }
        if !self.pieces.in_progress() {
            self.take_round(batch, wanted.min(batch.cached()), portable::take);
        }
        let more = batch.entries < end && self.posted > 0 && self.piece(batch);
        self.usual = (!self.pieces.in_progress()).then_some(self.dialect);
        more
    }

    /// Takes one completion that is not a plain frame, or that there was no fresh buffer for. Whether it was taken.
    fn piece(&mut self, batch: &mut Batch) -> bool {
        let word1 = self.ring.done_word(self.next);
        if word1 & rx::DD == 0 {
            return false;
        }
        let words = [self.ring.first_word(self.next), word1];
        if self.pieces.wants(words, &self.stats) {
            let Some(fresh) = batch.fresh() else {
                self.stats.no_buffers.add(1);
                return false;
            };
            let Some(slot) = self.slots.get_mut(self.next) else {
                batch.give_back(&[fresh]);
                return false;
            };
            self.pieces
                .keep(std::mem::replace(slot, fresh), words, batch);
        } else {
            // A dropped piece's buffer stays where it is.
            self.pieces.drop_held(batch);
        }
        self.post(self.next);
        self.next = self.ring.after(self.next, 1);
        self.posted -= 1;
        true
    }

    /// Says of every frame from entry `first` on whose write-back it is: the batch also has another card's.
    fn sign(&self, batch: &mut Batch, first: usize) {
        let mut entry = first;
        while entry < batch.entries {
            let side = Side {
                dialect: Some(self.dialect),
                ..Side::default()
            };
            entry += batch.mark(entry, side);
        }
    }

    /// Takes the ring back after the device was reset: half frames are dropped, buffers go home, nothing of the old
    /// life can be delivered. [`arm`](Self::arm) begins a new one.
    pub fn reset(&mut self, _: Quiesced) {
        self.stats.reset_unread.add(self.unread());
        self.pieces.forget(&self.pool, &self.stats);
        self.usual = Some(self.dialect);
        self.ring.clear();
        if self.is_armed() {
            self.pool.0.take_home(&self.slots[..self.ring.size()]);
        }
        self.posted = 0;
        self.next = 0;
    }
}

impl RxRing {
    /// Frames that end in the ring and have not been taken. The first end may be that of a frame begun before, which is
    /// counted as such.
    fn unread(&self) -> u64 {
        let size = self.ring.size();
        let posted = if self.is_armed() { size } else { 0 };
        let words = (self.next..size).chain(0..self.next).take(posted);
        let ends = words
            .map(|slot| self.ring.done_word(slot))
            .take_while(|word1| word1 & rx::DD != 0)
            .filter(|word1| word1 & rx::EOP != 0)
            .count() as u64;
        ends.saturating_sub(u64::from(
            self.pieces.in_progress() && !self.pieces.is_whole(),
        ))
    }
}

impl Drop for RxRing {
    fn drop(&mut self) {
        // Half frames are the driver's own; posted buffers may still be written by a device nobody has reset.
        self.pieces.forget(&self.pool, &self.stats);
        if self.is_armed() {
            self.pool.0.lose(self.size());
        }
    }
}

impl fmt::Debug for RxRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RxRing")
            .field("size", &self.ring.size())
            .field("next", &self.next)
            .field("posted", &self.posted)
            .finish_non_exhaustive()
    }
}
