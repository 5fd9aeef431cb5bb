//! A session driven by bytes alone, for fuzzers and for tests that pretend to be one.

use std::os::fd::OwnedFd;
use std::sync::Arc;

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};

use super::backend::VfSource;
use super::blank::Blank;
use super::server::Limits;
use super::session::{Counters, Session};
use super::socket::Fds;
use super::wire::{HEADER, Header, Reply};

/// A session that takes messages from memory instead of a socket.
#[derive(Debug)]
pub struct Bench {
    session: Session,
    reply: Reply,
}

/// How a message ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Answered with success, or not answered.
    Done,
    /// Answered with an error.
    Refused,
    /// The session is over.
    Over,
}

impl Bench {
    /// A session with nothing agreed on, on a [`Blank`] function or any other.
    #[must_use]
    pub fn new(source: Arc<dyn VfSource>) -> Self {
        Self {
            session: Session::new(source, Limits::default().maps(), Arc::<Counters>::default()),
            reply: Reply::default(),
        }
    }

    /// Hands over one message: header, body, descriptors.
    pub fn message(&mut self, head: &[u8; HEADER], body: &[u8], fds: Vec<OwnedFd>) -> Outcome {
        let Ok(header) = Header::parse(head) else {
            return Outcome::Over;
        };
        let mut fds = Fds {
            list: fds,
            truncated: false,
        };
        let verdict = self
            .session
            .message(&header, body, &mut fds, &mut self.reply);
        for event in &verdict.signal {
            event.signal();
        }
        let refused = verdict.reply && {
            let reply = self.reply.finish();
            let reply = reply.first_chunk::<HEADER>().map(|reply| {
                assert_eq!(reply[..4], head[..4], "a reply echoes id and command");
                reply[8] & 0x20 != 0
            });
            assert!(reply.is_some(), "a reply has a header");
            reply == Some(true)
        };
        match (verdict.close, refused) {
            (true, _) => Outcome::Over,
            (false, true) => Outcome::Refused,
            (false, false) => Outcome::Done,
        }
    }
}

/// Takes `bytes` for what a client sends and does what the server would, up to the message that ends the session or is
/// cut short. The first byte of each message's error field, which commands do not use, says which descriptors come along:
/// none, a good memory file, an eventfd, or two of them.
///
/// # Panics
///
/// Never, or there is a defect.
pub fn fuzz_session(bytes: &[u8]) {
    let mut bench = Bench::new(Arc::new(Blank::default()));
    let mut rest = bytes;
    while let Some((head, tail)) = rest.split_first_chunk::<HEADER>() {
        let Ok(header) = Header::parse(head) else {
            break;
        };
        let Some((body, tail)) = tail.split_at_checked(header.body) else {
            break;
        };
        if bench.message(head, body, descriptors(head[12])) == Outcome::Over {
            break;
        }
        rest = tail;
    }
}

fn descriptors(choice: u8) -> Vec<OwnedFd> {
    let event = || eventfd(0, EventfdFlags::CLOEXEC).ok();
    let memory = || {
        let fd = memfd_create("fuzz", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).ok()?;
        ftruncate(&fd, 1 << 20).ok()?;
        Some(fd)
    };
    match choice & 7 {
        1 => memory().into_iter().collect(),
        2 => event().into_iter().collect(),
        3 => [event(), event()].into_iter().flatten().collect(),
        4 => [memory(), event()].into_iter().flatten().collect(),
        _ => Vec::new(),
    }
}
