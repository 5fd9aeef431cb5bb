//! Faults of a transmit queue's completions, and frames that cannot be sent, row by row of the catalogue: nothing is given
//! back that the card may still read, and nothing stays behind.

mod toy;

use toy::{MODELS, Toy, numbered};
use vfnic_ring::{Dialect, FrameError, PoolConfig, Quiesced, SendError, TxOffload};

const POOL: PoolConfig = PoolConfig {
    buffers: 512,
    buffer_size: 2048,
    headroom: 64,
};

fn toy(dialect: Dialect) -> Toy {
    let mut toy = Toy::new(64, POOL, dialect, 9014);
    toy.rx.arm().expect("enough buffers");
    toy
}

#[test]
fn d30_completions_of_what_was_never_sent_give_nothing_back() {
    let mut toy = toy(Dialect::X540);
    let mut batch = toy.pool.batch(16);
    for number in 0..5 {
        batch.push_bytes(&numbered(number, 60)).expect("room");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(5));
    let pending = toy.tx.pending();
    for slot in pending as usize..64 {
        toy.scribble_tx(slot, 0, 1 << 32);
    }
    assert!(!toy.tx.has_work());
    assert_eq!(toy.tx.reclaim(&mut batch), 0);
    assert_eq!(toy.tx.pending(), pending);
    assert_eq!(toy.transmit(usize::MAX).len(), 5);
    assert_eq!(toy.tx.reclaim(&mut batch), pending as usize);
    assert_eq!(toy.tx.pending(), 0);
    drop(batch);
    toy.all_come_home();
}

#[test]
fn d30_completions_in_a_ring_nobody_has_used_yet_give_nothing() {
    let mut toy = toy(Dialect::X540);
    for slot in 0..64 {
        toy.scribble_tx(slot, 0, 1 << 32);
    }
    assert!(!toy.tx.has_work());
    let mut batch = toy.pool.batch(64);
    assert_eq!(toy.tx.reclaim(&mut batch), 0);
    assert_eq!(toy.tx.send(&mut batch), Ok(0));
    for number in 0..50 {
        batch.push_bytes(&numbered(number, 60)).expect("room");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(50));
    assert_eq!(toy.transmit(usize::MAX).len(), 50);
    drop(batch);
    toy.all_come_home();
}

#[test]
fn d31_completions_out_of_order_wait_for_the_first() {
    let mut toy = Toy::new(128, POOL, Dialect::I82576, 1514);
    let mut batch = toy.pool.batch(128);
    for number in 0..100 {
        batch.push_bytes(&numbered(number, 60)).expect("room");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(100));
    // The second block's report before the first's.
    toy.scribble_tx(63, 0, 1 << 32);
    assert_eq!(toy.tx.reclaim(&mut batch), 0);
    toy.scribble_tx(31, 0, 1 << 32);
    assert_eq!(toy.tx.reclaim(&mut batch), 64);
    assert_eq!(toy.tx.pending(), 36);
    drop(batch);
    toy.all_come_home();
}

#[test]
fn d33_completions_of_an_earlier_life_give_nothing_back_twice() {
    let mut toy = toy(Dialect::X540);
    let mut batch = toy.pool.batch(64);
    for number in 0..40 {
        batch.push_bytes(&numbered(number, 60)).expect("room");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(40));
    assert_eq!(toy.tx.reset(Quiesced::after_reset()), 40);
    assert_eq!(toy.tx.stats().not_confirmed(), 40);
    toy.reset_heads();
    let home = toy.pool.stats().home;
    // The card comes late with all of them, twice.
    for _ in 0..2 {
        for slot in 0..64 {
            toy.scribble_tx(slot, 0, 1 << 32);
        }
        assert!(!toy.tx.has_work());
        assert_eq!(toy.tx.reclaim(&mut batch), 0);
    }
    assert_eq!(toy.pool.stats().home, home);
    batch.push_bytes(&numbered(7, 60)).expect("room");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    assert_eq!(
        toy.tx.reclaim(&mut batch),
        0,
        "the new life has not sent yet"
    );
    assert_eq!(toy.transmit(usize::MAX)[0].bytes, numbered(7, 60));
    drop(batch);
    toy.all_come_home();
}

#[test]
fn d37_frames_nobody_can_send_are_refused_before_a_descriptor_is_written() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(64);
    for len in [0usize, 13, (1 << 18) + 1, 1 << 20] {
        let error = batch.push_bytes(&vec![0; len]).expect_err("impossible");
        assert!(
            matches!(error, FrameError::Length { .. } | FrameError::NoRoom),
            "{len}: {error}"
        );
        assert_eq!(batch.len(), 0);
    }
    batch.push_bytes(&[1; 1515]).expect("there is room for it");
    assert!(matches!(
        toy.tx.send(&mut batch),
        Err(SendError::TooLong {
            sent: 0,
            len: 1515,
            max: 1514
        })
    ));
    assert_eq!(toy.transmit(usize::MAX), []);
    assert_eq!(toy.tx.stats().refused(), 1);
    drop(batch);
    toy.all_come_home();
}

#[test]
fn d42_a_context_and_its_frame_go_together_or_not_at_all() {
    for before in 0..3u16 {
        let mut toy = toy(Dialect::X540);
        let mut batch = toy.pool.batch(64);
        for number in 0..u32::from(before) {
            batch.push_bytes(&numbered(number, 60)).expect("room");
        }
        assert_eq!(toy.tx.send(&mut batch), Ok(before.into()));
        // A tag of its own for each: two slots a frame, until fewer than two are left.
        for number in 0..40u16 {
            batch
                .push_bytes(&numbered(number.into(), 60))
                .expect("room");
        }
        for (tag, mut frame) in (100u16..).zip(batch.frames_mut()) {
            frame.request(TxOffload::vlan(tag)).expect("legal");
        }
        let sent = toy.tx.send(&mut batch).expect("legal frames");
        assert_eq!(sent, (62 - usize::from(before)) / 2);
        assert!(toy.tx.free_slots() < 2);
        assert_eq!(toy.tx.send(&mut batch), Ok(0));
        let tags: Vec<_> = toy
            .transmit(usize::MAX)
            .iter()
            .skip(before.into())
            .map(|sent| sent.context.0 >> 16 & 0xffff)
            .collect();
        let expected: Vec<u64> = (100..).take(sent).collect();
        assert_eq!(tags, expected, "{before} frames before");
        assert_eq!(toy.tx.send(&mut batch).expect("legal frames"), 40 - sent);
        assert_eq!(toy.transmit(usize::MAX).len(), 40 - sent);
        drop(batch);
        toy.all_come_home();
    }
}

#[test]
fn d43_the_last_frame_of_a_burst_of_any_size_can_be_reclaimed() {
    for dialect in MODELS {
        let mut toy = toy(dialect);
        let mut batch = toy.pool.batch(64);
        for burst in 1..=60u32 {
            for number in 0..burst {
                batch.push_bytes(&numbered(number, 60)).expect("room");
            }
            assert_eq!(toy.tx.send(&mut batch), Ok(burst as usize));
            assert_eq!(toy.transmit(usize::MAX).len(), burst as usize);
            toy.tx.reclaim(&mut batch);
            assert_eq!(toy.tx.pending(), 0, "{dialect:?}, {burst} frames");
        }
        drop(batch);
        toy.all_come_home();
    }
}
