//! The switch's rules that have a number or a name.

use vfnic_hw::{Family, Model};
use vfnic_sim::data::{Accept, DropReason, SpoofChecks, VlanInsert};

use crate::rig::{Rig, Tap, VLE, frame, mac};
use crate::switching_model::group;

#[test]
fn an_igb_may_be_allowed_to_hear_itself() {
    let mut rig = Rig::new(Model::I350, 2);
    let all = frame([0xff; 6], mac(0), 64);
    rig.send(0, &all);
    assert!(rig.frames(0).is_empty());
    rig.path.filters_mut().set_hairpin(0, true);
    rig.send(0, &all);
    assert_eq!(rig.frames(0), [all]);
}

#[test]
fn a_change_of_filters_ends_a_cached_verdict() {
    let mut rig = Rig::new(Model::I82599, 3);
    for round in 0..3 {
        rig.send(0, &frame(mac(1), mac(0), 60));
        assert_eq!(rig.frames(1).len(), 1, "{round}");
    }
    // The address moves to VF 2.
    rig.path.filters_mut().remove_mac(mac(1), 1);
    rig.path.filters_mut().add_mac(mac(1), 2);
    rig.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!((rig.frames(1).len(), rig.frames(2).len()), (0, 1));
    // And the sender comes under suspicion.
    let checks = SpoofChecks {
        mac: true,
        vlan: false,
        ethertype: false,
    };
    rig.path.filters_mut().set_spoof(0, checks);
    rig.send(0, &frame(mac(1), mac(7), 60));
    assert_eq!(rig.frames(2).len(), 0);
    assert_eq!(rig.log.spoofed, 1);
    let drops = rig.path.stats(0).expect("a function").drops;
    assert_eq!(drops.get(DropReason::SpoofMac), 1);
}

#[test]
fn what_nobody_asked_for_goes_to_the_pf_of_an_ixgbe_as_its_two_bits_say() {
    let (unknown, group) = ([0x52, 0x54, 0, 9, 9, 9], group(77));
    for (unicast, multicast) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut rig = Rig::new(Model::X540, 2);
        let (wire, host) = (Tap::default(), Tap::default());
        rig.path.set_uplink(Box::new(wire.clone()));
        rig.path.set_host(Box::new(host.clone()));
        rig.path
            .filters_mut()
            .set_pf_promiscuous(unicast, multicast);
        for (to, taken) in [(unknown, unicast), (group, multicast)] {
            wire.inject(&frame(to, mac(7), 60));
            rig.tick();
            let got = host.left().len();
            assert_eq!(got, usize::from(taken), "{to:x?} {unicast} {multicast}");
            assert!(rig.frames(0).is_empty() && rig.frames(1).is_empty());
        }
        rig.assert_quiet();
    }
}

#[test]
fn g17_pause_and_lldp_stay_inside_unless_let_out() {
    let mut rig = Rig::new(Model::X550, 2);
    let wire = Tap::default();
    rig.path.set_uplink(Box::new(wire.clone()));
    let mut pause = frame([0x01, 0x80, 0xc2, 0, 0, 1], mac(0), 60);
    pause[12..14].copy_from_slice(&[0x88, 0x08]);
    rig.send(0, &pause);
    assert!(wire.left().is_empty());
    let drops = rig.path.stats(0).expect("a function").drops;
    assert_eq!(drops.get(DropReason::ControlFrame), 1);
    // Behind a tag it is no better.
    let mut tagged = pause.clone();
    tagged.splice(12..12, [0x81, 0, 0, 0]);
    rig.send(0, &tagged);
    assert!(wire.left().is_empty());
    rig.path.filters_mut().set_control_frames(true);
    rig.send(0, &pause);
    assert_eq!(wire.left(), [pause]);
}

#[test]
fn an_fdb_entry_brings_a_neighbour_home() {
    let mut rig = Rig::new(Model::I82599, 1);
    let (wire, host) = (Tap::default(), Tap::default());
    rig.path.set_uplink(Box::new(wire.clone()));
    rig.path.set_host(Box::new(host.clone()));
    let bridged = [0x52, 0x54, 0, 1, 2, 3];
    let sent = frame(bridged, mac(0), 60);
    rig.send(0, &sent);
    assert_eq!((wire.left().len(), host.left().len()), (1, 0));
    let pf = rig.path.filters().pf_pool();
    assert!(rig.path.filters_mut().add_mac(bridged, pf));
    rig.send(0, &sent);
    assert_eq!((wire.left().len(), host.left().len()), (0, 1));
}

