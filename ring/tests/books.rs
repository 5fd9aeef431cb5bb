//! The books that rings and batches keep: what is free, in flight, spare and to be reclaimed, counted out by hand.

mod toy;

use std::collections::HashSet;

use toy::{Toy, numbered};
use vfnic_ring::{Batch, Dialect, Fate, PoolConfig, Quiesced, TxOffload, forward};

const POOL: PoolConfig = PoolConfig {
    buffers: 512,
    buffer_size: 2048,
    headroom: 64,
};

/// DD and EOP.
const GOOD: u64 = 0b11;

fn toy(size: u16) -> Toy {
    let mut toy = Toy::new(size, POOL, Dialect::X540, 9014);
    toy.rx.arm().expect("enough buffers");
    toy
}

fn frames(batch: &Batch) -> Vec<Vec<u8>> {
    batch.frames().map(|frame| frame.to_vec()).collect()
}

/// Where every buffer of the batch's frames is: no two in one place.
fn places(batch: &Batch) -> HashSet<*const u8> {
    let places: Vec<_> = batch.frames().map(|frame| frame.data().as_ptr()).collect();
    let different: HashSet<_> = places.iter().copied().collect();
    assert_eq!(different.len(), places.len(), "a buffer in two frames");
    different
}

#[test]
fn a_frame_whose_pieces_come_one_by_one_is_one_frame() {
    for most in [1, 2, 40] {
        for pieces in 2..=4 {
            let mut toy = toy(64);
            let mut batch = toy.pool.batch(40);
            let frame = numbered(pieces, 2048 * (pieces as usize - 1) + 60);
            let parts: Vec<_> = frame.chunks(2048).collect();
            for (number, part) in parts.iter().enumerate() {
                assert_eq!(batch.len(), 0);
                let status = if number + 1 == parts.len() { GOOD } else { 1 };
                assert!(toy.complete(part, 0, status | (part.len() as u64) << 32));
                let calls = toy.rx.receive_up_to(&mut batch, most);
                // A call for fewer descriptors than the frame has waits for one with more room.
                assert!(calls == Ok(0) || number + 1 == parts.len());
            }
            while toy.rx.has_work() {
                toy.rx.receive(&mut batch).expect("same pool");
            }
            assert_eq!(frames(&batch), [frame], "{pieces} pieces by {most}");
            // And the next is a frame of its own again.
            assert!(toy.deliver(&[9; 60], 2048));
            assert_eq!(toy.rx.receive_up_to(&mut batch, most), Ok(1));
            assert_eq!(batch.len(), 2);
        }
    }
}

#[test]
fn a_whole_frame_without_room_is_work_although_its_descriptors_are_taken() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(2);
    batch.alloc(60).expect("room");
    assert!(toy.deliver(&numbered(7, 3000), 2048));
    assert!(toy.rx.has_work());
    assert_eq!(toy.rx.receive(&mut batch), Ok(0));
    assert!(toy.rx.has_work(), "it waits for room");
    batch.clear();
    assert_eq!(toy.rx.receive(&mut batch), Ok(1));
    assert_eq!(frames(&batch), [numbered(7, 3000)]);
    assert!(!toy.rx.has_work());
}

#[test]
fn bytes_are_counted_by_the_length_that_the_card_wrote() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(16);
    let (mut packets, mut bytes) = (0, 0);
    for most in [1, 4, 1, 16] {
        for _ in 0..most {
            // A tag stands above the length.
            assert!(toy.complete(&[5; 70], 0, GOOD | 70 << 32 | 0xabcd << 48));
            packets += 1;
            bytes += 70;
        }
        assert_eq!(toy.rx.receive_up_to(&mut batch, most), Ok(most));
        let stats = toy.rx.stats();
        assert_eq!((stats.packets(), stats.bytes()), (packets, bytes));
        assert_eq!(toy.tx.send(&mut batch), Ok(most));
        assert!(batch.is_empty());
        let stats = toy.tx.stats();
        assert_eq!((stats.packets(), stats.bytes()), (packets, bytes));
        toy.transmit(usize::MAX);
    }
}

