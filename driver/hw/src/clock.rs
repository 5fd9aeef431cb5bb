//! Time as an argument, so that resets and timeouts are instant in tests.

use std::fmt;
use std::time::{Duration, Instant};

/// A monotonic clock that can also wait.
pub trait Clock: Send + Sync + fmt::Debug {
    /// Time since a fixed but arbitrary start.
    fn now(&self) -> Duration;
    /// Waits at least `time`. A virtual clock moves itself, and whatever hangs on it, forward instead of waiting.
    fn sleep(&self, time: Duration);
}

/// The machine's monotonic clock.
#[derive(Debug)]
pub struct RealClock {
    start: Instant,
}

impl RealClock {
    /// A clock whose zero is now.
    #[must_use]
    pub fn new() -> Self {
        Self {
            start: Instant::now(),
        }
    }
}

impl Default for RealClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for RealClock {
    fn now(&self) -> Duration {
        self.start.elapsed()
    }
    fn sleep(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

/// A moment of the machine's time by which another process must have answered. A virtual clock has none: who waits for
/// a process waits for real.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Deadline(Instant);

impl Deadline {
    /// So long from now on; what is too long to be told ends after a hundred years.
    #[must_use]
    pub fn after(time: Duration) -> Self {
        const LONGEST: Duration = Duration::from_secs(100 * 365 * 86_400);
        let now = Instant::now();
        let end = now.checked_add(time.min(LONGEST));
        Self(end.unwrap_or(now))
    }

    /// What is left until then; zero from then on.
    #[must_use]
    pub fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    /// Whether it is past.
    #[must_use]
    pub fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_clock_begins_at_nothing_and_goes_on_while_one_sleeps() {
        let clock = RealClock::default();
        let begin = clock.now();
        clock.sleep(Duration::from_millis(2));
        assert!(clock.now() - begin >= Duration::from_millis(2));
    }

    #[test]
    fn a_deadline_may_be_far_away_or_past() {
        let year = Duration::from_secs(365 * 86_400);
        assert!(Deadline::after(Duration::MAX).left() > 99 * year);
        assert!(!Deadline::after(year).is_over());
        assert!(Deadline::after(Duration::ZERO).is_over());
    }
}
