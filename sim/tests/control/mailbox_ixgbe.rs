//! The mailbox of the 82599 family as Linux's PF answers it (ixgbevf.md §6.7, §6.8, §18).

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_sim::{Card, PfPersonality, VfLink, ViolationKind};

use super::raw::{RawVf, card_and_vf, mac_words, one_vf};

const MAC: [u8; 6] = [0x02, 0x11, 0x22, 0x33, 0x44, 0x55];

#[test]
fn the_golden_trace_of_the_reference() {
    let (card, vf) = card_and_vf(Card::builder(Model::X540).vfs(2));
    assert_eq!(vf.handshake(), [0x4000_0001, 0, 0, 0]);
    assert_eq!(vf.ask(&[8, 4, 0]), [0xa000_0008, 4, 0]);
    assert_eq!(vf.ask(&[9, 0, 0, 0, 0]), [0xa000_0009, 4, 4, 0, 0]);
    let [low, high] = mac_words(MAC);
    assert_eq!((low, high), (0x3322_1102, 0x0000_5544));
    assert_eq!(vf.ask(&[2, low, high]), [0xa000_0002, low, high]);
    assert_eq!(vf.ask(&[5, 0x5ee]), [0xa000_0005, 0x5ee]);
    assert_eq!(vf.ask(&[0xc, 1]), [0xa000_000c, 1]);
    assert_eq!(vf.ask(&[0xc, 3]), [0xa000_000c, 1], "clamped: not trusted");
    assert_eq!(vf.ask(&[0x10, 0]), [0xa000_0010, 1]);
    assert_eq!(vf.ask(&[0x0001_0004, 100]), [0xa001_0004, 100]);
    assert_eq!(vf.ask(&[4, 0]), [0xa000_0004, 0]);
    assert_eq!(vf.ask(&[0xa]), [0x6000_000a]);
    assert_eq!(vf.ask(&[0x99]), [0x6000_0099], "an unknown type");
    card.pf().set_vf_trust(0, true).expect("VF 0 is there");
    assert_eq!(vf.read(vf.mailbox), 0x10, "PFSTS");
    assert_eq!(vf.take(), [0x0000_0100]);
    assert_eq!(
        vf.read(vf.mailbox),
        0x10,
        "the PF tells that it has forgotten us"
    );
    assert_eq!(vf.word0(), 0x4000_0000);
    card.assert_no_violations();
}

#[test]
fn nothing_is_done_before_the_reset_handshake() {
    let (card, vf) = one_vf(Model::X540);
    assert_eq!(
        vf.ask(&[5, 0x5ee]),
        [0x4000_0005, 0x5ee],
        "only word 0 is written, no CTS"
    );
    assert_eq!(vf.ask(&[8, 4, 0]), [0x4000_0008, 4, 0]);
    assert_eq!(card.pf().vf(0).expect("VF 0 is there").api, 0);
    card.assert_no_violations();
}

#[test]
fn an_administered_mac_is_given_and_cannot_be_changed() {
    let (card, vf) = one_vf(Model::I82599);
    let given = [0x02, 0xaa, 0xbb, 0xcc, 0xdd, 0x01];
    card.pf().set_vf_mac(0, given).expect("a fine address");
    let [low, high] = mac_words(given);
    assert_eq!(vf.handshake(), [0x8000_0001, low, high, 0]);
    let [other_low, other_high] = mac_words(MAC);
    assert_eq!(vf.ask::<1>(&[2, other_low, other_high]), [0x6000_0002]);
    assert_eq!(
        vf.ask::<1>(&[2, low, high]),
        [0xa000_0002],
        "the same again is fine"
    );
    assert_eq!(
        vf.ask::<1>(&[0x0001_0006, other_low, other_high]),
        [0x6001_0006]
    );
    assert_eq!(card.pf().vf(0).expect("VF 0").mac, given);
    card.pf().set_vf_trust(0, true).expect("VF 0");
    vf.take::<1>();
    vf.read(vf.mailbox);
    vf.handshake();
    assert_eq!(
        vf.ask::<1>(&[2, other_low, other_high]),
        [0xa000_0002],
        "trusted now"
    );
    card.pf().set_vf_mac(0, [0; 6]).expect("taking it away");
    assert_eq!(vf.handshake(), [0x4000_0001, 0, 0, 0]);
    card.assert_no_violations();
}

