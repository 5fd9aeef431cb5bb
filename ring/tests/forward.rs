//! Forwarding in one pass is receiving, sifting and sending, frame for frame and count for count.

mod toy;

use proptest::prelude::*;
use toy::{Sent, Toy};
use vfnic_ring::{
    Batch, Dialect, Fate, FrameMut, L4, PoolConfig, Quiesced, SendError, Simd, TxOffload, forward,
};

const POOL: PoolConfig = PoolConfig {
    buffers: 1024,
    buffer_size: 2048,
    headroom: 64,
};

/// What the application does with a frame, decided by its first bytes.
fn treat(frame: &mut FrameMut<'_>) -> Fate {
    let [kind, ..] = *frame.data() else {
        return Fate::Drop;
    };
    match kind {
        0..=9 => return Fate::Drop,
        10..=19 => frame.data_mut()[13] = 0xab,
        20..=24 if frame.len() >= 20 => frame.set_len(20).unwrap_or_default(),
        25..=29 => {
            frame.push_front(4).expect("headroom")[..].fill(kind);
        }
        30..=34 => frame.request(TxOffload::vlan(5)).expect("a tag"),
        35..=37 => frame
            .request(TxOffload {
                l4: Some(L4::Udp),
                l2_len: 14,
                l3_len: 20,
                ..TxOffload::default()
            })
            .unwrap_or_default(),
        _ => {}
    }
    Fate::Send
}

/// The three calls that `forward` is to be the same as.
fn by_three_calls(toy: &mut Toy, batch: &mut Batch) -> Result<usize, SendError> {
    if !batch.is_empty() {
        toy.tx.send(batch)?;
        if !batch.is_empty() {
            return Ok(0);
        }
    }
    let received = toy.rx.receive(batch)?;
    batch.retain_mut(|frame| treat(frame) == Fate::Send);
    toy.tx.send(batch)?;
    Ok(received)
}

fn counts(toy: &Toy) -> Vec<(&'static str, u64)> {
    // Moments of a full ring depend on how many frames were tried at once.
    let (rx, tx) = (toy.rx.stats(), toy.tx.stats());
    let all = rx.each().chain(tx.each());
    all.filter(|(name, _)| *name != "ring_full").collect()
}

#[derive(Clone, Debug)]
enum Step {
    /// Frames of this first byte and length.
    Deliver(u8, usize, usize),
    /// A completion with these bits on top.
    Odd(u64),
    Forward,
    Transmit(usize),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let kind = prop_oneof![6 => 40u8..255, 3 => 0u8..40];
    let len = prop_oneof![6 => Just(60usize), 2 => 14..200usize, 1 => 1500..4200usize];
    let step = prop_oneof![
        6 => (kind, len, 1..24usize).prop_map(|(kind, len, count)| Step::Deliver(kind, len, count)),
        1 => prop::sample::select(vec![1u64 << 24, 1 << 29, 1 << 25]).prop_map(Step::Odd),
        5 => Just(Step::Forward),
        4 => (1..90usize).prop_map(Step::Transmit),
    ];
    prop::collection::vec(step, 1..100)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: toy::cases(512), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn one_pass_is_three_calls(
        simd in 0usize..3,
        dialect in prop::sample::select(vec![Dialect::I82576, Dialect::X540]),
        size in (8u16..24).prop_map(|units| units * 8),
        capacity in 1usize..80,
        skew in 0usize..150,
        steps in steps(),
    ) {
        let make = || {
            let mut toy = Toy::new(size, POOL, dialect, 9014).with_simd(Simd::ALL[simd]);
            toy.rx.arm().expect("enough buffers");
            let batch = toy.pool.batch(capacity);
            (toy, batch)
        };
        let ((mut one, mut one_batch), (mut three, mut three_batch)) = (make(), make());
        let (mut one_out, mut three_out): (Vec<Sent>, Vec<Sent>) = (Vec::new(), Vec::new());
        let mut number = 0u32;
        let skewing = std::iter::repeat_n([Step::Deliver(99, 60, 1), Step::Forward, Step::Transmit(99)], skew).flatten();
        for step in skewing.chain(steps) {
            match step {
                Step::Deliver(kind, len, count) => for _ in 0..count {
                    let mut frame = vec![kind; len];
                    frame[4..8].copy_from_slice(&number.to_be_bytes());
                    if one.posted().min(three.posted()) < 3 { break; }
                    number += 1;
                    prop_assert!(one.deliver(&frame, 2048) && three.deliver(&frame, 2048));
                },
                Step::Odd(bits) => if one.posted().min(three.posted()) > 0 {
                    one.complete(&[99; 60], 0, bits | 0b11 | 60 << 32);
                    three.complete(&[99; 60], 0, bits | 0b11 | 60 << 32);
                }
                // How many of them a call receives differs where frames have several buffers: plain ones take no room.
                Step::Forward => {
                    forward(&mut one.rx, &mut one.tx, &mut one_batch, treat).expect("sent");
                    by_three_calls(&mut three, &mut three_batch).expect("sent");
                }
                Step::Transmit(most) => {
                    one_out.extend(one.transmit(most));
                    three_out.extend(three.transmit(most));
                }
            }
        }
        for _ in 0..200 {
            forward(&mut one.rx, &mut one.tx, &mut one_batch, treat).expect("sent");
            by_three_calls(&mut three, &mut three_batch).expect("sent");
            one_out.extend(one.transmit(usize::MAX));
            three_out.extend(three.transmit(usize::MAX));
        }
        // RS may be asked for at other frames; nothing else may differ.
        let plain = |sent: Vec<Sent>| sent.into_iter().map(|sent| (sent.word1 & !(1 << 27), sent.context, sent.bytes)).collect::<Vec<_>>();
        let (one_out, three_out) = (plain(one_out), plain(three_out));
        prop_assert_eq!(one_out.len(), three_out.len());
        for (at, (one, three)) in one_out.iter().zip(&three_out).enumerate() {
            prop_assert!(one == three, "frame {}: {:x?} {:x?}", at, one, three);
        }
        prop_assert_eq!(counts(&one), counts(&three));
        one.tx.reclaim(&mut one_batch);
        prop_assert_eq!(one.tx.pending(), 0);
        drop(one_batch);
        one.rx.reset(Quiesced::after_reset());
        prop_assert_eq!(one.pool.stats().home, POOL.buffers);
    }

