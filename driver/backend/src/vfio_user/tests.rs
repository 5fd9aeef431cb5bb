mod limits;
mod wrong;

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use vfnic_hw::{DmaRequest, DmaSpace, Event, PciError, PciFunction};

use super::server::Server;
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
fn a_server_may_be_given_all_the_time_there_is() {
    let server = sensible();
    let options = UserOptions {
        deadline: Duration::MAX,
    };
    let function = connect(&server.path, &options).unwrap();
    assert_eq!(function.bar(0).unwrap().len(), 0x4000);
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
fn no_server_is_a_typed_error() {
    let error = connect("/nowhere/at/all.sock", &UserOptions::default()).unwrap_err();
    assert_eq!(
        error.to_string(),
        "vfio-user:/nowhere/at/all.sock: connecting: No such file or directory (os error 2); is the server still running?"
    );
    let long = "x".repeat(300);
    assert!(connect(long, &UserOptions::default()).is_err());
}

#[test]
fn shared_memory_can_be_mapped_by_others() {
    let memory = Memory::shared(4096, false).unwrap();
    let seals = rustix::fs::fcntl_get_seals(memory.file().unwrap()).unwrap();
    assert!(seals.contains(SealFlags::SHRINK | SealFlags::GROW));
}
