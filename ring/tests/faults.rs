//! Faults of the device's write-backs of what it received, row by row of the catalogue: nothing it writes costs a buffer, a
//! frame of somebody else's, or the process.

mod toy;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use proptest::prelude::*;
use toy::{MODELS, Toy, numbered};
use vfnic_ring::{Dialect, PoolConfig, Quiesced};

const POOL: PoolConfig = PoolConfig {
    buffers: 512,
    buffer_size: 2048,
    headroom: 64,
};
const DD: u64 = 1;
const EOP: u64 = 1 << 1;

fn toy(dialect: Dialect) -> Toy {
    let mut toy = Toy::new(64, POOL, dialect, 9014);
    toy.rx.arm().expect("enough buffers");
    toy
}

/// Everything that is in the ring, at most `most` descriptors of it.
fn receive(toy: &mut Toy, most: usize) -> Vec<Vec<u8>> {
    let mut batch = toy.pool.batch(64);
    toy.rx
        .receive_up_to(&mut batch, most)
        .expect("the same pool");
    batch.frames().map(|frame| frame.to_vec()).collect()
}

/// What was dropped, by name, in the order of the names.
fn dropped(toy: &Toy) -> Vec<(&'static str, u64)> {
    toy.rx
        .stats()
        .each()
        .filter(|(name, count)| *count > 0 && !["packets", "bytes"].contains(name))
        .collect()
}

#[test]
fn d2_d3_frames_without_a_header_are_dropped_and_short_ones_delivered() {
    for len in 0..60u64 {
        let mut toy = toy(Dialect::X540);
        assert!(toy.complete(&[7; 60], 0, DD | EOP | len << 32));
        let got = receive(&mut toy, 64);
        if len < 14 {
            assert!(got.is_empty(), "{len} bytes were delivered");
            assert_eq!(dropped(&toy), [("bad_len", 1)], "{len} bytes");
        } else {
            assert_eq!(got, [vec![7; usize::try_from(len).expect("short")]]);
            assert_eq!(dropped(&toy), []);
        }
        toy.all_come_home();
    }
}

#[test]
fn d7_a_completion_ahead_of_its_turn_waits_for_it() {
    let mut toy = toy(Dialect::X540);
    toy.scribble_rx(1, 0, DD | EOP | 61 << 32);
    toy.scribble_rx(2, 0, DD | EOP | 62 << 32);
    assert!(receive(&mut toy, 64).is_empty());
    assert!(!toy.rx.has_work());
    toy.scribble_rx(0, 0, DD | EOP | 60 << 32);
    let lens: Vec<_> = receive(&mut toy, 64).iter().map(Vec::len).collect();
    assert_eq!(lens, [60, 61, 62]);
    toy.all_come_home();
}

#[test]
fn d8_a_slot_that_was_not_posted_is_not_looked_at() {
    for dialect in MODELS {
        let mut toy = toy(dialect);
        // 0 to 62 are the card's.
        toy.scribble_rx(63, 0, DD | EOP | 100 << 32);
        assert!(!toy.rx.has_work());
        assert!(receive(&mut toy, 64).is_empty());
        for number in 0..63 {
            assert!(toy.deliver(&numbered(number, 60), 2048));
        }
        let all: Vec<_> = (0..63).map(|number| numbered(number, 60)).collect();
        assert_eq!(receive(&mut toy, 64), all, "{dialect:?}");
        // Now that the slot is the card's, what it wrote there too early is a completion like any other that it makes
        // up: one frame of the slot's own buffer, and not once more.
        let early: Vec<_> = receive(&mut toy, 64).iter().map(Vec::len).collect();
        assert_eq!(early, [100], "{dialect:?}");
        assert!(!toy.rx.has_work(), "{dialect:?}");
        assert!(receive(&mut toy, 64).is_empty(), "{dialect:?}");
        assert_eq!(dropped(&toy), []);
        toy.all_come_home();
    }
}

#[test]
fn d9_d17_a_device_that_writes_while_it_is_read_gets_nothing_past_the_checks() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    let [ring, _] = toy.memory();
    let stop = AtomicBool::new(false);
    let received = std::thread::scope(|scope| {
        scope.spawn(|| {
            let mut state = 1u64;
            while !stop.load(Ordering::Relaxed) {
                for word in ring.words() {
                    state = state.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
                    word.store(
                        DD | state >> 62 << 1 | (state >> 40 & 0xfff) << 32,
                        Ordering::Relaxed,
                    );
                }
            }
        });
        let (mut received, mut polls) = (0, 0);
        let deadline = Instant::now() + Duration::from_secs(10);
        // On a busy machine it may be a while until the device has its first turn.
        while polls < 2_000 || (received == 0 && Instant::now() < deadline) {
            polls += 1;
            let mut batch = toy.pool.batch(16);
            // A full ring at every poll: no more than was asked for, so that others get their turn.
            let taken = toy.rx.receive(&mut batch).expect("the same pool");
            assert!(taken <= 16);
            for frame in batch.frames() {
                let len: usize = frame.segments().map(<[u8]>::len).sum();
                assert!((14..=1514).contains(&len), "{len}");
                assert!(frame.segments().all(|part| part.len() <= 2048));
                assert_eq!(frame.to_vec().len(), len);
            }
            received += taken;
        }
        stop.store(true, Ordering::Relaxed);
        received
    });
    assert!(received > 0, "nothing passed for good");
    toy.all_come_home();
}

