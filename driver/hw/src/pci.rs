//! One PCI function as userspace sees it.

use std::fmt;
use std::sync::Arc;

use vfnic_ring::Doorbell;

use crate::{Clock, DmaSpace, Event, PciError};

/// The identity a function shows (virtualised ids where the hardware's own read all-ones, ixgbevf.md §2.2).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PciIds {
    /// Vendor id.
    pub vendor: u16,
    /// Device id.
    pub device: u16,
    /// Subsystem vendor id.
    pub subsystem_vendor: u16,
    /// Subsystem id.
    pub subsystem: u16,
    /// Revision.
    pub revision: u8,
    /// Class code, 24 bits; 0x020000 is Ethernet.
    pub class: u32,
}

/// A PCI function held by this process.
///
/// # Lifecycle
///
/// 1. A backend opens it; that resets it (FLR) and turns bus mastering off.
/// 2. The driver maps BAR 0 with [`bar`](Self::bar), turns bus mastering on, programs the device.
/// 3. [`enable_vectors`](Self::enable_vectors) routes MSI-X messages to events.
/// 4. Teardown, in this order: queues stopped, [`reset`](Self::reset), bus mastering off,
///    [`disable_vectors`](Self::disable_vectors), DMA regions dropped, the function dropped.
///
/// All methods may be called from any thread. None of them is for the data path.
pub trait PciFunction: Send + Sync + fmt::Debug {
    /// What to call it in messages: its address or its spec.
    fn name(&self) -> &str;

    /// Its ids, read when it was opened.
    fn ids(&self) -> PciIds;

    /// Reads `data.len()` bytes of config space at `offset`.
    ///
    /// # Errors
    ///
    /// When the backend cannot; a read past the end counts as such.
    fn read_config(&self, offset: u16, data: &mut [u8]) -> Result<(), PciError>;

    /// Writes `data` to config space at `offset`.
    ///
    /// # Errors
    ///
    /// As for [`read_config`](Self::read_config).
    fn write_config(&self, offset: u16, data: &[u8]) -> Result<(), PciError>;

    /// Maps a memory BAR. Repeated calls give handles on the same mapping.
    ///
    /// # Errors
    ///
    /// [`PciError::Bar`] when there is none of that number.
    fn bar(&self, index: u8) -> Result<Arc<dyn Mmio>, PciError>;

    /// The IOVA space it was opened in.
    fn dma_space(&self) -> Arc<dyn DmaSpace>;

    /// The clock its waits are measured by.
    fn clock(&self) -> Arc<dyn Clock>;

    /// MSI-X vectors it has.
    fn vector_count(&self) -> u32;

    /// Turns MSI-X on: vector `i` signals `events[i]`. Replaces whatever was routed before.
    ///
    /// # Errors
    ///
    /// [`PciError::Vectors`] when there are more events than vectors.
    fn enable_vectors(&self, events: &[Event]) -> Result<(), PciError>;

    /// Turns MSI-X off. Harmless when it is off.
    ///
    /// # Errors
    ///
    /// When the backend refuses; the device may then still signal events that nobody reads.
    fn disable_vectors(&self) -> Result<(), PciError>;

    /// Signalled on an uncorrectable bus error, where the backend can tell.
    fn error_event(&self) -> Option<Event>;

    /// Signalled when the administrator wants the device back (`sriov_numvfs=0`), where the backend can tell.
    fn request_event(&self) -> Option<Event>;

    /// Function-level reset. Registers are lost, and so are bus mastering and MSI-X; the wait for the function to
    /// settle (100 ms) is the backend's.
    ///
    /// # Errors
    ///
    /// When the backend cannot reset it.
    fn reset(&self) -> Result<(), PciError>;

    /// Turns bus mastering on or off: config command bit 2, without which the function does neither DMA nor MSI-X.
    ///
    /// # Errors
    ///
    /// As for [`write_config`](Self::write_config).
    fn set_bus_master(&self, on: bool) -> Result<(), PciError> {
        const COMMAND: u16 = 4;
        const BUS_MASTER: u16 = 1 << 2;
        let mut command = [0; 2];
        self.read_config(COMMAND, &mut command)?;
        let old = u16::from_le_bytes(command);
        let new = if on {
            old | BUS_MASTER
        } else {
            old & !BUS_MASTER
        };
        self.write_config(COMMAND, &new.to_le_bytes())
    }
}

/// 32-bit register access, bounds-checked.
///
/// A read that cannot be done (out of bounds, device gone, connection lost) returns all-ones, as the bus itself
/// would; a write that cannot be done is dropped. So there is one way for a device to be gone, and callers that see
/// all-ones confirm it on a second register.
pub trait Mmio: Send + Sync + fmt::Debug {
    /// Length in bytes.
    fn len(&self) -> u32;

    /// Reads the register at `offset`, a multiple of 4.
    fn read32(&self, offset: u32) -> u32;

    /// Writes the register at `offset`, a multiple of 4. Posted: a read of a harmless register flushes it.
    fn write32(&self, offset: u32, value: u32);

    /// The tail register at `offset` as a doorbell for the data path.
    ///
    /// # Errors
    ///
    /// [`PciError::Bar`] when `offset` is out of bounds.
    fn doorbell(&self, offset: u32) -> Result<Doorbell, PciError>;
}
