//! What a queue can be used for: sending, forwarding, checking. Each is one step of a loop that somebody else drives,
//! never blocks, and works a batch at a time.

mod forwarder;
mod sink;
mod source;

use std::time::Instant;

pub use forwarder::Forwarder;
pub use sink::Sink;
pub use source::Source;

/// How a VLAN tag comes onto a frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tagging {
    /// Not at all.
    #[default]
    None,
    /// In the frame's bytes; the value is the tag control information: priority and VLAN.
    Frame(u16),
    /// The hardware is asked to insert it.
    Hardware(u16),
}

/// Frames a role handles in one step.
pub const BURST: usize = 32;

/// The clock of a run: nanoseconds since it began, the same for all its threads.
#[derive(Clone, Copy, Debug)]
pub struct RunClock(Instant);

impl RunClock {
    /// A clock that reads 0 now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    #[inline]
    #[must_use]
    pub fn now(&self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The instant `nanoseconds` after the start.
    #[must_use]
    pub fn instant(&self, nanoseconds: u64) -> Instant {
        self.0 + std::time::Duration::from_nanos(nanoseconds)
    }
}
