//! The switch against a model of it in the words of the reference.

use proptest::prelude::*;
use vfnic_hw::{Family, Model};
use vfnic_sim::data::{Accept, SpoofChecks};

use crate::rig::{Rig, Tap, mac};

const VFS: u8 = 4;

/// One VF as the reference describes its pool.
#[derive(Clone, Debug)]
struct Pool {
    accept: Accept,
    enabled: bool,
    vlans: Vec<u16>,
    spoof_mac: bool,
    spoof_vlan: bool,
    hairpin: bool,
    pruned: bool,
}

#[derive(Clone, Debug)]
struct World {
    model: Model,
    pools: Vec<Pool>,
    /// Multicast groups whose hash bit is set.
    groups: Vec<u8>,
    /// A second pool that accepts another VF's address.
    shared: Option<(u8, u8)>,
    loopback: bool,
    replication: bool,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    /// None is the wire.
    from: Option<u8>,
    to: [u8; 6],
    source: [u8; 6],
    tag: Option<u16>,
    ethertype: u16,
}

pub(crate) fn group(number: u8) -> [u8; 6] {
    [0x01, 0x00, 0x5e, 0, number.wrapping_mul(37), number]
}

/// Who gets it: VFs, the host, the wire.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Got {
    vfs: Vec<u8>,
    host: bool,
    wire: bool,
}

impl World {
    /// The reference in as few words as it takes. The PF's pool is number VFS: it takes broadcast, its own address, and
    /// untagged frames.
    fn expect(&self, sent: &Sent) -> Got {
        let ixgbe = self.model.family() == Family::Ixgbevf;
        let vid = sent.tag.map(|tag| tag & 0xfff);
        let nothing = Got::default();
        if let Some(from) = sent.from {
            let pool = &self.pools[usize::from(from)];
            if matches!(sent.ethertype, 0x8808 | 0x88cc) {
                return nothing;
            }
            let owns = sent.source == mac(from)
                || self
                    .shared
                    .is_some_and(|(who, whose)| who == from && sent.source == mac(whose));
            if pool.spoof_mac && !owns {
                return nothing;
            }
            let checked = vid.or(if ixgbe { Some(0) } else { None });
            if pool.spoof_vlan && checked.is_some_and(|vid| !pool.vlans.contains(&vid)) {
                return nothing;
            }
            if !self.loopback {
                return Got {
                    wire: true,
                    ..nothing
                };
            }
        }
        let multicast = sent.to[0] & 1 != 0;
        let known = self
            .pools
            .iter()
            .any(|pool| vid.is_some_and(|vid| pool.vlans.contains(&vid)));
        let takes = |number: u8| {
            let (accept, vlans) = match self.pools.get(usize::from(number)) {
                Some(pool) => (pool.accept, pool.vlans.clone()),
                None => (Accept::BAM | Accept::AUPE, Vec::new()),
            };
            let has = |bit| accept.contains(bit);
            let exact = sent.to == mac(number)
                || self
                    .shared
                    .is_some_and(|(who, whose)| who == number && sent.to == mac(whose));
            let somebody = (0..=VFS).any(|other| sent.to == mac(other));
            let promiscuous = matches!(self.model, Model::X540 | Model::X550 | Model::I350)
                && has(Accept::UPE)
                && (ixgbe || !somebody);
            let wanted = if sent.to == [0xff; 6] {
                has(Accept::BAM)
            } else if multicast {
                let hashed = self.groups.iter().any(|&number| group(number) == sent.to);
                has(Accept::MPE) || (hashed && has(Accept::ROMPE))
            } else {
                exact || promiscuous
            };
            let all_vlans = has(Accept::VPE) && self.model != Model::I82576;
            let member = match vid {
                None => has(Accept::AUPE),
                // Nobody's VLAN is stopped by the global filter already.
                Some(_) if !known => all_vlans && ixgbe,
                Some(vid) => vlans.contains(&vid) || all_vlans || (vid == 0 && has(Accept::AUPE)),
            };
            let own = sent.from == Some(number)
                && !self
                    .pools
                    .get(usize::from(number))
                    .is_some_and(|pool| pool.hairpin);
            wanted && member && !own
        };
        let mut takers: Vec<u8> = (0..=VFS).filter(|&number| takes(number)).collect();
        if !ixgbe && takers.is_empty() && sent.from.is_none() && (vid.is_none() || known) {
            takers.push(VFS);
        }
        if sent.from.is_none() {
            takers.retain(|&number| {
                let pruned = self
                    .pools
                    .get(usize::from(number))
                    .is_some_and(|pool| pool.pruned);
                let own = sent.source == mac(number)
                    || self
                        .shared
                        .is_some_and(|(who, whose)| who == number && sent.source == mac(whose));
                !(pruned && own)
            });
        }
        if !self.replication && takers.len() > 1 {
            takers = vec![if takers.contains(&VFS) {
                VFS
            } else {
                takers[0]
            }];
        }
        let wire = sent.from.is_some() && (multicast || takers.is_empty());
        let enabled = |number: &u8| {
            self.pools
                .get(usize::from(*number))
                .is_none_or(|pool| pool.enabled)
        };
        takers.retain(enabled);
        Got {
            host: takers.contains(&VFS),
            vfs: takers.into_iter().filter(|&number| number != VFS).collect(),
            wire,
        }
    }

