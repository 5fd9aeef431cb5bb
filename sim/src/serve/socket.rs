//! Messages over the socket: whole ones in, whole ones out, each within its deadline.

use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendFlags, recvmsg, send,
};
use vfnic_hw::{Deadline, Event};

use super::wire::{HEADER, Header, MAX_FDS, MAX_KEPT};
use crate::counting::Count;

/// The descriptors that came with a message. Those nobody takes are closed when this is dropped.
#[derive(Debug, Default)]
pub(crate) struct Fds {
    pub(crate) list: Vec<OwnedFd>,
    /// There were more than [`MAX_FDS`], or more than this process may have open; the rest is closed already.
    pub(crate) truncated: bool,
}

/// Why no message came.
#[derive(Debug)]
pub(crate) enum NoMessage {
    /// Nothing was there to read after all.
    NotYet,
    /// The client closed between two messages.
    Closed,
    /// The client closed in the middle of a message.
    Cut,
    /// A message did not arrive whole in its time.
    Late,
    /// The header makes no sense; what can be read of it, to answer to.
    Framing(Header, Errno),
    /// The server is to stop.
    Stopped,
    /// The socket failed.
    Failed(io::Error),
}

impl From<Errno> for NoMessage {
    fn from(errno: Errno) -> Self {
        match errno {
            Errno::CONNRESET | Errno::PIPE => Self::Cut,
            other => Self::Failed(other.into()),
        }
    }
}

/// One client's connection.
#[derive(Debug)]
pub(crate) struct Connection {
    socket: OwnedFd,
    stop: Event,
    body: Vec<u8>,
}

impl Connection {
    pub(crate) const fn new(socket: OwnedFd, stop: Event) -> Self {
        Self {
            socket,
            stop,
            body: Vec::new(),
        }
    }

    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// Receives one message, which must be whole within `deadline` of its first byte. The body is good until the next
    /// call.
    ///
    /// A message is read in two steps, so that descriptors can only be those of the message they came with.
    pub(crate) fn receive(
        &mut self,
        deadline: Duration,
    ) -> Result<(Header, &[u8], Fds), NoMessage> {
        let mut fds = Fds::default();
        let mut head = [0; HEADER];
        let mut late = None;
        let got = fill(
            &self.socket,
            &self.stop,
            &mut head,
            &mut fds,
            &mut late,
            deadline,
        )?;
        match got {
            0 if late.is_none() => return Err(NoMessage::NotYet),
            HEADER => {}
            _ => return Err(NoMessage::Cut),
        }
        let header =
            Header::parse(&head).map_err(|(header, errno)| NoMessage::Framing(header, errno))?;
        // The length was checked against the limit; a big body's memory is not kept.
        self.body.clear();
        self.body.shrink_to(MAX_KEPT);
        self.body.resize(header.body, 0);
        let got = fill(
            &self.socket,
            &self.stop,
            &mut self.body,
            &mut fds,
            &mut late,
            deadline,
        )?;
        if got < header.body {
            return Err(NoMessage::Cut);
        }
        Ok((header, &self.body, fds))
    }

    /// Sends a whole message; false when the client does not take it within `deadline`, or is gone.
    pub(crate) fn send(&self, mut bytes: &[u8], deadline: Duration) -> bool {
        let mut end = None;
        while !bytes.is_empty() {
            match send(
                &self.socket,
                bytes,
                SendFlags::NOSIGNAL | SendFlags::DONTWAIT,
            ) {
                Ok(sent) => bytes = bytes.get(sent..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => {
                    let end = *end.get_or_insert_with(|| Deadline::after(deadline));
                    if wait(&self.socket, &self.stop, PollFlags::OUT, end).is_err() {
                        return false;
                    }
                }
                Err(_) => return false,
            }
        }
        true
    }
}

/// Reads until `buffer` is full or the stream ends; gives how far it came. The clock starts with the first byte; until
/// then an empty socket is 0 with `end` unset, and a closed one [`NoMessage::Closed`].
fn fill(
    socket: &OwnedFd,
    stop: &Event,
    buffer: &mut [u8],
    fds: &mut Fds,
    end: &mut Option<Deadline>,
    deadline: Duration,
) -> Result<usize, NoMessage> {
    let mut at = 0usize;
    while let Some(rest) = buffer.get_mut(at..).filter(|rest| !rest.is_empty()) {
        match receive_some(socket, rest, fds) {
            Ok(0) if at == 0 && end.is_none() => return Err(NoMessage::Closed),
            Ok(0) => break,
            Ok(bytes) => {
                at.count(bytes);
                end.get_or_insert_with(|| Deadline::after(deadline));
            }
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => match *end {
                None => break,
                Some(end) => wait(socket, stop, PollFlags::IN, end)?,
            },
            // A client that went away with our replies unread resets the connection: that is a close as well.
            Err(Errno::CONNRESET) if at == 0 && end.is_none() => return Err(NoMessage::Closed),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(at)
}

/// One non-blocking read, with the descriptors that came along.
fn receive_some(socket: &OwnedFd, buffer: &mut [u8], fds: &mut Fds) -> Result<usize, Errno> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = RecvFlags::DONTWAIT | RecvFlags::CMSG_CLOEXEC;
    let received = recvmsg(socket, &mut [IoSliceMut::new(buffer)], &mut control, flags)?;
    fds.truncated |= received.flags.contains(ReturnFlags::CTRUNC);
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(passed) = message {
            for fd in passed {
                if fds.list.len() < MAX_FDS {
                    fds.list.push(fd);
                } else {
                    fds.truncated = true;
                }
            }
        }
    }
    Ok(received.bytes)
}

/// Waits until the socket is ready, the server stops, or it is `end`.
fn wait(
    socket: &OwnedFd,
    stop: &Event,
    for_what: PollFlags,
    end: Deadline,
) -> Result<(), NoMessage> {
    loop {
        let left = end.left();
        if left.is_zero() {
            return Err(NoMessage::Late);
        }
        let mut fds = [
            PollFd::new(socket, for_what),
            PollFd::new(stop, PollFlags::IN),
        ];
        match poll(&mut fds, Some(&timespec(left))) {
            Ok(0) => return Err(NoMessage::Late),
            Ok(_) if !fds[1].revents().is_empty() => return Err(NoMessage::Stopped),
            Ok(_) => return Ok(()),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// A span of time as the kernel wants it.
pub(crate) fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}
