//! Frames at the edge of what a card takes, batches of two cards' frames, and what handles say of themselves.

mod toy;

use std::sync::Arc;
use std::sync::atomic::Ordering::Relaxed;

use toy::{Toy, memory};
use vfnic_ring::{
    Checksums, Dialect, Doorbell, DoorbellSink, FrameError, Iova, L4, PoolConfig, PoolMismatch,
    Quiesced, RxParams, RxRing, SendError, TxOffload, Verdict, forward,
};

const POOL: PoolConfig = PoolConfig {
    buffers: 256,
    buffer_size: 1024,
    headroom: 64,
};

fn toy(max_frame: u32) -> Toy {
    let mut toy = Toy::new(64, POOL, Dialect::X540, max_frame);
    toy.rx.arm().expect("enough buffers");
    toy
}

fn numbered(len: usize) -> Vec<u8> {
    (0..len).map(|at| (at * 5 + len).to_le_bytes()[0]).collect()
}

/// Nothing was written for the card to see, everything is counted and comes home.
fn nothing_was_sent(mut toy: Toy, refused: u64) {
    assert_eq!(toy.transmit(usize::MAX), []);
    assert_eq!(toy.tx.stats().refused(), refused);
    toy.all_come_home();
}

#[test]
fn d37_more_buffers_than_a_card_takes_for_a_frame_are_refused_and_one_less_is_sent() {
    let mut toy = toy(1 << 17);
    let mut batch = toy.pool.batch(64);
    let most = numbered(38 * 1024);
    batch.push_bytes(&most).expect("room");
    assert_eq!(toy.tx.send(&mut batch), Ok(1));
    assert_eq!(toy.transmit(usize::MAX)[0].bytes, most);
    toy.tx.reclaim(&mut batch);
    batch.push_bytes(&numbered(38 * 1024 + 1)).expect("room");
    let error = toy.tx.send(&mut batch).expect_err("39 buffers");
    let expected = SendError::TooManySegments {
        sent: 0,
        segments: 39,
        max: 38,
    };
    assert_eq!(error, expected);
    assert!(error.to_string().contains("39"), "{error}");
    assert_eq!(batch.len(), 1, "it is still the application's");
    drop(batch);
    nothing_was_sent(toy, 1);
}

/// A card wants 17 bytes. One buffer is filled up; what lies in two, or ends at its buffer's end, cannot be.
#[test]
fn d37_a_frame_that_cannot_be_filled_up_is_refused() {
    for len in 14..=18 {
        let frame = numbered(len);
        let mut whole = toy(1514);
        let mut batch = whole.pool.batch(8);
        batch.push_bytes(&frame).expect("room");
        assert_eq!(whole.tx.send(&mut batch), Ok(1));
        let bytes = &whole.transmit(usize::MAX)[0].bytes;
        let mut filled = frame.clone();
        filled.resize(len.max(17), 0);
        assert_eq!(*bytes, filled);

        let mut halves = toy(1514);
        let mut batch = halves.pool.batch(8);
        assert!(halves.deliver(&frame, len / 2 + 1));
        assert_eq!(halves.rx.receive(&mut batch), Ok(1));
        let sent = halves.tx.send(&mut batch);
        if len >= 17 {
            assert_eq!(sent, Ok(1));
            assert_eq!(halves.transmit(usize::MAX)[0].bytes, frame);
            continue;
        }
        let refused = SendError::TooShort {
            sent: 0,
            len,
            min: 17,
        };
        assert_eq!(sent, Err(refused));
        drop(batch);
        nothing_was_sent(halves, 1);
    }
    // At the very end of its buffer there is no room for zeros.
    let mut toy = toy(1514);
    let mut batch = toy.pool.batch(8);
    batch.push_bytes(&numbered(1024)).expect("room");
    let pulled = batch.frames_mut().next().expect("one").pull_front(1010);
    assert_eq!(pulled, Ok(()));
    assert!(matches!(
        toy.tx.send(&mut batch),
        Err(SendError::TooShort { len: 14, .. })
    ));
    drop(batch);
    nothing_was_sent(toy, 1);
}

