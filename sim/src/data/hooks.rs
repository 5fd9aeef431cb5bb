//! What the data path tells the rest of the card while it works, and where faults are put in.

use crate::dma::DmaFault;

/// A named point at which a fault can be put in. The plan counts how often each is passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Point {
    /// A TX descriptor was read.
    TxFetch,
    /// A TX write-back is about to be published.
    TxWriteBack,
    /// An RX descriptor was read.
    RxFetch,
    /// An RX write-back is about to be published.
    RxWriteBack,
    /// Frame data or a descriptor is about to be read from memory.
    DmaRead,
    /// Frame data is about to be written to memory.
    DmaWrite,
    /// A whole frame is about to be switched.
    Frame,
}

/// Where the data path is: one passing of a [`Point`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct At {
    /// The point.
    pub point: Point,
    /// Pool (VF number, or the PF's).
    pub pool: u8,
    /// Queue within the pool.
    pub queue: u8,
    /// Descriptor index, where there is one.
    pub index: u16,
}

/// What can be made to happen at a point. A fault that makes no sense at its point does nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// `TxWriteBack`, `RxWriteBack`: the 16 bytes become `(old & and) | or`, as two little-endian words.
    Rewrite {
        /// Bits to keep.
        and: [u64; 2],
        /// Bits to set.
        or: [u64; 2],
    },
    /// `TxWriteBack`, `RxWriteBack`: never written; `Frame`: lost without a counter of the hardware's.
    Swallow,
    /// `TxWriteBack`, `RxWriteBack`: the word with the status is written now and the other one this much later, torn.
    Tear {
        /// Nanoseconds of the card's clock.
        ns: u64,
    },
    /// `TxWriteBack`, `RxWriteBack`: written to the descriptor this many places further on instead.
    Displace(i16),
    /// `TxWriteBack`, `RxWriteBack`: held back this long, with everything behind it on the queue.
    Delay {
        /// Nanoseconds of the card's clock.
        ns: u64,
    },
    /// `DmaRead`, `DmaWrite`: refused as the IOMMU would.
    Refuse,
    /// `TxWriteBack`, `RxWriteBack`: held back this long, while those behind it go out on time, out of order.
    Late {
        /// Nanoseconds of the card's clock.
        ns: u64,
    },
    /// `TxWriteBack`, `RxWriteBack`: written now and once more after this long, whatever became of the queue.
    Again {
        /// Nanoseconds of the card's clock.
        ns: u64,
    },
    /// `Frame`: the byte at this offset (modulo the length) is inverted.
    Corrupt(u32),
    /// `Frame`: switched twice.
    Duplicate,
    /// `TxFetch`, `RxFetch`: the queue stops as if blocked by the device.
    Block,
}

/// What the data path says about a driver's mistake on a ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum RingViolation {
    /// Tail at or past the ring's length.
    TailBeyondRing,
    /// Base not a multiple of 128 bytes.
    BaseMisaligned,
    /// Head at or past the ring's length when the queue was enabled.
    HeadBeyondRing,
    /// Length zero, not a multiple of 128 bytes, or longer than the register holds.
    BadLength,
    /// Packet buffer size zero.
    NoBufferSize,
    /// A descriptor type the queue does not do.
    BadDescriptorType,
    /// An RX buffer address of zero or an odd header address.
    BadBufferAddress,
    /// A TX descriptor without a byte of data.
    EmptyDescriptor,
    /// A frame of more descriptors than the card takes.
    TooManyDescriptors,
    /// A frame shorter than the 17 bytes the card needs, or longer than it sends.
    BadFrameLength,
    /// PAYLEN does not match the data.
    BadPayloadLength,
    /// The tail was moved into the middle of a frame.
    TailInsideFrame,
    /// An offload asked for with header lengths or a segment size that do not fit the frame.
    BadOffload,
    /// CC clear, or a context that was never loaded.
    NoContext,
    /// IFCS clear.
    NoChecksumInsertion,
}

/// Why malicious-driver detection stopped a queue (X550) or dropped a frame (I350).
pub type Malicious = RingViolation;

/// The rest of the card, as the data path calls it.
pub trait Hooks {
    /// Whether any fault is planned on the data path; asked once a burst. While true, the slow path is used throughout
    /// and [`at`](Self::at) is asked at every point.
    fn armed(&self) -> bool {
        false
    }
    /// A point is passed.
    fn at(&mut self, at: At) -> Option<Fault> {
        let _ = at;
        None
    }
    /// The IOMMU refused an access; the queue or the frame pays, as each engine says.
    fn dma_fault(&mut self, fault: DmaFault) {
        let _ = fault;
    }
    /// A driver's mistake on a ring that the card survives.
    fn violation(&mut self, pool: u8, queue: u8, violation: RingViolation) {
        let _ = (pool, queue, violation);
    }
    /// Malicious-driver detection struck; on X550 the TX queue is blocked until the VF is reset.
    fn malicious(&mut self, pool: u8, queue: u8, cause: Malicious) {
        let _ = (pool, queue, cause);
    }
    /// A frame was dropped by the MAC or VLAN spoof check.
    fn spoofed(&mut self, pool: u8, queue: u8) {
        let _ = (pool, queue);
    }
}

/// No hooks: nothing planned, nobody told.
#[derive(Debug)]
pub struct NoHooks;

impl Hooks for NoHooks {}
