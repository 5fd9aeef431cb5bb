//! Memory that the card reaches by DMA: mappings, their translation, and every access to them.
//!
//! The only module of the simulator that may contain `unsafe`. A driver may scribble over mapped memory while the card
//! uses it, so nothing here forms a reference to it, and descriptors are copied once and judged from the copy.

use std::fmt;
use std::sync::Arc;

use vfnic_ring::{DmaBacking, DmaRegion};

/// One contiguous mapping of an IOVA space.
#[derive(Clone, Debug)]
pub struct Mapping {
    iova: u64,
    region: DmaRegion,
    readable: bool,
    writable: bool,
}

impl Mapping {
    /// Maps all of `backing` at `iova`, readable and writable. Holding it keeps the memory, not the mapping, alive.
    #[must_use]
    pub fn new(iova: u64, backing: Arc<dyn DmaBacking>) -> Self {
        Self {
            iova,
            region: DmaRegion::new(backing),
            readable: true,
            writable: true,
        }
    }

    /// The same mapping with other permissions for the device.
    #[must_use]
    pub fn with_access(mut self, readable: bool, writable: bool) -> Self {
        self.readable = readable;
        self.writable = writable;
        self
    }

    /// First device address.
    #[must_use]
    pub const fn iova(&self) -> u64 {
        self.iova
    }

    /// Length in bytes.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.region.len()
    }
}

/// The IOMMU as one function of the card sees it.
///
/// The data path asks only on a miss of its own cache, and once a burst for the generation. Whoever removes a mapping
/// changes the generation first, then waits for the tick in progress to end, and only then tells anybody.
pub trait Translate: Send + Sync + fmt::Debug {
    /// Changes (never to an older value) whenever a mapping is added, changed or removed.
    fn generation(&self) -> u64;
    /// The mapping that contains `iova`, if any.
    fn lookup(&self, iova: u64) -> Option<Mapping>;
}

/// An access that the IOMMU refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaFault {
    /// Pool of the function that did it.
    pub pool: u8,
    /// First address of the access.
    pub iova: u64,
    /// Bytes wanted.
    pub len: u32,
    /// A write, that is towards memory.
    pub write: bool,
}
