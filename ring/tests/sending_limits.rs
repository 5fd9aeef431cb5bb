//! Each limit of what can be sent from both sides, as `limits.rs` has those of pools, rings and receiving.

mod toy;

use toy::{Toy, memory};
use vfnic_ring::{Dialect, FrameError, L4, Pool, PoolConfig, SendError, TxOffload};

const POOL: PoolConfig = PoolConfig {
    buffers: 256,
    buffer_size: 2048,
    headroom: 64,
};

#[test]
fn a_frame_is_copied_into_a_batch_up_to_the_most_a_card_can_name() {
    let config = PoolConfig {
        buffer_size: 16384,
        buffers: 64,
        ..POOL
    };
    let pool = Pool::new(memory(config.region_len(), 0x4000_0000), config).expect("legal");
    let mut batch = pool.batch(32);
    let refused = |len| {
        let (min, max) = (14, 1 << 18);
        Err(FrameError::Length { len, min, max })
    };
    assert_eq!(batch.push_bytes(&[7; 13]), refused(13));
    assert_eq!(
        batch.push_bytes(&vec![7; (1 << 18) + 1]),
        refused((1 << 18) + 1)
    );
    assert_eq!((batch.len(), batch.room()), (0, 32));
    assert_eq!(batch.push_bytes(&vec![7; 1 << 18]), Ok(()));
    assert_eq!((batch.len(), batch.room()), (1, 16));
}

#[test]
fn d37_a_frame_leaves_in_as_many_buffers_as_the_card_takes_and_no_more() {
    for (segments, expected) in [
        (38, Ok(1)),
        (
            39,
            Err(SendError::TooManySegments {
                sent: 0,
                segments: 39,
                max: 38,
            }),
        ),
    ] {
        let small = PoolConfig {
            buffer_size: 1024,
            ..POOL
        };
        let mut toy = Toy::new(64, small, Dialect::X540, 1514);
        let mut batch = toy.pool.batch(64);
        batch.push_bytes(&vec![0; segments * 1024]).expect("room");
        let tso = TxOffload {
            l4: Some(L4::Tcp),
            tso_mss: Some(1000),
            l2_len: 14,
            l3_len: 20,
            l4_len: 20,
            ..TxOffload::default()
        };
        let mut frames = batch.frames_mut();
        frames.next().expect("one").request(tso).expect("legal");
        assert_eq!(toy.tx.send(&mut batch), expected);
        let lens: Vec<_> = toy
            .transmit(usize::MAX)
            .iter()
            .map(|sent| sent.bytes.len())
            .collect();
        let sent = expected.map_or(vec![], |_| vec![segments * 1024]);
        assert_eq!(lens, sent);
    }
}

#[test]
fn a_frame_is_filled_up_to_17_bytes_where_its_buffer_has_room_for_them() {
    // All of a buffer and its headroom are 2112 bytes; this many stay at the end of those that are used.
    for (end, left, expected) in [
        (2112, 17, Ok(1)),
        (2111, 16, Ok(1)),
        (2098, 14, Ok(1)),
        (
            2112,
            16,
            Err(SendError::TooShort {
                sent: 0,
                len: 16,
                min: 17,
            }),
        ),
        (
            2110,
            14,
            Err(SendError::TooShort {
                sent: 0,
                len: 14,
                min: 17,
            }),
        ),
    ] {
        let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
        let mut batch = toy.pool.batch(8);
        let mut frame = batch.alloc(end - 64).expect("room");
        frame.pull_front(end - 64 - left).expect("a header is left");
        frame.data_mut().fill(7);
        assert_eq!(
            toy.tx.send(&mut batch),
            expected,
            "{left} bytes up to {end}"
        );
        if expected.is_ok() {
            let mut bytes = vec![7; left];
            bytes.resize(17, 0);
            assert_eq!(toy.transmit(usize::MAX).remove(0).bytes, bytes);
        }
    }
}

