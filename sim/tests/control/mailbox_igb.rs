//! The mailbox of the 82576 family as Linux's PF answers it (igbvf.md §6).

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_sim::{Card, PfError, PfPersonality, VfLink};

use super::raw::{card_and_vf, mac_words, one_vf};

const MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];

#[test]
fn the_examples_of_the_reference() {
    for model in [Model::I82576, Model::I350] {
        let (card, vf) = one_vf(model);
        vf.write(0, 1 << 26);
        assert_eq!(vf.ask(&[1]), [0x4000_0001, 0, 0]);
        let [low, high] = mac_words(MAC);
        assert_eq!(vf.ask::<1>(&[2, low, high]), [0xa000_0002], "{model}");
        assert_eq!(
            vf.ask::<1>(&[0x0001_0002, low, high]),
            [0xa001_0002],
            "clear the further addresses"
        );
        assert_eq!(
            vf.ask::<1>(&[0x0001_0002, 0, 0]),
            [0x6001_0002],
            "as Linux's VF does it, with zeros"
        );
        assert_eq!(
            vf.ask::<1>(&[0x0002_0002, 0x02, 0]),
            [0xa002_0002],
            "add one"
        );
        assert_eq!(
            vf.ask::<1>(&[0x0002_0003, 0x0123_0456]),
            [0xa002_0003],
            "two hashes"
        );
        assert_eq!(vf.ask::<1>(&[0x0001_0004, 100]), [0xa001_0004]);
        assert_eq!(
            vf.ask::<1>(&[0x0000_0004, 200]),
            [0xa000_0004],
            "removing one we do not have"
        );
        assert_eq!(vf.ask::<1>(&[0x0000_0004, 0]), [0xa000_0004]);
        assert_eq!(vf.ask::<1>(&[5, 1522]), [0xa000_0005]);
        assert_eq!(
            vf.ask::<1>(&[5, u32::MAX]),
            [0xa000_0005],
            "clamped, never refused"
        );
        assert_eq!(
            vf.ask::<1>(&[0x0002_0006]),
            [0xa000_0006],
            "multicast: the flag goes from the echo"
        );
        assert_eq!(
            vf.ask::<1>(&[0x0003_0006]),
            [0x6001_0006],
            "unicast is refused"
        );
        assert_eq!(vf.ask::<1>(&[0x0000_0007]), [0x6000_0007]);
        assert_eq!(
            vf.ask(&[5, 1522, 7, 8]),
            [0xa000_0005, 1522, 7, 8],
            "only word 0 is the reply"
        );
        card.assert_no_violations();
    }
}

#[test]
fn an_administered_mac_is_not_even_set_again() {
    let (card, vf) = one_vf(Model::I82576);
    card.pf().set_vf_mac(0, MAC).expect("a fine address");
    let [low, high] = mac_words(MAC);
    vf.write(0, 1 << 26);
    assert_eq!(vf.ask(&[1]), [0x8000_0001, low, high]);
    assert_eq!(vf.ask::<1>(&[2, low, high]), [0x6000_0002]);
    assert_eq!(vf.ask::<1>(&[0x0002_0002, low, high]), [0x6002_0002]);
    card.pf().set_vf_trust(0, true).expect("VF 0");
    assert_eq!(
        vf.ask::<1>(&[2, low, high]),
        [0xa000_0002],
        "trust takes effect at once, no ping"
    );
    card.assert_no_violations();
}

#[test]
fn the_pf_says_no_once_in_two_seconds() {
    let (card, vf) = one_vf(Model::I82576);
    vf.post(&[5, 1522]);
    assert_eq!(
        vf.read(0xc40) & 0x30,
        0x20,
        "read, and silence: the FLR of opening was just now"
    );
    vf.sleep(Duration::from_millis(2100));
    assert_eq!(vf.ask::<1>(&[5, 1522]), [0x4000_0005], "no CTS");
    vf.post(&[5, 1522]);
    assert_eq!(vf.read(0xc40) & 0x30, 0x20, "silence again");
    vf.sleep(Duration::from_millis(2100));
    card.pf().ping(0).expect("VF 0");
    assert_eq!(vf.take(), [0x0000_0100]);
    assert_eq!(
        vf.word0(),
        0x4000_0000,
        "the acknowledgement is told no, too"
    );
    card.assert_no_violations();
}

