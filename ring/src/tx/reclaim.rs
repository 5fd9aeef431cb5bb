//! Taking finished frames back.

use super::{NO_BUFFER, REPORT, TxRing};
use crate::batch::Batch;
use crate::desc::tx;
use crate::lines::{chunk, chunk_mut};

/// What is out of the ordinary about slots in flight, a word for each block of [`REPORT`] slots.
///
/// The low half has a bit for slots that report besides the last of the block, the high half for slots that are not
/// the end of a frame: contexts, and buffers that are followed by more of their frame. The last slot of a block
/// reports unless it is one of those, and the last slot in flight always does; other ends of calls report too, but
/// nobody looks there.
pub(super) struct Marks {
    blocks: Box<[u64]>,
    odd: usize,
    /// Bits set.
    set: usize,
}

impl Marks {
    pub(super) fn new(size: usize) -> Self {
        Self {
            blocks: vec![0; size.div_ceil(REPORT)].into_boxed_slice(),
            odd: 0,
            set: 0,
        }
    }

    /// Slots in flight that are not the end of a frame.
    pub(super) const fn odd(&self) -> usize {
        self.odd
    }

    pub(super) fn report(&mut self, slot: usize) {
        self.set(slot, slot % REPORT);
    }

    pub(super) fn set_odd(&mut self, slot: usize) {
        self.set(slot, slot % REPORT + REPORT);
        self.odd += 1;
    }

    /// Sets a bit that no slot in flight can have set before.
    fn set(&mut self, slot: usize, bit: usize) {
        if let Some(block) = self.blocks.get_mut(slot / REPORT) {
            *block |= 1 << bit;
            self.set += 1;
        }
    }

    /// Whether everything in flight is as usual.
    #[inline]
    const fn none(&self) -> bool {
        self.set == 0
    }

    fn word(&self, block: usize) -> u64 {
        self.blocks.get(block).copied().unwrap_or(0)
    }

    fn has_odd(&self, block: usize) -> bool {
        self.word(block) >> REPORT != 0
    }

    /// Forgets `count` slots from `slot` on, all in one block.
    fn forget(&mut self, slot: usize, count: usize) {
        let bits = ((1u64 << count) - 1) << (slot % REPORT);
        let Some(block) = self.blocks.get_mut(slot / REPORT) else {
            return;
        };
        self.odd -= (*block >> REPORT & bits).count_ones() as usize;
        let bits = bits | bits << REPORT;
        self.set -= (*block & bits).count_ones() as usize;
        *block &= !bits;
    }
}

impl TxRing {
    /// Takes finished blocks back into the free list of `batch`: as many as it has use for, or as it takes to make
    /// room for `entries` descriptors.
    #[inline(always)]
    pub(super) fn reclaim_some(&mut self, batch: &mut Batch, entries: usize) {
        while self.free < self.lazy && batch.cached() + REPORT <= batch.keep {
            if !self.reclaim_block(batch) {
                return;
            }
        }
        if self.free < entries {
            self.make_room(batch, entries);
        }
    }

    /// Takes back more than there is use for.
    #[cold]
    #[inline(never)]
    fn make_room(&mut self, batch: &mut Batch, entries: usize) {
        while self.free < entries && self.reclaim_block_or_part(batch) {}
    }

    /// Takes the block at `clean` back, or what is left of it, if all of it is finished and in flight.
    #[inline]
    fn reclaim_block_or_part(&mut self, batch: &mut Batch) -> bool {
        batch.trim();
        self.free < self.lazy && self.reclaim_block(batch) || self.reclaim_part(batch)
    }

