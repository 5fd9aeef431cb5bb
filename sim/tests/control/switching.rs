//! What the PF's answers and knobs do to frames: addresses, VLANs, multicast, promiscuity, the wire, the PF's port.

use vfnic_hw::{Family, Model};
use vfnic_sim::uplink::pair;
use vfnic_sim::{Card, VirtualClock};

use super::bed::{Bed, OUTSIDE, bed, frame};
use super::raw::mac_words;
use super::station::Station;

/// The 12-bit multicast hash of filter type 0: bits 47:36 of the address.
fn hash(mac: [u8; 6]) -> u32 {
    u32::from(mac[4]) >> 4 | u32::from(mac[5]) << 4
}

const GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x01, 0x02, 0x03];
const OTHER_GROUP: [u8; 6] = [0x01, 0x00, 0x5e, 0x01, 0x02, 0x04];
const BROADCAST: [u8; 6] = [0xff; 6];

#[test]
fn frames_find_their_vf_the_wire_or_the_pf() {
    for model in Model::ALL {
        let mut bed = bed(Card::builder(model));
        let (one, pf) = (bed.vfs[1].mac, bed.card.pf().mac());
        assert_eq!(bed.by_vf0(one, None), [1], "{model}: inside");
        assert_eq!(bed.by_vf0(OUTSIDE, None), [3], "{model}: outside");
        assert_eq!(bed.by_vf0(pf, None), [4], "{model}: to the PF");
        assert_eq!(
            bed.by_vf0(BROADCAST, None),
            [1, 2, 3, 4],
            "{model}: to everybody else"
        );
        assert_eq!(bed.by_wire(one, None), [1], "{model}");
        assert_eq!(bed.by_wire(BROADCAST, None), [0, 1, 2, 4], "{model}");
        let stranger = [0x02, 0xcc, 0, 0, 0, 2];
        let igb = matches!(model, Model::I82576 | Model::I350);
        let default: &[usize] = if igb { &[4] } else { &[] };
        assert_eq!(bed.by_wire(stranger, None), default, "{model}: for nobody");
        bed.card.pf().fdb_add(stranger).expect("there is room");
        assert_eq!(
            bed.by_vf0(stranger, None),
            [4],
            "{model}: behind the PF's bridge"
        );
        bed.card.pf().fdb_remove(stranger);
        assert_eq!(bed.by_vf0(stranger, None), [3], "{model}");
        assert!(bed.host.inject(&frame(one, pf, None, 1)));
        assert_eq!(bed.who(), [1], "{model}: from the PF");
        bed.card.assert_no_violations();
    }
}

#[test]
fn multicast_follows_the_hashes_and_modes_asked_for() {
    let mut bed = bed(Card::builder(Model::X540));
    assert_eq!(bed.by_wire(GROUP, None), [0usize; 0]);
    bed.vfs[1].vf.ask::<1>(&[0x0001_0003, hash(GROUP)]);
    bed.vfs[2].vf.ask::<1>(&[0x0001_0003, hash(OTHER_GROUP)]);
    assert_eq!(
        bed.by_wire(GROUP, None),
        [1, 2],
        "the table is one for all: imperfect"
    );
    bed.vfs[1].vf.ask::<1>(&[8, 4, 0]);
    bed.vfs[1].vf.ask::<1>(&[0xc, 1]);
    bed.vfs[1].vf.ask::<1>(&[0xc, 0]);
    assert_eq!(
        bed.by_wire(GROUP, None),
        [2],
        "NONE takes the hash table away"
    );
    bed.vfs[1].vf.ask::<1>(&[0x0001_0003, hash(GROUP)]);
    assert_eq!(bed.by_wire(GROUP, None), [1, 2]);
    bed.card.assert_no_violations();
}

