//! The card's control side, driven by raw register accesses with numbers from the reference; no driver, no constants of
//! the crate under test.

mod bed;
mod card;
#[path = "../dice/mod.rs"]
mod dice;
mod faults;
mod hostile;
mod interrupts;
mod iommu;
mod iommu_model;
mod isolation;
mod knobs;
mod mailbox_igb;
mod mailbox_ixgbe;
mod raw;
mod registers;
mod reset;
mod soak;
mod station;
mod switching;
mod traffic;
