//! How long to look before sleeping.
//!
//! Sleeping and being woken costs some microseconds of CPU time and more of latency; looking costs CPU time for as
//! long as it lasts. What pays depends on how soon the next frame comes, so that is learnt: time is doubled when a
//! frame came while looking, or came so soon after falling asleep that looking would have caught it, and halved when
//! looking was in vain.

use std::time::Duration;

/// Longest time to look: about what a sleep and a wake-up cost together on a busy machine.
const MOST: Duration = Duration::from_micros(50);
/// Shorter is not worth the clock reads.
const LEAST: Duration = Duration::from_micros(2);

/// The learned time.
#[derive(Debug, Default)]
pub(crate) struct Spin {
    time: Duration,
}

impl Spin {
    /// Time to look for.
    pub(crate) const fn time(&self) -> Duration {
        self.time
    }

    /// A frame came after `waited` of looking.
    pub(crate) fn paid(&mut self, waited: Duration) {
        self.time = self.time.max(waited.saturating_mul(2)).clamp(LEAST, MOST);
    }

    /// None came.
    pub(crate) fn in_vain(&mut self) {
        self.time = self.time.checked_div(2).unwrap_or_default();
        if self.time < LEAST {
            self.time = Duration::ZERO;
        }
    }

    /// A wake-up brought nothing, after `slept` of sleep. Where such come one upon the other, looking is cheaper than being
    /// woken for each.
    pub(crate) fn disturbed(&mut self, slept: Duration) {
        if slept < MOST {
            self.time = MOST;
        }
    }

    /// Having slept for `slept`, a frame was there.
    pub(crate) fn slept(&mut self, slept: Duration) {
        if slept < MOST {
            self.paid(slept);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn silence_ends_looking_and_frames_bring_it_back() {
        let mut spin = Spin::default();
        assert_eq!(spin.time(), Duration::ZERO, "nothing is known: sleep");
        spin.slept(Duration::from_micros(20));
        assert_eq!(spin.time(), Duration::from_micros(40));
        spin.paid(Duration::from_micros(5));
        assert_eq!(
            spin.time(),
            Duration::from_micros(40),
            "no less than it was"
        );
        for _ in 0..10 {
            spin.in_vain();
        }
        assert_eq!(spin.time(), Duration::ZERO);
        spin.slept(Duration::from_millis(5));
        assert_eq!(
            spin.time(),
            Duration::ZERO,
            "frames that far apart do not pay"
        );
    }

    #[test]
    fn n3_a_storm_of_interrupts_is_looked_through_and_a_single_one_is_not() {
        let mut spin = Spin::default();
        spin.disturbed(Duration::from_millis(3));
        assert_eq!(spin.time(), Duration::ZERO, "one in a while");
        for _ in 0..3 {
            spin.disturbed(Duration::from_micros(1));
            assert_eq!(spin.time(), MOST, "a wake-up in 50 us, not one in 1");
            spin.in_vain();
        }
    }
}
