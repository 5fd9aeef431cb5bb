//! Where in an IOVA space the next mapping goes.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use vfnic_hw::IovaRange;

/// Device addresses begin here, so that a device that was told nothing (a base register of zero plus some offset) hits
/// no mapping of ours.
const LOWEST: u64 = 1 << 20;

/// Device addresses end here: the narrowest address width among common IOMMUs is 39 bits (ixgbevf.md §2.2).
const HIGHEST: u64 = (1 << 39) - 1;

/// First fit from the bottom, inside the ranges that the IOMMU reports.
///
/// Between any two allocations an unmapped page is left, so that a device that runs past the end of one area faults
/// instead of reaching the next.
#[derive(Debug)]
pub(crate) struct IovaAllocator {
    ranges: Vec<IovaRange>,
    /// Start to last address of what is taken, the page behind it included.
    taken: BTreeMap<u64, u64>,
    page: u64,
}

impl IovaAllocator {
    /// An allocator that knows no range yet; `page` is the IOMMU's page size, a power of two.
    pub(crate) fn new(page: u64) -> Self {
        Self {
            ranges: Vec::new(),
            taken: BTreeMap::new(),
            page,
        }
    }

    /// What may be used from now on; what is taken stays taken. Called again when a function joins the space, which
    /// can make the ranges smaller.
    pub(crate) fn set_ranges(&mut self, mut ranges: Vec<IovaRange>, page: u64) {
        ranges.retain(|range| range.start <= range.end);
        ranges.sort_unstable_by_key(|range| range.start);
        self.ranges = ranges;
        self.page = self.page.max(page);
    }

    pub(crate) fn ranges(&self) -> &[IovaRange] {
        &self.ranges
    }

    /// The ranges as text, for an error.
    pub(crate) fn describe(&self) -> String {
        let mut text = String::new();
        for range in &self.ranges {
            let separator = if text.is_empty() { "" } else { ", " };
            let _ = write!(text, "{separator}{:#x}-{:#x}", range.start, range.end);
        }
        if text.is_empty() {
            "none".clone_into(&mut text);
        }
        text
    }

    /// Takes `len` bytes at a multiple of `align` (a power of two).
    pub(crate) fn take(&mut self, len: u64, align: u64) -> Option<u64> {
        let align = align.max(self.page);
        let guarded = len
            .checked_next_multiple_of(self.page)?
            .checked_add(self.page)?;
        let start = self
            .ranges
            .iter()
            .find_map(|range| self.fit(range, len, guarded, align))?;
        self.taken.insert(start, last_of(start, guarded)?);
        Some(start)
    }

    /// Gives back what [`take`](Self::take) returned.
    pub(crate) fn give_back(&mut self, start: u64) {
        self.taken.remove(&start);
    }

    fn fit(&self, range: &IovaRange, len: u64, guarded: u64, align: u64) -> Option<u64> {
        let end = range.end.min(HIGHEST);
        let mut start = range.start.max(LOWEST).checked_next_multiple_of(align)?;
        loop {
            // The area must be inside the range; the page behind it only has to be nobody's.
            if last_of(start, len)? > end {
                return None;
            }
            let last = last_of(start, guarded)?;
            // Whatever begins at or below our last address and ends at or above our first one is in the way; entries
            // do not overlap, so the highest such entry is the one to look at.
            match self.taken.range(..=last).next_back() {
                Some((_, &taken_last)) if taken_last >= start => {
                    start = taken_last.checked_add(1)?.checked_next_multiple_of(align)?;
                }
                _ => return Some(start),
            }
        }
    }
}

