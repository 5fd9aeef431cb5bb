//! From ticks of the time-stamp counter to core cycles and nanoseconds.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts far below 2^52 become means"
)]

use std::hint::black_box;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use vfnic_ring::measure;

/// Ticks between two reads with nothing in between.
pub(super) fn overhead() -> u64 {
    (0..1000)
        .map(|_| {
            let start = measure::ticks_start();
            measure::ticks_end() - start
        })
        .min()
        .unwrap_or(0)
}

/// Ticks a core cycle takes right now, by a chain of dependent additions.
pub(super) fn ticks_per_cycle() -> f64 {
    const ADDS: u64 = 16_000;
    let once = || {
        let start = measure::ticks_start();
        black_box(measure::dependent_adds(ADDS));
        measure::ticks_end() - start
    };
    (0..5).map(|_| once()).min().unwrap_or(ADDS) as f64 / ADDS as f64
}

/// Nanoseconds a tick takes, measured once.
pub(super) fn ns_per_tick() -> f64 {
    static RATE: OnceLock<f64> = OnceLock::new();
    *RATE.get_or_init(|| {
        let (start, ticks) = (Instant::now(), measure::ticks_start());
        while start.elapsed() < Duration::from_millis(20) {}
        let ticks = measure::ticks_end() - ticks;
        start.elapsed().as_nanos() as f64 / ticks as f64
    })
}

/// The mean of the middle half: steadies a counter that moves in steps, and leaves interruptions out.
pub(super) fn interquartile_mean(ticks: &mut [u64]) -> f64 {
    ticks.sort_unstable();
    let quarter = ticks.len() / 4;
    let middle = &ticks[quarter..ticks.len() - quarter];
    middle.iter().sum::<u64>() as f64 / middle.len().max(1) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_middle_half_counts_and_what_interrupts_does_not() {
        let mut ticks = [10, 12, 11, 900_000, 10, 12, 11, 0];
        assert_eq!(interquartile_mean(&mut ticks), 11.0);
        assert_eq!(interquartile_mean(&mut [7]), 7.0);
        assert!(ticks_per_cycle() > 0.0 && ns_per_tick() > 0.0);
    }
}
