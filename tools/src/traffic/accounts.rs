//! Whether everything that was sent is accounted for.

use std::collections::BTreeMap;

use serde::Serialize;

use super::Tally;

/// What became of the frames of a run: `sent` = `received` + `corrupted` + `lost`, and whatever was lost should have a
/// name among `drops`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Accounts {
    /// Frames that the sending queues took.
    pub sent: u64,
    /// Distinct frames that arrived intact.
    pub received: u64,
    /// Frames that never arrived, not even damaged.
    pub lost: u64,
    /// Frames that arrived once more than they should.
    pub duplicated: u64,
    /// Frames that arrived after a later one of their flow; they are not lost.
    pub reordered: u64,
    /// Frames that arrived damaged; they are not lost.
    pub corrupted: u64,
    /// Frames that somebody owns to have dropped, by reason.
    pub drops: BTreeMap<String, u64>,
    /// Lost frames that nobody owns to; negative when more is owned to than is missing.
    pub unaccounted: i64,
}

impl Accounts {
    /// Closes the books. `drops` with a count of 0 are left out.
    #[must_use]
    pub fn new(
        sent: u64,
        lost: u64,
        tally: &Tally,
        drops: impl IntoIterator<Item = (String, u64)>,
    ) -> Self {
        let mut named = BTreeMap::new();
        for (reason, count) in drops.into_iter().filter(|(_, count)| *count > 0) {
            *named.entry(reason).or_default() += count;
        }
        let owned: u64 = named.values().sum();
        Self {
            sent,
            received: tally.received,
            lost,
            duplicated: tally.duplicated,
            reordered: tally.reordered,
            corrupted: tally.corrupted,
            unaccounted: lost.cast_signed().wrapping_sub(owned.cast_signed()),
            drops: named,
        }
    }

    /// Whether the path did what a path may do: deliver each frame once, or drop it and say why.
    #[must_use]
    pub const fn balanced(&self) -> bool {
        self.unaccounted == 0 && self.duplicated == 0 && self.corrupted == 0
    }

    /// Whether every frame arrived, once, in order and intact.
    #[must_use]
    pub const fn flawless(&self) -> bool {
        self.balanced() && self.lost == 0 && self.reordered == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_drop_with_a_name_is_accounted_for() {
        let tally = Tally {
            received: 97,
            ..Tally::default()
        };
        let drops = || [("full".to_owned(), 2), ("none".to_owned(), 0)];
        let short = Accounts::new(100, 3, &tally, drops());
        assert_eq!((short.unaccounted, short.balanced()), (1, false));
        assert_eq!(short.drops.len(), 1);
        let whole = Accounts::new(
            100,
            3,
            &tally,
            drops().into_iter().chain([("late".to_owned(), 1)]),
        );
        assert!(whole.balanced() && !whole.flawless());
        let too_much = Accounts::new(100, 0, &tally, drops());
        assert_eq!((too_much.unaccounted, too_much.balanced()), (-2, false));
    }
}
