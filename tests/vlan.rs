//! VLANs: filters, stripping, insertion, and the port VLAN of the administrator's.

mod common;

use std::time::Duration;

use common::{Station, card, frame};
use vfnic::{ConfigError, Error, MacAddr, PortConfig, TxOffload};
use vfnic_hw::Family;

fn tagged(to: MacAddr, from: MacAddr, number: u32, vlan: u16) -> Vec<u8> {
    let mut bytes = frame(to, from, number, 64);
    let [high, low] = vlan.to_be_bytes();
    bytes.splice(12..12, [0x81, 0x00, high, low]);
    bytes
}

for_every_model! {
    fn only_frames_of_joined_vlans_arrive(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default().vlan_strip(false));
        let mut right = Station::new(&card, 1, PortConfig::default());
        for id in [5, 6, 7] {
            right.port.add_vlan(id).expect("there is room");
        }
        left.port.add_vlan(5).expect("there is room");
        left.port.add_vlan(6).expect("there is room");
        left.port.remove_vlan(6).expect("joined");
        let (to, from) = (left.mac(), right.mac());
        right.send(&[
            frame(to, from, 1, 64),
            tagged(to, from, 2, 5),
            tagged(to, from, 3, 6),
            tagged(to, from, 4, 7),
        ]);
        card.step();
        let got = left.receive();
        assert_eq!(got.len(), 2, "untagged, and VLAN 5");
        assert_eq!(got[0], frame(to, from, 1, 64));
        drop((left, right));
        card.assert_no_violations();
    }

    fn tags_are_stripped_and_shown(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.port.add_vlan(4094).expect("there is room");
        right.port.add_vlan(4094).expect("there is room");
        // The priority is part of what comes along.
        right.send(&[tagged(left.mac(), right.mac(), 1, 4094 | 5 << 13)]);
        card.step();
        let mut batch = left.port.batch(8);
        assert_eq!(left.pairs[0].rx.receive(&mut batch), Ok(1));
        let first = batch.frames().next().expect("one frame");
        assert_eq!(first.to_vec(), frame(left.mac(), right.mac(), 1, 64));
        assert_eq!(first.vlan(), Some(4094 | 5 << 13));
        drop((batch, left, right));
        card.assert_no_violations();
    }

    fn tags_are_inserted(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default().vlan_strip(false));
        left.port.add_vlan(77).expect("there is room");
        right.port.add_vlan(77).expect("there is room");
        let mut batch = left.port.batch(8);
        let bytes = frame(right.mac(), left.mac(), 1, 64);
        batch.push_bytes(&bytes).expect("room");
        batch
            .frames_mut()
            .next()
            .expect("one frame")
            .request(TxOffload {
                vlan: Some(77),
                l2_len: 14,
                ..TxOffload::default()
            })
            .expect("a good request");
        batch.push_bytes(&bytes).expect("room");
        assert_eq!(left.pairs[0].tx.send(&mut batch), Ok(2));
        card.step();
        let got = right.receive();
        assert_eq!(got.len(), 2);
        if model.family() == Family::Ixgbevf {
            assert_eq!(got[0], tagged(right.mac(), left.mac(), 1, 77));
        }
        assert_eq!(got[1], bytes, "the next frame asked for none");
        drop((batch, left, right));
        card.assert_no_violations();
    }

    fn a_port_vlan_is_the_administrators_business(model) {
        let card = card(model, 2);
        card.pf().set_vf_vlan(0, 30, 3).expect("there");
        card.pf().set_vf_vlan(1, 30, 0).expect("there");
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        assert!(left.port.capabilities().port_vlan);
        assert!(!left.port.capabilities().has("vlan_filter"));
        assert!(matches!(left.port.add_vlan(5), Err(Error::Refused { .. })));
        let sent = [frame(right.mac(), left.mac(), 1, 64)];
        left.send(&sent);
        card.step();
        right.expect(&sent);
        // Taken away again: known after the next reset.
        card.pf().set_vf_vlan(0, 0, 0).expect("there");
        card.pf().reset(Duration::from_millis(10));
        left.run(&card, Duration::from_millis(200));
        assert!(!left.port.capabilities().port_vlan);
        left.port.add_vlan(5).expect("allowed now");
        drop((left, right));
        card.assert_no_violations();
    }

    fn ids_beyond_the_last_are_refused(model) {
        let card = card(model, 1);
        let left = Station::new(&card, 0, PortConfig::default());
        for bad in [4095, 4096, u16::MAX] {
            assert!(matches!(
                left.port.add_vlan(bad),
                Err(Error::Config(ConfigError::Vlan { asked })) if asked == bad
            ));
        }
        left.port.add_vlan(0).expect("VLAN 0 is there already");
        left.port.remove_vlan(0).expect("and stays");
        drop(left);
        card.assert_no_violations();
    }

    fn a_full_table_is_told(model) {
        let card = card(model, 1);
        let left = Station::new(&card, 0, PortConfig::default());
        let mut added = 0;
        let error = loop {
            match left.port.add_vlan(added + 1) {
                Ok(()) => added += 1,
                Err(error) => break error,
            }
            assert!(added < 100, "a table without end");
        };
        assert!(matches!(error, Error::Refused { .. }), "{error}");
        assert!(added >= 30, "{added} VLANs");
        drop(left);
        card.assert_no_violations();
    }
}
