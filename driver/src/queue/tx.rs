//! The transmit half of a queue pair.

use std::sync::Arc;

use vfnic_ring::{Batch, DmaRegion, Quiesced, TxRing, TxStats};

use super::max_frame;
use super::run::{Life, QueueError, Run, Turn};
use crate::Error;
use crate::family::TxSetup;

/// A transmit queue. It belongs to one thread at a time and can be moved to another.
///
/// Dropping it takes the queue out of service and its buffers home; frames not yet on the wire are lost.
#[derive(Debug)]
pub struct TxQueue {
    ring: TxRing,
    life: Life,
    setup: TxSetup,
    /// Kept for as long as the hardware might still write to it.
    memory: DmaRegion,
}

impl TxQueue {
    pub(crate) fn new(ring: TxRing, life: Life, setup: TxSetup, memory: DmaRegion) -> Self {
        Self {
            ring,
            life,
            setup,
            memory,
        }
    }

    /// Queues frames from the front of `batch` until the ring is full, and rings the doorbell once. Gives the number of frames taken. Frames that did
    /// not fit stay in `batch`, in order. Completed frames are reclaimed first. Never blocks. While the port recovers
    /// from a reset it takes none.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue is over, or `batch` is another pool's: nothing is taken then. And when the frame
    /// now at the front of `batch` can never be sent: those before it were, drop it or change it.
    #[inline]
    pub fn send(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        if self.life.is_current() {
            return Ok(self.ring.send(batch)?);
        }
        self.renew()?;
        if !self.life.is_current() {
            return Ok(0);
        }
        Ok(self.ring.send(batch)?)
    }

    /// Takes buffers of frames that were sent back into the cache of `batch`; gives their number.
    /// [`send`](Self::send) does so by itself.
    #[inline]
    pub fn reclaim(&mut self, batch: &mut Batch) -> usize {
        if self.life.is_current() {
            self.ring.reclaim(batch)
        } else {
            0
        }
    }

    /// Descriptors free for [`send`](Self::send), short of what a reclaim would add.
    #[must_use]
    pub const fn free_slots(&self) -> u32 {
        self.ring.free_slots()
    }

    /// Descriptors handed to the hardware and not reclaimed yet.
    #[must_use]
    pub const fn pending(&self) -> u32 {
        self.ring.pending()
    }

    /// Number of the queue within the port.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.life.queue()
    }

    /// Whether [`reclaim`](Self::reclaim) has something to take back, or there is a reset to react to.
    #[must_use]
    pub fn has_work(&self) -> bool {
        if self.life.is_current() {
            self.ring.has_work()
        } else {
            !matches!(self.life.look(), Turn::Wait)
        }
    }

    /// The ring, where it can be used now.
    #[inline]
    pub(super) fn ready(&mut self) -> Result<Option<&mut TxRing>, QueueError> {
        if !self.life.is_current() {
            self.renew()?;
        }
        Ok(self.life.is_current().then_some(&mut self.ring))
    }

    #[inline]
    pub(crate) fn is_current(&self) -> bool {
        self.life.is_current()
    }

    /// More than half full: whoever sleeps now may be waiting for room.
    #[inline]
    pub(crate) const fn is_crowded(&self) -> bool {
        self.ring.pending() > self.ring.free_slots()
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        self.life.run()
    }

    pub(crate) fn stats(&self) -> Arc<TxStats> {
        self.ring.stats()
    }

    /// The generation has moved: lets go of the old life and begins the new one, if it is time for it.
    #[cold]
    pub(crate) fn renew(&mut self) -> Result<(), QueueError> {
        if self.life.disable() {
            let lost = self.ring.reset(Quiesced::after_reset());
            if lost > 0 {
                log::debug!(
                    "transmit queue {}: {lost} frames were not confirmed before the reset",
                    self.index()
                );
            }
        } else {
            return Ok(());
        }
        match self.life.look() {
            Turn::Ended(error) => Err(error),
            Turn::Wait => Ok(()),
            Turn::Program { generation } => {
                if let Err(error) = self.enable(generation) {
                    log::warn!("transmit queue {}: {error}", self.index());
                }
                Ok(())
            }
        }
    }

    pub(crate) fn enable(&mut self, generation: u32) -> Result<(), Error> {
        let run = self.life.run();
        let family = run.family();
        self.ring.set_max_frame(max_frame(run.mtu()));
        let (setup, queue) = (&self.setup, self.life.queue());
        self.life
            .enable(generation, |io| family.start_tx(io, queue, setup))
            .map(drop)
    }
}

impl Drop for TxQueue {
    fn drop(&mut self) {
        if self.life.disable() {
            self.ring.reset(Quiesced::after_reset());
        } else {
            log::error!(
                "transmit queue {} did not stop; its memory is kept",
                self.index()
            );
            std::mem::forget(self.memory.clone());
        }
    }
}
