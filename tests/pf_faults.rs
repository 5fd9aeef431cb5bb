//! A PF whose messages are well formed and wrong: what it says is checked, and what cannot be used is refused.

mod common;

use std::time::Duration;

use common::{Station, card, frame};
use vfnic::{MacOrigin, Port, PortConfig, PortState};
use vfnic_hw::Family;
use vfnic_sim::{Action, Card, Point, Rule};

const MS: Duration = Duration::from_millis(1);

fn word(kind: u32, index: u8, value: u32) -> Rule {
    Rule::new(Point::MailboxReply, Action::Word { index, value })
        .only(kind)
        .on_vf(0)
}

/// Opens, starts and uses VF 0, whatever its PF says; the error if it could not, within the bound.
fn use_it(card: &Card) -> Result<(), vfnic::Error> {
    let clock = card.clock();
    let begin = clock.now();
    let result = Port::from_function(card.function(0).expect("free"), PortConfig::default())
        .and_then(|port| {
            let pairs = port.start()?;
            assert!((1..=8).contains(&pairs.len()));
            assert!(port.mac().0.is_usable(), "{}", port.mac().0);
            let mut station = Station::of(port, pairs);
            let _ = station
                .port
                .set_multicast(&["01:00:5e:00:00:01".parse().expect("one")]);
            let mac = station.mac();
            station.try_send(&[frame(mac, mac, 1, 64)]);
            station.run(card, 50 * MS);
            Ok(())
        });
    assert!(clock.now() - begin <= 10_000 * MS);
    result
}

