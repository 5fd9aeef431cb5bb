//! When frames really left.

use hdrhistogram::Histogram;

use super::feed::Feed;
use crate::output::nanoseconds;
use crate::traffic::latency_histogram;

/// Gaps between departures, and how late those were.
#[derive(Debug)]
pub(super) struct Timing {
    /// Gaps since they were last taken.
    gaps: Histogram<u64>,
    pub(super) lateness: Histogram<u64>,
    first: Option<u64>,
    last: u64,
    bursts: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            gaps: latency_histogram(),
            lateness: latency_histogram(),
            first: None,
            last: 0,
            bursts: 0,
        }
    }
}

impl Timing {
    /// Takes a burst of `frames` into account that the card was told of at `now`, all at once.
    #[inline]
    pub(super) fn departed(&mut self, frames: usize, now: u64, feed: &mut Feed) {
        if frames == 0 {
            return;
        }
        if self.first.is_some() {
            self.gaps.saturating_record((now - self.last).max(1));
        } else {
            self.first = Some(now);
        }
        // Nobody can tell the frames of a burst apart: the card sends them back to back.
        self.gaps.saturating_record_n(0, frames as u64 - 1);
        self.last = now;
        self.bursts += 1;
        for _ in 0..frames {
            let Some(due) = feed.due_of_sent() else { break };
            self.lateness.saturating_record(now.saturating_sub(due));
        }
    }

    /// The gaps since the last call.
    pub(super) fn take_gaps(&mut self) -> Histogram<u64> {
        std::mem::replace(&mut self.gaps, latency_histogram())
    }

    /// Nanoseconds from the first departure to the last.
    pub(super) fn span(&self) -> u64 {
        self.first.map_or(0, |first| self.last - first)
    }

    /// Times the card was told.
    pub(super) const fn bursts(&self) -> u64 {
        self.bursts
    }

    /// For the live line.
    pub(super) fn line(&self) -> String {
        if self.lateness.is_empty() {
            return String::new();
        }
        format!(
            "late p50 {} p99 {}",
            nanoseconds(self.lateness.value_at_quantile(0.5)),
            nanoseconds(self.lateness.value_at_quantile(0.99))
        )
    }
}
