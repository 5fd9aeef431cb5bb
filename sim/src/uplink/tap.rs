//! Wires out of the process: the host's network stack behind a TAP, and a card in another process behind a socket.

use std::fmt;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread::JoinHandle;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, send, socket_with,
};
use vfnic_hw::Event;

use super::Port;
use super::peer::Pipe;
use crate::dma::open_tap;

/// Frames held for the card; the host's stack or the other card waits or drops beyond that.
const HELD: usize = 1024;

/// Longest frame taken from outside, in bytes.
const LONGEST: usize = 16_384;

/// A thread that reads frames from a file descriptor into a pipe, so that a sleeping card can be woken.
struct Reader {
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
    fn start(name: &str, fd: Arc<OwnedFd>, pipe: Arc<Pipe>) -> io::Result<Self> {
        let stop = Event::new()?;
        let told = stop.clone();
        let thread = std::thread::Builder::new()
            .name(format!("vfnic-{name}"))
            .spawn(move || read(&fd, &told, &pipe))?;
        Ok(Self {
            stop,
            thread: Some(thread),
        })
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
                let _ = pipe.push(&buffer[..len]);
            }
            Err(Errno::INTR | Errno::AGAIN) => {}
            // A TAP that was taken down or removed.
            Err(Errno::IO | Errno::BADFD) => return,
            Err(_) => {}
        }
    }
}

/// A TAP interface of the host: its real network stack on the other end of the wire, or on the PF's own port.
#[derive(Debug)]
pub struct Tap {
    fd: Arc<OwnedFd>,
    arrived: Arc<Pipe>,
    _reader: Reader,
}

impl Tap {
    /// Attaches to the TAP interface `name`, made for as long as this lives if it does not exist. It still has to be
    /// brought up (`ip link set NAME up`).
    ///
    /// # Errors
    ///
    /// What the system says: no `/dev/net/tun`, no permission (CAP_NET_ADMIN, or the owner of an existing interface), or
    /// a name that is in use or too long.
    pub fn open(name: &str) -> io::Result<Self> {
        let fd = Arc::new(open_tap(name)?);
        let arrived = Pipe::new(HELD);
        let reader = Reader::start("tap", Arc::clone(&fd), Arc::clone(&arrived))?;
        Ok(Self {
            fd,
            arrived,
            _reader: reader,
        })
    }

    /// Calls `wake` whenever a frame arrives; the first call counts. For a card, its notifier.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.arrived.set_waker(Box::new(wake));
    }
}

impl Port for Tap {
    fn send(&mut self, frame: &[u8]) -> bool {
        matches!(rustix::io::write(&*self.fd, frame), Ok(len) if len == frame.len())
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.arrived.pop(frame)
    }
    fn has_frames(&mut self) -> bool {
        !self.arrived.is_empty()
    }
}

/// A wire to a card in another process: a Unix socket that keeps frames apart. Whoever comes first listens.
#[derive(Debug)]
pub struct Socket {
    fd: Arc<OwnedFd>,
    arrived: Arc<Pipe>,
    _reader: Reader,
    /// Removed when this end made it.
    path: Option<PathBuf>,
}

impl Socket {
    /// Connects to the socket at `path`, or listens there and waits for the other end. Waiting blocks: a wire that leads
    /// nowhere yet is no wire.
    ///
    /// # Errors
    ///
    /// What the system says about path and socket.
    pub fn open(path: &Path) -> io::Result<Self> {
        let new = || {
            let flags = SocketFlags::CLOEXEC;
            socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None)
        };
        let address = SocketAddrUnix::new(path.as_os_str().as_bytes())?;
        let first = new()?;
        if connect(&first, &address).is_ok() {
            return Self::over(first, None);
        }
        let _ = std::fs::remove_file(path);
        let listener = new()?;
        bind(&listener, &address)?;
        listen(&listener, 1)?;
        let other = accept_with(&listener, SocketFlags::CLOEXEC)?;
        Self::over(other, Some(path.to_owned()))
    }

    /// A wire over a connected socket that keeps message boundaries.
    ///
    /// # Errors
    ///
    /// When no thread or event is to be had.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Self::over(fd, None)
    }

    fn over(fd: OwnedFd, path: Option<PathBuf>) -> io::Result<Self> {
        let fd = Arc::new(fd);
        let arrived = Pipe::new(HELD);
        let reader = Reader::start("wire", Arc::clone(&fd), Arc::clone(&arrived))?;
        Ok(Self {
            fd,
            arrived,
            _reader: reader,
            path,
        })
    }

    /// Calls `wake` whenever a frame arrives; the first call counts. For a card, its notifier.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.arrived.set_waker(Box::new(wake));
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        if let Some(path) = self.path.take() {
            let _ = std::fs::remove_file(path);
        }
    }
}

impl Port for Socket {
    fn send(&mut self, frame: &[u8]) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        matches!(send(self.fd.as_fd(), frame, flags), Ok(len) if len == frame.len())
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.arrived.pop(frame)
    }
    fn has_frames(&mut self) -> bool {
        !self.arrived.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;

    fn wait_for(port: &mut impl Port) -> Vec<u8> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut frame = Vec::new();
        while !port.receive(&mut frame) {
            assert!(Instant::now() < deadline, "nothing arrived");
            std::thread::yield_now();
        }
        frame
    }

    #[test]
    fn two_processes_would_share_a_wire() {
        let path = std::env::temp_dir().join(format!("vfnic-wire-{}", std::process::id()));
        let other = path.clone();
        let listener = std::thread::spawn(move || Socket::open(&other).expect("a socket"));
        while !path.exists() {
            std::thread::yield_now();
        }
        let mut one = Socket::open(&path).expect("the other end listens");
        let mut two = listener.join().expect("it opened");
        assert!(one.send(&[1; 60]) && one.send(&[2; 9000]));
        assert_eq!(wait_for(&mut two), [1; 60]);
        assert_eq!(wait_for(&mut two), [2; 9000]);
        assert!(two.send(&[3; 61]));
        assert_eq!(wait_for(&mut one), [3; 61]);
        drop(two);
        assert!(!path.exists(), "the socket goes with its maker");
        // Sending into a closed wire is a loss, not a signal.
        let deadline = Instant::now() + Duration::from_secs(5);
        while one.send(&[4; 60]) {
            assert!(Instant::now() < deadline, "the other end is gone");
        }
    }

    #[test]
    fn a_tap_carries_frames_both_ways() {
        let name = format!("vfn{}", std::process::id() % 100_000);
        let mut tap = match Tap::open(&name) {
            Ok(tap) => tap,
            Err(error) => {
                eprintln!("skipped: no TAP to be had here: {error}");
                return;
            }
        };
        let up = std::process::Command::new("ip")
            .args(["link", "set", &name, "up"])
            .status();
        if !up.is_ok_and(|status| status.success()) {
            eprintln!("skipped: the interface cannot be brought up");
            return;
        }
        // The host's stack says something by itself when an interface comes up (IPv6 neighbour discovery, MLD), where it
        // speaks IPv6 at all.
        let mut frame = vec![0xff; 60];
        frame[12..14].copy_from_slice(&[0x88, 0xb5]);
        assert!(tap.send(&frame), "the host takes a frame");
        let counter = format!("/sys/class/net/{name}/statistics/rx_packets");
        let received = std::fs::read_to_string(counter).expect("an interface has counters");
        assert_eq!(received.trim(), "1");
    }
}
