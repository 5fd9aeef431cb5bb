//! A wire to a card in another process.

use std::fs::{File, TryLockError, remove_file};
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SendFlags, SocketAddrUnix, SocketFlags, SocketType, accept_with, bind, connect,
    listen, send, socket_with,
};
use vfnic_hw::Deadline;

use super::Port;
use super::reader::Reader;

/// How long another end may be about to listen or to connect; it takes microseconds.
const TURN: Duration = Duration::from_secs(2);

/// A wire to a card in another process: a Unix socket that keeps frames apart. Whoever comes first listens.
#[derive(Debug)]
pub struct Socket(Reader);

impl Socket {
    /// Connects to the socket at `path`, or listens there and waits for the other end. A wire that leads nowhere yet is
    /// no wire, so waiting may take for ever; it ends with `None` when `stop` becomes readable. The name goes as soon as
    /// both ends have met, and a name that was left by a process that died is in nobody's way.
    ///
    /// # Errors
    ///
    /// What the system says about path and socket; [`TimedOut`](io::ErrorKind::TimedOut) when somebody holds the lock of
    /// the directory that `path` is in.
    pub fn open(path: &Path, stop: &impl AsFd) -> io::Result<Option<Self>> {
        let listener = match meet(path)? {
            Met::Other(fd) => return Self::from_fd(fd).map(Some),
            Met::Nobody(listener) => listener,
        };
        let mut fds = [
            PollFd::new(&listener, PollFlags::IN),
            PollFd::new(stop, PollFlags::IN),
        ];
        while let Err(error) = poll(&mut fds, None) {
            if error != Errno::INTR {
                return Err(error.into());
            }
        }
        let stopped = fds[0].revents().is_empty();
        // Before the listener closes: a name that nobody listens behind is up for anybody to take.
        remove_file(path)?;
        if stopped {
            return Ok(None);
        }
        Self::from_fd(accept_with(&listener, SocketFlags::CLOEXEC)?).map(Some)
    }

    /// A wire over a connected socket that keeps message boundaries.
    ///
    /// # Errors
    ///
    /// When no thread or event is to be had.
    pub fn from_fd(fd: OwnedFd) -> io::Result<Self> {
        Reader::start("wire", fd).map(Self)
    }

    /// Calls `wake` whenever a frame arrives; the first call counts. For a card, its notifier.
    pub fn wake_with(&self, wake: impl Fn() + Send + Sync + 'static) {
        self.0.arrived().set_waker(Box::new(wake));
    }
}

/// Who was at the path.
enum Met {
    /// The other end, to which this is connected.
    Other(OwnedFd),
    /// Nobody: this listens now.
    Nobody(OwnedFd),
}

/// Finds the other end, or takes its place. Two that come at once take turns: if both saw nobody there, each would wait for the
/// other for ever.
fn meet(path: &Path) -> io::Result<Met> {
    let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
    let _turn = lock(dir.unwrap_or_else(|| Path::new(".")))?;
    let address = SocketAddrUnix::new(path.as_os_str().as_bytes())?;
    // A third end finds the listener's queue full, and does not wait in its turn.
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let new = || socket_with(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None);
    let socket = new()?;
    match connect(&socket, &address) {
        Ok(()) => return Ok(Met::Other(socket)),
        Err(Errno::NOENT) => {}
        // Its process has died.
        Err(Errno::CONNREFUSED) => remove_file(path)?,
        Err(error) => return Err(error.into()),
    }
    let listener = new()?;
    bind(&listener, &address)?;
    listen(&listener, 1)?;
    Ok(Met::Nobody(listener))
}

/// The only one to hold `dir` until it is closed; a process that dies closes it.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::open(dir)?;
    let deadline = Deadline::after(TURN);
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) if !deadline.is_over() => {
                std::thread::sleep(Duration::from_millis(1));
            }
            Err(TryLockError::WouldBlock) => {
                let text = format!("{} is locked by another process", dir.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

impl Port for Socket {
    fn send(&mut self, frame: &[u8]) -> bool {
        let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
        matches!(send(self.0.fd(), frame, flags), Ok(len) if len == frame.len())
    }
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        self.0.arrived().pop(frame)
    }
    fn has_frames(&mut self) -> bool {
        !self.0.arrived().is_empty()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use std::sync::mpsc::channel;
    use std::sync::{Arc, Barrier};

    use vfnic_hw::Event;

    use super::*;

    /// A directory of its own: its lock is nobody else's.
    fn directory(name: &str) -> std::path::PathBuf {
        let dir = std::env::temp_dir().join(format!("vfnic-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory");
        dir
    }

    fn open(path: &Path) -> Socket {
        let never = Event::new().expect("an event");
        let socket = Socket::open(path, &never).expect("a socket");
        socket.expect("nobody stops it")
    }

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
        let dir = directory("wire");
        let path = dir.join("wire.sock");
        let other = path.clone();
        let listener = std::thread::spawn(move || open(&other));
        let mut one = open(&path);
        let mut two = listener.join().expect("it opened");
        assert!(one.send(&[1; 60]) && one.send(&[2; 9000]));
        assert_eq!(wait_for(&mut two), [1; 60]);
        assert_eq!(wait_for(&mut two), [2; 9000]);
        assert!(two.send(&[3; 61]));
        assert_eq!(wait_for(&mut one), [3; 61]);
        std::fs::remove_dir(&dir).expect("the name is gone when both ends have met");
        drop(two);
        // Sending into a closed wire is a loss, not a signal.
        let deadline = Instant::now() + Duration::from_secs(5);
        while one.send(&[4; 60]) {
            assert!(Instant::now() < deadline, "the other end is gone");
        }
    }

    #[test]
    fn ends_that_come_at_once_meet() {
        let dir = directory("meet");
        let path = dir.join("wire.sock");
        let (done, finished) = channel();
        for _ in 0..200 {
            let gate = Arc::new(Barrier::new(2));
            for _ in 0..2 {
                let (path, done, gate) = (path.clone(), done.clone(), Arc::clone(&gate));
                std::thread::spawn(move || {
                    gate.wait();
                    done.send(open(&path)).expect("somebody waits for it");
                });
            }
            for _ in 0..2 {
                let met = finished.recv_timeout(Duration::from_secs(10));
                met.expect("both listen, and nobody comes");
            }
        }
        std::fs::remove_dir(&dir).expect("nothing is left");
    }

    #[test]
    fn a_name_whose_owner_died_is_taken_over_and_waiting_can_be_stopped() {
        let dir = directory("left");
        let path = dir.join("wire.sock");
        drop(std::os::unix::net::UnixListener::bind(&path).expect("a listener"));
        assert!(path.exists());
        let stop = Event::new().expect("an event");
        let told = stop.clone();
        let waiter = std::thread::spawn({
            let path = path.clone();
            move || Socket::open(&path, &told)
        });
        std::thread::sleep(Duration::from_millis(20));
        assert!(!waiter.is_finished(), "there is no other end");
        stop.signal();
        let stopped = waiter.join().expect("no panic").expect("no error");
        assert!(stopped.is_none());
        std::fs::remove_dir(&dir).expect("the name is gone");
    }

    #[test]
    fn a_directory_that_is_locked_is_told() {
        let dir = directory("locked");
        let held = lock(&dir).expect("nobody else has it");
        let never = Event::new().expect("an event");
        let error = Socket::open(&dir.join("wire.sock"), &never).expect_err("it is held");
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(error.to_string().contains("locked"), "{error}");
        drop(held);
        std::fs::remove_dir(&dir).expect("nothing was made");
    }
}
