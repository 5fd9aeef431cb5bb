//! A device that goes away: every call says so at once, and nothing hangs.

mod common;

use std::time::{Duration, Instant};

use common::{Station, card, frame};
use vfnic::{Error, Event, Link, PollMode, Poller, Port, PortConfig, PortState, QueueError};
use vfnic_hw::Model;
use vfnic_sim::Card;

for_every_model! {
    fn d50_every_call_says_so_at_once(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.send(&(0..10).map(|n| frame(right.mac(), left.mac(), n, 64)).collect::<Vec<_>>());
        left.events();
        card.pf().remove_vf(0).expect("there");
        let begin = Instant::now();
        let clock = card.clock();
        let told = clock.now();
        assert!(matches!(left.port.poll_control(), Err(Error::Gone { .. })));
        assert!(matches!(left.port.poll_control(), Err(Error::Gone { .. })));
        assert_eq!(left.events(), [Event::Gone], "told once");
        assert_eq!((left.port.state(), left.port.link()), (PortState::Gone, Link::Down));
        let mut batch = left.port.batch(32);
        assert_eq!(left.pairs[0].rx.receive(&mut batch), Err(QueueError::Gone));
        assert_eq!(left.pairs[0].tx.send(&mut batch), Err(QueueError::Gone));
        assert!(matches!(left.port.add_vlan(5), Err(Error::Gone { .. })));
        assert!(matches!(left.port.set_mtu(900), Err(Error::Gone { .. })));
        assert!(matches!(left.port.refresh_stats(), Err(Error::Gone { .. })));
        assert!(clock.now() - told <= Duration::from_millis(10), "somebody waited");
        left.port.stop(Vec::new()).expect("it is over already");
        assert!(matches!(left.port.close(), Ok(())));
        assert!(begin.elapsed() < Duration::from_secs(1), "{:?}", begin.elapsed());
        drop((left.pairs, left.batch, batch));
        // The neighbour is none the worse, and a new owner can have the device when it is back.
        card.pf().return_vf(0).expect("there");
        let mut again = Station::new(&card, 0, PortConfig::default());
        again.send(&[frame(right.mac(), again.mac(), 1, 64)]);
        card.step();
        assert_eq!(right.receive().len(), 1);
        drop((again, right));
        card.assert_no_violations();
    }

    fn d50_a_port_with_traffic_wants_to_be_looked_after_so_often_that_it_is_told_in_time(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let right = Station::new(&card, 1, PortConfig::default());
        left.run(&card, Duration::from_secs(1));
        let pause = |station: &Station| station.port.poll_control().expect("there");
        assert_eq!(pause(&left), Duration::from_millis(100), "nothing goes on");
        left.send(&[frame(right.mac(), left.mac(), 1, 64)]);
        assert!(pause(&left) <= Duration::from_millis(5), "frames pass");
        // Not only while they do: a burst may be followed by the next.
        card.run_for(Duration::from_millis(50));
        assert!(pause(&left) <= Duration::from_millis(5));
        card.run_for(Duration::from_millis(100));
        assert_eq!(pause(&left), Duration::from_millis(100), "it is over");
        drop((left, right));
        card.assert_no_violations();
    }

    fn removal_while_recovering_ends_the_recovery(model) {
        let card = card(model, 1);
        let mut left = Station::new(&card, 0, PortConfig::default());
        card.pf().down();
        left.run(&card, Duration::from_millis(50));
        assert_eq!(left.port.state(), PortState::PfResetting);
        card.pf().remove_vf(0).expect("there");
        card.run_for(Duration::from_millis(20));
        assert!(matches!(left.port.poll_control(), Err(Error::Gone { .. })));
        assert!(left.events().contains(&Event::Gone));
        drop(left);
    }

    fn opening_a_device_that_is_gone_fails_at_once(model) {
        let card = card(model, 1);
        let function = card.function(0).expect("free");
        card.pf().remove_vf(0).expect("there");
        let begin = Instant::now();
        assert!(matches!(
            Port::from_function(function, PortConfig::default()),
            Err(Error::Gone { .. } | Error::Pci(vfnic_hw::PciError::Gone { .. }))
        ));
        assert!(begin.elapsed() < Duration::from_secs(1));
    }
}

#[test]
fn h15_a_request_for_the_device_is_told_once() {
    let card = card(Model::X550, 1);
    let mut left = Station::new(&card, 0, PortConfig::default());
    left.events();
    for _ in 0..5 {
        card.pf().request_vf(0).expect("there");
        left.run(&card, Duration::from_millis(10));
    }
    assert_eq!(left.events(), [Event::RemovalRequested]);
    assert_eq!(
        left.port.state(),
        PortState::Up,
        "it goes on until it is dropped"
    );
    drop(left);
    card.assert_no_violations();
}

#[test]
fn a_sleeping_poller_is_woken_when_the_device_goes() {
    let card = common::build(Card::builder(Model::I82599).vfs(1).threaded());
    let mut left = Station::new(&card, 0, PortConfig::default());
    left.port.spawn_control_thread().expect("a thread");
    let mut poller = Poller::new(PollMode::Interrupt).expect("a poller");
    poller.add(left.pairs.remove(0)).expect("added");
    let pf = card.pf();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(30));
        pf.remove_vf(0).expect("there");
    });
    let begin = Instant::now();
    let mut batch = left.port.batch(8);
    let error = poller
        .turn(None, |index, pairs| pairs[index].rx.receive(&mut batch))
        .expect_err("the device is gone");
    assert!(matches!(error, Error::Queue(QueueError::Gone)), "{error}");
    assert!(
        begin.elapsed() < Duration::from_secs(2),
        "{:?}",
        begin.elapsed()
    );
    thread.join().expect("no panic");
}
