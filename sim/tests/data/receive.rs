//! The receiving side: formats, limits, verdicts, queues, counters.

use vfnic_hw::{Family, Model};
use vfnic_sim::data::{Completion, DropReason, RssTable, RxSettings, VfStats};

use crate::rig::{Rig, frame, mac};

fn udp(len: usize) -> Vec<u8> {
    let mut out = Vec::new();
    let payload: Vec<u8> = (0..len).map(|n| n as u8).collect();
    etherparse::PacketBuilder::ethernet2(mac(0), mac(1))
        .ipv4([66, 9, 149, 187], [161, 142, 100, 80], 64)
        .udp(2794, 1766)
        .write(&mut out, &payload)
        .expect("short");
    out
}

#[test]
fn verdicts_are_computed() {
    for model in Model::ALL {
        let (l4, ip) = match model.family() {
            Family::Ixgbevf => (30, 31),
            Family::Igbvf => (29, 30),
        };
        let mut rig = Rig::new(model, 2);
        let good = udp(40);
        let mut bad_l4 = good.clone();
        bad_l4[50] ^= 4;
        let mut bad_ip = good.clone();
        bad_ip[22] ^= 4;
        let mut none = good.clone();
        none[40..42].fill(0);
        for (sent, status) in [
            (&good, 0x4_0073),
            (&bad_l4, 0x4_0073 | 1 << l4),
            (&bad_ip, 0x4_0073 | 1 << ip),
            // The 82599's erratum 44.
            (
                &none,
                if model == Model::I82599 {
                    0x4_0073 | 1 << l4
                } else {
                    0x4_0043
                },
            ),
        ] {
            rig.send(0, sent);
            let got = rig.got(1, 0).remove(0);
            assert_eq!(got.status(), status, "{model}");
            assert_eq!(got.packet_type(), 0x210);
            assert_eq!(got.data, *sent);
        }
    }
}

#[test]
fn padding_behind_a_packet_is_not_part_of_its_sum() {
    let mut rig = Rig::new(Model::I350, 2);
    let mut short = udp(3);
    assert_eq!(short.len(), 45);
    rig.send(0, &short);
    assert_eq!(rig.got(1, 0)[0].status() & 0x7000_0070, 0x70);
    // Rubbish in the padding changes nothing, in the packet it does.
    short.resize(60, 0xa5);
    rig.send(0, &short);
    assert_eq!(rig.got(1, 0)[0].status() & 0x7000_0070, 0x70);
    short[44] ^= 1;
    rig.send(0, &short);
    assert_eq!(rig.got(1, 0)[0].status() & 0x7000_0070, 0x2000_0070);
}

#[test]
fn linux_igbvf_splits_always() {
    let mut rig = Rig::new(Model::I82576, 2);
    // Its SRRCTL: drop, split always, 128-byte header buffers, 2 KiB packet buffers.
    rig.start(1, RxSettings::decode(Model::I82576, 0x8a00_0202, 0));
    let long = udp(1000);
    rig.send(0, &long);
    let got = rig.got(1, 0).remove(0);
    assert_eq!(rig.vfs[1].header(0, got.index, 42), long[..42]);
    assert_eq!(got.data, long[42..]);
    assert_eq!(
        (got.words[0] >> 21 & 0x3ff, got.words[0] >> 31 & 1),
        (42, 1)
    );
    // What fits the header buffer goes there whole.
    let short = udp(20);
    rig.send(0, &short);
    let got = rig.got(1, 0).remove(0);
    assert_eq!(
        (
            got.len(),
            got.words[0] >> 21 & 0x3ff,
            got.words[0] >> 31 & 1
        ),
        (0, 62, 0)
    );
    assert_eq!(rig.vfs[1].header(0, got.index, 62), short);
    // No header to be seen: the header buffer is filled first.
    let other = frame(mac(1), mac(0), 500);
    rig.send(0, &other);
    let got = rig.got(1, 0).remove(0);
    assert_eq!(
        (
            got.len(),
            got.words[0] >> 21 & 0x3ff,
            got.words[0] >> 31 & 1
        ),
        (372, 128, 0)
    );
    assert_eq!(rig.vfs[1].header(0, got.index, 128), other[..128]);
    assert_eq!(got.data, other[128..]);
    rig.assert_quiet();
}