#[test]
fn igb_multicast_goes_by_hashes_overflow_and_promiscuity() {
    for model in [Model::I82576, Model::I350] {
        let mut bed = bed(Card::builder(model));
        bed.vfs[1].vf.ask::<1>(&[0x0001_0003, hash(GROUP)]);
        assert_eq!(bed.by_wire(GROUP, None), [1], "{model}");
        assert_eq!(
            bed.by_wire(OTHER_GROUP, None),
            [4],
            "{model}: the default pool takes what nobody wants"
        );
        bed.vfs[2].vf.ask::<1>(&[0x0002_0006]);
        assert_eq!(bed.by_wire(OTHER_GROUP, None), [2], "{model}: SET_PROMISC");
        bed.vfs[2].vf.ask::<1>(&[0x0000_0006]);
        bed.vfs[2].vf.ask::<1>(&[0x0081_0003, hash(GROUP)]);
        assert_eq!(
            bed.by_wire(OTHER_GROUP, None),
            [2],
            "{model}: more than 30 groups"
        );
        bed.vfs[2].vf.ask::<1>(&[0x0000_0003]);
        assert_eq!(bed.by_wire(GROUP, None), [1], "{model}");
        bed.card.assert_no_violations();
    }
}

#[test]
fn a_trusted_vf_of_a_promiscuous_pf_sees_strangers_frames() {
    let mut bed = bed(Card::builder(Model::X550));
    let pf = bed.card.pf();
    pf.set_promiscuous(true);
    pf.set_vf_trust(1, true).expect("VF 1");
    let mac = bed.vfs[1].mac;
    let vf = &bed.vfs[1].vf;
    vf.take::<1>();
    vf.read(vf.mailbox);
    assert_eq!(vf.ask::<1>(&[1]), [0x4000_0001]);
    let [low, high] = mac_words(mac);
    vf.ask::<1>(&[2, low, high]);
    vf.ask::<1>(&[8, 4, 0]);
    let stranger = [0x02, 0xcc, 0, 0, 0, 2];
    assert_eq!(bed.by_wire(stranger, None), [4], "the PF alone");
    assert_eq!(bed.vfs[1].vf.ask(&[0xc, 3]), [0xa000_000c, 3]);
    assert_eq!(bed.by_wire(stranger, None), [1, 4]);
    assert_eq!(bed.by_wire(stranger, Some(9)), [4], "its own VLANs only");
    bed.card.assert_no_violations();
}

#[test]
fn a_promiscuous_pf_takes_what_is_for_nobody_whatever_the_model() {
    let stranger = [0x02, 0xcc, 0, 0, 0, 2];
    for model in Model::ALL {
        let mut bed = bed(Card::builder(model));
        let pf = bed.card.pf();
        // An igb gives its PF all that nobody else takes.
        let usual = match model.family() {
            Family::Igbvf => vec![4],
            Family::Ixgbevf => vec![],
        };
        assert_eq!(bed.by_wire(stranger, None), usual, "{model}");
        assert_eq!(bed.by_wire(OTHER_GROUP, None), usual, "{model}");
        pf.set_all_multicast(true);
        assert_eq!(bed.by_wire(stranger, None), usual, "{model}");
        assert_eq!(bed.by_wire(OTHER_GROUP, None), [4], "{model}");
        pf.set_all_multicast(false);
        pf.set_promiscuous(true);
        assert_eq!(bed.by_wire(stranger, None), [4], "{model}");
        assert_eq!(bed.by_wire(OTHER_GROUP, None), [4], "{model}");
        let one = bed.vfs[1].mac;
        assert_eq!(bed.by_wire(one, None)[0], 1, "{model}: who is known has it");
        pf.set_promiscuous(false);
        assert_eq!(bed.by_wire(stranger, None), usual, "{model}: off again");
        bed.card.assert_no_violations();
    }
}

#[test]
fn vlans_are_for_their_members() {
    for model in Model::ALL {
        let mut bed = bed(Card::builder(model));
        let one = bed.vfs[1].mac;
        assert_eq!(
            bed.by_wire(one, Some(100)),
            [0usize; 0],
            "{model}: nobody has it"
        );
        assert_eq!(bed.vfs[1].vf.ask::<1>(&[0x0001_0004, 100]), [0xa001_0004]);
        assert_eq!(bed.by_wire(one, Some(100)), [1], "{model}");
        assert_eq!(
            bed.by_wire(one, Some(5 << 13 | 100)),
            [1],
            "{model}: whatever the priority"
        );
        assert_eq!(bed.by_wire(one, None), [1], "{model}: untagged as before");
        assert_eq!(
            bed.by_vf0(one, Some(100)),
            [0usize; 0],
            "{model}: not VF 0's VLAN to send in"
        );
        bed.vfs[0].vf.ask::<1>(&[0x0001_0004, 100]);
        assert_eq!(bed.by_vf0(one, Some(100)), [1], "{model}");
        bed.vfs[1].vf.ask::<1>(&[0x0000_0004, 100]);
        let seen = bed.by_wire(one, Some(100));
        assert!(!seen.contains(&1), "{model}: no longer");
        bed.card.assert_no_violations();
    }
}

