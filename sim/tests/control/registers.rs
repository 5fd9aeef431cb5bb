//! Register files: reset values, masks, access rules (ixgbevf.md §3, igbvf.md §2).

use std::time::Duration;

use vfnic_hw::Model;
use vfnic_sim::{Card, ViolationKind};

use super::raw::{card_and_vf, one_vf};

fn kinds(card: &Card) -> Vec<ViolationKind> {
    card.take_violations().into_iter().map(|v| v.kind).collect()
}

#[test]
fn reset_values_of_the_82599_family() {
    for model in [Model::I82599, Model::X540, Model::X550] {
        let (card, vf) = card_and_vf(Card::builder(model).vfs(3));
        assert_eq!(
            vf.read(0x008),
            0x000c_0080 | 3 << 10,
            "VFSTATUS, bus master on"
        );
        assert_eq!(vf.read(0x010), 0x7000_0080, "VFLINKS at 10G");
        assert_eq!(vf.read(0x2fc), 0, "VFMAILBOX");
        assert_eq!(vf.read(0x3190), 0x8888_8888, "VFRXMEMWRAP");
        for queue in 0..8 {
            let (rx, tx) = (0x1000 + 0x40 * queue, 0x2000 + 0x40 * queue);
            assert_eq!(vf.read(rx + 0x14), 0x402, "VFSRRCTL({queue})");
            assert_eq!(vf.read(rx + 0x0c), 0xa200, "VFDCA_RXCTRL({queue})");
            assert_eq!(vf.read(tx + 0x0c), 0x2a00, "VFDCA_TXCTRL({queue})");
            assert_eq!(vf.read(rx + 0x28), 0, "VFRXDCTL({queue})");
            assert_eq!(vf.read(tx + 0x28), 0, "VFTXDCTL({queue})");
        }
        for zero in [
            0x000, 0x100, 0x104, 0x108, 0x10c, 0x110, 0x114, 0x120, 0x140, 0x300, 0x820,
        ] {
            assert_eq!(vf.read(zero), 0, "{zero:#x}");
        }
        card.assert_no_violations();
    }
}

#[test]
fn reset_values_of_the_82576_family() {
    for (model, queues) in [(Model::I82576, 2), (Model::I350, 1)] {
        let (card, vf) = card_and_vf(Card::builder(model).vfs(4));
        assert_eq!(
            vf.read(0x008),
            0x800d_0483,
            "VTSTATUS with 4 VFs and link, as QEMU's"
        );
        assert_eq!(vf.read(0x000), 0, "VTCTRL");
        assert_eq!(vf.read(0xc40), 0, "V2PMAILBOX");
        for queue in 0..queues {
            let (rx, tx) = (0x2800 + 0x100 * queue, 0x3800 + 0x100 * queue);
            assert_eq!(vf.read(rx + 0x0c), 0x400, "SRRCTL({queue})");
            assert_eq!(vf.read(rx + 0x28), 0x0001_0000, "RXDCTL({queue})");
            assert_eq!(vf.read(tx + 0x14), 0x2a00, "TXCTL({queue})");
            assert_eq!(vf.read(tx + 0x28), 0, "TXDCTL({queue})");
        }
        card.assert_no_violations();
    }
}

#[test]
fn the_i350_has_one_queue_pair() {
    let (card, vf) = one_vf(Model::I350);
    vf.write(0x2900, 0x8000);
    assert_eq!(vf.read(0x2900), 0);
    assert_eq!(
        kinds(&card),
        [
            ViolationKind::UnknownRegister {
                offset: 0x2900,
                write: true
            },
            ViolationKind::UnknownRegister {
                offset: 0x2900,
                write: false
            },
        ]
    );
}

#[test]
fn what_can_be_written_reads_back() {
    let (card, vf) = one_vf(Model::X550);
    for (offset, value, back) in [
        (0x1000, 0x1234_5680, 0x1234_5680),
        (0x1004, 0x12, 0x12),
        (0x1008, 0x1000, 0x1000),
        (0x2000, 0x4321_0080, 0x4321_0080),
        (0x2004, 0x21, 0x21),
        (0x2008, 0x2000, 0x2000),
        (0x100c, 0x200, 0x200),
        (0x1014, 0x1200_0402, 0x1200_0402),
        (0x1028, 0x4000_8000 | 1518, 0x4000_8000 | 1518),
        (0x2028, 0x0008_0120, 0x0008_0120),
        (0x2038, 0x1000_0001, 0x1000_0001),
        (0x203c, 5, 5),
        (0x0120, 0xffff_ffff, 0x8383_8383),
        (0x0140, 0xffff_ffff, 0x83),
        (0x0110, 0xffff_ffff, 7),
        (0x0114, 0xffff_ffff, 7),
        (0x0824, 0x8000_00c8, 0x8000_00c8),
        (0x0300, 0x2000_1330, 0x2000_1330),
        (0x3000, 0x0033_0001, 0x0033_0001),
        (0x3100, 0xda56_5a6d, 0xda56_5a6d),
        (0x323c, 0x0302_0100, 0x0302_0100),
    ] {
        vf.write(offset, value);
        assert_eq!(vf.read(offset), back, "{offset:#x}");
    }
    card.assert_no_violations();
}

