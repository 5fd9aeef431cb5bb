//! Numbers from the references, as literals.

use std::sync::Arc;
use std::time::Duration;

use vfnic_hw::{Model, regs};

use super::*;
use crate::fake::{FakeBar, PfScript};
use crate::wait::block_on;
use crate::wait::tests::TestClock;

fn family(model: Model) -> Family {
    Family::of(model)
}

#[test]
fn multicast_hashes_are_those_of_the_reference() {
    // ixgbevf.md §6.7: bits 47:36, 46:35, 45:34, 43:32 of the address.
    let address = MacAddr([0x01, 0x00, 0x5e, 0x00, 0xab, 0xcd]);
    let hash = |kind| family(Model::X540).multicast_hash(address, kind);
    assert_eq!(hash(0), 0xcda);
    assert_eq!(hash(1), 0x9b5);
    assert_eq!(hash(2), 0x36a);
    assert_eq!(hash(3), 0xdab);
}

#[test]
fn a_multicast_list_is_packed_low_half_first() {
    let request = family(Model::X540).set_multicast(&[0x111, 0x222, 0x333], false);
    let words = request.words();
    assert_eq!(words.len(), 16);
    assert_eq!(words[..3], [0x0003_0003, 0x0222_0111, 0x0000_0333]);
    // igbvf.md §6.1: more than the list holds.
    let request = family(Model::I350).set_multicast(&[1; 30], true);
    assert_eq!(request.words()[0], 0x009E_0003);
}

#[test]
fn throttling_is_encoded_as_each_family_has_it() {
    // ixgbevf.md §12.2: 51.2 µs is 0xC8, with the counter left alone; units of 2.048 µs in bits 11:3.
    let encoded = |model, micros| {
        family(model)
            .throttle(0, Duration::from_nanos(micros))
            .map(|(_, value)| value)
    };
    assert_eq!(encoded(Model::X540, 51_200), Some(0x8000_00C8));
    assert_eq!(encoded(Model::X540, 0), Some(0x8000_0000));
    assert_eq!(encoded(Model::X540, 5_000_000), Some(0x8000_0FF8));
    assert_eq!(family(Model::X540).throttle(2, Duration::ZERO), None);
    // igbvf.md §10: microseconds times four.
    assert_eq!(encoded(Model::I350, 122_000), Some(0x8000_0000 | 488));
    assert_eq!(encoded(Model::I350, 50_000_000), Some(0x8000_7FFC));
}

#[test]
fn promiscuity_is_asked_for_as_each_family_has_it() {
    let grant = Grant {
        api: Some(ApiVersion::V1_3),
        pairs: 1,
        pairs_why: "",
        port_vlan: false,
    };
    let words = |model, mode| {
        family(model)
            .set_promisc(mode, &grant)
            .map(|request| request.words().to_vec())
    };
    assert_eq!(words(Model::X550, Promisc::All), Ok(vec![0x0C, 3]));
    assert_eq!(words(Model::X550, Promisc::AllMulticast), Ok(vec![0x0C, 2]));
    assert!(words(Model::I82599, Promisc::All).is_err());
    assert_eq!(words(Model::I82576, Promisc::All), Ok(vec![0x0003_0006]));
    assert_eq!(
        words(Model::I82576, Promisc::AllMulticast),
        Ok(vec![0x0002_0006])
    );
    let since = Grant {
        api: Some(ApiVersion::V1_2),
        ..grant
    };
    let x550 = family(Model::X550);
    assert!(x550.set_promisc(Promisc::AllMulticast, &since).is_ok());
    assert!(x550.set_promisc(Promisc::All, &since).is_err(), "since 1.3");
    assert!(x550.forget_promisc(&since).is_some());
    assert!(x550.link_state(&since).is_some());
    let old = Grant {
        api: Some(ApiVersion::V1_1),
        ..grant
    };
    assert!(x550.forget_promisc(&old).is_none());
    assert!(family(Model::X550).set_promisc(Promisc::Off, &old).is_err());
    assert!(family(Model::X550).link_state(&old).is_none());
}

#[test]
fn frame_sizes_count_what_each_family_counts() {
    // ixgbevf.md §9.7: MTU + 18; igbvf.md §8.4: MTU + 22.
    assert_eq!(family(Model::X540).set_lpe(1500).words(), [5, 1518]);
    assert_eq!(family(Model::I350).set_lpe(1500).words(), [5, 1522]);
    assert_eq!(family(Model::X540).set_lpe(9710).words(), [5, 9728]);
    assert_eq!(family(Model::I350).set_lpe(9706).words(), [5, 9728]);
}

/// What the handshake makes of these words of the PF.
fn handshake(model: Model, words: &[u32]) -> Handshake {
    let script = PfScript::new().on(1, &[words]);
    let (bar, status, place) = match model {
        Model::I82576 | Model::I350 => (
            FakeBar::igbvf(script),
            regs::igbvf::VTSTATUS,
            igbvf::MAILBOX,
        ),
        _ => (
            FakeBar::ixgbevf(script),
            regs::ixgbevf::VFSTATUS,
            ixgbevf::MAILBOX,
        ),
    };
    let regs = Registers::new(bar as _, status, place.control);
    let ticker = Ticker::new(Arc::new(TestClock::default()));
    let mut mailbox = Mailbox::new(place, Duration::from_secs(1));
    let io = Io {
        regs: &regs,
        ticker: &ticker,
        device: "vf",
    };
    block_on(&ticker, family(model).handshake(io, &mut mailbox)).expect("answered")
}

#[test]
fn an_address_is_the_vfs_when_it_comes_with_an_acknowledgement_and_can_be_one() {
    let address = MacAddr([2, 0x11, 0x22, 0x33, 0x44, 0x55]);
    for model in [Model::I350, Model::X540] {
        for (word, low, high, assigned) in [
            (0x8000_0001, 0x3322_1102, 0x5544, Some(address)),
            (0x4000_0001, 0x3322_1102, 0x5544, None),
            (0x8000_0001, 0, 0, None),
            (0x8000_0001, 0x3322_1103, 0x5544, None),
        ] {
            let found = handshake(model, &[word, low, high, 0]);
            assert_eq!(found.assigned, assigned, "{model:?} {word:#x} {low:#x}");
        }
    }
}

#[test]
fn the_multicast_filter_type_is_two_bits_of_the_fourth_word() {
    for (word, kind) in [(0, 0), (1, 1), (3, 3), (4, 0), (0xffff_fffe, 2)] {
        let found = handshake(Model::X540, &[0x8000_0001, 2, 0, word]);
        assert_eq!(found.filter_type, kind, "{word:#x}");
    }
}

#[test]
fn promiscuity_is_granted_when_the_pf_says_so() {
    let granted = |model, mode, word0, word1| {
        let mut words = [0; 16];
        words[..2].copy_from_slice(&[word0, word1]);
        family(model).promisc_granted(mode, &Reply { words })
    };
    // ixgbevf.md §6.8: what is not allowed is cut down with an acknowledgement, and word 1 has what is left.
    let ixgbe = |mode, word0, mode_left| granted(Model::X550, mode, word0, mode_left);
    assert!(ixgbe(Promisc::All, 0xA000_000C, 3));
    assert!(!ixgbe(Promisc::All, 0xA000_000C, 2));
    assert!(ixgbe(Promisc::AllMulticast, 0xA000_000C, 2));
    assert!(!ixgbe(Promisc::All, 0x6000_000C, 3));
    let igb = |word0| granted(Model::I350, Promisc::All, word0, 0);
    assert!(igb(0xA000_0006) && !igb(0x6000_0006));
}