#[test]
fn d10_a_completion_written_twice_has_no_buffer_but_its_slots() {
    let mut toy = toy(Dialect::X540);
    for round in 0..63 {
        assert!(toy.deliver(&numbered(round, 60), 2048));
        assert_eq!(receive(&mut toy, 64).len(), 1, "round {round}");
        // Once more, with an address of its own choice, into the slot that is the card's again.
        let slot = round as usize % 64;
        toy.scribble_rx(slot, 0xdead_beef_0000, DD | EOP | 60 << 32);
    }
    // Their turn comes a round later: they are taken for frames, each in the buffer that belongs to its slot.
    assert!(toy.deliver(&numbered(63, 60), 2048));
    let mut seen = 0;
    while toy.rx.has_work() {
        seen += receive(&mut toy, 64).len();
    }
    assert!((1..=64).contains(&seen), "{seen}");
    toy.all_come_home();
}

#[test]
fn d11_d22_what_is_written_after_a_queue_was_stopped_is_never_seen() {
    let mut toy = toy(Dialect::X540);
    for number in 0..40 {
        assert!(toy.deliver(&numbered(number, 60), 2048));
    }
    toy.rx.reset(Quiesced::after_reset());
    for slot in 0..64 {
        toy.scribble_rx(slot, 0, DD | EOP | 60 << 32);
    }
    assert!(!toy.rx.has_work());
    assert!(receive(&mut toy, 64).is_empty());
    assert_eq!(toy.pool.stats().home, POOL.buffers);
    toy.reset_heads();
    toy.rx.arm().expect("armed again");
    assert!(receive(&mut toy, 64).is_empty(), "of the old life");
    assert!(toy.deliver(&numbered(99, 60), 2048));
    assert_eq!(receive(&mut toy, 64), [numbered(99, 60)]);
    // Without a reset nobody knows what the card still writes to: the memory is not given away again.
    let pool = toy.pool.clone();
    drop(toy);
    assert_eq!(pool.stats().home, POOL.buffers - 64);
}

