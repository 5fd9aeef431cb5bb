//! One queue for several threads: flows spread in software where the card does not spread them.

mod flow;
#[cfg(test)]
mod tests;

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::thread::Thread;
use std::time::Duration;

use crossbeam_queue::ArrayQueue;
use vfnic_ring::{Batch, Packet, Pool, PoolMismatch};

pub use flow::flow_hash;

use crate::Waker;

/// Workers are woken by a mask of 64 bits.
const MOST_WORKERS: usize = 64;

/// Hands the frames of a queue to threads, all frames of a flow to the same one and in their order; what the threads send
/// comes back to be put into the queue.
///
/// For VFs that have one receive queue (I350), or whose PF's table leads everything to one (older ixgbevf): one thread has
/// the queue pair and the [`Fanout`], each of the others a [`Worker`]. Nothing is copied and nothing locks, but a frame goes
/// through two lock-free queues, from the cache of one CPU to that of another and back: it costs more than a frame that stays
/// where it came, and pays when the work on a frame costs more than that. Where the card has several queues, let it do this:
/// each thread has one of them for itself.
///
/// ```
/// # use std::time::Duration;
/// # use vfnic::{Fanout, PollMode, Poller, Port, PortConfig};
/// # use vfnic_sim::Card;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let card = Card::builder(vfnic_hw::Model::I350).threaded().build()?;
/// # let port = Port::from_function(card.function(0)?, PortConfig::default())?;
/// let mut poller = Poller::new(PollMode::Adaptive)?;
/// poller.add(port.start()?.remove(0))?;
/// let (mut fanout, workers) = Fanout::new(port.pool(), 2, 1024, Some(poller.waker()));
/// std::thread::scope(|scope| {
///     for mut worker in workers {
///         let mut batch = port.batch(64);
///         scope.spawn(move || {
///             while worker.wait(Duration::from_millis(100)) {
///                 worker.receive(&mut batch)?;
///                 // Work on the frames here, and send those that are to go.
///                 worker.send(&mut batch)?;
///             }
///             Ok::<(), vfnic::QueueError>(())
///         });
///     }
///     let mut batch = port.batch(64);
///     for _ in 0..3 {
///         poller.turn(Some(Duration::from_millis(10)), |_, pairs| {
///             if batch.is_empty() {
///                 pairs[0].rx.receive(&mut batch)?;
///                 fanout.dispatch(&mut batch)?;
///                 fanout.collect(&mut batch)?;
///             }
///             pairs[0].tx.send(&mut batch)
///         })?;
///     }
///     // Without it there is nothing more to come: the workers end.
///     drop(fanout);
///     Ok::<(), vfnic::Error>(())
/// })?;
/// # Ok(())
/// # }
/// ```
pub struct Fanout {
    shared: Arc<Shared>,
    /// A frame that the last batch of [`collect`](Self::collect) had no room for.
    held: Option<Packet>,
    handed: u64,
    full: u64,
}

/// One thread's share of a [`Fanout`]. It belongs to the thread that first waits with it.
pub struct Worker {
    shared: Arc<Shared>,
    number: usize,
    /// A frame that the last batch had no room for.
    held: Option<Packet>,
    /// Empty between two calls; kept for its memory.
    spare: Vec<Packet>,
}

/// What became of the frames given to a [`Fanout`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FanoutStats {
    /// Frames handed to workers.
    pub handed: u64,
    /// Frames dropped because the worker of their flow had no room for more.
    pub full: u64,
    /// Frames dropped because a batch, though empty, was too short for them, or that were sent when it was over.
    pub dropped: u64,
}

struct Shared {
    pool: Pool,
    lanes: Vec<Lane>,
    /// From the workers, to be sent.
    back: ArrayQueue<Packet>,
    waker: Option<Waker>,
    /// The waker was used since `back` was last looked into.
    called: AtomicBool,
    over: AtomicBool,
    dropped: AtomicU64,
}

struct Lane {
    queue: ArrayQueue<Packet>,
    thread: OnceLock<Thread>,
}

