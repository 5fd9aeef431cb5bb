//! Each limit from both sides: the last value that is taken and the first that is not. What is refused here would be
//! memory outside of the pool, or a descriptor that the card must not see.

mod toy;

use toy::{Toy, memory};
use vfnic_ring::{
    Dialect, Doorbell, FrameError, Pool, PoolConfig, Quiesced, RingError, RxParams, RxRing,
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
fn what_was_not_asked_for_stays_in_the_ring() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    let mut batch = toy.pool.batch(8);
    for _ in 0..3 {
        assert!(toy.deliver(&[7; 60], 2048));
    }
    assert_eq!(toy.rx.receive_up_to(&mut batch, 2), Ok(2));
    toy.rx.reset(Quiesced::after_reset());
    let stats = toy.rx.stats();
    assert_eq!((stats.reset_unread(), stats.reset_partial()), (1, 0));
}

#[test]
fn the_card_hears_of_refilled_buffers_when_they_are_a_quarter_of_a_small_ring() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    let mut batch = toy.pool.batch(64);
    for taken in 1..=16 {
        assert_eq!(toy.posted(), 64 - taken, "before frame {taken}");
        assert!(toy.deliver(&[7; 60], 2048));
        assert_eq!(toy.rx.receive_up_to(&mut batch, 1), Ok(1));
    }
    assert_eq!(toy.posted(), 63);
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

#[test]
fn a_region_has_as_many_words_as_fit_its_bytes() {
    let region = memory(4096, 0x1000);
    assert_eq!(region.bytes().len(), 4096);
    assert_eq!(region.dwords().len(), 1024);
    assert_eq!(region.words().len(), 512);
}

#[test]
fn a_ring_says_what_it_has_room_for_and_what_is_on_its_way() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1518);
    toy.tx.start();
    let before = (toy.tx.size(), toy.tx.pending(), toy.tx.free_slots());
    // A card that checks contexts has one in its first slot.
    assert_eq!(before, (64, 1, 62));
    assert_eq!(toy.tx.frames_pending(), 0);
    let mut batch = toy.pool.batch(8);
    for _ in 0..3 {
        batch.push_bytes(&[0; 60]).expect("room");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(3));
    assert_eq!((toy.tx.pending(), toy.tx.free_slots()), (4, 59));
    assert_eq!(toy.tx.frames_pending(), 3);
}