#[test]
fn an_ixgbe_splits_by_psrtype_only() {
    let mut rig = Rig::new(Model::X540, 2);
    rig.start(1, RxSettings::decode(Model::X540, 0x0400_0402, 0));
    let long = udp(1000);
    for (psrtype, header) in [
        (0, 0),
        (1 << 12, 14),
        (1 << 8 | 1 << 12, 34),
        (1 << 5 | 1 << 8, 42),
        (1 << 4, 0),
    ] {
        rig.path.set_psrtype(1, psrtype);
        rig.send(0, &long);
        let got = rig.got(1, 0).remove(0);
        assert_eq!(got.words[0] >> 21 & 0x3ff, header as u64);
        assert_eq!(got.words[0] >> 31 & 1, u64::from(header > 0));
        assert_eq!(got.data, long[header..]);
    }
}

#[test]
fn the_legacy_format_keeps_the_address() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.start(1, RxSettings::decode(Model::I82599, 0x0000_0002, 0));
    let sent = udp(100);
    rig.send(0, &sent);
    let words = rig.vfs[1].rx_descriptor(0, 0);
    assert_eq!(words[0], rig.vfs[1].rx_buffer(0, 0));
    assert_eq!(words[1], 0x0000_0073_0000_0000 | sent.len() as u64);
}

#[test]
fn limits_are_the_cards_the_pools_and_the_queues() {
    // With CRC: 1518 goes, 1519 does not; a tag makes room for itself.
    let mut rig = Rig::new(Model::X540, 2);
    rig.send(0, &frame(mac(1), mac(0), 1514));
    rig.send(0, &frame(mac(1), mac(0), 1515));
    assert_eq!(rig.frames(1).len(), 1);
    let drops = |rig: &Rig| {
        rig.path
            .stats(1)
            .expect("a function")
            .drops
            .get(DropReason::Oversize)
    };
    assert_eq!(drops(&rig), 1);
    let mut tagged = frame(mac(1), mac(0), 1514);
    tagged.splice(12..12, [0x81, 0, 0, 0]);
    rig.send(0, &tagged);
    assert_eq!(rig.frames(1).len(), 1);
    // RLPML.
    let settings = RxSettings::decode(Model::X540, 0x0200_0002, 1 << 15 | 1000);
    rig.path.rx(1, 0).expect("a queue").set_settings(settings);
    rig.send(0, &frame(mac(1), mac(0), 996));
    rig.send(0, &frame(mac(1), mac(0), 997));
    assert_eq!((rig.frames(1).len(), drops(&rig)), (1, 2));
    // There a tag makes room for itself as well.
    for len in [996, 997] {
        let mut tagged = frame(mac(1), mac(0), len);
        tagged.splice(12..12, [0x81, 0, 0, 0]);
        rig.send(0, &tagged);
    }
    assert_eq!((rig.frames(1).len(), drops(&rig)), (1, 3));
    // The 82599 has no such register.
    assert_eq!(
        RxSettings::decode(Model::I82599, 0x0200_0002, 1 << 15 | 1000).max_len,
        None
    );
    // igbvf: the pool's own limit, nothing added for a tag.
    let mut rig = Rig::new(Model::I82576, 2);
    rig.path.filters_mut().set_max_len(1, Some(1522));
    rig.send(0, &frame(mac(1), mac(0), 1518));
    rig.send(0, &frame(mac(1), mac(0), 1519));
    assert_eq!((rig.frames(1).len(), drops(&rig)), (1, 1));
}

#[test]
fn rss_spreads_by_each_owners_table() {
    let key = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];
    let mut table = RssTable {
        key,
        types: 1 << 17 | 1 << 22,
        ..RssTable::default()
    };
    // Hash 0x51ccc178: index 56 of 64, 120 of 128.
    table.reta[56] = 1;
    let mut rig = Rig::new(Model::X550, 2);
    rig.path.set_vf_rss(1, table);
    rig.send(0, &udp(30));
    let got = rig.got(1, 1);
    assert_eq!(got[0].rss(), (7, 0x51cc_c178));
    assert!(rig.got(1, 0).is_empty());
    assert_eq!(rig.causes()[1].1.rx, 2);
    table.reta[56] = 0;
    table.reta[120] = 3;
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path.filters_mut().set_rss(table);
    rig.send(0, &udp(30));
    assert_eq!(
        rig.got(1, 0)[0].rss(),
        (7, 0x51cc_c178),
        "one queue until RQPL says two"
    );
    rig.path.set_psrtype(1, 1 << 29);
    rig.send(0, &udp(30));
    assert_eq!(rig.got(1, 1).len(), 1);
}

