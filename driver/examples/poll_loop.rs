//! The plainest program there is: one port, one queue pair, one loop that looks all the time and sends back what it gets.
//!
//! `cargo run --example poll_loop`
#![forbid(unsafe_code)]

mod shared;

use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::{Port, PortConfig};
use vfnic_hw::Model;

pub(crate) fn main() -> Result {
    let card = card(Model::I82599, 2)?;
    // On a machine with such a card: Port::open("0000:31:10.1")?
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut pair = port.start()?.remove(0);
    wait_for_link(&port)?;
    // Somebody has to look after the port: link, resets, counters. A thread of its own is the simplest.
    port.spawn_control_thread()?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    // A batch holds frames, and a cache of free buffers: one for each thread is enough.
    let mut batch = port.batch(64);
    let mut sent = 0;
    while sent < FRAMES && !neighbour.is_finished() {
        if batch.is_empty() {
            pair.rx.receive(&mut batch)?;
            batch.each_first_mut(|frame| turn_round(frame, own));
        }
        // What a full ring does not take stays in the batch, and goes first the next time.
        sent += pair.tx.send(&mut batch)?;
    }

    all_came_back(neighbour)?;
    drop((batch, pair));
    port.close()?;
    card.assert_no_violations();
    Ok(())
}
