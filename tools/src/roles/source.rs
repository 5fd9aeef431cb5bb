//! Sends generated frames.

use vfnic::{Batch, FrameError, QueueError, TxOffload, TxQueue};

use super::{BURST, Tagging};
use crate::traffic::{Generator, Pacer};

/// A generator behind a transmit queue.
#[derive(Debug)]
pub struct Source {
    generator: Generator,
    /// Frames that the queue has not taken yet.
    batch: Batch,
    /// A frame that does not fit one buffer is made here.
    scratch: Vec<u8>,
    buffer_size: usize,
    tagging: Tagging,
    /// Frames the queue took.
    sent: u64,
}

impl Source {
    /// A source of `generator`'s frames. `batch` comes from the pool of the port it sends on, whose buffers have
    /// `buffer_size` bytes.
    #[must_use]
    pub fn new(generator: Generator, batch: Batch, buffer_size: u32) -> Self {
        Self {
            generator,
            batch,
            scratch: vec![0; crate::traffic::frame::MAX_LEN],
            buffer_size: usize::try_from(buffer_size).unwrap_or(usize::MAX),
            tagging: Tagging::None,
            sent: 0,
        }
    }

    /// Puts a VLAN tag on every frame.
    #[must_use]
    pub const fn tagged(mut self, tagging: Tagging) -> Self {
        self.tagging = tagging;
        self
    }

    /// Sends up to `allowance` frames stamped with `now`. Returns how many the queue took.
    ///
    /// # Errors
    ///
    /// When the queue is over.
    pub fn send(
        &mut self,
        queue: &mut TxQueue,
        allowance: usize,
        now: u64,
    ) -> Result<usize, QueueError> {
        let fresh = allowance.min(BURST).saturating_sub(self.batch.len());
        self.fill(fresh, || now);
        self.flush(queue)
    }

    /// Sends the frames that are due by `pacer`, stamped with the time they should have left. Returns how many the
    /// queue took.
    ///
    /// # Errors
    ///
    /// When the queue is over.
    pub fn send_due(
        &mut self,
        queue: &mut TxQueue,
        pacer: &mut Pacer,
        now: u64,
    ) -> Result<usize, QueueError> {
        let room = BURST.saturating_sub(self.batch.len());
        self.fill(pacer.due(now, room), || pacer.take());
        self.flush(queue)
    }

    /// Hands waiting frames to the queue.
    ///
    /// # Errors
    ///
    /// When the queue is over.
    pub fn flush(&mut self, queue: &mut TxQueue) -> Result<usize, QueueError> {
        if self.batch.is_empty() {
            return Ok(self.idle(queue));
        }
        let taken = queue.send(&mut self.batch)?;
        self.sent += taken as u64;
        Ok(taken)
    }

    /// Sends nothing, but takes back what has been sent: a queue full of finished frames is work left undone, and a
    /// poller does not sleep over it. Returns 0.
    pub fn idle(&mut self, queue: &mut TxQueue) -> usize {
        queue.reclaim(&mut self.batch);
        0
    }

    /// Frames that wait for the queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.batch.len()
    }

    /// Frames the queue took.
    #[must_use]
    pub const fn sent(&self) -> u64 {
        self.sent
    }

    /// Ends it: takes waiting frames back and returns the generator, whose count is then what was sent.
    #[must_use]
    pub fn finish(mut self) -> Generator {
        for frame in self.batch.frames() {
            if frame.is_single() {
                self.generator.take_back(frame.data());
            } else {
                let len = frame.copy_to(&mut self.scratch);
                self.generator.take_back(&self.scratch[..len]);
            }
        }
        self.batch.clear();
        self.generator
    }

    /// Makes up to `count` frames; fewer when the pool has no buffer left.
    fn fill(&mut self, count: usize, mut departure: impl FnMut() -> u64) {
        for _ in 0..count {
            let len = self.generator.next_len();
            if self.tagging != Tagging::None {
                if self.make_tagged(len, departure()).is_err() {
                    return;
                }
            } else if len <= self.buffer_size {
                let Ok(mut frame) = self.batch.alloc(len) else {
                    return;
                };
                self.generator.write(frame.data_mut(), departure());
            } else {
                self.generator.write(&mut self.scratch[..len], departure());
                if self.batch.push_bytes(&self.scratch[..len]).is_err() {
                    self.generator.take_back(&self.scratch[..len]);
                    return;
                }
            }
        }
    }

    /// One frame with a tag, the slower way.
    fn make_tagged(&mut self, len: usize, departure: u64) -> Result<(), FrameError> {
        // The frame behind a gap, then the addresses to the front: the gap is where the tag goes.
        let (gap, rest) = (4, &mut self.scratch[4..4 + len]);
        self.generator.write(rest, departure);
        let result = match self.tagging {
            Tagging::Frame(tci) => {
                self.scratch.copy_within(gap..gap + 12, 0);
                self.scratch[12..14].copy_from_slice(&[0x81, 0x00]);
                self.scratch[14..16].copy_from_slice(&tci.to_be_bytes());
                self.batch.push_bytes(&self.scratch[..gap + len])
            }
            Tagging::Hardware(tci) => {
                let pushed = self.batch.push_bytes(&self.scratch[gap..gap + len]);
                pushed.and_then(|()| {
                    self.batch
                        .frames_mut()
                        .last()
                        .map_or(Ok(()), |mut frame| frame.request(TxOffload::vlan(tci)))
                })
            }
            Tagging::None => Ok(()),
        };
        if result.is_err() {
            // In front the addresses may have been moved; what `take_back` reads has not.
            self.generator.take_back(&self.scratch[gap..gap + len]);
        }
        result
    }
}
