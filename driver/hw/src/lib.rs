//! The contract below the vfnic driver: what a PCI function looks like from userspace, and the facts both the driver
//! and the simulator must agree on (register addresses, message numbers).
//!
//! Facts and traits only, no behaviour. Whatever *interprets* bits (descriptors, mailbox bodies, reset order) is
//! written in the driver and again in the simulator, so that neither can inherit the other's mistake.
#![forbid(unsafe_code)]
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

pub mod mailbox;
pub mod regs;

mod clock;
mod dma;
mod error;
mod event;
mod model;
mod pci;

pub use clock::{Clock, Deadline, RealClock};
pub use dma::{DmaRequest, DmaSpace, IovaRange};
pub use error::{DmaError, PciError};
pub use event::Event;
pub use model::{Family, Model};
pub use pci::{Mmio, PciFunction, PciIds};
pub use vfnic_ring::{DmaRegion, Doorbell, DoorbellSink, Iova};
