//! The short way and the long way are one: the same rings give the same memory, counters and interrupts, bit for bit.

use proptest::prelude::*;
use vfnic_hw::Model;
use vfnic_sim::data::{RssTable, RxSettings};

use crate::rig::{self, CC, Context, Rig, frame, mac};
use crate::vf::SIZE;

/// A frame to VF 1, VF 2 or nobody, right or subtly wrong.
#[derive(Clone, Debug)]
struct Made {
    to: u8,
    kind: u8,
    len: usize,
    /// Byte to damage after everything was computed.
    damage: Option<usize>,
    report: bool,
    cc: bool,
    shift: u64,
}

fn bytes(made: &Made) -> Vec<u8> {
    let builder = etherparse::PacketBuilder::ethernet2(mac(0), mac(made.to));
    let payload: Vec<u8> = (0..made.len).map(|n| (n * 13 + made.len) as u8).collect();
    let mut out = Vec::new();
    match made.kind {
        0 => builder
            .ipv4([10, 0, 0, 1], [10, 0, 0, made.to], 9)
            .udp(5, 6)
            .write(&mut out, &payload)
            .expect("short"),
        1 => builder
            .ipv4([10, 0, 0, 1], [10, 0, 0, made.to], 9)
            .tcp(5, 6, 7, 8)
            .write(&mut out, &payload)
            .expect("short"),
        2 => builder
            .ipv6([1; 16], [2; 16], 9)
            .udp(5, 6)
            .write(&mut out, &payload)
            .expect("short"),
        3 => builder
            .ipv6([1; 16], [2; 16], 9)
            .tcp(5, 6, 7, 8)
            .write(&mut out, &payload)
            .expect("short"),
        4 => builder
            .ipv4([10, 0, 0, 1], [10, 0, 0, made.to], 9)
            .icmpv4_echo_request(1, 2)
            .write(&mut out, &payload)
            .expect("short"),
        5 => {
            builder
                .ipv4([10, 0, 0, 1], [10, 0, 0, made.to], 9)
                .udp(5, 6)
                .write(&mut out, &payload)
                .expect("short");
            // No checksum.
            out[40..42].fill(0);
        }
        6 => {
            builder
                .ipv4([10, 0, 0, 1], [10, 0, 0, made.to], 9)
                .udp(5, 6)
                .write(&mut out, &payload)
                .expect("short");
            // A fragment, header checksum to match.
            out[20] |= 0x20;
            let low = u16::from_be_bytes([out[24], out[25]]);
            let sum = u32::from(!low) + 0x2000;
            let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("folded");
            out[24..26].copy_from_slice(&sum.to_be_bytes());
        }
        7 => out = frame(mac(made.to), mac(0), 60 + made.len),
        _ => {
            builder
                .single_vlan(etherparse::VlanId::try_new(0).expect("a VID"))
                .ipv4([10, 0, 0, 1], [1; 4], 9)
                .udp(5, 6)
                .write(&mut out, &payload)
                .expect("short");
        }
    }
    if let Some(at) = made.damage {
        let at = at % out.len();
        // The addresses stay, or it would go elsewhere.
        if at >= 12 {
            out[at] ^= 1 << (at % 8);
        }
    }
    out
}

fn made() -> impl Strategy<Value = Made> {
    let len = prop_oneof![3 => 0usize..30, 1 => 0usize..1450];
    let damage = proptest::option::weighted(0.3, 12usize..1500);
    (1u8..4, 0u8..9, len, damage, any::<[bool; 3]>(), 0u64..32).prop_map(
        |(to, kind, len, damage, [report, cc, odd], shift)| Made {
            to,
            kind,
            len,
            damage,
            report,
            cc,
            shift: if odd { shift } else { 0 },
        },
    )
}

fn world(model: Model, rss: bool, small: bool, armed: bool) -> Rig {
    let mut rig = Rig::new(model, 3);
    rig.log.armed = armed;
    if rss {
        let mut table = RssTable {
            types: 0x0033_0000,
            ..RssTable::default()
        };
        for (index, byte) in table.key.iter_mut().enumerate() {
            *byte = (index * 73 + 5) as u8;
        }
        for (entry, queue) in table.reta.iter_mut().zip([0, 1].into_iter().cycle()) {
            *entry = queue;
        }
        rig.path.filters_mut().set_rss(table);
        for pool in 0..3 {
            rig.path.set_vf_rss(pool, table);
            rig.path.set_psrtype(pool, 1 << 29);
        }
    }
    if small {
        // 1 KiB buffers: longer frames need two.
        rig.start(1, RxSettings::decode(model, 0x0200_0001, 0));
    }
    rig
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(150))]

    #[test]
    fn short_and_long_way_agree(
        frames in proptest::collection::vec(made(), 1..90),
        model in 0usize..5,
        rss in any::<bool>(),
        small in any::<bool>(),
        scarce in any::<bool>(),
    ) {
        let model = Model::ALL[model];
        let mut short = world(model, rss, small, false);
        let mut long = world(model, rss, small, true);
        for rig in [&mut short, &mut long] {
            if scarce {
                // Five descriptors, then drops.
                rig.path.rx(1, 0).expect("a queue").tail_word().store(5);
            }
            rig.vfs[0].put(0, Context { mac: 14, l4t: 3, ..Default::default() }.words());
            for made in &frames {
                let data = bytes(made);
                let vf = &mut rig.vfs[0];
                let address = vf.stage(0, &[&vec![0; made.shift as usize][..], &data].concat()) + made.shift;
                let mut word = rig::plain(data.len());
                if !made.report {
                    word &= !rig::RS;
                }
                if !made.cc && model != Model::X550 {
                    word &= !CC;
                }
                vf.put(0, [address, word]);
            }
            rig.ring(0, 0);
            rig.tick();
        }
        prop_assert!(!long.log.passed.is_empty(), "the long way asks at every point");
        prop_assert!(short.log.passed.is_empty());
        prop_assert_eq!(short.causes(), long.causes());
        for pool in 0..3 {
            prop_assert_eq!(short.path.stats(pool), long.path.stats(pool), "pool {}", pool);
            for queue in 0..2 {
                let heads = |rig: &mut Rig| {
                    let tx = rig.path.tx(pool, queue).expect("a queue").head_word().load();
                    let rx = rig.path.rx(pool, queue).expect("a queue");
                    (tx, rx.head_word().load(), rx.take_dropped())
                };
                prop_assert_eq!(heads(&mut short), heads(&mut long));
                for index in 0..SIZE {
                    let both = [&short, &long].map(|rig| rig.vfs[usize::from(pool)].tx_descriptor(queue, index));
                    prop_assert_eq!(both[0], both[1], "TX {}", index);
                }
                prop_assert_eq!(short.got(pool, queue), long.got(pool, queue));
            }
        }
    }
}
