//! What became of each number of one sequence, in bounded memory.

use std::collections::VecDeque;

/// Gaps remembered at once per flow. The oldest is written off when there are more; frames that arrive for it after
/// that can no longer be told from duplicates and count as late.
const MAX_GAPS: usize = 1024;

/// What the arrival of a sequence number means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// The first time, and nothing later came before it.
    InOrder,
    /// The first time, but something later had come before it (RFC 4737 §3.3: reordered).
    Late,
    /// It had come before.
    Duplicate,
}

/// One flow's sequence numbers: in-order arrival costs one comparison and one addition.
///
/// Numbers that were jumped over wait in a list of gaps; when one arrives after all it was reordered, not lost. What
/// is still in the gaps when the flow is [closed](Self::close) is missing.
#[derive(Clone, Debug, Default)]
pub struct SequenceTracker {
    /// One above the highest number seen.
    next: u64,
    /// Numbers jumped over and not seen since.
    missing: u64,
    /// Everything below this has been written off or accounted for.
    horizon: u64,
    /// Gaps as (first, one past last), ascending and disjoint.
    gaps: VecDeque<(u64, u64)>,
}

impl SequenceTracker {
    /// The number that would be in order next.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Numbers not seen so far, up to the highest seen.
    #[must_use]
    pub const fn missing(&self) -> u64 {
        self.missing
    }

    /// Takes the arrival of `sequence` into account.
    #[inline]
    pub fn arrive(&mut self, sequence: u64) -> Arrival {
        if sequence == self.next {
            self.next = sequence.saturating_add(1);
            return Arrival::InOrder;
        }
        self.out_of_turn(sequence)
    }

    /// Says that numbers below `sent` were sent and no others: those never seen are missing, too.
    pub fn close(&mut self, sent: u64) {
        if sent > self.next {
            self.open_gap(self.next, sent);
            self.next = sent;
        }
    }

    #[cold]
    fn out_of_turn(&mut self, sequence: u64) -> Arrival {
        if sequence > self.next {
            self.open_gap(self.next, sequence);
            self.next = sequence.saturating_add(1);
            return Arrival::InOrder;
        }
        if sequence < self.horizon {
            return if self.missing > self.remembered() {
                self.missing -= 1;
                Arrival::Late
            } else {
                Arrival::Duplicate
            };
        }
        let at = self.gaps.partition_point(|&(_, end)| end <= sequence);
        match self.gaps.get(at).copied() {
            Some((start, end)) if start <= sequence => {
                self.fill(at, start, end, sequence);
                self.missing -= 1;
                Arrival::Late
            }
            _ => Arrival::Duplicate,
        }
    }

    fn fill(&mut self, at: usize, start: u64, end: u64, sequence: u64) {
        match (start == sequence, end == sequence + 1) {
            (true, true) => {
                self.gaps.remove(at);
            }
            (true, false) => self.gaps[at].0 = sequence + 1,
            (false, true) => self.gaps[at].1 = sequence,
            (false, false) => {
                self.gaps[at].1 = sequence;
                self.gaps.insert(at + 1, (sequence + 1, end));
                self.bound();
            }
        }
    }

    fn open_gap(&mut self, start: u64, end: u64) {
        self.missing += end - start;
        self.gaps.push_back((start, end));
        self.bound();
    }

    fn bound(&mut self) {
        if self.gaps.len() > MAX_GAPS
            && let Some((_, end)) = self.gaps.pop_front()
        {
            self.horizon = end;
        }
    }

    fn remembered(&self) -> u64 {
        self.gaps.iter().map(|(start, end)| end - start).sum()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_reordered_number_is_not_missing() {
        let mut flow = SequenceTracker::default();
        let seen: Vec<Arrival> = [0, 2, 1, 3, 1].map(|n| flow.arrive(n)).to_vec();
        assert_eq!(
            seen,
            [
                Arrival::InOrder,
                Arrival::InOrder,
                Arrival::Late,
                Arrival::InOrder,
                Arrival::Duplicate
            ]
        );
        assert_eq!(flow.missing(), 0);
    }

    #[test]
    fn after_the_last_number_there_is_can_be_said_comes_none() {
        let mut flow = SequenceTracker::default();
        for _ in 0..2 {
            assert_eq!(flow.arrive(u64::MAX), Arrival::InOrder);
            assert_eq!(flow.next(), u64::MAX);
        }
        assert_eq!(flow.missing(), u64::MAX);
        assert_eq!(flow.arrive(7), Arrival::Late);
        flow.close(u64::MAX);
        assert_eq!(flow.missing(), u64::MAX - 1);
    }

    #[test]
    fn both_ends_can_be_missing() {
        let mut flow = SequenceTracker::default();
        flow.arrive(2);
        flow.close(5);
        assert_eq!(flow.missing(), 4);
    }

    #[test]
    fn memory_is_bounded_and_the_count_stays() {
        let mut flow = SequenceTracker::default();
        for n in 0..10_000 {
            flow.arrive(2 * n + 1);
        }
        assert_eq!(flow.missing(), 10_000);
        assert!(flow.gaps.len() <= MAX_GAPS);
        // Written off long ago, but it did come: late, not lost.
        assert_eq!(flow.arrive(0), Arrival::Late);
        assert_eq!(flow.missing(), 9_999);
    }

    proptest! {
        /// Against the plainest possible bookkeeping, over any order of arrival.
        #[test]
        fn agrees_with_a_set(arrivals in prop::collection::vec(0u64..400, 0..600), sent in 400u64..420) {
            let mut flow = SequenceTracker::default();
            let mut seen = HashSet::new();
            let mut highest = None;
            for &n in &arrivals {
                let expected = if !seen.insert(n) {
                    Arrival::Duplicate
                } else if highest.is_some_and(|h| n < h) {
                    Arrival::Late
                } else {
                    Arrival::InOrder
                };
                highest = highest.max(Some(n));
                prop_assert_eq!(flow.arrive(n), expected);
            }
            flow.close(sent);
            prop_assert_eq!(flow.missing(), sent - seen.len() as u64);
        }
    }
}
