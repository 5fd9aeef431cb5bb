//! The transmit ring.
//!
//! A write-back is asked for (RS) at the last slot of every block of 32 and at the last descriptor of every call, so
//! the card reports rarely and yet every frame is reclaimable. Buffers come back strictly in ring order, by DD of
//! those descriptors, never by reading the head, and mostly a block at a time.

#![expect(
    clippy::cast_possible_truncation,
    reason = "counts and slots are at most a ring's 4096"
)]

use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::desc::{DescRing, Dialect, rx, tx};
use crate::path::{FEW, Plain, SLACK, Simd, Taken, TxPath, portable};
use crate::pool::{Addresses, Pool};
use crate::{
    DmaRegion, Doorbell, Iova, PoolMismatch, Quiesced, RingError, SendError, TxOffload, TxStats,
};

mod reclaim;
mod special;

use reclaim::Marks;
use special::Contexts;

/// Slots from one report to the next, where nothing is out of the ordinary. A power of two.
pub(crate) const REPORT: usize = 32;
/// Fewest bytes the card wants to be given (ixgbevf.md §10.2).
const TINY: usize = 17;
/// Slot without a buffer: a context descriptor.
const NO_BUFFER: u32 = u32::MAX;

/// What a TX ring is made of.
#[derive(Debug)]
pub struct TxParams {
    /// Where the descriptors are.
    pub ring: DmaRegion,
    /// Byte offset of the first descriptor in `ring`, a multiple of 128.
    pub offset: usize,
    /// Descriptors: a multiple of 8 from [`MIN_RING`](crate::MIN_RING) to [`MAX_RING`](crate::MAX_RING).
    pub size: u16,
    /// The pool whose frames it sends.
    pub pool: Pool,
    /// The queue's tail register.
    pub doorbell: Doorbell,
    /// Which flags the card wants.
    pub dialect: Dialect,
    /// Longest frame to send without TSO, in bytes without FCS.
    pub max_frame: u32,
}

/// A transmit ring. `Send`: one thread at a time fills it.
pub struct TxRing {
    /// The slot to fill next.
    pub(crate) next: usize,
    /// The slot to reclaim next.
    clean: usize,
    /// Slots that can be filled: all but one when nothing is in flight; 0 until the queue is started.
    free: usize,
    /// With no fewer than this free there is no whole block to reclaim; 0 until the queue is started, when there is
    /// none at all, whatever a device writes into the ring.
    lazy: usize,
    /// Buffer of each slot in flight, and slack.
    pub(crate) slots: Box<[u32]>,
    pub(crate) plain: Plain,
    /// Constant bits of a plain frame's word 1.
    pub(crate) command: u64,
    pub(crate) addresses: Addresses,
    path: TxPath,
    /// The default context has been written since the last reset.
    started: bool,
    pub(crate) ring: DescRing,
    marks: Marks,
    pool: Pool,
    doorbell: Doorbell,
    stats: Arc<TxStats>,
    dialect: Dialect,
    max_frame: usize,
    contexts: Contexts,
}

/// What a plain frame that may be sent looks like in a batch; never too long below [`TINY`].
fn plain(max_frame: u32) -> Plain {
    Plain::new(rx::PLAIN, 0, TINY, max_frame as usize)
}

impl TxRing {
    /// Makes a ring; the card reads nothing before the first send.
    ///
    /// # Errors
    ///
    /// [`RingError`] naming the parameter that is wrong.
    pub fn new(params: TxParams) -> Result<Self, RingError> {
        let ring = DescRing::new(params.ring, params.offset, params.size)?;
        let size = ring.size();
        let check = if params.dialect.checks_context() {
            tx::CC
        } else {
            0
        };
        Ok(Self {
            next: 0,
            clean: 0,
            free: 0,
            lazy: 0,
            slots: vec![NO_BUFFER; size + SLACK].into_boxed_slice(),
            plain: plain(params.max_frame),
            command: tx::DATA | tx::EOP | check,
            addresses: params.pool.0.addresses(),
            path: TxPath::new(Simd::chosen()),
            started: false,
            marks: Marks::new(size),
            ring,
            pool: params.pool,
            doorbell: params.doorbell,
            stats: Arc::default(),
            dialect: params.dialect,
            max_frame: (params.max_frame as usize).max(TINY),
            contexts: Contexts::default(),
        })
    }

    /// Changes the longest frame to send without TSO, in bytes without FCS, from the next one on.
    pub fn set_max_frame(&mut self, bytes: u32) {
        self.plain = plain(bytes);
        self.max_frame = (bytes as usize).max(TINY);
    }

