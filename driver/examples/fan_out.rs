//! A VF with one queue, and several threads that work on what it receives: each flow has its thread.
//!
//! `cargo run --example fan_out`
#![forbid(unsafe_code)]

mod shared;

use std::time::{Duration, Instant};

use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use vfnic::{Batch, Fanout, MacAddr, PollMode, Poller, Port, PortConfig, Worker};
use vfnic_hw::Model;

const WORKERS: usize = 3;
/// Frames that may wait for a worker. The pool has the rings' buffers and then some; these come on top.
const DEPTH: usize = 128;

pub(crate) fn main() -> Result {
    // An I350's VF has one queue pair, whatever anybody asks for.
    let card = card(Model::I350, 2)?;
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut poller = Poller::new(PollMode::Adaptive)?;
    for pair in port.start()? {
        poller.add(pair)?;
    }
    wait_for_link(&port)?;
    port.spawn_control_thread()?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    let (mut fanout, workers) = Fanout::new(port.pool(), WORKERS, DEPTH, Some(poller.waker()));
    let moved = std::thread::scope(|scope| {
        let threads: Vec<_> = workers
            .into_iter()
            .map(|worker| {
                let batch = port.batch(64);
                scope.spawn(move || work(worker, batch, own))
            })
            .collect();

        // The queue's thread only moves frames; the work is the others'.
        let mut batch = port.batch(64);
        let start = Instant::now();
        while !neighbour.is_finished() && start.elapsed() < Duration::from_secs(20) {
            poller.turn(Some(Duration::from_millis(10)), |_, pairs| {
                let [pair] = pairs else { return Ok(0) };
                if batch.is_empty() {
                    pair.rx.receive(&mut batch)?;
                    fanout.dispatch(&mut batch)?;
                    fanout.collect(&mut batch)?;
                }
                pair.tx.send(&mut batch)
            })?;
        }
        println!("{:?}", fanout.stats());
        // The workers end when there is nobody left who could give them work.
        drop(fanout);
        threads
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a worker panicked")?)
            .collect::<Result<Vec<usize>>>()
    })?;

    println!("frames of each worker: {moved:?}");
    all_came_back(neighbour)?;
    if moved.contains(&0) || moved.iter().sum::<usize>() != FRAMES {
        return Err(format!("not every worker had its share: {moved:?}").into());
    }
    drop(poller);
    port.close()?;
    card.assert_no_violations();
    Ok(())
}

/// Sends back what it is given, until it is over.
fn work(mut worker: Worker, mut batch: Batch, own: MacAddr) -> Result<usize> {
    let mut moved = 0;
    while worker.wait(Duration::from_millis(100)) {
        moved += worker.receive(&mut batch)?;
        batch.each_first_mut(|frame| turn_round(frame, own));
        // The queue's thread is never far behind, here.
        while !batch.is_empty() {
            worker.send(&mut batch)?;
        }
    }
    Ok(moved)
}
