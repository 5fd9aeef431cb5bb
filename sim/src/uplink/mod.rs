//! Where frames leave the card: the wire behind the uplink, and the host behind the PF's own port.
//!
//! Frames here have no CRC and are at least 60 bytes long when they come from the card. A [`Port`] whose frames come from
//! elsewhere (another card, the host's network stack, a test) is given what wakes a sleeping card by `wake_with`.

mod pcap;
mod peer;
mod reader;
mod socket;
mod tap;

use std::fmt;

pub use self::pcap::{Pace, PcapError, PcapPlayer, PcapRecorder};
pub use self::peer::{Peer, Reflector, pair};
pub use self::socket::Socket;
pub use self::tap::Tap;

/// The far end of one of the card's outer ports.
pub trait Port: Send + fmt::Debug {
    /// Takes a frame that leaves the card. False when it cannot be taken now; it is dropped and counted then.
    fn send(&mut self, frame: &[u8]) -> bool;

    /// The next frame towards the card, in place of what `frame` held, if there is one. Never blocks.
    fn receive(&mut self, frame: &mut Vec<u8>) -> bool;

    /// Whether [`receive`](Self::receive) might have something: a cheap look, once a tick.
    fn has_frames(&mut self) -> bool;

    /// The card's clock, in nanoseconds; told once a tick, before anything else.
    fn set_time(&mut self, now: u64) {
        let _ = now;
    }

    /// A time of the card's clock, in nanoseconds, at which it wants to be looked at again although nothing else happens.
    fn next_due(&self) -> Option<u64> {
        None
    }
}

/// Nothing behind it: takes everything, gives nothing.
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