#[test]
fn bad_addresses_are_refused() {
    let (card, vf) = one_vf(Model::X550);
    vf.handshake();
    for bad in [[0; 6], [0x01, 0, 0x5e, 0, 0, 1], [0xff; 6]] {
        let [low, high] = mac_words(bad);
        assert_eq!(vf.ask::<1>(&[2, low, high]), [0x6000_0002], "{bad:02x?}");
        assert_eq!(
            vf.ask::<1>(&[0x0001_0006, low, high]),
            [0x6001_0006],
            "{bad:02x?}"
        );
    }
    assert!(card.pf().set_vf_mac(0, [0xff; 6]).is_err());
    card.assert_no_violations();
}

#[test]
fn versions_are_accepted_as_linux_accepts_them() {
    let (card, vf) = one_vf(Model::I82599);
    vf.handshake();
    for (version, ok) in [
        (8, true),
        (7, true),
        (6, false),
        (5, true),
        (4, true),
        (3, true),
        (2, true),
        (1, false),
        (0, true),
        (9, false),
    ] {
        let reply = if ok { 0xa000_0008 } else { 0x6000_0008 };
        assert_eq!(
            vf.ask(&[8, version, 0]),
            [reply, version, 0],
            "version {version}"
        );
    }
    assert_eq!(
        vf.ask::<1>(&[9, 0, 0, 0, 0]),
        [0x6000_0009],
        "1.0 has no GET_QUEUES"
    );
    assert_eq!(vf.ask::<1>(&[0xc, 1]), [0x6000_000c]);
    assert_eq!(vf.ask::<1>(&[0x10, 0]), [0x6000_0010]);
    vf.ask::<1>(&[8, 2, 0]);
    assert_eq!(vf.ask::<1>(&[9, 0, 0, 0, 0]), [0xa000_0009]);
    assert_eq!(
        vf.ask::<1>(&[0x10, 0]),
        [0x6000_0010],
        "1.1 has no link state"
    );
    vf.ask::<1>(&[8, 8, 0]);
    assert_eq!(
        vf.ask(&[0x12, 3]),
        [0xa000_0012, 1],
        "IPsec, not the ESX mailbox"
    );
    card.assert_no_violations();
}

#[test]
fn the_versions_can_be_chosen() {
    let (card, vf) = card_and_vf(Card::builder(Model::I82599).api_versions(&[0, 6]));
    vf.handshake();
    assert_eq!(vf.ask::<1>(&[8, 6, 0]), [0xa000_0008]);
    assert_eq!(vf.ask::<1>(&[8, 4, 0]), [0x6000_0008]);
    card.assert_no_violations();
}

#[test]
fn queue_counts_follow_the_number_of_vfs() {
    for (vfs, queues) in [(1, 4), (31, 4), (32, 2), (63, 2)] {
        let (card, vf) = card_and_vf(Card::builder(Model::I82599).vfs(vfs));
        vf.handshake();
        vf.ask::<1>(&[8, 4, 0]);
        assert_eq!(
            vf.ask(&[9, 0, 0, 0, 0]),
            [0xa000_0009, queues, queues, 0, 0],
            "{vfs} VFs"
        );
        card.assert_no_violations();
    }
    assert!(Card::builder(Model::I82599).vfs(64).build().is_err());
    assert!(Card::builder(Model::I82599).vfs(0).build().is_err());
    assert!(Card::builder(Model::I82599).queues(3).build().is_err());
    assert!(Card::builder(Model::I350).vfs(8).build().is_err());
}