#[test]
fn d12_every_error_bit_and_pair_of_them_costs_the_frame_and_is_counted_by_kind() {
    for dialect in MODELS {
        let igb = matches!(dialect, Dialect::I82576 | Dialect::I350);
        // igbvf.md §8.2, ixgbevf.md §9.3.
        let bits: &[u64] = if igb {
            &[24, 25, 26, 28, 31]
        } else {
            &[24, 25, 27, 28, 29]
        };
        for one in bits {
            for other in bits {
                let mut toy = toy(dialect);
                let errors = 1 << one | 1 << other;
                assert!(toy.complete(&[0; 60], 0, DD | EOP | errors | 60 << 32));
                assert!(toy.deliver(&numbered(1, 60), 2048));
                assert_eq!(
                    receive(&mut toy, 64),
                    [numbered(1, 60)],
                    "{dialect:?} {errors:#x}"
                );
                assert_eq!(toy.rx.stats().card_error(), 1);
                let kinds: u64 = dropped(&toy)
                    .iter()
                    .filter(|(name, _)| name.starts_with("error_"))
                    .map(|(_, count)| count)
                    .sum();
                assert!((1..=2).contains(&kinds), "{dialect:?}: {:?}", dropped(&toy));
                toy.all_come_home();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: if cfg!(miri) { 4 } else { 256 }, failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever is said about a frame, its bytes are those of its buffer, as many as its length says.
    #[test]
    fn d14_d15_d21_no_fact_about_a_frame_is_more_than_a_fact(model in 0usize..5, word0: u64, status in 0u64..1 << 20, tag: u16) {
        let mut toy = toy(MODELS[model]);
        let word1 = status & !(DD | EOP) | DD | EOP | 60 << 32 | u64::from(tag) << 48;
        prop_assert!(toy.complete(&numbered(3, 60), word0, word1));
        let mut batch = toy.pool.batch(8);
        prop_assert_eq!(toy.rx.receive(&mut batch), Ok(1));
        let frame = batch.frames().next().expect("one");
        prop_assert_eq!(frame.to_vec(), numbered(3, 60));
        if let Some(rss) = frame.rss() {
            prop_assert_eq!(rss.hash, u32::try_from(word0 >> 32).expect("32 bits"));
        }
        let tags = [tag, tag.swap_bytes()];
        prop_assert!(frame.vlan().is_none_or(|seen| tags.contains(&seen)));
        prop_assert_eq!(frame.vlan().is_some(), status & 1 << 3 != 0);
        if word0 >> 4 & 0xfff == 0 {
            // Neither IP nor TCP, whatever the checksum bits say.
            prop_assert_eq!(frame.checksums().ip, vfnic_ring::Verdict::Unknown);
            prop_assert_eq!(frame.checksums().l4, vfnic_ring::Verdict::Unknown);
        }
        prop_assert!(!(frame.packet_type().is_ipv4() && word0 >> 15 & 1 == 1));
        drop(batch);
        toy.all_come_home();
    }
}

#[test]
fn d16_indices_of_the_devices_are_not_followed() {
    for next in [0u64, 1, 63, 64, 4095, 0xffff] {
        let mut toy = toy(Dialect::X540);
        // RSC count in word 0, next descriptor in word 1: coalescing is off, so neither means anything.
        let count = 0xf << 17;
        assert!(toy.complete(&[1; 2048], count, DD | next << 4 & 0xfff0 | 2048 << 32));
        assert!(toy.complete(&[2; 100], count, DD | EOP | 100 << 32));
        assert!(toy.deliver(&numbered(1, 60), 2048));
        let lens: Vec<_> = receive(&mut toy, 64).iter().map(Vec::len).collect();
        assert_eq!(lens, [2148, 60], "next {next}");
        toy.all_come_home();
    }
}

#[test]
fn d18_a_buffer_written_after_its_completion_changes_bytes_and_nothing_else() {
    let mut toy = toy(Dialect::X540);
    for number in 0..32 {
        assert!(toy.deliver(&numbered(number, 100), 2048));
    }
    let mut batch = toy.pool.batch(32);
    assert_eq!(toy.rx.receive(&mut batch), Ok(32));
    // The copy is what an application keeps that does not trust its device.
    let copies: Vec<_> = batch.frames().map(|frame| frame.to_vec()).collect();
    let [_, buffers] = toy.memory();
    for byte in buffers.bytes() {
        byte.store(0xff, Ordering::Relaxed);
    }
    for (number, (frame, copy)) in (0..).zip(batch.frames().zip(&copies)) {
        assert_eq!((frame.len(), frame.segment_count()), (100, 1));
        assert_eq!(frame.to_vec(), [0xff; 100], "it is the device's memory");
        assert_eq!(*copy, numbered(number, 100));
    }
    drop(batch);
    toy.all_come_home();
}

#[test]
fn r1_r2_a_ring_without_buffers_goes_on_as_soon_as_one_comes_back() {
    let config = PoolConfig {
        buffers: 72,
        ..POOL
    };
    let mut toy = Toy::new(64, config, Dialect::X540, 1514);
    toy.rx.arm().expect("enough");
    let mut batch = toy.pool.batch(8);
    let mut kept = Vec::new();
    // The application keeps all it gets, until nothing is left to put in a frame's place.
    for number in 0..8 {
        assert!(toy.deliver(&numbered(number, 60), 2048));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1));
        kept.extend(batch.pop());
    }
    assert!(toy.deliver(&numbered(8, 60), 2048));
    assert_eq!(toy.rx.receive(&mut batch), Ok(0));
    assert_eq!(toy.rx.stats().no_buffers(), 1);
    // One is never given back; the others one by one: each lets one frame through, in order.
    std::mem::forget(kept.pop());
    for number in 8..15 {
        kept.pop();
        assert_eq!(toy.rx.receive(&mut batch), Ok(1), "frame {number}");
        assert_eq!(
            batch.frames().next().expect("one").to_vec(),
            numbered(number, 60)
        );
        kept.extend(batch.pop());
        kept.pop();
        assert!(toy.deliver(&numbered(number + 1, 60), 2048));
        if kept.is_empty() {
            break;
        }
    }
    drop((batch, kept));
    toy.rx.reset(Quiesced::after_reset());
    assert_eq!(toy.pool.stats().home, 71, "all but the one that was leaked");
}

#[test]
fn r6_h18_a_panic_in_the_middle_of_a_batch_loses_no_buffer() {
    let mut toy = toy(Dialect::X540);
    let mut batch = toy.pool.batch(32);
    for way in 0..3 {
        batch.clear();
        for number in 0..20 {
            assert!(toy.deliver(&numbered(number, 60), 2048));
        }
        assert_eq!(toy.rx.receive(&mut batch), Ok(20));
        let result = catch_unwind(AssertUnwindSafe(|| {
            let mut seen = 0;
            let mut panic_at_the_third = || {
                seen += 1;
                assert!(seen < 3, "the application's own");
            };
            match way {
                0 => batch.frames_mut().for_each(|_| panic_at_the_third()),
                1 => batch.drain_packets().for_each(|_| panic_at_the_third()),
                _ => batch.retain_mut(|_| {
                    panic_at_the_third();
                    false
                }),
            }
        }));
        assert!(result.is_err(), "way {way}");
        // What is left of the batch can be used, sent, dropped.
        let left = batch.frames().count();
        assert_eq!(left, batch.len(), "way {way}");
        assert!(left <= 20);
    }
    let rest = batch.len();
    assert_eq!(toy.tx.send(&mut batch), Ok(rest));
    drop(batch);
    toy.all_come_home();
}
