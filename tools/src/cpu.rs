//! CPU time, of which a polling program uses all there is.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// CPU time used by the calling thread.
#[must_use]
pub fn of_this_thread() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// `used` as a share of `wall`, in percent of one core.
#[must_use]
pub fn percent(used: Duration, wall: Duration) -> f64 {
    if wall.is_zero() {
        return 0.0;
    }
    100.0 * used.as_secs_f64() / wall.as_secs_f64()
}