#[test]
fn only_the_x550_has_rss_registers_and_only_newer_parts_rlpml() {
    for model in [Model::I82599, Model::X540] {
        let (card, vf) = one_vf(model);
        for offset in [0x3000, 0x3100, 0x3200] {
            vf.write(offset, 0x0101_0101);
            assert_eq!(vf.read(offset), 0, "{model} {offset:#x}");
        }
        assert_eq!(
            kinds(&card).len(),
            3,
            "the writes are told, reading is harmless"
        );
        vf.write(0x1028, 0x4000_8000 | 1518);
        let rlpml = if model == Model::X540 {
            0x8000 | 1518
        } else {
            0
        };
        assert_eq!(vf.read(0x1028), 0x4000_0000 | rlpml, "{model}");
        card.assert_no_violations();
    }
}

#[test]
fn g14_writes_where_nothing_can_be_written_are_told_and_do_nothing() {
    let (card, vf) = one_vf(Model::I82599);
    for (offset, name) in [(0x008, "VFSTATUS"), (0x010, "VFLINKS"), (0x101c, "VFGPRC")] {
        let before = vf.read(offset);
        vf.write(offset, !before);
        assert_eq!(vf.read(offset), before);
        let expected = ViolationKind::ReadOnlyWrite {
            register: name.to_owned(),
            value: !before,
        };
        assert_eq!(kinds(&card), [expected]);
    }
    assert_eq!(vf.read(0x4000), u32::MAX);
    assert_eq!(vf.read(0x102), u32::MAX);
    vf.write(0x0104_0000, 0);
    assert_eq!(vf.read(0x898), 0);
    assert_eq!(
        kinds(&card),
        [
            ViolationKind::BadAccess { offset: 0x4000 },
            ViolationKind::BadAccess { offset: 0x102 },
            ViolationKind::BadAccess {
                offset: 0x0104_0000
            },
            ViolationKind::UnknownRegister {
                offset: 0x898,
                write: false
            },
        ]
    );
}

#[test]
fn g14_no_offset_and_no_value_upsets_it() {
    for model in Model::ALL {
        let (card, vf) = one_vf(model);
        for value in [0, u32::MAX, 0x5555_5555, 1 << 25, 1 << 26] {
            for offset in (0..0x4000).step_by(4) {
                vf.write(offset, value);
                vf.read(offset);
            }
        }
        vf.sleep(Duration::from_secs(1));
        let _ = card.take_violations();
    }
}

#[test]
fn link_speeds_are_coded_as_the_part_codes_them() {
    let (card, vf) = one_vf(Model::X550);
    for (mbps, value) in [
        (10, 0x4000_0000),
        (100, 0x5000_0000),
        (1_000, 0x6000_0000),
        (2_500, 0x7800_0000),
        (5_000, 0x5800_0000),
        (10_000, 0x7000_0000),
    ] {
        card.pf().set_speed(mbps).expect("a speed of the X550");
        assert_eq!(vf.read(0x10) & !0x80, value, "{mbps} Mb/s");
    }
    card.pf().set_link(false);
    card.pf().set_link(true);
    assert_eq!(
        vf.read(0x10),
        0x7000_0000,
        "bit 7: it was down since the last read"
    );
    assert_eq!(vf.read(0x10), 0x7000_0080);
    let (igb, vf) = one_vf(Model::I82576);
    for (mbps, value) in [(10, 0x03), (100, 0x43), (1_000, 0x83)] {
        igb.pf().set_speed(mbps).expect("a speed of the 82576");
        assert_eq!(vf.read(0x8) & 0xff, value, "{mbps} Mb/s");
    }
    igb.pf().set_link(false);
    assert_eq!(vf.read(0x8) & 2, 0);
    assert!(igb.pf().set_speed(10_000).is_err());
}

#[test]
fn enable_bits_read_back_and_flush_clears_itself() {
    for (model, rx, tx) in [
        (Model::X540, 0x1028, 0x2028),
        (Model::I82576, 0x2828, 0x3828),
    ] {
        let (card, vf) = one_vf(model);
        let (rx_base, tx_base) = (rx - 0x28, tx - 0x28);
        for base in [rx_base, tx_base] {
            vf.write(base, 0x10_0000);
            vf.write(base + 8, 1024);
        }
        vf.write(rx, 1 << 25);
        vf.write(tx, 1 << 25 | 32);
        assert_eq!(vf.read(rx), 1 << 25, "{model}");
        assert_eq!(vf.read(tx), 1 << 25 | 32, "{model}");
        vf.write(tx, 0x0400_0000);
        assert_eq!(vf.read(tx), 0, "{model}: SWFLSH alone turns it off");
        vf.write(rx, 0);
        assert_eq!(vf.read(rx), 0, "{model}");
        card.assert_no_violations();
    }
}

