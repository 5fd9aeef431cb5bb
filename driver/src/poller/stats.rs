//! What goes into a poller and what comes out of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use vfnic_hw::Event;

/// How a [`Poller`](super::Poller) waits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum PollMode {
    /// Looks all the time: shortest latency, a whole CPU.
    Poll,
    /// Sleeps whenever nothing is there: a wake-up for nearly every burst.
    Interrupt,
    /// Looks for a learned time before it sleeps: busy it polls, idle it costs nothing.
    #[default]
    Adaptive,
}

/// Why [`Poller::turn`](super::Poller::turn) came back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Woken {
    /// Frames moved.
    Work,
    /// The time was over.
    Deadline,
    /// A [`Waker`] was used, or a watched fd became readable.
    External,
}

/// What a turn brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    /// Frames that the work moved, by its own account.
    pub frames: usize,
    /// Why it came back.
    pub woken: Woken,
}

/// How a poller has spent its time; counts from its making.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PollerStats {
    /// Times it slept and was woken, or the time was over.
    pub wakeups: u64,
    /// Wake-ups by a message vector when there was nothing to do.
    pub spurious: u64,
    /// Times it found work after half a second of sleep that no vector had told of: lost interrupts.
    pub missed: u64,
    /// Nanoseconds of looking in vain before it slept or found something.
    pub spin_ns: u64,
    /// Nanoseconds asleep.
    pub sleep_ns: u64,
}

/// Wakes a poller from any thread. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Waker {
    pub(super) event: Event,
    pub(super) flag: Arc<AtomicBool>,
}

impl Waker {
    /// Has the poller come back from [`turn`](super::Poller::turn) as soon as it can. Wakes that come before it does
    /// count as one.
    pub fn wake(&self) {
        // ORDERING: pairs with the Acquire in `Poller::was_called`: what was written before is seen after.
        self.flag.store(true, Ordering::Release);
        self.event.signal();
    }
}