    fn build(&self) -> (Rig, Tap, Tap) {
        let mut rig = Rig::new(self.model, VFS);
        let (wire, host) = (Tap::default(), Tap::default());
        rig.path.set_uplink(Box::new(wire.clone()));
        rig.path.set_host(Box::new(host.clone()));
        let filters = rig.path.filters_mut();
        filters.set_loopback(self.loopback);
        filters.set_replication(self.replication);
        for &number in &self.groups {
            let mac = group(number);
            filters.set_mta(
                (u16::from(mac[4]) >> 4 | u16::from(mac[5]) << 4) & 0xfff,
                true,
            );
        }
        if let Some((who, whose)) = self.shared {
            assert!(filters.add_mac(mac(whose), who));
        }
        for (number, pool) in (0..).zip(&self.pools) {
            filters.remove_vlan(0, number);
            for &vid in &pool.vlans {
                assert!(filters.add_vlan(vid, number));
            }
            filters.set_accept(number, pool.accept);
            filters.set_receive(number, pool.enabled);
            filters.set_hairpin(number, pool.hairpin);
            filters.set_source_pruning(number, pool.pruned);
            filters.set_spoof(
                number,
                SpoofChecks {
                    mac: pool.spoof_mac,
                    vlan: pool.spoof_vlan,
                    ethertype: false,
                },
            );
        }
        (rig, wire, host)
    }
}

fn bytes(sent: &Sent, serial: u16) -> Vec<u8> {
    let mut bytes = Vec::new();
    bytes.extend(sent.to);
    bytes.extend(sent.source);
    if let Some(tag) = sent.tag {
        bytes.extend([0x81, 0]);
        bytes.extend(tag.to_be_bytes());
    }
    bytes.extend(sent.ethertype.to_be_bytes());
    bytes.extend(serial.to_be_bytes());
    bytes.resize(64, 0x5a);
    bytes
}

fn run(world: &World, traffic: &[Sent]) {
    let (mut rig, wire, host) = world.build();
    for (serial, sent) in (0..).zip(traffic) {
        let bytes = bytes(sent, serial);
        match sent.from {
            Some(pool) => {
                rig.send(pool, &bytes);
            }
            None => {
                wire.inject(&bytes);
                rig.tick();
            }
        }
        let mut got = Got {
            host: host.left() == [bytes.clone()],
            wire: wire.left() == [bytes.clone()],
            ..Got::default()
        };
        for pool in 0..VFS {
            let frames = rig.frames(pool);
            assert!(frames.len() <= 1, "twice");
            if let [frame] = &frames[..] {
                assert_eq!(*frame, bytes);
                got.vfs.push(pool);
            }
        }
        assert_eq!(got, world.expect(sent), "{sent:?} in {world:?}");
    }
    // Every frame is where it was sent, or counted.
    rig.assert_quiet();
}

fn pool() -> impl Strategy<Value = Pool> {
    let bits = Accept::all().bits() & !Accept::ROPE.bits();
    let vlans = proptest::sample::subsequence(vec![0u16, 5, 6, 7], 0..4);
    (any::<u32>(), any::<[bool; 5]>(), vlans).prop_map(move |(accept, flags, vlans)| Pool {
        accept: Accept::from_bits_truncate(accept & bits),
        // Mostly on, or there is little to see.
        enabled: flags[0] || flags[1],
        spoof_mac: flags[2],
        spoof_vlan: flags[3] && flags[4],
        hairpin: false,
        pruned: flags[4],
        vlans,
    })
}

fn sent() -> impl Strategy<Value = Sent> {
    let address = prop_oneof![
        4 => (0..=VFS).prop_map(mac),
        1 => Just([0xff; 6]),
        2 => (0u8..4).prop_map(group),
        1 => Just([0x02, 9, 9, 9, 9, 9]),
    ];
    let from = proptest::option::weighted(0.7, 0..VFS);
    let tag = proptest::option::of(prop_oneof![
        Just(0u16),
        Just(5),
        Just(6),
        Just(0x6007),
        Just(99)
    ]);
    let ethertype = prop_oneof![6 => Just(0x88b5u16), 1 => Just(0x8808), 1 => Just(0x88cc)];
    (from, address, 0..=VFS, any::<bool>(), tag, ethertype).prop_map(
        |(from, to, other, lie, tag, ethertype)| Sent {
            from,
            to,
            source: if lie {
                mac(other)
            } else {
                from.map_or([2, 8, 8, 8, 8, 8], mac)
            },
            tag,
            ethertype: if from.is_some() { ethertype } else { 0x88b5 },
        },
    )
}

fn world() -> impl Strategy<Value = World> {
    let groups = proptest::sample::subsequence(vec![0u8, 1, 2, 3], 0..4);
    let shared = proptest::option::of((0..VFS, 0..VFS));
    (
        0usize..5,
        proptest::collection::vec(pool(), usize::from(VFS)),
        groups,
        shared,
        0u8..8,
    )
        .prop_map(|(model, pools, groups, shared, rare)| World {
            model: Model::ALL[model],
            pools,
            groups,
            shared: shared.filter(|(who, whose)| who != whose),
            loopback: rare != 0,
            replication: rare != 1,
        })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn the_switch_does_what_the_reference_says(world in world(), traffic in proptest::collection::vec(sent(), 1..24)) {
        run(&world, &traffic);
    }
}
