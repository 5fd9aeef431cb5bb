//! Configurations nobody can have: each is refused with what was asked, what is possible and what to do.

mod common;

use std::collections::BTreeSet;
use std::time::Duration;

use common::card;
use vfnic::{ConfigError, Error, Itr, PoolConfig, Port, PortConfig, PortState, Promisc};
use vfnic_hw::{DmaRequest, DmaSpace, Family, Model};
use vfnic_sim::{Card, SimSpace};

fn refused(card: &Card, config: PortConfig) -> Error {
    Port::from_function(card.function(0).expect("free"), config)
        .err()
        .unwrap_or_else(|| panic!("it was taken"))
}

for_every_model! {
    fn r7_ring_sizes(model) {
        let card = card(model, 1);
        for asked in [0, 1, 7, 56, 63, 65, 500, 4095, 4104, u16::MAX] {
            for (name, config) in [
                ("rx", PortConfig::default().rings(asked, 512)),
                ("tx", PortConfig::default().rings(512, asked)),
            ] {
                match refused(&card, config) {
                    Error::Config(ConfigError::RingSize { ring, asked: seen, min: 64, max: 4096 }) => {
                        assert_eq!((ring, seen), (name, asked));
                    }
                    other => panic!("{asked}: {other}"),
                }
            }
        }
        for size in [64, 72, 4096] {
            let port = common::open(&card, 0, PortConfig::default().rings(size, size));
            drop(port.start().expect("starts"));
        }
        card.assert_no_violations();
    }

    fn r10_pools(model) {
        let card = card(model, 1);
        let small = PoolConfig { buffers: 511, ..PoolConfig::default() };
        assert!(matches!(
            refused(&card, PortConfig::default().pool(small)),
            Error::Config(ConfigError::Pool { asked: 511, need: 512, .. })
        ));
        for size in [0, 1023, 1500, 17_408] {
            let error = refused(&card, PortConfig::default().buffer_size(size));
            assert!(matches!(error, Error::Ring(_)), "{error}");
        }
        // A pool of exactly what the ring takes works, though nothing is left to send with.
        let exact = PoolConfig { buffers: 512, ..PoolConfig::default() };
        let port = common::open(&card, 0, PortConfig::default().pool(exact));
        drop(port.start().expect("starts"));
        drop(port);
        card.assert_no_violations();
    }

    fn interrupt_intervals(model) {
        let card = card(model, 1);
        let long = Duration::from_millis(20);
        assert!(matches!(
            refused(&card, PortConfig::default().itr(Itr::Fixed(long))),
            Error::Config(ConfigError::Duration { asked, .. }) if asked == long
        ));
        let most = if model.family() == Family::Igbvf { 8_000 } else { 1_000 };
        let interval = Duration::from_micros(most);
        let port = common::open(&card, 0, PortConfig::default().itr(Itr::Fixed(interval)));
        drop(port.start().expect("starts"));
        drop(port);
        card.assert_no_violations();
    }

    fn two_ports_can_share_a_pool_and_hand_frames_over(model) {
        let card = card(model, 2);
        let space = SimSpace::new();
        let pool_config = PoolConfig { buffers: 4096, ..PoolConfig::default() };
        let region = space
            .map(DmaRequest { len: pool_config.region_len(), prefer_huge: false })
            .expect("memory");
        let pool = vfnic::Pool::new(region, pool_config).expect("a pool");
        let open = |vf| {
            let function = card.function_in(vf, &space).expect("free");
            Port::from_function(function, PortConfig::default().shared_pool(pool.clone()))
                .expect("opens")
        };
        let (left, right) = (open(0), open(1));
        let mut from = left.start().expect("starts").remove(0);
        let mut to = right.start().expect("starts").remove(0);
        let mut batch = pool.batch(64);
        let bytes = common::frame(right.mac().0, left.mac().0, 1, 64);
        batch.push_bytes(&bytes).expect("room");
        assert_eq!(from.tx.send(&mut batch), Ok(1));
        card.step();
        // Received on one port, sent on by it to the other in the same buffer.
        assert_eq!(to.rx.receive(&mut batch), Ok(1));
        for mut frame in batch.frames_mut() {
            let data = frame.data_mut();
            data[..6].copy_from_slice(&left.mac().0.0);
            data[6..12].copy_from_slice(&right.mac().0.0);
        }
        assert_eq!(to.tx.send(&mut batch), Ok(1));
        card.step();
        assert_eq!(from.rx.receive(&mut batch), Ok(1));
        drop((batch, from, to, left, right));
        card.assert_no_violations();
    }

    fn r3_a_packet_outlives_its_port(model) {
        let card = card(model, 2);
        let mut left = common::Station::new(&card, 0, PortConfig::default());
        let mut right = common::Station::new(&card, 1, PortConfig::default());
        let bytes = common::frame(right.mac(), left.mac(), 1, 64);
        left.send(std::slice::from_ref(&bytes));
        card.step();
        let mut batch = right.port.batch(8);
        assert_eq!(right.pairs[0].rx.receive(&mut batch), Ok(1));
        let packet = batch.pop().expect("one frame");
        drop((batch, right, left));
        let text = std::thread::spawn(move || packet.to_vec());
        assert_eq!(text.join().expect("no panic"), bytes);
        card.assert_no_violations();
    }
}