#[test]
fn jumbo_frames_on_an_82599_are_all_or_nobody() {
    let (card, vf) = one_vf(Model::I82599);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<1>(&[5, 1518]), [0xa000_0005]);
    assert_eq!(
        vf.ask::<1>(&[5, 9018]),
        [0x6000_0005],
        "the PF has no jumbo frames"
    );
    assert_eq!(vf.ask::<1>(&[5, 67]), [0x6000_0005]);
    assert_eq!(vf.ask::<1>(&[5, 9729]), [0x6000_0005]);
    assert_eq!(vf.ask::<1>(&[5, u32::MAX]), [0x6000_0005]);
    card.pf().set_mtu(9000).expect("an MTU within limits");
    vf.sleep(Duration::from_millis(50));
    vf.read(vf.mailbox);
    vf.read(vf.mailbox);
    vf.handshake();
    assert_eq!(
        vf.ask::<1>(&[5, 1518]),
        [0x6000_0005],
        "API 1.0 knows no jumbo frames"
    );
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<1>(&[5, 1518]), [0xa000_0005]);
    assert_eq!(vf.ask::<1>(&[5, 9018]), [0xa000_0005]);
    card.assert_no_violations();
}

#[test]
fn jumbo_frames_elsewhere_are_free() {
    for model in [Model::X540, Model::X550] {
        let (card, vf) = one_vf(model);
        vf.handshake();
        assert_eq!(vf.ask::<1>(&[5, 9728]), [0xa000_0005], "{model}");
        assert_eq!(vf.ask::<1>(&[5, 9729]), [0x6000_0005], "{model}");
        card.assert_no_violations();
    }
}

#[test]
fn g18_promiscuity_needs_trust_a_promiscuous_pf_and_a_part_that_has_it() {
    let (card, vf) = one_vf(Model::X550);
    let pf = card.pf();
    pf.set_vf_trust(0, true).expect("VF 0");
    vf.take::<1>();
    vf.read(vf.mailbox);
    vf.handshake();
    vf.ask::<1>(&[8, 3, 0]);
    assert_eq!(vf.ask(&[0xc, 2]), [0xa000_000c, 2]);
    assert_eq!(vf.ask::<1>(&[0xc, 3]), [0x6000_000c], "1.2 has none");
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<1>(&[0xc, 3]), [0x6000_000c], "the PF is not");
    pf.set_promiscuous(true);
    assert_eq!(vf.ask(&[0xc, 3]), [0xa000_000c, 3]);
    assert_eq!(
        vf.ask::<1>(&[0xc, 4]),
        [0x6000_000c],
        "there is no such mode"
    );

    let (other, vf) = one_vf(Model::I82599);
    other.pf().set_promiscuous(true);
    other.pf().set_vf_trust(0, true).expect("VF 0");
    vf.take::<1>();
    vf.read(vf.mailbox);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<1>(&[0xc, 3]), [0x6000_000c], "an 82599 has no UPE");
    card.assert_no_violations();
    other.assert_no_violations();
}

#[test]
fn a_port_vlan_is_the_administrators() {
    let (card, vf) = one_vf(Model::X550);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    card.pf().set_vf_vlan(0, 7, 3).expect("a fine VLAN");
    assert_eq!(
        vf.ask(&[9, 0, 0, 0, 0]),
        [0xa000_0009, 4, 4, 1, 0],
        "w3: transparent VLAN"
    );
    assert_eq!(vf.ask::<1>(&[0x0001_0004, 100]), [0x6001_0004]);
    card.pf().set_vf_vlan(0, 0, 0).expect("ending it");
    assert_eq!(vf.ask::<1>(&[0x0001_0004, 100]), [0xa001_0004]);
    assert!(card.pf().set_vf_vlan(0, 4096, 0).is_err());
    assert!(card.pf().set_vf_vlan(0, 1, 8).is_err());
    card.assert_no_violations();
}

#[test]
fn the_vlan_table_is_bounded() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    // VLAN 0 has one of the 64 entries.
    for vid in 1..=63 {
        assert_eq!(
            vf.ask::<1>(&[0x0001_0004, vid]),
            [0xa001_0004],
            "VLAN {vid}"
        );
    }
    assert_eq!(vf.ask::<1>(&[0x0001_0004, 64]), [0x6001_0004]);
    assert_eq!(
        vf.ask::<1>(&[0x0001_0004, 63]),
        [0xa001_0004],
        "one we have"
    );
    assert_eq!(vf.ask::<1>(&[0x0000_0004, 63]), [0xa000_0004]);
    assert_eq!(
        vf.ask::<1>(&[0x0001_0004, 64]),
        [0xa001_0004],
        "the entry is free again"
    );
    card.assert_no_violations();
}