/// What is not done is not looked at, whatever else stands in its word.
#[test]
fn no_bits_but_done_make_a_completion() {
    for dialect in toy::MODELS {
        let mut toy = Toy::new(64, POOL, dialect, 1514);
        toy.rx.arm().expect("enough buffers");
        let mut batch = toy.pool.batch(16);
        // So that there are free buffers at hand.
        assert!(toy.deliver(&[1; 60], 2048));
        assert_eq!(toy.rx.receive(&mut batch), Ok(1));
        let kinds = if cfg!(miri) { 2 } else { 12 };
        for errors in 0..1u64 << kinds {
            for low in [0, 0b10] {
                for len in [0, 60, 0xffff ^ 60, 0xffff] {
                    toy.scribble_rx(1, 0, errors << 20 | low | len << 32);
                    for most in [1, 8] {
                        assert_eq!(toy.rx.receive_up_to(&mut batch, most), Ok(0));
                    }
                }
            }
        }
        assert_eq!(toy.rx.stats().packets(), 1);
        assert!(!toy.rx.has_work());
    }
}

#[test]
fn d8_no_more_is_taken_than_was_posted_however_much_is_written_back() {
    for most in [100, 63, 64] {
        let mut toy = toy(64);
        let mut batch = toy.pool.batch(128);
        // A life long enough for the ring to have been refilled.
        for _ in 0..40 {
            assert!(toy.deliver(&[1; 60], 2048));
            toy.rx.receive(&mut batch).expect("same pool");
        }
        batch.clear();
        while toy.posted() < 63 {
            assert!(toy.deliver(&[1; 60], 2048));
            toy.rx.receive(&mut batch).expect("same pool");
        }
        batch.clear();
        for slot in 0..64 {
            toy.scribble_rx(slot, 0, GOOD | 60 << 32);
        }
        assert_eq!(toy.rx.receive_up_to(&mut batch, most), Ok(63));
    }
}

#[test]
fn frames_behind_one_that_is_not_done_are_not_unread() {
    let mut toy = toy(64);
    toy.scribble_rx(0, 0, 0b10 | 60 << 32);
    toy.scribble_rx(1, 0, GOOD | 60 << 32);
    toy.rx.reset(Quiesced::after_reset());
    assert_eq!(toy.rx.stats().reset_unread(), 0);
}

#[test]
fn a_longest_frame_can_be_changed_both_ways() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(16);
    for max in [100u32, 3000, 60] {
        toy.rx.set_max_frame(max);
        toy.tx.set_max_frame(max);
        let (fits, not) = (max as usize, max as usize + 1);
        for len in [fits, not] {
            assert!(toy.deliver(&vec![3; len], 2048));
        }
        assert_eq!(toy.rx.receive(&mut batch), Ok(1), "{max}");
        batch.push_bytes(&vec![4; not]).expect("room");
        let error = toy.tx.send(&mut batch).expect_err("too long");
        assert!(error.to_string().contains(&not.to_string()), "{error}");
        let sent = toy.transmit(usize::MAX);
        assert_eq!(sent.len(), 1);
        assert_eq!(sent[0].bytes.len(), fits);
        batch.clear();
    }
}

#[test]
fn nothing_of_an_earlier_life_stands_in_a_ring_that_was_reset() {
    let mut toy = toy(64);
    let mut batch = toy.pool.batch(16);
    for _ in 0..10 {
        assert!(toy.deliver(&numbered(1, 3000), 2048));
    }
    assert_eq!(toy.rx.receive(&mut batch), Ok(8));
    assert_eq!(toy.tx.send(&mut batch), Ok(8));
    toy.transmit(5);
    assert_eq!(toy.tx.frames_pending(), 8);
    toy.rx.reset(Quiesced::after_reset());
    // Two of the frames were confirmed; a report is asked for at the end of the call only.
    assert_eq!(toy.tx.reset(Quiesced::after_reset()), 8);
    let words = toy.bits();
    let rings = &words[..words.len() - 2];
    assert!(rings.iter().all(|word| *word == 0));
    // The next begins with empty books.
    toy.reset_heads();
    assert_eq!((toy.tx.frames_pending(), toy.tx.pending()), (0, 0));
    for number in 0..8 {
        batch.push_bytes(&numbered(number, 60)).expect("room");
    }
    assert_eq!(toy.tx.send(&mut batch), Ok(8));
    assert_eq!(toy.tx.frames_pending(), 8);
    assert_eq!(toy.transmit(usize::MAX).len(), 8);
    assert!(toy.tx.has_work());
    toy.tx.reclaim(&mut batch);
    assert_eq!((toy.tx.frames_pending(), toy.tx.has_work()), (0, false));
    drop(batch);
    toy.all_come_home();
}

