//! Something goes wrong at every single step of a port's life, one step after the other: it ends well, or with an
//! error, in time, and the device can be used afterwards.

mod common;

use std::time::Duration;

use common::{Station, assert_nothing_but_late_tails, build, frame};
use vfnic::{Error, Port, PortConfig, PortState};
use vfnic_hw::Model;
use vfnic_sim::{Action, Card, Point, Rule};

const MS: Duration = Duration::from_millis(1);

/// Open, start, change settings, exchange frames, stop, start, close.
fn life(card: &Card) -> Result<(), Error> {
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut pairs = port.start()?;
    let mut batch = port.batch(32);
    let _ = port.add_vlan(5);
    let _ = port.set_mtu(1400);
    for _ in 0..20 {
        port.poll_control()?;
        pairs[0].tx.send(&mut batch)?;
        pairs[0].rx.receive(&mut batch)?;
        card.run_for(5 * MS);
    }
    drop(batch);
    port.stop(pairs)?;
    for _ in 0..40 {
        port.poll_control()?;
        card.run_for(5 * MS);
    }
    drop(port.start()?);
    port.close()
}

/// What `life` says when nothing is wrong, and the register accesses it takes.
fn works(card: &Card, what: &str) {
    card.faults().clear();
    card.take_violations();
    // A reset that is still going on is over by then.
    card.run_for(1000 * MS);
    life(card).unwrap_or_else(|error| panic!("{what}: and afterwards: {error}"));
    card.assert_no_violations();
}

/// Runs `life` with `action` at passing `skip` of `point`, for skips until it is never reached any more.
fn sweep(model: Model, point: Point, action: Action, stride: u64) -> u64 {
    let mut skip = 0;
    loop {
        let card = build(Card::builder(model).vfs(1));
        card.faults()
            .add(Rule::new(point, action).after(skip).times(1));
        let clock = card.clock();
        let begin = clock.now();
        let result = life(&card);
        let took = clock.now() - begin;
        let what = format!("{model}: {point:?} {skip}: {action:?}");
        assert!(took < Duration::from_secs(12), "{what}: {took:?}");
        if let Err(error) = &result {
            assert!(!error.to_string().is_empty());
        }
        if card.faults().struck() == [0] {
            result.unwrap_or_else(|error| panic!("{what}: nothing went wrong: {error}"));
            return skip / stride;
        }
        if action != Action::Remove {
            assert_nothing_but_late_tails(&card);
            works(&card, &what);
        }
        skip += stride;
    }
}

#[test]
fn m22_a_reset_of_the_pf_at_any_register_access() {
    for model in [Model::I82576, Model::X550] {
        let steps = sweep(
            model,
            Point::RegisterRead,
            Action::ResetPort(Duration::from_millis(7)),
            7,
        );
        assert!(steps > 20, "{steps} steps");
    }
}

#[test]
fn a_reset_of_the_vf_by_somebody_else_at_any_register_access() {
    for model in [Model::I350, Model::I82599] {
        let steps = sweep(model, Point::RegisterRead, Action::ResetVf, 7);
        assert!(steps > 20, "{steps} steps");
    }
}

#[test]
fn r11_removal_at_any_register_access() {
    for model in [Model::I82576, Model::X540] {
        let steps = sweep(model, Point::RegisterRead, Action::Remove, 3);
        assert!(steps > 40, "{steps} steps");
    }
}

#[test]
fn m2_a_lost_reply_at_any_message() {
    for model in Model::ALL {
        let steps = sweep(model, Point::MailboxReply, Action::Drop, 1);
        assert!(steps > 8, "{steps} steps");
    }
}

#[test]
fn a_refusal_at_any_message() {
    for model in Model::ALL {
        let steps = sweep(model, Point::MailboxRequest, Action::Nack, 1);
        assert!(steps > 8, "{steps} steps");
    }
}

#[test]
fn m16_everybody_asks_at_once() {
    let card = build(Card::builder(Model::X550).vfs(2).threaded());
    let mut left = Station::new(&card, 0, PortConfig::default());
    let mut right = Station::new(&card, 1, PortConfig::default());
    let port = &left.port;
    std::thread::scope(|scope| {
        for thread in 0..3u16 {
            scope.spawn(move || {
                for round in 0..40u16 {
                    let id = 100 * thread + round + 1;
                    port.add_vlan(id).expect("there is room");
                    port.remove_vlan(id).expect("joined");
                }
            });
        }
        scope.spawn(|| {
            for _ in 0..200 {
                port.poll_control().expect("there");
                assert!(port.stats().iter().count() > 5);
                assert!(port.capabilities().iter().count() > 5);
            }
        });
    });
    assert_eq!(left.port.state(), PortState::Up);
    let sent = [frame(right.mac(), left.mac(), 1, 64)];
    left.send(&sent);
    let limit = std::time::Instant::now() + Duration::from_secs(2);
    let mut got = Vec::new();
    while got.is_empty() && std::time::Instant::now() < limit {
        got = right.receive();
    }
    assert_eq!(got, sent);
    drop((left, right));
    card.assert_no_violations();
}
