//! All queues of a poller as one thing to wait for.

use std::sync::Arc;

use super::arm::{Vectors, Work};
use super::pollable::{Pollable, sealed};
use crate::queue::run::Run;

#[inline]
pub(super) fn has_work<Q: Pollable>(queues: &Q) -> bool {
    sealed::Waiting::has_work(queues)
}

/// All queues of a poller as something to wait for.
pub(super) struct Waiting<'a, Q>(pub(super) &'a [Q]);

impl<Q: Pollable> Waiting<'_, Q> {
    /// Each device once, with the vectors wanted of it by all its queues.
    fn each_device(&self, vectors: impl Fn(&Q) -> u32, mut act: impl FnMut(&Run, u32)) {
        for (index, queues) in self.0.iter().enumerate() {
            let same = |other: &&Q| Arc::ptr_eq(other.run(), queues.run());
            if self.0[..index].iter().any(|other| same(&other)) {
                continue;
            }
            let mask = self.0[index..]
                .iter()
                .filter(same)
                .fold(0, |mask, queues| mask | vectors(queues));
            if mask != 0 {
                act(queues.run(), mask);
            }
        }
    }
}

impl<Q: Pollable> Vectors for Waiting<'_, Q> {
    fn arm(&self) {
        self.each_device(|queues| queues.wanted(), |run, mask| run.device().arm(mask));
    }

    fn mask(&self) {
        self.each_device(
            |queues| queues.vectors(),
            |run, mask| run.device().mask(mask),
        );
    }
}

impl<Q: Pollable> Work for Waiting<'_, Q> {
    fn has_work(&self) -> bool {
        self.0.iter().any(has_work)
    }
}
