//! One connection to a server: requests and their replies, each with a deadline, and an end that is final.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags,
    SendAncillaryBuffer, SendAncillaryMessage, SendFlags, Shutdown, SocketAddrUnix, SocketFlags,
    SocketType, connect, recvmsg, sendmsg, shutdown, socket_with,
};
use vfnic_hw::Deadline;

use super::frame::{Command, HEADER, Header, Limits, MAJOR, MINOR, MOST_FDS, Message};

/// More messages that answer nothing than this while a reply is due, and the server is taken to be out of its mind.
const MOST_STRAYS: u32 = 1000;

/// Why a request came to nothing.
#[derive(Debug)]
pub(super) enum Failure {
    /// The server refused it; the connection is fine. The errno, 0 when it did not say.
    Refused(u32),
    /// There was no connection to ask on.
    Unconnected(String),
    /// The connection is over, for the reason given; or it was over before, and this is said again.
    Broken(String),
}

/// A reply.
#[derive(Debug)]
pub(super) struct Reply {
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

#[derive(Debug)]
pub(super) struct Connection {
    socket: OwnedFd,
    /// The number of the last request. Held for as long as one exchange takes.
    exchange: Mutex<u16>,
    /// Set once, and then nothing is sent or expected any more.
    broken: AtomicBool,
    limits: Limits,
    deadline: Duration,
    process: u32,
}

impl Connection {
    /// Connects and agrees on the version.
    pub(super) fn open(path: &Path, deadline: Duration) -> Result<Self, Failure> {
        let wrong = |error: io::Error| Failure::Unconnected(format!("connecting: {error}"));
        Self::on(dial(path, deadline).map_err(wrong)?, deadline)
    }

    /// Agrees on the version with whoever is at the other end.
    pub(super) fn on(socket: OwnedFd, deadline: Duration) -> Result<Self, Failure> {
        let mut connection = Self {
            socket,
            exchange: Mutex::new(0),
            broken: AtomicBool::new(false),
            limits: Limits {
                fds: 1,
                data: 4096,
                maps: 1,
            },
            deadline,
            process: std::process::id(),
        };
        let offer = format!(
            "{{\"capabilities\":{{\"max_msg_fds\":{MOST_FDS},\"max_data_xfer_size\":1048576}}}}\0"
        );
        let version = Message::new(Command::Version)
            .u16(MAJOR)
            .u16(MINOR)
            .bytes(offer.as_bytes());
        let reply = connection.ask(Command::Version, version, &[])?;
        connection.limits = Limits::parse(&reply.body).map_err(Failure::Broken)?;
        Ok(connection)
    }

    pub(super) fn limits(&self) -> Limits {
        self.limits
    }

