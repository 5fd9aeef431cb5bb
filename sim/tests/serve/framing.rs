//! Hostile clients: headers, versions, order, timing (V1-V6, V17, V19).

use std::time::{Duration, Instant};

use crate::client::*;

#[test]
fn v1_impossible_message_size() {
    let bed = Bed::new();
    for size in [0, 1, 15, 16 + 16 + (1 << 20) + 1, 1 << 24, u32::MAX] {
        for command in [VERSION, GET_INFO, REGION_WRITE, 999] {
            let mut client = bed.client();
            client.raw(&header(7, command, size, 0));
            assert_eq!(
                client.is_closed(),
                Some(EINVAL),
                "size {size} command {command}"
            );
        }
    }
    bed.serves_the_next(SOON);
}

#[test]
fn v1_size_does_not_fit_the_command() {
    let bed = Bed::new();
    let fixed: [(u16, usize); 9] = [
        (DMA_MAP, 32),
        (DMA_UNMAP, 24),
        (GET_INFO, 16),
        (GET_REGION_INFO, 32),
        (GET_REGION_IO_FDS, 16),
        (GET_IRQ_INFO, 16),
        (SET_IRQS, 20),
        (REGION_READ, 16),
        (RESET, 0),
    ];
    for (command, len) in fixed {
        for wrong in [0, len.saturating_sub(1), len + 1, 1000] {
            // SET_IRQS is of variable length, and judged by its own counts (v12).
            if wrong != len && (command != SET_IRQS || wrong < len) {
                let mut client = bed.client();
                client.post(command, 0, &vec![0; wrong], &[]);
                assert_eq!(
                    client.is_closed(),
                    Some(EINVAL),
                    "{wrong} bytes for command {command}"
                );
            }
        }
    }
    // Payload and count disagree.
    for data in [0, 3, 5, 4096] {
        let mut client = bed.client();
        client.post(
            REGION_WRITE,
            0,
            &[span(0, 0, 4), vec![0; data]].concat(),
            &[],
        );
        assert_eq!(client.is_closed(), Some(EINVAL));
    }
    for count in [0u64, 2, 1 << 40, u64::MAX, u64::MAX / 24 + 2] {
        let mut client = bed.client();
        let write = [span(0, 0, 4), vec![0; 8]].concat();
        client.post(
            WRITE_MULTI,
            0,
            &[&count.to_le_bytes()[..], &write].concat(),
            &[],
        );
        assert_eq!(
            client.is_closed(),
            Some(EINVAL),
            "{count} writes in the room of one"
        );
    }
    bed.serves_the_next(SOON);
}

#[test]
fn v2_cut_short() {
    let bed = Bed::new();
    let whole = message(1, DMA_MAP, 0, &dma_map(3, 0, 0, 4096));
    for cut in [1, 8, 15, 16, 17, whole.len() - 1] {
        let mut client = bed.client();
        client.raw(&whole[..cut]);
        drop(client);
        bed.serves_the_next(SOON);
    }
    // The same before any version, and with a descriptor on its way.
    for cut in [1, 16, 20] {
        let mut stranger = bed.stranger();
        let mut telltale = Telltale::new();
        stranger.raw_fds(&whole[..cut], &[telltale.fd()]);
        drop(stranger);
        assert!(telltale.is_closed());
        bed.serves_the_next(SOON);
    }
}

