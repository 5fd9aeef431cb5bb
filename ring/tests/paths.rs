//! The vector paths against the portable one, bit for bit: the same calls on the same completions leave the same
//! descriptors, tails, frames and counters, at every position of a ring, in every batch size, with every odd bit.

mod toy;

use proptest::prelude::*;
use toy::Toy;
use vfnic_ring::{Batch, Dialect, Fate, Packet, PoolConfig, Simd, forward};

const POOL: PoolConfig = PoolConfig {
    buffers: 640,
    buffer_size: 2048,
    headroom: 64,
};

/// DD and EOP.
const GOOD: u64 = 0b11;

/// One path with all its state.
struct Lane {
    toy: Toy,
    batch: Batch,
    packets: Vec<Packet>,
}

/// What of a lane must be the same in all.
#[derive(Debug, PartialEq)]
struct Seen {
    result: String,
    bits: Vec<u64>,
    frames: Vec<(Vec<u8>, String)>,
    packets: Vec<Vec<u8>>,
    counters: Vec<(&'static str, u64)>,
    free: (usize, u32, u32),
}

impl Lane {
    fn seen(&self, result: String) -> Seen {
        let describe = |frame: vfnic_ring::Frame<'_>| {
            let about = (frame.segment_count(), frame.rss(), frame.vlan());
            let more = (frame.checksums(), frame.packet_type());
            (frame.to_vec(), format!("{about:?} {more:?}"))
        };
        let (rx, tx) = (self.toy.rx.stats(), self.toy.tx.stats());
        Seen {
            result,
            bits: self.toy.bits(),
            frames: self.batch.frames().map(describe).collect(),
            packets: self.packets.iter().map(Packet::to_vec).collect(),
            counters: rx.each().chain(tx.each()).collect(),
            free: (
                self.batch.cached(),
                self.toy.tx.pending(),
                self.toy.pool.stats().home,
            ),
        }
    }
}

/// The same, three times over.
struct Lanes(Vec<Lane>);

impl Lanes {
    fn new(size: u16, dialect: Dialect, capacity: usize) -> Self {
        let lane = |simd| {
            let mut toy = Toy::new(size, POOL, dialect, 1514).with_simd(simd);
            toy.rx.arm().expect("enough buffers");
            Lane {
                batch: toy.pool.batch(capacity),
                packets: Vec::new(),
                toy,
            }
        };
        let mut usable = Simd::ALL.to_vec();
        usable.retain(|simd| simd.is_available());
        Self(usable.into_iter().map(lane).collect())
    }

    /// Does the same to all, and looks whether they are still the same.
    fn each(&mut self, mut step: impl FnMut(&mut Lane) -> String) {
        let mut seen = self.0.iter_mut().map(|lane| {
            let result = step(lane);
            (lane.toy.rx.simd(), lane.seen(result))
        });
        let (_, portable) = seen.next().expect("the portable one");
        for (simd, seen) in seen {
            assert!(
                seen == portable,
                "{simd:?}: {seen:x?}\nportable: {portable:x?}"
            );
        }
    }

    fn complete(&mut self, words: [u64; 2]) {
        for lane in &mut self.0 {
            lane.toy.complete(&[7; 60], words[0], words[1]);
        }
    }

    /// Moves all by so many slots of both rings.
    fn skew(&mut self, by: usize) {
        for _ in 0..by {
            self.complete([0, GOOD | 60 << 32]);
            for lane in &mut self.0 {
                lane.toy.rx.receive(&mut lane.batch).expect("same pool");
                lane.toy.tx.send(&mut lane.batch).expect("sent");
                lane.toy.transmit(usize::MAX);
            }
        }
    }
}

fn receive(lane: &mut Lane, most: usize) -> String {
    format!("{:?}", lane.toy.rx.receive_up_to(&mut lane.batch, most))
}

fn send(lane: &mut Lane) -> String {
    format!("{:?}", lane.toy.tx.send(&mut lane.batch))
}

fn pass(lane: &mut Lane, every: usize) -> String {
    let Lane { toy, batch, .. } = lane;
    let mut number = 0;
    let result = forward(&mut toy.rx, &mut toy.tx, batch, |frame| {
        number += 1;
        if number % every == 0 {
            return Fate::Drop;
        }
        if number % 5 == 0 && frame.is_single() {
            frame.set_len(20 + number).expect("fits");
        }
        Fate::Send
    });
    format!("{result:?}")
}

fn own(lane: &mut Lane) -> String {
    lane.batch.take_packets(&mut lane.packets);
    let half = lane.packets.len() / 2;
    let refused = lane
        .packets
        .drain(half..)
        .map(|packet| lane.batch.push(packet));
    format!("{}", refused.filter(Result::is_err).count())
}

