//! The server: one socket a VF, one client at a time on each, and one thread that watches over all of them.
//!
//! The watching thread accepts, turns second clients away, and sees clients go. A session's own thread ends with its
//! client; should it be held up (by an eventfd that the client filled and made blocking, or by closing a file of the
//! client's own making), the watcher ends the session in its place: DMA stops, the function is reset and free for the
//! next client, and the thread is left to end when it can.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vfnic_hw::{Deadline, Event};

use super::backend::VfSource;
use super::client::{self, Shared};
use super::dma::MapLimits;
use super::listen::{ListenError, Listener, directory};
use super::session::{Counters, Session};
use super::socket::{Connection, timespec};
use super::wire::MAX_MAPS;

/// How long a session's thread may take to end once its client is gone.
const GRACE: Duration = Duration::from_millis(50);
/// How often that is looked at.
const URGENT: Duration = match GRACE.checked_div(4) {
    Some(time) => time,
    None => GRACE,
};
/// Threads a VF may have left behind; beyond, it takes no further client until one of them ends.
const LEFT_BEHIND: usize = 8;

/// What one client may take of the server.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest time from connecting to an agreed version.
    pub handshake: Duration,
    /// Longest time from the first byte of a message to its last.
    pub message: Duration,
    /// Longest time a reply waits to be read.
    pub reply: Duration,
    /// Most windows of client memory at a time.
    pub windows: usize,
    /// Most files behind those windows.
    pub files: usize,
    /// Most address space for those files, in bytes.
    pub bytes: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            handshake: Duration::from_secs(5),
            message: Duration::from_secs(5),
            reply: Duration::from_secs(5),
            windows: MAX_MAPS,
            files: 256,
            bytes: 1 << 40,
        }
    }
}

impl Limits {
    pub(super) const fn maps(&self) -> MapLimits {
        MapLimits {
            windows: self.windows,
            files: self.files,
            bytes: self.bytes,
        }
    }
}

/// Serving could not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// A socket could not be offered.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// No eventfd or thread was to be had.
    #[error("starting the server: {what} failed")]
    Os {
        /// What was asked of the system.
        what: &'static str,
        /// What it said.
        #[source]
        source: io::Error,
    },
}

/// A running server. Dropping it ends every session, and removes the sockets.
pub struct Server {
    stop: Event,
    thread: Option<JoinHandle<()>>,
    counters: Vec<Arc<Counters>>,
}

impl Server {
    /// Serves function `n` of `sources` on `vfN.sock` in `dir`, which is made if it is not there. Clients can connect
    /// when this returns.
    ///
    /// # Errors
    ///
    /// [`ServeError`]; nothing is left behind then.
    pub fn start(
        dir: &Path,
        sources: Vec<Arc<dyn VfSource>>,
        limits: Limits,
    ) -> Result<Self, ServeError> {
        directory(dir)?;
        let os = |what| move |source: io::Error| ServeError::Os { what, source };
        let stop = Event::new().map_err(os("eventfd"))?;
        let mut slots = Vec::new();
        for (vf, source) in sources.into_iter().enumerate() {
            slots.push(Slot {
                listener: Listener::new(&dir.join(format!("vf{vf}.sock")))?,
                vf,
                source,
                limits,
                counters: Arc::default(),
                live: None,
                left_behind: Vec::new(),
            });
        }
        let counters = slots.iter().map(|slot| slot.counters.clone()).collect();
        let watcher = Watcher {
            stop: stop.clone(),
            wake: Event::new().map_err(os("eventfd"))?,
            spare: None,
            slots,
        };
        let thread = thread::Builder::new()
            .name("vfnic-serve".into())
            .spawn(|| watcher.run())
            .map_err(os("thread"))?;
        Ok(Self {
            stop,
            thread: Some(thread),
            counters,
        })
    }

    /// What happened on each VF's socket.
    #[must_use]
    pub fn counters(&self) -> &[Arc<Counters>] {
        &self.counters
    }
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("counters", &self.counters)
            .finish_non_exhaustive()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.signal();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// One VF's socket and who is on it.
struct Slot {
    listener: Listener,
    vf: usize,
    source: Arc<dyn VfSource>,
    limits: Limits,
    counters: Arc<Counters>,
    live: Option<Live>,
    left_behind: Vec<JoinHandle<()>>,
}

/// A session as the watcher sees it.
struct Live {
    shared: Arc<Shared>,
    /// A second descriptor of its socket, to see the client go.
    socket: OwnedFd,
    thread: JoinHandle<()>,
    /// When the client was seen to be gone.
    gone: Option<Instant>,
}

impl Slot {
    /// Whether to look for new clients: not while the last one's session is being cleared away.
    fn listening(&self) -> bool {
        match &self.live {
            Some(live) => live.gone.is_none(),
            None => self.left_behind.len() < LEFT_BEHIND,
        }
    }