#[test]
fn v3_one_byte_at_a_time() {
    let bed = Bed::with(2, short());
    let mut slow = bed.client_of(0);
    let mut other = bed.client_of(1);
    let start = Instant::now();
    let bytes = message(1, GET_INFO, 0, &words(&[16, 0, 0, 0]));
    let mut longest = Duration::ZERO;
    for byte in bytes {
        // The server hangs up in the middle.
        if std::io::Write::write_all(&mut slow.socket, &[byte]).is_err() {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
        let asked = Instant::now();
        other.read(0, 0, 4).expect("the other session is served");
        longest = longest.max(asked.elapsed());
    }
    assert!(slow.is_closed().is_none());
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert!(longest < Duration::from_millis(200), "{longest:?}");
    bed.serves_the_next(SOON);
}

#[test]
fn v3_nothing_at_all() {
    let bed = Bed::with(1, short());
    let mut silent = bed.stranger();
    let start = Instant::now();
    assert!(silent.is_closed().is_none());
    assert!(start.elapsed() < SOON);
    // With a version agreed on a client may be silent for as long as it likes.
    let mut quiet = bed.client();
    std::thread::sleep(Duration::from_millis(600));
    quiet.read(0, 0, 4).expect("still served");
}

#[test]
fn v4_version() {
    let bed = Bed::new();
    let deep = format!(
        "{{\"capabilities\":{}1{}}}\0",
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    let long = format!(
        "{{\"capabilities\":{{\"x\":\"{}\"}}}}\0",
        "y".repeat(1_000_000)
    );
    let hostile: Vec<(u16, &[u8])> = vec![
        (1, b"{}\0"),
        (u16::MAX, b"{}\0"),
        (0, b"{}"),
        (0, b"{\0"),
        (0, b"\0"),
        (0, b"null and void\0"),
        (0, b"[]\0 "),
        (0, b"\xff\xfe\0"),
        (0, b"{\"capabilities\":{\"max_msg_fds\":\"\xc3\x28\"}}\0"),
        (0, b"{\"capabilities\":{\"max_msg_fds\":-1}}\0"),
        (0, b"{\"capabilities\":{\"max_msg_fds\":1.5}}\0"),
        (
            0,
            b"{\"capabilities\":{\"max_dma_maps\":18446744073709551616}}\0",
        ),
        (0, b"{\"capabilities\":{\"max_dma_maps\":1e999}}\0"),
        (0, b"{\"capabilities\":{\"pgsizes\":1,\"pgsizes\":2}}\0"),
        (0, b"{\"capabilities\":{},\"capabilities\":{}}\0"),
        (0, b"{\"capabilities\":7}\0"),
        (0, b"{\"capabilities\":{\"write_multiple\":1}}\0"),
        (0, deep.as_bytes()),
        (0, long.as_bytes()),
    ];
    for (major, data) in hostile {
        let mut client = bed.stranger();
        client.post(VERSION, 0, &version(major, 0, data), &[]);
        let expected = if major == 0 { EINVAL } else { EPROTONOSUPPORT };
        let text = String::from_utf8_lossy(&data[..data.len().min(60)]).into_owned();
        assert_eq!(client.is_closed(), Some(expected), "{text}");
    }
    // What is fine: nothing, unknown keys, nulls, numbers of any size where there is no limit to misjudge.
    for data in [
        &b""[..],
        b"{}\0",
        b"{\"capabilities\":{}}\0",
        b"{\"capabilities\":null,\"more\":[1,2]}\0",
        b"{\"capabilities\":{\"max_msg_fds\":18446744073709551615,\"twin_socket\":{\"supported\":true}}}\0",
    ] {
        let mut client = bed.stranger();
        let answer = client.call(VERSION, &version(0, 3, data), &[]).expect("a version");
        assert_eq!(answer[..4], [0, 0, 0, 0], "version 0.0");
        assert_eq!(answer.last(), Some(&0));
        drop(client);
        assert!(eventually(SOON, || !bed.functions[0].is_open()));
    }
    bed.serves_the_next(SOON);
}

#[test]
fn v4_capabilities_are_a_subset_of_those_offered() {
    let bed = Bed::new();
    let mut client = bed.stranger();
    let data = b"{\"capabilities\":{\"max_msg_fds\":16,\"write_multiple\":true}}\0";
    let answer = client
        .call(VERSION, &version(0, 0, data), &[])
        .expect("a version");
    let text = std::str::from_utf8(&answer[4..answer.len() - 1]).expect("text");
    assert_eq!(
        text,
        r#"{"capabilities":{"max_msg_fds":8,"write_multiple":true}}"#
    );
}

#[test]
fn v5_commands_out_of_order() {
    let bed = Bed::new();
    for command in [DMA_MAP, GET_INFO, REGION_READ, RESET, 14, 999] {
        let mut client = bed.stranger();
        let body: &[u8] = match command {
            DMA_MAP => &dma_map(3, 0, 0, 4096),
            GET_INFO => &words(&[16, 0, 0, 0]),
            REGION_READ => &span(0, 0, 4),
            _ => &[],
        };
        client.post(command, 0, body, &[]);
        assert_eq!(
            client.is_closed(),
            Some(EINVAL),
            "command {command} before VERSION"
        );
    }
    assert_eq!(bed.functions[0].resets(), 0);
    // A second VERSION is refused and changes nothing.
    let mut client = bed.client();
    client.write(0, 0x10, &[1, 2, 3, 4]).expect("a write");
    assert_eq!(
        client.call(VERSION, &version(0, 0, b"{}\0"), &[]),
        Err(EINVAL)
    );
    assert_eq!(client.read(0, 0x10, 4), Ok(vec![1, 2, 3, 4]));
}

#[test]
fn v6_flags_and_unknown_commands() {
    let bed = Bed::new();
    let mut client = bed.client();
    // Unknown, or not for this direction: refused, and the stream goes on, whatever the payload.
    for command in [0, DMA_READ, 12, 14, 16, 17, 18, 19, 1000, u16::MAX] {
        for len in [0, 1, 16, 5000] {
            assert_eq!(
                client.call(command, &vec![0xa5; len], &[]),
                Err(ENOTSUP),
                "command {command}"
            );
        }
    }
    // An error flag on a request.
    let id = client.post(GET_INFO, 0x20, &words(&[16, 0, 0, 0]), &[]);
    let answer = client.answer();
    assert_eq!((answer.id, answer.error), (id, EINVAL));
    // No answer where the answer is the point.
    client.post(GET_INFO, NO_REPLY, &words(&[16, 0, 0, 0]), &[]);
    assert!(client.is_closed().is_none());
    // A type that is neither command nor reply.
    for kind in 2..16 {
        let mut client = bed.client();
        client.raw(&header(1, GET_INFO, 16, kind));
        assert_eq!(client.is_closed(), Some(EINVAL));
    }
    bed.serves_the_next(SOON);
}

#[test]
fn v6_errors_of_posted_commands_are_not_answered() {
    let bed = Bed::new();
    let mut client = bed.client();
    client.post(
        REGION_WRITE,
        NO_REPLY,
        &[span(0x10, 0, 4), vec![9, 0, 0, 0]].concat(),
        &[],
    );
    client.post(
        REGION_WRITE,
        NO_REPLY,
        &[span(1 << 40, 0, 4), vec![0; 4]].concat(),
        &[],
    );
    client.post(1234, NO_REPLY, &[], &[]);
    let multi = [
        &3u64.to_le_bytes()[..],
        &span(0x20, 0, 4),
        &7u64.to_le_bytes(),
        &span(0x24, 0, 8),
        &8u64.to_le_bytes(),
        &span(0x2c, 0, 9),
        &9u64.to_le_bytes(),
    ]
    .concat();
    client.post(WRITE_MULTI, NO_REPLY, &multi, &[]);
    // The next reply is to the read.
    assert_eq!(client.read(0, 0x10, 4), Ok(vec![9, 0, 0, 0]));
    assert_eq!(
        client.read(0, 0x20, 16),
        Ok(words(&[7, 8, 0, 0])),
        "writes up to the bad one are done"
    );
}

#[test]
fn v17_replies_to_what_was_never_asked() {
    let bed = Bed::new();
    let mut client = bed.client();
    for command in [DMA_READ, 12, GET_INFO, 999] {
        for flags in [1, 0x21, 0x11] {
            client.raw(&message(77, command, flags, &[0; 64]));
        }
    }
    // Dropped without a word; the next reply is to the read.
    assert_eq!(client.read(0, 0, 4), Ok(vec![0; 4]));
    // Before a version too.
    drop(client);
    assert!(eventually(SOON, || !bed.functions[0].is_open()));
    let mut stranger = bed.stranger();
    stranger.raw(&message(1, VERSION, 1, &version(0, 0, b"{}\0")));
    stranger.agree();
    assert!(eventually(SOON, || bed.functions[0].is_open()));
}

#[test]
fn v19_message_ids_are_echoed() {
    let bed = Bed::new();
    let mut client = bed.client();
    // The same id again and again, in flight together, and every id's extremes.
    let ask = |id, offset| message(id, REGION_READ, 0, &span(offset, 0, 4));
    let ids = [5, 5, 5, 0, u16::MAX, 5];
    for (at, id) in ids.into_iter().enumerate() {
        client.raw(&ask(id, at as u64 * 4));
    }
    for (at, id) in ids.into_iter().enumerate() {
        let answer = client.answer();
        assert_eq!(
            (answer.id, &answer.body[..16]),
            (id, &span(at as u64 * 4, 0, 4)[..])
        );
    }
}
