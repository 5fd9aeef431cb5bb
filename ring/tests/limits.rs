//! Each limit from both sides: the last value that is taken and the first that is not. What is refused here would be
//! memory outside of the pool, or a descriptor that the card must not see.

mod toy;

use toy::{Toy, memory};
use vfnic_ring::{
    Dialect, Doorbell, FrameError, L4, Pool, PoolConfig, RingError, RxParams, RxRing, TxOffload,
};

const POOL: PoolConfig = PoolConfig {
    buffers: 256,
    buffer_size: 2048,
    headroom: 64,
};

fn pool(config: PoolConfig) -> Result<Pool, RingError> {
    Pool::new(memory(config.region_len().max(64), 0x4000_0000), config)
}

#[test]
fn a_pool_is_refused_just_outside_of_each_limit() {
    for buffer_size in [1024, 2048, 16384] {
        pool(PoolConfig {
            buffer_size,
            ..POOL
        })
        .expect("legal");
    }
    for asked in [0, 1023, 1025, 1536, 16385, 17408] {
        let made = pool(PoolConfig {
            buffer_size: asked,
            ..POOL
        });
        assert_eq!(made.err(), Some(RingError::BufferSize { asked }));
    }
    for headroom in [0, 64, 1024] {
        pool(PoolConfig { headroom, ..POOL }).expect("legal");
    }
    for asked in [1, 63, 65, 1023, 1088] {
        let made = pool(PoolConfig {
            headroom: asked,
            ..POOL
        });
        assert_eq!(made.err(), Some(RingError::Headroom { asked }));
    }
    for buffers in [64, 65] {
        let stats = pool(PoolConfig { buffers, ..POOL }).expect("legal").stats();
        assert_eq!((stats.total, stats.home, stats.lent), (buffers, buffers, 0));
    }
    for asked in [0, 63, (1 << 22) + 1] {
        let config = PoolConfig {
            buffers: asked,
            ..POOL
        };
        let made = Pool::new(memory(4096, 0), config);
        let max = 1 << 22;
        assert_eq!(made.err(), Some(RingError::Buffers { asked, max }));
    }
}

#[test]
fn a_pool_fits_its_region_to_the_byte() {
    // 64 + 2048 bytes are 33 lines, an odd number already; 0 + 2048 are 32, so one is added.
    assert_eq!((POOL.stride(), POOL.region_len()), (33 * 64, 256 * 33 * 64));
    let even = PoolConfig {
        headroom: 0,
        ..POOL
    };
    assert_eq!(even.stride(), 33 * 64);
    let need = POOL.region_len();
    Pool::new(memory(need, 0), POOL).expect("exactly enough");
    // What is made is whole pages, so that one page less is the most that can be missing.
    let have = memory(need - 4096, 0);
    let short = RingError::PoolRegion {
        need,
        have: have.len(),
    };
    assert_eq!(Pool::new(have, POOL).err(), Some(short));
}

#[test]
fn buffers_that_cross_a_page_are_left_out_and_only_they() {
    let region = || memory(POOL.region_len(), 0);
    let whole = |page: usize| {
        let crosses = |index: &usize| {
            let (first, last) = (index * 2112 + 64, index * 2112 + 64 + 2047);
            first / page != last / page
        };
        256 - (0..256).filter(crosses).count()
    };
    for page in [2048, 4096, 8192, 1 << 21] {
        let pool = Pool::new_within(region(), POOL, page).expect("a pool");
        assert_eq!(pool.stats().total as usize, whole(page), "{page}");
        let mut batch = pool.batch(256);
        while batch.push_bytes(&[0; 60]).is_ok() {}
        assert_eq!(batch.len(), whole(page), "each can be had");
    }
    let none = Pool::new_within(region(), POOL, 0).expect("no page is so small");
    assert_eq!(none.stats().total, 0);
}

#[test]
fn a_ring_is_inside_its_region_or_refused() {
    let pool = pool(POOL).expect("legal");
    let region = memory(4096, 0x1_0000);
    let tails = memory(4096, 0x20_0000);
    let ring = |offset, size| {
        RxRing::new(RxParams {
            ring: region.clone(),
            offset,
            size,
            pool: pool.clone(),
            doorbell: Doorbell::in_region(&tails, 0).expect("word"),
            dialect: Dialect::X540,
            max_frame: 1514,
        })
    };
    for (offset, size) in [(0, 256), (0, 64), (3072, 64), (128, 248)] {
        ring(offset, size).expect("inside");
    }
    for (offset, size) in [
        (0, 264),
        (128, 256),
        (3200, 64),
        (64, 64),
        (8, 64),
        (4096, 64),
        (usize::MAX - 127, 64),
        (usize::MAX, 64),
    ] {
        let made = ring(offset, size);
        let refused = matches!(made, Err(RingError::Region { have: 4096, .. }));
        assert!(refused, "{offset} {size}: {made:?}");
    }
}

#[test]
fn a_ring_is_where_its_region_and_its_offset_say() {
    let pool = pool(POOL).expect("legal");
    let tails = memory(4096, 0x20_0000);
    let ring = RxRing::new(RxParams {
        ring: memory(4096, 0x1_0000),
        offset: 1024,
        size: 64,
        pool,
        doorbell: Doorbell::in_region(&tails, 0).expect("word"),
        dialect: Dialect::X540,
        max_frame: 1514,
    })
    .expect("inside");
    assert_eq!((ring.iova().0, ring.size()), (0x1_0000 + 1024, 64));
}