#[test]
fn specs_that_only_others_can_open_say_so() {
    let error = Port::open("sim:82599").expect_err("the driver knows no simulator");
    assert!(matches!(error, Error::Simulated { .. }), "{error}");
    let error = Port::open("not a device").expect_err("no such thing");
    assert!(matches!(error, Error::Spec(_)), "{error}");
    let error = Port::open("ffff:ff:1f.7").expect_err("no such thing");
    assert!(matches!(error, Error::Pci(_)), "{error}");
    assert!(error.to_string().contains("ffff:ff:1f.7"), "{error}");
}

#[test]
fn d40_a_batch_of_another_pool_is_refused() {
    let card = card(Model::X540, 2);
    let mut left = common::Station::new(&card, 0, PortConfig::default());
    let right = common::Station::new(&card, 1, PortConfig::default());
    let mut foreign = right.port.batch(8);
    foreign
        .push_bytes(&common::frame(right.mac(), left.mac(), 1, 64))
        .expect("room");
    let error = left.pairs[0]
        .tx
        .send(&mut foreign)
        .expect_err("another pool");
    assert!(!error.to_string().is_empty());
    assert!(left.pairs[0].rx.receive(&mut foreign).is_err());
    assert_eq!(foreign.len(), 1, "and nothing was taken");
    drop((foreign, left, right));
    card.assert_no_violations();
}

/// What can be chosen beforehand is in force with the first frame, and what only costs or saves time changes no frame.
#[test]
fn choices_for_speed_change_no_frame() {
    for model in Model::ALL {
        let card = card(model, 2);
        let plain = PortConfig::default();
        let chosen = PortConfig::default()
            .promiscuous(Promisc::Off)
            .huge_pages(false)
            .prefetch(true);
        let mut left = common::Station::new(&card, 0, plain);
        let mut right = common::Station::new(&card, 1, chosen);
        let (to, from) = (right.mac(), left.mac());
        for round in 0..20 {
            let frames: Vec<_> = (0..round)
                .map(|number| common::frame(to, from, number, 60 + 70 * number as usize))
                .collect();
            left.send(&frames);
            card.step();
            right.expect(&frames);
        }
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn every_state_of_a_port_has_words_of_its_own() {
    let states = [
        PortState::Stopped,
        PortState::Up,
        PortState::LinkDown,
        PortState::PfResetting,
        PortState::Recovering,
        PortState::Gone,
        PortState::Closed,
    ];
    let words: BTreeSet<_> = states.iter().map(ToString::to_string).collect();
    assert_eq!(words.len(), states.len(), "{words:?}");
    let plain = |text: &String| (2..20).contains(&text.len()) && !text.contains(['{', ':', '_']);
    assert!(words.iter().all(plain), "{words:?}");
}
