//! Multicast lists and promiscuity, and what it takes to get them.

mod common;

use common::{Station, build, card, frame};
use vfnic::{ApiVersion, ConfigError, Error, MacAddr, PortConfig, Promisc};
use vfnic_hw::{Family, Model};
use vfnic_sim::Card;

fn group(n: u16) -> MacAddr {
    // Spread over bits 47:36, which the hash is made of.
    let [high, low] = (n << 4 | 1).to_be_bytes();
    MacAddr([0x01, 0x00, 0x5e, 0x00, low, high])
}

for_every_model! {
    fn only_groups_asked_for_arrive(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let list: Vec<_> = (0..30).map(group).collect();
        left.port.set_multicast(&list).expect("30 fit");
        let mut sent: Vec<_> = list.iter().map(|to| frame(*to, right.mac(), 1, 64)).collect();
        sent.push(frame(MacAddr::BROADCAST, right.mac(), 2, 64));
        right.send(&sent);
        right.send(&[frame(group(40), right.mac(), 3, 64)]);
        card.step();
        left.expect(&sent);
        left.port.set_multicast(&[]).expect("none is always possible");
        drop((left, right));
        card.assert_no_violations();
    }

    fn more_than_thirty_groups_mean_all_where_the_pf_agrees(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let list: Vec<_> = (0..40).map(group).collect();
        if model.family() == Family::Ixgbevf {
            assert!(matches!(
                left.port.set_multicast(&list),
                Err(Error::NeedsTrust { .. })
            ));
            card.pf().set_vf_trust(0, true).expect("there");
            left.run(&card, std::time::Duration::from_millis(300));
        }
        left.port.set_multicast(&list).expect("trusted, or igb");
        let sent: Vec<_> = list.iter().map(|to| frame(*to, right.mac(), 1, 64)).collect();
        right.send(&sent);
        card.step();
        left.expect(&sent);
        // And back to a short list.
        left.port.set_multicast(&list[..1]).expect("one fits");
        right.send(&[frame(group(100), right.mac(), 3, 64)]);
        card.step();
        left.expect(&[]);
        drop((left, right));
        card.assert_no_violations();
    }

    fn a_list_has_groups_only(model) {
        let card = card(model, 1);
        let left = Station::new(&card, 0, PortConfig::default());
        let bad = MacAddr([2, 0, 0, 0, 0, 1]);
        assert!(matches!(
            left.port.set_multicast(&[group(1), bad]),
            Err(Error::Config(ConfigError::NotMulticast { asked })) if asked == bad
        ));
        drop(left);
        card.assert_no_violations();
    }

    fn promiscuity_is_granted_refused_or_not_there(model) {
        let card = card(model, 3);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let foreign = frame(MacAddr([2, 9, 9, 9, 9, 9]), right.mac(), 1, 64);
        let untrusted = left.port.set_promiscuous(Promisc::All);
        match model {
            Model::I82599 => assert!(
                matches!(&untrusted, Err(Error::NotAvailable { .. })),
                "{untrusted:?}"
            ),
            _ => assert!(matches!(&untrusted, Err(Error::NeedsTrust { .. })), "{untrusted:?}"),
        }
        right.send(std::slice::from_ref(&foreign));
        card.step();
        left.expect(&[]);
        card.pf().set_promiscuous(true);
        card.pf().set_vf_trust(0, true).expect("there");
        left.run(&card, std::time::Duration::from_millis(300));
        let trusted = left.port.set_promiscuous(Promisc::All);
        assert_eq!(
            trusted.is_ok(),
            matches!(model, Model::X540 | Model::X550),
            "{trusted:?}"
        );
        right.send(std::slice::from_ref(&foreign));
        card.step();
        if trusted.is_ok() {
            left.expect(&[foreign]);
            left.port.set_promiscuous(Promisc::Off).expect("always possible");
            right.send(&[frame(MacAddr([2, 9, 9, 9, 9, 9]), right.mac(), 1, 64)]);
            card.step();
        }
        left.expect(&[]);
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn a_former_owners_promiscuity_does_not_stay() {
    let card = card(Model::X550, 2);
    card.pf().set_promiscuous(true);
    card.pf().set_vf_trust(0, true).expect("there");
    let first = Station::new(&card, 0, PortConfig::default());
    first.port.set_promiscuous(Promisc::All).expect("granted");
    drop(first);
    let mut left = Station::new(&card, 0, PortConfig::default());
    let mut right = Station::new(&card, 1, PortConfig::default());
    right.send(&[frame(MacAddr([2, 9, 9, 9, 9, 9]), right.mac(), 1, 64)]);
    card.step();
    left.expect(&[]);
    drop((left, right));
    card.assert_no_violations();
}

#[test]
fn m15_an_old_pf_has_less_to_give_and_the_capabilities_say_so() {
    for (versions, api) in [
        (&[0u32][..], ApiVersion::V1_0),
        (&[0, 2][..], ApiVersion::V1_1),
        (&[0, 2, 3][..], ApiVersion::V1_2),
        (&[0, 2, 3, 4, 5, 7, 8][..], ApiVersion::V1_3),
    ] {
        let card = build(
            Card::builder(Model::X540)
                .vfs(2)
                .queues(4)
                .api_versions(versions),
        );
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let can = left.port.capabilities();
        assert_eq!(can.api, Some(api));
        assert_eq!(can.has("jumbo"), api >= ApiVersion::V1_1);
        assert_eq!(can.has("all_multicast"), api >= ApiVersion::V1_2);
        assert_eq!(can.has("promiscuous"), api >= ApiVersion::V1_3);
        assert_eq!(
            can.max_queue_pairs,
            if api >= ApiVersion::V1_1 { 4 } else { 1 }
        );
        for (name, availability) in can.iter() {
            assert!(!availability.to_string().is_empty(), "{name}");
        }
        let sent = [frame(right.mac(), left.mac(), 1, 64)];
        left.send(&sent);
        card.step();
        right.expect(&sent);
        left.run(&card, std::time::Duration::from_millis(50));
        assert!(left.port.link().is_up());
        drop((left, right));
        card.assert_no_violations();
    }
}