#[test]
fn a_frame_grows_to_the_end_of_its_buffer_and_no_further() {
    let pool = pool(POOL).expect("legal");
    let mut batch = pool.batch(16);
    batch.push_bytes(&[0; 60]).expect("room");
    let mut frames = batch.frames_mut();
    let mut frame = frames.next().expect("one");
    let outside = |len, max| Err(FrameError::Length { len, min: 14, max });
    assert_eq!(frame.set_len(2048), Ok(()));
    assert_eq!(frame.data().len(), 2048);
    assert_eq!(frame.set_len(2049), outside(2049, 2048));
    assert_eq!(frame.set_len(usize::MAX), outside(usize::MAX, 2048));
    assert_eq!(frame.set_len(13), outside(13, 2048));
    assert_eq!(frame.set_len(14), Ok(()));
    // What was headroom belongs to the frame now.
    frame.push_front(64).expect("all of it");
    assert_eq!(frame.set_len(2112), Ok(()));
    assert_eq!(frame.set_len(2113), outside(2113, 2112));
    frame.pull_front(100).expect("enough is left");
    assert_eq!(frame.set_len(2013), outside(2013, 2012));
    assert_eq!(frame.len(), 2012, "as it was");
}

/// What a queue of frames up to 1514 bytes does with one that comes in pieces of these sizes: whether it is delivered
/// into an empty batch of `room` entries, and as what it is counted if not.
fn in_pieces(sizes: &[usize], room: usize) -> (bool, Vec<&'static str>) {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    for (number, &size) in sizes.iter().enumerate() {
        let eop = u64::from(number + 1 == sizes.len()) << 1;
        assert!(toy.complete(&vec![7; size], 0, 1 | eop | (size as u64) << 32));
    }
    let mut batch = toy.pool.batch(room);
    let frames = toy.rx.receive(&mut batch).expect("its pool");
    if let Some(frame) = batch.frames().next() {
        assert_eq!(frame.to_vec(), vec![7; sizes.iter().sum()]);
    }
    let stats = toy.rx.stats();
    let counted = stats.each().filter(|(_, count)| *count > 0);
    let names = counted.map(|(name, _)| name);
    (
        frames == 1,
        names
            .filter(|name| !matches!(*name, "packets" | "bytes"))
            .collect(),
    )
}

#[test]
fn a_frame_in_pieces_has_the_limits_of_a_whole_one() {
    let dropped = |why| (false, vec![why]);
    let delivered = (true, vec![]);
    // An Ethernet header in all.
    assert_eq!(in_pieces(&[7, 6], 8), dropped("bad_len"));
    assert_eq!(in_pieces(&[7, 7], 8), delivered);
    // The queue's longest frame.
    assert_eq!(in_pieces(&[757, 757], 8), delivered);
    assert_eq!(in_pieces(&[757, 758], 8), dropped("too_long"));
    // A buffer more than such a frame needs.
    assert_eq!(in_pieces(&[100, 100], 8), delivered);
    assert_eq!(in_pieces(&[100, 100, 100], 8), dropped("too_many_segments"));
    // What a batch can hold at all.
    assert_eq!(in_pieces(&[100, 100], 2), delivered);
    assert_eq!(in_pieces(&[100, 100], 1), dropped("batch_too_small"));
}

#[test]
fn a_frame_in_pieces_goes_where_there_is_room_for_just_that() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 4000);
    toy.rx.arm().expect("enough buffers");
    let mut batch = toy.pool.batch(4);
    for wanted in [2, 0] {
        for _ in 0..2 {
            assert!(toy.deliver(&[7; 3000], 2048));
        }
        assert_eq!(
            toy.rx.receive(&mut batch),
            Ok(wanted),
            "of two entries each"
        );
        assert_eq!((batch.len(), batch.room()), (2, 0));
    }
}

#[test]
fn a_ring_that_was_never_armed_takes_nothing_whatever_stands_in_it() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut other = toy.beside(Dialect::X540, 1514);
    let mut batch = toy.pool.batch(16);
    other.rx.arm().expect("enough buffers");
    assert!(other.deliver(&[7; 60], 2048));
    assert_eq!(other.rx.receive(&mut batch), Ok(1));
    assert!(batch.cached() > 0, "so that nothing is missing but a ring");
    toy.scribble_rx(0, 0, 3 | 60 << 32);
    for most in [1, 15] {
        assert_eq!(toy.rx.receive_up_to(&mut batch, most), Ok(0));
    }
    assert!(!toy.rx.has_work());
}

#[test]
fn buffers_of_a_ring_that_was_never_stopped_are_lost_and_counted() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    let pool = toy.pool.clone();
    drop(toy);
    let stats = pool.stats();
    assert_eq!((stats.lost, stats.lent, stats.home), (64, 0, 192));
}

#[test]
fn a_doorbell_is_a_word_of_its_region() {
    let region = memory(4096, 0);
    for offset in [0, 4, 4092] {
        assert!(Doorbell::in_region(&region, offset).is_some(), "{offset}");
    }
    for offset in [1, 2, 4093, 4096, usize::MAX, usize::MAX - 3] {
        assert!(Doorbell::in_region(&region, offset).is_none(), "{offset}");
    }
}

/// What one frame of so many bytes in its first buffer says to a request.
fn asked(len: usize, offload: TxOffload) -> Result<(), FrameError> {
    let pool = pool(POOL).expect("legal");
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