#[test]
fn tags_are_stripped_told_and_hidden_as_each_model_does() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 2);
        let wire = Tap::default();
        rig.path.set_uplink(Box::new(wire.clone()));
        let filters = rig.path.filters_mut();
        filters.add_vlan(5, 0);
        filters.add_vlan(5, 1);
        let ixgbe = model.family() == Family::Ixgbevf;
        let plain = frame(mac(1), mac(0), 80);
        let send = |rig: &mut Rig| {
            let context = crate::rig::Context {
                mac: 14,
                vlan: 0xe005,
                l4t: 3,
                ..Default::default()
            };
            let vf = &mut rig.vfs[0];
            vf.put(0, context.words());
            let address = vf.stage(0, &plain);
            vf.put(0, [address, crate::rig::plain(80) | VLE]);
            rig.ring(0, 0);
            rig.tick();
            rig.got(1, 0).remove(0)
        };
        // Left in place: the 10 GbE cards tell of it all the same.
        let got = send(&mut rig);
        assert_eq!(
            (got.len(), got.status() >> 3 & 1, got.vlan()),
            (84, u32::from(ixgbe), 0),
            "{model}"
        );
        // Stripped.
        rig.path.filters_mut().set_strip(1, true);
        let settings = vfnic_sim::data::RxSettings::decode(model, 0x0200_0002, 1 << 30);
        rig.path.rx(1, 0).expect("a queue").set_settings(settings);
        let got = send(&mut rig);
        assert_eq!(got.data, plain);
        let told = if model == Model::I350 { 0x05e0 } else { 0xe005 };
        assert_eq!((got.status() >> 3 & 1, got.vlan()), (1, told), "{model}");
        // From the wire an I350 has the bytes in the usual order.
        let mut tagged = plain.clone();
        tagged.splice(12..12, [0x81, 0, 0xe0, 5]);
        wire.inject(&tagged);
        rig.tick();
        let got = rig.got(1, 0).remove(0);
        assert_eq!((got.vlan(), got.data), (0xe005, plain.clone()), "{model}");
        // Hidden: gone without a word.
        rig.path.filters_mut().set_hide_vlan(1, true);
        let got = send(&mut rig);
        assert_eq!(
            (got.vlan(), got.status() >> 3 & 1, got.data),
            (0, 0, plain.clone())
        );
        rig.assert_quiet();
    }
}

#[test]
fn a_rate_limit_holds_on_the_virtual_clock() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path.set_rate(0, Some(100));
    let mut octets = 0;
    for _ in 0..200 {
        if rig.path.tx(0, 0).expect("a queue").head_word().load() == rig.vfs[0].tx_next[0] {
            for _ in 0..40 {
                rig.post(0, &frame(mac(1), mac(0), 1246));
            }
            rig.ring(0, 0);
        }
        rig.tick();
        for frame in rig.frames(1) {
            octets += frame.len() as u64 + 4;
        }
        rig.now = rig
            .path
            .next_due()
            .map_or(rig.now + 1000, |due| due.max(rig.now + 1));
    }
    let mbps = octets as f64 * 8.0 * 1000.0 / rig.now as f64;
    assert!(
        (95.0..107.0).contains(&mbps),
        "{mbps} Mb/s over {} ns",
        rig.now
    );
    rig.path.set_rate(0, None);
    assert_eq!(rig.path.next_due(), None);
}

#[test]
fn g17_vlan_spoofing_is_seen_in_inserted_and_in_line_tags() {
    let mut rig = Rig::new(Model::I82576, 2);
    let filters = rig.path.filters_mut();
    filters.add_vlan(7, 1);
    let checks = SpoofChecks {
        mac: false,
        vlan: true,
        ethertype: false,
    };
    filters.set_spoof(0, checks);
    let mut tagged = frame(mac(1), mac(0), 80);
    tagged.splice(12..12, [0x81, 0, 0, 7]);
    rig.send(0, &tagged);
    rig.path
        .filters_mut()
        .set_vlan_insert(0, VlanInsert::Always(7));
    rig.send(0, &frame(mac(1), mac(0), 80));
    let drops = rig.path.stats(0).expect("a function").drops;
    assert_eq!(drops.get(DropReason::SpoofVlan), 2);
    assert!(rig.frames(1).is_empty());
    rig.path.filters_mut().add_vlan(7, 0);
    rig.send(0, &frame(mac(1), mac(0), 80));
    assert_eq!(rig.frames(1).len(), 1);
}

/// Unicast by hash, for pools that take it, unless somebody has the very address.
#[test]
fn the_unicast_table_lets_in_what_hashes_to_it() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 3);
        let wire = Tap::default();
        rig.path.set_uplink(Box::new(wire.clone()));
        let stranger = [0x52, 0x54, 0, 0, 0x34, 0x12];
        let filters = rig.path.filters_mut();
        filters.set_accept(1, Accept::AUPE | Accept::BAM | Accept::ROPE);
        let took = |rig: &mut Rig| {
            wire.inject(&frame(stranger, mac(7), 60));
            rig.tick();
            [0, 1, 2].map(|vf| rig.frames(vf).len())
        };
        assert_eq!(took(&mut rig), [0, 0, 0], "{model}");
        // Bits 47:36 of the address.
        rig.path.filters_mut().set_uta(0x123, true);
        assert_eq!(took(&mut rig), [0, 1, 0], "{model}");
        rig.path.filters_mut().add_mac(stranger, 2);
        assert_eq!(took(&mut rig), [0, 0, 1], "{model}");
        rig.path.filters_mut().remove_mac(stranger, 2);
        rig.path.filters_mut().set_uta(0x123, false);
        assert_eq!(took(&mut rig), [0, 0, 0], "{model}");
    }
}
