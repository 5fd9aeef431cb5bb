//! The thread of one session: waits for messages and interrupts, passes each on.

use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use vfnic_hw::{Deadline, Event};

use super::server::Limits;
use super::session::{Counters, Session, Sources, Verdict};
use super::socket::{Connection, NoMessage, timespec};
use super::wire::{Header, Reply};

/// What the session's thread and the server share.
#[derive(Debug)]
pub(crate) struct Shared {
    session: Mutex<Session>,
    ended: AtomicBool,
    counters: Arc<Counters>,
    limits: Limits,
}

impl Shared {
    pub(crate) fn new(session: Session, counters: Arc<Counters>, limits: Limits) -> Self {
        Self {
            session: Mutex::new(session),
            ended: AtomicBool::new(false),
            counters,
            limits,
        }
    }

    /// The lock is held for one message's work, never while anything is sent, received or signalled.
    fn session(&self) -> MutexGuard<'_, Session> {
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The thread has let go of everything.
    pub(crate) fn ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Ends the session from outside, if its thread is not in the middle of a message's work.
    pub(crate) fn try_end(&self) -> bool {
        match self.session.try_lock() {
            Ok(mut session) => session.end(),
            Err(std::sync::TryLockError::Poisoned(poisoned)) => poisoned.into_inner().end(),
            Err(std::sync::TryLockError::WouldBlock) => return false,
        }
        true
    }
}

/// Ends the session however its thread ends.
struct Ending<'a> {
    shared: &'a Shared,
    wake: &'a Event,
}

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        self.shared.session().end();
        self.shared.ended.store(true, Ordering::Release);
        self.wake.signal();
    }
}

/// Serves one client until it goes, breaks the protocol or the server stops. `wake` is signalled at the end.
pub(crate) fn run(shared: &Shared, mut connection: Connection, stop: &Event, wake: &Event) {
    let _ending = Ending { shared, wake };
    let mut reply = Reply::default();
    let mut sources = Sources::default();
    let mut running = false;
    let handshake = Deadline::after(shared.limits.handshake);
    loop {
        let left = (!running).then(|| timespec(handshake.left()));
        let ready = {
            let mut fds = vec![
                PollFd::from_borrowed_fd(connection.socket(), PollFlags::IN),
                PollFd::new(stop, PollFlags::IN),
            ];
            let events = sources
                .vectors
                .iter()
                .chain(&sources.error)
                .chain(&sources.request);
            fds.extend(events.map(|event| PollFd::from_borrowed_fd(event.as_fd(), PollFlags::IN)));
            match poll(&mut fds, left.as_ref()) {
                Ok(0) => {
                    Counters::count(&shared.counters.broken);
                    log::debug!("no version within {:?}", shared.limits.handshake);
                    return;
                }
                Ok(_) => Ready::new(&fds),
                Err(Errno::INTR) => continue,
                Err(_) => return,
            }
        };
        if ready.stop {
            return;
        }
        if ready.events {
            forward(shared, &sources);
        }
        if ready.socket {
            if !one_message(shared, &mut connection, &mut reply) {
                return;
            }
            if !running {
                let session = shared.session();
                running = session.is_running();
                sources = session.sources();
            }
        }
    }
}

/// What a wait found.
struct Ready {
    socket: bool,
    stop: bool,
    events: bool,
}

impl Ready {
    fn new(fds: &[PollFd<'_>]) -> Self {
        let at = |index: usize| fds.get(index).is_some_and(|fd| !fd.revents().is_empty());
        Self {
            socket: at(0),
            stop: at(1),
            events: fds.iter().skip(2).any(|fd| !fd.revents().is_empty()),
        }
    }
}

/// Passes on what the function signalled.
fn forward(shared: &Shared, sources: &Sources) {
    for (vector, event) in sources.vectors.iter().enumerate() {
        if event.take() > 0 {
            let client = shared.session().fired(vector);
            if let Some(client) = client {
                client.signal();
            }
        }
    }
    if sources.error.as_ref().is_some_and(|event| event.take() > 0) {
        let client = shared.session().error();
        if let Some(client) = client {
            client.signal();
        }
    }
    if sources
        .request
        .as_ref()
        .is_some_and(|event| event.take() > 0)
    {
        let client = shared.session().wanted_back();
        if let Some(client) = client {
            client.signal();
        }
    }
}

/// Receives one message and does what it asks; false when that was the last.
fn one_message(shared: &Shared, connection: &mut Connection, reply: &mut Reply) -> bool {
    let verdict = match connection.receive(shared.limits.message) {
        Ok((header, body, mut fds)) => {
            // The descriptors that nobody took are closed after the lock is free: closing a file of the client's can
            // take as long as its file system likes.
            shared.session().message(&header, body, &mut fds, reply)
        }
        Err(NoMessage::NotYet) => return true,
        Err(NoMessage::Closed | NoMessage::Stopped) => return false,
        Err(NoMessage::Framing(header, errno)) => framing(header, errno, reply),
        Err(NoMessage::Cut | NoMessage::Late) => Verdict {
            close: true,
            ..Verdict::default()
        },
        Err(NoMessage::Failed(error)) => {
            log::debug!("receiving failed: {error}");
            return false;
        }
    };
    if verdict.close {
        Counters::count(&shared.counters.broken);
    }
    for event in &verdict.signal {
        event.signal();
    }
    if verdict.reply && !connection.send(reply.finish(), shared.limits.reply) {
        Counters::count(&shared.counters.broken);
        return false;
    }
    !verdict.close
}

/// The answer to a header that makes no sense; where the next one would start is unknown, so it is the last.
fn framing(header: Header, errno: Errno, reply: &mut Reply) -> Verdict {
    reply.fail(&header, errno);
    Verdict {
        reply: !header.is_reply(),
        close: true,
        ..Verdict::default()
    }
}
