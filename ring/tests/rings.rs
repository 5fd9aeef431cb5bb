//! The rings against a toy card: what arrives is what was sent, and no buffer is ever in two places or in none.

mod toy;

use std::collections::VecDeque;

use proptest::prelude::*;
use toy::Toy;
use vfnic_ring::{Dialect, L4, PoolConfig, Quiesced, SendError, Simd, TxOffload, Verdict};

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

fn numbered(number: u32, len: usize) -> Vec<u8> {
    let mut frame = vec![0; len];
    for (at, byte) in frame.iter_mut().enumerate() {
        *byte = (number as usize * 31 + at).to_le_bytes()[0];
    }
    frame[..4].copy_from_slice(&number.to_be_bytes());
    frame
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
fn plain_descriptors_match_the_reference() {
    // 60 bytes: DTALEN 60, DTYP 3, EOP, IFCS, RS (last of its call), DEXT, PAYLEN 60; CC on ixgbe only.
    let word = 60 | 3 << 20 | 1 << 24 | 1 << 25 | 1 << 27 | 1 << 29 | 60u64 << 46;
    for (dialect, cc) in [
        (Dialect::I82576, 0),
        (Dialect::I350, 0),
        (Dialect::I82599, 1u64 << 39),
        (Dialect::X550, 1 << 39),
    ] {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        let mut batch = toy.pool.batch(8);
        batch.push_bytes(&[7; 60]).expect("room");
        assert_eq!(toy.tx.send(&mut batch), Ok(1));
        let sent = toy.transmit(usize::MAX);
        assert_eq!(sent[0].word1, word | cc, "{dialect:?}");
        // MACLEN 14, L4T 3 (none), in slot 0.
        let context = if cc == 0 {
            (0, 0)
        } else {
            (14 << 9, 3 << 11 | 2 << 20 | 1 << 29)
        };
        assert_eq!(toy.contexts[0], context, "{dialect:?}");
    }
}

fn tcp4(payload: usize) -> Vec<u8> {
    let mut frame = vec![0u8; 54 + payload];
    frame[..12].copy_from_slice(&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2]);
    frame[12..14].copy_from_slice(&[8, 0]);
    frame[14] = 0x45;
    frame[16..18].copy_from_slice(&u16::try_from(40 + payload).unwrap_or(0).to_be_bytes());
    frame[22] = 64;
    frame[23] = 6;
    frame[24..26].copy_from_slice(&[0xab, 0xcd]);
    frame[26..34].copy_from_slice(&[10, 0, 0, 1, 10, 0, 0, 2]);
    frame[46] = 5 << 4;
    frame
}

#[test]
fn tso_descriptors_and_headers_match_the_reference() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(8);
    let offload = TxOffload {
        ip_checksum: true,
        l4: Some(L4::Tcp),
        tso_mss: Some(1000),
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ..TxOffload::default()
    };
    batch.push_bytes(&tcp4(5000)).expect("room");
    batch
        .frames_mut()
        .next()
        .expect("one")
        .request(offload)
        .expect("legal");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    let sent = &toy.transmit(usize::MAX)[0];
    // IPLEN 20, MACLEN 14; IPV4, L4T 1 (TCP), DTYP 2, DEXT; slot 1, L4LEN 20, MSS 1000.
    assert_eq!(
        sent.context,
        (
            20 | 14 << 9,
            1 << 10 | 1 << 11 | 2 << 20 | 1 << 29 | 1 << 36 | 20 << 40 | 1000 << 48
        )
    );
    assert_eq!(sent.word1 >> 46, 5000, "PAYLEN counts payload only");
    assert_eq!(sent.word1 >> 31 & 1, 1, "TSE");
    assert_eq!(sent.word1 >> 40 & 3, 3, "IXSM and TXSM");
    assert_eq!(sent.bytes[16..18], [0, 0], "IP length zeroed");
    assert_eq!(sent.bytes[24..26], [0, 0], "IP checksum zeroed");
    // 10.0.0.1 + 10.0.0.2 + protocol 6, no length: 0a00+0001+0a00+0002+0006.
    assert_eq!(
        sent.bytes[50..52],
        [0x14, 0x09],
        "pseudo-header sum without the length"
    );
    // The same request again needs no new context.
    batch.push_bytes(&tcp4(3000)).expect("room");
    batch
        .frames_mut()
        .next()
        .expect("one")
        .request(offload)
        .expect("legal");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    assert_eq!(
        toy.tx.stats().contexts(),
        2,
        "the default one and one for TSO"
    );
}

