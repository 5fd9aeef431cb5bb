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
            0 => return Err(NoMessage::NotYet),
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
            // Nothing has come yet as long as no clock runs.
            Ok(0) if end.is_none() => return Err(NoMessage::Closed),
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
            Err(Errno::CONNRESET) if end.is_none() => return Err(NoMessage::Closed),
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

#[cfg(test)]
mod tests {
    use std::fs::File;
    use std::io::{IoSlice, Write as _};
    use std::os::unix::net::UnixStream;
    use std::time::Instant;

    use rustix::io::{FdFlags, fcntl_getfd};
    use rustix::net::sockopt::{Timeout, set_socket_timeout};
    use rustix::net::{
        AddressFamily, SendAncillaryBuffer, SendAncillaryMessage, SocketFlags, SocketType, sendmsg,
        socketpair,
    };

    use super::*;

    /// More than any call here may take.
    const LONG: Duration = Duration::from_secs(2);
    const SHORT: Duration = Duration::from_millis(50);

    /// A message of 20 bytes: a reset with four bytes too many, which is no concern of this layer's.
    const MESSAGE: [u8; 20] = [
        7, 0, 13, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, b'b', b'o', b'd', b'y',
    ];

    /// A connection and the client's end of it. A call that blocks goes on after a while.
    fn pair() -> (Connection, UnixStream) {
        let (socket, client) = socketpair(
            AddressFamily::UNIX,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .expect("a pair");
        for timeout in [Timeout::Recv, Timeout::Send] {
            set_socket_timeout(&socket, timeout, Some(LONG)).expect("set");
        }
        let stop = Event::new().expect("an event");
        (Connection::new(socket, stop), client.into())
    }

    #[test]
    fn nothing_a_message_and_a_close_are_told_apart() {
        let begun = Instant::now();
        let (mut connection, mut client) = pair();
        assert!(matches!(connection.receive(LONG), Err(NoMessage::NotYet)));
        client.write_all(&MESSAGE).expect("room");
        let (header, body, fds) = connection.receive(LONG).expect("a message");
        assert_eq!((header.command, body), (13, &b"body"[..]));
        assert!(fds.list.is_empty() && !fds.truncated);
        assert!(matches!(connection.receive(LONG), Err(NoMessage::NotYet)));
        drop(client);
        assert!(matches!(connection.receive(LONG), Err(NoMessage::Closed)));
        assert!(begun.elapsed() < LONG, "a call has blocked");
    }

    #[test]
    fn v15_a_client_that_goes_in_the_middle_of_a_message_has_not_closed() {
        for unread in [false, true] {
            for sent in [0, 1, 15, 16, 19] {
                let (mut connection, mut client) = pair();
                if unread {
                    // A client that goes with a reply unread resets the connection.
                    assert!(connection.send(b"reply", LONG));
                }
                client.write_all(&MESSAGE[..sent]).expect("room");
                drop(client);
                let got = connection.receive(LONG);
                let right = match sent {
                    0 => matches!(got, Err(NoMessage::Closed)),
                    _ => matches!(got, Err(NoMessage::Cut)),
                };
                assert!(right, "{sent} bytes, unread {unread}: {got:?}");
            }
        }
    }

    #[test]
    fn v3_half_a_message_has_its_time_and_a_stop_ends_it() {
        for sent in [1, 15, 16, 19] {
            let (mut connection, mut client) = pair();
            let begun = Instant::now();
            client.write_all(&MESSAGE[..sent]).expect("room");
            assert!(matches!(connection.receive(SHORT), Err(NoMessage::Late)));
            assert!((SHORT..LONG).contains(&begun.elapsed()));
            client.write_all(&MESSAGE[..sent]).expect("room");
            connection.stop.signal();
            let got = connection.receive(SHORT);
            assert!(matches!(got, Err(NoMessage::Stopped)), "{got:?}");
        }
    }

    #[test]
    fn v3_a_client_that_takes_no_reply_has_its_time_and_a_stop_ends_it() {
        let (connection, _client) = pair();
        let much = vec![0; 1 << 20];
        let begun = Instant::now();
        assert!(!connection.send(&much, SHORT));
        assert!((SHORT..LONG).contains(&begun.elapsed()));
        connection.stop.signal();
        assert!(!connection.send(&much, 10 * LONG));
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn descriptors_come_with_their_message_and_stay_in_this_process() {
        let (mut connection, client) = pair();
        let file = File::open("/dev/null").expect("there");
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        let passed = [file.as_fd()];
        assert!(rights.push(SendAncillaryMessage::ScmRights(&passed)));
        let bytes = [IoSlice::new(&MESSAGE)];
        sendmsg(&client, &bytes, &mut rights, SendFlags::empty()).expect("room");
        let (_, _, fds) = connection.receive(LONG).expect("a message");
        assert_eq!(fds.list.len(), 1);
        let flags = fcntl_getfd(&fds.list[0]).expect("open");
        assert!(flags.contains(FdFlags::CLOEXEC));
    }
}
