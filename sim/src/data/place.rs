//! What every part of the data path needs to know while it works.

use super::Completion;
use super::desc::Words;
use super::hooks::{At, Fault, Hooks};

/// One tick's surroundings.
pub(crate) struct Place<'a> {
    /// Nanoseconds of the card's clock.
    pub(crate) now: u64,
    pub(crate) hooks: &'a mut dyn Hooks,
    /// Faults are planned: every point asks.
    pub(crate) armed: bool,
    pub(crate) completion: Completion,
}

impl Place<'_> {
    /// What undefined parts of a write-back hold.
    #[inline]
    pub(crate) fn rubbish(&self, index: u32) -> Words {
        if self.completion.scribble {
            let word = (u64::from(index) + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            [word | 0x8000_0001, !word]
        } else {
            [0; 2]
        }
    }

    /// Passes a point.
    #[inline]
    pub(crate) fn ask(&mut self, at: At) -> Option<Fault> {
        if self.armed { self.hooks.at(at) } else { None }
    }
}