#[test]
fn buffers_in_a_transmit_ring_that_was_never_stopped_are_lost_and_counted() {
    for count in [0, 1, 5] {
        let toy = Toy::new(64, POOL, Dialect::X550, 9014);
        let (pool, mut tx) = (toy.pool.clone(), toy.tx);
        let mut batch = pool.batch(16);
        for number in 0..count {
            batch.push_bytes(&numbered(number, 60)).expect("room");
        }
        batch.push_bytes(&numbered(9, 3000)).expect("room");
        tx.send(&mut batch).expect("sent");
        drop((tx, batch));
        let stats = pool.stats();
        assert_eq!((stats.lost, stats.home), (count + 2, 512 - count - 2));
    }
}

/// Whole blocks come back by themselves, as far as the batch has use for them.
#[test]
fn a_send_takes_back_the_blocks_that_are_finished_and_wanted() {
    for (size, capacity, burst) in [
        (64u16, 32usize, 8usize),
        (72, 40, 6),
        (72, 200, 11),
        (128, 64, 33),
        (104, 16, 1),
    ] {
        let mut toy = Toy::new(size, POOL, Dialect::I350, 1514);
        let size = usize::from(size);
        let mut batch = toy.pool.batch(capacity);
        let (mut clean, mut used) = (0, 0);
        for round in 0..100 {
            for number in 0..burst {
                let number = u32::try_from(number).expect("few");
                batch.push_bytes(&numbered(number, 60)).expect("room");
            }
            let mut cached = batch.cached();
            let mut take = |used: &mut usize, cached: &mut usize| {
                let end = ((clean / 32 + 1) * 32).min(size);
                *used -= end - clean;
                *cached += end - clean;
                clean = end % size;
            };
            // With a block at least in flight, and no more than the batch wants to keep.
            while size - 1 - used < size - 32 && cached + 32 <= capacity + 64 {
                take(&mut used, &mut cached);
            }
            // With too little room whether it wants them or not.
            while size - 1 - used < burst {
                take(&mut used, &mut cached);
            }
            assert_eq!(toy.tx.send(&mut batch), Ok(burst));
            used += burst;
            assert_eq!(
                (toy.tx.pending() as usize, batch.cached()),
                (used, cached),
                "round {round} of {size}, {capacity}, {burst}"
            );
            assert_eq!(toy.transmit(usize::MAX).len(), burst);
        }
    }
}

#[test]
fn there_is_work_as_soon_as_a_block_is_done_and_as_long_as_it_is_not_taken() {
    // The frame that ends the block is plain, or the second half of one in two buffers, or its first half: then it is
    // the other, in the next block, that reports. The ring's first slots may have gone before.
    for before in [0, 5] {
        for (plain, long) in [(32, false), (30, true), (31, true)] {
            let mut toy = Toy::new(64, POOL, Dialect::I350, 9014);
            let mut batch = toy.pool.batch(64);
            for number in 0..before {
                batch.push_bytes(&numbered(number, 60)).expect("room");
            }
            assert_eq!(toy.tx.send(&mut batch), Ok(before as usize));
            toy.transmit(usize::MAX);
            assert_eq!(toy.tx.reclaim(&mut batch), before as usize);
            for number in before..plain {
                batch.push_bytes(&numbered(number, 60)).expect("room");
            }
            if long {
                batch.push_bytes(&numbered(30, 3000)).expect("room");
            }
            let slots = (plain - before) as usize + if long { 2 } else { 0 };
            for number in 0..8 {
                batch.push_bytes(&numbered(number, 60)).expect("room");
            }
            let all = batch.len();
            assert_eq!(toy.tx.send(&mut batch), Ok(all));
            assert!(!toy.tx.has_work());
            toy.transmit(slots - 1);
            assert!(!toy.tx.has_work());
            toy.transmit(1);
            assert!(toy.tx.has_work(), "{before}, {plain}, {long}");
            assert_eq!(toy.tx.reclaim(&mut batch), slots);
            assert_eq!((toy.tx.pending(), toy.tx.frames_pending()), (8, 8));
            assert!(!toy.tx.has_work());
            toy.transmit(8);
            assert!(toy.tx.has_work());
            assert_eq!(toy.tx.reclaim(&mut batch), 8);
            assert!(!toy.tx.has_work());
        }
    }
}

