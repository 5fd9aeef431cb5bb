//! Resets: the PF's, the administrator's, somebody else's. Traffic comes back by itself, with everything as it was.

mod common;

use std::time::Duration;

use common::{Station, assert_nothing_but_late_tails, build, card, frame, open};
use vfnic::{Error, Event, Link, MacOrigin, PortConfig, PortState, Promisc, QueueError};
use vfnic_hw::{Family, Model};
use vfnic_sim::Card;

const MS: Duration = Duration::from_millis(1);

/// Both stations exchange a few frames.
fn exchange(card: &Card, left: &mut Station, right: &mut Station) {
    let there: Vec<_> = (0..20)
        .map(|n| frame(right.mac(), left.mac(), n, 64 + n as usize))
        .collect();
    left.send(&there);
    card.step();
    right.expect(&there);
    let back: Vec<_> = (0..20)
        .map(|n| frame(left.mac(), right.mac(), n, 64 + n as usize))
        .collect();
    right.send(&back);
    card.step();
    left.expect(&back);
}

fn recover(card: &Card, stations: &mut [&mut Station]) {
    for _ in 0..200 {
        for station in stations.iter_mut() {
            station.run(card, 5 * MS);
        }
        if stations
            .iter()
            .all(|station| station.port.state() == PortState::Up)
        {
            return;
        }
    }
    let states: Vec<_> = stations
        .iter()
        .map(|station| station.port.state())
        .collect();
    panic!("no recovery: {states:?}");
}

