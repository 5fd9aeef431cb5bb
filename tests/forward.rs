//! Forwarding in one pass, behind the port: what goes on and what is dropped, and what a reset does to it.

mod common;

use std::time::Duration;

use common::{Station, card, frame};
use vfnic::{Fate, PortConfig, PortState, QueueError};

const MS: Duration = Duration::from_millis(1);

/// `right` sends every frame back whose number (its last byte) is even; gives the frames it received.
fn reflect(right: &mut Station) -> Result<usize, QueueError> {
    let own = right.mac();
    let pair = &mut right.pairs[0];
    pair.rx.forward(&mut pair.tx, &mut right.batch, |frame| {
        let bytes = frame.data_mut();
        if bytes[63] % 2 == 1 {
            return Fate::Drop;
        }
        bytes.copy_within(6..12, 0);
        bytes[6..12].copy_from_slice(&own.0);
        Fate::Send
    })
}

/// 20 frames from `left` by way of `right`, which drops half of them.
fn there_and_back(card: &vfnic_sim::Card, left: &mut Station, right: &mut Station) {
    let numbered = |to, from| {
        let frames = (0..20u8).map(move |number| {
            let mut bytes = frame(to, from, number.into(), 64);
            bytes[63] = number;
            bytes
        });
        frames.collect::<Vec<_>>()
    };
    left.send(&numbered(right.mac(), left.mac()));
    card.step();
    assert_eq!(reflect(right), Ok(20));
    assert!(right.batch.is_empty());
    card.step();
    let back: Vec<_> = numbered(left.mac(), right.mac())
        .into_iter()
        .step_by(2)
        .collect();
    left.expect(&back);
}

for_every_model! {
    fn frames_go_on_or_are_dropped_before_and_after_a_reset(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        for _ in 0..3 {
            there_and_back(&card, &mut left, &mut right);
        }
        card.pf().reset(30 * MS);
        left.run(&card, 10 * MS);
        right.port.poll_control().expect("there");
        assert_eq!(right.port.state(), PortState::PfResetting);
        assert_eq!(reflect(&mut right), Ok(0), "nothing happens during a reset");
        for _ in 0..100 {
            left.run(&card, 5 * MS);
            right.port.poll_control().expect("there");
            // The queues notice the recovery by being used.
            assert_eq!(reflect(&mut right), Ok(0));
        }
        assert_eq!(right.port.state(), PortState::Up);
        for _ in 0..3 {
            there_and_back(&card, &mut left, &mut right);
        }
        card.assert_no_violations();
    }
}
