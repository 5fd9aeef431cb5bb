//! The rings against a toy card: what arrives is what was sent, and no buffer is ever in two places or in none.

mod toy;

use std::collections::VecDeque;

use proptest::prelude::*;
use toy::{Toy, numbered};
use vfnic_ring::{Dialect, PoolConfig, Quiesced, SendError, Simd};

const POOL: PoolConfig = PoolConfig {
    buffers: 1024,
    buffer_size: 2048,
    headroom: 64,
};

fn toy(size: u16) -> Toy {
    let mut toy = Toy::new(size, POOL, Dialect::X540, 9014);
    toy.rx.arm().expect("enough buffers");
    toy
}

#[test]
fn illegal_ring_sizes_are_refused() {
    for size in [0u16, 1, 7, 8, 56, 63, 65, 100, 4095, 4104, 65528] {
        let made = std::panic::catch_unwind(|| Toy::new(size, POOL, Dialect::X540, 1514));
        assert!(made.is_err(), "{size} was accepted");
    }
    for size in [64u16, 72, 512, 1000, 4096] {
        Toy::new(size, POOL, Dialect::X540, 1514);
    }
}

#[test]
fn an_empty_pool_leaves_frames_in_the_ring_until_a_buffer_comes_back() {
    let config = PoolConfig {
        buffers: 64,
        ..POOL
    };
    let mut toy = Toy::new(64, config, Dialect::X540, 1514);
    toy.rx.arm().expect("exactly enough");
    let mut batch = toy.pool.batch(16);
    assert!(toy.deliver(&numbered(1, 60), 2048));
    assert_eq!(toy.rx.receive(&mut batch), Ok(0));
    assert_eq!(toy.rx.stats().no_buffers(), 1);
    assert!(toy.rx.has_work(), "the frame is still there");
}

#[test]
fn a_ring_that_cannot_be_filled_takes_nothing() {
    let config = PoolConfig {
        buffers: 64,
        ..POOL
    };
    let mut toy = Toy::new(128, config, Dialect::X540, 1514);
    assert!(toy.rx.arm().is_err());
    assert_eq!(toy.pool.stats().home, 64);
}

#[test]
fn d1_d2_bad_completions_are_dropped_by_name_and_the_next_frame_arrives() {
    // (word 1 of the bad completion, which counter)
    let dd_eop = 0b11u64;
    let cases: &[(u64, &str)] = &[
        (dd_eop | 2049 << 32, "bad_len"),
        (dd_eop | 0xffff << 32, "bad_len"),
        (dd_eop, "bad_len"),
        (dd_eop | 13 << 32, "bad_len"),
        (dd_eop | 60 << 32 | 1 << 29, "card_error"),
        (dd_eop | 60 << 32 | 1 << 24, "card_error"),
        (dd_eop | 60 << 32 | 1 << 25, "card_error"),
    ];
    for (word1, counter) in cases {
        let mut toy = toy(64);
        let mut batch = toy.pool.batch(32);
        assert!(toy.complete(&[], 0, *word1));
        assert!(toy.deliver(&numbered(7, 60), 2048));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1), "{word1:#x}");
        assert_eq!(
            batch.frames().next().expect("one").to_vec(),
            numbered(7, 60)
        );
        let stats = toy.rx.stats();
        let seen: Vec<_> = stats
            .each()
            .filter(|(name, count)| *count > 0 && !["packets", "bytes"].contains(name))
            .filter(|(name, _)| !name.starts_with("error_"))
            .collect();
        assert_eq!(seen, [(*counter, 1)], "{word1:#x}");
    }
}

#[test]
fn d4_d6_a_frame_without_end_is_dropped_up_to_its_end() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(32);
    for _ in 0..30 {
        assert!(toy.complete(&[1; 64], 0, 0b01 | 64 << 32));
    }
    // The tail of the monster must not pass for a frame of its own.
    assert!(toy.complete(&[2; 60], 0, 0b11 | 60 << 32));
    assert!(toy.deliver(&numbered(9, 60), 2048));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    assert_eq!(
        batch.frames().next().expect("one").to_vec(),
        numbered(9, 60)
    );
    assert_eq!(toy.rx.stats().too_many_segments(), 1);
    drop(batch);
    assert_eq!(toy.pool.stats().home, POOL.buffers - 64);
}

