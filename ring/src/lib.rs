//! Descriptor rings, buffer pool and batches: the data path of the vfnic driver.
//!
//! This crate knows memory and 16-byte descriptors. It deliberately knows no PCI, no registers but the one tail
//! word behind a [`Doorbell`], and no operating system beyond memory. The invariant to hold on to: a buffer index is
//! in exactly one place at a time: a free list, a ring, a batch, or an owned packet.

mod dma;
mod doorbell;

pub use dma::{DmaBacking, DmaRegion, HeapDma, Iova};
pub use doorbell::{Doorbell, DoorbellSink};
