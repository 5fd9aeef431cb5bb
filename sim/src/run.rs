//! How a card runs: stepped, or on a thread of its own.
//!
//! The thread takes the lock for one bounded burst at a time and lets register accesses go first. While there is
//! traffic it spins; a little after the last of it, it sleeps on an eventfd that doorbells signal only then.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering, fence};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::time::{ClockId, clock_gettime};
use vfnic_hw::Event;

use crate::counting::Count;
use crate::shared::Shared;
use crate::state::CardState;

/// Frames a burst may move: about 10 us of work, so that a register access never waits much longer.
const BURST: u32 = 256;

/// Bursts a step may take: a frame that goes round in circles must not hold the caller for ever.
const BURSTS_A_STEP: u32 = 4096;

/// How long the thread spins after the last frame before it sleeps. A wake-up costs the sender a system call and the
/// card some 10 us of latency, so short pauses are worth spinning through; 50 us at idle is still nothing.
const SPIN: Duration = Duration::from_micros(50);

/// How a sleeping card is woken, by whoever has stored what it is to see.
#[derive(Debug)]
pub(crate) struct Waker {
    sleeping: AtomicBool,
    event: Event,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            sleeping: AtomicBool::new(false),
            event: Event::new()?,
        })
    }

    /// Wakes the card if it sleeps; one fence and one load if it does not.
    #[inline]
    pub(crate) fn wake(&self) {
        // ORDERING: the store before this call and the load below may not pass each other; the card does the mirror
        // image in `sleep`. So either it sees what was stored or this sees that it sleeps.
        fence(Ordering::SeqCst);
        if self.sleeping.load(Ordering::Relaxed) {
            self.kick();
        }
    }

    /// Wakes the card whatever it does.
    #[cold]
    pub(crate) fn kick(&self) {
        self.sleeping.store(false, Ordering::Relaxed);
        self.event.signal();
    }
}

/// Everything due now, then traffic until none moves. Returns frames moved.
pub(crate) fn step(state: &mut CardState) -> u64 {
    let mut frames = 0u64;
    for _ in 0..BURSTS_A_STEP {
        state.timers();
        let tick = state.traffic(BURST);
        frames.count(u64::from(tick.frames));
        if tick.frames == 0 && !tick.more {
            break;
        }
    }
    frames
}

/// The card's thread.
pub(crate) fn run(card: &Arc<Shared>) {
    let mut idle_since: Option<Instant> = None;
    let mut bursts = 0u32;
    while !card.stop.load(Ordering::Acquire) {
        let mut state = card.lock_for_engine();
        state.timers();
        let tick = state.traffic(BURST);
        let spoken = std::mem::take(&mut state.control.spoken);
        drop(state);
        if spoken {
            // The kernel likes to put who is woken where the waker runs. A card is no thread of the host: nobody has to
            // wait there until it has spun its time.
            std::thread::yield_now();
        }
        bursts = bursts.wrapping_add(1);
        if bursts.is_multiple_of(1024) {
            note_cpu_time(card);
        }
        if tick.frames > 0 || tick.more {
            idle_since = None;
            continue;
        }
        let since = *idle_since.get_or_insert_with(Instant::now);
        if since.elapsed() < SPIN {
            spin();
        } else {
            sleep(card);
            idle_since = None;
        }
    }
    note_cpu_time(card);
}

/// A short pause between two looks at the tails, off the lock.
fn spin() {
    for _ in 0..8 {
        std::hint::spin_loop();
    }
}

/// Sleeps until somebody rings, a port has frames, or something is due.
fn sleep(card: &Shared) {
    note_cpu_time(card);
    card.waker.sleeping.store(true, Ordering::Relaxed);
    // ORDERING: the mirror image of `Waker::wake`: first say that we sleep, then look once more.
    fence(Ordering::SeqCst);
    let mut state = card.lock_for_engine();
    let work = state.path.has_work();
    let deadline = state.deadline();
    let now = state.control.now;
    drop(state);
    if !work && !card.stop.load(Ordering::Acquire) {
        let timeout = deadline.map(|deadline| timespec(deadline.saturating_sub(now)));
        let mut fds = [PollFd::new(&card.waker.event, PollFlags::IN)];
        // EINTR and the like only mean another look at the tails.
        let _ = poll(&mut fds, timeout.as_ref());
    }
    card.waker.sleeping.store(false, Ordering::Relaxed);
    card.waker.event.take();
}

fn timespec(time: Duration) -> Timespec {
    Timespec {
        tv_sec: i64::try_from(time.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: i64::from(time.subsec_nanos()),
    }
}

fn note_cpu_time(card: &Shared) {
    let used = clock_gettime(ClockId::ThreadCPUTime);
    let nanos = used
        .tv_sec
        .saturating_mul(1_000_000_000)
        .saturating_add(used.tv_nsec);
    card.cpu_nanos
        .store(u64::try_from(nanos).unwrap_or(0), Ordering::Relaxed);
}
