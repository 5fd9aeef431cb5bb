//! Hostile clients: coming, going and staying (V14-V16, V18, V20, V22).

use std::time::{Duration, Instant};

use vfnic_sim::serve::{Limits, ListenError, ServeError, Server};

use crate::client::*;

#[test]
fn v14_a_second_client_is_turned_away() {
    let bed = Bed::new();
    let mut first = bed.client();
    first.write(0, 0x40, &[5, 6, 7, 8]).expect("a write");
    for _ in 0..20 {
        let mut second = bed.stranger();
        assert!(second.is_closed().is_none());
    }
    assert_eq!(first.read(0, 0x40, 4), Ok(vec![5, 6, 7, 8]));
    let refused = bed.server.counters()[0]
        .refused
        .load(std::sync::atomic::Ordering::Relaxed);
    assert_eq!(refused, 20);
    drop(first);
    bed.serves_the_next(SOON);
}

#[test]
fn v15_a_server_without_time_limits_serves() {
    let bed = Bed::with(
        1,
        Limits {
            handshake: Duration::MAX,
            message: Duration::MAX,
            reply: Duration::MAX,
            ..Limits::default()
        },
    );
    let mut client = bed.client();
    client.write(0, 0x40, &[5, 6, 7, 8]).expect("a write");
    assert_eq!(client.read(0, 0x40, 4), Ok(vec![5, 6, 7, 8]));
    drop(client);
    bed.serves_the_next(SOON);
}

#[test]
fn v14_a_client_that_comes_back_at_once_is_served() {
    let bed = Bed::new();
    for _ in 0..500 {
        // Never turned away for its own predecessor.
        drop(bed.client());
    }
}

#[test]
fn v15_a_client_that_dies_leaves_nothing_behind() {
    let bed = Bed::new();
    let mut client = bed.client();
    let file = memory(1 << 24);
    let mut telltale = Telltale::new();
    assert_eq!(client.map(3, 0, 0, 1 << 24, Some(&file)), Ok(()));
    assert_eq!(client.set_irqs(0x24, 2, 0, 1, &[], &[&event()]), Ok(()));
    let mapped = || {
        std::fs::read_to_string("/proc/self/maps")
            .expect("maps")
            .lines()
            .filter(|line| line.contains("memfd:client"))
            .count()
    };
    assert!(
        mapped() > 0,
        "the positive control: the memory is seen to be mapped"
    );
    // In the middle of a message that carries a descriptor.
    client.raw_fds(
        &message(1, DMA_MAP, 0, &dma_map(3, 0, 1 << 30, 4096))[..20],
        &[telltale.fd()],
    );
    let start = Instant::now();
    drop(client);
    assert!(
        eventually(Duration::from_millis(100), || !bed.functions[0].is_open()),
        "{:?}",
        start.elapsed()
    );
    assert!(bed.functions[0].mappings().is_empty());
    assert!(telltale.is_closed());
    drop(file);
    // Other tests of this process have memory of the same name, but none of this size.
    let ours = || {
        std::fs::read_to_string("/proc/self/maps")
            .expect("maps")
            .lines()
            .any(|line| is_of_len(line, 1 << 24))
    };
    assert!(
        eventually(SOON, || !ours()),
        "client memory is still mapped"
    );
    bed.serves_the_next(SOON);
}

/// Whether a line of /proc/self/maps is client memory of this length.
pub(crate) fn is_of_len(line: &str, len: u64) -> bool {
    let ends = line
        .split_whitespace()
        .next()
        .and_then(|range| range.split_once('-'));
    let hex = |text| u64::from_str_radix(text, 16).unwrap_or(0);
    line.contains("memfd:client") && ends.is_some_and(|(start, end)| hex(end) - hex(start) == len)
}

#[test]
fn v16_a_client_that_never_reads() {
    let bed = Bed::with(2, short());
    let mut other = bed.client_of(1);
    let mut deaf = bed.client_of(0);
    deaf.socket
        .set_write_timeout(Some(Duration::from_millis(100)))
        .expect("a timeout");
    let ask = message(1, REGION_READ, 0, &span(0, 0, 0x4000));
    let start = Instant::now();
    // Until its own buffer is full too, or the server has hung up.
    while std::io::Write::write_all(&mut deaf.socket, &ask).is_ok() {
        assert!(start.elapsed() < PATIENCE, "the server buffers without end");
    }
    other.read(0, 0, 4).expect("the other session is served");
    bed.serves_the_next(SOON);
}

