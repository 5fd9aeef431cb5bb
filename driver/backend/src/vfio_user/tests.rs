mod limits;

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vfnic_hw::{DmaRequest, DmaSpace, Event, PciError, PciFunction};

use super::server::{Device, Peer, Request, Server, header};
use super::{UserOptions, UserSpace, connect, connect_handed, connect_in};
use crate::memory::Memory;

const SMALL: DmaRequest = DmaRequest {
    len: 8192,
    prefer_huge: false,
};

fn sensible() -> Server {
    Server::start(1, Box::new(|_, _, _| false))
}

fn open(server: &Server) -> Arc<dyn PciFunction> {
    connect(&server.path, &UserOptions::default()).unwrap()
}

/// Opens with little patience.
fn try_open(server: &Server) -> Result<Arc<dyn PciFunction>, PciError> {
    let options = UserOptions {
        deadline: Duration::from_millis(200),
    };
    connect(&server.path, &options)
}

#[test]
fn a_function_is_reset_quiet_and_known_when_it_is_open() {
    let server = sensible();
    let function = open(&server);
    let ids = function.ids();
    assert_eq!(
        (ids.vendor, ids.device, ids.class),
        (0x8086, 0x10ed, 0x02_0000)
    );
    assert_eq!(function.vector_count(), 3);
    assert!(function.name().starts_with("vfio-user:/"));
    let device = server.device.lock().unwrap();
    assert_eq!(device.resets, 1);
    assert_eq!(device.config[4] & 4, 0, "bus mastering");
}

#[test]
fn a_socket_that_somebody_else_has_connected_will_do() {
    let server = sensible();
    let path = server.path.clone();
    let socket = std::os::unix::net::UnixStream::connect(&path).unwrap();
    let copy = socket.try_clone().unwrap();
    rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::empty()).unwrap();
    let function = connect_handed(socket.into(), &UserOptions::default()).unwrap();
    assert_eq!(function.name(), format!("vfio-user:{}", path.display()));
    assert_eq!(function.ids().device, 0x10ed);
    // The parent may go and the function stays; when the function goes the server sees it, copies or not.
    function.reset().unwrap();
    drop(function);
    let device = server.finish();
    assert_eq!(device.lock().unwrap().resets, 2);
    drop(copy);
}

#[test]
fn what_is_no_stream_socket_is_refused() {
    let (datagrams, _other) = std::os::unix::net::UnixDatagram::pair().unwrap();
    let null = File::open("/dev/null").unwrap();
    for fd in [OwnedFd::from(datagrams), OwnedFd::from(null)] {
        let error = connect_handed(fd, &UserOptions::default()).unwrap_err();
        assert!(matches!(error, PciError::Protocol { .. }), "{error}");
        assert!(error.to_string().contains("handed over"), "{error}");
    }
}

/// A server without a path, at the other end of a pair, that says nothing.
#[test]
fn a_silent_socket_costs_no_more_than_the_deadline() {
    let (ours, _theirs) = std::os::unix::net::UnixStream::pair().unwrap();
    let options = UserOptions {
        deadline: Duration::from_millis(100),
    };
    let start = Instant::now();
    let error = connect_handed(ours.into(), &options).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5));
    assert!(
        error.to_string().contains("a socket handed over"),
        "{error}"
    );
}

#[test]
fn registers_are_read_by_request_and_written_without_waiting() {
    let server = sensible();
    let function = open(&server);
    let bar = function.bar(0).unwrap();
    assert_eq!(bar.len(), 0x4000);
    bar.write32(0x10, 0xabcd_1234);
    assert_eq!(bar.read32(0x10), 0xabcd_1234);
    bar.doorbell(0x3018).unwrap().ring(77);
    assert_eq!(bar.read32(0x3018), 77);
    assert_eq!(bar.read32(0x4000), u32::MAX);
    assert!(matches!(function.bar(1), Err(PciError::Bar { .. })));
    assert!(matches!(function.bar(6), Err(PciError::Bar { .. })));
    let device = server.device.lock().unwrap();
    let posted = device.log.iter().filter(|&&entry| entry == (10, 0x10));
    assert_eq!(posted.count(), 2);
}

#[test]
fn vectors_go_in_as_many_messages_as_the_server_wants_and_arrive() {
    let server = sensible();
    let function = open(&server);
    let events: Vec<_> = (0..4).map(|_| Event::new().unwrap()).collect();
    let Err(PciError::Vectors {
        want: 4, have: 3, ..
    }) = function.enable_vectors(&events)
    else {
        panic!()
    };
    function.enable_vectors(&events[..3]).unwrap();
    let signal = |kind, vector| {
        let device = server.device.lock().unwrap();
        rustix::io::write(&device.vectors[&(kind, vector)], &1u64.to_ne_bytes()).unwrap();
    };
    signal(2, 2);
    signal(2, 2);
    assert_eq!(
        events.iter().map(Event::take).collect::<Vec<_>>(),
        [0, 0, 2, 0]
    );
    signal(3, 0);
    signal(4, 0);
    assert_eq!(function.error_event().unwrap().take(), 1);
    assert_eq!(function.request_event().unwrap().take(), 1);

    function.enable_vectors(&events[3..]).unwrap();
    signal(2, 0);
    assert_eq!(events[3].take(), 1);
    assert_eq!(server.device.lock().unwrap().vectors.len(), 3);
    function.disable_vectors().unwrap();
    function.disable_vectors().unwrap();
    assert_eq!(server.device.lock().unwrap().vectors.len(), 2);
}

