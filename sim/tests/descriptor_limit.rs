//! V21 of the fault catalogue: no descriptors left. In a process of its own, because the limit is the process's.

#[expect(
    dead_code,
    clippy::cast_possible_truncation,
    reason = "shared with the tests in serve"
)]
#[path = "serve/client.rs"]
mod client;

use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use client::*;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Duplicates `fd` until the process may have no more descriptors.
fn take_all(fd: &OwnedFd, hoard: &mut Vec<OwnedFd>) {
    while let Ok(copy) = rustix::io::fcntl_dupfd_cloexec(fd, 0) {
        hoard.push(copy);
    }
}

#[test]
fn v21_descriptor_limit_reached() {
    let bed = Bed::with(2, vfnic_sim::serve::Limits::default());
    let mut served = bed.client_of(1);
    let extra = memory(4096);
    let old = getrlimit(Resource::Nofile);
    let low = Rlimit {
        current: Some(256),
        maximum: old.maximum,
    };
    setrlimit(Resource::Nofile, low).expect("a lower limit");
    let socket = rustix::net::socket_with(
        rustix::net::AddressFamily::UNIX,
        rustix::net::SocketType::STREAM,
        rustix::net::SocketFlags::CLOEXEC,
        None,
    )
    .expect("a socket");
    let mut hoard: Vec<OwnedFd> = Vec::new();
    take_all(&extra, &mut hoard);
    assert!(!hoard.is_empty());

    // A new client is turned away at once, not left waiting, and the server does not spin on it.
    let address = rustix::net::SocketAddrUnix::new(bed.socket(0)).expect("an address");
    rustix::net::connect(&socket, &address).expect("the server listens");
    let mut late = std::os::unix::net::UnixStream::from(socket);
    late.set_read_timeout(Some(SOON)).expect("a timeout");
    assert_eq!(std::io::Read::read(&mut late, &mut [0]).expect("an end"), 0);
    let before = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    std::thread::sleep(Duration::from_millis(300));
    let after = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let spent = (after.tv_sec - before.tv_sec) * 1_000_000_000 + (after.tv_nsec - before.tv_nsec);
    assert!(
        spent < 100_000_000,
        "{spent} ns of CPU while nothing happens"
    );

    // The one there is goes on; a descriptor that cannot be received is an error of its request alone.
    assert_eq!(served.read(0, 0, 4), Ok(vec![0; 4]));
    // Once more, for the one the client turned away had, should it have come back late.
    take_all(&extra, &mut hoard);
    let refused = served.call(DMA_MAP, &dma_map(3, 0, 0, 4096), &[extra.as_fd()]);
    assert_eq!(refused, Err(EMFILE));
    assert_eq!(served.read(0, 0, 4), Ok(vec![0; 4]));

    drop((hoard, late));
    assert_eq!(served.map(3, 0, 0, 4096, Some(&extra)), Ok(()));
    bed.serves_the_next(SOON);
    setrlimit(Resource::Nofile, old).expect("the old limit");
}
