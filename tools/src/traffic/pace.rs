//! When frames leave.

use std::fmt;
use std::num::NonZeroU64;
use std::str::FromStr;

/// How fast to send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rate {
    /// As fast as the other side takes it.
    Max,
    /// Frames per second, on a fixed schedule.
    PerSecond(NonZeroU64),
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Max => f.write_str("max"),
            Self::PerSecond(rate) => write!(f, "{rate}"),
        }
    }
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.eq_ignore_ascii_case("max") {
            return Ok(Self::Max);
        }
        let (digits, unit) = match text.char_indices().last() {
            Some((at, 'k' | 'K')) => (&text[..at], 1e3),
            Some((at, 'm' | 'M')) => (&text[..at], 1e6),
            _ => (text, 1.0),
        };
        // No port of these models sends more than 10 Gbit/s of 64-byte frames; 10^9 leaves room for any simulator.
        let rate = digits.parse::<f64>().map_or(0.0, |value| value * unit);
        if !(1.0..=1e9).contains(&rate) {
            return Err(format!(
                "`{text}` is neither `max` nor a rate in frames per second from 1 to 1000M, such as 14880952, 250k or 1.5M"
            ));
        }
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the range was checked"
        )]
        let rate = rate.round() as u64;
        NonZeroU64::new(rate)
            .map(Self::PerSecond)
            .ok_or_else(|| format!("`{text}`: a rate of zero sends nothing"))
    }
}

/// A schedule of departures at equal distances, kept whatever the sender does: a frame that leaves late keeps the
/// time at which it should have left, so its latency includes the wait (no coordinated omission).
#[derive(Clone, Debug)]
pub struct Pacer {
    /// Next departure, whole nanoseconds.
    next: u64,
    /// The same, fraction in 2^-32 ns.
    fraction: u32,
    /// Distance in 2^-32 ns.
    step: u64,
}

impl Pacer {
    /// A schedule that starts at `start`, nanoseconds of the caller's clock.
    #[must_use]
    pub fn new(rate: NonZeroU64, start: u64) -> Self {
        Self {
            next: start,
            fraction: 0,
            step: (1_000_000_000u64 << 32) / rate,
        }
    }

    /// The next departure, whether it is due or not.
    #[must_use]
    pub const fn next(&self) -> u64 {
        self.next
    }

    /// Frames due at `now` and not taken yet, at most `limit`.
    #[must_use]
    pub fn due(&self, now: u64, limit: usize) -> usize {
        if now < self.next {
            return 0;
        }
        let behind = (u128::from(now - self.next) << 32) | u128::from(!self.fraction);
        let count = behind / u128::from(self.step.max(1)) + 1;
        usize::try_from(count).unwrap_or(usize::MAX).min(limit)
    }

    /// Takes the next departure.
    pub fn take(&mut self) -> u64 {
        let departure = self.next;
        let low = u64::from(self.fraction) + (self.step & 0xFFFF_FFFF);
        self.next += (self.step >> 32) + (low >> 32);
        #[expect(clippy::cast_possible_truncation, reason = "the low half is meant")]
        {
            self.fraction = low as u32;
        }
        departure
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn rates_have_units() {
        let rate = |text: &str| text.parse::<Rate>().ok();
        let per_second = |n| NonZeroU64::new(n).map(Rate::PerSecond);
        assert_eq!(rate("max"), Some(Rate::Max));
        assert_eq!(rate("1000"), per_second(1000));
        assert_eq!(rate("250k"), per_second(250_000));
        assert_eq!(rate("1.5M"), per_second(1_500_000));
        for bad in ["", "0", "-1", "k", "1e12", "NaN", "inf", "fast", "1.5G"] {
            assert_eq!(rate(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_late_sender_keeps_the_schedule() {
        let mut pacer = Pacer::new(NonZeroU64::new(1_000_000).expect("not zero"), 500);
        assert_eq!(pacer.due(499, 32), 0);
        assert_eq!(pacer.due(500, 32), 1);
        // Ten microseconds late: eleven are due, and each carries its own time.
        assert_eq!(pacer.due(10_500, 32), 11);
        let times: Vec<u64> = (0..11).map(|_| pacer.take()).collect();
        assert_eq!(times[0], 500);
        assert_eq!(times[10], 10_500);
        assert_eq!(pacer.due(10_500, 32), 0);
    }

    proptest! {
        #[test]
        fn the_rate_holds_to_a_nanosecond(rate in 1u64..1_000_000_000, count in 1u64..5000) {
            let mut pacer = Pacer::new(NonZeroU64::new(rate).expect("not zero"), 0);
            for _ in 0..count {
                pacer.take();
            }
            let exact = u128::from(count) * 1_000_000_000 / u128::from(rate);
            prop_assert!(u128::from(pacer.next()).abs_diff(exact) <= 1);
        }

        #[test]
        fn as_many_are_due_as_can_be_taken(rate in 1u64..1_000_000_000, now in 0u64..1_000_000) {
            let mut pacer = Pacer::new(NonZeroU64::new(rate).expect("not zero"), 0);
            let due = pacer.due(now, 100_000);
            for _ in 0..due {
                prop_assert!(pacer.take() <= now);
            }
            prop_assert!(due == 100_000 || pacer.next() > now);
        }
    }
}
