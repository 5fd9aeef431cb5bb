//! When a run is over: its time, its count, or a signal.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use serde::Serialize;
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use vfnic::QueueError;

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// Its time was up.
    Duration,
    /// It had done as much as it was told to.
    Count,
    /// SIGINT, SIGTERM or SIGHUP came.
    Signal,
    /// The device went away.
    Gone,
    /// What was to be written could not be.
    Failed,
}

impl End {
    /// What a look at devices, or a turn of their queues, says of the run: it is over when a device is gone.
    ///
    /// # Errors
    ///
    /// Whatever else the look came to.
    pub fn of<T>(look: Result<T, vfnic::Error>) -> anyhow::Result<Option<Self>> {
        match look {
            Ok(_) => Ok(None),
            Err(vfnic::Error::Gone { .. } | vfnic::Error::Queue(QueueError::Gone)) => {
                Ok(Some(Self::Gone))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// When a run is to end. A first SIGINT, SIGTERM or SIGHUP ends it in good order, with its report; a second one at once.
#[derive(Clone, Debug)]
pub struct Stop {
    signal: Arc<AtomicBool>,
    start: Instant,
    duration: Option<Duration>,
}

impl Stop {
    /// Catches signals from here on; `duration` counts from [`start`](Self::start).
    ///
    /// # Errors
    ///
    /// When signals cannot be caught.
    pub fn new(duration: Option<Duration>) -> anyhow::Result<Self> {
        let signal = Arc::new(AtomicBool::new(false));
        for number in [SIGINT, SIGTERM, SIGHUP] {
            // Under nohup a terminal that goes away is to be no reason to end.
            if number == SIGHUP && is_ignored(SIGHUP) {
                continue;
            }
            // In this order: the default action waits for a flag that only the second registration sets.
            flag::register_conditional_default(number, Arc::clone(&signal))
                .and_then(|_| flag::register(number, Arc::clone(&signal)))
                .with_context(|| format!("cannot catch signal {number}"))?;
        }
        Ok(Self {
            signal,
            start: Instant::now(),
            duration,
        })
    }

    /// Starts the time now.
    pub fn start(&mut self) {
        self.start = Instant::now();
    }

    /// Time since the start.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Why to end now, if there is a reason.
    #[must_use]
    pub fn due(&self) -> Option<End> {
        if self.signal.load(Ordering::Relaxed) {
            return Some(End::Signal);
        }
        let duration = self.duration?;
        (self.elapsed() >= duration).then_some(End::Duration)
    }

    /// Time left, at most `most`.
    #[must_use]
    pub fn left(&self, most: Duration) -> Duration {
        self.duration.map_or(most, |duration| {
            most.min(duration.saturating_sub(self.elapsed()))
        })
    }
}

/// Whether whoever started this process had it ignore a signal.
fn is_ignored(number: i32) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    has_signal(&status, "SigIgn:", number)
}

/// Whether the set of signals called `set` in a process's status has signal `number`.
pub(crate) fn has_signal(status: &str, set: &str, number: i32) -> bool {
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix(set))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok());
    // Signal 1 is bit 0.
    mask.is_some_and(|mask| mask >> (number - 1) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_of_signals_has_those_whose_bit_is_set() {
        let status = "SigIgn:\tffffffffffffffff\nSigCgt:\t0000000000004002\n";
        let caught = |number| has_signal(status, "SigCgt:", number);
        assert!(caught(15) && caught(2) && !caught(1) && !caught(16));
        assert!(!has_signal("", "SigCgt:", 15));
    }

    #[test]
    fn time_ends_a_run() {
        let mut stop = Stop::new(Some(Duration::from_millis(5))).expect("signals");
        stop.start();
        assert!(stop.left(Duration::from_secs(1)) <= Duration::from_millis(5));
        while stop.due().is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(stop.due(), Some(End::Duration));
        assert_eq!(stop.left(Duration::from_secs(1)), Duration::ZERO);
    }

    #[test]
    fn without_a_time_it_goes_on() {
        let stop = Stop::new(None).expect("signals");
        assert_eq!(stop.due(), None);
        assert_eq!(stop.left(Duration::from_secs(1)), Duration::from_secs(1));
    }
}
