//! In a tokio program: a poller behind `AsyncFd`, batches that can be awaited one after the other.
//!
//! `cargo run --example tokio_stream`
#![forbid(unsafe_code)]

mod shared;

use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::time::Duration;

use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use vfnic::{Batch, PollMode, Poller, Port, PortConfig, QueuePair};
use vfnic_hw::Model;

/// A poller, as tokio wants it.
struct Awaitable(Poller);

impl AsRawFd for Awaitable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The batches that a port receives.
struct Batches {
    poller: AsyncFd<Awaitable>,
}

impl Batches {
    #[expect(
        deprecated,
        reason = "its successors are unsafe to call, for types whose fd may change; this one's is the poller's for life"
    )]
    fn new(pair: QueuePair) -> Result<Self> {
        let mut poller = Poller::new(PollMode::Interrupt)?;
        poller.add(pair)?;
        Ok(Self {
            poller: AsyncFd::with_interest(Awaitable(poller), Interest::READABLE)?,
        })
    }

    /// The next frames, in `batch`, which must be empty. May be given up at any point: nothing is lost.
    async fn next(&mut self, batch: &mut Batch) -> Result<usize> {
        loop {
            let poller = &mut self.poller.get_mut().0;
            let turn = poller.turn(Some(Duration::ZERO), |index, pairs| {
                if batch.is_empty() {
                    pairs[index].rx.receive(batch)
                } else {
                    Ok(0)
                }
            })?;
            if turn.frames > 0 {
                return Ok(turn.frames);
            }
            // False: something came meanwhile, and nobody would be woken for it.
            if poller.arm() {
                // A lost interrupt costs no more than this.
                let limit = Duration::from_millis(100);
                let ready = tokio::time::timeout(limit, self.poller.readable_mut()).await;
                if let Ok(ready) = ready {
                    ready?.clear_ready();
                }
            }
        }
    }

    /// Sends `batch`, all of it.
    async fn send(&mut self, batch: &mut Batch) -> Result {
        loop {
            for pair in self.poller.get_mut().0.queues_mut() {
                pair.tx.send(batch)?;
            }
            if batch.is_empty() {
                return Ok(());
            }
            // A full ring has room again within microseconds.
            tokio::task::yield_now().await;
        }
    }
}

pub(crate) fn main() -> Result {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(run())
}

async fn run() -> Result {
    let card = card(Model::X550, 2)?;
    let port = Port::from_function(card.function(0)?, PortConfig::default())?;
    let mut batches = Batches::new(port.start()?.remove(0))?;
    wait_for_link(&port)?;
    port.spawn_control_thread()?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    let mut batch = port.batch(64);
    let mut sent = 0;
    while sent < FRAMES {
        let limit = Duration::from_secs(20);
        sent += tokio::time::timeout(limit, batches.next(&mut batch)).await??;
        batch.each_first_mut(|frame| turn_round(frame, own));
        batches.send(&mut batch).await?;
    }

    all_came_back(neighbour)?;
    drop((batch, batches));
    port.close()?;
    card.assert_no_violations();
    Ok(())
}
