//! A device that answers wrongly, late or not at all, while a port runs on it: the port says so, and goes on when it can.

mod common;

use std::time::Duration;

use common::{Station, assert_nothing_but_late_tails, build, card, frame};
use vfnic::{Error, Event, Link, Port, PortConfig, PortState};
use vfnic_hw::{Family, Model};
use vfnic_sim::data::{DropReason, Fault, Point as DataPoint};
use vfnic_sim::{Action, Card, Point, Rule};

const MS: Duration = Duration::from_millis(1);

fn pair(model: Model) -> (Card, Station, Station) {
    let card = card(model, 2);
    let left = Station::new(&card, 0, PortConfig::default());
    let right = Station::new(&card, 1, PortConfig::default());
    (card, left, right)
}

fn count(station: &Station, name: &str) -> u64 {
    station.port.stats().get(name).expect("a known counter")
}

fn works(card: &Card, left: &mut Station, right: &mut Station) {
    let there = [frame(right.mac(), left.mac(), 1, 64)];
    left.send(&there);
    card.step();
    right.expect(&there);
    let back = [frame(left.mac(), right.mac(), 2, 64)];
    right.send(&back);
    card.step();
    left.expect(&back);
}

/// Until the port is up again; the time it took.
fn until_up(card: &Card, station: &mut Station, within: Duration) -> Duration {
    let mut took = Duration::ZERO;
    while station.port.state() != PortState::Up {
        assert!(
            took < within,
            "{}: not up within {within:?}",
            station.port.state()
        );
        station.run(card, 5 * MS);
        took += 5 * MS;
    }
    took
}