#[test]
fn a_vf_reset_forgets_the_address_the_vf_chose() {
    let (card, vf) = one_vf(Model::I82576);
    vf.write(0, 1 << 26);
    vf.ask::<3>(&[1]);
    let [low, high] = mac_words(MAC);
    vf.ask::<1>(&[2, low, high]);
    assert_eq!(card.pf().vf(0).expect("VF 0").mac, MAC);
    assert!(card.pf().vf(0).expect("VF 0").clear_to_send);
    vf.write(0, 1 << 26);
    assert_eq!(card.pf().vf(0).expect("VF 0").mac, [0; 6]);
    assert!(!card.pf().vf(0).expect("VF 0").clear_to_send);
    card.assert_no_violations();
}

#[test]
fn the_pf_keeps_the_memory_between_reading_and_replying() {
    let delay = Duration::from_millis(1);
    let (card, vf) = card_and_vf(Card::builder(Model::I350).mailbox_delay(delay));
    vf.write(0, 1 << 26);
    vf.post(&[1]);
    vf.sleep(Duration::from_micros(1100));
    assert_eq!(vf.read(0xc40), 0x28, "PFACK with PFU");
    vf.write(0xc40, 4);
    assert_eq!(vf.read(0xc40), 0x08, "VFU is refused");
    vf.sleep(Duration::from_millis(1));
    assert_eq!(vf.read(0xc40), 0x10, "PFSTS, and PFU is gone");
    card.assert_no_violations();
}

#[test]
fn tables_are_bounded() {
    let (card, vf) = card_and_vf(Card::builder(Model::I82576).vfs(2));
    vf.write(0, 1 << 26);
    vf.ask::<3>(&[1]);
    for vid in 1..=31 {
        assert_eq!(
            vf.ask::<1>(&[0x0001_0004, vid]),
            [0xa001_0004],
            "VLAN {vid}"
        );
    }
    assert_eq!(vf.ask::<1>(&[0x0001_0004, 32]), [0x6001_0004]);
    // 24 RARs: 3 kept for the PF, 1 its own, 2 VFs.
    for number in 0..18u32 {
        assert_eq!(
            vf.ask::<1>(&[0x0002_0002, 0x02 | number << 8, 0]),
            [0xa002_0002],
            "{number}"
        );
    }
    assert_eq!(vf.ask::<1>(&[0x0002_0002, 0xff02, 0]), [0x6002_0002]);
    card.assert_no_violations();
}

#[test]
fn knobs_it_has_not() {
    let (card, _vf) = one_vf(Model::I350);
    let pf = card.pf();
    assert!(matches!(
        pf.set_vf_state(0, VfLink::Disable),
        Err(PfError::Unsupported { .. })
    ));
    assert!(matches!(
        pf.set_vf_max_tx_rate(0, 100),
        Err(PfError::Unsupported { .. })
    ));
    assert!(matches!(
        pf.set_vf_trust(1, true),
        Err(PfError::NoVf { vf: 1, have: 1 })
    ));
    assert!(pf.set_mtu(9217).is_err());
}

#[test]
fn a_dpdk_pf_answers_every_acknowledgement() {
    let (card, vf) = card_and_vf(Card::builder(Model::I82576).personality(PfPersonality::Dpdk));
    assert_eq!(vf.ask::<1>(&[5, 1522]), [0xa000_0005], "before RESET");
    assert_eq!(vf.word0(), 0x4000_0000);
    assert_eq!(vf.read(0xc40), 0x10);
    vf.write(0, 1 << 26);
    let [word, low, _] = vf.ask(&[1]);
    assert_eq!(word, 0x8000_0001);
    assert_ne!(low, 0);
    assert_eq!(vf.ask::<1>(&[0x0002_0006]), [0x6002_0006]);
    card.assert_no_violations();
}

#[test]
fn a_reset_is_served_before_the_handshake_that_follows_it() {
    let delay = Duration::from_millis(1);
    for model in [Model::I82576, Model::X540] {
        let (card, vf) = card_and_vf(Card::builder(model).mailbox_delay(delay));
        vf.write(0, 1 << 26);
        vf.post(&[1]);
        vf.sleep(Duration::from_millis(3));
        assert_eq!(vf.take(), [0x4000_0001]);
        vf.sleep(Duration::from_millis(3));
        let info = card.pf().vf(0).expect("VF 0");
        assert!(
            info.clear_to_send,
            "{model}: the reset came after the handshake"
        );
        card.assert_no_violations();
    }
}
