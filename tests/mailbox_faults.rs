//! A PF that is slow, silent, forgetful, rude or broken.

mod common;

use std::time::Duration;

use common::{Station, build, card, frame};
use vfnic::{Error, Event, MailboxError, Port, PortConfig, PortState};
use vfnic_hw::{Family, Model};
use vfnic_sim::{Action, Card, PfPersonality, Point, Rule};

const MS: Duration = Duration::from_millis(1);

/// Opens and starts; the time it took on the card's clock.
fn try_open(card: &Card) -> (Result<Port, Error>, Duration) {
    let clock = card.clock();
    let function = card.function(0).expect("free");
    let begin = clock.now();
    let port = Port::from_function(function, PortConfig::default()).and_then(|port| {
        drop(port.start()?);
        Ok(port)
    });
    (port, clock.now() - begin)
}

fn works(card: &Card, left: &mut Station, right: &mut Station) {
    let sent = [frame(right.mac(), left.mac(), 1, 64)];
    left.send(&sent);
    card.step();
    right.expect(&sent);
}

fn recover(card: &Card, station: &mut Station, within: Duration) {
    let mut left = within;
    while station.port.state() != PortState::Up || station.port.stats().get("recoveries") == Some(0)
    {
        assert!(
            !left.is_zero(),
            "no recovery within {within:?}: {}",
            station.port.state()
        );
        station.run(card, 10 * MS);
        left = left.saturating_sub(10 * MS);
    }
}