#[test]
fn rings_that_cannot_be_are_told_when_enabled() {
    let (card, vf) = one_vf(Model::X540);
    vf.write(0x1000, 0x10_0040);
    vf.write(0x1008, 1024);
    vf.write(0x1028, 1 << 25);
    let queue = "RX 0".to_owned();
    assert_eq!(
        kinds(&card),
        [ViolationKind::RingBase {
            queue: queue.clone(),
            base: 0x10_0040
        }]
    );
    vf.write(0x1028, 0);
    vf.write(0x1000, 0x10_0000);
    vf.write(0x1008, 1000);
    vf.write(0x1028, 1 << 25);
    assert_eq!(
        kinds(&card),
        [ViolationKind::RingLength { queue, len: 1000 }]
    );
    vf.write(0x2068, 1 << 25);
    assert_eq!(
        kinds(&card),
        [ViolationKind::RingLength {
            queue: "TX 1".to_owned(),
            len: 0
        }]
    );
}

#[test]
fn tails_and_heads_have_their_time() {
    let (card, vf) = one_vf(Model::I82599);
    vf.write(0x1000, 0x10_0000);
    vf.write(0x1008, 64 * 16);
    vf.write(0x1010, 0);
    vf.write(0x1018, 0);
    card.assert_no_violations();
    vf.write(0x1018, 63);
    let queue = || "RX 0".to_owned();
    assert_eq!(
        kinds(&card),
        [ViolationKind::TailWhileDisabled {
            queue: queue(),
            tail: 63
        }]
    );
    vf.write(0x1018, 0);
    vf.write(0x1028, 1 << 25);
    vf.write(0x1010, 0);
    vf.write(0x1018, 63);
    assert_eq!(vf.read(0x1018), 63);
    card.assert_no_violations();
    vf.write(0x1018, 64);
    assert_eq!(
        kinds(&card),
        [ViolationKind::TailRange {
            queue: queue(),
            tail: 64,
            size: 64
        }]
    );
    vf.write(0x1010, 5);
    vf.write(0x1008, 128);
    let changed = |register: &str, value| ViolationKind::ChangedWhileEnabled {
        register: register.to_owned(),
        value,
    };
    assert_eq!(
        kinds(&card),
        [changed("VFRDH(0)", 5), changed("VFRDLEN(0)", 128)]
    );
}

#[test]
fn enabling_an_igbvf_queue_puts_its_head_to_0() {
    for model in [Model::I82576, Model::I350] {
        let (card, vf) = one_vf(model);
        vf.write(0x280c, 2);
        for queue in [0x2800, 0x3800] {
            vf.write(queue, 0x10_0000);
            vf.write(queue + 0x08, 64 * 16);
            vf.write(queue + 0x10, 5);
            assert_eq!(vf.read(queue + 0x10), 5);
            vf.write(queue + 0x28, 1 << 25);
            assert_eq!(vf.read(queue + 0x10), 0);
            // As DPDK's driver does.
            vf.write(queue + 0x10, 0);
        }
        assert_eq!(kinds(&card), []);
    }
}

#[test]
fn a_tail_rung_without_bus_mastering_is_told() {
    let (card, vf) = one_vf(Model::I82599);
    vf.write(0x2000, 0x10_0000);
    vf.write(0x2008, 64 * 16);
    vf.write(0x2028, 1 << 25);
    vf.function.set_bus_master(false).expect("a config write");
    let bell = vf.bar.doorbell(0x2018).expect("TDT is in the BAR");
    bell.ring(1);
    assert_eq!(vf.read(0x2018), 1);
    assert_eq!(
        kinds(&card),
        [ViolationKind::NoBusMaster {
            queue: "TX 0".to_owned()
        }]
    );
    assert!(vf.bar.doorbell(0x4000).is_err());
    assert!(vf.bar.doorbell(0x2019).is_err());
}

#[test]
fn config_space_is_a_vfs() {
    let (card, vf) = one_vf(Model::I82599);
    let ids = vf.function.ids();
    assert_eq!(
        (ids.vendor, ids.device, ids.class),
        (0x8086, 0x10ed, 0x02_0000)
    );
    let read = |offset, len: usize| {
        let mut data = vec![0; len];
        vf.function.read_config(offset, &mut data).expect("inside");
        data
    };
    assert_eq!(read(0, 4), [0x86, 0x80, 0xed, 0x10]);
    assert_eq!(read(0x34, 1), [0x70]);
    assert_eq!(
        read(0x70, 4),
        [0x11, 0xa0, 0x02, 0x00],
        "MSI-X, three vectors"
    );
    assert_eq!(read(0x3c, 2), [0, 0], "no INTx");
    assert_eq!(read(0xa3, 1), [0]);
    assert_eq!(read(0x04, 2), [4, 0], "bus master");
    vf.function
        .write_config(0x04, &[0xff, 0xff])
        .expect("inside");
    assert_eq!(
        read(0x04, 2),
        [6, 0],
        "memory and bus master are all there is"
    );
    assert!(vf.function.read_config(4094, &mut [0; 4]).is_err());
    assert!(vf.function.write_config(u16::MAX, &[0]).is_err());
    assert_eq!(vf.function.vector_count(), 3);
    assert!(vf.function.bar(3).is_err());
    card.assert_no_violations();
}
