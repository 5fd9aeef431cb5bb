//! Frames from VF to VF with raw descriptors: what every driver relies on.

use vfnic_hw::Model;

use crate::rig::{self, Rig, Tap, frame, mac, plain};
use crate::vf::Got;

#[test]
fn a_frame_arrives_with_every_promise_kept() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 2);
        let sent = frame(mac(1), mac(0), 60);
        let index = rig.send(0, &sent);
        let got = rig.got(1, 0);
        assert_eq!(got.len(), 1, "{model}");
        assert_eq!(got[0].data, sent, "{model}");
        // DD, EOP and LB; no type, no checksum, no tag.
        assert_eq!(got[0].status(), 1 << 18 | 3, "{model}");
        assert_eq!(got[0].words[0], 0, "{model}");
        assert_eq!(got[0].vlan(), 0);
        let done = rig.vfs[0].tx_descriptor(0, index);
        assert_eq!(done[1] >> 32 & 0xf, 1, "DD");
        assert_eq!(rig.path.tx(0, 0).expect("a queue").head_word().load(), 2);
        assert_eq!(rig.path.rx(1, 0).expect("a queue").head_word().load(), 1);
        let causes = rig.causes();
        assert_eq!((causes[0].0, causes[0].1.tx, causes[0].1.rx), (0, 1, 0));
        assert_eq!((causes[1].0, causes[1].1.tx, causes[1].1.rx), (1, 0, 1));
        assert!(rig.causes().is_empty());
        rig.assert_quiet();
    }
}

#[test]
fn a_thousand_frames_of_every_length_keep_order_and_content() {
    let mut rig = Rig::new(Model::X550, 2);
    rig.path.filters_mut().set_max_frame(9728);
    let mut seen = 0u64;
    for round in 0..50 {
        let lens: Vec<usize> = (0..20).map(|n| 60 + (round * 20 + n) * 37 % 1455).collect();
        for &len in &lens {
            rig.post(0, &frame(mac(1), mac(0), len));
        }
        rig.ring(0, 0);
        rig.tick();
        let frames = rig.frames(1);
        assert_eq!(frames.len(), lens.len());
        for (got, len) in frames.iter().zip(lens) {
            assert_eq!(*got, frame(mac(1), mac(0), len));
            seen += 1;
        }
    }
    let stats = rig.path.stats(1).expect("a function");
    assert_eq!(
        (stats.delivered, stats.gprc, stats.drops.total()),
        (seen, seen, 0)
    );
    rig.assert_quiet();
}

#[test]
fn without_rs_nothing_is_written_back_and_no_cause_is_raised() {
    let mut rig = Rig::new(Model::I82599, 2);
    let sent = frame(mac(1), mac(0), 100);
    let address = rig.vfs[0].stage(0, &sent);
    let words = [address, plain(100) & !rig::RS & !rig::CC];
    let index = rig.vfs[0].put(0, words);
    rig.ring(0, 0);
    rig.tick();
    assert_eq!(rig.vfs[0].tx_descriptor(0, index), words);
    assert!(
        rig.causes()
            .iter()
            .all(|(pool, causes)| *pool == 1 && causes.tx == 0)
    );
    assert_eq!(rig.frames(1), [sent]);
}

#[test]
fn short_frames_are_padded_with_zeros() {
    let mut rig = Rig::new(Model::I82599, 2);
    let sent = frame(mac(1), mac(0), 17);
    rig.send(0, &sent);
    let frames = rig.frames(1);
    assert_eq!(frames[0].len(), 60);
    assert_eq!(frames[0][..17], sent[..]);
    assert!(frames[0][17..].iter().all(|&byte| byte == 0));
    rig.assert_quiet();
}

