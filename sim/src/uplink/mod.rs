//! Where frames leave the card: the wire behind the uplink, and the host behind the PF's own port.
//!
//! Frames here have no CRC and are at least 60 bytes long when they come from the card.

use std::fmt;

/// The far end of one of the card's outer ports.
pub trait Port: Send + fmt::Debug {
    /// Takes a frame that leaves the card. False when it cannot be taken now; it is dropped and counted then.
    fn send(&mut self, frame: &[u8]) -> bool;

    /// The next frame towards the card, written to `frame` from its start, if there is one. Never blocks.
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool;

    /// Whether [`receive`](Self::receive) might have something: a cheap look, once a tick.
    fn has_frames(&mut self) -> bool;

    /// A time of the card's clock, in nanoseconds, at which it wants to be looked at again although nothing else happens.
    fn next_due(&self) -> Option<u64> {
        None
    }
}

/// Nothing behind it: takes nothing, gives nothing.
#[derive(Debug, Default)]
pub struct Nowhere;

impl Port for Nowhere {
    fn send(&mut self, _frame: &[u8]) -> bool {
        true
    }
    fn receive(&mut self, _frame: &mut Vec<u8>) -> bool {
        false
    }
    fn has_frames(&mut self) -> bool {
        false
    }
}
