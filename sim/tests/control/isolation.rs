//! A VF that does what it likes, and two that want to work meanwhile: these lose nothing, and receive nothing forged.

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_sim::Card;

use super::soak::Rogue;
use super::station::Station;
use crate::dice::Dice;

/// Frames of the rogue's own making have this type: nobody else sends any.
const FORGED: [u8; 2] = [0x12, 0x34];

/// What has arrived.
#[derive(Debug, Default, PartialEq)]
struct Arrived {
    /// Numbers of frames between the two that want to work.
    good: Vec<u8>,
    /// Frames that VF 0 sent under its own name, which it may.
    alien: usize,
}

/// Everything that has arrived. A forged frame that says it is from `never` fails the test.
fn arrived(station: &mut Station, never: [u8; 6]) -> Arrived {
    let mut all = Arrived::default();
    while let Some((frame, _)) = station.receive_frame() {
        if frame[12..14] == [0x88, 0xb5] {
            all.good.push(frame[59]);
        } else {
            assert_ne!(
                frame[6..12],
                never,
                "a frame with the neighbour's address is forged"
            );
            all.alien += 1;
        }
    }
    all
}

/// VF 0 sends to `victim` what a ring holds, every other frame under the name of `neighbour`. The honest ones arrive.
fn flood(card: &Card, victim: &mut Station, neighbour: [u8; 6]) {
    let mut attacker = Station::assigned(card, 0);
    for number in 0..60u8 {
        let from = if number % 2 == 0 {
            neighbour
        } else {
            attacker.mac
        };
        let mut frame = [number; 60];
        frame[..14].copy_from_slice(&[&victim.mac[..], &from, &FORGED].concat());
        attacker.send_frame(&frame, 1 << 39);
    }
    while card.step() > 0 {}
    let got = arrived(victim, neighbour);
    assert_eq!((got.good.len(), got.alien), (0, 30), "{}", card.model());
}

fn hold(model: Model, seed: u64, acts: usize) {
    let mut dice = Dice::new(seed);
    let card = Card::builder(model)
        .vfs(3)
        .seed(seed)
        .build()
        .expect("a card");
    // As an administrator does who trusts nobody: addresses assigned, sources checked.
    let pf = card.pf();
    for vf in 0..3 {
        let last = u8::try_from(vf).expect("small");
        pf.set_vf_mac(vf, [2, 0, 0, 0, 0, last]).expect("there");
        pf.set_vf_spoofchk(vf, true).expect("there");
    }
    let (mut left, mut right) = (Station::assigned(&card, 1), Station::assigned(&card, 2));
    flood(&card, &mut right, left.mac);
    let rogue = Rogue::open(&card, &mut dice);
    let before = [1, 2].map(|vf| pf.vf(vf).expect("there"));
    for act in 0..acts {
        if act % 100 == 0 {
            rogue.scribble(&mut dice);
            // Frames to the one, as from the other and as from itself.
            rogue.forge(right.mac, left.mac, FORGED);
        }
        rogue.act_alone(&card, &mut dice);
        // What it may send, it has sent: a flood fills its victims' rings, and they empty them.
        for _ in 0..100 {
            let moved = card.step();
            arrived(&mut right, left.mac);
            arrived(&mut left, right.mac);
            if moved == 0 {
                break;
            }
        }
        let number = u8::try_from(act % 251).expect("8 bits");
        left.send(right.mac, number);
        right.send(left.mac, number);
        card.step();
        assert_eq!(
            arrived(&mut right, left.mac).good,
            [number],
            "{model}, seed {seed}, act {act}"
        );
        assert_eq!(
            arrived(&mut left, right.mac).good,
            [number],
            "{model}, seed {seed}, act {act}"
        );
    }
    assert_eq!(
        [1, 2].map(|vf| pf.vf(vf).expect("there")),
        before,
        "{model}, seed {seed}"
    );
    for violation in card.take_violations() {
        assert_eq!(violation.vf, 0, "{violation}");
    }
    // The hostile one's next owner is as free as the first was, and no freer.
    drop(rogue);
    card.run_for(Duration::from_secs(1));
    flood(&card, &mut right, left.mac);
}

#[test]
fn a_hostile_vf_costs_its_neighbours_nothing() {
    for model in Model::ALL {
        for seed in 1..3 {
            hold(model, seed, 400);
        }
    }
}
