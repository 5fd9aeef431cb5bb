//! A stateless firewall between two VFs. SR-IOV goes past the host's security groups; a program that holds both ends
//! puts rules back in between: first match decides, and what no rule mentions is dropped.
//!
//! `cargo run --example firewall`
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "this one needs less of it")]
mod shared;

use std::time::{Duration, Instant};

use shared::{Result, card, datagram, turn_round, wait_for_link};
use vfnic::{MacAddr, PoolConfig, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::SimSpace;

/// What to do with datagrams from certain ports.
#[derive(Clone, Copy, Debug)]
struct Rule {
    /// Source ports it is about, both included.
    ports: (u16, u16),
    accept: bool,
}

/// First match decides.
const RULES: [Rule; 2] = [
    Rule {
        ports: (0x8000, 0x800f),
        accept: false,
    },
    Rule {
        ports: (0x8000, 0x80ff),
        accept: true,
    },
];

/// Whether the frame may pass. Whatever cannot be understood may not.
fn passes(frame: &[u8]) -> bool {
    let is_udp = frame.get(12..14) == Some(&[8, 0])
        && frame.get(14) == Some(&0x45)
        && frame.get(23) == Some(&17)
        // Later fragments have no ports.
        && matches!(frame.get(20..22), Some([flags, 0]) if flags & 0x3f == 0);
    let Some(port) = frame.get(34..36).filter(|_| is_udp) else {
        return false;
    };
    let port = u16::from_be_bytes([port[0], port[1]]);
    RULES
        .iter()
        .find(|rule| (rule.ports.0..=rule.ports.1).contains(&port))
        .is_some_and(|rule| rule.accept)
}

pub(crate) fn main() -> Result {
    let card = card(Model::X540, 3)?;
    let space = SimSpace::new();
    let pool = PoolConfig {
        buffers: 8192,
        ..PoolConfig::default()
    };
    let outside = Port::from_function(
        card.function_in(0, &space)?,
        PortConfig::default().pool(pool),
    )?;
    let inside = Port::from_function(
        card.function_in(1, &space)?,
        PortConfig::default().shared_pool(outside.pool().clone()),
    )?;
    let mut outer = outside.start()?.remove(0);
    let mut inner = inside.start()?.remove(0);
    for port in [&outside, &inside] {
        wait_for_link(port)?;
        port.spawn_control_thread()?;
    }

    // 300 datagrams from as many ports, sent from a third VF to the firewall's outer side.
    let station = Port::from_function(card.function(2)?, PortConfig::default())?;
    let mut there = station.start()?.remove(0);
    wait_for_link(&station)?;
    let mut requests = station.batch(512);
    for number in 0..300 {
        let to: MacAddr = outside.mac().0;
        requests.push_bytes(&datagram(to, station.mac().0, number))?;
    }
    there.tx.send(&mut requests)?;

    let own = inside.mac().0;
    let mut batch = outside.batch(64);
    let (mut seen, mut passed, mut arrived) = (0, 0, 0);
    let start = Instant::now();
    while (seen < 300 || arrived < passed) && start.elapsed() < Duration::from_secs(10) {
        seen += outer.rx.receive(&mut batch)?;
        batch.retain_mut(|frame| passes(frame.data()));
        batch.each_first_mut(|frame| turn_round(frame, own));
        passed += inner.tx.send(&mut batch)?;
        arrived += there.rx.receive(&mut requests)?;
        requests.clear();
    }

    println!("{seen} frames seen, {passed} passed, {arrived} arrived");
    // Ports 0x8000 to 0x80ff, without the first sixteen.
    if (seen, passed, arrived) != (300, 240, 240) {
        return Err("the rules say 240 of 300".into());
    }
    drop((batch, requests, outer, inner, there));
    for port in [inside, outside, station] {
        port.close()?;
    }
    card.assert_no_violations();
    Ok(())
}
