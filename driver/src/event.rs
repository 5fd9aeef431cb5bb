//! What a port tells its owner: a short queue of events, and an eventfd for pollers.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// Something happened to a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The link came up, or its speed changed.
    LinkUp {
        /// Megabits per second; 0 when the hardware shows a reserved code.
        mbps: u32,
    },
    /// The link went down, or the administrator switched it off.
    LinkDown,
    /// The PF was reset, or forgot this VF, or somebody else reset the VF. Traffic stands still; the port recovers by itself.
    PfReset,
    /// Traffic runs again, with everything configured as before. Each queue comes back when it is next used: its
    /// buffers are its thread's, and nobody else touches them.
    Recovered {
        /// From noticing the reset to the VF being ready for its queues.
        took: Duration,
    },
    /// The PF gave the VF another address; see [`Port::mac`](crate::Port::mac).
    MacChanged,
    /// After a recovery the PF no longer grants something it granted before; see
    /// [`Port::lost_settings`](crate::Port::lost_settings).
    SettingsLost,
    /// The administrator wants the device back: drop the port soon.
    RemovalRequested,
    /// The bus reported an uncorrectable error. The port resets the VF.
    BusError,
    /// Message vectors were asked for and the kernel, or the function, refused them: queues are looked at by time, which
    /// costs CPU time and some 100 µs of latency. Everything else works.
    NoInterrupts,
    /// A transmit queue with frames in it did not move although the link is up; the port resets the VF.
    TxHang,
    /// The device is gone for good. Drop the port.
    Gone,
}

/// More than an owner who looks now and then will ever find; link changes of one that never looks are merged before
/// that.
const MOST: usize = 256;

/// Events not yet fetched.
#[derive(Debug)]
pub(crate) struct EventQueue {
    queue: Mutex<VecDeque<Event>>,
    signal: vfnic_hw::Event,
}

impl EventQueue {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            queue: Mutex::new(VecDeque::new()),
            signal: vfnic_hw::Event::new()?,
        })
    }

    /// Adds an event. A full queue loses its oldest event that a later one supersedes, so the last word on the link
    /// and every removal are always there.
    pub(crate) fn push(&self, event: Event) {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        if queue.len() >= MOST {
            let superseded = queue
                .iter()
                .position(|old| !matches!(old, Event::RemovalRequested | Event::Gone))
                .unwrap_or(0);
            queue.remove(superseded);
        }
        queue.push_back(event);
        drop(queue);
        self.signal.signal();
    }

    pub(crate) fn pop(&self) -> Option<Event> {
        let mut queue = self.queue.lock().unwrap_or_else(PoisonError::into_inner);
        let event = queue.pop_front();
        if queue.is_empty() {
            // Under the lock: a signal that belongs to an event pushed later must not be taken.
            self.signal.take();
        }
        event
    }

    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.signal.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_order_and_the_fd_is_quiet_when_there_are_none() {
        let events = EventQueue::new().expect("an eventfd");
        events.push(Event::LinkDown);
        events.push(Event::PfReset);
        assert_eq!(events.pop(), Some(Event::LinkDown));
        assert_ne!(events.signal.take(), 0, "one is left");
        events.signal.signal();
        assert_eq!(events.pop(), Some(Event::PfReset));
        assert_eq!(events.signal.take(), 0);
        assert_eq!(events.pop(), None);
    }

    #[test]
    fn a_queue_nobody_reads_stays_small_and_keeps_what_matters() {
        let events = EventQueue::new().expect("an eventfd");
        events.push(Event::RemovalRequested);
        for _ in 0..1000 {
            events.push(Event::LinkDown);
            events.push(Event::LinkUp { mbps: 1000 });
        }
        let all: Vec<_> = std::iter::from_fn(|| events.pop()).collect();
        assert_eq!(all.len(), MOST);
        assert_eq!(all[0], Event::RemovalRequested);
        assert_eq!(all.last(), Some(&Event::LinkUp { mbps: 1000 }));
    }
}
