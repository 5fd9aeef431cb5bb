//! Two VFs as one: when the first is taken away the second goes on, and gives back when the first returns.
//!
//! `cargo run --example bond`
#![forbid(unsafe_code)]

#[expect(dead_code, reason = "this one needs less of it")]
mod shared;

use std::time::{Duration, Instant};

use shared::{Result, card, datagram, wait_for_link};
use vfnic::{Bond, BondConfig, BondEvent, MacAddr, Port, PortConfig, PortMember};
use vfnic_hw::Model;
use vfnic_sim::{Card, SimSpace};

/// Frames sent by each member in turn.
const EACH: usize = 500;
/// Frames under way at a time: fewer than the peer's ring has buffers posted, however late it is looked at.
const UNDER_WAY: usize = 64;

/// VF `vf` as a member of the bond. On hardware `vfnic::backend::open_in` opens functions in one space.
fn member(card: &Card, space: &SimSpace, vf: u16, config: PortConfig) -> Result<PortMember> {
    let port = Port::from_function(card.function_in(vf, space)?, config)?;
    wait_for_link(&port)?;
    Ok(PortMember::new(&format!("vf{vf}"), port)?)
}

/// Looks after the bond until `name` carries the traffic.
fn wait_for(bond: &mut Bond, name: &str) -> Result {
    let start = Instant::now();
    while bond.active() != Some(name) {
        bond.poll_control();
        if start.elapsed() > Duration::from_secs(5) {
            return Err(format!("{name} does not take over").into());
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    for event in bond.events() {
        if let BondEvent::Active { name, mac, gap } = event {
            println!("{name} carries the traffic, from {mac}, after {gap:?}");
        }
    }
    Ok(())
}

pub(crate) fn main() -> Result {
    let card = card(Model::X540, 3)?;
    let space = SimSpace::new();
    let clock = card.clock();
    let first = member(&card, &space, 0, PortConfig::default())?;
    let pool = first.port().pool().clone();
    let second = member(
        &card,
        &space,
        1,
        PortConfig::default().shared_pool(pool.clone()),
    )?;
    let config = BondConfig::default()
        .primary("vf0")
        .miimon(Duration::from_millis(10));
    let mut bond = Bond::new(config, clock, pool.batch(64));
    bond.set_addresses(&["192.0.2.1".parse()?, "2001:db8::1".parse()?]);
    bond.add(Box::new(first));
    bond.add(Box::new(second));

    let peer = Port::from_function(card.function(2)?, PortConfig::default())?;
    wait_for_link(&peer)?;
    let mut theirs = peer.start()?.remove(0);
    let mut arrived = 0;
    let mut batch = pool.batch(64);
    let mut inbox = peer.batch(256);
    for name in ["vf0", "vf1", "vf0"] {
        wait_for(&mut bond, name)?;
        let own: MacAddr = bond.mac().ok_or("nobody carries the traffic")?;
        let (start, mut sent, before) = (Instant::now(), 0, arrived);
        while arrived < before + EACH && start.elapsed() < Duration::from_secs(5) {
            let limit = EACH.min(arrived - before + UNDER_WAY);
            if sent < limit && batch.is_empty() {
                batch.push_bytes(&datagram(peer.mac().0, own, sent))?;
            }
            sent += bond.send(&mut batch)?;
            theirs.rx.receive(&mut inbox)?;
            arrived += inbox
                .frames()
                .filter(|frame| frame.packet_type().is_udp())
                .count();
            inbox.clear();
        }
        if arrived != before + EACH {
            return Err(format!("{} of {EACH} frames arrived by {name}", arrived - before).into());
        }
        match name {
            "vf0" if before == 0 => card.pf().remove_vf(0)?,
            "vf1" => {
                card.pf().return_vf(0)?;
                let again = PortConfig::default().shared_pool(pool.clone());
                bond.add(Box::new(member(&card, &space, 0, again)?));
            }
            _ => {}
        }
    }
    println!("{arrived} frames arrived; {:?}", bond.stats());
    Ok(())
}