#[test]
fn g18_further_addresses_are_bounded_and_go_together() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    // 128 RARs, 15 kept for the PF's, 1 the PF's own, 1 a VF.
    for number in 0..111u32 {
        assert_eq!(
            vf.ask::<1>(&[0x0002_0006, 0x0000_0002 | number << 8, 0]),
            [0xa002_0006],
            "{number}"
        );
    }
    assert_eq!(vf.ask::<1>(&[0x0002_0006, 0x0000_ff02, 0]), [0x6002_0006]);
    assert_eq!(
        vf.ask::<1>(&[0x0001_0006, 0x0000_ff02, 0]),
        [0xa001_0006],
        "index 1 clears first"
    );
    assert_eq!(vf.ask::<1>(&[0x0000_0006, 0, 0]), [0xa000_0006]);
    card.assert_no_violations();
}

#[test]
fn a_key_and_table_are_given_when_the_administrator_allows_it() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<1>(&[0xb]), [0x6000_000b]);
    card.pf().set_vf_rss_query(0, true).expect("an X540 can");
    let reply: [u32; 9] = vf.ask(&[0xa]);
    assert_eq!(reply[0], 0xa000_000a);
    assert_eq!(
        reply[1..],
        [0xe4e4_e4e4; 8],
        "queues 0 to 3 in turn, two bits each"
    );
    let reply: [u32; 11] = vf.ask(&[0xb]);
    assert_eq!(reply[0], 0xa000_000b);
    assert!(reply[1..].iter().any(|word| *word != 0), "{reply:08x?}");
    let (x550, vf) = one_vf(Model::X550);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(vf.ask::<1>(&[0xa]), [0x6000_000a], "an X550 has its own");
    assert!(x550.pf().set_vf_rss_query(0, true).is_err());
    card.assert_no_violations();
}

#[test]
fn pings_carry_clear_to_send_while_the_vf_has_it() {
    let (card, vf) = one_vf(Model::I82599);
    let pf = card.pf();
    pf.ping(0).expect("VF 0");
    assert_eq!(vf.take(), [0x0000_0100]);
    assert_eq!(
        vf.word0(),
        0x4000_0000,
        "the acknowledgement of a VF that is not known"
    );
    vf.handshake();
    pf.ping(0).expect("VF 0");
    assert_eq!(vf.take(), [0x2000_0100]);
    assert_eq!(vf.word0(), 0x2000_0100, "nothing further");
    pf.set_link(false);
    assert_eq!(vf.take(), [0x2000_0100]);
    assert_eq!(vf.read(0x10) & 0x4000_0000, 0, "VFLINKS");
    pf.set_vf_state(0, VfLink::Disable).expect("VF 0");
    assert_eq!(vf.take(), [0x0000_0100]);
    card.assert_no_violations();
}

#[test]
fn link_state_is_told() {
    let (card, vf) = one_vf(Model::X540);
    card.pf().set_vf_state(0, VfLink::Disable).expect("VF 0");
    vf.handshake();
    vf.ask::<1>(&[8, 3, 0]);
    assert_eq!(vf.ask(&[0x10, 0]), [0xa000_0010, 0]);
    assert_ne!(vf.read(0x10) & 0x4000_0000, 0, "VFLINKS shows the cable");
    card.pf().set_vf_state(0, VfLink::Auto).expect("VF 0");
    vf.read(vf.mailbox);
    vf.handshake();
    vf.ask::<1>(&[8, 3, 0]);
    assert_eq!(vf.ask(&[0x10, 0]), [0xa000_0010, 1]);
    card.assert_no_violations();
}

