//! One end of a socket, with nobody sensible at the other.

use super::*;
use std::fs::File;
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::time::Instant;

use rustix::fs::{OFlags, fcntl_getfl};
use rustix::io::{FdFlags, fcntl_getfd};
use rustix::net::sockopt::{Timeout, set_socket_timeout};
use rustix::net::{accept, bind, listen, socketpair};

/// More than any call here may take, but for those that wait for more time.
const LONG: Duration = Duration::from_secs(2);
const SHORT: Duration = Duration::from_millis(50);

/// A connection that has agreed on everything, and its other end. A call that blocks goes on after a while.
fn pair() -> (Connection, UnixStream) {
    let (socket, peer) = socketpair(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    for timeout in [Timeout::Recv, Timeout::Send] {
        set_socket_timeout(&socket, timeout, Some(LONG)).unwrap();
    }
    let connection = Connection {
        socket,
        exchange: Mutex::new(0),
        broken: AtomicBool::new(false),
        limits: Limits {
            fds: 1,
            data: 4096,
            maps: 1,
        },
        deadline: SHORT,
        process: std::process::id(),
    };
    (connection, peer.into())
}

#[test]
fn a_child_of_fork_ends_nothing_of_its_parents() {
    let (mut connection, peer) = pair();
    connection.process = connection.process.wrapping_add(1);
    connection.close();
    assert!(!connection.is_ours() && !connection.is_broken());
    let until = Deadline::after(LONG);
    connection.send(b"x", &[], until).unwrap();
    connection.process = std::process::id();
    assert!(connection.is_ours());
    connection.close();
    assert!(connection.is_broken());
    let mut all = Vec::new();
    io::Read::read_to_end(&mut &peer, &mut all).unwrap();
    assert_eq!(all, b"x");
    let again = connection.post(Message::new(Command::Version));
    assert!(matches!(again, Err(Failure::Broken(text)) if text.contains("over")));
}

#[test]
fn v3_a_server_that_takes_nothing_or_says_nothing_costs_its_time_and_no_more() {
    let (connection, _peer) = pair();
    let begun = Instant::now();
    let much = vec![0; 1 << 20];
    let error = connection.send(&much, &[], Deadline::after(SHORT));
    assert_eq!(error, Err("the server takes no request".to_owned()));
    let mut one = [0; 1];
    let error = connection.receive(&mut one, &mut Vec::new(), Deadline::after(SHORT));
    assert_eq!(error, Err("the server does not answer".to_owned()));
    assert!((2 * SHORT..LONG).contains(&begun.elapsed()));
}

#[test]
fn what_comes_after_the_deadline_is_too_late_even_if_it_is_there() {
    let (connection, peer) = pair();
    io::Write::write_all(&mut &peer, b"x").unwrap();
    let wait = |time| connection.wait(PollFlags::IN, Deadline::after(time), "is late");
    assert_eq!(wait(LONG), Ok(()));
    assert_eq!(wait(Duration::ZERO), Err("the server is late".to_owned()));
}

#[test]
fn descriptors_go_once_however_many_pieces_a_message_goes_in() {
    let (connection, peer) = pair();
    let much = vec![7; 1 << 20];
    let file = File::open("/dev/null").unwrap();
    let (bytes, fds) = std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let (mut bytes, mut fds) = (0, 0);
            loop {
                let mut buffer = [0; 4096];
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
                let mut rights = RecvAncillaryBuffer::new(&mut space);
                let flags = RecvFlags::CMSG_CLOEXEC;
                let mut into = [IoSliceMut::new(&mut buffer)];
                let received = recvmsg(&peer, &mut into, &mut rights, flags).unwrap();
                for message in rights.drain() {
                    if let RecvAncillaryMessage::ScmRights(more) = message {
                        fds += more.count();
                    }
                }
                if received.bytes == 0 {
                    return (bytes, fds);
                }
                bytes += received.bytes;
            }
        });
        let sent = connection.send(&much, &[file.as_fd()], Deadline::after(10 * LONG));
        connection.close();
        sent.unwrap();
        reader.join().unwrap()
    });
    assert_eq!((bytes, fds), (much.len(), 1));
}

/// A socket that listens, with room for as few callers as can be, and its path.
fn listener(name: &str) -> (OwnedFd, std::path::PathBuf) {
    let path = std::env::temp_dir().join(format!("vfnic-dial-{name}-{}", std::process::id()));
    let _ = std::fs::remove_file(&path);
    let socket = socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    bind(&socket, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    listen(&socket, 0).unwrap();
    (socket, path)
}

#[test]
fn a_server_with_a_full_queue_is_called_again_until_the_deadline() {
    let (server, path) = listener("full");
    let mut callers = Vec::new();
    let full = loop {
        match dial(&path, Duration::ZERO) {
            Ok(caller) => callers.push(caller),
            Err(error) => break error,
        }
        assert!(callers.len() < 100);
    };
    assert_eq!(full.kind(), io::ErrorKind::WouldBlock);
    for caller in &callers {
        assert!(fcntl_getfd(caller).unwrap().contains(FdFlags::CLOEXEC));
        assert!(fcntl_getfl(caller).unwrap().contains(OFlags::NONBLOCK));
    }
    let begun = Instant::now();
    let late = dial(&path, SHORT).unwrap_err();
    assert_eq!(late.kind(), io::ErrorKind::WouldBlock);
    assert!((SHORT..LONG).contains(&begun.elapsed()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            std::thread::sleep(SHORT);
            accept(&server).unwrap();
        });
        dial(&path, 10 * LONG).unwrap();
    });
    std::fs::remove_file(&path).unwrap();
    let nobody = dial(&path, 10 * LONG).unwrap_err();
    assert_eq!(nobody.kind(), io::ErrorKind::NotFound);
}