#[test]
fn a_port_vlan_is_put_on_and_taken_off_by_the_card() {
    for model in Model::ALL {
        let mut bed = bed(Card::builder(model));
        let (zero, one) = (bed.vfs[0].mac, bed.vfs[1].mac);
        bed.card.pf().set_vf_vlan(0, 7, 3).expect("a fine VLAN");
        let out = frame(OUTSIDE, zero, None, 1);
        bed.vfs[0].send_frame(&out, 1 << 39);
        bed.card.step();
        assert_eq!(
            bed.wire.collect(),
            [frame(OUTSIDE, zero, Some(3 << 13 | 7), 1)],
            "{model}: tagged on the wire"
        );
        assert_eq!(bed.by_vf0(one, None), [3], "{model}: VF 1 is not in VLAN 7");
        let seen = bed.by_wire(zero, None);
        assert!(!seen.contains(&0), "{model}: nothing untagged");
        assert!(bed.wire.inject(&frame(zero, OUTSIDE, Some(7), 1)));
        bed.card.step();
        let (seen, status) = bed.vfs[0].receive_frame().expect("a frame of its VLAN");
        match model {
            // The tag is hidden, or moved to the descriptor; an 82599's VF must ask for that (VME), which it did not.
            Model::X550 => assert_eq!((seen.len(), status & 8), (60, 0), "{model}"),
            Model::I82576 | Model::I350 => assert_eq!(
                (seen.len(), status & 8, status >> 48),
                (60, 8, 7),
                "{model}"
            ),
            _ => assert_eq!((seen.len(), status & 8), (64, 8), "{model}"),
        }
        bed.card.pf().set_vf_vlan(0, 0, 0).expect("ending it");
        assert_eq!(bed.by_vf0(one, None), [1], "{model}");
        bed.card.assert_no_violations();
    }
}

#[test]
fn a_further_address_is_the_vfs_and_lifts_its_spoof_check() {
    let mut bed = bed(Card::builder(Model::X540));
    let more = [0x02, 0xdd, 0, 0, 0, 5];
    let [low, high] = mac_words(more);
    assert_eq!(bed.by_wire(more, None), [0usize; 0]);
    assert_eq!(
        bed.vfs[1].vf.ask::<1>(&[0x0001_0006, low, high]),
        [0xa001_0006]
    );
    assert_eq!(bed.by_wire(more, None), [1]);
    let from = frame(OUTSIDE, more, None, 1);
    bed.vfs[1].send_frame(&from, 1 << 39);
    assert_eq!(bed.who(), [3]);
    assert_eq!(bed.vfs[1].vf.ask::<1>(&[0x0000_0006, 0, 0]), [0xa000_0006]);
    assert_eq!(bed.by_wire(more, None), [0usize; 0]);
    bed.card.assert_no_violations();
}

#[test]
fn frames_longer_than_agreed_do_not_come_through() {
    let mut bed = bed(Card::builder(Model::X540));
    let long = |bed: &Bed, len| {
        let mut frame = frame(bed.vfs[1].mac, OUTSIDE, None, 1);
        frame.resize(len, 1);
        assert!(bed.wire.inject(&frame));
    };
    long(&bed, 1514);
    assert_eq!(bed.who(), [1]);
    long(&bed, 1515);
    assert_eq!(bed.who(), [0usize; 0], "MAXFRS is 1518 with CRC");
    bed.vfs[2].vf.ask::<1>(&[5, 1600]);
    long(&bed, 1596);
    assert_eq!(bed.who(), [1], "raised by one VF, for all");
    long(&bed, 1597);
    assert_eq!(bed.who(), [0usize; 0]);
    bed.card.assert_no_violations();
}

