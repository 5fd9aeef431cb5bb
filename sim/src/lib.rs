//! A simulator of SR-IOV cards: VFs, the PF's side, switch, IOMMU, wires and faults.
#![deny(unsafe_code)]

pub mod data;
pub mod uplink;

mod dma;

pub use dma::{DmaFault, Mapping, Translate};
