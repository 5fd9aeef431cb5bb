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
}