#[test]
fn jumbo_fills_buffers_and_ends_on_the_last() {
    for model in Model::ALL {
        let mut rig = Rig::new(model, 2);
        let filters = rig.path.filters_mut();
        filters.set_max_frame(9728);
        filters.set_max_len(1, Some(9728));
        let sent = frame(mac(1), mac(0), 9000);
        // In three pieces.
        let vf = &mut rig.vfs[0];
        vf.put(
            0,
            rig::Context {
                mac: 14,
                l4t: 3,
                ..Default::default()
            }
            .words(),
        );
        let address = vf.stage(0, &sent);
        let total = 9000 << 46 | rig::CC;
        vf.put(0, [address, rig::DATA | total | 4000]);
        vf.put(0, [address + 4000, rig::DATA | total | 4000]);
        vf.put(
            0,
            [
                address + 8000,
                rig::DATA | total | 1000 | rig::EOP | rig::RS,
            ],
        );
        rig.ring(0, 0);
        rig.tick();
        let got = rig.got(1, 0);
        let lens: Vec<usize> = got.iter().map(Got::len).collect();
        assert_eq!(lens, [2048, 2048, 2048, 2048, 808], "{model}");
        for piece in &got[..4] {
            assert_eq!(piece.status(), 1, "only DD before the last");
        }
        assert_eq!(got[4].status() & 3, 3);
        let data: Vec<u8> = got.into_iter().flat_map(|got| got.data).collect();
        assert_eq!(data, sent);
        rig.assert_quiet();
    }
}

#[test]
fn a_frame_waits_for_its_last_descriptor_across_doorbells() {
    let mut rig = Rig::new(Model::I82599, 2);
    let sent = frame(mac(1), mac(0), 200);
    let address = rig.vfs[0].stage(0, &sent);
    let total = 200 << 46;
    rig.vfs[0].put(0, [address, rig::DATA | total | 100]);
    rig.ring(0, 0);
    rig.tick();
    assert!(rig.frames(1).is_empty());
    assert!(!rig.path.has_work(), "half a frame is no work");
    rig.vfs[0].put(
        0,
        [address + 100, rig::DATA | total | 100 | rig::EOP | rig::RS],
    );
    rig.ring(0, 0);
    assert!(rig.path.has_work());
    rig.tick();
    assert_eq!(rig.frames(1), [sent]);
}

#[test]
fn a_full_ring_drops_by_name_and_recovers() {
    let mut rig = Rig::new(Model::I82599, 2);
    for _ in 0..4 {
        for _ in 0..100 {
            rig.post(0, &frame(mac(1), mac(0), 60));
        }
        rig.ring(0, 0);
        rig.tick();
    }
    assert_eq!(rig.frames(1).len(), 255);
    let stats = rig.path.stats(1).expect("a function");
    assert_eq!(stats.delivered, 255);
    assert_eq!(
        stats.drops.get(vfnic_sim::data::DropReason::NoDescriptors),
        145
    );
    assert_eq!(
        stats.gprc, 400,
        "this card counts what it missed as received"
    );
    assert_eq!(rig.path.rx(1, 0).expect("a queue").take_dropped(), 145);
    rig.send(0, &frame(mac(1), mac(0), 60));
    assert_eq!(rig.frames(1).len(), 1);
}

#[test]
fn a_queue_that_may_not_drop_holds_its_sender_back() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path.filters_mut().set_queue_drop(1, false);
    for _ in 0..3 {
        for _ in 0..100 {
            rig.post(0, &frame(mac(1), mac(0), 60));
        }
        rig.ring(0, 0);
        rig.tick();
    }
    assert!(!rig.path.has_work(), "nothing to do until descriptors come");
    assert_eq!(rig.frames(1).len(), 255);
    assert!(rig.path.has_work());
    rig.tick();
    assert_eq!(rig.frames(1).len(), 45);
    let stats = rig.path.stats(1).expect("a function");
    assert_eq!((stats.delivered, stats.drops.total()), (300, 0));
    // With flow control nobody may drop, whatever the queue says.
    rig.path.filters_mut().set_queue_drop(1, true);
    rig.path.filters_mut().set_flow_control(true);
    for _ in 0..3 {
        for _ in 0..100 {
            rig.post(0, &frame(mac(1), mac(0), 60));
        }
        rig.ring(0, 0);
        rig.tick();
    }
    assert_eq!(rig.frames(1).len(), 255);
    rig.tick();
    assert_eq!(rig.frames(1).len(), 45);
}

