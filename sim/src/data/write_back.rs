//! Completions that are not published at once: held in bursts, delayed, torn or repeated.

use std::collections::VecDeque;

use super::desc::Words;
use super::hooks::{At, Fault, Point};
use super::place::Place;
use super::queue::Base;
use crate::dma::{DmaFault, Translate};

/// Most write-backs of one queue that wait out of order; more are written on time.
const LATE: usize = 256;

/// One write-back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteBack {
    /// Descriptor address, and the words of it that are to be written.
    Descriptor(u64, [Option<u64>; 2]),
    /// TX head write-back: address and value of a 32-bit word.
    Head(u64, u32),
}

impl WriteBack {
    pub(crate) const fn new(address: u64, words: Words) -> Self {
        Self::Descriptor(address, [Some(words[0]), Some(words[1])])
    }

    /// The address written to.
    #[cfg(test)]
    pub(crate) const fn address(&self) -> u64 {
        match *self {
            Self::Descriptor(address, _) | Self::Head(address, _) => address,
        }
    }
}

/// A queue's unpublished write-backs.
#[derive(Debug, Default)]
pub(crate) struct Held {
    /// In order; each with the time it was made.
    in_order: VecDeque<(u64, WriteBack)>,
    /// Out of order; each with the time it is due.
    late: Vec<(u64, WriteBack)>,
    /// Nothing in order goes out before this time.
    stalled_until: u64,
    hasty: bool,
}

impl Held {
    pub(crate) fn is_empty(&self) -> bool {
        self.in_order.is_empty() && self.late.is_empty()
    }

    /// Holds one back behind the others.
    pub(crate) fn push(&mut self, now: u64, write_back: WriteBack) {
        self.in_order.push_back((now, write_back));
    }

    /// Holds one back by itself until `due`. False when there are too many.
    pub(crate) fn push_late(&mut self, due: u64, write_back: WriteBack) -> bool {
        let room = self.late.len() < LATE;
        if room {
            self.late.push((due, write_back));
        }
        room
    }

    /// Keeps everything in order back until then.
    pub(crate) fn stall(&mut self, until: u64) {
        self.stalled_until = self.stalled_until.max(until);
    }

    /// Whether a write-back made now must queue behind others.
    pub(crate) fn must_queue(&self, now: u64) -> bool {
        !self.in_order.is_empty() || self.stalled_until > now
    }

    /// Everything is due.
    pub(crate) fn hasten(&mut self) {
        self.hasty = !self.in_order.is_empty();
        self.stalled_until = 0;
    }

    pub(crate) fn clear(&mut self) {
        self.in_order.clear();
        self.stalled_until = 0;
        self.hasty = false;
    }

    /// When something is due: the burst is full, the oldest has waited long enough, or a late one's time has come.
    pub(crate) fn due(&self, burst: usize, delay_ns: u64) -> Option<u64> {
        let in_order = self.in_order.front().map(|&(made, _)| {
            if self.hasty || self.in_order.len() >= burst {
                self.stalled_until
            } else {
                made.saturating_add(delay_ns).max(self.stalled_until)
            }
        });
        let late = self.late.iter().map(|&(due, _)| due).min();
        match (in_order, late) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        }
    }

    /// The next that is to be published at `now`, if any.
    pub(crate) fn pop(&mut self, now: u64, burst: usize, delay_ns: u64) -> Option<WriteBack> {
        if let Some(index) = self.late.iter().position(|&(due, _)| due <= now) {
            return Some(self.late.remove(index).1);
        }
        let &(made, _) = self.in_order.front()?;
        let ripe =
            self.hasty || self.in_order.len() >= burst || made.saturating_add(delay_ns) <= now;
        if !ripe || self.stalled_until > now {
            return None;
        }
        // Once a burst goes, all of it goes.
        self.hasty = self.in_order.len() > 1;
        self.in_order.pop_front().map(|(_, write_back)| write_back)
    }
}

/// Whose write-back it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Owner {
    pub(crate) pool: u8,
    pub(crate) queue: u8,
    pub(crate) point: Point,
}

impl Base {
    /// Publishes a write-back of descriptor `index`, now or, as settings and faults have it, later. True when the driver
    /// can see something new.
    #[inline]
    pub(crate) fn publish(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
        index: u32,
        write_back: WriteBack,
    ) -> bool {
        if !place.armed && place.completion.burst <= 1 && !self.held.must_queue(place.now) {
            return self.write(space, place, owner, write_back);
        }
        self.publish_slowly(space, place, owner, index, write_back)
    }

