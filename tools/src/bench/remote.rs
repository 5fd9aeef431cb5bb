//! The null device on a core of its own, so that what it writes arrives by transfer from another core's caches.

use std::hint;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::null::NullDevice;

/// TIMEOUT: a round takes microseconds; a machine that does not run the other thread for so long measures nothing.
const LOST: Duration = Duration::from_secs(5);

/// Orders and answers: the round asked for last, the frames wanted in it, the round done last.
#[derive(Debug, Default)]
struct Orders {
    asked: AtomicU64,
    frames: AtomicU32,
    done: AtomicU64,
}

/// No round: the end.
const END: u64 = u64::MAX;

/// A null device with its own thread.
#[derive(Debug)]
pub(super) struct Remote {
    orders: Arc<Orders>,
    round: u64,
    thread: Option<JoinHandle<()>>,
}

impl Remote {
    /// Starts the thread.
    #[must_use]
    pub(super) fn new(mut device: NullDevice) -> Self {
        let orders = Arc::new(Orders::default());
        let theirs = Arc::clone(&orders);
        let thread = thread::spawn(move || {
            let mut round = 0;
            loop {
                // ORDERING: pairs with the Release in `round`: the rings are as the driver left them.
                let asked = theirs.asked.load(Ordering::Acquire);
                if asked == END {
                    return;
                }
                if asked == round {
                    hint::spin_loop();
                    continue;
                }
                round = asked;
                device.transmit();
                device.receive(theirs.frames.load(Ordering::Relaxed));
                // ORDERING: pairs with the Acquire in `round`.
                theirs.done.store(round, Ordering::Release);
            }
        });
        Self {
            orders,
            round: 0,
            thread: Some(thread),
        }
    }

    /// Has everything outstanding sent and `frames` received; waits for it. False when the thread does not answer.
    pub(super) fn round(&mut self, frames: u32) -> bool {
        self.round += 1;
        self.orders.frames.store(frames, Ordering::Relaxed);
        // ORDERING: pairs with the Acquire in the thread.
        self.orders.asked.store(self.round, Ordering::Release);
        let asked_at = Instant::now();
        let mut spins = 0u32;
        // ORDERING: pairs with the Release in the thread.
        while self.orders.done.load(Ordering::Acquire) != self.round {
            hint::spin_loop();
            spins = spins.wrapping_add(1);
            if spins.is_multiple_of(1 << 16) && asked_at.elapsed() > LOST {
                return false;
            }
        }
        true
    }
}

impl Drop for Remote {
    fn drop(&mut self) {
        self.orders.asked.store(END, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            // It only panics if the rings' memory is not what it was made for.
            let _ = thread.join();
        }
    }
}
