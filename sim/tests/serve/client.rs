//! A vfio-user client that can break every rule: messages are bytes, written here by hand and not with the server's own
//! codec. And a server to break them on.

use std::io::{IoSlice, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{EventfdFlags, eventfd};
use rustix::fs::{MemfdFlags, ftruncate, memfd_create};
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use vfnic_sim::serve::{Blank, Limits, Server, VfSource};

pub(crate) const VERSION: u16 = 1;
pub(crate) const DMA_MAP: u16 = 2;
pub(crate) const DMA_UNMAP: u16 = 3;
pub(crate) const GET_INFO: u16 = 4;
pub(crate) const GET_REGION_INFO: u16 = 5;
pub(crate) const GET_REGION_IO_FDS: u16 = 6;
pub(crate) const GET_IRQ_INFO: u16 = 7;
pub(crate) const SET_IRQS: u16 = 8;
pub(crate) const REGION_READ: u16 = 9;
pub(crate) const REGION_WRITE: u16 = 10;
pub(crate) const DMA_READ: u16 = 11;
pub(crate) const RESET: u16 = 13;
pub(crate) const WRITE_MULTI: u16 = 15;

pub(crate) const CONFIG: u32 = 7;

pub(crate) const NO_REPLY: u32 = 0x10;

pub(crate) const EPERM: i32 = 1;
pub(crate) const EBADF: i32 = 9;
pub(crate) const EACCES: i32 = 13;
pub(crate) const EEXIST: i32 = 17;
pub(crate) const EINVAL: i32 = 22;
pub(crate) const EMFILE: i32 = 24;
pub(crate) const ENOSPC: i32 = 28;
pub(crate) const EPROTONOSUPPORT: i32 = 93;
pub(crate) const ENOTSUP: i32 = 95;

/// How long a client here waits for anything.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A directory for sockets, removed at the end.
pub(crate) struct Dir(PathBuf);

impl Dir {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "vfnic-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        std::fs::create_dir(&path).expect("a directory for sockets");
        Self(path)
    }
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Dir {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

/// Soon enough for anything a server does by itself.
pub(crate) const SOON: Duration = Duration::from_secs(2);

/// Deadlines short enough to wait for.
pub(crate) fn short() -> Limits {
    Limits {
        handshake: Duration::from_millis(300),
        message: Duration::from_millis(300),
        reply: Duration::from_millis(300),
        ..Limits::default()
    }
}

/// A server of functions without a card.
pub(crate) struct Bed {
    pub(crate) server: Server,
    pub(crate) functions: Vec<Blank>,
    pub(crate) dir: Dir,
}

impl Bed {
    pub(crate) fn new() -> Self {
        Self::with(1, Limits::default())
    }
    pub(crate) fn with(functions: usize, limits: Limits) -> Self {
        let functions: Vec<Blank> = (0..functions).map(|_| Blank::default()).collect();
        let sources = functions
            .iter()
            .map(|function| Arc::new(function.clone()) as Arc<dyn VfSource>);
        let dir = Dir::new();
        let server = Server::start(dir.path(), sources.collect(), limits).expect("a server");
        Self {
            server,
            functions,
            dir,
        }
    }
    pub(crate) fn socket(&self, vf: usize) -> PathBuf {
        self.dir.path().join(format!("vf{vf}.sock"))
    }
    /// A client that has agreed on a version.
    pub(crate) fn client(&self) -> Client {
        self.client_of(0)
    }
    pub(crate) fn client_of(&self, vf: usize) -> Client {
        let mut client = Client::connect(&self.socket(vf));
        client.agree();
        client
    }
    /// A client without a version.
    pub(crate) fn stranger(&self) -> Client {
        Client::connect(&self.socket(0))
    }
    /// Asserts that the function is given back within `time`, and that the next client is served.
    pub(crate) fn serves_the_next(&self, time: Duration) {
        let free = || !self.functions[0].is_open();
        assert!(
            eventually(time, free),
            "the session is still open after {time:?}"
        );
        let mut next = self.client();
        next.call(
            GET_INFO,
            &[&16u32.to_le_bytes()[..], &[0; 12]].concat(),
            &[],
        )
        .expect("the next client is served");
    }
}

/// Polls until it is true; false when `time` has passed.
pub(crate) fn eventually(time: Duration, mut true_yet: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + time;
    while !true_yet() {
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    true
}

/// One reply.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) id: u16,
    pub(crate) command: u16,
    pub(crate) flags: u32,
    pub(crate) error: i32,
    pub(crate) body: Vec<u8>,
}

pub(crate) struct Client {
    pub(crate) socket: UnixStream,
    next: u16,
}

impl Client {
    /// Connects; a server that is still clearing the last client away takes a moment.
    pub(crate) fn connect(path: &Path) -> Self {
        let socket = UnixStream::connect(path).expect("the server listens");
        socket.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        socket.set_write_timeout(Some(PATIENCE)).expect("a timeout");
        Self { socket, next: 1 }
    }

    pub(crate) fn agree(&mut self) {
        let json = br#"{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"write_multiple":true}}"#;
        self.call(VERSION, &version(0, 0, &[&json[..], &[0]].concat()), &[])
            .expect("a version");
    }

    /// Bytes as they are.
    pub(crate) fn raw(&mut self, bytes: &[u8]) {
        self.socket.write_all(bytes).expect("the server reads");
    }

    /// Bytes to a server that may have closed.
    pub(crate) fn raw_or_closed(&mut self, bytes: &[u8]) {
        let _ = self.socket.write_all(bytes);
    }

    /// Bytes with descriptors.
    pub(crate) fn raw_fds(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(253))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        if !fds.is_empty() {
            assert!(control.push(SendAncillaryMessage::ScmRights(fds)));
        }
        let sent = sendmsg(
            &self.socket,
            &[IoSlice::new(bytes)],
            &mut control,
            SendFlags::NOSIGNAL,
        );
        assert_eq!(sent, Ok(bytes.len()), "the server reads");
    }

    pub(crate) fn post(
        &mut self,
        command: u16,
        flags: u32,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> u16 {
        let id = self.next;
        self.next = self.next.wrapping_add(1);
        self.raw_fds(&message(id, command, flags, body), fds);
        id
    }

    pub(crate) fn call(
        &mut self,
        command: u16,
        body: &[u8],
        fds: &[BorrowedFd<'_>],
    ) -> Result<Vec<u8>, i32> {
        let id = self.post(command, 0, body, fds);
        let answer = self.answer();
        assert_eq!((answer.id, answer.command), (id, command));
        if answer.flags & 0x20 == 0 {
            assert_eq!((answer.flags, answer.error), (1, 0));
            Ok(answer.body)
        } else {
            assert_eq!(
                (answer.flags, answer.body.len()),
                (0x21, 0),
                "an error reply is a header alone"
            );
            Err(answer.error)
        }
    }

    /// The next reply.
    pub(crate) fn answer(&mut self) -> Answer {
        self.try_answer().expect("a reply")
    }

    /// The next reply, or nothing when the server has closed.
    pub(crate) fn try_answer(&mut self) -> Option<Answer> {
        let mut head = [0; 16];
        match self.socket.read(&mut head) {
            Ok(0) => return None,
            Ok(some) => self
                .socket
                .read_exact(&mut head[some..])
                .expect("a whole header"),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => return None,
            Err(error) => panic!("no reply: {error}"),
        }
        let word = |at: usize| u32::from_le_bytes(head[at..at + 4].try_into().expect("four bytes"));
        let mut body = vec![0; word(4) as usize - 16];
        self.socket.read_exact(&mut body).expect("a whole body");
        Some(Answer {
            id: word(0) as u16,
            command: (word(0) >> 16) as u16,
            flags: word(8),
            error: word(12) as i32,
            body,
        })
    }

    /// The server has closed the session, after at most one more reply, which is given.
    pub(crate) fn is_closed(&mut self) -> Option<i32> {
        let last = self.try_answer();
        if last.is_some() {
            assert!(
                self.try_answer().is_none(),
                "a reply where the session should be over"
            );
        }
        last.map(|answer| answer.error)
    }

    pub(crate) fn map(
        &mut self,
        flags: u32,
        offset: u64,
        address: u64,
        size: u64,
        fd: Option<&OwnedFd>,
    ) -> Result<(), i32> {
        let fds: Vec<_> = fd.iter().map(|fd| fd.as_fd()).collect();
        self.call(DMA_MAP, &dma_map(flags, offset, address, size), &fds)
            .map(|_| ())
    }

    pub(crate) fn unmap(&mut self, flags: u32, address: u64, size: u64) -> Result<(), i32> {
        let body = dma_unmap(flags, address, size);
        self.call(DMA_UNMAP, &body, &[])
            .map(|answer| assert_eq!(answer, body, "the reply repeats the request"))
    }

    pub(crate) fn read(&mut self, region: u32, offset: u64, count: u32) -> Result<Vec<u8>, i32> {
        let request = span(offset, region, count);
        let answer = self.call(REGION_READ, &request, &[])?;
        assert_eq!(answer[..16], request);
        Ok(answer[16..].to_vec())
    }

    pub(crate) fn write(&mut self, region: u32, offset: u64, data: &[u8]) -> Result<(), i32> {
        let request = span(offset, region, data.len() as u32);
        let answer = self.call(REGION_WRITE, &[&request[..], data].concat(), &[])?;
        assert_eq!(answer, request);
        Ok(())
    }

    pub(crate) fn set_irqs(
        &mut self,
        flags: u32,
        index: u32,
        start: u32,
        count: u32,
        data: &[u8],
        fds: &[&OwnedFd],
    ) -> Result<(), i32> {
        let fds: Vec<_> = fds.iter().map(|fd| fd.as_fd()).collect();
        self.call(SET_IRQS, &set_irqs(flags, index, start, count, data), &fds)
            .map(|answer| assert!(answer.is_empty()))
    }
}

pub(crate) fn message(id: u16, command: u16, flags: u32, body: &[u8]) -> Vec<u8> {
    let size = body.len() as u32 + 16;
    let mut bytes = header(id, command, size, flags).to_vec();
    bytes.extend_from_slice(body);
    bytes
}

pub(crate) fn header(id: u16, command: u16, size: u32, flags: u32) -> [u8; 16] {
    let words = [u32::from(id) | u32::from(command) << 16, size, flags, 0];
    let mut bytes = [0; 16];
    for (place, word) in bytes.chunks_exact_mut(4).zip(words) {
        place.copy_from_slice(&word.to_le_bytes());
    }
    bytes
}

pub(crate) fn words(list: &[u32]) -> Vec<u8> {
    list.iter().flat_map(|word| word.to_le_bytes()).collect()
}

pub(crate) fn version(major: u16, minor: u16, data: &[u8]) -> Vec<u8> {
    [&major.to_le_bytes()[..], &minor.to_le_bytes(), data].concat()
}

pub(crate) fn dma_map(flags: u32, offset: u64, address: u64, size: u64) -> Vec<u8> {
    let mut body = words(&[32, flags]);
    for field in [offset, address, size] {
        body.extend_from_slice(&field.to_le_bytes());
    }
    body
}

pub(crate) fn dma_unmap(flags: u32, address: u64, size: u64) -> Vec<u8> {
    let mut body = words(&[24, flags]);
    body.extend_from_slice(&address.to_le_bytes());
    body.extend_from_slice(&size.to_le_bytes());
    body
}

pub(crate) fn span(offset: u64, region: u32, count: u32) -> Vec<u8> {
    [
        &offset.to_le_bytes()[..],
        &region.to_le_bytes(),
        &count.to_le_bytes(),
    ]
    .concat()
}

pub(crate) fn set_irqs(flags: u32, index: u32, start: u32, count: u32, data: &[u8]) -> Vec<u8> {
    let mut body = words(&[20 + data.len() as u32, flags, index, start, count]);
    body.extend_from_slice(data);
    body
}

/// Client memory as a well-behaved client has it.
pub(crate) fn memory(len: u64) -> OwnedFd {
    let fd =
        memfd_create("client", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).expect("memory");
    ftruncate(&fd, len).expect("memory");
    fd
}

pub(crate) fn event() -> OwnedFd {
    eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK).expect("an eventfd")
}

/// Takes an eventfd's count, waiting for it to be more than 0.
pub(crate) fn taken(fd: &OwnedFd) -> u64 {
    let mut value = [0; 8];
    let mut count = 0;
    eventually(PATIENCE, || {
        let read = rustix::io::read(fd, &mut value);
        count = if read.is_ok() {
            u64::from_ne_bytes(value)
        } else {
            0
        };
        count > 0
    });
    count
}

/// Takes an eventfd's count as it is.
pub(crate) fn count(fd: &OwnedFd) -> u64 {
    let mut value = [0; 8];
    match rustix::io::read(fd, &mut value) {
        Ok(_) => u64::from_ne_bytes(value),
        Err(_) => 0,
    }
}

/// A pipe whose write end can be given away: the other end reads as closed once every copy is.
pub(crate) struct Telltale(OwnedFd, Option<OwnedFd>);

impl Telltale {
    pub(crate) fn new() -> Self {
        let (read, write) =
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::NONBLOCK).expect("a pipe");
        Self(read, Some(write))
    }
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.1.as_ref().expect("not given away").as_fd()
    }
    /// Whether the other side's copies are closed, or will be in a moment.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.1 = None;
        eventually(Duration::from_secs(2), || {
            matches!(rustix::io::read(&self.0, &mut [0; 8]), Ok(0))
        })
    }
}