    pub(super) fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Relaxed)
    }

    /// Whether this is the process that opened it; a child of `fork` must not end it for its parent.
    pub(super) fn is_ours(&self) -> bool {
        self.process == std::process::id()
    }

    /// Ends it: the server forgets our memory and eventfds, and nothing is answered here any more.
    pub(super) fn close(&self) {
        if self.is_ours() {
            self.broken.store(true, Ordering::Relaxed);
            let _ = shutdown(&self.socket, Shutdown::Both);
        }
    }

    /// Sends a request and waits for its reply.
    pub(super) fn ask(
        &self,
        command: Command,
        message: Message,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, Failure> {
        self.ask_within(self.deadline, command, message, fds)
    }

    /// As [`ask`](Self::ask), for what takes a time of its own.
    pub(super) fn ask_within(
        &self,
        time: Duration,
        command: Command,
        message: Message,
        fds: &[BorrowedFd<'_>],
    ) -> Result<Reply, Failure> {
        self.exchange(time, |id, until| {
            self.send(&message.finish(id, false), fds, until)?;
            self.reply_to(id, command, until)
        })
    }

    /// Sends a request that is not answered.
    pub(super) fn post(&self, message: Message) -> Result<(), Failure> {
        self.exchange(self.deadline, |id, until| {
            self.send(&message.finish(id, true), &[], until).map(Ok)
        })
    }

    /// One exchange at a time. Whatever goes wrong with the stream itself ends the connection.
    fn exchange<T>(
        &self,
        time: Duration,
        work: impl FnOnce(u16, Deadline) -> Result<Result<T, u32>, String>,
    ) -> Result<T, Failure> {
        let mut last = self.exchange.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_broken() {
            return Err(Failure::Broken("the connection is over".to_owned()));
        }
        *last = last.wrapping_add(1);
        match work(*last, Deadline::after(time)) {
            Ok(Ok(done)) => Ok(done),
            Ok(Err(errno)) => Err(Failure::Refused(errno)),
            Err(problem) => {
                self.close();
                Err(Failure::Broken(problem))
            }
        }
    }

    fn send(&self, bytes: &[u8], fds: &[BorrowedFd<'_>], until: Deadline) -> Result<(), String> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
            let mut rights = SendAncillaryBuffer::new(&mut space);
            // They go with the first byte.
            if rest.len() == bytes.len()
                && !fds.is_empty()
                && !rights.push(SendAncillaryMessage::ScmRights(fds))
            {
                return Err(format!("sending {} descriptors at once", fds.len()));
            }
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match sendmsg(&self.socket, &[IoSlice::new(rest)], &mut rights, flags) {
                Ok(sent) => rest = rest.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::OUT, until, "takes no request")?,
                Err(errno) => return Err(format!("sending: {}", io::Error::from(errno))),
            }
        }
        Ok(())
    }

    /// Fills `bytes`; descriptors that come along are added to `fds`.
    fn receive(
        &self,
        bytes: &mut [u8],
        fds: &mut Vec<OwnedFd>,
        until: Deadline,
    ) -> Result<(), String> {
        let mut filled = 0;
        while filled < bytes.len() {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MOST_FDS))];
            let mut rights = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC | RecvFlags::DONTWAIT;
            let rest = &mut bytes[filled..];
            match recvmsg(
                &self.socket,
                &mut [IoSliceMut::new(rest)],
                &mut rights,
                flags,
            ) {
                Ok(received) => {
                    for message in rights.drain() {
                        if let RecvAncillaryMessage::ScmRights(more) = message {
                            fds.extend(more);
                        }
                    }
                    if received.flags.contains(ReturnFlags::CTRUNC) || fds.len() > MOST_FDS {
                        return Err(format!("more than {MOST_FDS} descriptors with a message"));
                    }
                    if received.bytes == 0 {
                        return Err("the server closed the connection".to_owned());
                    }
                    filled = filled.saturating_add(received.bytes);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => self.wait(PollFlags::IN, until, "does not answer")?,
                Err(errno) => return Err(format!("receiving: {}", io::Error::from(errno))),
            }
        }
        Ok(())
    }

    fn wait(&self, events: PollFlags, until: Deadline, what: &str) -> Result<(), String> {
        let left = until.left();
        let timeout = Timespec::try_from(left).map_err(|error| error.to_string())?;
        let mut fds = [PollFd::new(&self.socket, events)];
        match poll(&mut fds, Some(&timeout)) {
            // A closed connection is found out by the call that follows.
            Ok(1..) | Err(Errno::INTR) if !left.is_zero() => Ok(()),
            Ok(_) | Err(Errno::INTR) => Err(format!("the server {what}")),
            Err(errno) => Err(format!("waiting: {}", io::Error::from(errno))),
        }
    }

    /// The reply to request `id`. What else arrives is read past: late replies to posted writes, which servers send
    /// when such a write failed, and requests of the server's own, which are refused (all memory is mappable).
    fn reply_to(
        &self,
        id: u16,
        command: Command,
        until: Deadline,
    ) -> Result<Result<Reply, u32>, String> {
        for _ in 0..MOST_STRAYS {
            let mut bytes = [0; HEADER];
            let mut fds = Vec::new();
            self.receive(&mut bytes, &mut fds, until)?;
            let Some(header) = Header::parse(&bytes) else {
                return Err("a message of impossible length".to_owned());
            };
            let mut body = vec![0; header.body];
            self.receive(&mut body, &mut fds, until)?;
            if header.wants_reply() {
                log::debug!("vfio-user: the server asked for {}", header.command);
                let unsupported = Errno::OPNOTSUPP.raw_os_error().cast_unsigned();
                self.send(&Message::refuse(&header, unsupported), &[], until)?;
                continue;
            }
            if !header.is_reply() || header.id != id {
                continue;
            }
            if header.command != command as u16 {
                return Err(format!(
                    "a reply to command {} instead of {}",
                    header.command, command as u16
                ));
            }
            return Ok(match header.refusal() {
                Some(errno) => Err(errno),
                None => Ok(Reply { body, fds }),
            });
        }
        Err("messages that answer nothing, without end".to_owned())
    }
}

/// A connected socket. A server whose queue of callers is full is called again until the deadline.
fn dial(path: &Path, deadline: Duration) -> io::Result<OwnedFd> {
    let until = Deadline::after(deadline);
    let address = SocketAddrUnix::new(path)?;
    loop {
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(AddressFamily::UNIX, SocketType::STREAM, flags, None)?;
        match connect(&socket, &address) {
            Ok(()) => return Ok(socket),
            Err(Errno::AGAIN | Errno::INTR) if !until.is_over() => {
                std::thread::sleep(Duration::from_millis(10));
            }
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
#[path = "connection_tests.rs"]
mod tests;
