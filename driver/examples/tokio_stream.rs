//! In a tokio program: a poller behind `AsyncFd`, batches as a `Stream`.
//!
//! `cargo run --example tokio_stream`
#![forbid(unsafe_code)]

mod shared;

use std::future::{Future, poll_fn};
use std::os::fd::{AsFd, AsRawFd, RawFd};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use shared::{FRAMES, Result, all_came_back, card, neighbour, turn_round, wait_for_link};
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Sleep, sleep, timeout};
use vfnic::{Batch, PollMode, Poller, Port, PortConfig, QueuePair};
use vfnic_hw::Model;

/// A poller, as tokio wants it.
struct Awaitable(Poller);

impl AsRawFd for Awaitable {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_fd().as_raw_fd()
    }
}

/// The batches that a port receives, as a [`Stream`]. A few batches go round: what has been looked at is given back, and
/// carries the next frames.
struct Batches {
    poller: AsyncFd<Awaitable>,
    free: Vec<Batch>,
    /// A lost interrupt costs no more than this.
    limit: Pin<Box<Sleep>>,
}

/// Longest sleep without a look at the queue.
const LIMIT: Duration = Duration::from_millis(100);

impl Batches {
    #[expect(
        deprecated,
        reason = "its successors are unsafe to call, for types whose fd may change; this one's is the poller's for life"
    )]
    fn new(port: &Port, pair: QueuePair) -> Result<Self> {
        let mut poller = Poller::new(PollMode::Interrupt)?;
        poller.add(pair)?;
        Ok(Self {
            poller: AsyncFd::with_interest(Awaitable(poller), Interest::READABLE)?,
            free: (0..2).map(|_| port.batch(64)).collect(),
            limit: Box::pin(sleep(LIMIT)),
        })
    }

    /// Sends `batch`, all of it, and keeps it for frames to come.
    async fn send(&mut self, mut batch: Batch) -> Result {
        while !batch.is_empty() {
            for pair in self.poller.get_mut().0.queues_mut() {
                pair.tx.send(&mut batch)?;
            }
            if !batch.is_empty() {
                // A full ring has room again within microseconds.
                tokio::task::yield_now().await;
            }
        }
        self.free.push(batch);
        Ok(())
    }
}

/// May be dropped between two batches, or asked again: nothing is lost.
impl Stream for Batches {
    type Item = Result<Batch>;

    fn poll_next(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let this = self.get_mut();
        let Some(mut batch) = this.free.pop() else {
            return Poll::Ready(Some(Err("every batch is in use; give some back".into())));
        };
        loop {
            let poller = &mut this.poller.get_mut().0;
            let turn = poller.turn(Some(Duration::ZERO), |index, pairs| {
                if batch.is_empty() {
                    pairs[index].rx.receive(&mut batch)
                } else {
                    Ok(0)
                }
            });
            match turn {
                Err(error) => return Poll::Ready(Some(Err(error.into()))),
                Ok(turn) if turn.frames > 0 => return Poll::Ready(Some(Ok(batch))),
                // False: something came meanwhile, and nobody would be woken for it.
                Ok(_) if !poller.arm() => continue,
                Ok(_) => {}
            }
            match this.poller.poll_read_ready_mut(context) {
                // An old wake-up; now a new one will be told.
                Poll::Ready(Ok(mut ready)) => ready.clear_ready(),
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error.into()))),
                Poll::Pending if this.limit.as_mut().poll(context).is_ready() => {
                    this.limit.as_mut().reset(Instant::now() + LIMIT);
                }
                Poll::Pending => {
                    this.free.push(batch);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The next item of a stream: what crates of stream helpers call `next`.
async fn next<S: Stream + Unpin>(stream: &mut S) -> Option<S::Item> {
    poll_fn(|context| Pin::new(&mut *stream).poll_next(context)).await
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
    let mut batches = Batches::new(&port, port.start()?.remove(0))?;
    wait_for_link(&port)?;
    port.spawn_control_thread()?;
    let own = port.mac().0;
    let neighbour = neighbour(&card, 1, own)?;

    let mut sent = 0;
    while sent < FRAMES {
        let received = timeout(Duration::from_secs(20), next(&mut batches)).await?;
        let mut batch = received.ok_or("a stream without end has ended")??;
        sent += batch.len();
        batch.each_first_mut(|frame| turn_round(frame, own));
        batches.send(batch).await?;
    }

    all_came_back(neighbour)?;
    drop(batches);
    port.close()?;
    card.assert_no_violations();
    Ok(())
}