for_every_model! {
    fn traffic_comes_back_after_a_reset_of_the_pf(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        exchange(&card, &mut left, &mut right);
        for round in 0..5 {
            let macs = (left.mac(), right.mac());
            left.events();
            card.pf().reset(30 * MS);
            left.run(&card, 10 * MS);
            assert_eq!(left.port.state(), PortState::PfResetting, "round {round}");
            assert_eq!(left.port.link(), Link::Down);
            recover(&card, &mut [&mut left, &mut right]);
            let events = left.events();
            assert!(
                matches!(
                    events.as_slice(),
                    [Event::PfReset, Event::LinkDown, Event::Recovered { took }, Event::LinkUp { .. }]
                        if *took <= 130 * MS
                ),
                "{events:?}"
            );
            assert_eq!((left.mac(), right.mac()), macs, "a random address is kept");
            exchange(&card, &mut left, &mut right);
        }
        assert_eq!(left.port.stats().get("recoveries"), Some(5));
        drop((left, right));
        card.assert_no_violations();
    }

    fn d11_d33_no_frame_of_the_old_life_is_delivered_in_the_new(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        // Received and not yet taken when the reset comes.
        left.send(&(0..30).map(|n| frame(right.mac(), left.mac(), 1000 + n, 64)).collect::<Vec<_>>());
        card.step();
        card.pf().reset(20 * MS);
        // Queued after the reset, before anybody noticed: these go nowhere.
        left.try_send(&(0..30).map(|n| frame(right.mac(), left.mac(), 2000 + n, 64)).collect::<Vec<_>>());
        for _ in 0..20 {
            left.run(&card, 5 * MS);
            right.run(&card, 5 * MS);
        }
        recover(&card, &mut [&mut left, &mut right]);
        right.expect(&[]);
        exchange(&card, &mut left, &mut right);
        let stats = left.port.stats();
        let lost = stats.get("tx0_not_confirmed").expect("a counter");
        assert!((1..=60).contains(&lost), "{lost} frames not confirmed");
        drop((left, right));
        assert_nothing_but_late_tails(&card);
    }

    fn m20_settings_are_replayed(model) {
        let card = build(Card::builder(model).vfs(2));
        card.pf().set_vf_trust(0, true).expect("there");
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let extra = "02:00:00:00:00:77".parse().expect("an address");
        let group = "01:00:5e:01:02:03".parse().expect("an address");
        let own = "02:00:00:00:00:55".parse().expect("an address");
        left.port.set_mac(own).expect("allowed");
        left.port.add_mac(extra).expect("allowed");
        left.port.add_vlan(100).expect("allowed");
        right.port.add_vlan(100).expect("allowed");
        left.port.set_multicast(&[group]).expect("allowed");
        left.port.set_promiscuous(Promisc::AllMulticast).expect("trusted");
        card.pf().reset(20 * MS);
        recover(&card, &mut [&mut left, &mut right]);
        assert_eq!(left.port.mac(), (own, MacOrigin::Requested));
        assert_eq!(left.port.lost_settings(), Vec::<String>::new());
        let mut tagged = frame(own, right.mac(), 9, 64);
        tagged.splice(12..12, [0x81, 0x00, 0, 100]);
        let sent = [
            frame(own, right.mac(), 1, 64),
            frame(extra, right.mac(), 2, 64),
            frame(group, right.mac(), 3, 64),
            // Another group: only because of all-multicast.
            frame("01:00:5e:7f:00:01".parse().expect("an address"), right.mac(), 4, 64),
            tagged,
        ];
        right.send(&sent);
        card.step();
        let numbers: Vec<u8> = left
            .receive()
            .iter()
            .map(|frame| frame[17])
            .collect();
        assert_eq!(numbers, [1, 2, 3, 4, 9]);
        drop((left, right));
        card.assert_no_violations();
    }

    fn m19_a_pf_that_stays_down_costs_nothing_and_is_waited_for(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        card.pf().down();
        for _ in 0..30 {
            left.run(&card, 100 * MS);
            right.run(&card, 100 * MS);
            assert_eq!(left.try_send(&[frame(right.mac(), left.mac(), 1, 64)]), 0);
        }
        assert_eq!(left.port.state(), PortState::PfResetting);
        match left.port.set_mac("02:00:00:00:00:01".parse().expect("an address")) {
            Err(Error::Recovering { .. }) => {}
            other => panic!("{other:?}"),
        }
        card.pf().up();
        recover(&card, &mut [&mut left, &mut right]);
        exchange(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn a_port_can_be_stopped_while_it_recovers_and_started_again(model) {
        let card = card(model, 2);
        let mut right = Station::new(&card, 1, PortConfig::default());
        let left = Station::new(&card, 0, PortConfig::default());
        card.pf().down();
        let mut left = left;
        left.run(&card, 20 * MS);
        assert_eq!(left.port.state(), PortState::PfResetting);
        let Station { port, pairs, .. } = left;
        port.stop(pairs).expect("stops all the same");
        assert!(matches!(port.start(), Err(Error::Recovering { .. })));
        card.pf().up();
        for _ in 0..200 {
            card.run_for(10 * MS);
            port.poll_control().expect("there");
        }
        assert_eq!(port.state(), PortState::Stopped);
        let pairs = port.start().expect("the PF is back");
        let mut left = Station::of(port, pairs);
        recover(&card, &mut [&mut left, &mut right]);
        exchange(&card, &mut left, &mut right);
        assert_eq!(
            left.port.stats().get("tx0_packets"),
            Some(20),
            "counters of the first start are not forgotten"
        );
        drop((left, right));
        card.assert_no_violations();
    }

    fn m21_a_pf_that_resets_all_the_time_is_lived_with(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        for round in 0..100u32 {
            card.pf().reset(Duration::from_micros(u64::from(round % 7) * 500));
            left.run(&card, Duration::from_micros(u64::from(round % 13) * 200));
            right.run(&card, 2 * MS);
            left.try_send(&[frame(right.mac(), left.mac(), round, 64)]);
        }
        recover(&card, &mut [&mut left, &mut right]);
        right.receive();
        exchange(&card, &mut left, &mut right);
        left.events();
        drop(left.pairs);
        let pool = left.port.pool().stats();
        drop(left.batch);
        assert_eq!(left.port.pool().stats().home, pool.total, "{pool:?}: buffers were lost");
        drop((left.port, right));
        assert_nothing_but_late_tails(&card);
    }

    fn d57_a_reset_by_somebody_else_is_noticed(model) {
        let card = card(model, 2);
        let function = card.function(0).expect("free");
        let port = vfnic::Port::from_function(function.clone(), PortConfig::default()).expect("opens");
        let pairs = port.start().expect("starts");
        let mut left = Station::of(port, pairs);
        let mut right = Station::new(&card, 1, PortConfig::default());
        exchange(&card, &mut left, &mut right);
        // As an administrator does with `echo 1 > …/reset`: registers, bus mastering and vectors are gone.
        function.reset().expect("resets");
        left.events();
        left.run(&card, Duration::from_millis(2500));
        assert!(
            left.events().iter().any(|event| matches!(event, Event::Recovered { .. })),
            "nobody noticed"
        );
        exchange(&card, &mut left, &mut right);
        drop((left, right, function));
        card.assert_no_violations();
    }

    fn d59_a_bus_master_bit_that_somebody_cleared_is_set_again(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        card.faults().clear_bus_master(0);
        left.run(&card, 1000 * MS);
        recover(&card, &mut [&mut left, &mut right]);
        exchange(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn a_transmit_queue_that_the_device_blocks_is_reset_within_two_seconds(model) {
        use vfnic_sim::data::{Fault, Point as DataPoint};
        use vfnic_sim::{Action, Point, Rule};
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.events();
        card.faults().add(
            Rule::new(Point::Data(DataPoint::TxFetch), Action::Data(Fault::Block)).on_vf(0).times(1),
        );
        left.try_send(&[frame(right.mac(), left.mac(), 1, 64)]);
        left.run(&card, 2100 * MS);
        assert!(left.events().contains(&Event::TxHang));
        recover(&card, &mut [&mut left, &mut right]);
        right.receive();
        exchange(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn a_queue_that_cannot_be_had_is_no_loop_of_resets(model) {
        use vfnic_sim::{Action, Point, Rule};
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        // From the next time on the receive queue cannot be enabled.
        card.faults().add(Rule::new(Point::QueueEnable, Action::Drop).only(0).on_vf(0));
        card.pf().reset(5 * MS);
        for _ in 0..20 {
            left.run(&card, 1000 * MS);
        }
        let resets = left.port.stats().get("recoveries").expect("a counter");
        assert!((3..=12).contains(&resets), "{resets} recoveries in 20 s");
        card.faults().clear();
        left.run(&card, 3000 * MS);
        recover(&card, &mut [&mut left, &mut right]);
        exchange(&card, &mut left, &mut right);
        // And with nobody using the queues there is nothing to see, and nothing to do.
        let before = left.port.stats().get("recoveries");
        card.pf().reset(5 * MS);
        for _ in 0..200 {
            card.run_for(50 * MS);
            left.port.poll_control().expect("there");
        }
        assert_eq!(left.port.stats().get("recoveries"), before.map(|count| count + 1));
        recover(&card, &mut [&mut left, &mut right]);
        exchange(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }

    fn an_address_the_administrator_changes_is_taken_over(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        let given = [0x02, 0, 0, 0xaa, 0xbb, 0xcc];
        card.pf().set_vf_mac(0, given).expect("there");
        card.pf().reset(10 * MS);
        recover(&card, &mut [&mut left, &mut right]);
        assert_eq!(left.port.mac(), (given.into(), MacOrigin::Administered));
        assert!(left.events().contains(&Event::MacChanged));
        exchange(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn m20_a_trust_change_is_a_reset_of_the_vf_alone() {
    for model in [Model::I82599, Model::X540, Model::X550] {
        assert_eq!(model.family(), Family::Ixgbevf);
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        assert!(matches!(
            left.port.set_promiscuous(Promisc::AllMulticast),
            Err(Error::NeedsTrust { .. })
        ));
        left.events();
        right.events();
        card.pf().set_vf_trust(0, true).expect("there");
        recover(&card, &mut [&mut left, &mut right]);
        left.run(&card, 10 * MS);
        assert!(left.events().contains(&Event::PfReset));
        assert_eq!(
            right.events(),
            [],
            "its neighbour has nothing to do with it"
        );
        left.port
            .set_promiscuous(Promisc::AllMulticast)
            .expect("trusted now");
        exchange(&card, &mut left, &mut right);
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn r13_queues_of_a_stopped_port_say_so() {
    let card = card(Model::I82599, 1);
    let port = open(&card, 0, PortConfig::default());
    let mut pairs = port.start().expect("starts");
    assert!(
        matches!(port.start(), Err(Error::State { .. })),
        "started twice"
    );
    let mut batch = port.batch(8);
    port.stop(Vec::new()).expect("stops");
    assert_eq!(pairs[0].rx.receive(&mut batch), Err(QueueError::Stopped));
    assert_eq!(pairs[0].tx.send(&mut batch), Err(QueueError::Stopped));
    assert!(
        matches!(port.start(), Err(Error::State { .. })),
        "old queues are around"
    );
    drop(pairs);
    let pairs = port.start().expect("starts again");
    drop(pairs);
    drop(
        port.start()
            .expect("starts after its queues were just dropped"),
    );
    drop(port);
    card.assert_no_violations();
}