/// Last address of `len` bytes from `start` on, if there are any.
fn last_of(start: u64, len: u64) -> Option<u64> {
    start.checked_add(len.checked_sub(1)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PAGE: u64 = 4096;
    const HUGE: u64 = 2 << 20;

    fn vtd() -> IovaAllocator {
        let mut allocator = IovaAllocator::new(PAGE);
        let low = IovaRange {
            start: 0,
            end: 0xfedf_ffff,
        };
        let high = IovaRange {
            start: 0xfef0_0000,
            end: (1 << 48) - 1,
        };
        allocator.set_ranges(vec![high, low], PAGE);
        allocator
    }

    #[test]
    fn starts_low_but_not_at_zero_and_leaves_a_page_between() {
        let mut allocator = vtd();
        assert_eq!(allocator.take(PAGE, PAGE), Some(LOWEST));
        assert_eq!(allocator.take(PAGE, PAGE), Some(LOWEST + 2 * PAGE));
        assert_eq!(allocator.take(3 * HUGE, HUGE), Some(HUGE));
        allocator.give_back(LOWEST);
        assert_eq!(allocator.take(PAGE, PAGE), Some(LOWEST), "first fit");
    }

    #[test]
    fn an_area_may_end_where_its_range_does() {
        let mut allocator = IovaAllocator::new(PAGE);
        let range = |end| vec![IovaRange { start: LOWEST, end }];
        allocator.set_ranges(range(LOWEST + 2 * PAGE - 2), PAGE);
        assert_eq!(allocator.take(2 * PAGE, PAGE), None);
        allocator.set_ranges(range(LOWEST + 2 * PAGE - 1), PAGE);
        assert_eq!(allocator.take(2 * PAGE, PAGE), Some(LOWEST));
        assert_eq!(allocator.take(1, PAGE), None);
    }

    #[test]
    fn h8_steps_over_the_interrupt_window_and_stops_at_39_bits() {
        let mut allocator = vtd();
        let big = 0xfe00_0000;
        assert_eq!(allocator.take(big, HUGE), Some(HUGE));
        let next = allocator.take(big, HUGE).unwrap();
        assert!(next >= 0xfef0_0000);
        assert_eq!(allocator.take(1 << 39, PAGE), None);
        assert_eq!(allocator.take(u64::MAX, PAGE), None);
    }

    #[test]
    fn h8_ranges_from_behind_to_before_are_none() {
        let mut allocator = IovaAllocator::new(PAGE);
        let range = |start, end| IovaRange { start, end };
        allocator.set_ranges(vec![range(9, 9), range(8, 7), range(2, 5)], PAGE);
        assert_eq!(allocator.ranges(), [range(2, 5), range(9, 9)]);
    }

    #[test]
    fn h8_without_ranges_there_is_no_room() {
        let mut allocator = IovaAllocator::new(PAGE);
        assert_eq!(allocator.take(PAGE, PAGE), None);
        assert_eq!(allocator.describe(), "none");
        assert_eq!(
            vtd().describe(),
            "0x0-0xfedfffff, 0xfef00000-0xffffffffffff"
        );
    }

    proptest! {
        /// Whatever is taken and given back in any order: inside a range, aligned, never overlapping, guard included.
        #[test]
        fn allocations_never_overlap(
            starts in prop::collection::btree_set(0u64..1 << 28, 1..6),
            ops in prop::collection::vec((any::<bool>(), 1u64..1 << 22, 0u32..10, any::<prop::sample::Index>()), 1..200),
        ) {
            let starts: Vec<_> = starts.into_iter().map(|start| start << 4).collect();
            let ranges: Vec<_> = starts
                .iter()
                .enumerate()
                .map(|(i, &start)| IovaRange { start, end: starts.get(i + 1).map_or(1 << 40, |next| next - 1) })
                .collect();
            let mut allocator = IovaAllocator::new(PAGE);
            allocator.set_ranges(ranges.clone(), PAGE);
            let mut live: Vec<(u64, u64)> = Vec::new();
            for (free, len, shift, index) in ops {
                if free && !live.is_empty() {
                    let (start, _) = live.swap_remove(index.index(live.len()));
                    allocator.give_back(start);
                    continue;
                }
                let align = PAGE << shift;
                let Some(start) = allocator.take(len, align) else { continue };
                let last = start + len - 1;
                prop_assert!(start >= LOWEST && last <= HIGHEST);
                prop_assert_eq!(start % align, 0);
                prop_assert!(ranges.iter().any(|range| range.start <= start && last <= range.end));
                for &(other, other_len) in &live {
                    let gap = if other < start { start - other.saturating_add(other_len).min(start) } else { other - (last + 1).min(other) };
                    prop_assert!(other > last || other + other_len <= start);
                    prop_assert!(gap >= PAGE, "{start:#x}+{len:#x} beside {other:#x}+{other_len:#x}");
                }
                live.push((start, len));
            }
            for (start, _) in live.drain(..) {
                allocator.give_back(start);
            }
            prop_assert!(allocator.taken.is_empty());
        }
    }
}
