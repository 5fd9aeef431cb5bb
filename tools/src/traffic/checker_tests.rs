use proptest::prelude::*;

use super::super::{FrameSizes, Generator, GeneratorConfig, Identity};
use super::*;

const SEED: u64 = 0xFEED;

fn generator(sizes: FrameSizes, flows: u16) -> Generator {
    Generator::new(&GeneratorConfig {
        identity: Identity {
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            seed: SEED,
        },
        sizes,
        first_flow: 5,
        flows,
    })
}

fn checker(flows: u16, private: bool) -> Checker {
    Checker::new(CheckerConfig {
        seed: SEED,
        first_flow: 5,
        flows,
        private,
    })
}

fn frames(generator: &mut Generator, count: usize) -> Vec<Vec<u8>> {
    (0..count)
        .map(|at| {
            let mut frame = vec![0; generator.next_len()];
            generator.write(&mut frame, 1000 * at as u64);
            frame
        })
        .collect()
}

#[test]
fn what_is_sent_arrives() {
    let mut generator = generator(FrameSizes::Imix, 3);
    let mut checker = checker(3, true);
    for frame in frames(&mut generator, 1200) {
        assert!(checker.frame(&frame, 2_000_000));
    }
    let tally = checker.tally();
    assert_eq!(checker.close(|flow| generator.made(flow)), 0);
    assert_eq!(tally.received, 1200);
    assert_eq!(tally.bytes, 100 * (7 * 60 + 4 * 590 + 1514));
    assert_eq!(checker.swap_latencies(latency_histogram()).len(), 1200);
}

#[test]
fn frames_that_never_left_can_be_taken_back() {
    let mut generator = generator(FrameSizes::Fixed(64), 3);
    let mut checker = checker(3, true);
    let frames = frames(&mut generator, 10);
    for frame in &frames[..6] {
        checker.frame(frame, 0);
    }
    for frame in &frames[6..] {
        generator.take_back(frame);
    }
    assert_eq!(generator.total(), 6);
    assert_eq!(checker.close(|flow| generator.made(flow)), 0);
}

#[test]
fn other_runs_and_other_flows_are_foreign() {
    let mut generator = generator(FrameSizes::Fixed(64), 4);
    let frames = frames(&mut generator, 4);
    // Follows three of the four flows.
    let mut checker = checker(3, false);
    for frame in &frames {
        checker.frame(frame, 0);
    }
    checker.frame(&[0; 60], 0);
    assert_eq!(checker.tally().received, 3);
    assert_eq!(checker.tally().foreign, 2);
    assert_eq!(checker.tally().corrupted, 0);
    let mut other = Checker::new(CheckerConfig {
        seed: SEED + 1,
        ..checker.config
    });
    other.frame(&frames[0], 0);
    assert_eq!(other.tally().foreign, 1);
}

#[test]
fn latency_is_the_age_on_arrival() {
    let mut generator = generator(FrameSizes::Fixed(64), 1);
    let mut checker = checker(1, true);
    for frame in frames(&mut generator, 3) {
        checker.frame(&frame, 5000);
    }
    let latencies = checker.swap_latencies(latency_histogram());
    assert_eq!((latencies.min(), latencies.max()), (3000, 5003));
    assert!(checker.swap_latencies(latency_histogram()).is_empty());
}

/// One thing that a path can do to a frame.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Pass,
    Lose,
    Repeat(usize),
    Delay(usize),
    Damage(prop::sample::Index, u8),
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        12 => Just(Fate::Pass),
        1 => Just(Fate::Lose),
        1 => (0usize..40).prop_map(Fate::Repeat),
        1 => (1usize..40).prop_map(Fate::Delay),
        1 => (any::<prop::sample::Index>(), 0u8..8).prop_map(|(at, bit)| Fate::Damage(at, bit)),
    ]
}

proptest! {
    /// A path that loses, repeats, delays and damages: each is counted apart and exactly.
    #[test]
    fn every_misfortune_is_counted_for_what_it_is(
        fates in prop::collection::vec(fate(), 1..300), flows in 1u16..6, imix: bool,
    ) {
        let sizes = if imix { FrameSizes::Imix } else { FrameSizes::Fixed(64) };
        let mut generator = generator(sizes, flows);
        let mut checker = checker(flows, true);
        // (time of arrival, original place, bytes, intact)
        let mut arrivals = Vec::new();
        for (at, (fate, mut frame)) in
            fates.iter().zip(frames(&mut generator, fates.len())).enumerate()
        {
            match *fate {
                Fate::Pass => arrivals.push((at, at, frame, true)),
                Fate::Lose => {}
                Fate::Repeat(later) => {
                    arrivals.push((at, at, frame.clone(), true));
                    arrivals.push((at + later, at, frame, true));
                }
                Fate::Delay(by) => arrivals.push((at + by, at, frame, true)),
                Fate::Damage(index, bit) => {
                    let byte = 12 + index.index(frame.len() - 12);
                    frame[byte] ^= 1 << bit;
                    arrivals.push((at, at, frame, false));
                }
            }
        }
        arrivals.sort_by_key(|&(when, ..)| when);
        let mut expected = Tally::default();
        let mut seen = std::collections::HashSet::new();
        let mut highest = vec![0; usize::from(flows)];
        for (_, place, bytes, intact) in &arrivals {
            let last = &mut highest[place % usize::from(flows)];
            if !intact {
                expected.corrupted += 1;
            } else if !seen.insert(place) {
                expected.duplicated += 1;
            } else {
                expected.received += 1;
                expected.bytes += bytes.len() as u64;
                expected.reordered += u64::from(*place < *last);
            }
            if *intact {
                *last = (*last).max(*place);
            }
            checker.frame(bytes, 1_000_000);
        }
        let lost = fates.iter().filter(|fate| matches!(fate, Fate::Lose)).count() as u64;
        prop_assert_eq!(checker.close(|flow| generator.made(flow)), lost);
        prop_assert_eq!(checker.tally(), expected);
        prop_assert_eq!(checker.swap_latencies(latency_histogram()).len(), expected.received);
    }
}