for_every_model! {
    fn d51_all_ones_for_a_while_end_in_a_recovery(model) {
        for window in [MS, 50 * MS, 1000 * MS] {
            let (card, mut left, mut right) = pair(model);
            left.port.add_vlan(9).expect("granted");
            left.events();
            card.faults().add_for(window, Rule::new(Point::RegisterRead, Action::Force(u32::MAX)).on_vf(0));
            left.port.poll_control().expect("it is on its bus");
            // One look helps a recovery along for 10 ms: the shortest window may be over by then.
            if window > 10 * MS {
                assert_ne!(left.port.state(), PortState::Up, "{window:?}");
                assert_eq!(left.try_send(&[frame(right.mac(), left.mac(), 1, 64)]), 0);
            }
            left.run(&card, window);
            until_up(&card, &mut left, 500 * MS);
            let events = left.events();
            assert!(events.contains(&Event::PfReset), "{window:?}: {events:?}");
            assert!(events.iter().any(|event| matches!(event, Event::Recovered { .. })));
            assert!(!events.contains(&Event::Gone));
            works(&card, &mut left, &mut right);
            left.port.remove_vlan(9).expect("it was replayed");
            drop((left, right));
            assert_nothing_but_late_tails(&card);
        }
    }

    fn d51_all_ones_for_good_end_in_gone(model) {
        let (card, left, right) = pair(model);
        card.faults().add(Rule::new(Point::RegisterRead, Action::Force(u32::MAX)).on_vf(0));
        let clock = card.clock();
        let begin = clock.now();
        // Whoever asks for something is not kept waiting for it.
        assert!(matches!(left.port.add_vlan(5), Err(Error::Recovering { .. } | Error::Gone { .. })));
        while left.port.state() != PortState::Gone {
            assert!(clock.now() - begin < 5000 * MS, "neither back nor gone");
            let _ = left.port.poll_control();
            card.run_for(10 * MS);
        }
        assert!(left.events().contains(&Event::Gone));
        assert!(matches!(left.port.poll_control(), Err(Error::Gone { .. })));
        card.faults().clear();
        drop((left, right));
    }

    fn d52_one_register_that_reads_all_ones_is_no_removal(model) {
        let (card, mut left, mut right) = pair(model);
        // Every register but the two that bear witness: status and mailbox.
        let witnesses = match model.family() {
            Family::Igbvf => [0x0008, 0x0C40],
            Family::Ixgbevf => [0x0008, 0x02FC],
        };
        let counters: &[u32] = match model.family() {
            Family::Igbvf => &[0x0F10, 0x0F14, 0x0F18, 0x1524, 0x1580],
            Family::Ixgbevf => &[0x101C, 0x1020, 0x1024, 0x0108, 0x0100],
        };
        for offset in counters.iter().filter(|offset| !witnesses.contains(offset)) {
            card.faults().clear();
            card.faults().add(Rule::new(Point::RegisterRead, Action::Force(u32::MAX)).only(*offset).on_vf(0));
            left.run(&card, 1100 * MS);
            assert_eq!(left.port.state(), PortState::Up, "{offset:#x}");
            works(&card, &mut left, &mut right);
        }
        assert_eq!(count(&left, "recoveries"), 0);
        drop((left, right));
        card.assert_no_violations();
    }

    fn d53_all_zeros_fail_to_open_in_time_and_pass_in_operation(model) {
        let card = card(model, 2);
        card.faults().add(Rule::new(Point::RegisterRead, Action::Force(0)).on_vf(0));
        let clock = card.clock();
        let begin = clock.now();
        let error = Port::from_function(card.function(0).expect("free"), PortConfig::default())
            .and_then(|port| port.start().map(drop))
            .expect_err("nothing answers");
        assert!(!error.to_string().is_empty());
        assert!(clock.now() - begin <= 5000 * MS, "{error}");
        card.faults().clear();
        card.take_violations();
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        for window in [20 * MS, 3000 * MS] {
            card.faults().add_for(window, Rule::new(Point::RegisterRead, Action::Force(0)).on_vf(0));
            left.run(&card, window);
            left.run(&card, 100 * MS);
            until_up(&card, &mut left, 15_000 * MS);
            works(&card, &mut left, &mut right);
        }
        drop((left, right));
        // Told that its queues are off, it does not switch them off; nothing else comes of the lie.
        for violation in card.take_violations() {
            assert!(
                violation.to_string().contains("still enabled")
                    || violation.to_string().contains("tail"),
                "{violation}"
            );
        }
    }

    fn d19_d35_heads_at_random_matter_to_nobody(model) {
        let (card, mut left, mut right) = pair(model);
        let heads: [u32; 2] = match model.family() {
            Family::Igbvf => [0x2810, 0x3810],
            Family::Ixgbevf => [0x1010, 0x2010],
        };
        for head in heads {
            for action in [Action::Random, Action::Force(0xffff_fffe), Action::Force(513)] {
                card.faults().clear();
                card.faults().add(Rule::new(Point::RegisterRead, action).only(head).on_vf(0));
                for _ in 0..50 {
                    works(&card, &mut left, &mut right);
                    left.run(&card, 20 * MS);
                }
            }
        }
        drop((left, right));
        assert_nothing_but_late_tails(&card);
    }

    fn d32_write_backs_that_never_come_end_in_one_reset(model) {
        let (card, mut left, mut right) = pair(model);
        left.events();
        card.faults().add(
            Rule::new(Point::Data(DataPoint::TxWriteBack), Action::Data(Fault::Swallow)).on_vf(0),
        );
        let mut taken = 0;
        let mut told = None;
        for tick in 0..80u32 {
            // An application that goes on trying.
            taken += left.try_send(&(0..64).map(|n| frame(right.mac(), left.mac(), n, 64)).collect::<Vec<_>>());
            left.run(&card, 50 * MS);
            right.receive();
            if told.is_none() && left.events().contains(&Event::TxHang) {
                told = Some(50 * MS * tick);
                card.faults().clear();
            }
        }
        let told = told.expect("nobody noticed");
        assert!(told <= 3000 * MS, "{told:?}");
        until_up(&card, &mut left, 1000 * MS);
        assert_eq!(count(&left, "recoveries"), 1);
        let lost = count(&left, "tx0_not_confirmed");
        assert!((1..=512).contains(&lost), "{lost} of {taken}");
        works(&card, &mut left, &mut right);
        drop((left.pairs, left.batch));
        let pool = left.port.pool().stats();
        assert_eq!(pool.home, pool.total, "every buffer is back once");
        drop((left.port, right));
        assert_nothing_but_late_tails(&card);
    }

    fn d35_a_head_at_random_neither_resets_a_queue_that_works_nor_hides_one_that_does_not(model) {
        let (card, mut left, mut right) = pair(model);
        let head = match model.family() {
            Family::Igbvf => 0x3810,
            Family::Ixgbevf => 0x2010,
        };
        let lie = |action| Rule::new(Point::RegisterRead, action).on_vf(0).only(head);
        for action in [
            Action::Force(u32::MAX),
            Action::Force(0xdead_beef),
            Action::Force(512),
            Action::Random,
        ] {
            card.faults().clear();
            card.faults().add(lie(action));
            for _ in 0..8 {
                works(&card, &mut left, &mut right);
                left.run(&card, 500 * MS);
                right.run(&card, 10 * MS);
            }
            assert!(card.faults().struck()[0] > 0, "{action:?}: nobody reads it");
            assert_eq!(count(&left, "recoveries"), 0, "{action:?}");
        }
        // One that is possible and stands still looks like a queue that does: a reset now and then, and no frame is lost.
        card.faults().clear();
        card.faults().add(lie(Action::Force(7)));
        for _ in 0..30 {
            until_up(&card, &mut left, 1000 * MS);
            works(&card, &mut left, &mut right);
            left.run(&card, 500 * MS);
            right.run(&card, 10 * MS);
        }
        until_up(&card, &mut left, 1000 * MS);
        assert!(count(&left, "recoveries") <= 2, "{}", count(&left, "recoveries"));
        // And a queue that hangs is found out all the same.
        let before = count(&left, "recoveries");
        card.faults().clear();
        card.faults().add(lie(Action::Random));
        card.faults().add(
            Rule::new(Point::Data(DataPoint::TxWriteBack), Action::Data(Fault::Swallow)).on_vf(0),
        );
        left.run(&card, 10_000 * MS);
        left.events();
        let hung = (0..80).any(|_| {
            left.try_send(&(0..64).map(|n| frame(right.mac(), left.mac(), n, 64)).collect::<Vec<_>>());
            left.run(&card, 50 * MS);
            right.receive();
            left.events().contains(&Event::TxHang)
        });
        assert!(hung, "nobody noticed");
        card.faults().clear();
        until_up(&card, &mut left, 1000 * MS);
        assert!(count(&left, "recoveries") > before);
        right.run(&card, 10 * MS);
        right.receive();
        works(&card, &mut left, &mut right);
        drop((left, right));
        assert_nothing_but_late_tails(&card);
    }

    fn l3_reserved_speed_codes_are_unknown_speeds(model) {
        let (card, mut left, right) = pair(model);
        let (offset, shift) = match model.family() {
            Family::Igbvf => (0x0008, 6),
            Family::Ixgbevf => (0x0010, 28),
        };
        for code in 0..4u32 {
            for odd in [0, 1 << 27] {
                card.faults().clear();
                let or = code << shift | if model.family() == Family::Ixgbevf { odd } else { 0 };
                card.faults().add(
                    Rule::new(Point::RegisterRead, Action::Mask { and: !(3 << shift | 1 << 27), or })
                        .only(offset)
                        .on_vf(0),
                );
                left.run(&card, 200 * MS);
                let Link::Up { mbps, .. } = left.port.link() else {
                    panic!("code {code} is no reason for the link to be down");
                };
                assert!([0, 10, 100, 1_000, 2_500, 5_000, 10_000].contains(&mbps), "{mbps}");
                if code == 0 && matches!(model, Model::I82599 | Model::X540) {
                    assert_eq!(mbps, 0);
                    assert!(left.port.link().to_string().contains("unknown"));
                }
            }
        }
        drop((left, right));
        card.assert_no_violations();
    }

    fn l5_frames_the_spoof_check_drops_are_handed_over_and_not_received(model) {
        let (card, mut left, mut right) = pair(model);
        let other = "02:00:00:00:00:99".parse().expect("an address");
        left.send(&(0..10).map(|n| frame(right.mac(), other, n, 64)).collect::<Vec<_>>());
        card.step();
        right.expect(&[]);
        left.port.refresh_stats().expect("there");
        // What the queue counts is what the card took; what left the card, the card counts.
        assert_eq!(count(&left, "tx0_packets"), 10);
        assert_eq!(card.vf_stats(0).expect("there").drops.total(), 10);
        assert_eq!(count(&left, "recoveries"), 0);
        works(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn l7_overload_is_lost_under_a_name_and_control_goes_on(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default().rings(64, 64));
        let clock = card.clock();
        // Two minutes of the card's, each burst as many as the receiver's ring has room for: that is the peak. Then two
        // with twice as many.
        let mut minutes = |burst: u32| {
            let (mut sent, mut got) = (0, 0);
            for round in 0..200u32 {
                let frames: Vec<_> = (0..burst).map(|n| frame(right.mac(), left.mac(), n, 60)).collect();
                sent += left.try_send(&frames);
                card.step();
                got += right.receive().len();
                if round % 10 == 0 {
                    let begin = clock.now();
                    right.port.add_vlan(7).expect("granted");
                    right.port.remove_vlan(7).expect("granted");
                    assert!(clock.now() - begin <= 50 * MS);
                }
                card.run_for(600 * MS);
                for station in [&mut left, &mut right] {
                    station.port.poll_control().expect("there");
                    station.touch();
                }
                got += right.receive().len();
            }
            (sent, got)
        };
        let (sent, peak) = minutes(63);
        assert_eq!(sent, peak, "nothing is lost below the peak");
        let (sent, got) = minutes(126);
        assert!(got * 10 >= peak * 9, "{got}, and {peak} at the peak");
        // Every one that is missing is there under the one name that fits.
        let lost: Vec<_> = card.vf_stats(1).expect("there").drops.iter().collect();
        let missing = u64::try_from(sent - got).expect("few");
        assert!(missing > 0, "an overload loses frames");
        assert_eq!(lost, [(DropReason::NoDescriptors, missing)]);
        assert_eq!(count(&right, "recoveries") + count(&left, "recoveries"), 0);
        drop((left, right));
        card.assert_no_violations();
    }

    fn l8_h21_a_process_that_was_stopped_for_ten_seconds_resets_nothing(model) {
        let (card, mut left, mut right) = pair(model);
        let waiting = [frame(right.mac(), left.mac(), 1, 64)];
        left.send(&waiting);
        for _ in 0..2 {
            right.send(&(0..250).map(|n| frame(left.mac(), right.mac(), n, 64)).collect::<Vec<_>>());
        }
        // Nobody polls, and nobody looks after the ports.
        card.run_for(10_000 * MS);
        right.send(&(0..100).map(|n| frame(left.mac(), right.mac(), n, 64)).collect::<Vec<_>>());
        card.run_for(10_000 * MS);
        left.run(&card, 3000 * MS);
        right.run(&card, 3000 * MS);
        assert_eq!(count(&left, "recoveries") + count(&right, "recoveries"), 0);
        right.expect(&waiting);
        let got = left.receive().len();
        let dropped = card.vf_stats(0).expect("there").drops.total();
        assert_eq!(got + usize::try_from(dropped).expect("few"), 600);
        assert!(dropped > 0, "the ring was overrun");
        works(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn d65_two_resets_at_once_are_one(model) {
        let card = build(Card::builder(model).vfs(2));
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        card.pf().reset(20 * MS);
        let port = &left.port;
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        port.poll_control().expect("there");
                        let _ = port.set_mtu(1400);
                        let _ = port.refresh_stats();
                    }
                });
            }
        });
        left.run(&card, 50 * MS);
        right.run(&card, 50 * MS);
        until_up(&card, &mut left, 2000 * MS);
        until_up(&card, &mut right, 2000 * MS);
        assert_eq!(count(&left, "recoveries"), 1);
        works(&card, &mut left, &mut right);
        drop((left, right));
        assert_nothing_but_late_tails(&card);
    }

    fn d66_resets_that_fail_are_tried_again_with_rests_between(model) {
        let (card, mut left, mut right) = pair(model);
        // The PF answers no reset handshake three times, then it does.
        card.faults().add(Rule::new(Point::MailboxReply, Action::Drop).only(1).on_vf(0).times(3));
        card.pf().reset(5 * MS);
        left.run(&card, 20 * MS);
        until_up(&card, &mut left, 30_000 * MS);
        assert_eq!(count(&left, "recoveries"), 1);
        right.run(&card, 100 * MS);
        works(&card, &mut left, &mut right);
        // For ever: it stays down, tries now and then, and can be stopped and dropped.
        card.faults().clear();
        card.faults().add(Rule::new(Point::MailboxReply, Action::Drop).only(1).on_vf(0));
        card.pf().reset(5 * MS);
        left.run(&card, 20_000 * MS);
        assert!(matches!(left.port.state(), PortState::Recovering | PortState::PfResetting));
        let tries = card.faults().struck()[0];
        assert!((1..=20).contains(&tries), "{tries} tries in 20 s");
        let clock = card.clock();
        let begin = clock.now();
        drop((left, right));
        assert!(clock.now() - begin <= 400 * MS, "{:?} to drop", clock.now() - begin);
        assert_nothing_but_late_tails(&card);
    }
}

#[test]
fn l4_a_stop_by_malicious_driver_detection_is_one_recovery() {
    let (card, mut left, mut right) = pair(Model::X550);
    left.events();
    card.faults().add(
        Rule::new(Point::Data(DataPoint::TxFetch), Action::Data(Fault::Block))
            .on_vf(0)
            .times(1),
    );
    left.send(&[frame(right.mac(), left.mac(), 1, 64)]);
    left.run(&card, 4000 * MS);
    until_up(&card, &mut left, 5000 * MS);
    let events = left.events();
    assert!(
        events
            .iter()
            .any(|event| matches!(event, Event::PfReset | Event::TxHang)),
        "{events:?}"
    );
    assert_eq!(count(&left, "recoveries"), 1);
    right.receive();
    works(&card, &mut left, &mut right);
    drop((left, right));
    assert_nothing_but_late_tails(&card);
}
