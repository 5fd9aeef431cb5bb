//! One thread for each queue pair: the card spreads flows over the queues, each queue is its thread's alone.
//!
//! `cargo run --example multi_queue`
#![forbid(unsafe_code)]

mod shared;

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use shared::{Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::{MacAddr, PollMode, Poller, Port, PortConfig, QueueCount, QueuePair};
use vfnic_hw::Model;

pub(crate) fn main() -> Result {
    let card = card(Model::X550, 2)?;
    let config = PortConfig::default().queues(QueueCount::Exactly(2));
    let port = Port::from_function(card.function(0)?, config)?;
    let pairs = port.start()?;
    wait_for_link(&port)?;
    port.spawn_control_thread()?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    let over = AtomicBool::new(false);
    let moved = std::thread::scope(|scope| {
        let threads: Vec<_> = pairs
            .into_iter()
            // Queue pairs are `Send`: each goes to its thread, with a batch of its own.
            .map(|pair| {
                let (port, over) = (&port, &over);
                scope.spawn(move || serve(port, pair, own, over))
            })
            .collect();
        while !neighbour.is_finished() {
            std::thread::sleep(Duration::from_millis(5));
        }
        over.store(true, Ordering::Relaxed);
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a queue's thread panicked")?)
            .collect::<Result<Vec<usize>>>()
    })?;

    println!("frames of each queue: {moved:?}");
    all_came_back(neighbour)?;
    if moved.contains(&0) {
        return Err(format!("the card used one queue only: {moved:?}").into());
    }
    port.close()?;
    card.assert_no_violations();
    Ok(())
}

/// Sends back what comes in on one queue, until it is over.
fn serve(port: &Port, pair: QueuePair, own: MacAddr, over: &AtomicBool) -> Result<usize> {
    let mut poller = Poller::new(PollMode::Adaptive)?;
    poller.add(pair)?;
    let mut batch = port.batch(64);
    let mut moved = 0;
    while !over.load(Ordering::Relaxed) {
        let turn = poller.turn(Some(Duration::from_millis(10)), |index, pairs| {
            let pair = &mut pairs[index];
            if batch.is_empty() {
                if pair.rx.receive(&mut batch)? == 0 {
                    pair.tx.reclaim(&mut batch);
                    return Ok(0);
                }
                batch.each_first_mut(|frame| turn_round(frame, own));
            }
            pair.tx.send(&mut batch)
        })?;
        moved += turn.frames;
    }
    Ok(moved)
}
