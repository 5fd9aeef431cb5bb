//! What the two sides of a started port share: the control side and the queue halves.
//!
//! There is no lock between the data path and recovery. The control side moves a generation on; each queue half
//! compares it once a batch, and when it has moved takes its own queue out of service: disables it in hardware, waits
//! until that reads back, takes its buffers home, and, once the generation is even again, programs and fills it anew.
//!
//! Invariant: only the thread that owns a queue half ever enables that queue, and only under the gate, and only while
//! the generation is even. So a queue that a half has seen disabled stays disabled until that half enables it.

use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU16, AtomicU32, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use vfnic_hw::Event;
use vfnic_ring::{PoolMismatch, SendError};

use crate::config::Itr;
use crate::family::{Family, Io, VectorPlan};
use crate::port::Device;
use crate::registers::Gone;
use crate::wait::Ticker;

/// Why queues do nothing any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum QueueError {
    /// The batch draws on another pool than the queue. Nothing was received.
    #[error(transparent)]
    Pool(#[from] PoolMismatch),
    /// A frame that cannot be sent, or a batch of another pool.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The port was stopped or closed. Drop the queue.
    #[error("the port of this queue was stopped; drop the queue and start the port again")]
    Stopped,
    /// The device is gone. Drop the queue and the port.
    #[error(
        "the device of this queue is gone; drop the queue and the port, and open it again when it is back"
    )]
    Gone,
}

const RUNNING: u8 = 0;
const STOPPED: u8 = 1;
const GONE: u8 = 2;

/// One life of a started port, from `start` to `stop`.
#[derive(Debug)]
pub(crate) struct Run {
    /// Even: queues may run. Odd: the device is being reset, hands off. Read once a batch, written once in a blue
    /// moon.
    generation: AtomicU32,
    /// Why it is over, if it is.
    end: AtomicU8,
    /// It is over, and the device is known to do no more DMA.
    quiet: AtomicBool,
    /// Held by a half while it programs its queue, and by the control side while it moves the generation.
    gate: Mutex<()>,
    /// Queue pairs that the PF still grants.
    live_pairs: AtomicU16,
    mtu: AtomicU16,
    queues: Vec<QueueWatch>,
    wakers: Mutex<Vec<Event>>,
    itr: Itr,
    device: Arc<Device>,
}

/// What the control side may know about a queue pair.
#[derive(Debug, Default)]
struct QueueWatch {
    rx: HalfWatch,
    tx: HalfWatch,
}

#[derive(Debug, Default)]
struct HalfWatch {
    /// Generation it was last enabled in, plus one; 0 when it is not enabled.
    enabled_in: AtomicU32,
    /// Generation in which it could not be brought up, or down, plus one.
    fault_in: AtomicU32,
}

/// Which half.
pub(crate) use crate::family::Direction;

impl Run {
    pub(crate) fn new(device: Arc<Device>, pairs: u16, mtu: u16, itr: Itr) -> Self {
        Self {
            generation: AtomicU32::new(0),
            end: AtomicU8::new(RUNNING),
            quiet: AtomicBool::new(false),
            gate: Mutex::new(()),
            live_pairs: AtomicU16::new(pairs),
            mtu: AtomicU16::new(mtu),
            queues: (0..pairs).map(|_| QueueWatch::default()).collect(),
            wakers: Mutex::new(Vec::new()),
            itr,
            device,
        }
    }

    pub(crate) fn device(&self) -> &Arc<Device> {
        &self.device
    }

    pub(crate) fn family(&self) -> Family {
        self.device.family
    }

    pub(crate) fn plan(&self) -> &VectorPlan {
        &self.device.plan
    }

    /// How often vectors may fire.
    pub(crate) const fn itr(&self) -> Itr {
        self.itr
    }

    /// Number of queue pairs started.
    pub(crate) fn pairs(&self) -> u16 {
        u16::try_from(self.queues.len()).unwrap_or(u16::MAX)
    }

    fn gate(&self) -> MutexGuard<'_, ()> {
        self.gate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks the queues to let go. When this returns, none of them programs the device any more.
    pub(crate) fn suspend(&self) {
        let gate = self.gate();
        let now = self.generation.load(Ordering::Relaxed);
        // ORDERING: pairs with the Acquire in `Life::look`.
        self.generation.store(now | 1, Ordering::Release);
        drop(gate);
        self.wake_all();
    }