/// What one frame of so many bytes in its first buffer says to a request.
fn asked(len: usize, offload: TxOffload) -> Result<(), FrameError> {
    let pool = Pool::new(memory(POOL.region_len(), 0x4000_0000), POOL).expect("legal");
    let mut batch = pool.batch(16);
    batch.push_bytes(&vec![0; len]).expect("room");
    let mut frames = batch.frames_mut();
    frames.next().expect("one").request(offload)
}

#[test]
fn d38_headers_are_inside_the_first_buffer_and_the_hardware_s_fields() {
    let plain = TxOffload::vlan(1);
    let l4 = |l4| TxOffload {
        l4: Some(l4),
        l3_len: 20,
        ..plain
    };
    // (the least first buffer that each is legal in, the request)
    let least = [
        (14, plain),
        (
            127,
            TxOffload {
                l2_len: 127,
                ..plain
            },
        ),
        (
            14 + 511,
            TxOffload {
                l3_len: 511,
                ..plain
            },
        ),
        (34 + 18, l4(L4::Tcp)),
        (34 + 8, l4(L4::Udp)),
        (34 + 12, l4(L4::Sctp)),
        (
            34 + 255,
            TxOffload {
                l4_len: 255,
                ..l4(L4::Udp)
            },
        ),
        (
            54 + 8,
            TxOffload {
                ipv6: true,
                l3_len: 40,
                ..l4(L4::Udp)
            },
        ),
        (
            34,
            TxOffload {
                ip_checksum: true,
                l3_len: 20,
                ..plain
            },
        ),
    ];
    for (len, offload) in least {
        assert_eq!(asked(len, offload), Ok(()), "{len} {offload:?}");
        if len > 14 {
            let refused = matches!(asked(len - 1, offload), Err(FrameError::Headers { .. }));
            assert!(refused, "{} {offload:?}", len - 1);
        }
    }
    for bad in [
        TxOffload { l2_len: 0, ..plain },
        TxOffload {
            l2_len: 13,
            ..plain
        },
        TxOffload {
            l2_len: 128,
            ..plain
        },
        TxOffload {
            l3_len: 512,
            ..plain
        },
        TxOffload {
            l3_len: 19,
            ..l4(L4::Udp)
        },
        TxOffload {
            ipv6: true,
            l3_len: 39,
            ..l4(L4::Udp)
        },
        TxOffload {
            ip_checksum: true,
            l3_len: 19,
            ..plain
        },
        TxOffload {
            ip_checksum: true,
            ipv6: true,
            l3_len: 40,
            ..plain
        },
    ] {
        let refused = matches!(asked(2000, bad), Err(FrameError::Headers { .. }));
        assert!(refused, "{bad:?}");
    }
}

#[test]
fn d39_segmentation_has_its_limits_to_the_byte() {
    let tso = |l3_len, l4_len, mss| TxOffload {
        l4: Some(L4::Tcp),
        tso_mss: Some(mss),
        l2_len: 14,
        l3_len,
        l4_len,
        ..TxOffload::default()
    };
    // 54 bytes of headers; at most 9728 on the wire with the FCS.
    for mss in [64, 1460, 9724 - 54] {
        assert_eq!(asked(2000, tso(20, 20, mss)), Ok(()), "{mss}");
    }
    for mss in [0, 1, 63, 9724 - 53, u16::MAX] {
        let max = 9724 - 54;
        let refused = Err(FrameError::Tso { mss, max });
        assert_eq!(asked(2000, tso(20, 20, mss)), refused);
    }
    // 256 bytes of headers and no more.
    assert_eq!(asked(2000, tso(182, 60, 1000)), Ok(()));
    assert!(matches!(
        asked(2000, tso(183, 60, 1000)),
        Err(FrameError::Headers { .. })
    ));
    assert!(matches!(
        asked(2000, tso(20, 19, 1000)),
        Err(FrameError::Headers { .. })
    ));
    for l4 in [None, Some(L4::Udp), Some(L4::Sctp)] {
        let asked = asked(
            2000,
            TxOffload {
                l4,
                ..tso(20, 20, 1000)
            },
        );
        assert!(matches!(asked, Err(FrameError::Tso { .. })), "{l4:?}");
    }
}
