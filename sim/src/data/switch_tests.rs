//! The filters one by one: what a change of one entry leaves alone, and the rules that only some models have.

use super::super::desc::Check;
use super::super::filters::{LinkState, SpoofChecks};
use super::super::forward::describe;
use super::super::parse::{Parsed, kind};
use super::*;

const VFS: u8 = 4;
const A: Mac = [2, 0, 0, 0, 0, 0xa];
const B: Mac = [2, 0, 0, 0, 0, 0xb];
const STRANGER: Mac = [2, 0, 0, 0, 0x12, 0x34];

const fn to(destination: Mac, tag: Option<u16>) -> Address {
    Address {
        destination,
        source: [2, 0, 0, 0, 0, 0x99],
        tag,
        ethertype: 0x0800,
    }
}

/// Everybody receives; untagged frames and broadcasts are taken by all VFs.
fn filters(model: Model) -> Filters {
    let mut filters = Filters::new(model, VFS);
    for pool in 0..VFS {
        filters.set_receive(pool, true);
        filters.set_accept(pool, Accept::AUPE | Accept::BAM);
    }
    filters.set_default_pool(None);
    filters
}

/// The pools that a frame from the wire goes to.
fn pools(filters: &Filters, address: &Address) -> u64 {
    filters.classify(Origin::Wire, address).pools
}

#[test]
fn taking_an_address_from_a_pool_leaves_its_others_and_its_neighbours() {
    let mut filters = filters(Model::X540);
    assert!(filters.add_mac(A, 0) && filters.add_mac(A, 1) && filters.add_mac(B, 0));
    filters.remove_mac(A, 0);
    assert_eq!(pools(&filters, &to(A, None)), 0b10);
    assert_eq!(pools(&filters, &to(B, None)), 0b01);
    filters.remove_mac(A, 1);
    assert_eq!(pools(&filters, &to(A, None)), 0);
    // The entry is free for somebody else, and no other was ever taken.
    let free = (0..filters.rar_count()).filter(|&index| filters.rar(index).is_none());
    assert_eq!(free.count(), filters.rar_count() - 1);
}

#[test]
fn leaving_a_vlan_leaves_the_others_and_the_other_members() {
    let mut filters = filters(Model::X540);
    assert!(filters.add_mac(A, 0) && filters.add_mac(A, 1));
    for (vid, pool) in [(5, 0), (5, 1), (6, 0), (0x1007, 0)] {
        assert!(filters.add_vlan(vid, pool), "{vid} {pool}");
    }
    assert_eq!(pools(&filters, &to(A, Some(7))), 0b01, "a VID has 12 bits");
    filters.remove_vlan(5, 0);
    assert_eq!(pools(&filters, &to(A, Some(5))), 0b10);
    assert_eq!(pools(&filters, &to(A, Some(0xe006))), 0b01, "by its VID");
    assert!(filters.has_vlan(7, 0));
    filters.remove_vlan(0x2005, 1);
    assert_eq!(pools(&filters, &to(A, Some(5))), 0);
    assert_eq!(filters.vlan_pools(5), None, "the entry goes with the last");
    assert!(
        filters.vlan_is_filtered(Some(5)),
        "and so does the filter bit"
    );
    assert!(!filters.vlan_is_filtered(Some(6)) && !filters.vlan_is_filtered(None));
    // As many as the table has room for, and a member more of one that is there.
    let taken = (100..).take_while(|&vid| filters.add_vlan(vid, 2)).count();
    assert_eq!(taken, 64 - 2);
    assert!(filters.add_vlan(6, 3) && !filters.add_vlan(5, 0));
}

#[test]
fn a_table_is_programmed_by_its_index_and_12_bits() {
    let mut filters = filters(Model::X540);
    assert!(filters.add_mac(A, 0) && filters.add_mac(A, 1));
    filters.set_vlvf(63, 0x1009, 0b10);
    filters.set_vfta(0xf009, true);
    assert_eq!(pools(&filters, &to(A, Some(9))), 0b10);
    filters.set_vfta(9, false);
    assert_eq!(pools(&filters, &to(A, Some(9))), 0);
    filters.set_vlan_filter(false);
    assert_eq!(
        pools(&filters, &to(A, Some(9))),
        0b10,
        "nothing is filtered"
    );
}

#[test]
fn a_vlan_without_an_entry_is_the_default_pools_on_an_82576_and_from_the_wire() {
    for model in Model::ALL {
        let mut filters = filters(model);
        assert!(filters.add_mac(A, 0) && filters.add_mac(A, 1));
        filters.set_vfta(9, true);
        filters.set_default_pool(Some(1));
        let from_wire = pools(&filters, &to(A, Some(9)));
        // What no other pool takes, an igb's default pool gets in any case.
        let expected = u64::from(model.family() == Family::Igbvf) << 1;
        assert_eq!(from_wire, expected, "{model:?}");
        let verdict = filters.classify(Origin::Wire, &to(A, Some(9)));
        let exact = model == Model::I82576;
        assert_eq!(!verdict.inexact && verdict.pools != 0, exact, "{model:?}");
        let inside = filters.classify(Origin::Pool(2), &to(A, Some(9)));
        assert_eq!((inside.pools, inside.wire), (0, true), "{model:?}");
    }
}

#[test]
fn promiscuity_is_for_those_that_have_it_and_on_igb_for_strangers_alone() {
    for (model, strange, known) in [
        (Model::I82576, 0, 0b01),
        (Model::I350, 0b10, 0b01),
        (Model::I82599, 0, 0b01),
        (Model::X540, 0b10, 0b11),
        (Model::X550, 0b10, 0b11),
    ] {
        let mut filters = filters(model);
        assert!(filters.add_mac(A, 0));
        filters.set_accept(1, Accept::AUPE | Accept::UPE);
        assert_eq!(pools(&filters, &to(STRANGER, None)), strange, "{model:?}");
        assert_eq!(pools(&filters, &to(A, None)), known, "{model:?}");
        let verdict = filters.classify(Origin::Wire, &to(STRANGER, None));
        assert_eq!(verdict.inexact, verdict.pools != 0, "{model:?}");
    }
}