#[test]
fn d5_a_frame_larger_than_the_queue_delivers_is_dropped_whole() {
    let mut toy = Toy::new(64, POOL, Dialect::I82576, 1514);
    toy.rx.arm().expect("armed");
    let mut batch = toy.pool.batch(32);
    assert!(toy.deliver(&numbered(1, 5000), 2048));
    assert!(toy.deliver(&numbered(2, 1515), 2048));
    assert!(toy.deliver(&numbered(3, 1514), 2048));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    assert_eq!(
        batch.frames().next().expect("one").to_vec(),
        numbered(3, 1514)
    );
    assert_eq!(toy.rx.stats().too_long(), 2);
}

#[test]
fn jumbo_frames_come_and_go_in_several_buffers() {
    let mut toy = toy(128);
    let mut batch = toy.pool.batch(8);
    for round in 0..100 {
        let frame = numbered(round, 9014);
        assert!(toy.deliver(&frame, 2048));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1));
        assert_eq!(batch.frames().next().expect("one").segment_count(), 5);
        assert_eq!(toy.tx.send(&mut batch), Ok(1));
        let sent = toy.transmit(usize::MAX);
        assert_eq!(sent.len(), 1);
        assert!(sent[0].bytes == frame, "round {round}");
        assert_eq!(sent[0].word1 >> 46, 9014, "PAYLEN is the whole frame");
    }
    toy.tx.reclaim(&mut batch);
    assert_eq!(toy.tx.pending(), 0);
    drop(batch);
    assert_eq!(toy.pool.stats().home, POOL.buffers - 128);
}

#[test]
fn d20_half_a_frame_waits_for_the_rest_and_is_dropped_by_a_reset() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(32);
    assert!(toy.complete(&[1; 2048], 0, 0b01 | 2048 << 32));
    assert_eq!(toy.rx.receive(&mut batch), Ok(0));
    // Two more frames behind its other half, and half of a third: two that nobody has taken.
    for word1 in [
        0b11 | 9 << 32,
        0b11 | 60 << 32,
        0b11 | 60 << 32,
        0b01 | 2048 << 32,
    ] {
        assert!(toy.complete(&[1; 60], 0, word1));
    }
    toy.reset_heads();
    toy.rx.reset(Quiesced::after_reset());
    drop(batch);
    assert_eq!(toy.pool.stats().home, POOL.buffers, "everything is home");
    assert_eq!(toy.rx.stats().reset_partial(), 1);
    assert_eq!(toy.rx.stats().reset_unread(), 2);
    toy.rx.arm().expect("armed again");
    let mut batch = toy.pool.batch(32);
    assert_eq!(toy.rx.receive(&mut batch), Ok(0), "nothing of the old life");
    assert!(toy.deliver(&numbered(5, 77), 2048));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    assert_eq!(
        batch.frames().next().expect("one").to_vec(),
        numbered(5, 77)
    );
}

#[test]
fn d36_d41_d43_a_full_ring_pushes_back_in_order() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(256);
    for number in 0..100 {
        batch.push_bytes(&numbered(number, 60)).expect("room");
    }
    // X540 spends one slot on the default context and keeps one empty.
    assert_eq!(toy.tx.send(&mut batch), Ok(62));
    assert_eq!(batch.len(), 38);
    assert_eq!(toy.tx.send(&mut batch), Ok(0));
    let first = toy.transmit(usize::MAX);
    assert_eq!(toy.tx.send(&mut batch), Ok(38));
    let rest = toy.transmit(usize::MAX);
    let order: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|sent| sent.bytes.clone())
        .collect();
    assert_eq!(
        order,
        (0..100)
            .map(|number| numbered(number, 60))
            .collect::<Vec<_>>()
    );
    toy.tx.reclaim(&mut batch);
    assert_eq!(
        toy.tx.pending(),
        0,
        "the last frame of any burst is reclaimable"
    );
}

