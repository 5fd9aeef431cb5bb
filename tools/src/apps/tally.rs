//! Rates, for the live line and the report.

use std::time::Duration;

/// `count` events in `time`, per second.
#[must_use]
#[expect(clippy::cast_precision_loss, reason = "a rate for people")]
pub fn per_second(count: u64, time: Duration) -> f64 {
    if time.is_zero() {
        return 0.0;
    }
    count as f64 / time.as_secs_f64()
}

/// `value` to `decimals`, so that JSON has no noise.
#[must_use]
pub fn round(value: f64, decimals: i32) -> f64 {
    let scale = 10f64.powi(decimals);
    (value * scale).round() / scale
}

/// Rate of a counter since the last look.
#[derive(Clone, Copy, Debug, Default)]
pub struct Meter {
    at: Duration,
    count: u64,
}

impl Meter {
    /// Events a second between the last call and this one, at `now` since the start of the run.
    pub fn rate(&mut self, now: Duration, count: u64) -> f64 {
        let rate = per_second(
            count.saturating_sub(self.count),
            now.saturating_sub(self.at),
        );
        *self = Self { at: now, count };
        rate
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rate_is_of_the_time_since_the_last_look() {
        let mut meter = Meter::default();
        let seconds = Duration::from_secs;
        assert_eq!(round(meter.rate(seconds(2), 10), 3), 5.0);
        assert_eq!(round(meter.rate(seconds(3), 10), 3), 0.0);
        assert_eq!(
            round(meter.rate(seconds(3), 20), 3),
            0.0,
            "no time, no rate"
        );
        assert_eq!(round(meter.rate(seconds(4), 21), 3), 1.0);
    }
}
