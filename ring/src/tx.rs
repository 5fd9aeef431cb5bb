//! The transmit ring.
//!
//! RS goes on every 32nd descriptor and on the last of every call, so the card reports rarely and yet every frame is
//! reclaimable. Buffers come back strictly in ring order, by DD of those descriptors, never by reading the head.

use std::collections::VecDeque;
use std::fmt;
use std::sync::Arc;

use crate::batch::Batch;
use crate::desc::{DescRing, Dialect, Plain, rx, tx};
use crate::frame::{Side, seg_len};
use crate::pool::Pool;
use crate::simd::{self, Simd};
use crate::stats::TxCounts;
use crate::{
    DmaRegion, Doorbell, Iova, PoolMismatch, Quiesced, RingError, SendError, TxOffload, TxStats,
};

/// Descriptors between two requests for a write-back.
pub(crate) const RS_EVERY: u32 = 32;
/// Most data descriptors of one frame (ixgbevf.md §10.2: 40 on chip; igbvf.md §9.1).
const MAX_SEGMENTS: usize = 38;
/// Most bytes the payload field can name.
const MAX_TSO: usize = (1 << 18) - 1;
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
    pub(crate) ring: DescRing,
    pub(crate) slots: Vec<u32>,
    /// Slots that hold something other than a whole frame: contexts and all but the last segment of a frame.
    odd: Vec<bool>,
    odd_in_flight: u32,
    pub(crate) next: u32,
    clean: u32,
    pub(crate) simd: Simd,
    /// Device address of buffer 0's data, and bytes from one buffer to the next.
    pub(crate) base: u64,
    pub(crate) stride: u64,
    /// Slots that asked for a write-back, oldest first.
    asked: VecDeque<u32>,
    pub(crate) since_rs: u32,
    pool: Pool,
    doorbell: Doorbell,
    dialect: Dialect,
    /// Constant bits of a plain frame's word 1.
    pub(crate) plain: u64,
    /// What makes a batch entry a plain frame.
    pub(crate) plain_entry: Plain,
    max_frame: usize,
    /// The last data descriptor written: its slot and word 1.
    pub(crate) last: (u32, u64),
    /// What the card's two context slots hold.
    contexts: [Option<(u64, u64)>; 2],
    /// Which slot to replace next.
    victim: usize,
    /// The default context has been written since the last reset.
    started: bool,
    counts: TxCounts,
    stats: Arc<TxStats>,
}

/// What a plain frame of up to `longest` bytes looks like in a batch.
const fn plain_entry(longest: u32) -> Plain {
    Plain::new(rx::EOP | rx::SIDE, rx::EOP, TINY, longest as usize)
}

impl TxRing {
    /// Makes a ring; the card reads nothing before the first send.
    ///
    /// # Errors
    ///
    /// [`RingError`] naming the parameter that is wrong.
    pub fn new(params: TxParams) -> Result<Self, RingError> {
        let ring = DescRing::new(params.ring, params.offset, params.size)?;
        let size = ring.size() as usize;
        let cc = if params.dialect.checks_context() {
            tx::CC
        } else {
            0
        };
        Ok(Self {
            ring,
            slots: vec![NO_BUFFER; size],
            odd: vec![false; size],
            odd_in_flight: 0,
            next: 0,
            clean: 0,
            asked: VecDeque::with_capacity(size),
            since_rs: 0,
            base: params.pool.0.iova(0).0,
            stride: params.pool.config().stride() as u64,
            pool: params.pool,
            doorbell: params.doorbell,
            dialect: params.dialect,
            plain: tx::DATA | tx::EOP | cc,
            plain_entry: plain_entry(params.max_frame),
            simd: Simd::chosen(),
            max_frame: params.max_frame as usize,
            last: (0, 0),
            contexts: [None; 2],
            victim: 1,
            started: false,
            counts: TxCounts::default(),
            stats: Arc::default(),
        })
    }

