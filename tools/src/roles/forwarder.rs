//! Sends what it receives on to somebody else.

use vfnic::{Batch, QueueError, RxQueue, TxQueue};

use crate::traffic::frame::Mac;

/// A forwarder between two queues: gives frames new MAC addresses and touches nothing else.
#[derive(Debug)]
pub struct Forwarder {
    batch: Batch,
    /// Destination and source address, as they stand in a frame.
    addresses: [u8; 12],
    forwarded: u64,
}

impl Forwarder {
    /// A forwarder to `destination`. `batch` comes from the pool of both queues' port.
    #[must_use]
    pub fn new(batch: Batch, destination: Mac, source: Mac) -> Self {
        let mut addresses = [0; 12];
        addresses[..6].copy_from_slice(&destination);
        addresses[6..].copy_from_slice(&source);
        Self {
            batch,
            addresses,
            forwarded: 0,
        }
    }

    /// Forwards what has come. While the sending queue is full nothing new is received, so that frames wait in the
    /// receive ring and none is dropped here. Returns how many frames moved.
    ///
    /// # Errors
    ///
    /// When a queue is over.
    pub fn forward(&mut self, rx: &mut RxQueue, tx: &mut TxQueue) -> Result<usize, QueueError> {
        if self.batch.is_empty() {
            if rx.receive(&mut self.batch)? == 0 {
                // A poller does not sleep over a queue full of finished frames.
                tx.reclaim(&mut self.batch);
                return Ok(0);
            }
            for mut frame in self.batch.frames_mut() {
                if let Some(head) = frame.data_mut().first_chunk_mut() {
                    *head = self.addresses;
                }
            }
        }
        let taken = tx.send(&mut self.batch)?;
        self.forwarded += taken as u64;
        Ok(taken)
    }

    /// Frames that wait for the sending queue.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.batch.len()
    }

    /// Frames sent on.
    #[must_use]
    pub const fn forwarded(&self) -> u64 {
        self.forwarded
    }
}