/// What was asked of a frame is held against what the frame is when it goes.
#[test]
fn d38_a_frame_cut_after_its_request_is_refused_in_the_request_s_words() {
    let tso = TxOffload {
        l4: Some(L4::Tcp),
        tso_mss: Some(1000),
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ..TxOffload::default()
    };
    let mut toy = toy(1514);
    let mut batch = toy.pool.batch(8);
    batch.push_bytes(&numbered(60)).expect("room");
    batch.push_bytes(&numbered(500)).expect("room");
    let mut frames = batch.frames_mut();
    frames.next().expect("the first");
    let mut frame = frames.next().expect("the second");
    frame.request(tso).expect("54 bytes of headers, and more");
    frame.set_len(40).expect("longer than an Ethernet header");
    let Err(SendError::Request { sent: 1, why }) = toy.tx.send(&mut batch) else {
        panic!("headers that are not there")
    };
    assert!(matches!(why, FrameError::Headers { .. }), "{why}");
    assert_eq!(toy.transmit(usize::MAX).len(), 1, "the one before it");
    // Headers and nothing behind them: nothing to cut into segments.
    let mut frames = batch.frames_mut();
    let mut frame = frames.next().expect("the second");
    frame.set_len(54).expect("in the buffer");
    let refused = SendError::TooShort {
        sent: 0,
        len: 54,
        min: 55,
    };
    assert_eq!(toy.tx.send(&mut batch), Err(refused));
    drop(batch);
    nothing_was_sent(toy, 2);
}

#[test]
fn a_buffer_is_taken_for_a_frame_that_fits_it_while_there_is_one() {
    let toy = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = toy.pool.batch(4);
    for len in [0, 13, 1025, usize::MAX] {
        let outside = FrameError::Length {
            len,
            min: 14,
            max: 1024,
        };
        assert_eq!(batch.alloc(len).map(drop), Err(outside));
    }
    for len in [14, 1024, 60, 60] {
        assert_eq!(batch.alloc(len).expect("room").len(), len);
    }
    assert_eq!(batch.alloc(60).map(drop), Err(FrameError::NoRoom));
    assert_eq!(batch.len(), 4);
}

/// Frames, their order and their counts are the same, whether their first lines are loaded beforehand or not.
#[test]
fn loading_beforehand_changes_nothing_but_time() {
    let run = |prefetch: bool| {
        let mut toy = toy(9014);
        toy.rx = toy.rx.with_prefetch(prefetch);
        let mut batch = toy.pool.batch(16);
        let mut seen = Vec::new();
        for round in 0..40 {
            for number in 0..round % 20 {
                // Some in pieces.
                assert!(toy.deliver(&numbered(60 + 97 * number), 1024));
            }
            while toy.rx.receive(&mut batch) != Ok(0) {
                seen.extend(batch.frames().map(|frame| frame.to_vec()));
                batch.clear();
            }
        }
        (seen, toy.rx.stats().packets())
    };
    let (seen, packets) = run(false);
    assert_eq!(seen.len() as u64, packets);
    assert_eq!(run(true), (seen, packets));
}

/// An 82599 says of UDP without a checksum that it is bad, and so is not believed; others are. Each frame of a batch is
/// read as the card that wrote it means it.
#[test]
fn frames_of_two_models_keep_their_own_meaning_in_one_batch() {
    // A good IP checksum and a bad L4 one, of a UDP datagram.
    let (word0, word1) = (1 << 4 | 1 << 9, 0b11 | 1 << 6 | 1 << 5 | 1 << 30 | 60 << 32);
    for first_is_82599 in [true, false] {
        let (one, other) = match first_is_82599 {
            true => (Dialect::I82599, Dialect::X540),
            false => (Dialect::X540, Dialect::I82599),
        };
        let mut toy = Toy::new(64, POOL, one, 1514);
        toy.rx.arm().expect("enough buffers");
        let (ring, tails) = (memory(1024, 0x30_0000), memory(4096, 0x40_0000));
        let mut second = RxRing::new(RxParams {
            ring: ring.clone(),
            offset: 0,
            size: 64,
            pool: toy.pool.clone(),
            doorbell: Doorbell::in_region(&tails, 0).expect("word"),
            dialect: other,
            max_frame: 1514,
        })
        .expect("a ring");
        second.arm().expect("enough buffers");
        second.arm().expect("armed already, which is no mistake");
        let mut batch = toy.pool.batch(16);
        for _ in 0..2 {
            assert!(toy.complete(&numbered(60), word0, word1));
        }
        let by_other = |slots: std::ops::Range<usize>| {
            for slot in slots {
                ring.words()[2 * slot].store(word0, Relaxed);
                ring.words()[2 * slot + 1].store(word1, Relaxed);
            }
        };
        by_other(0..3);
        assert_eq!(toy.rx.receive(&mut batch), Ok(2));
        let alone: Vec<Checksums> = batch.frames().map(|frame| frame.checksums()).collect();
        assert_eq!(second.receive(&mut batch), Ok(3));
        let all: Vec<Checksums> = batch.frames().map(|frame| frame.checksums()).collect();
        assert_eq!(all[..2], alone, "as they were before the others came");
        let bad = |checksums: &Checksums| checksums.l4 == Verdict::Bad;
        let [of_82599, of_x540] = match first_is_82599 {
            true => [&all[..2], &all[2..]],
            false => [&all[2..], &all[..2]],
        };
        assert!(!of_82599.iter().any(bad), "{all:?}");
        assert!(of_x540.iter().all(bad), "{all:?}");
        // And when they are taken out and put into a batch of their own.
        let mut packets: Vec<_> = batch.drain_packets().collect();
        let checksums = |packet: &vfnic_ring::Packet| packet.frame().checksums();
        assert_eq!(packets.iter().map(checksums).collect::<Vec<_>>(), all);
        let mut again = toy.pool.batch(16);
        for packet in packets.drain(..) {
            again.push(packet).expect("room");
        }
        let frames = again.frames().map(|frame| frame.checksums());
        assert_eq!(frames.collect::<Vec<_>>(), all);
        // Each out of a batch of its own card's.
        again.clear();
        assert!(toy.complete(&numbered(60), word0, word1));
        by_other(3..4);
        assert_eq!(toy.rx.receive(&mut batch), Ok(1));
        again.push(batch.pop().expect("one")).expect("room");
        assert_eq!(second.receive(&mut batch), Ok(1));
        again.push(batch.pop().expect("one")).expect("room");
        let frames = again.frames().map(|frame| frame.checksums());
        assert_eq!(frames.collect::<Vec<_>>(), all[1..3]);
        drop((again, batch));
        second.reset(Quiesced::after_reset());
        toy.rx.reset(Quiesced::after_reset());
        assert_eq!(toy.pool.stats().home, toy.pool.stats().total);
    }
}

