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
    /// Every frame must carry this tag, stripped by the hardware or not.
    tag: Option<u16>,
}

impl Sink {
    /// A sink that checks with `checker`. `batch` comes from the pool of the port it receives on.
    #[must_use]
    pub fn new(checker: Checker, batch: Batch) -> Self {
        Self {
            checker,
            batch,
            scratch: vec![0; frame::MAX_LEN],
            tag: None,
        }
    }

    /// Takes frames without this tag (priority and VLAN), or with another, for damaged.
    #[must_use]
    pub const fn expecting(mut self, tag: Option<u16>) -> Self {
        self.tag = tag;
        self
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
        // The lines come from the card, one miss each. Asked for all at once they come together; the loop below would wait
        // for one after the other.
        let mut touched = 0;
        self.batch
            .each_first_mut(|bytes| touched ^= bytes.first().copied().unwrap_or(0));
        std::hint::black_box(touched);
        for frame in self.batch.frames() {
            if self.tag.is_some() && self.tag != frame.vlan().or_else(|| tag_in(frame.data())) {
                self.checker.damaged();
            } else if frame.is_single() {
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

/// The tag in a frame's bytes.
fn tag_in(frame: &[u8]) -> Option<u16> {
    match frame.get(12..16) {
        Some(&[0x81, 0x00, high, low]) => Some(u16::from_be_bytes([high, low])),
        _ => None,
    }
}
