//! A thread that reads frames from a file descriptor.

use std::fmt;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vfnic_hw::Event;

use super::peer::Pipe;

/// Frames held for the card; the host's stack or the other card waits or drops beyond that.
const HELD: usize = 1024;

/// Longest frame taken from outside, in bytes.
const LONGEST: usize = 16_384;

/// A file descriptor with a thread that reads frames from it ahead of the card, so that a sleeping card can be woken.
pub(super) struct Reader {
    fd: Arc<OwnedFd>,
    arrived: Arc<Pipe>,
    stop: Event,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Reader {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").finish_non_exhaustive()
    }
}

impl Reader {
    /// Reads from `fd` until it is dropped or the other end closes.
    pub(super) fn start(name: &str, fd: OwnedFd) -> io::Result<Self> {
        let (fd, arrived, stop) = (Arc::new(fd), Pipe::new(HELD), Event::new()?);
        let thread = std::thread::Builder::new()
            .name(format!("vfnic-{name}"))
            .spawn({
                let (fd, arrived, stop) = (Arc::clone(&fd), Arc::clone(&arrived), stop.clone());
                move || read(&fd, &stop, &arrived)
            })?;
        Ok(Self {
            fd,
            arrived,
            stop,
            thread: Some(thread),
        })
    }

    /// What it reads from, to be written to.
    pub(super) fn fd(&self) -> &OwnedFd {
        &self.fd
    }

    /// What has arrived.
    pub(super) fn arrived(&self) -> &Pipe {
        &self.arrived
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn read(fd: &OwnedFd, stop: &Event, pipe: &Pipe) {
    let mut buffer = vec![0; LONGEST];
    loop {
        let mut fds = [
            PollFd::new(fd, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(_) => return,
        }
        if !fds[1].revents().is_empty() {
            return;
        }
        match rustix::io::read(fd, &mut buffer) {
            // A socket's other end has closed.
            Ok(0) => return,
            // A full pipe drops, as a full queue of a wire would.
            Ok(len) => {
                let _ = pipe.push(buffer.get(..len).unwrap_or(&buffer));
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A TAP that was taken down or removed.
            Err(Errno::IO | Errno::BADFD) => return,
            Err(_) => {}
        }
    }
}