#[test]
fn d40_rings_and_batches_of_two_pools_do_not_mix() {
    let (mut one, mut other) = (toy(1514), toy(1514));
    assert!(one.deliver(&numbered(60), 1024));
    for from_other in [false, true] {
        let mut batch = if from_other { &other } else { &one }.pool.batch(8);
        let refused = forward(&mut one.rx, &mut other.tx, &mut batch, |_| unreachable!());
        assert_eq!(refused, Err(SendError::Pool(PoolMismatch)));
        assert!(batch.is_empty());
    }
    let mut batch = other.pool.batch(8);
    assert_eq!(one.rx.receive(&mut batch), Err(PoolMismatch));
    batch.push_bytes(&numbered(60)).expect("room");
    assert_eq!(one.tx.send(&mut batch), Err(SendError::Pool(PoolMismatch)));
    assert_eq!((batch.len(), one.tx.reclaim(&mut batch)), (1, 0));
    let packet = batch.pop().expect("one");
    let mut own = one.pool.batch(8);
    assert!(own.push(packet).is_err());
    assert_eq!(one.rx.receive(&mut own), Ok(1), "still there for its own");
}

#[derive(Debug)]
struct Nowhere;

impl DoorbellSink for Nowhere {
    fn ring(&self, _tail: u32) {}
}

/// In logs and in a failed assertion: what a thing is, in a line, and no byte of anybody's frames.
#[test]
fn handles_say_what_they_are_and_not_what_is_in_them() {
    let mut toy = toy(9014);
    let secret = b"secret secret secret secret secret secret secret secret secret";
    let mut batch = toy.pool.batch(16);
    assert!(toy.deliver(&secret.repeat(20), 1024));
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    batch.push_bytes(secret).expect("room");
    let region = memory(4096, 0xabc_d000);
    assert_eq!(
        [format!("{}", region.iova()), format!("{:#x}", Iova(255))],
        ["0xabcd000", "0xff"]
    );
    let said = [
        (
            format!("{:?}", batch),
            "frames: 2, entries: 3, capacity: 16",
        ),
        (format!("{:?}", batch.frames()), "Frames { entries: 3"),
        (
            format!("{:?}", batch.frames_mut()),
            "FramesMut { entries: 3",
        ),
        (
            format!("{:?}", batch.frames().next()),
            "Frame { len: 1240, segments: 2",
        ),
        (
            format!("{:?}", batch.frames_mut().next()),
            "FrameMut { len: 1240, segments: 2",
        ),
        (format!("{:?}", toy.pool), "buffer_size: 1024"),
        (format!("{:?}", toy.rx), "size: 64"),
        (format!("{:?}", toy.tx), "size: 64, next: 0, clean: 0"),
        (format!("{region:?}"), "len: 4096"),
        (
            format!("{:?}", Doorbell::in_region(&region, 0)),
            "Doorbell(",
        ),
        (
            format!("{:?}", Doorbell::sink(Arc::new(Nowhere))),
            "Doorbell(Nowhere)",
        ),
        (
            format!("{:?}", batch.drain_packets()),
            "DrainPackets { entries: 3",
        ),
    ];
    for (text, part) in said {
        assert!(text.contains(part), "{text}: no {part}");
        assert!(text.len() < 300 && !text.contains('\n'), "{text}");
        assert!(
            !text.contains("secret") && !text.contains("115, 101"),
            "{text}"
        );
    }
}
