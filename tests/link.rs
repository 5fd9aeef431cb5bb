//! Link state: cable, speed, the administrator's switch, flapping.

mod common;

use std::time::Duration;

use common::{Station, card, frame};
use vfnic::{Event, Link, PortConfig, PortState};
use vfnic_hw::Model;
use vfnic_sim::VfLink;

const MS: Duration = Duration::from_millis(1);

/// What [`frame`] wrote behind the addresses.
fn number_of(frame: &[u8]) -> u32 {
    u32::from_be_bytes(frame[14..18].try_into().expect("4 bytes"))
}

for_every_model! {
    fn l1_a_pulled_cable_is_told_and_traffic_goes_on_when_it_is_back(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.events();
        for _ in 0..20 {
            card.pf().set_link(false);
            left.run(&card, 20 * MS);
            assert_eq!(left.events(), [Event::LinkDown]);
            assert_eq!((left.port.link(), left.port.state()), (Link::Down, PortState::LinkDown));
            card.pf().set_link(true);
            left.run(&card, 20 * MS);
            assert!(matches!(left.events().as_slice(), [Event::LinkUp { .. }]));
            assert_eq!(left.port.state(), PortState::Up);
        }
        let sent = [frame(right.mac(), left.mac(), 1, 64)];
        left.send(&sent);
        card.step();
        right.expect(&sent);
        assert_eq!(left.port.stats().get("recoveries"), Some(0), "a link change is no reset");
        drop((left, right));
        card.assert_no_violations();
    }

    fn l1_a_thousand_flaps_in_traffic_cost_no_frame_that_is_not_counted(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        left.events();
        let (mut sent, mut got) = (0u32, Vec::new());
        for flap in 0..1000u32 {
            for up in [false, true] {
                let frames: Vec<_> = (sent..sent + flap % 7)
                    .map(|number| frame(right.mac(), left.mac(), number, 64))
                    .collect();
                // What the ring has no room for is offered again.
                sent += u32::try_from(left.try_send(&frames)).expect("few");
                card.pf().set_link(up);
                left.run(&card, 20 * MS);
                let told = left.events();
                match up {
                    false => assert_eq!(told, [Event::LinkDown], "flap {flap}"),
                    true => assert!(matches!(told.as_slice(), [Event::LinkUp { .. }]), "flap {flap}: {told:?}"),
                }
                got.extend(right.receive().iter().map(|frame| number_of(frame)));
            }
        }
        left.run(&card, 100 * MS);
        got.extend(right.receive().iter().map(|frame| number_of(frame)));
        assert!(got.is_sorted_by(|a, b| a < b), "once each, in order");
        let dropped: u64 = [0, 1].map(|vf| card.vf_stats(vf).expect("there").drops.total()).iter().sum();
        assert_eq!(got.len() as u64 + dropped, u64::from(sent), "{dropped} counted as lost");
        assert!(got.len() > 1000, "{} of {sent}", got.len());
        assert_eq!(left.port.stats().get("recoveries"), Some(0), "a link change is no reset");
        // Nobody reads events for a while: they stay few, in turn, and the last one is the truth.
        for _ in 0..200 {
            for up in [false, true] {
                card.pf().set_link(up);
                left.run(&card, 20 * MS);
            }
        }
        let told = left.events();
        assert!(told.len() <= 1024, "{} events", told.len());
        assert!(matches!(told.last(), Some(Event::LinkUp { .. })), "{:?}", told.last());
        assert!(left.port.link().is_up());
        drop((left, right));
        card.assert_no_violations();
    }

    fn l2_a_link_that_is_down_at_start_is_no_error(model) {
        let card = card(model, 1);
        card.pf().set_link(false);
        let mut left = Station::new(&card, 0, PortConfig::default());
        assert_eq!(left.port.state(), PortState::LinkDown);
        assert_eq!(left.events(), []);
        left.run(&card, 1000 * MS);
        assert_eq!(left.events(), []);
        card.pf().set_link(true);
        left.run(&card, 20 * MS);
        assert!(matches!(left.events().as_slice(), [Event::LinkUp { .. }]));
        drop(left);
        card.assert_no_violations();
    }

    fn every_speed_is_told(model) {
        let card = card(model, 1);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let speeds: &[u32] = match model {
            Model::I82576 | Model::I350 => &[10, 100, 1_000],
            Model::I82599 | Model::X540 => &[100, 1_000, 10_000],
            Model::X550 => &[10, 100, 1_000, 2_500, 5_000, 10_000],
        };
        for speed in speeds {
            card.pf().set_speed(*speed).expect("the model has it");
            left.run(&card, 20 * MS);
            assert!(
                matches!(left.port.link(), Link::Up { mbps, .. } if mbps == *speed),
                "{speed}: {}",
                left.port.link()
            );
        }
        drop(left);
        card.assert_no_violations();
    }

    fn frames_queued_while_the_link_is_down_end_in_a_reset_or_leave_later(model) {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        card.pf().set_link(false);
        left.run(&card, 20 * MS);
        left.try_send(&[frame(right.mac(), left.mac(), 1, 64)]);
        left.run(&card, 20_000 * MS);
        card.pf().set_link(true);
        left.run(&card, 7_000 * MS);
        right.run(&card, 20 * MS);
        right.receive();
        let sent = [frame(right.mac(), left.mac(), 2, 64)];
        left.send(&sent);
        card.step();
        right.expect(&sent);
        let resets = left.port.stats().get("recoveries").expect("a counter");
        assert!(resets <= 1, "{resets} resets");
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn the_administrator_can_switch_a_link_off() {
    for model in [Model::I82599, Model::X540, Model::X550] {
        let card = card(model, 2);
        let mut left = Station::new(&card, 0, PortConfig::default());
        let mut right = Station::new(&card, 1, PortConfig::default());
        card.pf().set_vf_state(0, VfLink::Disable).expect("there");
        left.run(&card, 500 * MS);
        assert_eq!(
            (left.port.link(), left.port.state()),
            (Link::Down, PortState::LinkDown)
        );
        card.pf().set_vf_state(0, VfLink::Auto).expect("there");
        left.run(&card, 500 * MS);
        assert_eq!(left.port.state(), PortState::Up);
        let sent = [frame(right.mac(), left.mac(), 2, 64)];
        left.send(&sent);
        card.step();
        right.expect(&sent);
        drop((left, right));
        card.assert_no_violations();
    }
}

#[test]
fn the_control_thread_tells_without_being_asked() {
    let card = common::build(vfnic_sim::Card::builder(Model::X550).vfs(1).threaded());
    let left = Station::new(&card, 0, PortConfig::default());
    left.port.spawn_control_thread().expect("a thread");
    left.port.spawn_control_thread().expect("the same thread");
    left.events();
    card.pf().set_link(false);
    let limit = std::time::Instant::now() + Duration::from_secs(3);
    while left.port.link().is_up() {
        assert!(
            std::time::Instant::now() < limit,
            "nobody looks after the port"
        );
        std::thread::sleep(MS);
    }
    assert_eq!(left.events(), [Event::LinkDown]);
    let begin = std::time::Instant::now();
    drop(left);
    assert!(begin.elapsed() < 100 * MS, "{:?} to drop", begin.elapsed());
}
