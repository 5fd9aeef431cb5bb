//! The receive half of a queue pair.

use std::sync::Arc;

use vfnic_ring::{Batch, DmaRegion, Fate, FrameMut, Quiesced, RxRing, RxStats};

use super::run::{Life, QueueError, Run, Turn};
use super::{TxQueue, max_frame};
use crate::Error;
use crate::family::RxSetup;

/// A receive queue. It belongs to one thread at a time and can be moved to another.
///
/// Dropping it takes the queue out of service and its buffers home.
#[derive(Debug)]
pub struct RxQueue {
    ring: RxRing,
    life: Life,
    setup: RxSetup,
    /// Kept for as long as the hardware might still write to it.
    memory: DmaRegion,
}

impl RxQueue {
    pub(crate) fn new(ring: RxRing, life: Life, setup: RxSetup, memory: DmaRegion) -> Self {
        Self {
            ring,
            life,
            setup,
            memory,
        }
    }

    /// Appends received frames to `batch` until it is full or there are no more, and hands fresh buffers to the
    /// hardware. Gives the number of frames. Never blocks. While the port recovers from a reset it gives none.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when the queue is over, or `batch` is another pool's. Nothing is appended then.
    #[inline]
    pub fn receive(&mut self, batch: &mut Batch) -> Result<usize, QueueError> {
        if self.life.is_current() {
            return Ok(self.ring.receive(batch)?);
        }
        self.renew()?;
        if !self.life.is_current() {
            return Ok(0);
        }
        Ok(self.ring.receive(batch)?)
    }

    /// Receives and sends in one call, to a queue of this port or of another that shares the pool: the same as
    /// [`receive`](Self::receive), [`Batch::retain_mut`] and [`TxQueue::send`] one after the other. `decide` sees every frame, may change it, and says whether it goes on. Returns the frames
    /// received. What `to` has no room for stays in `batch` and goes first at the next call; until it has gone nothing
    /// more is received. While either port recovers from a reset nothing happens.
    ///
    /// # Errors
    ///
    /// [`QueueError`] when one of the queues is over or `batch` is of another pool: nothing is received then. And when
    /// the frame now at the front of `batch` can never be sent: drop it or change it.
    #[inline]
    pub fn forward(
        &mut self,
        to: &mut TxQueue,
        batch: &mut Batch,
        decide: impl FnMut(&mut FrameMut<'_>) -> Fate,
    ) -> Result<usize, QueueError> {
        if !self.life.is_current() {
            self.renew()?;
        }
        let ring = to.ready()?;
        match ring {
            Some(ring) if self.life.is_current() => {
                Ok(vfnic_ring::forward(&mut self.ring, ring, batch, decide)?)
            }
            _ => Ok(0),
        }
    }

    /// Whether [`receive`](Self::receive) has something to do: frames, or a reset to react to.
    #[inline]
    #[must_use]
    pub fn has_work(&self) -> bool {
        if self.life.is_current() {
            self.ring.has_work()
        } else {
            !matches!(self.life.look(), Turn::Wait)
        }
    }

    /// Number of the queue within the port.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.life.queue()
    }

    pub(crate) fn run(&self) -> &Arc<Run> {
        self.life.run()
    }

    pub(crate) fn stats(&self) -> Arc<RxStats> {
        self.ring.stats()
    }

    /// The generation has moved: lets go of the old life and begins the new one, if it is time for it.
    #[cold]
    pub(crate) fn renew(&mut self) -> Result<(), QueueError> {
        if self.life.disable() {
            self.ring.reset(Quiesced::after_reset());
        } else {
            // Not known to have stopped: the buffers stay where they are until it is.
            return Ok(());
        }
        match self.life.look() {
            Turn::Ended(error) => Err(error),
            Turn::Wait => Ok(()),
            Turn::Program { generation } => {
                if let Err(error) = self.enable(generation) {
                    log::warn!("receive queue {}: {error}", self.index());
                }
                Ok(())
            }
        }
    }

    pub(crate) fn enable(&mut self, generation: u32) -> Result<(), Error> {
        let run = Arc::clone(self.life.run());
        self.setup.mtu = run.mtu();
        self.ring.set_max_frame(max_frame(run.mtu()));
        let (ring, setup, queue) = (&mut self.ring, &self.setup, self.life.queue());
        self.life
            .enable(generation, |io| {
                run.family().start_rx(io, queue, setup)?;
                Ok(ring.arm()?)
            })
            .map(drop)
    }
}

impl Drop for RxQueue {
    fn drop(&mut self) {
        if self.life.disable() {
            self.ring.reset(Quiesced::after_reset());
        } else {
            // The hardware may still write to the ring: its memory is never given back. (The ring keeps its buffers by
            // itself.)
            log::error!(
                "receive queue {} did not stop; its memory is kept",
                self.index()
            );
            std::mem::forget(self.memory.clone());
        }
    }
}