#[test]
fn d30_a_context_with_nothing_behind_it_is_not_finished() {
    let mut toy = Toy::new(64, POOL, Dialect::X550, 1514);
    let mut batch = toy.pool.batch(8);
    toy.tx.start();
    assert_eq!((toy.tx.pending(), toy.tx.frames_pending()), (1, 0));
    toy.scribble_tx(0, u64::MAX, u64::MAX);
    assert!(!toy.tx.has_work());
    assert_eq!(toy.tx.reclaim(&mut batch), 0);
    assert_eq!(toy.tx.pending(), 1);
}

#[test]
fn a_frame_that_is_filled_up_is_announced_with_what_fills_it() {
    for len in 14..20usize {
        let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
        let mut batch = toy.pool.batch(8);
        batch.push_bytes(&numbered(1, len)).expect("room");
        assert_eq!(toy.tx.send(&mut batch), Ok(1));
        let sent = toy.transmit(usize::MAX).remove(0);
        assert_eq!(sent.bytes.len(), len.max(17));
        // PAYLEN, from bit 46, and the length.
        assert_eq!(sent.word1 >> 46, sent.bytes.len() as u64);
        assert_eq!(sent.word1 & 0xffff, sent.bytes.len() as u64);
    }
}

/// A batch's own free list: a block more than is kept without need goes home, the oldest first and whole blocks.
#[test]
fn spare_buffers_go_home_by_blocks_when_there_are_a_block_too_many() {
    for capacity in [8usize, 70] {
        let toy = toy(64);
        let mut from = toy.pool.batch(capacity);
        let mut to = toy.pool.batch(capacity);
        let keep = capacity + 64;
        let mut expected = 0;
        for round in 0..30 {
            for number in 0..8 {
                from.push_bytes(&numbered(number, 60)).expect("room");
            }
            let mut newest: HashSet<_> = places(&from);
            for packet in from.drain_packets() {
                to.push(packet).expect("room");
            }
            to.clear();
            expected += 8;
            if expected > keep + 64 {
                expected -= (expected - keep).next_multiple_of(64);
            }
            assert_eq!(to.cached(), expected, "round {round}");
            // What was used last is still at hand.
            for _ in 0..expected.min(8) {
                let frame = to.alloc(60).expect("at hand");
                newest.remove(&frame.data().as_ptr());
            }
            assert_eq!(newest.len(), 8 - expected.min(8));
            to.clear();
        }
    }
}

#[test]
fn every_buffer_there_is_can_be_had_and_none_twice() {
    // 512 less 64 in the ring; a block and a bit of it lent and given back one by one.
    let toy = toy(64);
    let mut first = toy.pool.batch(1);
    let mut singles: Vec<_> = (0..70)
        .map(|_| {
            first.alloc(60).expect("enough");
            first.pop().expect("just made")
        })
        .collect();
    drop(first);
    singles.truncate(13);
    let mut batch = toy.pool.batch(1000);
    while batch.alloc(60).is_ok() {}
    assert_eq!(batch.len(), 512 - 64 - 13);
    assert_eq!(places(&batch).len(), batch.len());
    assert_eq!(toy.pool.stats().home, 0);
    // What comes back to the pool is all that there is again.
    drop(singles);
    while batch.alloc(60).is_ok() {}
    assert_eq!(places(&batch).len(), 512 - 64);
}

