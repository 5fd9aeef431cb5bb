//! Values as they come in during a run: all of them, second by second for the log, and by moments for a picture.

use std::path::Path;
use std::time::Duration;

use hdrhistogram::Histogram;

use super::HistogramLog;
use crate::traffic::latency_histogram;

/// Time that each histogram of the log covers.
const SECOND: Duration = Duration::from_secs(1);
/// Moments that a run of known length is divided into.
const MOMENTS: u32 = 100;
/// Shortest moment.
const SHORTEST: Duration = Duration::from_millis(20);

/// What a stretch of a run was like, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    /// Its end, since the start of the run.
    pub until: Duration,
    /// Values in it.
    pub count: u64,
    /// Their median.
    pub p50: u64,
    /// Their 99th percentile.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

/// Keeps the values of a run. Costs two passes over a histogram's counts for each moment, some 50 µs.
#[derive(Debug)]
pub struct Recorder {
    total: Histogram<u64>,
    /// The log, and what is to go into it next.
    log: Option<(HistogramLog, Histogram<u64>)>,
    next_log: Duration,
    moments: Vec<Moment>,
    every: Duration,
    next: Duration,
}

impl Recorder {
    /// A recorder that has nothing. With `log`, the file is begun; `comment` says what is measured. `duration` is that of the
    /// run, if it is known and somebody wants the moments.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn new(
        log: Option<&Path>,
        comment: &str,
        duration: Option<Duration>,
    ) -> anyhow::Result<Self> {
        let log = log
            .map(|path| HistogramLog::create(path, comment))
            .transpose()?;
        let every = duration.map_or(SECOND, |duration| {
            (duration / MOMENTS).clamp(SHORTEST, SECOND)
        });
        Ok(Self {
            total: latency_histogram(),
            log: log.map(|log| (log, latency_histogram())),
            next_log: SECOND,
            moments: Vec::new(),
            every,
            next: every,
        })
    }

    /// Whether it is time for what came since the last time.
    #[must_use]
    pub fn is_due(&self, now: Duration) -> bool {
        now >= self.next
    }

    /// Takes what came since the last time.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn take(&mut self, values: &Histogram<u64>, now: Duration) -> anyhow::Result<()> {
        // All have the same bounds.
        let _ = self.total.add(values);
        self.moments.push(Moment {
            until: now,
            count: values.len(),
            p50: values.value_at_quantile(0.5),
            p99: values.value_at_quantile(0.99),
            max: values.max(),
        });
        // A run that stood still does not catch up on moments.
        self.next = (self.next + self.every).max(now);
        if let Some((_, second)) = &mut self.log {
            let _ = second.add(values);
        }
        if now >= self.next_log {
            self.next_log += SECOND;
            self.write_log(now)?;
        }
        Ok(())
    }

    /// Takes the last values of the run.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn finish(&mut self, values: &Histogram<u64>, now: Duration) -> anyhow::Result<()> {
        self.take(values, now)?;
        self.write_log(now)
    }

    fn write_log(&mut self, now: Duration) -> anyhow::Result<()> {
        if let Some((log, second)) = &mut self.log
            && !second.is_empty()
        {
            log.interval(second, now)?;
            second.reset();
        }
        Ok(())
    }

    /// All values.
    #[must_use]
    pub const fn total(&self) -> &Histogram<u64> {
        &self.total
    }

    /// The moments, first to last.
    #[must_use]
    pub fn moments(&self) -> &[Moment] {
        &self.moments
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(value: u64) -> Histogram<u64> {
        let mut histogram = latency_histogram();
        histogram.saturating_record(value);
        histogram
    }

    #[test]
    fn moments_follow_the_length_of_a_run() {
        let millis = Duration::from_millis;
        for (duration, first) in [(None, 1000), (Some(5000), 50), (Some(10), 20)] {
            let recorder = Recorder::new(None, "", duration.map(millis)).expect("no file");
            assert!(!recorder.is_due(millis(first - 1)), "{duration:?}");
            assert!(recorder.is_due(millis(first)), "{duration:?}");
        }
    }

    #[test]
    fn nothing_is_lost_on_the_way_to_the_total() {
        let mut recorder = Recorder::new(None, "", Some(Duration::from_secs(1))).expect("no file");
        let mut now = Duration::ZERO;
        for value in 1..=10 {
            now += Duration::from_millis(20);
            recorder.take(&one(value), now).expect("no file");
        }
        recorder.finish(&one(1000), now).expect("no file");
        assert_eq!(recorder.total().len(), 11);
        assert_eq!(recorder.moments().len(), 11);
        assert_eq!(recorder.moments()[3].p50, 4);
        assert_eq!(recorder.moments()[10].max, 1000);
    }
}
