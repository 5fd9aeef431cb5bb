//! The card itself: how it runs, what it shares.

use std::sync::Arc;
use std::time::{Duration, Instant};

use vfnic_hw::{Clock, Model};
use vfnic_sim::{Card, VirtualClock};

use super::raw::{RawVf, one_vf};

#[test]
fn sleeping_on_a_virtual_clock_takes_no_time() {
    let (card, vf) = one_vf(Model::X540);
    let start = Instant::now();
    let before = vf.clock.now();
    vf.sleep(Duration::from_secs(3600));
    assert_eq!(vf.clock.now() - before, Duration::from_secs(3600));
    assert!(start.elapsed() < Duration::from_secs(1));
    assert_eq!(card.cpu_time(), Duration::ZERO);
}

#[test]
fn two_cards_can_share_a_clock() {
    let clock = VirtualClock::new();
    let cards = [Model::X540, Model::I350].map(|model| {
        Card::builder(model)
            .on_clock(&clock)
            .build()
            .expect("a fine card")
    });
    cards[1].pf().reset(Duration::from_millis(10));
    cards[0].run_for(Duration::from_millis(20));
    let vf = RawVf::open(&cards[1], 0);
    assert_eq!(
        vf.read(0xc40) & 0x40,
        0,
        "the other card's time went on, too"
    );
    assert_eq!(clock.now(), Duration::from_millis(20));
}

#[test]
fn a_threaded_card_answers_and_comes_back_from_a_reset() {
    let card = Card::builder(Model::X540)
        .threaded()
        .build()
        .expect("a fine card");
    let vf = RawVf::open(&card, 0);
    assert_eq!(vf.handshake()[0], 0x4000_0001);
    card.pf().reset(Duration::from_millis(5));
    let start = Instant::now();
    while vf.read(0x2fc) & 0x40 != 0 {
        assert!(start.elapsed() < Duration::from_secs(5), "RSTI stays");
        vf.sleep(Duration::from_millis(1));
    }
    assert_eq!(vf.handshake()[0], 0x4000_0001);
    card.assert_no_violations();
}

#[test]
fn an_idle_threaded_card_sleeps() {
    let card = Card::builder(Model::X540)
        .threaded()
        .build()
        .expect("a fine card");
    let vf = RawVf::open(&card, 0);
    vf.handshake();
    std::thread::sleep(Duration::from_millis(50));
    let before = card.cpu_time();
    std::thread::sleep(Duration::from_millis(500));
    card.pf().ping(0).expect("VF 0");
    std::thread::sleep(Duration::from_millis(20));
    let used = card.cpu_time() - before;
    assert!(
        used < Duration::from_millis(5),
        "{used:?} in half a second of nothing"
    );
}

#[test]
fn a_card_can_be_used_from_many_threads() {
    let card = Arc::new(
        Card::builder(Model::X540)
            .vfs(4)
            .threaded()
            .build()
            .expect("a fine card"),
    );
    let workers: Vec<_> = (0..4)
        .map(|number| {
            let card = card.clone();
            std::thread::spawn(move || {
                for _ in 0..50 {
                    let vf = RawVf::open(&card, number);
                    assert_eq!(vf.handshake()[0], 0x4000_0001);
                    assert_eq!(vf.ask::<1>(&[8, 4, 0]), [0xa000_0008]);
                }
            })
        })
        .collect();
    for worker in workers {
        worker.join().expect("no worker failed");
    }
    card.assert_no_violations();
}

#[test]
fn functions_outlive_the_card() {
    let (card, vf) = one_vf(Model::X540);
    drop(card);
    assert_eq!(vf.read(0x8) & 0x80, 0x80);
}

/// In logs and failed assertions: which card, which VF, and not a line more.
#[test]
fn handles_say_what_they_are_in_a_line() {
    let card = Card::builder(Model::X550)
        .vfs(2)
        .name("left")
        .stepped()
        .build()
        .expect("a fine card");
    let vf = RawVf::open(&card, 1);
    let bell = vf.bar.doorbell(0x2018).expect("TDT 0");
    let plain = vf.bar.doorbell(0x8).expect("a register");
    let space = vfnic_sim::SimSpace::default();
    for (text, parts) in [
        (format!("{card:?}"), ["left", "X550", "vfs: 2"]),
        (format!("{:?}", vf.function), ["SimFunction", "left", "1"]),
        (format!("{:?}", vf.bar), ["Bar", "VF 1", ")"]),
        (format!("{bell:?}"), ["Bell", "VF 1", "0"]),
        (format!("{plain:?}"), ["Plain", "VF 1", "0x8"]),
        (
            format!("{space:?}"),
            ["SimSpace", "mappings: 0", "bytes: 0"],
        ),
        (format!("{:?}", card.pf()), ["left", "X550", "vfs: 2"]),
    ] {
        for part in parts {
            assert!(text.contains(part), "{text}: no `{part}`");
        }
        assert!(!text.contains('\n') && text.len() < 200, "{text}");
    }
    assert!(card.virtual_clock().is_some(), "a stepped card has one");
}