#[test]
fn a_batch_has_as_many_frames_as_it_says_whatever_is_taken_out_of_it() {
    let mut toy = toy(128);
    let mut batch = toy.pool.batch(64);
    // Frames of one, three and two buffers, in turn.
    let lens = [60, 4500, 2100];
    for number in 0..9 {
        let frame = numbered(number, lens[number as usize % 3]);
        assert!(toy.deliver(&frame, 2048));
    }
    assert_eq!(toy.rx.receive(&mut batch), Ok(9));
    assert_eq!(batch.len(), 9);
    // The sixth is refused, of those before it all are kept.
    let mut number = 0;
    batch.retain_mut(|_| {
        number += 1;
        number != 6
    });
    assert_eq!((batch.len(), batch.frames().count()), (8, 8));
    let packet = batch.pop().expect("one");
    assert_eq!((packet.segment_count(), batch.len()), (2, 7));
    let packet = batch.pop().expect("one");
    assert_eq!((packet.segment_count(), batch.len()), (3, 6));
    let packet = batch.pop().expect("one");
    assert_eq!((packet.segment_count(), batch.len()), (1, 5));
    let kept: Vec<_> = [0, 1, 2, 3, 4]
        .map(|number| numbered(number, lens[number as usize % 3]))
        .into();
    assert_eq!(frames(&batch), kept);
}

#[test]
fn frames_left_over_by_forwarding_go_first_and_are_not_asked_about_again() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    let mut batch = toy.pool.batch(48);
    let mut asked = 0;
    let mut decided = 0;
    let (mut delivered, mut left) = (0, Vec::new());
    for round in 0..12 {
        for _ in 0..40 {
            if toy.deliver(&numbered(delivered, 60), 2048) {
                delivered += 1;
            }
        }
        let waiting = batch.len();
        let received = forward(&mut toy.rx, &mut toy.tx, &mut batch, |_| {
            asked += 1;
            Fate::Send
        })
        .expect("sent");
        assert!(
            waiting == 0 || received == 0 || toy.tx.stats().ring_full() > 0,
            "round {round}"
        );
        decided += received;
        assert_eq!(asked, decided, "each once");
        // The card is slower than what comes in.
        left.extend(toy.transmit(9));
    }
    while !batch.is_empty() || toy.tx.pending() > 0 {
        toy.tx.send(&mut batch).expect("sent");
        left.extend(toy.transmit(usize::MAX));
        toy.tx.reclaim(&mut batch);
    }
    let numbers: Vec<_> = left.iter().map(|sent| sent.bytes.clone()).collect();
    let expected: Vec<_> = (0..u32::try_from(asked).expect("few"))
        .map(|number| numbered(number, 60))
        .collect();
    assert_eq!(numbers, expected, "each once, and in order");
}

#[test]
fn a_frame_to_be_cut_has_no_more_payload_than_its_field_can_name() {
    let config = PoolConfig {
        buffers: 64,
        buffer_size: 16384,
        headroom: 128,
    };
    let offload = TxOffload {
        l4: Some(vfnic_ring::L4::Tcp),
        tso_mss: Some(1460),
        l2_len: 14,
        l3_len: 20,
        l4_len: 20,
        ..TxOffload::default()
    };
    let most = (1 << 18) - 1 + 54;
    for (len, fits) in [(most - 1, true), (most, true), (most + 1, false)] {
        let mut toy = Toy::new(64, config, Dialect::X540, 1514);
        let mut batch = toy.pool.batch(32);
        // More than can be copied in: the rest is put in front.
        batch.push_bytes(&vec![0x45; (1 << 18) - 64]).expect("room");
        {
            let mut frame = batch.frames_mut().next().expect("one");
            frame
                .push_front(len - ((1 << 18) - 64))
                .expect("headroom")
                .fill(0x45);
            frame.request(offload).expect("headers in the first buffer");
        }
        let sent = toy.tx.send(&mut batch);
        assert_eq!(sent.is_ok(), fits, "{len}: {sent:?}");
        if fits {
            let sent = toy.transmit(usize::MAX).remove(0);
            assert_eq!(sent.bytes.len(), len);
            assert_eq!(sent.word1 >> 46, (len - 54) as u64, "the payload");
        }
    }
}