    /// Changes the longest frame to send without TSO, in bytes without FCS, from the next one on.
    pub fn set_max_frame(&mut self, bytes: u32) {
        self.max_frame = bytes as usize;
        self.plain_entry = plain_entry(bytes);
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

    /// Descriptors handed over and not yet reclaimed.
    #[must_use]
    #[inline]
    pub const fn pending(&self) -> u32 {
        if self.next >= self.clean {
            self.next - self.clean
        } else {
            self.next + self.ring.size() - self.clean
        }
    }

    /// Descriptors that can be handed over now; one stays empty, because a full ring would look like an empty one.
    #[must_use]
    #[inline]
    pub const fn free_slots(&self) -> u32 {
        self.ring.size() - 1 - self.pending()
    }

    /// Whether the card has finished something that [`reclaim`](Self::reclaim) would take back.
    #[must_use]
    #[inline]
    pub fn has_work(&self) -> bool {
        self.asked
            .front()
            .is_some_and(|slot| self.ring.done_word(*slot) & tx::DD != 0)
    }

    /// Takes back the buffers of finished frames into the batch's free list. Returns the descriptors reclaimed.
    pub fn reclaim(&mut self, batch: &mut Batch) -> usize {
        if !batch.pool().is(&self.pool) {
            return 0;
        }
        let before = self.pending();
        while let Some(&slot) = self.asked.front() {
            if self.ring.done_word(slot) & tx::DD == 0 {
                break;
            }
            self.asked.pop_front();
            self.take_back(self.ring.after(slot), &mut batch.free);
            batch.trim();
        }
        (before - self.pending()) as usize
    }

    /// Moves the buffers of slots from `clean` up to `end` into `free`.
    #[inline]
    fn take_back(&mut self, end: u32, free: &mut Vec<u32>) {
        if self.odd_in_flight > 0 {
            return self.take_back_odd(end, free);
        }
        let (from, to) = (self.clean as usize, end as usize);
        if from <= to {
            free.extend_from_slice(&self.slots[from..to]);
        } else {
            free.extend_from_slice(&self.slots[from..]);
            free.extend_from_slice(&self.slots[..to]);
        }
        self.clean = end;
    }

    #[cold]
    fn take_back_odd(&mut self, end: u32, free: &mut Vec<u32>) {
        while self.clean != end {
            let slot = self.clean as usize;
            if self.slots[slot] != NO_BUFFER {
                free.push(self.slots[slot]);
            }
            if std::mem::take(&mut self.odd[slot]) {
                self.odd_in_flight -= 1;
            }
            self.clean = self.ring.after(self.clean);
        }
    }

    /// Hands frames from the front of `batch` to the card until the ring is full, and rings the doorbell once.
    /// Frames that did not fit stay in the batch, in order. Finished frames are reclaimed first. Returns the frames
    /// sent.
    ///
    /// # Errors
    ///
    /// [`SendError::Pool`] before anything is sent; the others when the frame now at the front of the batch breaks a
    /// limit, after those before it were sent. Drop it or change it, and send again.
    pub fn send(&mut self, batch: &mut Batch) -> Result<usize, SendError> {
        if !batch.pool().is(&self.pool) {
            return Err(PoolMismatch.into());
        }
        self.reclaim(batch);
        if batch.is_empty() {
            return Ok(0);
        }
        if !self.started {
            self.write_default_context();
        }
        let mut free = self.free_slots() as usize;
        let (mut entry, mut frames, mut bytes) = (0, 0, 0);
        let mut refusal = None;
        while entry < batch.entries {
            let limit = free.min(batch.entries - entry);
            let (sent, sent_bytes) = simd::send(self, batch, entry, limit);
            entry += sent;
            frames += sent;
            bytes += sent_bytes;
            free -= sent;
            if entry == batch.entries {
                break;
            }
            let (index, word1) = (batch.index[entry], batch.words[entry][1]);
            let len = seg_len(word1);
            let taken = if self.plain_entry.holds(word1) {
                if free > 0 {
                    self.put(
                        index,
                        Iova(self.base + u64::from(index) * self.stride),
                        self.plain | len as u64 | (len as u64) << tx::PAYLEN_SHIFT,
                    );
                    Ok((1, 1, len))
                } else {
                    Ok((0, 0, 0))
                }
            } else {
                self.send_slow(batch, entry, free)
            };
            match taken {
                Ok((0, ..)) => {
                    self.counts.ring_full += 1;
                    break;
                }
                Ok((entries, slots, len)) => {
                    entry += entries;
                    free -= slots;
                    frames += 1;
                    bytes += len as u64;
                }
                Err(why) => {
                    self.counts.refused += 1;
                    refusal = Some(why);
                    break;
                }
            }
        }
        if frames > 0 {
            self.finish();
        }
        batch.consume(entry, frames);
        self.counts.packets += frames as u64;
        self.counts.bytes += bytes;
        self.counts.publish(&self.stats);
        match refusal {
            None => Ok(frames),
            Some(why) => Err(why.after(frames)),
        }
    }

    /// Writes the last descriptor of a frame.
    #[inline]
    fn put(&mut self, index: u32, iova: Iova, word1: u64) {
        self.slots[self.next as usize] = index;
        self.since_rs += 1;
        let word1 = if self.since_rs >= RS_EVERY {
            self.since_rs = 0;
            self.asked.push_back(self.next);
            word1 | tx::RS
        } else {
            word1
        };
        self.ring.store(self.next, iova.0, word1);
        self.last = (self.next, word1);
        self.next = self.ring.after(self.next);
    }

    /// Writes a descriptor that is not the end of a frame.
    fn put_odd(&mut self, index: u32, word0: u64, word1: u64) {
        let slot = self.next as usize;
        self.slots[slot] = index;
        self.odd[slot] = true;
        self.odd_in_flight += 1;
        self.since_rs += 1;
        self.ring.store(self.next, word0, word1);
        self.next = self.ring.after(self.next);
    }

    /// Asks for a write-back of the last frame written, unless that has been done.
    #[inline]
    pub(crate) fn ask(&mut self) {
        let (slot, word1) = self.last;
        if word1 & tx::RS == 0 {
            self.last.1 = word1 | tx::RS;
            self.ring.store_second(slot, word1 | tx::RS);
            self.asked.push_back(slot);
            self.since_rs = 0;
        }
    }

    /// Ends a call: the last frame can always be reclaimed, and the card is told.
    #[inline]
    fn finish(&mut self) {
        self.ask();
        self.doorbell.ring(self.next);
    }

    /// The context that plain frames are checked against, in context slot 0 (ixgbevf.md §10.4).
    #[cold]
    fn write_default_context(&mut self) {
        self.started = true;
        if self.dialect.checks_context() {
            let context = TxOffload {
                l2_len: 14,
                ..TxOffload::default()
            }
            .context();
            self.contexts[0] = Some(context);
            self.put_context(0, context);
        }
    }

    fn put_context(&mut self, number: usize, (word0, word1): (u64, u64)) {
        self.counts.contexts += 1;
        self.put_odd(NO_BUFFER, word0, word1 | (number as u64) << tx::IDX_SHIFT);
    }

    /// Which context slot a frame with this context uses, and whether it must be written first.
    fn context_slot(&self, context: (u64, u64)) -> (usize, bool) {
        if let Some(number) = self.contexts.iter().position(|held| *held == Some(context)) {
            return (number, false);
        }
        // Slot 0 stays the default where plain frames need it.
        (
            if self.dialect.checks_context() {
                1
            } else {
                self.victim
            },
            true,
        )
    }

    /// Sends a frame of several buffers, with offloads, a moved head, or too short to go as it is. Returns entries
    /// and descriptors taken and bytes sent; no entries when the ring has no room.
    #[cold]
    fn send_slow(
        &mut self,
        batch: &mut Batch,
        entry: usize,
        free: usize,
    ) -> Result<(usize, usize, usize), Refusal> {
        let words = &batch.words[entry..batch.entries];
        let segments = words
            .iter()
            .position(|[_, word1]| word1 & rx::EOP != 0)
            .map_or(words.len(), |last| last + 1);
        let total: usize = words[..segments]
            .iter()
            .map(|[_, word1]| seg_len(*word1))
            .sum();
        let headroom = self.pool.config().headroom;
        let side = match words[0][1] & rx::SIDE {
            0 => Side {
                head: headroom,
                offload: TxOffload::default(),
            },
            _ => batch.side[entry],
        };
        let offload = side.offload;
        let wanted = offload != TxOffload::default();
        if segments > MAX_SEGMENTS {
            return Err(Refusal::TooManySegments(segments));
        }
        let max = if offload.tso_mss.is_some() {
            MAX_TSO
        } else {
            self.max_frame
        };
        if total > max {
            return Err(Refusal::TooLong { len: total, max });
        }
        let context = wanted.then(|| offload.context());
        let (number, write) = context.map_or((0, false), |context| self.context_slot(context));
        let slots = segments + usize::from(write);
        if free < slots {
            return Ok((0, 0, 0));
        }
        if let (true, Some(context)) = (write, context) {
            self.contexts[number] = Some(context);
            self.victim = 1 - number;
            self.put_context(number, context);
        }
        let first = seg_len(words[0][1]);
        // SAFETY: the batch owns the entry's index until the ring takes it below.
        let bytes = unsafe {
            self.pool
                .0
                .bytes(batch.index[entry], side.head.into(), first.max(TINY))
        };
        if wanted {
            offload.prepare(&mut bytes[..first], total);
        }
        // The card pads to 60 bytes but wants 17 to start with (ixgbevf.md §10.2).
        let pad = if segments == 1 {
            TINY.saturating_sub(first)
        } else {
            0
        };
        if let Some(tail) = bytes.get_mut(first..first + pad) {
            tail.fill(0);
        }
        let payload = total + pad
            - if offload.tso_mss.is_some() {
                offload.headers()
            } else {
                0
            };
        let mut bits = tx::DATA | (payload as u64) << tx::PAYLEN_SHIFT;
        if wanted {
            bits |= offload.data_bits() | (number as u64) << tx::IDX_SHIFT;
        }
        if self.dialect.checks_context() {
            bits |= tx::CC;
        }
        for number in 0..segments {
            let index = batch.index[entry + number];
            let len = (seg_len(batch.words[entry + number][1]) + pad) as u64;
            let head = if number == 0 {
                i64::from(side.head) - i64::from(headroom)
            } else {
                0
            };
            let iova = self.pool.0.iova(index).offset(head.cast_unsigned());
            if number + 1 == segments {
                self.put(index, iova, bits | len | tx::EOP);
            } else {
                self.put_odd(index, iova.0, bits | len);
            }
        }
        Ok((segments, slots, total))
    }

    /// Takes the ring back after the device was reset. Returns the frames that were in it, sent or not.
    pub fn reset(&mut self, _: Quiesced) -> usize {
        let not_confirmed = self.pending() - self.odd_in_flight;
        let mut free = Vec::with_capacity(self.pending() as usize);
        self.take_back_odd(self.next, &mut free);
        self.pool.0.take_home(&free);
        for slot in 0..self.ring.size() {
            self.ring.store(slot, 0, 0);
        }
        self.asked.clear();
        self.next = 0;
        self.clean = 0;
        self.since_rs = 0;
        self.contexts = [None; 2];
        self.started = false;
        self.counts.not_confirmed += u64::from(not_confirmed);
        self.counts.publish(&self.stats);
        not_confirmed as usize
    }
}

/// Why a frame cannot be sent, before it is known how many went before it.
enum Refusal {
    TooLong { len: usize, max: usize },
    TooManySegments(usize),
}

impl Refusal {
    const fn after(self, sent: usize) -> SendError {
        match self {
            Self::TooLong { len, max } => SendError::TooLong { sent, len, max },
            Self::TooManySegments(segments) => SendError::TooManySegments {
                sent,
                segments,
                max: MAX_SEGMENTS,
            },
        }
    }
}

impl Drop for TxRing {
    fn drop(&mut self) {
        let pending = self.pending() - self.odd_in_flight_contexts();
        if pending > 0 {
            self.pool.0.lose(pending);
        }
    }
}

impl TxRing {
    /// Slots in flight that hold no buffer.
    fn odd_in_flight_contexts(&self) -> u32 {
        let mut slot = self.clean;
        let mut contexts = 0;
        while slot != self.next {
            contexts += u32::from(self.slots[slot as usize] == NO_BUFFER);
            slot = self.ring.after(slot);
        }
        contexts
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