/// Every bit of a word 1, set alone where it is clear and cleared where it is set, and every length at a bound, in every
/// place of two groups and a bit, then a forward of the same.
#[test]
fn every_odd_bit_and_length_in_every_place_of_a_burst() {
    let bits = (0..32).map(|bit| (GOOD ^ 1 << bit) | 60 << 32);
    let lengths = [
        0u64, 1, 13, 14, 16, 17, 59, 1513, 1514, 1515, 2047, 2048, 2049, 0xffff,
    ];
    let odd: Vec<u64> = bits.chain(lengths.map(|len| GOOD | len << 32)).collect();
    let few = [0, 7, 8, 16, 18];
    let all: Vec<usize> = (0..19).collect();
    let odd = if cfg!(miri) { &odd[..2] } else { &odd[..] };
    for (dialect, places) in [(Dialect::I82576, &few[..]), (Dialect::X540, &all)] {
        let mut lanes = Lanes::new(64, dialect, 32);
        for (number, odd) in odd.iter().enumerate() {
            for &place in places {
                for at in 0..19 {
                    let word1 = if at == place {
                        *odd
                    } else {
                        GOOD | 60 << 32 | (at as u64) << 48
                    };
                    lanes.complete([0x5eed_0217 + at as u64, word1]);
                }
                // A descriptor that is not done is done later.
                let mut rounds = 0;
                while lanes.0[0].toy.rx.has_work() && rounds < 4 {
                    match (number + place) % 3 {
                        0 => lanes.each(|lane| pass(lane, 4)),
                        1 => {
                            lanes.each(|lane| receive(lane, 32));
                            lanes.each(own);
                        }
                        _ => lanes.each(|lane| receive(lane, 17)),
                    }
                    lanes.each(send);
                    lanes.each(|lane| format!("{:?}", lane.toy.transmit(usize::MAX)));
                    lanes.each(|lane| {
                        lane.batch.clear();
                        lane.packets.clear();
                        String::new()
                    });
                    rounds += 1;
                }
                if odd & 1 == 0 {
                    // It holds everything up: begin again.
                    lanes = Lanes::new(64, dialect, 32);
                }
            }
        }
    }
}

/// Ring positions all the way round, with numbers ready and numbers asked for in every proportion.
#[test]
fn every_position_and_every_partial_group() {
    let (most, rounds) = if cfg!(miri) { (3, 3) } else { (21, 77) };
    let ready = [1u64, 3, 4, 7, 8, 9, 12, 15, 16, 17, 20];
    for asked in 1..most {
        let mut lanes = Lanes::new(72, Dialect::I82599, asked);
        for round in 0..rounds {
            for at in 0..ready[round % ready.len()] {
                lanes.complete([at, GOOD | (60 + at) << 32]);
            }
            lanes.each(|lane| receive(lane, asked));
            lanes.each(send);
            lanes.each(|lane| pass(lane, 6));
            lanes.each(|lane| format!("{:?}", lane.toy.transmit(5)));
            lanes.each(|lane| format!("{}", lane.toy.tx.reclaim(&mut lane.batch)));
            while lanes.0[0].toy.rx.has_work() {
                lanes.each(|lane| receive(lane, 40));
                lanes.each(send);
                lanes.each(|lane| format!("{:?}", lane.toy.transmit(usize::MAX)));
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Step {
    Complete(usize, u64, u64),
    Receive(usize),
    Send,
    Forward(usize),
    Own,
    Transmit(usize),
    Reclaim,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let odd = prop_oneof![
        12 => Just(0u64),
        1 => (0u32..32).prop_map(|bit| 1 << bit),
    ];
    let len = prop_oneof![8 => 14u64..1515, 1 => 0u64..2100];
    let step = prop_oneof![
        6 => (1..40usize, odd, len).prop_map(|(count, odd, len)| Step::Complete(count, odd, len)),
        4 => (1..70usize).prop_map(Step::Receive),
        4 => Just(Step::Send),
        3 => (2..30usize).prop_map(Step::Forward),
        2 => Just(Step::Own),
        4 => (1..90usize).prop_map(Step::Transmit),
        1 => Just(Step::Reclaim),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 1..80)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: toy::cases(256), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_calls_leave_the_same_bits(
        dialect in prop::sample::select(vec![Dialect::I82576, Dialect::X550]),
        size in (8u16..24).prop_map(|units| units * 8),
        capacity in 1usize..70,
        skew in 0usize..80,
        steps in steps(),
    ) {
        let mut lanes = Lanes::new(size, dialect, capacity);
        lanes.skew(skew);
        for step in steps {
            match step {
                Step::Complete(count, odd, len) => for at in 0..count as u64 {
                    // An odd one in the middle of good ones.
                    let word1 = if at == 5 { GOOD ^ odd } else { GOOD };
                    lanes.complete([at << 32 | 0x217, word1 | len << 32 | at << 48]);
                },
                Step::Receive(most) => lanes.each(|lane| receive(lane, most)),
                Step::Send => lanes.each(send),
                Step::Forward(every) => lanes.each(|lane| pass(lane, every)),
                Step::Own => lanes.each(own),
                Step::Transmit(most) => lanes.each(|lane| format!("{:?}", lane.toy.transmit(most))),
                Step::Reclaim => lanes.each(|lane| format!("{}", lane.toy.tx.reclaim(&mut lane.batch))),
                Step::Clear => lanes.each(|lane| { lane.batch.clear(); String::new() }),
            }
        }
    }
}

/// Looked up once a process, so that each name needs one of its own.
#[test]
#[cfg_attr(miri, ignore = "starts processes")]
fn the_environment_chooses_among_what_the_machine_has() {
    let usable: Vec<_> = Simd::ALL
        .into_iter()
        .filter(|simd| simd.is_available())
        .collect();
    let widest = usable.last().copied().expect("the portable one");
    if let Ok(expected) = std::env::var("VFNIC_TEST_CHOSEN") {
        assert_eq!(Simd::chosen().name(), expected);
        return;
    }
    let names = Simd::ALL.map(Simd::name);
    assert_eq!(names, ["portable", "avx2", "avx512"]);
    for asked in names.into_iter().chain(["", "mmx"]) {
        let chosen = usable.iter().find(|simd| simd.name() == asked);
        let output = std::process::Command::new(std::env::current_exe().expect("this test"))
            .args([
                "--exact",
                "the_environment_chooses_among_what_the_machine_has",
            ])
            .env("VFNIC_SIMD", asked)
            .env("VFNIC_TEST_CHOSEN", chosen.unwrap_or(&widest).name())
            .output()
            .expect("runs");
        assert!(output.status.success(), "{asked}: {output:?}");
    }
}