    /// Takes the block at `clean` back, or what is left of it, if all of it is finished. There is a whole block in
    /// flight, and room in the free list.
    #[inline(always)]
    fn reclaim_block(&mut self, batch: &mut Batch) -> bool {
        let (clean, end) = (self.clean, self.clean + REPORT);
        let whole = clean.is_multiple_of(REPORT) && end <= self.ring.size();
        if !whole || !self.marks.none() {
            return self.reclaim_part(batch);
        }
        if self.ring.done_word(end - 1) & tx::DD == 0 {
            return false;
        }
        let slots = chunk::<_, REPORT>(&self.slots, clean);
        let head = batch.head.wrapping_sub(REPORT);
        let (Some(slots), Some(free)) = (slots, chunk_mut(&mut batch.free, head)) else {
            return false;
        };
        *free = *slots;
        batch.head = head;
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
        // Reports come in order: without the first there are no others.
        if self.has_work() {
            while self.reclaim_block_or_part(batch) {}
            self.reclaim_reported(|indices| batch.give_back(indices));
        }
        batch.trim();
        before - self.used()
    }

    /// Releases everything up to the last slot in flight that has reported.
    pub(super) fn reclaim_reported(&mut self, mut take: impl FnMut(&[u32])) {
        while let Some(distance) = self.first_reported() {
            self.release(distance + 1, &mut take);
        }
    }

    /// How far the next slot that reports is from the first in flight, if it has reported.
    fn first_reported(&self) -> Option<usize> {
        let distance = self.next_report()?;
        let slot = self.ring.after(self.clean, distance);
        (self.ring.done_word(slot) & tx::DD != 0).then_some(distance)
    }

    /// Whether the card has finished something that [`reclaim`](Self::reclaim) would take back.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.first_reported().is_some()
    }

    /// The slot after the last of a slot's block; the last block of a ring may be short.
    #[inline]
    pub(super) fn block_end(&self, slot: usize) -> usize {
        ((slot / REPORT + 1) * REPORT).min(self.ring.size())
    }

    /// How far from `clean` the next slot is whose report is looked at.
    fn next_report(&self) -> Option<usize> {
        let used = self.used();
        let mut distance = 0;
        while distance < used {
            let slot = self.ring.after(self.clean, distance);
            let block = slot / REPORT;
            let last = self.block_end(slot) - 1;
            let word = self.marks.word(block);
            let end = 1 << (last % REPORT);
            let reports = word as u32 | end & !((word >> REPORT) as u32);
            let ahead = reports >> (slot % REPORT);
            if ahead != 0 {
                distance += ahead.trailing_zeros() as usize;
                if distance < used {
                    return Some(distance);
                }
                break;
            }
            distance += last - slot + 1;
        }
        // The last slot in flight, unless that is the context of frames yet to come.
        let last = self.ring.after(self.clean, used.checked_sub(1)?);
        let odd = self.marks.word(last / REPORT) >> (last % REPORT + REPORT) & 1 == 1;
        (!odd).then_some(used - 1)
    }

    /// Gives up `count` slots from `clean` on: their buffers go to `take`.
    pub(super) fn release(&mut self, count: usize, mut take: impl FnMut(&[u32])) {
        let mut left = count;
        while left > 0 {
            let block = self.clean / REPORT;
            let end = self.block_end(self.clean);
            let some = left.min(end - self.clean);
            let slots = self
                .slots
                .get(self.clean..self.clean + some)
                .unwrap_or_default();
            if self.marks.has_odd(block) {
                for slot in slots.iter().filter(|slot| **slot != NO_BUFFER) {
                    take(&[*slot]);
                }
            } else {
                take(slots);
            }
            self.marks.forget(self.clean, some);
            self.clean = self.ring.after(self.clean, some);
            self.free += some;
            left -= some;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_of_slots_there_are() {
        let mut marks = Marks::new(64);
        marks.report(64);
        marks.forget(64, 3);
        assert!(marks.none());
        marks.report(63);
        marks.set_odd(40);
        assert_eq!((marks.set, marks.odd()), (2, 1));
        marks.forget(40, 24);
        assert_eq!((marks.set, marks.odd()), (0, 0));
    }
}