for_every_model! {
    fn m5_right_replies_with_impossible_content_are_clamped_or_refused(model) {
        for value in [0, 9, 255, 0x8000_0000, u32::MAX] {
            for (kind, words) in [(1, 1..=3u8), (8, 1..=2), (9, 1..=4), (0xa, 1..=8), (0xb, 1..=10), (0x10, 1..=1)] {
                for index in words {
                    let card = card(model, 1);
                    card.faults().add(word(kind, index, value));
                    if let Err(error) = use_it(&card) {
                        assert!(!error.to_string().is_empty());
                    }
                    card.faults().clear();
                    card.run_for(1000 * MS);
                    use_it(&card).unwrap_or_else(|error| panic!("{kind:#x}, word {index}: {error}"));
                    card.assert_no_violations();
                }
            }
        }
    }

    fn m24_words_a_reply_should_not_have_are_not_read(model) {
        // Every word but the first at random, in every reply: what is defined is checked, the rest is not looked at.
        for seed in 0..10 {
            let card = common::build(Card::builder(model).vfs(1).seed(seed));
            card.faults().add(Rule::new(Point::MailboxReply, Action::Random));
            if let Err(error) = use_it(&card) {
                assert!(!error.to_string().is_empty());
            }
            card.faults().clear();
            card.run_for(1000 * MS);
            use_it(&card).expect("the PF makes sense again");
            card.assert_no_violations();
        }
        // One word too many, in replies that have none.
        let card = card(model, 1);
        for kind in [2, 3, 4, 5, 6] {
            card.faults().add(word(kind, 15, 0xdead_beef));
        }
        use_it(&card).expect("nobody reads it");
        card.assert_no_violations();
    }

    fn m12_no_address_or_one_that_is_none_is_made_up(model) {
        // The PF's own address for the VF is such that word 1 of the reply, the first four bytes, makes it none.
        for (assigned, word1) in [
            ([2, 0, 0, 0, 0, 0], 0),
            ([2, 0xff, 0xff, 0xff, 0xff, 0xff], u32::MAX),
            ([2, 0, 0x5e, 0, 0, 1], 0x005e_0001),
        ] {
            let card = card(model, 2);
            card.pf().set_vf_trust(0, true).expect("there");
            card.pf().set_vf_mac(0, assigned).expect("there");
            card.run_for(1000 * MS);
            card.faults().add(word(1, 1, word1));
            let mut left = Station::new(&card, 0, PortConfig::default());
            let mut right = Station::new(&card, 1, PortConfig::default());
            assert!(card.faults().struck()[0] > 0, "{assigned:x?}: nobody asked");
            let (mac, origin) = left.port.mac();
            assert!(mac.is_usable() && mac.is_local(), "{assigned:x?}: {mac}");
            assert_eq!(origin, MacOrigin::Random, "{assigned:x?}: {mac}");
            // It is one that frames get to, if the PF grants it, and one that frames leave from.
            left.run(&card, 100 * MS);
            let granted = card.pf().vf(0).expect("there").mac == mac.0;
            assert!(granted || model.family() == Family::Igbvf, "{assigned:x?}: {mac}");
            if granted {
                let sent = [frame(mac, right.mac(), 1, 64)];
                right.send(&sent);
                card.step();
                left.expect(&sent);
            }
            let sent = [frame(right.mac(), mac, 2, 64)];
            left.send(&sent);
            card.step();
            if granted {
                right.expect(&sent);
            }
            drop((left, right));
            card.assert_no_violations();
        }
        let card = card(model, 1);
        let port = common::open(&card, 0, PortConfig::default());
        let (mac, origin) = port.mac();
        assert!(mac.is_usable() && mac.0[0] & 2 != 0, "{mac} is a local unicast address");
        assert_eq!(origin, MacOrigin::Random);
        drop(port);
        card.assert_no_violations();
    }

    fn m15_a_pf_that_contradicts_itself_gets_the_lowest_version(model) {
        for value in [Action::Nack, Action::Drop] {
            let card = card(model, 2);
            // Every version refused; or accepted and then everything that belongs to it refused.
            let kinds: &[u32] = if value == Action::Nack { &[8] } else { &[] };
            for kind in kinds {
                card.faults().add(Rule::new(Point::MailboxRequest, value).only(*kind).on_vf(0));
            }
            if kinds.is_empty() {
                for kind in [9, 0xa, 0xb, 0xc, 0x10] {
                    card.faults().add(Rule::new(Point::MailboxRequest, Action::Nack).only(kind).on_vf(0));
                }
            }
            let mut left = Station::new(&card, 0, PortConfig::default());
            let mut right = Station::new(&card, 1, PortConfig::default());
            let sent = [frame(right.mac(), left.mac(), 1, 64)];
            left.send(&sent);
            card.step();
            right.expect(&sent);
            left.run(&card, 100 * MS);
            assert_eq!(left.port.state(), PortState::Up);
            if model.family() == Family::Ixgbevf && value == Action::Nack {
                assert!(!left.port.capabilities().has("promiscuous"), "not negotiated, so off");
            }
            drop((left, right));
            card.assert_no_violations();
        }
    }

    fn m17_a_flood_of_messages_costs_bounded_work_a_look(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let clock = card.clock();
        for _ in 0..300 {
            card.pf().ping(0).expect("there");
            let begin = clock.now();
            left.port.poll_control().expect("there");
            assert!(clock.now() - begin <= 15 * MS);
            card.run_for(MS);
        }
        let sent = [frame(right.mac(), left.mac(), 1, 64)];
        left.send(&sent);
        card.step();
        right.expect(&sent);
        drop((left, right));
        card.assert_no_violations();
    }

    fn m22_a_reset_while_closing_changes_nothing(model) {
        for after in [0u64, 1, 2, 3, 5, 8, 13] {
            let card = card(model, 1);
            let station = Station::new(&card, 0, PortConfig::default());
            card.faults().add(
                Rule::new(Point::RegisterRead, Action::ResetPort(7 * MS)).after(after).times(1),
            );
            let clock = card.clock();
            let begin = clock.now();
            drop(station);
            assert!(clock.now() - begin <= 400 * MS);
            card.faults().clear();
            card.run_for(100 * MS);
            use_it(&card).expect("it is as new");
        }
    }
}