    /// Whatever the closure has seen when it panics, every frame is sent once or still there, and no buffer is lost.
    #[test]
    fn a_panic_in_the_middle_loses_nothing(simd in 0usize..3, ready in 1usize..50, at in 0usize..50) {
        let mut toy = Toy::new(64, POOL, Dialect::X540, 1514).with_simd(Simd::ALL[simd]);
        toy.rx.arm().expect("enough buffers");
        let mut batch = toy.pool.batch(64);
        // Warm, so that the pass is the fast one.
        for _ in 0..3 {
            prop_assert!(toy.deliver(&[1; 60], 2048));
            forward(&mut toy.rx, &mut toy.tx, &mut batch, |_| Fate::Send).expect("sent");
            toy.transmit(usize::MAX);
        }
        for number in 0..ready {
            prop_assert!(toy.deliver(&[u8::try_from(number).expect("few"); 60], 2048));
        }
        let mut seen = 0;
        let end = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            forward(&mut toy.rx, &mut toy.tx, &mut batch, |_| {
                seen += 1;
                assert!(seen <= at, "on purpose");
                Fate::Send
            })
        }));
        prop_assert_eq!(end.is_err(), at < ready);
        let mut out = toy.transmit(usize::MAX);
        for _ in 0..3 {
            forward(&mut toy.rx, &mut toy.tx, &mut batch, |_| Fate::Send).expect("sent");
            out.extend(toy.transmit(usize::MAX));
        }
        let order: Vec<usize> = out.iter().map(|sent| usize::from(sent.bytes[0])).collect();
        prop_assert_eq!(order, (0..ready).collect::<Vec<_>>());
        toy.tx.reclaim(&mut batch);
        drop(batch);
        toy.rx.reset(Quiesced::after_reset());
        prop_assert_eq!(toy.pool.stats().home, POOL.buffers);
    }
}

#[test]
fn a_batch_of_another_pool_is_refused_before_anything_is_received() {
    let mut toy = Toy::new(64, POOL, Dialect::X540, 1514);
    toy.rx.arm().expect("enough buffers");
    let other = Toy::new(64, POOL, Dialect::X540, 1514);
    let mut batch = other.pool.batch(8);
    assert!(toy.deliver(&[1; 60], 2048));
    let result = forward(&mut toy.rx, &mut toy.tx, &mut batch, |_| Fate::Send);
    assert!(matches!(result, Err(SendError::Pool(_))), "{result:?}");
    assert!(toy.rx.has_work());
}