#[test]
fn the_wire_takes_what_nobody_owns_and_brings_what_somebody_does() {
    let mut rig = Rig::new(Model::I82599, 2);
    let wire = Tap::default();
    let host = Tap::default();
    rig.path.set_uplink(Box::new(wire.clone()));
    rig.path.set_host(Box::new(host.clone()));
    let stranger = [0x02, 0xff, 0, 0, 0, 1];
    let out = frame(stranger, mac(0), 100);
    rig.send(0, &out);
    assert_eq!(wire.left(), [out]);
    // To the PF's own address: the host, not the wire.
    let up = frame(mac(2), mac(0), 80);
    rig.send(0, &up);
    assert_eq!(host.left(), [up]);
    assert!(wire.left().is_empty());
    // Broadcast: everybody else, host and wire.
    let all = frame([0xff; 6], mac(0), 70);
    rig.send(0, &all);
    assert_eq!(rig.frames(1), std::slice::from_ref(&all));
    assert!(rig.frames(0).is_empty(), "not the sender");
    assert_eq!(host.left(), std::slice::from_ref(&all));
    assert_eq!(wire.left(), [all]);
    // In by the wire, short: padded, and no LB bit.
    let answer = frame(mac(1), stranger, 42);
    wire.inject(&answer);
    assert!(rig.path.has_work());
    rig.tick();
    let got = rig.got(1, 0);
    assert_eq!(got[0].data[..42], answer[..]);
    assert_eq!((got[0].len(), got[0].status()), (60, 3));
    // From the host to a VF.
    let down = frame(mac(0), mac(2), 90);
    host.inject(&down);
    rig.tick();
    assert_eq!(rig.frames(0), [down]);
    // Nobody's, from the wire.
    wire.inject(&frame(stranger, mac(0), 60));
    rig.tick();
    let stats = rig.path.wire_stats();
    assert_eq!((stats.received, stats.sent), (2, 2));
    assert_eq!(stats.drops.get(vfnic_sim::data::DropReason::Filtered), 1);
    rig.assert_quiet();
}

#[test]
fn link_down_stops_the_engines_and_up_again_starts_them() {
    let mut rig = Rig::new(Model::I82599, 2);
    let wire = Tap::default();
    rig.path.set_uplink(Box::new(wire.clone()));
    let mut link = rig.path.filters().link();
    link.up = false;
    rig.path.filters_mut().set_link(link);
    let local = frame(mac(1), mac(0), 60);
    let remote = frame([2, 9, 9, 9, 9, 9], mac(0), 60);
    rig.send(0, &local);
    assert!(rig.frames(1).is_empty());
    assert!(!rig.path.has_work());
    // Told to, the switch works without a wire, and only the wire's share is lost.
    rig.path.filters_mut().set_loopback_without_link(true);
    rig.send(0, &remote);
    assert_eq!(rig.frames(1), [local]);
    let drops = rig.path.stats(0).expect("a function").drops;
    assert_eq!(drops.get(vfnic_sim::data::DropReason::LinkDown), 1);
    link.up = true;
    rig.path.filters_mut().set_link(link);
    rig.send(0, &remote);
    assert_eq!(wire.left(), [remote]);
}

#[test]
fn a_frame_may_take_all_the_descriptors_there_are_and_no_more() {
    for (posted, arrives) in [(4, false), (5, true)] {
        let mut rig = Rig::new(Model::I82599, 2);
        rig.path.filters_mut().set_max_frame(9728);
        let rx = rig.path.rx(1, 0).expect("a queue");
        rx.tail_word().store(posted);
        // Five buffers of 2 KiB.
        rig.send(0, &frame(mac(1), mac(0), 9000));
        let stats = rig.path.stats(1).expect("a function");
        let counted = (stats.delivered, stats.drops.total());
        assert_eq!(counted, if arrives { (1, 0) } else { (0, 1) }, "{posted}");
        assert_eq!(rig.got(1, 0).len(), if arrives { 5 } else { 0 });
        rig.assert_quiet();
    }
}