    /// Lets `pairs` of the queues start anew.
    pub(crate) fn resume(&self, pairs: u16) {
        let gate = self.gate();
        self.live_pairs.store(pairs, Ordering::Relaxed);
        let now = self.generation.load(Ordering::Relaxed);
        // ORDERING: pairs with the Acquire in `Life::look`: a half that sees it sees a device that is ready.
        self.generation
            .store((now | 1).wrapping_add(1), Ordering::Release);
        drop(gate);
        self.wake_all();
    }

    /// Ends it. `quiet` when the device is known to do no more DMA; then no half touches it any more, else each half
    /// stops its own queue when it is used or dropped.
    pub(crate) fn end(&self, error: QueueError, quiet: bool) {
        let gate = self.gate();
        let end = if error == QueueError::Gone {
            GONE
        } else {
            STOPPED
        };
        self.quiet.store(quiet, Ordering::Relaxed);
        // The first reason stays.
        let _ = self
            .end
            .compare_exchange(RUNNING, end, Ordering::Relaxed, Ordering::Relaxed);
        let now = self.generation.load(Ordering::Relaxed);
        // ORDERING: pairs with the Acquire in `Life::look`.
        self.generation.store(now | 1, Ordering::Release);
        drop(gate);
        self.wake_all();
    }

    /// Why it is over, if it is.
    pub(crate) fn ended(&self) -> Option<QueueError> {
        match self.end.load(Ordering::Relaxed) {
            RUNNING => None,
            GONE => Some(QueueError::Gone),
            _ => Some(QueueError::Stopped),
        }
    }

    /// Whether queues may run right now.
    pub(crate) fn is_live(&self) -> bool {
        self.generation.load(Ordering::Relaxed).is_multiple_of(2)
    }

    /// An event to signal whenever the generation moves, for whoever sleeps on the queues.
    pub(crate) fn add_waker(&self, waker: &Event) {
        let mut wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        let fd = waker.as_raw_fd();
        if !wakers.iter().any(|known| known.as_raw_fd() == fd) {
            wakers.push(waker.clone());
        }
    }

    /// Takes that back.
    pub(crate) fn remove_waker(&self, waker: &Event) {
        let fd = waker.as_raw_fd();
        self.wakers
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .retain(|known| known.as_raw_fd() != fd);
    }

    fn wake_all(&self) {
        let wakers = self.wakers.lock().unwrap_or_else(PoisonError::into_inner);
        for waker in wakers.iter() {
            waker.signal();
        }
    }

    /// MTU that queues are set up for.
    pub(crate) fn mtu(&self) -> u16 {
        self.mtu.load(Ordering::Relaxed)
    }

    /// Changes the MTU; counts from the next `resume` on.
    pub(crate) fn set_mtu(&self, mtu: u16) {
        self.mtu.store(mtu, Ordering::Relaxed);
    }

    fn watch(&self, queue: u16, direction: Direction) -> Option<&HalfWatch> {
        let pair = self.queues.get(usize::from(queue))?;
        Some(match direction {
            Direction::Rx => &pair.rx,
            Direction::Tx => &pair.tx,
        })
    }

