//! What a session needs of the function it serves: the seam between protocol and card.

use std::fmt;

use vfnic_hw::{Event, PciError};

use crate::dma::Mapping;

/// One function, open for one client. Dropping it ends all DMA, resets the function and lets it be opened again.
///
/// Whatever the arguments, no method panics or blocks for long: they come from a client that may be hostile. Offsets
/// and lengths have been checked against the region, nothing else has.
pub trait VfBackend: Send + fmt::Debug {
    /// Copies configuration space from `offset` on; `offset + data.len()` is at most 4096.
    fn config_read(&mut self, offset: u16, data: &mut [u8]);

    /// Writes configuration space. What the write sets off (bus mastering, function-level reset) is done on return;
    /// vectors stay routed.
    fn config_write(&mut self, offset: u16, data: &[u8]);

    /// Reads the 32-bit register at `offset`, a multiple of 4 inside BAR 0.
    fn bar_read(&mut self, offset: u32) -> u32;

    /// Writes the 32-bit register at `offset`, a multiple of 4 inside BAR 0.
    fn bar_write(&mut self, offset: u32, value: u32);

    /// MSI-X vectors it has, at most 64.
    fn vectors(&self) -> u32;

    /// Turns MSI-X on, vector `i` signalling `events[i]`; with none, turns it off.
    ///
    /// # Errors
    ///
    /// When the function is gone or the list is too long.
    fn route_vectors(&mut self, events: &[Event]) -> Result<(), PciError>;

    /// Lets the function reach a mapping that overlaps none of those it has.
    fn map(&mut self, mapping: Mapping);

    /// Takes away every mapping whose first address lies in `first..=last`, and returns once no DMA to any of them is
    /// running or can start.
    fn unmap(&mut self, first: u64, last: u64);

    /// Function-level reset. Vectors stay routed, as the kernel's VFIO restores MSI-X after a reset.
    ///
    /// # Errors
    ///
    /// When the function is gone.
    fn reset(&mut self) -> Result<(), PciError>;

    /// Signalled on an uncorrectable bus error.
    fn error_event(&self) -> Option<Event>;

    /// Signalled when the administrator wants the function back.
    fn request_event(&self) -> Option<Event>;
}

/// Where sessions get their function from.
pub trait VfSource: Send + Sync + fmt::Debug {
    /// Opens the function, reset and with no memory mapped.
    ///
    /// # Errors
    ///
    /// When somebody has it open, or it does not exist (any more).
    fn open(&self) -> Result<Box<dyn VfBackend>, PciError>;
}
