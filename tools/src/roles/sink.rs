//! Checks what it receives.

use vfnic::{Batch, QueueError, RxQueue};

use crate::traffic::{Checker, frame};

/// A checker behind a receive queue.
#[derive(Debug)]
pub struct Sink {
    checker: Checker,
    batch: Batch,
    /// A frame in several buffers is put together here.
    scratch: Vec<u8>,
}

impl Sink {
    /// A sink that checks with `checker`. `batch` comes from the pool of the port it receives on.
    #[must_use]
    pub fn new(checker: Checker, batch: Batch) -> Self {
        Self {
            checker,
            batch,
            scratch: vec![0; frame::MAX_LEN],
        }
    }

    /// Takes what has come. `now` is called once for all of it, after it was received. Returns how many frames came,
    /// whatever they were.
    ///
    /// # Errors
    ///
    /// When the queue is over.
    pub fn receive(
        &mut self,
        queue: &mut RxQueue,
        now: impl FnOnce() -> u64,
    ) -> Result<usize, QueueError> {
        let count = queue.receive(&mut self.batch)?;
        if count == 0 {
            return Ok(0);
        }
        let now = now();
        for frame in self.batch.frames() {
            if frame.is_single() {
                self.checker.frame(frame.data(), now);
            } else {
                let len = frame.copy_to(&mut self.scratch);
                self.checker.frame(&self.scratch[..len], now);
            }
        }
        self.batch.clear();
        Ok(count)
    }

    /// The checker and its counts.
    #[must_use]
    pub const fn checker(&self) -> &Checker {
        &self.checker
    }

    /// The checker, to take latencies from it or close it.
    pub const fn checker_mut(&mut self) -> &mut Checker {
        &mut self.checker
    }
}