for_every_model! {
    fn a_slow_pf_is_waited_for(model) {
        let card = build(Card::builder(model).vfs(2).mailbox_delay(20 * MS));
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.run(&card, 20 * MS);
        works(&card, &mut left, &mut right);
        left.port.add_vlan(7).expect("in the end");
        drop((left, right));
        card.assert_no_violations();
    }

    fn m1_m2_a_silent_pf_is_an_error_within_the_bound(model) {
        for point in [Point::MailboxRequest, Point::MailboxReply] {
            let card = card(model, 1);
            card.faults().add(Rule::new(point, Action::Drop));
            let (result, took) = try_open(&card);
            match result {
                Err(Error::Mailbox(MailboxError::Timeout { request: "RESET", waited, .. })) => {
                    assert!(waited <= 1010 * MS, "{waited:?}");
                }
                other => panic!("{:?}", other.map(|_| ())),
            }
            assert!(took <= 5000 * MS, "{took:?}");
            // Nothing is left half-opened: the next try finds it free, and works.
            card.faults().clear();
            try_open(&card).0.expect("the PF answers now");
            card.assert_no_violations();
        }
    }

    fn silence_at_any_later_message_is_an_error_too(model) {
        for skip in 1..8 {
            let card = card(model, 1);
            card.faults().add(Rule::new(Point::MailboxReply, Action::Drop).after(skip));
            let (result, took) = try_open(&card);
            match result.map(|_| ()) {
                Err(Error::Mailbox(MailboxError::Timeout { .. })) => {}
                // Fewer messages than that: igbvf.
                Ok(()) => assert_eq!(model.family(), Family::Igbvf),
                Err(other) => panic!("after {skip}: {other}"),
            }
            assert!(took <= 5000 * MS, "after {skip}: {took:?}");
            card.faults().clear();
            try_open(&card).0.expect("the PF answers now");
            card.assert_no_violations();
        }
    }

    fn m2_a_call_is_over_in_time_however_many_late_answers_it_needs(model) {
        let card = card(model, 1);
        card.pf().set_vf_trust(0, true).expect("there");
        let port = common::open(&card, 0, PortConfig::default());
        let own = |last| vfnic::MacAddr([2, 0, 0, 0, 0, last]);
        for last in 1..=3 {
            // Not every PF grants as many.
            let _ = port.add_mac(own(last));
        }
        card.faults().add(Rule::new(Point::MailboxReply, Action::Delay(400 * MS)));
        let clock = card.clock();
        let timed = |call: &dyn Fn() -> Result<(), Error>| {
            let begin = clock.now();
            let result = call();
            (result, clock.now() - begin)
        };
        // One answer is in time.
        let (result, took) = timed(&|| port.add_vlan(7));
        result.expect("it answers");
        assert!((400 * MS..1000 * MS).contains(&took), "{took:?}");
        let (_, took) = timed(&|| port.remove_mac(own(1)));
        assert!(took <= 1000 * MS, "{took:?}");
        // With a recovery before it, or in its place.
        let (_, took) = timed(&|| port.add_vlan(8));
        assert!(took <= 1000 * MS, "{took:?}");
        let (_, took) = timed(&|| port.start().map(drop));
        assert!(took <= 5000 * MS, "{took:?}");
        drop(port);
        card.assert_no_violations();
    }

    fn m7_a_buffer_that_the_pf_never_gives_is_an_error_within_the_bound(model) {
        let card = card(model, 1);
        card.faults().add(Rule::new(Point::MailboxLock, Action::Drop));
        let (result, took) = try_open(&card);
        assert!(
            matches!(&result, Err(Error::Mailbox(MailboxError::Timeout { stage: vfnic::Stage::Locked, .. }))),
            "{:?}", result.map(|_| ())
        );
        assert!(took <= 5000 * MS, "{took:?}");
    }

    fn m19_a_pf_in_reset_is_told_apart_and_waited_for(model) {
        let card = card(model, 1);
        card.pf().down();
        let (result, took) = try_open(&card);
        assert!(matches!(result, Err(Error::PfNotReady { .. })));
        assert!(took <= 5000 * MS, "{took:?}");
        // One that comes back meanwhile is waited for.
        card.pf().up();
        card.pf().reset(800 * MS);
        try_open(&card).0.expect("it came back in time");
        card.assert_no_violations();
    }

    fn m6_a_message_in_between_is_no_reply(model) {
        let card = card(model, 2);
        for (skip, word) in [(1, 0x2000_0100), (3, 0x2000_0100), (4, 0xA000_00FF), (5, 0x6000_0042)] {
            card.faults().add(Rule::new(Point::MailboxReply, Action::Before(word)).after(skip).times(1));
        }
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.run(&card, 50 * MS);
        works(&card, &mut left, &mut right);
        assert_eq!(left.port.stats().get("recoveries"), Some(0));
        drop((left, right));
        card.assert_no_violations();
    }

    fn m3_m14_every_refusal_leaves_a_port_that_works(model) {
        // What may be refused without the port being of no use: addresses, groups, VLANs, sizes, promiscuity.
        for kind in [0x02, 0x03, 0x04, 0x05, 0x06, 0x0c] {
            let card = card(model, 2);
            let mut left = Station::new(&card, 0, PortConfig::default());
            let mut right = Station::new(&card, 1, PortConfig::default());
            card.faults().add(Rule::new(Point::MailboxRequest, Action::Nack).only(kind).on_vf(0));
            let results = [
                left.port.set_mac("02:00:00:00:00:01".parse().expect("an address")).is_err(),
                left.port.set_multicast(&["01:00:5e:00:00:01".parse().expect("an address")]).is_err(),
                left.port.add_vlan(5).is_err(),
                left.port.set_mtu(1400).is_err(),
                left.port.add_mac("02:00:00:00:00:02".parse().expect("an address")).is_err(),
            ];
            assert!(results.iter().filter(|refused| **refused).count() <= 2, "{kind:#x}: {results:?}");
            card.faults().clear();
            left.run(&card, 50 * MS);
            assert_eq!(left.port.state(), PortState::Up, "{kind:#x}");
            works(&card, &mut left, &mut right);
            drop((left, right));
            card.assert_no_violations();
        }
    }

    fn a_timeout_while_running_ends_in_a_recovery(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        card.faults().add(Rule::new(Point::MailboxReply, Action::Drop).on_vf(0).times(1));
        let error = left.port.add_vlan(5).expect_err("nobody answers");
        assert!(matches!(error, Error::Mailbox(MailboxError::Timeout { .. })), "{error}");
        recover(&card, &mut left, 5000 * MS);
        left.port.add_vlan(5).expect("answered now");
        works(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn a_ping_is_answered_and_nothing_else_happens(model) {
        let card = card(model, 1);
        let mut left = Station::new(&card, 0, PortConfig::default());
        left.events();
        for _ in 0..50 {
            card.pf().ping(0).expect("there");
            left.run(&card, 10 * MS);
        }
        assert_eq!(left.events(), []);
        assert!(card.pf().vf(0).expect("there").clear_to_send);
        drop(left);
        card.assert_no_violations();
    }

    fn a_dpdk_pf_is_understood(model) {
        let card = build(Card::builder(model).vfs(2).personality(PfPersonality::Dpdk));
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.run(&card, 500 * MS);
        right.run(&card, 500 * MS);
        assert_eq!(left.port.state(), PortState::Up);
        works(&card, &mut left, &mut right);
        left.port.set_multicast(&["01:00:5e:00:00:01".parse().expect("an address")]).expect("granted");
        left.run(&card, 2000 * MS);
        assert_eq!(left.port.stats().get("recoveries"), Some(0), "{:?}", left.events());
        drop((left, right));
        card.assert_no_violations();
    }

    fn d55_a_register_that_sticks_is_named(model) {
        for (point, queue) in [(Point::QueueEnable, 0), (Point::QueueEnable, 8)] {
            let card = card(model, 1);
            card.faults().add(Rule::new(point, Action::Drop).only(queue));
            let (result, took) = try_open(&card);
            match result {
                Err(Error::Register { register, .. }) => {
                    assert!(register.contains(if queue == 0 { "RXDCTL" } else { "TXDCTL" }), "{register}");
                }
                other => panic!("{:?}", other.map(|_| ())),
            }
            assert!(took <= 5000 * MS, "{took:?}");
            card.faults().clear();
            try_open(&card).0.expect("it moves again");
        }
    }

    fn d56_a_register_that_moves_late_is_waited_for(model) {
        let card = card(model, 1);
        card.faults().add(Rule::new(Point::QueueEnable, Action::Delay(3 * MS)));
        card.faults().add(Rule::new(Point::QueueDisable, Action::Delay(3 * MS)));
        for _ in 0..3 {
            try_open(&card).0.expect("in the end");
        }
        card.assert_no_violations();
    }
}

#[test]
fn d54_any_register_values_end_within_the_bound() {
    for model in Model::ALL {
        for seed in 0..20u32 {
            let card = build(Card::builder(model).vfs(1).seed(u64::from(seed)));
            // Bits stuck at random, differently in every run.
            let or = seed.wrapping_mul(0x9E37_79B9) & seed.wrapping_mul(0x85EB_CA6B);
            let and = !(seed.wrapping_mul(0xC2B2_AE35) & seed.wrapping_mul(0x27D4_EB2F));
            let rule = match seed % 4 {
                0 => Rule::new(Point::RegisterRead, Action::Mask { and, or }),
                1 => Rule::new(Point::RegisterRead, Action::Force(or)),
                2 => Rule::new(Point::RegisterRead, Action::Mask { and: 0, or: 0 }),
                _ => Rule::new(Point::RegisterRead, Action::Mask { and, or }).with_ppm(300_000),
            };
            card.faults().add(rule);
            let real = std::time::Instant::now();
            let (_, took) = try_open(&card);
            assert!(took <= 5000 * MS, "{model}, {seed}: {took:?}");
            assert!(real.elapsed() < Duration::from_secs(20));
            card.take_violations();
            card.faults().clear();
            try_open(&card)
                .0
                .unwrap_or_else(|error| panic!("{model}, {seed}: {error}"));
        }
    }
}

#[test]
fn m11_a_pf_that_forgets_the_vf_without_a_word_is_noticed_at_the_next_request() {
    for model in Model::ALL {
        let card = card(model, 2);
        let function = card.function(0).expect("free");
        let port = Port::from_function(std::sync::Arc::clone(&function), PortConfig::default())
            .expect("opens");
        let pairs = port.start().expect("starts");
        let mut left = Station::of(port, pairs);
        let mut right = Station::new(&card, 1, PortConfig::default());
        // Replies without CTS, refused: as if never seen.
        card.faults().add(
            Rule::new(
                Point::MailboxReply,
                Action::Mask {
                    and: !0xE000_0000,
                    or: 0x4000_0000,
                },
            )
            .only(4)
            .on_vf(0)
            .times(1),
        );
        let error = left.port.add_vlan(5).expect_err("refused");
        assert!(
            matches!(error, Error::Mailbox(MailboxError::Forgotten { .. })),
            "{error}"
        );
        recover(&card, &mut left, 3000 * MS);
        assert!(left.events().contains(&Event::PfReset));
        works(&card, &mut left, &mut right);
        drop((left, right, function));
        card.assert_no_violations();
    }
}
