//! Servers that refuse, lie, die or fall silent: an error in time, and nothing left behind.

use std::io::Write;
use std::os::fd::AsFd;
use std::sync::Mutex;

use proptest::prelude::*;

use super::super::server::{Device, Peer, Request, header};
use super::*;

/// Opens with little patience.
fn try_open(server: &Server) -> Result<Arc<dyn PciFunction>, PciError> {
    let options = UserOptions {
        deadline: Duration::from_millis(200),
    };
    connect(&server.path, &options)
}

#[test]
fn what_the_server_refuses_is_an_error_with_its_errno_and_no_more() {
    let server = Server::start(
        1,
        Box::new(|peer, _, request| {
            let errno = match request.command {
                2 => 28,
                8 => 0,
                _ => return false,
            };
            peer.refuse(request, errno);
            true
        }),
    );
    let function = open(&server);
    assert!(function.request_event().is_none() && function.error_event().is_none());
    let error = function
        .enable_vectors(&[Event::new().unwrap()])
        .unwrap_err();
    assert!(matches!(error, PciError::Protocol { .. }), "{error}");
    let error = function.dma_space().map(SMALL).unwrap_err();
    let vfnic_hw::DmaError::Map { source, .. } = error else {
        panic!("{error}")
    };
    assert_eq!(source.raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(function.dma_space().mapped_bytes(), 0);
    assert_eq!(
        function.bar(0).unwrap().read32(0),
        0,
        "the connection is fine"
    );
}

#[test]
fn stray_messages_do_not_pass_for_replies() {
    let refused = Arc::new(Mutex::new(Vec::new()));
    let seen = refused.clone();
    let whim = move |peer: &mut Peer, _: &mut Device, request: &Request| {
        match request.command {
            9 if request.flags & 0xf == 0 => {
                // A reply to nobody, an error to nobody, and a request of the server's own.
                let other = request.id.wrapping_sub(1);
                peer.0
                    .write_all(&[header(other, 9, 4, 1, 0), vec![1; 4]].concat())
                    .unwrap();
                peer.0.write_all(&header(other, 10, 0, 0x21, 5)).unwrap();
                peer.0
                    .write_all(&[header(900, 11, 16, 0, 0), vec![0; 16]].concat())
                    .unwrap();
                false
            }
            11 => {
                seen.lock().unwrap().push((request.id, request.flags));
                true
            }
            _ => false,
        }
    };
    let server = Server::start(1, Box::new(whim));
    let function = open(&server);
    let bar = function.bar(0).unwrap();
    bar.write32(4, 0x55);
    assert_eq!(bar.read32(4), 0x55);
    drop((bar, function));
    server.finish();
    assert!(refused.lock().unwrap().contains(&(900, 0x21)));
}

/// Everything a server can do wrong in one step: (name, the command it happens at, what it does).
type Wrong = (&'static str, u16, fn(&mut Peer, &Request));

const WRONGS: [Wrong; 17] = [
    ("silence at version", 1, |_, _| {}),
    ("close at version", 1, |peer, _| {
        peer.0.shutdown(std::net::Shutdown::Both).unwrap()
    }),
    ("short version", 1, |peer, request| {
        peer.reply(request, &[0, 0])
    }),
    ("other major", 1, |peer, request| {
        peer.reply(request, &[9, 0, 0, 0])
    }),
    ("no JSON", 1, |peer, request| {
        peer.reply(request, b"\0\0\0\0{{{\0")
    }),
    ("half a header", 1, |peer, request| {
        peer.0
            .write_all(&header(request.id, 1, 0, 1, 0)[..7])
            .unwrap();
    }),
    ("size 15", 1, |peer, request| {
        let mut bytes = header(request.id, 1, 0, 1, 0);
        bytes[4] = 15;
        peer.0.write_all(&bytes).unwrap();
    }),
    ("size 4 GiB", 4, |peer, request| {
        let mut bytes = header(request.id, 4, 0, 1, 0);
        bytes[4..8].fill(0xff);
        peer.0.write_all(&bytes).unwrap();
    }),
    ("body that does not come", 4, |peer, request| {
        peer.0.write_all(&header(request.id, 4, 16, 1, 0)).unwrap();
    }),
    ("other command", 4, |peer, request| {
        peer.0.write_all(&header(request.id, 5, 0, 1, 0)).unwrap();
    }),
    ("short device info", 4, |peer, request| {
        peer.reply(request, &[0; 15])
    }),
    ("no PCI device", 4, |peer, request| {
        peer.reply(request, &[0; 16])
    }),
    ("short region info", 5, |peer, request| {
        peer.reply(request, &[0; 31])
    }),
    ("short irq info", 7, |peer, request| {
        peer.reply(request, &[0; 15])
    }),
    ("short read", 9, |peer, request| {
        peer.reply(request, &request.body)
    }),
    ("read of something else", 9, |peer, request| {
        let mut body = request.body.clone();
        body[0] ^= 1;
        body.extend(vec![0; request.u32(12) as usize]);
        peer.reply(request, &body);
    }),
    ("20 descriptors", 4, |peer, request| {
        let fds = [peer.0.try_clone().unwrap()];
        let bytes = [header(request.id, 4, 16, 1, 0), vec![2; 16]].concat();
        peer.send(&bytes, &[fds[0].as_fd(); 20]);
    }),
];

#[test]
fn nonsense_ends_the_connection_in_time_and_leaves_nothing_behind() {
    for (name, at, wrong) in WRONGS {
        let whim = move |peer: &mut Peer, _: &mut Device, request: &Request| {
            if request.command == at {
                wrong(peer, request);
            }
            request.command == at
        };
        let server = Server::start(1, Box::new(whim));
        let start = Instant::now();
        let error = try_open(&server).expect_err(name);
        assert!(
            matches!(error, PciError::Protocol { .. }),
            "{name}: {error}"
        );
        assert!(start.elapsed() < Duration::from_secs(2), "{name}");
        assert!(server.finish().lock().unwrap().gone, "{name}");
    }
}

#[test]
fn a_server_that_dies_looks_like_a_device_that_was_pulled() {
    let whim = |peer: &mut Peer, _: &mut Device, request: &Request| {
        let last = request.command == 9 && request.u64(0) == 0x30;
        if last {
            peer.0.shutdown(std::net::Shutdown::Both).unwrap();
        }
        last
    };
    let server = Server::start(1, Box::new(whim));
    let function = open(&server);
    let region = function.dma_space().map(SMALL).unwrap();
    let bar = function.bar(0).unwrap();
    assert_eq!(bar.read32(0x30), u32::MAX);
    let start = Instant::now();
    for _ in 0..100 {
        assert_eq!(bar.read32(0), u32::MAX);
        bar.write32(0, 1);
        bar.doorbell(0x18).unwrap().ring(1);
    }
    assert!(function.read_config(0, &mut [0; 4]).is_err());
    assert!(function.reset().is_err());
    assert!(function.enable_vectors(&[Event::new().unwrap()]).is_err());
    drop(region);
    drop(function);
    assert!(start.elapsed() < Duration::from_secs(1));
}

#[test]
fn a_server_that_stops_reading_stops_nobody_for_long() {
    // It stays in the first posted write until the test has seen enough.
    let (seen, stuck) = std::sync::mpsc::channel::<()>();
    let whim = move |_: &mut Peer, _: &mut Device, request: &Request| {
        if request.command == 10 && request.flags & 0x10 != 0 {
            let _ = stuck.recv_timeout(Duration::from_secs(60));
        }
        false
    };
    let server = Server::start(1, Box::new(whim));
    // With everybody's deadline: a machine that is busy elsewhere has time to open it.
    let function = open(&server);
    let bar = function.bar(0).unwrap();
    let start = Instant::now();
    for _ in 0..100_000 {
        bar.write32(0, 1);
    }
    // One deadline passes, then the function is gone and nothing is waited for.
    assert!(start.elapsed() < Duration::from_secs(10));
    assert_eq!(bar.read32(0), u32::MAX);
    drop(seen);
}

#[test]
fn descriptors_nobody_asked_for_are_closed() {
    // Not counted in /proc/self/fd, where other tests come and go: the other end of a pipe tells.
    let (read, write) = std::io::pipe().unwrap();
    let mut write = Some(write);
    let whim = move |peer: &mut Peer, _: &mut Device, request: &Request| {
        if request.command != 4 {
            return false;
        }
        let write = write.take().unwrap();
        let body: Vec<u8> = [16u32, 3, 9, 5]
            .iter()
            .flat_map(|w| w.to_ne_bytes())
            .collect();
        let bytes = [header(request.id, 4, 16, 1, 0), body].concat();
        peer.send(&bytes, &[write.as_fd(); 8]);
        true
    };
    let server = Server::start(1, Box::new(whim));
    let function = open(&server);
    assert_eq!(
        rustix::io::read(&read, &mut [0; 1]).unwrap(),
        0,
        "end of file"
    );
    drop(function);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Any bytes in place of any one reply: an answer or an error, in time, and no panic.
    #[test]
    fn any_answer_is_survived(
        at in prop::sample::select(vec![1u16, 4, 5, 7, 8, 9, 10, 13, 2]),
        honest_header: bool,
        body in prop::collection::vec(any::<u8>(), 0..100),
        fds in 0usize..4,
    ) {
        let whim = move |peer: &mut Peer, _: &mut Device, request: &Request| {
            if request.command != at || request.flags & 0x10 != 0 {
                return false;
            }
            let len = u32::try_from(body.len()).unwrap();
            let head = if honest_header { header(request.id, at, len, 1, 0) } else { Vec::new() };
            let file = peer.0.try_clone().unwrap();
            peer.send(&[head, body.clone(), vec![0; 16]].concat(), &vec![file.as_fd(); fds]);
            true
        };
        let server = Server::start(1, Box::new(whim));
        let options = UserOptions { deadline: Duration::from_millis(50) };
        let start = Instant::now();
        if let Ok(function) = connect(&server.path, &options) {
            if let Ok(bar) = function.bar(0) {
                bar.write32(0, bar.read32(4));
            }
            let _ = function.dma_space().map(SMALL);
            let _ = function.enable_vectors(&[Event::new().unwrap()]);
            let _ = function.reset();
        }
        prop_assert!(start.elapsed() < Duration::from_secs(7));
    }
}

/// Opens at a server that sends these numbers of descriptors with the head and with the body of a reply.
fn opened_with(head: usize, body: usize) -> bool {
    let whim = move |peer: &mut Peer, _: &mut Device, request: &Request| {
        let asked = request.command == 4;
        if asked {
            let null = File::open("/dev/null").unwrap();
            let words = [16u32, 3, 9, 5].map(u32::to_ne_bytes).concat();
            peer.send(&header(request.id, 4, 16, 1, 0), &vec![null.as_fd(); head]);
            peer.send(&words, &vec![null.as_fd(); body]);
        }
        asked
    };
    let server = Server::start(1, Box::new(whim));
    connect(&server.path, &UserOptions::default()).is_ok()
}

#[test]
fn no_more_than_8_descriptors_come_with_a_message_at_once_or_in_all() {
    assert!(opened_with(8, 0) && opened_with(4, 4));
    assert!(!opened_with(9, 0), "cut off by the kernel");
    assert!(!opened_with(5, 4) && !opened_with(8, 1));
}