    /// Whether a queue that a half brought up in the present generation is no longer enabled in hardware, or a half
    /// could not bring one up: somebody else reset the device.
    pub(crate) fn has_lost_a_queue(&self) -> Result<bool, Gone> {
        let before = self.generation.load(Ordering::Acquire);
        if before % 2 == 1 {
            return Ok(false);
        }
        for queue in 0..self.pairs() {
            for direction in [Direction::Rx, Direction::Tx] {
                let Some(watch) = self.watch(queue, direction) else {
                    continue;
                };
                let here = before.wrapping_add(1);
                if watch.fault_in.load(Ordering::Relaxed) == here {
                    return Ok(true);
                }
                // Under the gate no half is in the middle of programming it.
                let gate = self.gate();
                let enabled = watch.enabled_in.load(Ordering::Relaxed);
                let lost = enabled == here
                    && !self
                        .device
                        .family
                        .is_running(&self.device.regs, queue, direction)?;
                drop(gate);
                if lost {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }
}

/// A queue half's view of its run.
#[derive(Debug)]
pub(crate) struct Life {
    run: Arc<Run>,
    queue: u16,
    direction: Direction,
    /// Generation the queue works in, or [`NEVER`].
    seen: u32,
    /// The hardware may have the queue enabled.
    programmed: bool,
    /// Generation in which it could not be brought up; it is not tried again before the next.
    failed_in: Option<u32>,
    /// The half's own: a ticker serves one thread at a time.
    ticker: Ticker,
}

/// No generation: they count up from zero, two a reset.
const NEVER: u32 = u32::MAX;

/// What a half has to do, when its generation is not the current one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing for now: the device is being reset, or this queue is not granted any more.
    Wait,
    /// Take the buffers home, then program the queue.
    Program {
        /// The generation it is programmed in.
        generation: u32,
    },
    /// It is over.
    Ended(QueueError),
}

impl Life {
    pub(crate) fn new(run: Arc<Run>, queue: u16, direction: Direction) -> Self {
        let ticker = Ticker::new(run.device.function.clock());
        Self {
            run,
            queue,
            direction,
            seen: NEVER,
            programmed: false,
            failed_in: None,
            ticker,
        }
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        &self.run
    }

    pub(crate) const fn queue(&self) -> u16 {
        self.queue
    }

    /// Whether the queue may be used as it is. One relaxed load: a half that learns of a reset a batch late does no
    /// harm, because until it lets go of its buffers nobody else has them.
    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.run.generation.load(Ordering::Relaxed) == self.seen
    }

    /// What to do now.
    pub(crate) fn look(&self) -> Turn {
        if let Some(error) = self.run.ended() {
            return Turn::Ended(error);
        }
        // ORDERING: pairs with the Release stores of `suspend`, `resume` and `end`.
        let generation = self.run.generation.load(Ordering::Acquire);
        if generation % 2 == 1
            || self.failed_in == Some(generation)
            || self.queue >= self.run.live_pairs.load(Ordering::Relaxed)
        {
            return Turn::Wait;
        }
        Turn::Program { generation }
    }

    fn io(&self) -> Io<'_> {
        Io {
            regs: &self.run.device.regs,
            ticker: &self.ticker,
            device: &self.run.device.name,
        }
    }

    fn stop_queue(&self) -> Result<(), crate::Error> {
        let family = self.run.family();
        match self.direction {
            Direction::Rx => family.stop_rx(self.io(), self.queue),
            Direction::Tx => family.stop_tx(self.io(), self.queue),
        }
    }

    /// Takes the queue out of service. True when no DMA can follow, so that its buffers may be taken home.
    pub(crate) fn disable(&mut self) -> bool {
        self.seen = NEVER;
        if !self.programmed {
            return true;
        }
        let gate = self.run.gate();
        let quiet = self.run.quiet.load(Ordering::Relaxed)
            || match self.stop_queue() {
                Ok(()) => true,
                // There is no device left to do DMA, unless it only does not answer for a while.
                Err(crate::Error::Gone { .. }) => !self.run.device.is_on_the_bus(),
                Err(_) => false,
            };
        if quiet && let Some(watch) = self.run.watch(self.queue, self.direction) {
            watch.enabled_in.store(0, Ordering::Relaxed);
        }
        drop(gate);
        self.programmed = !quiet;
        if !quiet {
            self.fail();
        }
        quiet
    }

    /// Puts the queue into service with `program`, if the generation is still `generation`. False when it is not, or
    /// when it did not work; then the control side hears of it.
    pub(crate) fn enable(
        &mut self,
        generation: u32,
        program: impl FnOnce(Io<'_>) -> Result<(), crate::Error>,
    ) -> Result<bool, crate::Error> {
        let gate = self.run.gate();
        if self.run.generation.load(Ordering::Acquire) != generation || self.run.ended().is_some() {
            return Ok(false);
        }
        let result = program(self.io());
        if let Some(watch) = self.run.watch(self.queue, self.direction) {
            let fault = if result.is_err() {
                generation.wrapping_add(1)
            } else {
                0
            };
            watch.fault_in.store(fault, Ordering::Relaxed);
            // Set even if it failed: the queue may be enabled all the same, and has to be disabled before it is left.
            watch
                .enabled_in
                .store(generation.wrapping_add(1), Ordering::Relaxed);
        }
        drop(gate);
        self.programmed = true;
        if result.is_ok() {
            self.seen = generation;
        } else {
            self.failed_in = Some(generation);
        }
        result.map(|()| true)
    }

    fn fail(&self) {
        if let Some(watch) = self.run.watch(self.queue, self.direction) {
            let generation = self.run.generation.load(Ordering::Relaxed);
            watch
                .fault_in
                .store(generation.wrapping_add(1), Ordering::Relaxed);
        }
    }
}
