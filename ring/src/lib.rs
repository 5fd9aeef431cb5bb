//! Descriptor rings, buffer pool and batches: the data path of the vfnic driver.
//!
//! This crate knows memory and 16-byte descriptors. It deliberately knows no PCI, no registers but the one tail
//! word behind a [`Doorbell`], and no operating system beyond memory. The invariant to hold on to: a buffer index is
//! in exactly one place at a time: a free list, a ring, a batch, or an owned packet.

mod batch;
mod desc;
mod dma;
mod doorbell;
mod error;
mod forward;
mod frame;
mod lines;
pub mod measure;
mod meta;
mod offload;
mod packet;
mod path;
mod pool;
mod quiesced;
mod rx;
mod stats;
mod tx;

pub use batch::{Batch, DrainPackets, Frames, FramesMut};
pub use desc::{Dialect, MAX_RING, MIN_RING};
pub use dma::{DmaBacking, DmaRegion, HeapDma, Iova};
pub use doorbell::{Doorbell, DoorbellSink};
pub use error::{FrameError, PoolMismatch, RingError, SendError};
pub use forward::{Fate, forward};
pub use frame::{Frame, FrameMut, MIN_FRAME};
pub use meta::{Checksums, PacketType, RssHash, Verdict};
pub use offload::{L4, TxOffload};
pub use packet::Packet;
pub use path::Simd;
pub use pool::{Pool, PoolConfig, PoolStats};
pub use quiesced::Quiesced;
pub use rx::{RxParams, RxRing};
pub use stats::{RxStats, TxStats};
pub use tx::{TxParams, TxRing};