#[test]
fn d37_a_frame_too_long_for_the_queue_stops_there() {
    let mut toy = Toy::new(64, POOL, Dialect::I82576, 1514);
    let mut batch = toy.pool.batch(64);
    batch.push_bytes(&numbered(0, 60)).expect("room");
    batch.push_bytes(&numbered(1, 1515)).expect("room");
    batch.push_bytes(&numbered(2, 60)).expect("room");
    assert_eq!(
        toy.tx.send(&mut batch),
        Err(SendError::TooLong {
            sent: 1,
            len: 1515,
            max: 1514
        })
    );
    assert_eq!(batch.len(), 2);
    assert_eq!(toy.transmit(usize::MAX).len(), 1);
    let mut first = true;
    batch.retain_mut(|_| !std::mem::take(&mut first));
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    assert_eq!(toy.transmit(usize::MAX)[0].bytes, numbered(2, 60));
}

#[test]
fn r3_r5_packets_outlive_everything_and_come_home_from_other_threads() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(32);
    for number in 0..20 {
        assert!(toy.deliver(&numbered(number, 100), 2048));
    }
    assert_eq!(toy.rx.receive(&mut batch), Ok(20));
    let mut packets: VecDeque<_> = std::iter::from_fn(|| batch.pop()).collect();
    assert_eq!(packets.len(), 20);
    batch
        .push(packets.pop_back().expect("frame 0"))
        .expect("same pool");
    assert_eq!(
        batch.frames().next().expect("one").to_vec(),
        numbered(0, 100)
    );
    let pool = toy.pool.clone();
    toy.rx.reset(Quiesced::after_reset());
    drop((batch, toy));
    assert_eq!(packets[18].to_vec(), numbered(1, 100), "still readable");
    std::thread::scope(|scope| {
        for chunk in packets.make_contiguous().chunks(7) {
            let texts: Vec<_> = chunk.iter().map(vfnic_ring::Packet::to_vec).collect();
            scope.spawn(move || assert!(texts.iter().all(|text| text.len() == 100)));
        }
    });
    std::thread::spawn(move || drop(packets))
        .join()
        .expect("dropped elsewhere");
    assert_eq!(pool.stats().home, POOL.buffers);
}

#[derive(Debug, Clone)]
enum Op {
    Deliver(usize, usize),
    Receive(usize),
    Send(usize),
    Transmit(usize),
    Keep(usize),
    Release(usize),
}