#[test]
fn a_reset_takes_bus_mastering_and_vectors_with_it() {
    let server = sensible();
    let function = open(&server);
    function.enable_vectors(&[Event::new().unwrap()]).unwrap();
    function.set_bus_master(true).unwrap();
    assert_eq!(server.device.lock().unwrap().config[4], 7);
    function.reset().unwrap();
    let device = server.device.lock().unwrap();
    assert_eq!(device.config[4], 3);
    assert_eq!(device.resets, 2);
    assert!(!device.vectors.contains_key(&(2, 0)));
}

#[test]
fn memory_is_the_servers_too_until_the_region_goes() {
    let server = sensible();
    let function = open(&server);
    let space = function.dma_space();
    let region = space.map(SMALL).unwrap();
    let iova = region.iova().0;
    assert_eq!(space.mapped_bytes(), 8192);
    {
        let device = server.device.lock().unwrap();
        let (len, fd) = &device.windows[&iova];
        assert_eq!(*len, 8192);
        let file = File::from(fd.try_clone().unwrap());
        file.write_all_at(&[9, 8, 7, 6], 4100).unwrap();
    }
    assert_eq!(
        region.dwords()[1025].load(Ordering::Relaxed).to_ne_bytes(),
        [9, 8, 7, 6]
    );
    drop(region);
    assert!(server.device.lock().unwrap().windows.is_empty());
    assert_eq!(space.mapped_bytes(), 0);
    assert_eq!(
        space.map(SMALL).unwrap().iova().0,
        iova,
        "the place is free again"
    );
}

#[test]
fn memory_may_outlive_the_function_and_is_the_servers_no_more() {
    let server = sensible();
    let function = open(&server);
    let region = function.dma_space().map(SMALL).unwrap();
    let bar = function.bar(0).unwrap();
    let doorbell = bar.doorbell(0x18).unwrap();
    drop(function);
    let device = server.finish();
    assert!(device.lock().unwrap().gone);
    assert_eq!(device.lock().unwrap().config[4] & 4, 0);
    region.words()[0].store(1, Ordering::Relaxed);
    assert_eq!(bar.read32(0), u32::MAX);
    doorbell.ring(1);
}

#[test]
fn two_functions_in_one_space_have_the_same_memory() {
    let (one, two) = (sensible(), sensible());
    let space = UserSpace::new();
    let options = UserOptions::default();
    let first = connect_in(&one.path, &space, &options).unwrap();
    let early = space.map(SMALL).unwrap();
    let second = connect_in(&two.path, &space, &options).unwrap();
    let late = space.map(SMALL).unwrap();
    let windows = |server: &Server| -> Vec<u64> {
        server
            .device
            .lock()
            .unwrap()
            .windows
            .keys()
            .copied()
            .collect()
    };
    assert_eq!(windows(&one), [early.iova().0, late.iova().0]);
    assert_eq!(windows(&two), windows(&one));
    drop(first);
    drop(early);
    assert_eq!(windows(&two), [late.iova().0]);
    drop((second, late));
}

fn sealed(seals: SealFlags, len: u64) -> OwnedFd {
    let fd = memfd_create("bar", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING).unwrap();
    rustix::fs::ftruncate(&fd, len).unwrap();
    fcntl_add_seals(&fd, seals).unwrap();
    fd
}

#[test]
fn a_sealed_file_is_mapped_and_nothing_else_is() {
    let cases = [
        (SealFlags::SHRINK, 0x4000, 0x1000, true),
        (SealFlags::empty(), 0x4000, 0x1000, false),
        // The file ends with the area, and before it.
        (SealFlags::SHRINK, 0x3000, 0x1000, true),
        (SealFlags::SHRINK, 0x2fff, 0x1000, false),
        (SealFlags::SHRINK, 0x2000, 0x1000, false),
        // The region likewise: it has 16 KiB.
        (SealFlags::SHRINK, 0x8000, 0x2000, true),
        (SealFlags::SHRINK, 0x8000, 0x3000, false),
    ];
    for (seals, len, start, mapped) in cases {
        let server = sensible();
        let file = File::from(sealed(seals, len));
        let offer = OwnedFd::from(file.try_clone().unwrap());
        server.device.lock().unwrap().offer = Some((offer, u64::from(start), 0x2000));
        let function = open(&server);
        let bar = function.bar(0).unwrap();
        bar.write32(start + 0x10, 5);
        bar.write32(0x10, 6);
        bar.doorbell(start + 0x18).unwrap().ring(7);
        assert_eq!((bar.read32(start + 0x10), bar.read32(0x10)), (5, 6));
        let registers = server.device.lock().unwrap().registers.clone();
        assert_eq!(registers.contains_key(&u64::from(start + 0x18)), !mapped);
        assert!(registers.contains_key(&0x10));
        let mut word = [0; 4];
        let _ = file.read_exact_at(&mut word, u64::from(start + 0x18));
        assert_eq!(word[0] == 7, mapped);
    }
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
fn no_server_is_a_typed_error() {
    let error = connect("/nowhere/at/all.sock", &UserOptions::default()).unwrap_err();
    assert!(
        error.to_string().contains("/nowhere/at/all.sock"),
        "{error}"
    );
    let long = "x".repeat(300);
    assert!(connect(long, &UserOptions::default()).is_err());
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

#[test]
fn shared_memory_can_be_mapped_by_others() {
    let memory = Memory::shared(4096, false).unwrap();
    let seals = rustix::fs::fcntl_get_seals(memory.file().unwrap()).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW));
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