#[test]
fn a_late_pf_acknowledges_first_and_replies_later() {
    let delay = Duration::from_millis(2);
    let (card, vf) = card_and_vf(Card::builder(Model::X540).mailbox_delay(delay));
    vf.write(0, 1 << 26);
    vf.post(&[1]);
    assert_eq!(vf.read(vf.mailbox) & 0x30, 0);
    vf.sleep(Duration::from_micros(2100));
    assert_eq!(vf.read(vf.mailbox) & 0x30, 0x20, "PFACK, and not again");
    assert_eq!(vf.read(vf.mailbox) & 0x30, 0);
    vf.sleep(Duration::from_millis(2));
    assert_eq!(vf.read(vf.mailbox) & 0x30, 0x10, "PFSTS");
    assert_eq!(vf.take(), [0x4000_0001, 0, 0, 0]);
    card.assert_no_violations();
}

#[test]
fn a_reply_waits_for_a_vf_that_holds_the_memory() {
    let (card, vf) = one_vf(Model::X540);
    vf.handshake();
    vf.lock();
    vf.write(vf.memory, 5);
    vf.write(vf.memory + 4, 1518);
    // VFU and REQ together, as the newer mailbox does it (ixgbevf.md §6.4b).
    vf.write(vf.mailbox, 5);
    assert_eq!(
        vf.read(vf.mailbox),
        0x24,
        "read at once: PFACK, and VFU still ours"
    );
    assert_eq!(vf.word0(), 5, "not written over while it is ours");
    vf.write(vf.mailbox, 0);
    assert_eq!(vf.read(vf.mailbox), 0x10);
    assert_eq!(vf.word0(), 0xa000_0005);
    card.assert_no_violations();
}

#[test]
fn mailbox_memory_is_kept_and_the_gap_behind_it_is_nothing() {
    let (card, vf) = one_vf(Model::I82599);
    vf.handshake();
    vf.ask::<1>(&[8, 4, 0]);
    vf.function.reset().expect("FLR");
    assert_eq!(vf.word0(), 0xa000_0008, "FLR does not clear it");
    card.assert_no_violations();
    for offset in [0x240, 0x2f8] {
        vf.write(offset, 0x1234_5678);
        assert_eq!(vf.read(offset), 0);
    }
    let kinds: Vec<_> = card.take_violations().into_iter().map(|v| v.kind).collect();
    assert_eq!(
        kinds[0],
        ViolationKind::UnknownRegister {
            offset: 0x240,
            write: true
        }
    );
}

#[test]
fn writing_without_the_lock_is_a_violation() {
    let (card, vf) = one_vf(Model::I82599);
    vf.write(vf.memory + 8, 1);
    vf.write(vf.mailbox, 1);
    let kinds: Vec<_> = card.take_violations().into_iter().map(|v| v.kind).collect();
    assert_eq!(
        kinds,
        [
            ViolationKind::MailboxWithoutLock { word: 2 },
            ViolationKind::RequestWithoutLock
        ]
    );
}

#[test]
fn a_dpdk_pf_answers_shorter_and_knows_no_clear_to_send() {
    let builder = Card::builder(Model::I82599)
        .vfs(2)
        .personality(PfPersonality::Dpdk);
    let card = builder.build().expect("a fine card");
    let vf = RawVf::open(&card, 1);
    assert_eq!(
        vf.ask(&[8, 4, 0]),
        [0xa000_0008 & !0x2000_0000 | 0x2000_0000, 4, 0],
        "before RESET"
    );
    let [word, low, high, kind] = vf.handshake();
    assert_eq!((word, kind), (0x8000_0001, 0), "always with an address");
    assert_eq!(low & 0x01, 0, "a unicast one: {low:08x} {high:08x}");
    assert_ne!(low, 0);
    vf.ask::<1>(&[8, 4, 0]);
    assert_eq!(
        vf.ask(&[9, 0, 0, 0, 0]),
        [0xa000_0009, 4, 4, 0, 4],
        "w4: the absolute queue"
    );
    assert_eq!(vf.ask::<1>(&[8, 5, 0]), [0x6000_0008], "1.4");
    assert_eq!(vf.ask(&[0xc, 2]), [0xa000_000c, 2], "no trust needed");
    assert_eq!(vf.ask::<1>(&[0x10, 0]), [0x6000_0010]);
    card.assert_no_violations();
}
