//! What bursts cost, by the processor's clock around each of them.

use std::time::{Duration, Instant};

use serde::Serialize;
use vfnic_ring::measure;

/// Time spent in bursts, apart by whether they had frames.
#[derive(Debug)]
pub(super) struct Busy {
    full: Spent,
    empty: Spent,
    /// The two clocks at the start: how long a tick is comes out at the end.
    start: (Instant, u64),
}

#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    bursts: u64,
    frames: u64,
    ticks: u64,
}

/// What came of it, as `--json` prints it.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Cost {
    /// Nanoseconds per frame, in bursts that had any.
    pub(super) busy_ns: f64,
    /// Frames in such a burst.
    pub(super) busy_burst: f64,
    /// Nanoseconds of a look that found nothing.
    pub(super) empty_ns: f64,
    /// Such looks.
    pub(super) empty_polls: u64,
}

impl Busy {
    pub(super) fn start() -> Self {
        Self {
            full: Spent::default(),
            empty: Spent::default(),
            start: (Instant::now(), measure::ticks_start()),
        }
    }

    /// Runs one burst, which says how many frames it moved.
    #[inline]
    pub(super) fn burst<E>(
        &mut self,
        burst: impl FnOnce() -> Result<usize, E>,
    ) -> Result<usize, E> {
        let start = measure::ticks_start();
        let moved = burst()?;
        let ticks = measure::ticks_end().saturating_sub(start);
        let spent = if moved > 0 {
            &mut self.full
        } else {
            &mut self.empty
        };
        spent.bursts += 1;
        spent.frames += moved as u64;
        spent.ticks += ticks;
        Ok(moved)
    }

    /// What it came to by now.
    pub(super) fn cost(&self) -> Cost {
        let ticks = measure::ticks_end().saturating_sub(self.start.1);
        let tick = self
            .start
            .0
            .elapsed()
            .max(Duration::from_nanos(1))
            .as_nanos() as f64
            / ticks.max(1) as f64;
        let per = |total: u64, count: u64| total as f64 / count.max(1) as f64;
        Cost {
            busy_ns: per(self.full.ticks, self.full.frames) * tick,
            busy_burst: per(self.full.frames, self.full.bursts),
            empty_ns: per(self.empty.ticks, self.empty.bursts) * tick,
            empty_polls: self.empty.bursts,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bursts_with_and_without_frames_are_kept_apart() {
        let mut busy = Busy::start();
        for frames in [32, 0, 16, 0, 0] {
            let moved = busy.burst(|| Ok::<_, ()>(frames));
            assert_eq!(moved, Ok(frames));
        }
        assert_eq!(busy.burst(|| Err(7)), Err(7), "errors are passed on");
        let long = Duration::from_millis(5);
        assert_eq!(
            busy.burst(|| {
                std::thread::sleep(long);
                Ok::<_, ()>(0)
            }),
            Ok(0)
        );
        let cost = busy.cost();
        assert_eq!((cost.busy_burst, cost.empty_polls), (24.0, 4));
        assert!(
            cost.empty_ns * 4.0 >= 0.9 * long.as_nanos() as f64,
            "{cost:?}"
        );
        assert!(cost.busy_ns < cost.empty_ns, "{cost:?}");
    }
}
