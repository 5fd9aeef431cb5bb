//! A server for the tests, with a codec of its own in literal numbers: a device of 16 KiB BAR 0, 3 vectors and as much
//! sense as the test leaves it.

use std::collections::BTreeMap;
use std::io::{IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};

/// A request as it came.
pub(super) struct Request {
    pub(super) id: u16,
    pub(super) command: u16,
    pub(super) flags: u32,
    pub(super) body: Vec<u8>,
    pub(super) fds: Vec<OwnedFd>,
}

impl Request {
    pub(super) fn u32(&self, at: usize) -> u32 {
        u32::from_ne_bytes(self.body[at..at + 4].try_into().unwrap())
    }
    pub(super) fn u64(&self, at: usize) -> u64 {
        u64::from_ne_bytes(self.body[at..at + 8].try_into().unwrap())
    }
}

/// What the device was made to be, for the test to look at.
#[derive(Default)]
pub(super) struct Device {
    pub(super) config: Vec<u8>,
    pub(super) registers: BTreeMap<u64, u32>,
    pub(super) vectors: BTreeMap<(u32, u32), OwnedFd>,
    pub(super) windows: BTreeMap<u64, (u64, OwnedFd)>,
    /// Commands in the order they came, with the flags.
    pub(super) log: Vec<(u16, u32)>,
    pub(super) resets: u32,
    pub(super) gone: bool,
    /// What region 0 offers to be mapped: the file, and where in the region.
    pub(super) offer: Option<(OwnedFd, u64, u64)>,
}

/// The connection, from the server's side.
pub(super) struct Peer(pub(super) UnixStream);

pub(super) fn header(id: u16, command: u16, len: u32, flags: u32, error: u32) -> Vec<u8> {
    [
        &id.to_ne_bytes()[..],
        &command.to_ne_bytes(),
        &(16 + len).to_ne_bytes(),
        &flags.to_ne_bytes(),
        &error.to_ne_bytes(),
    ]
    .concat()
}

impl Peer {
    /// `None` when the client is gone.
    fn receive(&mut self) -> Option<Request> {
        let mut fds = Vec::new();
        let mut head = [0; 16];
        let mut filled = 0;
        while filled < 16 {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(16))];
            let mut rights = RecvAncillaryBuffer::new(&mut space);
            let mut slice = [IoSliceMut::new(&mut head[filled..])];
            let got = recvmsg(&self.0, &mut slice, &mut rights, RecvFlags::CMSG_CLOEXEC).ok()?;
            for message in rights.drain() {
                if let RecvAncillaryMessage::ScmRights(more) = message {
                    fds.extend(more);
                }
            }
            if got.bytes == 0 {
                return None;
            }
            filled += got.bytes;
        }
        let word = |at: usize| u32::from_ne_bytes(head[at..at + 4].try_into().unwrap());
        let mut body = vec![0; word(4) as usize - 16];
        self.0.read_exact(&mut body).ok()?;
        Some(Request {
            id: u16::from_ne_bytes([head[0], head[1]]),
            command: u16::from_ne_bytes([head[2], head[3]]),
            flags: word(8),
            body,
            fds,
        })
    }

    pub(super) fn send(&mut self, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(32))];
        let mut rights = SendAncillaryBuffer::new(&mut space);
        assert!(fds.is_empty() || rights.push(SendAncillaryMessage::ScmRights(fds)));
        let _ = sendmsg(
            &self.0,
            &[IoSlice::new(bytes)],
            &mut rights,
            SendFlags::NOSIGNAL,
        );
    }

    pub(super) fn reply(&mut self, to: &Request, body: &[u8]) {
        if to.flags & 0x10 == 0 {
            let len = u32::try_from(body.len()).unwrap();
            let bytes = [header(to.id, to.command, len, 1, 0), body.to_vec()].concat();
            let _ = self.0.write_all(&bytes);
        }
    }

    pub(super) fn refuse(&mut self, to: &Request, errno: u32) {
        let _ = self.0.write_all(&header(to.id, to.command, 0, 0x21, errno));
    }
}

/// What a test does with a request instead of the sensible thing. False: the sensible thing.
pub(super) type Whim = dyn FnMut(&mut Peer, &mut Device, &Request) -> bool + Send;

pub(super) struct Server {
    pub(super) path: PathBuf,
    pub(super) device: Arc<Mutex<Device>>,
    thread: Option<JoinHandle<()>>,
}