fn ops() -> impl Strategy<Value = Vec<Op>> {
    let len = prop_oneof![Just(60usize), 14..200usize, 1500..4200usize];
    prop::collection::vec(
        prop_oneof![
            3 => (len, 1..40usize).prop_map(|(len, count)| Op::Deliver(len, count)),
            3 => (0..2usize).prop_map(Op::Receive),
            3 => (0..2usize).prop_map(Op::Send),
            3 => (1..200usize).prop_map(Op::Transmit),
            1 => (0..2usize).prop_map(Op::Keep),
            1 => (0..9usize).prop_map(Op::Release),
        ],
        1..120,
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: toy::cases(512), failure_persistence: None, ..ProptestConfig::default() })]

    /// Frames go in numbered, through two batches and a shelf of owned packets, and come out each once and whole;
    /// afterwards every buffer is home.
    #[test]
    fn r4_every_frame_leaves_once_and_every_buffer_comes_home(simd in 0usize..3, size in (8u16..40).prop_map(|units| units * 8), skew in 0usize..300, ops in ops()) {
        let mut toy = toy(size).with_simd(Simd::ALL[simd]);
        let mut batches = [toy.pool.batch(16), toy.pool.batch(70)];
        let mut shelf: VecDeque<vfnic_ring::Packet> = VecDeque::new();
        let (mut given, mut seen) = (Vec::new(), Vec::new());
        let mut next = 0u32;
        // Start somewhere else in the rings, so that they wrap.
        for _ in 0..skew {
            prop_assert!(toy.deliver(&numbered(u32::MAX, 60), 2048));
            prop_assert_eq!(toy.rx.receive(&mut batches[1]), Ok(1));
            prop_assert_eq!(toy.tx.send(&mut batches[1]), Ok(1));
            prop_assert_eq!(toy.transmit(usize::MAX).len(), 1);
        }
        for op in ops {
            match op {
                Op::Deliver(len, count) => for _ in 0..count {
                    let frame = numbered(next, len);
                    if !toy.deliver(&frame, 2048) { break; }
                    given.push(frame);
                    next += 1;
                },
                Op::Receive(which) => { toy.rx.receive(&mut batches[which]).expect("same pool"); }
                Op::Send(which) => { toy.tx.send(&mut batches[which]).expect("legal frames"); }
                Op::Transmit(most) => seen.extend(toy.transmit(most)),
                Op::Keep(which) => shelf.extend(batches[which].pop()),
                Op::Release(which) => if let Some(packet) = shelf.pop_front()
                    && let Err(packet) = batches[which % 2].push(packet) { shelf.push_back(packet) },
            }
        }
        // Let everything out.
        for _ in 0..10_000 {
            let mut moved = 0;
            for batch in &mut batches {
                moved += toy.rx.receive(batch).expect("same pool");
                while let Some(packet) = shelf.pop_front() {
                    moved += 1;
                    if let Err(packet) = batch.push(packet) { shelf.push_back(packet); break; }
                }
                moved += toy.tx.send(batch).expect("legal frames");
                let sent = toy.transmit(usize::MAX);
                moved += sent.len();
                seen.extend(sent);
            }
            if moved == 0 { break; }
        }
        let pad = |mut frame: Vec<u8>| { if frame.len() < 17 { frame.resize(17, 0); } frame };
        let mut out: Vec<_> = seen.into_iter().map(|sent| sent.bytes).collect();
        let mut all: Vec<_> = given.into_iter().map(pad).collect();
        out.sort();
        all.sort();
        let brief = |frames: &[Vec<u8>]| frames.iter().map(|f| (u32::from_be_bytes([f[0], f[1], f[2], f[3]]), f.len())).collect::<Vec<_>>();
        let drops: Vec<_> = toy.rx.stats().each().chain(toy.tx.stats().each()).filter(|(_, count)| *count > 0).collect();
        prop_assert_eq!(brief(&out), brief(&all), "{:?}, {} on the shelf, {:?}", drops, shelf.len(), batches);
        prop_assert!(out == all, "same frames, other bytes");
        toy.tx.reclaim(&mut batches[0]);
        prop_assert_eq!(toy.tx.pending(), 0);
        drop(batches);
        toy.rx.reset(Quiesced::after_reset());
        prop_assert_eq!(toy.pool.stats().home, POOL.buffers);
    }
}

#[test]
fn a_pool_within_pages_has_no_buffer_across_two() {
    let config = PoolConfig {
        buffers: 1024,
        ..POOL
    };
    let region = toy::memory(config.region_len(), 0x4000_0000);
    let pool = vfnic_ring::Pool::new_within(region.clone(), config, 4096).expect("a pool");
    let stats = pool.stats();
    assert!((512..600).contains(&stats.total), "{stats:?}");
    assert_eq!(stats.home, stats.total);
    let base = region.base().as_ptr().addr();
    let mut batch = pool.batch(1024);
    for _ in 0..stats.total {
        let start = batch.alloc(2048).expect("room").data().as_ptr().addr() - base;
        assert_eq!(start / 4096, (start + 2047) / 4096, "{start:#x}");
    }
    assert!(batch.alloc(60).is_err(), "the others are left out");
}
