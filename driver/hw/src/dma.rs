//! IOVA spaces.

use std::fmt;

use vfnic_ring::DmaRegion;

use crate::DmaError;

/// A range of device addresses, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct IovaRange {
    /// First address.
    pub start: u64,
    /// Last address.
    pub end: u64,
}

/// What a mapping is for; decides page size and placement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DmaRequest {
    /// Bytes wanted; rounded up to whole pages.
    pub len: usize,
    /// Use huge pages when the system has any free; 4 KiB pages are always the fallback.
    pub prefer_huge: bool,
}

/// An IOVA space that functions are opened *in*.
///
/// Two ports opened in one space can share a buffer pool and forward without copying; by default every port gets a
/// space of its own. Mapping is a setup-time operation: nothing is mapped or unmapped while traffic runs.
pub trait DmaSpace: Send + Sync + fmt::Debug {
    /// Allocates zeroed memory and maps it for every function in the space. The mapping ends when the last clone of
    /// the region goes, memory after mapping.
    ///
    /// # Errors
    ///
    /// [`DmaError::Memlock`] before anything is mapped when the limit does not allow it, with the bytes needed and
    /// allowed; [`DmaError::NoIova`] when no reported range has room; [`DmaError::Map`] when the kernel refuses.
    fn map(&self, request: DmaRequest) -> Result<DmaRegion, DmaError>;

    /// The ranges that may be mapped, ascending, as reported by whoever translates.
    fn ranges(&self) -> Vec<IovaRange>;

    /// Bytes mapped at present.
    fn mapped_bytes(&self) -> u64;

    /// Page size actually used for the last mapping that asked for huge pages, in bytes; 0 before the first.
    fn page_size(&self) -> usize;
}
