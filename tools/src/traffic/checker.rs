//! The receiving end: every frame is one of ours and intact, or it is counted for what it is.

use hdrhistogram::Histogram;
use serde::Serialize;

use super::frame::{self, Parsed};
use super::sequence::{Arrival, SequenceTracker};

/// Longest latency told apart, in nanoseconds; anything longer counts as this long.
const LONGEST: u64 = 60_000_000_000;
/// Significant decimal digits of recorded latencies.
const DIGITS: u8 = 3;

/// A histogram of latencies in nanoseconds, from 1 ns to a minute to three digits.
#[must_use]
pub fn latency_histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, LONGEST, DIGITS).expect("constant bounds that the library takes")
}

/// What to expect.
#[derive(Clone, Copy, Debug)]
pub struct CheckerConfig {
    /// The run's seed; frames of another run are foreign.
    pub seed: u64,
    /// First flow this checker follows.
    pub first_flow: u16,
    /// Flows it follows.
    pub flows: u16,
    /// Whether nobody else sends here, so that a frame that is not recognisably ours must be a damaged one.
    pub private: bool,
}

/// Counts of what arrived, all since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// Distinct intact frames.
    pub received: u64,
    /// Their bytes, CRC not included.
    pub bytes: u64,
    /// Intact frames that had come before.
    pub duplicated: u64,
    /// Frames among `received` that came after a later one of their flow.
    pub reordered: u64,
    /// Frames of ours that are damaged.
    pub corrupted: u64,
    /// Frames of somebody else, or of another run.
    pub foreign: u64,
}

impl std::ops::AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.received += other.received;
        self.bytes += other.bytes;
        self.duplicated += other.duplicated;
        self.reordered += other.reordered;
        self.corrupted += other.corrupted;
        self.foreign += other.foreign;
    }
}

/// Checks the frames of some flows and records their latencies.
#[derive(Debug)]
pub struct Checker {
    config: CheckerConfig,
    seed: u16,
    flows: Vec<SequenceTracker>,
    tally: Tally,
    latency: Histogram<u64>,
    /// Frames with the same latency, not recorded yet: those of one batch often left together.
    run: (u64, u64),
}

impl Checker {
    /// A checker to which nothing has arrived.
    #[must_use]
    pub fn new(config: CheckerConfig) -> Self {
        Self {
            config,
            #[expect(clippy::cast_possible_truncation, reason = "frames carry 16 bits")]
            seed: config.seed as u16,
            flows: vec![SequenceTracker::default(); usize::from(config.flows)],
            tally: Tally::default(),
            latency: latency_histogram(),
            run: (0, 0),
        }
    }

    /// Takes one frame into account: its bytes in one piece, without CRC, and the time of its arrival, nanoseconds of
    /// the clock that the sender stamps with. Returns whether it is intact and new.
    #[inline]
    pub fn frame(&mut self, bytes: &[u8], now: u64) -> bool {
        let stamp = match frame::parse(bytes) {
            Parsed::Stamped(stamp) if stamp.seed == self.seed => stamp,
            other => {
                self.not_ours(other);
                return false;
            }
        };
        let index = usize::from(stamp.flow.wrapping_sub(self.config.first_flow));
        let Some(flow) = self.flows.get_mut(index) else {
            self.not_ours(Parsed::Foreign);
            return false;
        };
        match flow.arrive(stamp.full_sequence(flow.next())) {
            Arrival::InOrder => {}
            Arrival::Late => self.tally.reordered += 1,
            Arrival::Duplicate => {
                self.tally.duplicated += 1;
                return false;
            }
        }
        self.tally.received += 1;
        self.tally.bytes += bytes.len() as u64;
        let latency = stamp.age(now);
        if latency == self.run.0 {
            self.run.1 += 1;
        } else {
            self.flush();
            self.run = (latency, 1);
        }
        true
    }

    /// Takes a frame into account that is known to be damaged.
    pub const fn damaged(&mut self) {
        self.tally.corrupted += 1;
    }

    /// Counts so far.
    #[must_use]
    pub const fn tally(&self) -> Tally {
        self.tally
    }

    /// Frames not seen so far, up to the last seen of each flow; damaged ones are among them.
    #[must_use]
    pub fn missing(&self) -> u64 {
        self.flows.iter().map(SequenceTracker::missing).sum()
    }

    /// Hands out the latencies recorded since the last call and goes on with `fresh`, which should be empty.
    pub fn swap_latencies(&mut self, fresh: Histogram<u64>) -> Histogram<u64> {
        self.flush();
        std::mem::replace(&mut self.latency, fresh)
    }

    /// Ends the count: `sent` says how many frames of a flow were sent. Returns how many are lost: never arrived, not
    /// even damaged.
    pub fn close(&mut self, sent: impl Fn(u16) -> u64) -> u64 {
        for (flow, number) in self.flows.iter_mut().zip(self.config.first_flow..) {
            flow.close(sent(number));
        }
        self.missing().saturating_sub(self.tally.corrupted)
    }

    #[inline]
    fn flush(&mut self) {
        let (latency, count) = self.run;
        if count > 0 {
            // Beyond the bounds it is clamped, so this cannot fail.
            let _ = self.latency.record_n(latency.clamp(1, LONGEST), count);
            self.run.1 = 0;
        }
    }

    #[cold]
    fn not_ours(&mut self, parsed: Parsed) {
        if self.config.private || parsed == Parsed::Corrupt {
            self.tally.corrupted += 1;
        } else {
            self.tally.foreign += 1;
        }
    }
}

#[cfg(test)]
#[path = "checker_tests.rs"]
mod tests;
