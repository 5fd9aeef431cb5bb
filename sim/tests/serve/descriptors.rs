//! Hostile clients: file descriptors (V7).

use std::os::fd::AsFd;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use crate::client::*;

#[test]
fn v7_descriptors_on_commands_that_take_none() {
    let bed = Bed::new();
    let mut client = bed.client();
    for (command, body) in [
        (GET_INFO, words(&[16, 0, 0, 0])),
        (REGION_READ, span(0, 0, 4)),
        (DMA_UNMAP, dma_unmap(0, 0, 4096)),
        (RESET, vec![]),
        (999, vec![]),
    ] {
        let mut telltale = Telltale::new();
        let fd = telltale.fd();
        assert_eq!(client.call(command, &body, &[fd]), Err(EINVAL));
        assert!(telltale.is_closed(), "command {command} kept a descriptor");
    }
    assert_eq!(bed.functions[0].resets(), 0);
}

#[test]
fn v7_too_many_descriptors() {
    let bed = Bed::new();
    let mut client = bed.client();
    for count in [2, 8, 9, 253] {
        for (command, body) in [
            (DMA_MAP, dma_map(3, 0, 0, 4096)),
            (SET_IRQS, set_irqs(0x24, 2, 0, 3, &[])),
            (GET_INFO, words(&[16, 0, 0, 0])),
        ] {
            let mut telltale = Telltale::new();
            let fds = vec![telltale.fd(); count];
            let expected = if count > 8 { EMFILE } else { EINVAL };
            assert_eq!(
                client.call(command, &body, &fds),
                Err(expected),
                "{count} descriptors"
            );
            drop(fds);
            assert!(
                telltale.is_closed(),
                "{count} descriptors with command {command}: some were kept"
            );
        }
    }
    // In pieces, each of which is allowed.
    let mut telltale = Telltale::new();
    let bytes = message(5, GET_INFO, 0, &words(&[16, 0, 0, 0]));
    for byte in &bytes {
        client.raw_fds(&[*byte], &[telltale.fd(); 3]);
    }
    assert_eq!(client.answer().error, EMFILE);
    assert!(telltale.is_closed());
    assert_eq!(client.read(0, 0, 4).map(|data| data.len()), Ok(4));
}

#[test]
fn v7_descriptors_that_are_no_memory() {
    let bed = Bed::new();
    let mut client = bed.client();
    let open = |path: &str, flags| {
        rustix::fs::open(path, flags | OFlags::CLOEXEC, Mode::empty()).expect("an open file")
    };
    let read_only = {
        let file = memory(1 << 16);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        open(&path, OFlags::RDONLY)
    };
    let path_only = {
        let file = memory(1 << 16);
        let path = format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&file));
        open(&path, OFlags::PATH)
    };
    let (pipe, _other_end) = rustix::pipe::pipe().expect("a pipe");
    let cases = [
        (
            "directory",
            open("/", OFlags::RDONLY | OFlags::DIRECTORY),
            vec![EPERM],
        ),
        ("device", open("/dev/null", OFlags::RDWR), vec![EPERM]),
        ("file", open("/proc/self/exe", OFlags::RDONLY), vec![EPERM]),
        ("pipe", pipe, vec![EPERM]),
        ("eventfd", event(), vec![EPERM]),
        // Sealing needs a writable descriptor; were it sealed already, mapping would be what fails.
        ("read-only memory", read_only, vec![EPERM, EACCES]),
        ("O_PATH", path_only, vec![EBADF]),
    ];
    for (what, fd, expected) in cases {
        let error = client.map(3, 0, 0, 4096, Some(&fd)).expect_err(what);
        assert!(expected.contains(&error), "{what}: errno {error}");
        // Nor are they eventfds (but for the one that is).
        if what != "eventfd" {
            let error = client.set_irqs(0x24, 2, 0, 1, &[], &[&fd]).expect_err(what);
            assert_eq!(error, EINVAL, "{what}");
        }
    }
    assert!(bed.functions[0].mappings().is_empty());
    assert!(!bed.functions[0].is_routed());
}

#[test]
fn v7_descriptors_whose_close_takes_for_ever() {
    use std::io::{Read, Write};
    let bed = Bed::new();
    // A TCP connection with unread data that lingers: closing its last descriptor waits until the linger time is over.
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    // Or the receiver's window could grow until everything fits in it, and nothing would be left to linger for.
    rustix::net::sockopt::set_socket_recv_buffer_size(&listener, 4096).expect("a small buffer");
    let address = listener.local_addr().expect("a port");
    let mut peers = Vec::new();
    for _ in 0..3 {
        let mut lingering = std::net::TcpStream::connect(address).expect("a connection");
        peers.push(listener.accept().expect("a connection"));
        lingering.set_nonblocking(true).expect("non-blocking");
        while lingering.write(&[0; 1 << 16]).is_ok() {}
        let linger = Some(Duration::from_secs(3600));
        rustix::net::sockopt::set_socket_linger(&lingering, linger).expect("a linger time");
        let mut client = bed.client();
        // It goes with the first byte and is let go of here before the last: the server's is the last descriptor then, and
        // it is the server that waits, not this test.
        let bytes = message(5, GET_INFO, 0, &words(&[16, 0, 0, 0]));
        client.raw_fds(&bytes[..1], &[lingering.as_fd()]);
        drop(lingering);
        client.raw(&bytes[1..]);
        client
            .socket
            .set_read_timeout(Some(Duration::from_millis(100)))
            .expect("a timeout");
        assert!(
            client.socket.read(&mut [0]).is_err(),
            "the control: its thread is held up"
        );
        drop(client);
        bed.serves_the_next(Duration::from_secs(1));
        assert!(eventually(SOON, || !bed.functions[0].is_open()));
    }
}
