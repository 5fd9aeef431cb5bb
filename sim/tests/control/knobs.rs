//! The PF's knobs, as far as registers and mailbox show them.

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_sim::{Card, PfError, VfLink};

use super::raw::{card_and_vf, one_vf};

#[test]
fn what_is_set_is_shown() {
    let card = Card::builder(Model::I82599)
        .vfs(2)
        .build()
        .expect("a fine card");
    let pf = card.pf();
    pf.set_vf_mac(1, [2, 0, 0, 0, 0, 9]).expect("an address");
    pf.set_vf_vlan(1, 100, 5).expect("a VLAN");
    pf.set_vf_spoofchk(1, false).expect("a switch");
    pf.set_vf_trust(1, true).expect("a switch");
    pf.set_vf_state(1, VfLink::Disable).expect("a state");
    pf.set_vf_max_tx_rate(1, 500).expect("a rate");
    let info = pf.vf(1).expect("VF 1");
    assert_eq!(info.mac, [2, 0, 0, 0, 0, 9]);
    assert!(info.mac_administered && info.trust && !info.spoofchk);
    assert_eq!((info.vlan, info.qos, info.max_tx_rate), (100, 5, 500));
    assert_eq!(info.state, VfLink::Disable);
    let other = pf.vf(0).expect("VF 0");
    assert!(other.spoofchk && !other.trust && !other.mac_administered);
    assert_eq!(pf.vf(2), Err(PfError::NoVf { vf: 2, have: 2 }));
}

#[test]
fn rates_have_limits_and_end_with_the_speed() {
    let (card, _vf) = one_vf(Model::X540);
    let pf = card.pf();
    for (rate, ok) in [
        (0, true),
        (10, false),
        (11, true),
        (10_000, true),
        (10_001, false),
    ] {
        assert_eq!(pf.set_vf_max_tx_rate(0, rate).is_ok(), ok, "{rate}");
    }
    pf.set_vf_max_tx_rate(0, 100).expect("within limits");
    pf.set_speed(1_000).expect("an X540 can");
    assert_eq!(pf.vf(0).expect("VF 0").max_tx_rate, 0);
    assert!(pf.set_vf_max_tx_rate(0, 100).is_err(), "only at 10G");
    pf.set_speed(10_000).expect("an X540 can");
    pf.set_link(false);
    assert!(pf.set_vf_max_tx_rate(0, 100).is_err(), "only with a link");
}

#[test]
fn a_change_of_mtu_resets_the_port_and_the_same_again_does_not() {
    let (card, vf) =
        card_and_vf(Card::builder(Model::X550).pf_reset_time(Duration::from_millis(30)));
    vf.handshake();
    card.pf().set_mtu(1500).expect("as it is");
    assert_eq!(vf.read(0x2fc), 0);
    card.pf().set_mtu(9000).expect("within limits");
    assert_eq!(vf.read(0x2fc) & 0x40, 0x40);
    vf.sleep(Duration::from_millis(30));
    assert_eq!(vf.read(0x2fc) & 0xc0, 0x80);
    card.assert_no_violations();
}

#[test]
fn the_pf_is_the_same_for_the_same_seed() {
    let mac = |seed| {
        let card = Card::builder(Model::X540)
            .seed(seed)
            .build()
            .expect("a fine card");
        card.pf().mac()
    };
    assert_eq!(mac(1), mac(1));
    assert_ne!(mac(1), mac(2));
}

#[test]
fn link_changes_ping_every_vf_once() {
    let (card, vf) = one_vf(Model::I82576);
    vf.write(0, 1 << 26);
    vf.ask::<3>(&[1]);
    card.pf().set_link(false);
    assert_eq!(vf.read(0xc40), 0x10);
    assert_eq!(vf.take(), [0x2000_0100]);
    assert_eq!(vf.read(0x8) & 2, 0);
    card.pf().set_link(false);
    assert_eq!(vf.read(0xc40), 0);
    card.pf().set_link(true);
    assert_eq!(vf.read(0xc40), 0x10);
    card.assert_no_violations();
}
