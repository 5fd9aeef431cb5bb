//! Taking finished frames back.

use super::{NO_BUFFER, REPORT, TxRing};
use crate::batch::Batch;
use crate::desc::tx;

/// What is out of the ordinary about slots in flight, a word for each block of [`REPORT`] slots.
///
/// The low half has a bit for slots that report besides the last of the block, the high half for slots that are not
/// the end of a frame: contexts, and buffers that are followed by more of their frame. The last slot of a block
/// reports unless it is one of those.
pub(super) struct Marks {
    blocks: Box<[u64]>,
    odd: usize,
}

impl Marks {
    pub(super) fn new(size: usize) -> Self {
        Self {
            blocks: vec![0; size.div_ceil(REPORT)].into_boxed_slice(),
            odd: 0,
        }
    }

    /// Slots in flight that are not the end of a frame.
    pub(super) const fn odd(&self) -> usize {
        self.odd
    }

    #[inline]
    pub(super) fn report(&mut self, slot: usize) {
        self.blocks[slot / REPORT] |= 1 << (slot % REPORT);
    }

    pub(super) fn set_odd(&mut self, slot: usize) {
        self.blocks[slot / REPORT] |= 1 << (slot % REPORT + REPORT);
        self.odd += 1;
    }

    #[inline]
    fn has_odd(&self, block: usize) -> bool {
        self.blocks[block] >> REPORT != 0
    }

    /// Forgets `count` slots from `slot` on, all in one block.
    #[inline]
    fn forget(&mut self, slot: usize, count: usize) {
        let bits = ((1u64 << count) - 1) << (slot % REPORT);
        let block = &mut self.blocks[slot / REPORT];
        self.odd -= (*block >> REPORT & bits).count_ones() as usize;
        *block &= !(bits | bits << REPORT);
    }

    /// Forgets a block without odd slots.
    #[inline]
    fn forget_block(&mut self, block: usize) {
        self.blocks[block] = 0;
    }

    pub(super) fn clear(&mut self) {
        self.blocks.fill(0);
        self.odd = 0;
    }
}

impl TxRing {
    /// Takes finished blocks back into the free list of `batch`: as many as it has use for, or as it takes to make
    /// room for `entries` descriptors.
    #[inline]
    pub(super) fn reclaim_blocks(&mut self, batch: &mut Batch, entries: usize) {
        while self.free < self.lazy
            && (batch.cached() + REPORT <= batch.keep || self.free < entries)
            && self.reclaim_block(batch)
        {}
    }

    /// Takes the block at `clean` back, or what is left of it, if all of it is finished and in flight.
    #[inline]
    fn reclaim_block(&mut self, batch: &mut Batch) -> bool {
        let (clean, block) = (self.clean, self.clean / REPORT);
        let end = clean + REPORT;
        let whole = clean.is_multiple_of(REPORT) && end <= self.ring.size();
        if !whole || self.marks.has_odd(block) || self.free >= self.lazy {
            return self.reclaim_part(batch);
        }
        if self.ring.done_word(end - 1) & tx::DD == 0 {
            return false;
        }
        batch.trim();
        let slots = self.slots[clean..].first_chunk::<REPORT>();
        let (Some(slots), Some(head)) = (slots, batch.head.checked_sub(REPORT)) else {
            return false;
        };
        batch.free[head..][..REPORT].copy_from_slice(slots);
        batch.head = head;
        self.marks.forget_block(block);
        self.free += REPORT;
        self.clean = if end == self.ring.size() { 0 } else { end };
        true
    }

    /// As `reclaim_block` for blocks that are not whole, and for those with slots that are not the end of a frame: as
    /// far as reports go. Whether that is any way.
    #[cold]
    #[inline(never)]
    fn reclaim_part(&mut self, batch: &mut Batch) -> bool {
        let before = self.used();
        if self.marks.has_odd(self.clean / REPORT) {
            self.reclaim_reported(|indices| batch.give_back(indices));
            return self.used() < before;
        }
        let end = self.block_end(self.clean);
        if end - self.clean > before || self.ring.done_word(end - 1) & tx::DD == 0 {
            return false;
        }
        self.release(end - self.clean, |indices| batch.give_back(indices));
        true
    }

    /// Takes back the buffers of finished frames into the batch's free list. Returns the descriptors reclaimed.
    ///
    /// [`send`](Self::send) does so by itself while it has use for them.
    pub fn reclaim(&mut self, batch: &mut Batch) -> usize {
        if !batch.pool().is(&self.pool) {
            return 0;
        }
        let before = self.used();
        while self.reclaim_block(batch) {}
        self.reclaim_reported(|indices| batch.give_back(indices));
        batch.trim();
        before - self.used()
    }

    /// Releases everything up to the last slot in flight that has reported.
    pub(super) fn reclaim_reported(&mut self, mut take: impl FnMut(&[u32])) {
        while let Some(distance) = self.next_report() {
            let slot = (self.clean + distance) % self.ring.size();
            if self.ring.done_word(slot) & tx::DD == 0 {
                break;
            }
            self.release(distance + 1, &mut take);
        }
    }

    /// Whether the card has finished something that [`reclaim`](Self::reclaim) would take back.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.next_report().is_some_and(|distance| {
            let slot = (self.clean + distance) % self.ring.size();
            self.ring.done_word(slot) & tx::DD != 0
        })
    }

    /// The slot after the last of a slot's block; the last block of a ring may be short.
    #[inline]
    pub(super) fn block_end(&self, slot: usize) -> usize {
        ((slot / REPORT + 1) * REPORT).min(self.ring.size())
    }

    /// How far from `clean` the next slot is that was asked to report.
    fn next_report(&self) -> Option<usize> {
        let (size, used) = (self.ring.size(), self.used());
        let mut distance = 0;
        while distance < used {
            let slot = (self.clean + distance) % size;
            let block = slot / REPORT;
            let last = self.block_end(slot) - 1;
            let word = self.marks.blocks[block];
            let end = 1 << (last % REPORT);
            let reports = word as u32 | end & !((word >> REPORT) as u32);
            let ahead = reports >> (slot % REPORT);
            if ahead != 0 {
                distance += ahead.trailing_zeros() as usize;
                return (distance < used).then_some(distance);
            }
            distance += last - slot + 1;
        }
        None
    }

    /// Gives up `count` slots from `clean` on: their buffers go to `take`.
    pub(super) fn release(&mut self, count: usize, mut take: impl FnMut(&[u32])) {
        let mut left = count;
        while left > 0 {
            let block = self.clean / REPORT;
            let end = self.block_end(self.clean);
            let some = left.min(end - self.clean);
            let slots = &self.slots[self.clean..self.clean + some];
            if self.marks.has_odd(block) {
                for slot in slots.iter().filter(|slot| **slot != NO_BUFFER) {
                    take(&[*slot]);
                }
            } else {
                take(slots);
            }
            self.marks.forget(self.clean, some);
            self.clean = (self.clean + some) % self.ring.size();
            self.free += some;
            left -= some;
        }
    }
}