#[test]
fn a_spoof_check_is_the_pools_it_was_set_for() {
    let mut filters = filters(Model::X540);
    assert!(filters.add_mac(A, 0));
    let checks = SpoofChecks {
        vlan: true,
        ..SpoofChecks::default()
    };
    filters.set_spoof(0, checks);
    let tagged = to(STRANGER, Some(5));
    let dropped = |pool| filters.classify(Origin::Pool(pool), &tagged).drop;
    assert_eq!(dropped(0), Some(DropReason::SpoofVlan));
    assert_eq!(dropped(1), None);
    assert_eq!(dropped(VFS), None, "the PF may send anything");
}

#[test]
fn without_a_link_a_frame_ends_where_nobody_inside_wants_it() {
    let mut filters = filters(Model::X540);
    filters.set_link(LinkState { up: false, mbps: 0 });
    assert!(filters.add_mac(A, 0));
    let outcome = |filters: &Filters, destination| {
        let verdict = filters.classify(Origin::Pool(1), &to(destination, None));
        (verdict.pools, verdict.disabled, verdict.wire, verdict.drop)
    };
    let down = Some(DropReason::LinkDown);
    assert_eq!(outcome(&filters, STRANGER), (0, 0, false, down));
    assert_eq!(outcome(&filters, A), (0b0001, 0, false, None));
    assert_eq!(outcome(&filters, BROADCAST), (0b1101, 0, false, None));
    for pool in 0..VFS {
        filters.set_receive(pool, false);
    }
    assert_eq!(outcome(&filters, BROADCAST), (0, 0b1101, false, None));
}

#[test]
fn a_reset_of_the_port_keeps_the_link_and_no_verdict() {
    let mut old = filters(Model::X540);
    assert!(old.add_mac(A, 0));
    old.set_control_frames(true);
    old.set_loopback_without_link(true);
    let down = LinkState { up: false, mbps: 0 };
    old.set_link(down);
    let mut start = [0; 16];
    start[..6].copy_from_slice(&A);
    start[12] = 8;
    let mut cache = Cache::new();
    assert_eq!(cache.verdict(&old, Origin::Wire, &start).pools, 0b01);
    let mut new = Filters::new(Model::X540, VFS);
    new.succeed(&old);
    assert!(new.generation > old.generation);
    assert_eq!(cache.verdict(&new, Origin::Wire, &start).pools, 0);
    assert_eq!(new.link(), down);
    assert!(new.control_frames && new.loopback_without_link);
}

#[test]
fn saying_the_same_twice_changes_nothing() {
    let mut filters = filters(Model::X540);
    assert!(filters.add_mac(A, 0) && filters.add_mac(A, 0));
    filters.set_rar(5, B, 0b10);
    filters.set_rar(6, B, 0b10);
    assert_eq!(pools(&filters, &to(A, None)), 0b01);
    assert_eq!(pools(&filters, &to(B, None)), 0b10);
}

#[test]
fn a_cleared_hash_table_lets_no_group_in() {
    const GROUP: Mac = [1, 0, 0x5e, 0, 0, 1];
    let mut filters = filters(Model::X540);
    filters.set_accept(0, Accept::AUPE | Accept::ROMPE);
    filters.set_mta(0x010, true);
    assert_eq!(pools(&filters, &to(GROUP, None)), 0b01);
    filters.clear_mta();
    assert_eq!(pools(&filters, &to(GROUP, None)), 0);
}

#[test]
fn only_the_wire_is_pruned_by_source_and_only_the_inside_has_no_loopback() {
    let mut filters = filters(Model::X550);
    assert!(filters.add_mac(A, 0));
    filters.set_source_pruning(0, true);
    let own = Address {
        source: A,
        ..to(A, None)
    };
    let outcome = |filters: &Filters, origin| {
        let verdict = filters.classify(origin, &own);
        (verdict.pools, verdict.wire)
    };
    assert_eq!(outcome(&filters, Origin::Wire), (0, false));
    assert_eq!(outcome(&filters, Origin::Pool(1)), (0b01, false));
    filters.set_source_pruning(0, false);
    filters.set_loopback(false);
    assert_eq!(outcome(&filters, Origin::Wire), (0b01, false));
    assert_eq!(outcome(&filters, Origin::Pool(1)), (0, true));
}

#[test]
fn a_tag_is_four_bytes_more_to_either_family() {
    for model in [Model::I350, Model::X540] {
        let filters = filters(model);
        for (len, tagged, oversize) in [
            (1514, false, false),
            (1515, false, true),
            (1518, true, false),
            (1519, true, true),
        ] {
            let found = filters.is_oversize(0, len, tagged);
            assert_eq!(found, oversize, "{model:?} {len} {tagged}");
        }
    }
}

#[test]
fn an_82599_finds_fault_with_unsummed_udp_over_ipv4_alone() {
    for (model, ip, l4) in [
        (Model::I82599, kind::IPV4, Check::Bad),
        (Model::I82599, kind::IPV6, Check::Not),
        (Model::X540, kind::IPV4, Check::Not),
    ] {
        let parsed = Parsed {
            kind: kind::UDP | ip,
            ..Parsed::default()
        };
        let meta = describe(model, &parsed, &Verdict::default(), false);
        assert_eq!((meta.l4, meta.udp), (l4, l4 == Check::Bad), "{model:?}");
    }
}
