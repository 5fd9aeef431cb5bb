//! Queue pairs: what an application's threads hold.

pub(crate) mod run;
mod rx;
mod tx;

pub use run::QueueError;
pub use rx::RxQueue;
pub use tx::TxQueue;

/// Longest frame of an MTU, in bytes without CRC: an Ethernet header and two VLAN tags may come on top.
pub(crate) fn max_frame(mtu: u16) -> u32 {
    u32::from(mtu) + 22
}

/// A receive and a transmit queue of one port. The two are independent: take the pair apart to give each to a thread
/// of its own.
#[derive(Debug)]
pub struct QueuePair {
    /// The receive half.
    pub rx: RxQueue,
    /// The transmit half.
    pub tx: TxQueue,
}

impl QueuePair {
    /// The two halves.
    #[must_use]
    pub fn split(self) -> (RxQueue, TxQueue) {
        (self.rx, self.tx)
    }

    /// Number of the pair within the port.
    #[must_use]
    pub const fn index(&self) -> u16 {
        self.rx.index()
    }
}