#[test]
fn igb_lengths_are_each_vfs_own() {
    let mut bed = bed(Card::builder(Model::I82576));
    let mut frame = frame(bed.vfs[1].mac, OUTSIDE, None, 1);
    frame.resize(1600, 1);
    assert!(bed.wire.inject(&frame));
    assert_eq!(bed.who(), [0usize; 0]);
    bed.vfs[2].vf.ask::<1>(&[5, 1604]);
    assert!(bed.wire.inject(&frame));
    assert_eq!(bed.who(), [0usize; 0], "not VF 1's");
    bed.vfs[1].vf.ask::<1>(&[5, 1604]);
    assert!(bed.wire.inject(&frame));
    assert_eq!(bed.who(), [1]);
    bed.card.assert_no_violations();
}

#[test]
fn nothing_moves_without_a_link() {
    let mut bed = bed(Card::builder(Model::X540));
    bed.card.pf().set_link(false);
    let one = bed.vfs[1].mac;
    assert_eq!(bed.by_vf0(one, None), [0usize; 0]);
    bed.card.pf().set_link(true);
    assert_eq!(bed.who(), [1], "what waited goes now");
    bed.card.assert_no_violations();
}

#[test]
fn a_reset_takes_the_hash_table_from_a_vf_but_not_from_others() {
    let mut bed = bed(Card::builder(Model::X540));
    for vf in [1, 2] {
        bed.vfs[vf].vf.ask::<1>(&[0x0001_0003, hash(GROUP)]);
    }
    assert_eq!(bed.by_wire(GROUP, None), [1, 2]);
    assert_eq!(bed.vfs[1].vf.ask::<1>(&[1]), [0x4000_0001]);
    assert_eq!(bed.by_wire(GROUP, None), [2]);
    bed.card.assert_no_violations();
}

#[test]
fn a_vf_with_further_addresses_may_use_any() {
    let mut bed = bed(Card::builder(Model::X540));
    let strange = frame(OUTSIDE, [0x02, 0xee, 0, 0, 0, 9], None, 1);
    bed.vfs[1].send_frame(&strange, 1 << 39);
    assert_eq!(bed.who(), [0usize; 0], "checked");
    let [low, high] = mac_words([0x02, 0xdd, 0, 0, 0, 5]);
    bed.vfs[1].vf.ask::<1>(&[0x0001_0006, low, high]);
    bed.vfs[1].send_frame(&strange, 1 << 39);
    assert_eq!(bed.who(), [3], "no longer");
    bed.card.assert_no_violations();
}

#[test]
fn igb_strips_tags_once_a_vlan_was_asked_for() {
    for model in [Model::I82576, Model::I350] {
        let mut bed = bed(Card::builder(model));
        let one = bed.vfs[1].mac;
        let seen = |bed: &mut Bed| {
            assert!(bed.wire.inject(&frame(one, OUTSIDE, Some(0), 1)));
            bed.card.step();
            let (frame, status) = bed.vfs[1].receive_frame().expect("VLAN 0 is everybody's");
            (frame.len(), status & 8)
        };
        assert_eq!(seen(&mut bed), (64, 0), "{model}");
        bed.vfs[1].vf.ask::<1>(&[0x0001_0004, 100]);
        assert_eq!(seen(&mut bed), (60, 8), "{model}: on");
        bed.vfs[1].vf.ask::<1>(&[0x0000_0004, 100]);
        assert_eq!(seen(&mut bed), (60, 8), "{model}: removing leaves it on");
        bed.vfs[1].vf.ask::<1>(&[0x0001_0004, 0]);
        assert_eq!(seen(&mut bed), (64, 0), "{model}: VLAN 0 turns it off");
        bed.card.assert_no_violations();
    }
}

#[test]
fn cards_on_one_clock_pass_frames_in_one_moment() {
    let clock = VirtualClock::new();
    let (east, west) = pair(8);
    let cards = [east, west].map(|end| {
        Card::builder(Model::X540)
            .vfs(2)
            .on_clock(&clock)
            .uplink(Box::new(end))
            .build()
            .expect("a fine card")
    });
    let mut left = Station::new(&cards[0], 0);
    let mut right = Station::new(&cards[1], 1);
    left.send(right.mac, 1);
    right.send(left.mac, 2);
    cards[0].step();
    assert_eq!(right.receive(), Some(1));
    assert_eq!(left.receive(), Some(2), "whichever is stepped first");
    for card in cards {
        card.assert_no_violations();
    }
}
