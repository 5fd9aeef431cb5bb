//! Busy it polls, idle it sleeps: a `Poller` looks after the queues of a thread, and says how it has spent its time.
//!
//! `cargo run --example adaptive_poller`
#![forbid(unsafe_code)]

mod shared;

use std::time::{Duration, Instant};

use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::{PollMode, Poller, Port, PortConfig};
use vfnic_hw::Model;

pub(crate) fn main() -> Result {
    let card = card(Model::X540, 2)?;
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut poller = Poller::new(PollMode::Adaptive)?;
    for pair in port.start()? {
        poller.add(pair)?;
    }
    wait_for_link(&port)?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    let mut batch = port.batch(64);
    let mut sent = 0;
    let mut next_look = Instant::now();
    while sent < FRAMES && !neighbour.is_finished() {
        // Comes back when frames have moved, and in time for the next look at the port.
        let wait = next_look.saturating_duration_since(Instant::now());
        let turn = poller.turn(Some(wait), |index, pairs| {
            let pair = &mut pairs[index];
            if batch.is_empty() {
                if pair.rx.receive(&mut batch)? == 0 {
                    // A full queue of finished frames is work as well; nobody sleeps over it.
                    pair.tx.reclaim(&mut batch);
                    return Ok(0);
                }
                batch.each_first_mut(|frame| turn_round(frame, own));
            }
            pair.tx.send(&mut batch)
        })?;
        sent += turn.frames;
        if Instant::now() >= next_look {
            next_look = Instant::now() + port.poll_control()?.min(Duration::from_millis(100));
        }
    }

    let stats = poller.stats();
    println!(
        "{} wake-ups, {:?} asleep, {:?} looking",
        stats.wakeups,
        Duration::from_nanos(stats.sleep_ns),
        Duration::from_nanos(stats.spin_ns)
    );
    all_came_back(neighbour)?;
    drop((batch, poller));
    port.close()?;
    card.assert_no_violations();
    Ok(())
}
