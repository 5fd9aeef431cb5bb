//! Two ports in one IOVA space share a pool: what one receives the other sends, and nothing is copied.
//!
//! `cargo run --example two_ports`
#![forbid(unsafe_code)]

mod shared;

use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::{PoolConfig, Port, PortConfig};
use vfnic_hw::Model;
use vfnic_sim::SimSpace;

pub(crate) fn main() -> Result {
    let card = card(Model::I82599, 3)?;
    // On hardware the space is a `vfnic::backend::VfioSpace`, and `vfnic::backend::open_in` opens functions in it.
    let space = SimSpace::new();
    let pool = PoolConfig {
        buffers: 8192,
        ..PoolConfig::default()
    };
    let left = Port::from_function(
        card.function_in(0, &space)?,
        PortConfig::default().pool(pool),
    )?;
    let right = Port::from_function(
        card.function_in(1, &space)?,
        PortConfig::default().shared_pool(left.pool().clone()),
    )?;
    let mut ours = left.start()?.remove(0);
    let mut theirs = right.start()?.remove(0);
    for port in [&left, &right] {
        wait_for_link(port)?;
        port.spawn_control_thread()?;
    }
    let neighbour = neighbour(&card, 2, left.mac().0)?;

    // One batch serves both ports: their buffers are the same.
    let own = right.mac().0;
    let mut batch = left.batch(64);
    let mut sent = 0;
    while sent < FRAMES && !neighbour.is_finished() {
        if batch.is_empty() {
            ours.rx.receive(&mut batch)?;
            batch.each_first_mut(|frame| turn_round(frame, own));
        }
        sent += theirs.tx.send(&mut batch)?;
    }

    all_came_back(neighbour)?;
    drop((batch, ours, theirs));
    right.close()?;
    left.close()?;
    card.assert_no_violations();
    Ok(())
}