impl Server {
    /// Serves one client after another, as many as `clients`.
    pub(super) fn start(clients: usize, mut whim: Box<Whim>) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "vfnic-{}-{}.sock",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let path = std::env::temp_dir().join(name);
        // A process of the same number that was killed may have left its own.
        let _ = std::fs::remove_file(&path);
        let listener = UnixListener::bind(&path).unwrap();
        let mut config = vec![0; 4096];
        config[..12].copy_from_slice(&[0x86, 0x80, 0xed, 0x10, 7, 0, 0x10, 0, 1, 0, 0, 2]);
        let device = Arc::new(Mutex::new(Device {
            config,
            ..Device::default()
        }));
        let shared = device.clone();
        let thread = std::thread::spawn(move || {
            for _ in 0..clients {
                let Ok((stream, _)) = listener.accept() else {
                    return;
                };
                let mut peer = Peer(stream);
                while let Some(request) = peer.receive() {
                    let mut device = shared.lock().unwrap();
                    device.log.push((request.command, request.flags));
                    if !whim(&mut peer, &mut device, &request) {
                        device.answer(&mut peer, request);
                    }
                }
                let mut device = shared.lock().unwrap();
                device.vectors.clear();
                device.windows.clear();
                device.gone = true;
            }
        });
        Self {
            path,
            device,
            thread: Some(thread),
        }
    }

    /// Waits until the last client's connection is over.
    pub(super) fn finish(mut self) -> Arc<Mutex<Device>> {
        self.thread.take().unwrap().join().unwrap();
        self.device.clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}

fn words(words: &[u32]) -> Vec<u8> {
    words.iter().flat_map(|word| word.to_ne_bytes()).collect()
}

impl Device {
    fn answer(&mut self, peer: &mut Peer, mut request: Request) {
        match request.command {
            1 => {
                let text = b"{\"capabilities\":{\"max_msg_fds\":2,\"max_data_xfer_size\":4096}}\0";
                peer.reply(&request, &[&[0, 0, 0, 0], &text[..]].concat());
            }
            2 => {
                let fd = request.fds.pop().unwrap();
                assert_eq!((request.u32(0), request.u32(4), request.u64(8)), (32, 3, 0));
                self.windows.insert(request.u64(16), (request.u64(24), fd));
                peer.reply(&request, &[]);
            }
            3 => {
                let known = self.windows.remove(&request.u64(8)).map(|(len, _)| len);
                assert_eq!(known, Some(request.u64(16)));
                peer.reply(&request, &request.body);
            }
            4 => peer.reply(&request, &words(&[16, 3, 9, 5])),
            5 => self.region(peer, &request),
            7 => {
                let counts = [0, 0, 3, 1, 1];
                let index = request.u32(8);
                peer.reply(&request, &words(&[16, 1, index, counts[index as usize]]));
            }
            8 => self.irqs(peer, request),
            9 => self.read(peer, &request),
            10 => {
                let (offset, index) = (request.u64(0), request.u32(8));
                let data = &request.body[16..];
                if index == 7 {
                    let at = usize::try_from(offset).unwrap();
                    self.config[at..at + data.len()].copy_from_slice(data);
                } else {
                    self.registers
                        .insert(offset, u32::from_le_bytes(data.try_into().unwrap()));
                }
                peer.reply(&request, &request.body[..16]);
            }
            13 => {
                self.resets += 1;
                self.registers.clear();
                peer.reply(&request, &[]);
            }
            _ => peer.refuse(&request, 95),
        }
    }

    fn region(&self, peer: &mut Peer, request: &Request) {
        let index = request.u32(8);
        let size: u32 = match index {
            0 | 3 => 0x4000,
            7 => 4096,
            _ => 0,
        };
        let info = |flags, caps| [words(&[80, flags, index, caps, size, 0]), vec![0; 8]].concat();
        match &self.offer {
            Some((file, offset, len)) if index == 0 => {
                let mut body = info(0xf, 32);
                body.extend([1, 0, 1, 0]);
                body.extend(words(&[0, 1, 0]));
                body.extend([offset.to_ne_bytes(), len.to_ne_bytes()].concat());
                let bytes = [
                    header(request.id, 5, u32::try_from(body.len()).unwrap(), 1, 0),
                    body,
                ]
                .concat();
                peer.send(&bytes, &[file.as_fd()]);
            }
            _ => peer.reply(request, &info(3, 0)),
        }
    }

    fn irqs(&mut self, peer: &mut Peer, request: Request) {
        let (index, start, count) = (request.u32(8), request.u32(12), request.u32(16));
        assert_eq!(request.u32(0), 20);
        match request.u32(4) {
            0x24 => {
                assert_eq!(request.fds.len(), count as usize);
                assert!(count <= 2, "two descriptors a message was the agreement");
            }
            0x21 => self.vectors.retain(|&(kind, _), _| kind != index),
            flags => panic!("flags {flags:#x}"),
        }
        peer.reply(&request, &[]);
        for (i, fd) in (start..).zip(request.fds) {
            self.vectors.insert((index, i), fd);
        }
    }

    fn read(&self, peer: &mut Peer, request: &Request) {
        let (offset, index, count) = (request.u64(0), request.u32(8), request.u32(12));
        let mut body = request.body.clone();
        if index == 7 {
            let at = usize::try_from(offset).unwrap();
            body.extend(&self.config[at..at + count as usize]);
        } else {
            let value = self.registers.get(&offset).copied().unwrap_or(0);
            body.extend(value.to_le_bytes());
        }
        peer.reply(request, &body);
    }
}
