//! Frame sizes: jumbo frames in several buffers, limits, changes while traffic runs.

mod common;

use std::time::Duration;

use common::{Station, card, frame, open};
use vfnic::{ConfigError, Error, Port, PortConfig};
use vfnic_hw::{Family, Model};

for_every_model! {
    fn jumbo_frames_pass_in_several_buffers(model) {
        let card = card(model, 2);
        card.pf().set_mtu(9000).expect("a PF can");
        for buffer_size in [1024, 2048, 4096, 16384] {
            let config = PortConfig::default().mtu(9000).buffer_size(buffer_size);
            let mut left = Station::new(&card, 0, config.clone());
            let mut right = Station::new(&card, 1, config);
            let sizes = [60, 1023, 1024, 1025, 2048, 4096, 4097, 8192, 9014];
            let sent: Vec<_> = sizes
                .iter()
                .map(|len| frame(right.mac(), left.mac(), 1, *len))
                .collect();
            for _ in 0..30 {
                left.send(&sent);
                card.step();
                right.expect(&sent);
            }
        }
        card.assert_no_violations();
    }

    fn r9_an_mtu_no_vf_can_have_is_refused_at_once(model) {
        let card = card(model, 1);
        let most = if model.family() == Family::Igbvf { 9706 } else { 9710 };
        for asked in [0, 67, most + 1, u16::MAX] {
            let function = card.function(0).expect("free");
            match Port::from_function(function, PortConfig::default().mtu(asked)) {
                Err(Error::Config(ConfigError::Mtu { asked: seen, min: 68, .. })) if seen == asked => {}
                other => panic!("{asked}: {:?}", other.map(|_| ())),
            }
        }
        let port = open(&card, 0, PortConfig::default().mtu(68));
        assert!(matches!(
            port.set_mtu(most + 1),
            Err(Error::Config(ConfigError::Mtu { max, .. })) if max == most
        ));
        assert_eq!(port.mtu(), 68);
        drop(port);
        card.assert_no_violations();
    }

    fn r15_the_mtu_can_change_while_frames_pass(model) {
        let card = card(model, 2);
        card.pf().set_mtu(9000).expect("a PF can");
        let mut left = Station::new(&card, 0, PortConfig::default().mtu(9000));
        let mut right = Station::new(&card, 1, PortConfig::default().mtu(9000));
        let small = [frame(right.mac(), left.mac(), 1, 60)];
        let large = [frame(right.mac(), left.mac(), 1, 5014)];
        for _ in 0..5 {
            right.port.set_mtu(1500).expect("granted");
            right.touch();
            left.send(&small);
            left.send(&large);
            card.step();
            // Whoever filters it, nothing longer than asked for is delivered.
            right.expect(&small);
            right.port.set_mtu(5000).expect("granted");
            assert_eq!(right.port.mtu(), 5000);
            right.touch();
            left.send(&small);
            left.send(&large);
            card.step();
            right.expect(&[small[0].clone(), large[0].clone()]);
        }
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn an_82599_whose_pf_has_small_frames_refuses_large_ones_and_goes_on() {
    let card = card(Model::I82599, 2);
    let port = open(&card, 0, PortConfig::default().mtu(9000));
    match port.start() {
        Err(Error::Refused { what, .. }) => assert!(what.contains("9000"), "{what}"),
        other => panic!("{:?}", other.map(|_| ())),
    }
    drop(port);
    let mut left = Station::new(&card, 0, PortConfig::default());
    let mut right = Station::new(&card, 1, PortConfig::default());
    assert!(matches!(
        left.port.set_mtu(9000),
        Err(Error::Refused { .. })
    ));
    assert_eq!(left.port.mtu(), 1500);
    // A refusal turns receiving off; it must have been turned on again.
    let sent = [frame(left.mac(), right.mac(), 1, 60)];
    right.send(&sent);
    card.step();
    left.expect(&sent);
    drop((left, right));
    card.assert_no_violations();
}

#[test]
fn a_pf_that_goes_back_to_small_frames_is_told_of_as_a_lost_setting() {
    let card = card(Model::I82599, 2);
    card.pf().set_mtu(9000).expect("a PF can");
    let mut left = Station::new(&card, 0, PortConfig::default().mtu(9000));
    let mut right = Station::new(&card, 1, PortConfig::default());
    left.events();
    card.pf().set_mtu(1500).expect("a PF can");
    for _ in 0..40 {
        left.run(&card, Duration::from_millis(10));
        right.run(&card, Duration::from_millis(10));
    }
    assert!(left.events().contains(&vfnic::Event::SettingsLost));
    let lost = left.port.lost_settings();
    assert!(lost.iter().any(|text| text.contains("9000")), "{lost:?}");
    let sent = [frame(left.mac(), right.mac(), 1, 60)];
    right.send(&sent);
    card.step();
    left.expect(&sent);
    drop((left, right));
    card.assert_no_violations();
}