    #[cold]
    fn publish_slowly(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
        index: u32,
        mut write_back: WriteBack,
    ) -> bool {
        let fault = place.ask(At {
            point: owner.point,
            pool: owner.pool,
            queue: owner.queue,
            index: u16::try_from(index).unwrap_or(u16::MAX),
        });
        let now = place.now;
        match (fault, &mut write_back) {
            (Some(Fault::Swallow), _) => return false,
            (Some(Fault::Rewrite { and, or }), WriteBack::Descriptor(_, words)) => {
                for (word, (and, or)) in words.iter_mut().flatten().zip(and.into_iter().zip(or)) {
                    *word = *word & and | or;
                }
            }
            #[expect(clippy::cast_possible_truncation, reason = "a head is 32 bits")]
            (Some(Fault::Rewrite { and, or }), WriteBack::Head(_, head)) => {
                *head = *head & and[0] as u32 | or[0] as u32;
            }
            (Some(Fault::Displace(by)), WriteBack::Descriptor(address, _)) => {
                let place = i64::from(index)
                    .saturating_add(i64::from(by))
                    .rem_euclid(i64::from(self.count.max(1)));
                *address = self.ring.at(u32::try_from(place).unwrap_or(0));
            }
            (Some(Fault::Tear { ns }), WriteBack::Descriptor(address, words)) => {
                self.held.push_late(
                    now.saturating_add(ns),
                    WriteBack::Descriptor(*address, [words[0], None]),
                );
                words[0] = None;
            }
            (Some(Fault::Again { ns }), again) => {
                self.held.push_late(now.saturating_add(ns), *again);
            }
            (Some(Fault::Late { ns }), late)
                if self.held.push_late(now.saturating_add(ns), *late) =>
            {
                return false;
            }
            (Some(Fault::Delay { ns }), _) => self.held.stall(now.saturating_add(ns)),
            _ => {}
        }
        if place.completion.burst > 1 || self.held.must_queue(now) {
            self.held.push(now, write_back);
            return false;
        }
        self.write(space, place, owner, write_back)
    }

    #[inline]
    fn write(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
        write_back: WriteBack,
    ) -> bool {
        let (address, len, done) = match write_back {
            WriteBack::Descriptor(address, words) => {
                (address, 16, self.windows.write_back(space, address, words))
            }
            WriteBack::Head(address, head) => (
                address,
                4,
                self.data_windows.write_dword(space, address, head),
            ),
        };
        if !done {
            place.hooks.dma_fault(DmaFault {
                pool: owner.pool,
                iova: address,
                len,
                write: true,
            });
            self.stop();
        }
        done
    }

    /// Publishes what has become due. True when the driver can see something new.
    pub(crate) fn flush(
        &mut self,
        space: &dyn Translate,
        place: &mut Place<'_>,
        owner: Owner,
    ) -> bool {
        let mut seen = false;
        let burst = usize::from(place.completion.burst);
        while let Some(write_back) = self.held.pop(place.now, burst, place.completion.delay_ns) {
            seen |= self.write(space, place, owner, write_back);
        }
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn numbered(number: u64) -> WriteBack {
        WriteBack::new(number, [number, number])
    }

    fn take(held: &mut Held, now: u64, burst: usize, delay: u64) -> Vec<u64> {
        std::iter::from_fn(|| held.pop(now, burst, delay))
            .map(|write_back| write_back.address())
            .collect()
    }

    #[test]
    fn a_burst_goes_when_it_is_full_or_old() {
        let mut held = Held::default();
        for number in 0..3 {
            held.push(10, numbered(number));
        }
        assert!(take(&mut held, 11, 4, 100).is_empty());
        assert_eq!(held.due(4, 100), Some(110));
        held.push(12, numbered(3));
        assert_eq!(held.due(4, 100), Some(0), "the burst is full");
        assert_eq!(take(&mut held, 12, 4, 100), [0, 1, 2, 3]);
        held.push(20, numbered(4));
        assert!(take(&mut held, 119, 4, 100).is_empty());
        assert_eq!(take(&mut held, 120, 4, 100), [4]);
        assert!(held.is_empty());
        // One that is to wait for ever goes with a burst only.
        held.push(130, numbered(5));
        assert_eq!(held.due(2, u64::MAX), Some(u64::MAX));
        assert!(take(&mut held, 140, 2, u64::MAX).is_empty());
        held.push(150, numbered(6));
        assert_eq!(take(&mut held, 150, 2, u64::MAX), [5, 6]);
    }

    #[test]
    fn a_stall_holds_everything_and_a_late_one_only_itself() {
        let mut held = Held::default();
        held.stall(50);
        assert!(held.must_queue(49));
        held.push(1, numbered(1));
        assert!(held.push_late(30, numbered(9)));
        assert_eq!(held.due(1, 0), Some(30));
        assert_eq!(take(&mut held, 30, 1, 0), [9]);
        assert_eq!(take(&mut held, 50, 1, 0), [1]);
        assert!(!held.must_queue(50));
    }

    #[test]
    fn so_many_may_be_late_and_no_more() {
        let mut held = Held::default();
        let late = (0..).take_while(|&n| held.push_late(n, numbered(n)));
        assert_eq!(late.count(), LATE);
    }

    #[test]
    fn flushing_beats_the_delay() {
        let mut held = Held::default();
        held.push(1, numbered(1));
        held.push(1, numbered(2));
        held.hasten();
        assert_eq!(take(&mut held, 2, 64, 1000), [1, 2]);
        held.push(3, numbered(3));
        assert!(
            take(&mut held, 4, 64, 1000).is_empty(),
            "only what was there was flushed"
        );
    }

    #[test]
    fn nothing_in_order_outlives_a_queue() {
        let mut held = Held::default();
        held.push(1, numbered(1));
        held.hasten();
        held.stall(50);
        held.clear();
        assert!(!held.must_queue(0));
        assert_eq!(held.due(1, 0), None);
        held.push(2, numbered(2));
        assert!(take(&mut held, 2, 64, 1000).is_empty(), "nobody flushed it");
    }
}