impl Fanout {
    /// Makes a fan-out of `workers` (1 to 64 of them; other numbers become the nearest), each with room for `depth` frames that wait. All batches used
    /// with it are to be of `pool`, which has to have that many buffers more than the rings. `waker` is of the poller that the
    /// queue is in, and has it come back as soon as a worker sends; without one, the thread of the queue has to look.
    #[must_use]
    pub fn new(
        pool: &Pool,
        workers: usize,
        depth: usize,
        waker: Option<Waker>,
    ) -> (Self, Vec<Worker>) {
        let (workers, depth) = (workers.clamp(1, MOST_WORKERS), depth.max(1));
        let lane = || Lane {
            queue: ArrayQueue::new(depth),
            thread: OnceLock::new(),
        };
        let shared = Arc::new(Shared {
            pool: pool.clone(),
            lanes: std::iter::repeat_with(lane).take(workers).collect(),
            back: ArrayQueue::new(depth.saturating_mul(workers)),
            waker,
            called: AtomicBool::new(false),
            over: AtomicBool::new(false),
            dropped: AtomicU64::new(0),
        });
        let all = (0..workers)
            .map(|number| Worker {
                shared: Arc::clone(&shared),
                number,
                held: None,
                spare: Vec::new(),
            })
            .collect();
        let fanout = Self {
            shared,
            held: None,
            handed: 0,
            full: 0,
        };
        (fanout, all)
    }

    /// Hands all frames of `batch` to the workers of their flows; gives their number. A frame whose worker has no room is
    /// dropped and counted, as a card does that finds no descriptor: waiting would hold up everybody else's flows.
    ///
    /// # Errors
    ///
    /// When the batch is of another pool.
    pub fn dispatch(&mut self, batch: &mut Batch) -> Result<usize, PoolMismatch> {
        self.shared.check(batch)?;
        let count = batch.len();
        let mut touched = 0_u64;
        for packet in batch.drain_packets() {
            let number = self.shared.lane_of(packet.data());
            match self.shared.lanes.get(number).map(|lane| &lane.queue) {
                Some(queue) if queue.push(packet).is_ok() => {
                    touched |= 1 << number;
                    self.handed = self.handed.saturating_add(1);
                }
                _ => self.full = self.full.saturating_add(1),
            }
        }
        while touched != 0 {
            let number = touched.trailing_zeros() as usize;
            touched &= touched.wrapping_sub(1);
            self.shared.wake(number);
        }
        Ok(count)
    }

    /// Puts what workers have sent into `batch`, as far as there is room; gives the number of frames. When that is none there is
    /// nothing more to come without the waker's being used.
    ///
    /// # Errors
    ///
    /// When the batch is of another pool.
    pub fn collect(&mut self, batch: &mut Batch) -> Result<usize, PoolMismatch> {
        let shared = &self.shared;
        shared.check(batch)?;
        // ORDERING: pairs with the swap in `Worker::send`. A worker that finds this still set sent before this, and is seen
        // below; one that finds it cleared wakes us.
        shared.called.swap(false, Ordering::AcqRel);
        Ok(shared.fill(batch, &mut self.held, &shared.back))
    }

    /// What became of the frames so far.
    #[must_use]
    pub fn stats(&self) -> FanoutStats {
        FanoutStats {
            handed: self.handed,
            full: self.full,
            dropped: self.shared.dropped(),
        }
    }
}

impl Drop for Fanout {
    fn drop(&mut self) {
        // ORDERING: pairs with the Acquire in `Worker::wait`: what was handed out before is seen by who sees this.
        self.shared.over.store(true, Ordering::Release);
        for number in 0..self.shared.lanes.len() {
            self.shared.wake(number);
        }
    }
}

impl Worker {
    /// Which of the workers this is, from 0.
    #[must_use]
    pub const fn number(&self) -> usize {
        self.number
    }

    /// Waits until there are frames, at most for `most`. False when the [`Fanout`] is gone and everything it handed out was
    /// received. (A thread may also come back early, and find none.)
    pub fn wait(&mut self, most: Duration) -> bool {
        if self.has_frames() {
            return true;
        }
        if let Some(lane) = self.shared.lanes.get(self.number) {
            lane.thread.get_or_init(std::thread::current);
        }
        // The handle is there before this look: frames that it misses are followed by an unpark, which ends the parking that
        // follows, be it before or after its beginning.
        // ORDERING: pairs with the Release in `Fanout::drop`.
        let over = self.shared.over.load(Ordering::Acquire);
        if self.has_frames() {
            return true;
        }
        if !over {
            std::thread::park_timeout(most);
        }
        !over
    }

