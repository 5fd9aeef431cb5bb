//! Addresses: assigned, asked for, refused, random, further ones.

mod common;

use common::{Station, card, frame, open};
use vfnic::{ConfigError, Error, MacAddr, MacChoice, MacOrigin, Port, PortConfig};
use vfnic_hw::Family;

fn mac(last: u8) -> MacAddr {
    MacAddr([0x02, 0, 0, 0, 0x10, last])
}

for_every_model! {
    fn an_assigned_address_is_used(model) {
        let card = card(model, 1);
        card.pf().set_vf_mac(0, mac(1).0).expect("there");
        let port = open(&card, 0, PortConfig::default());
        assert_eq!(port.mac(), (mac(1), MacOrigin::Administered));
        drop(port);
        card.assert_no_violations();
    }

    fn m13_another_than_the_assigned_is_refused_and_the_assigned_kept(model) {
        let card = card(model, 2);
        card.pf().set_vf_mac(0, mac(1).0).expect("there");
        let config = PortConfig::default().mac(MacChoice::Set(mac(2)));
        let mut left = Station::new(&card, 0, config);
        let mut right = Station::new(&card, 1, PortConfig::default());
        assert_eq!(
            left.port.mac(),
            (mac(1), MacOrigin::Refused { requested: mac(2) })
        );
        assert!(matches!(left.port.set_mac(mac(3)), Err(Error::Refused { .. })));
        assert_eq!(left.mac(), mac(1));
        let sent = [frame(mac(1), right.mac(), 1, 64)];
        right.send(&sent);
        card.step();
        left.expect(&sent);
        drop((left, right));
        card.assert_no_violations();
    }

    fn an_address_of_ones_own_is_granted(model) {
        let card = card(model, 2);
        let config = PortConfig::default().mac(MacChoice::Set(mac(5)));
        let mut left = Station::new(&card, 0, config);
        let mut right = Station::new(&card, 1, PortConfig::default());
        assert_eq!(left.port.mac(), (mac(5), MacOrigin::Requested));
        left.port.set_mac(mac(6)).expect("free");
        assert_eq!(left.port.mac(), (mac(6), MacOrigin::Requested));
        // The spoof check lets the new one out, and the old one in no more.
        let there = [frame(right.mac(), mac(6), 1, 64)];
        left.send(&there);
        right.send(&[frame(mac(6), right.mac(), 2, 64), frame(mac(5), right.mac(), 3, 64)]);
        card.step();
        right.expect(&there);
        left.expect(&[frame(mac(6), right.mac(), 2, 64)]);
        drop((left, right));
        card.assert_no_violations();
    }

    fn further_addresses_are_received_and_can_be_taken_back(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        for last in 1..=3 {
            left.port.add_mac(mac(last)).expect("there is room");
        }
        left.port.add_mac(mac(2)).expect("already there");
        left.port.remove_mac(mac(2)).expect("there");
        left.port.remove_mac(mac(9)).expect("not there, nothing to do");
        let frames: Vec<_> = (1..=3).map(|last| frame(mac(last), right.mac(), u32::from(last), 64)).collect();
        right.send(&frames);
        card.step();
        left.expect(&[frames[0].clone(), frames[2].clone()]);
        drop((left, right));
        card.assert_no_violations();
    }

    fn addresses_nobody_can_have_are_refused_before_anything_is_asked(model) {
        let card = card(model, 1);
        for bad in [MacAddr::ZERO, MacAddr::BROADCAST, MacAddr([0x01, 0, 0x5e, 0, 0, 1])] {
            let config = PortConfig::default().mac(MacChoice::Set(bad));
            let function = card.function(0).expect("free");
            assert!(matches!(
                Port::from_function(function, config),
                Err(Error::Config(ConfigError::Mac { asked, .. })) if asked == bad
            ));
        }
        let port = open(&card, 0, PortConfig::default());
        assert!(matches!(port.set_mac(MacAddr::BROADCAST), Err(Error::Config(_))));
        assert!(matches!(port.add_mac(MacAddr::ZERO), Err(Error::Config(_))));
        drop(port);
        card.assert_no_violations();
    }

    fn the_address_table_fills_up_and_says_so(model) {
        let card = card(model, 1);
        let port = open(&card, 0, PortConfig::default());
        let mut added = 0u16;
        let error = loop {
            let [high, low] = added.to_be_bytes();
            match port.add_mac(MacAddr([0x02, 0, 1, 0, high, low])) {
                Ok(()) => added += 1,
                Err(error) => break error,
            }
            assert!(added < 300, "a table without end");
        };
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        let least = if model.family() == Family::Igbvf { 5 } else { 50 };
        assert!(added >= least, "{added} addresses");
        drop(port);
        card.assert_no_violations();
    }
}
