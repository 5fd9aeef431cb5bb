//! Mailbox and reset, every way it can go wrong twice: an explicit search over pairs of faults, each at each of the first
//! passings of its point. Whatever happens, opening ends in a bounded time in a port or a reason, a port is up again in
//! bounded steps, and afterwards the device serves the next owner.
#![forbid(unsafe_code)]

mod common;

use std::time::Duration;

use common::build;
use vfnic::{Port, PortConfig, PortState};
use vfnic_hw::Model;
use vfnic_sim::{Action, Card, Point, Rule};

const MS: Duration = Duration::from_millis(1);

/// Passings of each point at which something is tried; `VFNIC_DEPTH` goes further.
fn depth() -> u64 {
    std::env::var("VFNIC_DEPTH")
        .ok()
        .and_then(|text| text.parse().ok())
        .unwrap_or(3)
}

/// Loss, delay, refusal, a message in between, somebody else's reset: at each end of the exchange.
fn faults() -> Vec<(Point, Action)> {
    vec![
        (Point::MailboxRequest, Action::Drop),
        (Point::MailboxRequest, Action::Nack),
        (Point::MailboxRequest, Action::ResetPort(5 * MS)),
        (Point::MailboxRequest, Action::ResetVf),
        (Point::MailboxReply, Action::Drop),
        (Point::MailboxReply, Action::Nack),
        (Point::MailboxReply, Action::Delay(1200 * MS)),
        (Point::MailboxReply, Action::Before(0x2000_0100)),
        (Point::MailboxReply, Action::Before(0x0000_0100)),
        (Point::MailboxReply, Action::Random),
        (Point::MailboxLock, Action::Drop),
        (Point::MailboxAck, Action::Drop),
        (Point::VfReset, Action::Drop),
    ]
}

/// Opens, changes a setting, works for a while. What became of it, in words.
fn life(card: &Card) -> &'static str {
    let clock = card.clock();
    let begin = clock.now();
    let opened = card
        .function(0)
        .map_err(vfnic::Error::from)
        .and_then(|function| Port::from_function(function, PortConfig::default()));
    let took = clock.now() - begin;
    assert!(took <= Duration::from_secs(6), "{took:?} to open");
    let Ok(port) = opened else {
        return "not opened, with a reason";
    };
    let Ok(pairs) = port.start() else {
        return "not started, with a reason";
    };
    for change in 0..3 {
        let begin = clock.now();
        let _ = match change {
            0 => port.add_vlan(7),
            1 => port.set_multicast(&[]),
            _ => port.remove_vlan(7),
        };
        let took = clock.now() - begin;
        assert!(took <= Duration::from_secs(6), "{took:?} for a request");
        port.poll_control().expect("nothing takes it away");
        card.run_for(10 * MS);
    }
    let mut pairs = pairs;
    let mut batch = port.batch(8);
    for _ in 0..1000 {
        card.run_for(20 * MS);
        port.poll_control().expect("nothing takes it away");
        for pair in &mut pairs {
            pair.tx.send(&mut batch).expect("there");
            pair.rx.receive(&mut batch).expect("there");
        }
        if port.state() == PortState::Up {
            drop((batch, pairs));
            port.close().expect("stops");
            return "up";
        }
    }
    panic!("neither up nor down after 20 s: {:?}", port.state());
}

fn search(model: Model) {
    let faults = faults();
    let (mut runs, mut up) = (0u32, 0u32);
    for (first, (point, action)) in faults.iter().enumerate() {
        for (other_point, other_action) in &faults[first..] {
            for skip in 0..depth() {
                // The second at the same moment, or later.
                for later in [0, 1] {
                    let card = build(Card::builder(model).vfs(1));
                    for (point, action, skip) in [
                        (point, action, skip),
                        (other_point, other_action, skip + later),
                    ] {
                        let rule = Rule::new(*point, *action).after(skip).times(1);
                        card.faults().add(rule);
                    }
                    let end =
                        std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| life(&card)));
                    let what = || {
                        format!(
                            "{model}: {point:?} {action:?} at {skip}, {other_point:?} {other_action:?} {later} later"
                        )
                    };
                    match end {
                        Ok("up") => up += 1,
                        Ok(_) => {}
                        Err(panic) => {
                            eprintln!("{}", what());
                            std::panic::resume_unwind(panic);
                        }
                    }
                    card.faults().clear();
                    card.run_for(2000 * MS);
                    assert_eq!(life(&card), "up", "afterwards: {}", what());
                    runs += 1;
                }
            }
        }
    }
    println!("{model}: {runs} pairs of faults, up after {up} of them at once");
    assert!(
        up > runs / 5 && up < runs,
        "the positive control: some of it is survived, some told"
    );
}

#[test]
fn two_faults_anywhere_in_igbs_mailbox() {
    search(Model::I350);
}

#[test]
fn two_faults_anywhere_in_ixgbes_mailbox() {
    search(Model::X540);
}