#[test]
fn d38_d39_impossible_offloads_are_refused_before_anything_is_written() {
    let toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(8);
    batch.push_bytes(&tcp4(100)).expect("room");
    let good = TxOffload {
        ip_checksum: true,
        l4: Some(L4::Tcp),
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ..TxOffload::default()
    };
    let mut frame = batch.frames_mut().next().expect("one");
    frame.request(good).expect("legal");
    for bad in [
        TxOffload { l2_len: 13, ..good },
        TxOffload {
            l2_len: 128,
            ..good
        },
        TxOffload { l3_len: 19, ..good },
        TxOffload {
            l3_len: 512,
            ..good
        },
        TxOffload {
            l3_len: 140,
            ..good
        },
        TxOffload {
            tso_mss: Some(0),
            ..good
        },
        TxOffload {
            tso_mss: Some(9700),
            ..good
        },
        TxOffload {
            tso_mss: Some(500),
            l4: Some(L4::Udp),
            ..good
        },
        TxOffload {
            tso_mss: Some(500),
            l4_len: 19,
            ..good
        },
        TxOffload { ipv6: true, ..good },
    ] {
        assert!(frame.request(bad).is_err(), "{bad:?}");
    }
}

#[test]
fn d13_d14_verdicts_come_from_the_right_bits() {
    let tcp4 = 0x110u64;
    let udp4 = 0x210u64;
    // (dialect, word 0, status and error bits, ip, l4)
    let cases = [
        (Dialect::X540, tcp4, 0x60u64, Verdict::Good, Verdict::Good),
        (
            Dialect::X540,
            tcp4,
            0x60 | 1 << 31,
            Verdict::Bad,
            Verdict::Good,
        ),
        (
            Dialect::X540,
            tcp4,
            0x60 | 1 << 30,
            Verdict::Good,
            Verdict::Bad,
        ),
        (
            Dialect::I82576,
            tcp4,
            0x60 | 1 << 30,
            Verdict::Bad,
            Verdict::Good,
        ),
        (
            Dialect::I82576,
            tcp4,
            0x60 | 1 << 29,
            Verdict::Good,
            Verdict::Bad,
        ),
        (
            Dialect::I82576,
            tcp4,
            0x64,
            Verdict::Unknown,
            Verdict::Unknown,
        ),
        (
            Dialect::I82599,
            udp4,
            0x70 | 1 << 30,
            Verdict::Good,
            Verdict::Unknown,
        ),
        (
            Dialect::X550,
            udp4,
            0x70 | 1 << 30,
            Verdict::Good,
            Verdict::Bad,
        ),
        (Dialect::X540, tcp4, 0, Verdict::Unknown, Verdict::Unknown),
        (Dialect::X540, 0, 0x60, Verdict::Unknown, Verdict::Unknown),
    ];
    for (dialect, word0, bits, ip, l4) in cases {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        toy.rx.arm().expect("armed");
        let mut batch = toy.pool.batch(8);
        assert!(toy.complete(&[0; 60], word0, 0b11 | bits | 60 << 32));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1), "{dialect:?} {bits:#x}");
        let frame = batch.frames().next().expect("one");
        assert_eq!(
            (frame.checksums().ip, frame.checksums().l4),
            (ip, l4),
            "{dialect:?} {bits:#x}"
        );
    }
}

#[test]
fn a_looped_back_tag_is_swapped_on_i350_alone() {
    for (dialect, tag) in [(Dialect::I350, 0x6400), (Dialect::I82576, 0x0064)] {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        toy.rx.arm().expect("armed");
        let mut batch = toy.pool.batch(8);
        assert!(toy.complete(
            &[0; 60],
            0,
            0b11 | 1 << 3 | 1 << 18 | 60 << 32 | 0x0064 << 48
        ));
        assert!(toy.complete(&[0; 60], 0, 0b11 | 1 << 3 | 60 << 32 | 0x0064 << 48));
        assert_eq!(toy.rx.receive(&mut batch), Ok(2));
        let tags: Vec<_> = batch.frames().map(|frame| frame.vlan()).collect();
        assert_eq!(tags, [Some(tag), Some(0x0064)], "{dialect:?}");
    }
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