#[test]
fn completions_can_come_late_and_in_bursts() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path.set_completion(Completion {
        burst: 8,
        delay_ns: 10_000,
        scribble: true,
    });
    for _ in 0..5 {
        rig.post(0, &frame(mac(1), mac(0), 60));
    }
    rig.ring(0, 0);
    rig.tick();
    assert!(rig.got(1, 0).is_empty() && rig.causes().is_empty());
    assert_eq!(rig.path.next_due(), Some(10_000));
    for _ in 0..4 {
        rig.post(0, &frame(mac(1), mac(0), 60));
    }
    rig.ring(0, 0);
    rig.tick();
    // The eighth fills a burst, and all there is goes.
    assert_eq!(rig.got(1, 0).len(), 9);
    assert_eq!(rig.causes().len(), 2);
    rig.post(0, &frame(mac(1), mac(0), 60));
    rig.ring(0, 0);
    rig.tick();
    assert!(rig.got(1, 0).is_empty());
    rig.now = 10_000;
    rig.tick();
    assert_eq!(rig.got(1, 0).len(), 1);
    assert_eq!(rig.path.next_due(), None);
    rig.assert_quiet();
}

#[test]
fn counters_have_the_hardwares_widths() {
    let mut rig = Rig::new(Model::I82599, 2);
    rig.path
        .stats_mut(1)
        .expect("a function")
        .preset_near_wrap(2);
    rig.path
        .stats_mut(0)
        .expect("a function")
        .preset_near_wrap(2);
    for _ in 0..3 {
        rig.send(0, &frame(mac(1), mac(0), 60));
    }
    let stats = *rig.path.stats(1).expect("a function");
    assert_eq!(VfStats::low(stats.gprc), 1);
    assert_eq!(
        (VfStats::high(stats.gorc), VfStats::low(stats.gorc)),
        (0, 3 * 64 - 2)
    );
    assert_eq!(VfStats::low(rig.path.stats(0).expect("a function").gptc), 1);
    // Loopback is counted for igb, multicast without broadcast.
    let mut rig = Rig::new(Model::I82576, 2);
    let wire = crate::rig::Tap::default();
    rig.path.set_uplink(Box::new(wire.clone()));
    rig.path
        .filters_mut()
        .set_accept(1, vfnic_sim::data::Accept::all());
    rig.send(0, &frame(mac(1), mac(0), 60));
    wire.inject(&frame([1, 0, 0x5e, 0, 0, 1], [2, 7, 7, 7, 7, 7], 60));
    wire.inject(&frame([0xff; 6], [2, 7, 7, 7, 7, 7], 60));
    rig.tick();
    let stats = rig.path.stats(1).expect("a function");
    assert_eq!(
        (
            stats.gprc,
            stats.gprlbc,
            stats.mprc,
            stats.gorc,
            stats.gorlbc
        ),
        (3, 1, 1, 192, 64)
    );
    let stats = rig.path.stats(0).expect("a function");
    assert_eq!((stats.gptc, stats.gptlbc, stats.gotc), (1, 1, 64));
}

/// An 82576 or I350 spreads the frames of a pool that has RSS over its two queues, by the lowest bit of the table's entry.
#[test]
fn an_igb_spreads_a_pool_over_two_queues_where_it_is_told_to() {
    for model in [Model::I82576, Model::I350] {
        for (entry, on, queue) in [
            (1, false, 0),
            (0, true, 0),
            (1, true, 1),
            (2, true, 0),
            (3, true, 1),
        ] {
            let mut rig = Rig::new(model, 2);
            let table = RssTable {
                reta: [entry; 128],
                types: u32::MAX,
                ..RssTable::default()
            };
            let filters = rig.path.filters_mut();
            filters.set_rss(table);
            filters.set_pool_rss(1, on);
            rig.send(0, &udp(40));
            let got = [rig.got(1, 0).len(), rig.got(1, 1).len()];
            let mut expected = [0; 2];
            expected[queue] = 1;
            assert_eq!(got, expected, "{model} {entry} {on}");
        }
    }
}