    /// Takes what is waiting: the first becomes the client if there is none.
    fn accept(&mut self, stop: &Event, wake: &Event) -> Result<(), Errno> {
        let socket = match self.listener.accept() {
            Ok(socket) => socket,
            Err(Errno::AGAIN | Errno::INTR | Errno::CONNABORTED) => return Ok(()),
            Err(errno) => return Err(errno),
        };
        if self.live.is_some() {
            log::warn!("VF {}: a second client was turned away", self.vf);
            Counters::count(&self.counters.refused);
            return Ok(());
        }
        let socket_again = rustix::io::fcntl_dupfd_cloexec(&socket, 0)?;
        let session = Session::new(
            self.source.clone(),
            self.limits.maps(),
            self.counters.clone(),
        );
        let shared = Arc::new(Shared::new(session, self.counters.clone(), self.limits));
        let connection = Connection::new(socket, stop.clone());
        let (its, stop, wake) = (shared.clone(), stop.clone(), wake.clone());
        let thread = thread::Builder::new()
            .name(format!("vfnic-vf{}", self.vf))
            .spawn(move || client::run(&its, connection, &stop, &wake))
            .map_err(|_| Errno::AGAIN)?;
        self.live = Some(Live {
            shared,
            socket: socket_again,
            thread,
            gone: None,
        });
        Ok(())
    }

    /// Clears away a session that is over, or that ought to be.
    fn tend(&mut self) {
        self.left_behind.retain(|thread| !thread.is_finished());
        let Some(live) = &self.live else { return };
        if live.shared.ended() {
            if let Some(live) = self.live.take() {
                let _ = live.thread.join();
            }
        } else if live.gone.is_some_and(|since| since.elapsed() >= GRACE) && live.shared.try_end() {
            log::warn!(
                "VF {}: a session's thread is held up; ended in its place",
                self.vf
            );
            if let Some(live) = self.live.take() {
                self.left_behind.push(live.thread);
            }
        }
    }

    /// Whether somebody must look again soon.
    fn urgent(&self) -> bool {
        self.live.as_ref().is_some_and(|live| live.gone.is_some())
    }
}

/// The watching thread.
struct Watcher {
    stop: Event,
    /// Signalled by sessions that end.
    wake: Event,
    /// Given up for a moment when there are no descriptors left, so that who waits can be turned away.
    spare: Option<OwnedFd>,
    slots: Vec<Slot>,
}

impl Watcher {
    fn run(mut self) {
        loop {
            self.reserve();
            let Some(ready) = self.wait() else { break };
            self.wake.take();
            for (slot, (listener, gone)) in self.slots.iter_mut().zip(ready) {
                if gone && let Some(live) = &mut slot.live {
                    live.gone.get_or_insert_with(Instant::now);
                }
                slot.tend();
                // A client that is gone and a new one that waits may have been seen at once: the old one goes first.
                if listener && slot.listening() {
                    let accepted = slot.accept(&self.stop, &self.wake);
                    if let Err(errno) = accepted {
                        log::warn!("VF {}: no client can be taken: {errno}", slot.vf);
                        Counters::count(&slot.counters.refused);
                        self.spare = None;
                        let _ = slot.listener.accept();
                        self.spare = rustix::io::fcntl_dupfd_cloexec(&self.stop, 0).ok();
                    }
                }
            }
        }
        self.finish();
    }

    fn reserve(&mut self) {
        if self.spare.is_none() {
            self.spare = rustix::io::fcntl_dupfd_cloexec(&self.stop, 0).ok();
        }
    }

    /// Waits for something to do; for each slot, whether somebody connects and whether its client is gone. `None` at the
    /// end.
    fn wait(&self) -> Option<Vec<(bool, bool)>> {
        let mut fds = vec![
            PollFd::new(&self.stop, PollFlags::IN),
            PollFd::new(&self.wake, PollFlags::IN),
        ];
        let mut places = Vec::with_capacity(self.slots.len());
        for slot in &self.slots {
            let listener = slot.listening().then(|| {
                let place = fds.len();
                fds.push(PollFd::from_borrowed_fd(
                    slot.listener.as_fd(),
                    PollFlags::IN,
                ));
                place
            });
            let client = slot
                .live
                .as_ref()
                .filter(|live| live.gone.is_none())
                .map(|live| {
                    let place = fds.len();
                    // Nothing asked for: a closed peer is reported all the same.
                    fds.push(PollFd::from_borrowed_fd(
                        live.socket.as_fd(),
                        PollFlags::empty(),
                    ));
                    place
                });
            places.push((listener, client));
        }
        let crowded = self
            .slots
            .iter()
            .any(|slot| slot.left_behind.len() >= LEFT_BEHIND);
        let timeout = if self.slots.iter().any(Slot::urgent) {
            Some(timespec(URGENT))
        } else {
            crowded.then(|| timespec(Duration::from_secs(1)))
        };
        match poll(&mut fds, timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => {
                log::error!("the server cannot wait: {errno}");
                thread::sleep(GRACE);
            }
        }
        let ready = |place: Option<usize>| {
            place
                .and_then(|at| fds.get(at))
                .is_some_and(|fd| !fd.revents().is_empty())
        };
        (!ready(Some(0))).then(|| {
            places
                .iter()
                .map(|&(listener, client)| (ready(listener), ready(client)))
                .collect()
        })
    }

    /// Ends all sessions; they have seen the stop event themselves.
    fn finish(&mut self) {
        let end = Deadline::after(Duration::from_millis(500));
        while self.slots.iter().any(|slot| slot.live.is_some()) && !end.is_over() {
            for slot in &mut self.slots {
                if let Some(live) = &mut slot.live {
                    live.gone.get_or_insert_with(Instant::now);
                }
                slot.tend();
            }
            thread::sleep(Duration::from_millis(1));
        }
        let sessions: u64 = self
            .slots
            .iter()
            .map(|slot| slot.counters.sessions.load(Ordering::Relaxed))
            .sum();
        log::info!("the server stops after {sessions} sessions");
    }
}