#[test]
fn v18_reset_flood() {
    let bed = Bed::new();
    let mut client = bed.client();
    let start = Instant::now();
    for _ in 0..1000 {
        assert_eq!(client.call(RESET, &[], &[]), Ok(vec![]));
    }
    client.socket.set_nonblocking(true).expect("non-blocking");
    let flood = message(1, RESET, NO_REPLY, &[]);
    for _ in 0..10_000 {
        if std::io::Write::write_all(&mut client.socket, &flood).is_err() {
            break;
        }
    }
    assert!(start.elapsed() < PATIENCE);
    drop(client);
    bed.serves_the_next(SOON);
    assert!(bed.functions[0].resets() >= 1000);
}

#[test]
fn v20_socket_paths() {
    use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
    let source = || {
        vec![std::sync::Arc::new(vfnic_sim::serve::Blank::default())
            as std::sync::Arc<dyn vfnic_sim::serve::VfSource>]
    };
    let start = |dir: &Dir| Server::start(dir.path(), source(), Limits::default());
    let dir = Dir::new();
    let path = dir.path().join("vf0.sock");

    let server = start(&dir).expect("a server");
    let file = std::fs::metadata(&path).expect("the socket");
    assert_eq!(file.permissions().mode() & 0o777, 0o600);
    // One that is served is left alone.
    assert!(matches!(
        start(&dir),
        Err(ServeError::Listen(ListenError::InUse { .. }))
    ));
    assert_eq!(
        std::fs::metadata(&path).expect("the socket").ino(),
        file.ino()
    );
    drop(server);
    assert!(!path.exists(), "removed at the end");

    // A stale one of ours is replaced.
    drop(std::os::unix::net::UnixListener::bind(&path).expect("a socket"));
    assert!(path.exists());
    let server = start(&dir).expect("over a stale socket");
    // Somebody put another file there meanwhile: it is not ours to remove.
    std::fs::remove_file(&path).expect("ours");
    std::fs::write(&path, "precious").expect("a file");
    drop(server);
    assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
    assert!(matches!(
        start(&dir),
        Err(ServeError::Listen(ListenError::Taken { .. }))
    ));
    assert_eq!(std::fs::read(&path).expect("still there"), b"precious");
    std::fs::remove_file(&path).expect("ours");

    // A symbolic link is refused wherever it leads.
    for target in ["/nonexistent", "/etc/hostname"] {
        symlink(target, &path).expect("a link");
        let error = start(&dir).expect_err("a link");
        assert!(error.to_string().contains("symbolic link"), "{error}");
        std::fs::remove_file(&path).expect("ours");
    }
    let dir_there = dir.path().join("vf0.sock");
    std::fs::create_dir(&dir_there).expect("a directory");
    assert!(matches!(
        start(&dir),
        Err(ServeError::Listen(ListenError::Taken { .. }))
    ));
}

#[test]
fn v22_connect_and_disconnect() {
    let bed = Bed::new();
    let rounds = if cfg!(debug_assertions) {
        10_000
    } else {
        100_000
    };
    let count = |what: &str| std::fs::read_dir(what).expect("proc").count();
    let rss = || {
        let pages = std::fs::read_to_string("/proc/self/statm").expect("statm");
        pages
            .split(' ')
            .nth(1)
            .and_then(|field| field.parse::<usize>().ok())
            .expect("pages")
            * 4096
    };
    for _ in 0..500 {
        drop(bed.stranger());
    }
    let (fds, memory) = (count("/proc/self/fd"), rss());
    for round in 0..rounds {
        let mut client = bed.stranger();
        match round % 4 {
            0 => client.raw(&[1, 2, 3]),
            // A server that has just turned this client away has closed, which a careless write would trip over.
            1 => drop(std::io::Write::write_all(
                &mut client.socket,
                &message(1, VERSION, 0, &version(0, 0, b"{}\0")),
            )),
            _ => {}
        }
    }
    assert!(eventually(SOON, || !bed.functions[0].is_open()));
    bed.serves_the_next(SOON);
    // Other tests of this process come and go; a leak would be in the thousands.
    assert!(
        eventually(SOON, || count("/proc/self/fd") < fds + 500),
        "{} descriptors",
        count("/proc/self/fd")
    );
    assert!(
        rss() < memory + (64 << 20),
        "{} bytes, {memory} before",
        rss()
    );
}