    /// The same ring with other inner loops; the portable ones where this machine cannot run them.
    #[must_use]
    pub fn with_simd(mut self, simd: Simd) -> Self {
        self.path = TxPath::new(simd);
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

    /// The pool whose frames it sends.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Counters, readable from anywhere.
    #[must_use]
    pub fn stats(&self) -> Arc<TxStats> {
        Arc::clone(&self.stats)
    }

    /// Slots in flight. One more stays empty, because a full ring would look like an empty one.
    #[inline]
    const fn used(&self) -> usize {
        if self.started {
            self.ring.size() - 1 - self.free
        } else {
            0
        }
    }

    /// Descriptors handed over and not yet reclaimed.
    #[must_use]
    #[inline]
    pub const fn pending(&self) -> u32 {
        self.used() as u32
    }

    /// Frames handed over and not yet reclaimed: what is neither a context nor followed by more of its frame.
    #[must_use]
    pub fn frames_pending(&self) -> u32 {
        (self.used() - self.marks.odd()) as u32
    }

    /// Descriptors that can be handed over now.
    #[must_use]
    #[inline]
    pub const fn free_slots(&self) -> u32 {
        (self.ring.size() - 1 - self.used()) as u32
    }

    /// Writes what the card needs before the first frame: on cards that check one, the context plain frames name, in
    /// context slot 0 (ixgbevf.md §10.4). The first send does so by itself. The tail is not written: a context
    /// alone is not a packet.
    pub fn start(&mut self) {
        if !self.started {
            self.started = true;
            self.free = self.ring.size() - 1;
            self.lazy = self.ring.size() - REPORT;
            if self.dialect.checks_context() {
                let context = TxOffload::vlan(0).context();
                self.put_context(0, context);
            }
        }
    }

    /// Hands frames from the front of `batch` to the card until the ring is full, and rings the doorbell once.
    /// Frames that did not fit stay in the batch, in order. Finished frames are reclaimed first, as far as there is
    /// use for their buffers or slots. Returns the frames sent.
    ///
    /// # Errors
    ///
    /// [`SendError::Pool`] before anything is sent; the others when the frame now at the front of the batch breaks a
    /// limit, after those before it were sent. Drop it or change it, and send again.
    #[inline]
    pub fn send(&mut self, batch: &mut Batch) -> Result<usize, SendError> {
        if !batch.pool().is(&self.pool) {
            return Err(PoolMismatch.into());
        }
        if batch.entries < FEW {
            return self.send_one(batch);
        }
        self.path.send(self, batch)
    }

    /// A call for one frame at most: with as little as possible around it.
    #[inline(never)]
    fn send_one(&mut self, batch: &mut Batch) -> Result<usize, SendError> {
        self.reclaim_some(batch, 1);
        if self.free == 0 || batch.entries == 0 {
            return self.send_slowly(batch);
        }
        let Some(bytes) = portable::put_one(self, batch) else {
            return self.send_rest(batch, Taken::default());
        };
        if self.next == self.ring.size() {
            self.next = 0;
        }
        self.free -= 1;
        batch.entries = 0;
        batch.frames = 0;
        self.doorbell.ring(self.next as u32);
        self.stats.packets.add(1);
        self.stats.bytes.add(bytes);
        Ok(1)
    }

    /// A whole call around an inner loop.
    #[inline(always)]
    pub(crate) fn send_with(
        &mut self,
        batch: &mut Batch,
        put: impl Fn(&mut Self, &Batch, usize, usize) -> Taken,
    ) -> Result<usize, SendError> {
        let entries = batch.entries;
        self.reclaim_some(batch, entries);
        // None is one less than none can be.
        if entries.wrapping_sub(1) >= self.free {
            return self.send_slowly(batch);
        }
        let taken = self.put_round(batch, 0, entries, put);
        if taken.frames < entries {
            return self.send_rest(batch, taken);
        }
        batch.entries = 0;
        batch.frames = 0;
        self.doorbell.ring(self.next as u32);
        self.stats.packets.add(taken.frames as u64);
        self.stats.bytes.add(taken.bytes);
        Ok(entries)
    }

    /// Writes up to `limit` plain frames from `entry` on round the ring's end; there is room for them. The last of
    /// them reports, and the last slot of the ring.
    #[inline(always)]
    fn put_round(
        &mut self,
        batch: &Batch,
        entry: usize,
        limit: usize,
        put: impl Fn(&mut Self, &Batch, usize, usize) -> Taken,
    ) -> Taken {
        let size = self.ring.size();
        let taken = if limit <= size - self.next {
            put(self, batch, entry, limit)
        } else {
            self.put_across(batch, entry, limit, &put)
        };
        if self.next == size {
            self.next = 0;
        }
        self.free -= taken.frames;
        taken
    }

    /// Writes across the ring's end.
    #[cold]
    #[inline(never)]
    fn put_across(
        &mut self,
        batch: &Batch,
        entry: usize,
        limit: usize,
        put: &impl Fn(&mut Self, &Batch, usize, usize) -> Taken,
    ) -> Taken {
        let ahead = self.ring.size() - self.next;
        let taken = put(self, batch, entry, ahead);
        if taken.frames < ahead {
            return taken;
        }
        self.next = 0;
        taken + put(self, batch, entry + ahead, limit - ahead)
    }

    /// Has those of the plain frames written from slot `first` on report that end a block, and the last if told so:
    /// by a second store, which is cheaper than a look at each.
    #[inline(always)]
    pub(crate) fn ask_ends(&self, first: usize, words: &[[u64; 2]], last: bool) {
        let mut end = first | (REPORT - 1);
        while end < self.next {
            self.ask(end, words[end - first]);
            end += REPORT;
        }
        if last && self.next > first {
            self.ask(self.next - 1, words[self.next - 1 - first]);
        }
    }

    /// Has the descriptor in `slot`, of the plain frame with this write-back, report.
    #[inline]
    pub(crate) fn ask(&self, slot: usize, [_, word1]: [u64; 2]) {
        let len = word1 >> rx::LEN_SHIFT & 0xffff;
        let word1 = self.command | tx::RS | len | len << tx::PAYLEN_SHIFT;
        self.ring.store_second(slot, word1);
    }

    /// Nothing to send, not enough room, or not started.
    #[cold]
    #[inline(never)]
    fn send_slowly(&mut self, batch: &mut Batch) -> Result<usize, SendError> {
        self.reclaim(batch);
        if batch.entries == 0 {
            return Ok(0);
        }
        self.start();
        let limit = batch.entries.min(self.free);
        let taken = self.put_round(batch, 0, limit, portable::put);
        self.send_rest(batch, taken)
    }

    /// After `taken` plain frames: sends what is left, plain or not, and tells the card.
    #[cold]
    #[inline(never)]
    fn send_rest(&mut self, batch: &mut Batch, taken: Taken) -> Result<usize, SendError> {
        let Taken {
            mut frames,
            mut bytes,
        } = taken;
        let (mut entry, mut refusal) = (frames, None);
        let mut last = None;
        while entry < batch.entries {
            match self.put_special(batch, entry) {
                Ok(Some(special)) => {
                    entry += special.entries;
                    frames += 1;
                    bytes += special.bytes;
                    last = Some(special.word1);
                }
                Ok(None) => {
                    self.stats.ring_full.add(1);
                    break;
                }
                Err(why) => {
                    self.stats.refused.add(1);
                    refusal = Some(why);
                    break;
                }
            }
            let limit = (batch.entries - entry).min(self.free);
            let taken = self.put_round(batch, entry, limit, portable::put);
            entry += taken.frames;
            frames += taken.frames;
            bytes += taken.bytes;
            if taken.frames > 0 {
                last = None;
            }
        }
        if frames > 0 {
            // The last always reports, so that all can be reclaimed.
            let slot = if self.next == 0 {
                self.ring.size()
            } else {
                self.next
            } - 1;
            match (last, batch.words.get(entry.wrapping_sub(1))) {
                (Some(word1), _) => self.ring.store_second(slot, word1 | tx::RS),
                (None, Some(words)) => self.ask(slot, *words),
                (None, None) => {}
            }
            self.doorbell.ring(self.next as u32);
        }
        batch.consume(entry, frames);
        self.stats.packets.add(frames as u64);
        self.stats.bytes.add(bytes);
        match refusal {
            None => Ok(frames),
            Some(why) => Err(why.after(frames)),
        }
    }

    /// Takes the ring back after the device was reset; buffers go home. Returns the frames that were in it and whose
    /// sending the card has not confirmed.
    pub fn reset(&mut self, _: Quiesced) -> usize {
        let pool = self.pool.clone();
        self.reclaim_reported(|indices| pool.0.take_singles(indices));
        let not_confirmed = self.used() - self.marks.odd();
        self.release(self.used(), |indices| pool.0.take_singles(indices));
        self.ring.clear();
        self.next = 0;
        self.clean = 0;
        self.free = 0;
        self.lazy = 0;
        self.contexts = Contexts::default();
        self.started = false;
        self.stats.not_confirmed.add(not_confirmed as u64);
        not_confirmed
    }
}

impl Drop for TxRing {
    fn drop(&mut self) {
        // Nobody has said that the card will not read them any more.
        let mut lost = 0;
        self.release(self.used(), |indices| lost += indices.len());
        if lost > 0 {
            self.pool.0.lose(lost as u32);
        }
    }
}

impl fmt::Debug for TxRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TxRing")
            .field("size", &self.ring.size())
            .field("next", &self.next)
            .field("clean", &self.clean)
            .finish_non_exhaustive()
    }
}
