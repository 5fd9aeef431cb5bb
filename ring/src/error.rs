//! What can be wrong with a ring's, a pool's or a frame's parameters.

/// A ring or a pool cannot be made as asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// Descriptor counts are multiples of 8 (a whole 128-byte unit of the length register).
    #[error("ring of {asked} descriptors: must be a multiple of 8 from {min} to {max}")]
    Size {
        /// Descriptors asked for.
        asked: u32,
        /// Fewest.
        min: u32,
        /// Most.
        max: u32,
    },
    /// The descriptors do not fit the region, or the base is not 128-byte aligned.
    #[error(
        "ring of {need} bytes at offset {offset}: the region has {have} bytes, and offsets are multiples of 128"
    )]
    Region {
        /// Bytes the descriptors take.
        need: usize,
        /// Where they should start.
        offset: usize,
        /// Length of the region.
        have: usize,
    },
    /// Buffers come in whole KiB, because the hardware counts them so.
    #[error("buffers of {asked} bytes: must be a multiple of 1024 from 1024 to 16384")]
    BufferSize {
        /// Bytes asked for.
        asked: u32,
    },
    /// Headroom keeps data cache-line aligned.
    #[error("headroom of {asked} bytes: must be a multiple of 64 up to 1024")]
    Headroom {
        /// Bytes asked for.
        asked: u16,
    },
    /// A pool of none, or of more than an index can name.
    #[error("pool of {asked} buffers: must be from 64 to {max}")]
    Buffers {
        /// Buffers asked for.
        asked: u32,
        /// Most.
        max: u32,
    },
    /// The buffers do not fit the region.
    #[error("pool of {need} bytes: the region has {have}")]
    PoolRegion {
        /// Bytes the buffers take.
        need: usize,
        /// Length of the region.
        have: usize,
    },
    /// Not enough free buffers to fill the ring.
    #[error("{need} buffers to fill the ring, {have} are free; make the pool larger")]
    NoBuffers {
        /// Buffers needed.
        need: u32,
        /// Buffers that were free.
        have: u32,
    },
}

/// A batch was handed to a queue that works on another pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "the batch and the queue are of different pools; make the batch with the queue's port or pool"
)]
pub struct PoolMismatch;

/// A frame cannot be built or asked for as wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// No free buffer, or no room in the batch.
    #[error("no room: the batch is full or the pool is empty")]
    NoRoom,
    /// Frames have at least an Ethernet header.
    #[error("frame of {len} bytes: must be from {min} to {max}")]
    Length {
        /// Bytes asked for.
        len: usize,
        /// Fewest.
        min: usize,
        /// Most.
        max: usize,
    },
    /// The headroom does not allow it.
    #[error("moving the head by {by} bytes: {have} are there")]
    Headroom {
        /// Bytes asked for.
        by: usize,
        /// Bytes available.
        have: usize,
    },
    /// Header lengths that do not fit the frame or the hardware's fields.
    #[error(
        "headers of {l2} + {l3} + {l4} bytes in a frame of {len}: they must lie in its first buffer and in the hardware's fields"
    )]
    Headers {
        /// L2 header bytes.
        l2: u16,
        /// L3 header bytes.
        l3: u16,
        /// L4 header bytes.
        l4: u16,
        /// Bytes in the frame's first buffer.
        len: usize,
    },
    /// TSO needs TCP, a segment size and payload.
    #[error("TSO with mss {mss}: needs TCP, checksum offload, and an mss from 64 to {max}")]
    Tso {
        /// Segment size asked for.
        mss: u16,
        /// Largest.
        max: u16,
    },
}

/// Why sending stopped at a frame. The frame stays at the front of the batch; those before it are on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SendError {
    /// The batch is of another pool; nothing was sent.
    #[error(transparent)]
    Pool(#[from] PoolMismatch),
    /// Longer than the queue may send.
    #[error("frame of {len} bytes: this queue sends up to {max}; raise the MTU or use TSO")]
    TooLong {
        /// Frames sent before it.
        sent: usize,
        /// Its length.
        len: usize,
        /// Most.
        max: usize,
    },
    /// Shorter than an Ethernet header, or to be segmented without payload behind its headers.
    #[error("frame of {len} bytes: must have at least {min}")]
    TooShort {
        /// Frames sent before it.
        sent: usize,
        /// Its length.
        len: usize,
        /// Fewest.
        min: usize,
    },
    /// What was asked for the frame no longer fits it.
    #[error("offload request: {why}")]
    Request {
        /// Frames sent before it.
        sent: usize,
        /// What is wrong.
        why: FrameError,
    },
    /// More buffers than a frame may have.
    #[error("frame of {segments} buffers: the hardware takes up to {max}")]
    TooManySegments {
        /// Frames sent before it.
        sent: usize,
        /// Its buffers.
        segments: usize,
        /// Most.
        max: usize,
    },
}
