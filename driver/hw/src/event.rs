//! Eventfds: what every interrupt and notification arrives on.

use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::io::Errno;

/// A non-blocking eventfd. Clones share one counter, so either end of an interrupt can hold it.
#[derive(Clone, Debug)]
pub struct Event(Arc<OwnedFd>);

impl Event {
    /// A new event with a zero counter.
    ///
    /// # Errors
    ///
    /// What the kernel says when no fd is to be had.
    pub fn new() -> io::Result<Self> {
        Ok(Self(Arc::new(eventfd(
            0,
            EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK,
        )?)))
    }

    /// Takes over an eventfd received from elsewhere. It should be non-blocking.
    #[must_use]
    pub fn from_fd(fd: OwnedFd) -> Self {
        Self(Arc::new(fd))
    }

    /// Adds one to the counter; a full counter already says all there is to say.
    pub fn signal(&self) {
        let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
    }

    /// Takes the counter down to zero and returns what it was. Never blocks.
    pub fn take(&self) -> u64 {
        let mut value = [0; 8];
        loop {
            match rustix::io::read(&self.0, &mut value) {
                Ok(8) => return u64::from_ne_bytes(value),
                Err(Errno::INTR) => {}
                _ => return 0,
            }
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Event {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Received from another process, say: the same counter by another descriptor.
    #[test]
    fn an_event_from_elsewhere_is_the_same_event() {
        let event = Event::new().expect("an eventfd");
        let fd = event.as_fd().try_clone_to_owned().expect("a copy");
        let other = Event::from_fd(fd);
        assert_ne!(event.as_raw_fd(), other.as_raw_fd());
        other.signal();
        other.signal();
        assert_eq!((event.take(), other.take()), (2, 0));
    }

    /// What is no eventfd counts nothing, and nobody waits for it.
    #[test]
    fn a_descriptor_of_another_kind_counts_nothing() {
        let null = std::fs::File::open("/dev/null").expect("there");
        let event = Event::from_fd(null.into());
        event.signal();
        assert_eq!(event.take(), 0);
    }
}
