//! The clock that processes of one machine share.

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock. A generator stamps frames with it, so that a sink in another process of
/// the same machine knows how long they took.
#[inline]
#[must_use]
pub fn monotonic() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}
