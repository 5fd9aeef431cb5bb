//! What a poller can look after.

use crate::{QueuePair, RxQueue, TxQueue};

/// Queues that a [`Poller`](crate::Poller) can wait on: a pair, or one half of it. Not to be implemented elsewhere.
pub trait Pollable: sealed::Waiting {}

impl Pollable for QueuePair {}
impl Pollable for RxQueue {}
impl Pollable for TxQueue {}

pub(crate) mod sealed {
    use std::sync::Arc;

    use crate::queue::run::Run;

    /// How it waits.
    #[expect(
        unnameable_types,
        reason = "sealed: only this crate's queues can be waited on"
    )]
    pub trait Waiting {
        /// The life it is part of.
        #[doc(hidden)]
        #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
        fn run(&self) -> &Arc<Run>;
        /// Message vectors that may ever wake it, as a mask.
        #[doc(hidden)]
        fn vectors(&self) -> u32;
        /// Message vectors that shall wake it now.
        #[doc(hidden)]
        fn wanted(&self) -> u32;
        /// Whether there is something to do right now.
        #[doc(hidden)]
        fn has_work(&self) -> bool;
    }
}

/// The bit of a vector, or none when there are no vectors.
fn bit(run: &crate::queue::run::Run, vector: u8) -> u32 {
    if run.plan().count == 0 {
        0
    } else {
        1 << vector
    }
}

impl sealed::Waiting for RxQueue {
    #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
    fn run(&self) -> &std::sync::Arc<crate::queue::run::Run> {
        self.run()
    }
    fn vectors(&self) -> u32 {
        bit(self.run(), self.run().plan().rx(self.index()))
    }
    fn wanted(&self) -> u32 {
        self.vectors()
    }
    #[inline]
    fn has_work(&self) -> bool {
        self.has_work()
    }
}

impl sealed::Waiting for TxQueue {
    #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
    fn run(&self) -> &std::sync::Arc<crate::queue::run::Run> {
        self.run()
    }
    fn vectors(&self) -> u32 {
        bit(self.run(), self.run().plan().tx(self.index()))
    }
    /// Completions matter to somebody who waits for room; to everybody else each would be a wake-up for nothing.
    fn wanted(&self) -> u32 {
        if self.is_crowded() { self.vectors() } else { 0 }
    }
    #[inline]
    fn has_work(&self) -> bool {
        if self.is_current() {
            self.is_crowded() && self.has_work()
        } else {
            self.has_work()
        }
    }
}

impl sealed::Waiting for QueuePair {
    #[expect(private_interfaces, reason = "sealed: nobody else calls it")]
    fn run(&self) -> &std::sync::Arc<crate::queue::run::Run> {
        self.rx.run()
    }
    fn vectors(&self) -> u32 {
        sealed::Waiting::vectors(&self.rx) | sealed::Waiting::vectors(&self.tx)
    }
    fn wanted(&self) -> u32 {
        self.rx.wanted() | self.tx.wanted()
    }
    #[inline]
    fn has_work(&self) -> bool {
        sealed::Waiting::has_work(&self.rx) || sealed::Waiting::has_work(&self.tx)
    }
}