    fn has_frames(&self) -> bool {
        let lane = self.shared.lanes.get(self.number);
        self.held.is_some() || lane.is_some_and(|lane| !lane.queue.is_empty())
    }

    /// Takes frames into `batch`, as far as there is room; gives their number.
    ///
    /// # Errors
    ///
    /// When the batch is of another pool.
    pub fn receive(&mut self, batch: &mut Batch) -> Result<usize, PoolMismatch> {
        let shared = &self.shared;
        shared.check(batch)?;
        Ok(match shared.lanes.get(self.number) {
            Some(lane) => shared.fill(batch, &mut self.held, &lane.queue),
            None => 0,
        })
    }

    /// Gives the frames of `batch` back to be sent, first to last; gives their number. What finds no room stays in the batch, in order:
    /// the thread of the queue is behind. When the [`Fanout`] is gone they are dropped and counted. One system call a batch
    /// at most, to wake the thread of the queue.
    ///
    /// # Errors
    ///
    /// When the batch is of another pool.
    pub fn send(&mut self, batch: &mut Batch) -> Result<usize, PoolMismatch> {
        let shared = &self.shared;
        shared.check(batch)?;
        let count = batch.len();
        // ORDERING: whoever misses the end here leaves frames in `back`, which gives them home when it goes.
        if shared.over.load(Ordering::Relaxed) {
            shared.drop_frames(count);
            batch.clear();
            return Ok(count);
        }
        if count == 0 {
            return Ok(0);
        }
        batch.take_packets(&mut self.spare);
        let mut behind = false;
        for packet in self.spare.drain(..) {
            let refused = match behind {
                true => Err(packet),
                false => shared.back.push(packet),
            };
            if let Err(packet) = refused {
                behind = true;
                // It was in there a moment ago, so there is room.
                if batch.push(packet).is_err() {
                    shared.drop_frames(1);
                }
            }
        }
        // ORDERING: pairs with the swap in `Fanout::collect`.
        if !shared.called.swap(true, Ordering::AcqRel)
            && let Some(waker) = &shared.waker
        {
            waker.wake();
        }
        Ok(count.saturating_sub(batch.len()))
    }

    /// Frames that all workers together have dropped: those of [`FanoutStats::dropped`], also after the end.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.shared.dropped()
    }
}

impl Shared {
    fn check(&self, batch: &Batch) -> Result<(), PoolMismatch> {
        match batch.pool().is(&self.pool) {
            true => Ok(()),
            false => Err(PoolMismatch),
        }
    }

    fn lane_of(&self, frame: &[u8]) -> usize {
        // The upper bits of a product spread evenly over any number of lanes, which is at most 64.
        let product = u64::from(flow_hash(frame)).saturating_mul(self.lanes.len() as u64);
        usize::try_from(product >> 32).unwrap_or_default()
    }

    fn wake(&self, number: usize) {
        if let Some(thread) = self.lanes.get(number).and_then(|lane| lane.thread.get()) {
            thread.unpark();
        }
    }

    // ORDERING: a counter; nothing hangs on it.
    fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    fn drop_frames(&self, count: usize) {
        self.dropped.fetch_add(count as u64, Ordering::Relaxed);
    }

    fn fill(
        &self,
        batch: &mut Batch,
        held: &mut Option<Packet>,
        queue: &ArrayQueue<Packet>,
    ) -> usize {
        let before = batch.len();
        while batch.room() > 0 {
            let Some(packet) = held.take().or_else(|| queue.pop()) else {
                break;
            };
            if let Err(packet) = batch.push(packet) {
                if batch.is_empty() {
                    // It will never fit.
                    self.drop_frames(1);
                    continue;
                }
                *held = Some(packet);
                break;
            }
        }
        batch.len().saturating_sub(before)
    }
}

impl fmt::Debug for Fanout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fanout")
            .field("workers", &self.shared.lanes.len())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for Worker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Worker")
            .field("number", &self.number)
            .finish_non_exhaustive()
    }
}
