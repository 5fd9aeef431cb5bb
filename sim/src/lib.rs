//! A simulator of SR-IOV cards: VFs, the PF's side, switch, IOMMU, wires and faults.
#![deny(unsafe_code)]

pub mod data;
pub mod serve;
pub mod uplink;

mod bar;
mod builder;
mod card;
mod clock;
mod config;
#[expect(
    unsafe_code,
    reason = "the one place that reaches guests' memory; every other module goes through it"
)]
mod dma;
mod fault;
mod function;
mod iommu;
mod irq;
mod mailbox;
mod pf;
mod plan;
mod run;
mod state;
mod vf;
mod violation;

pub use builder::{AutoStep, BuildError, CardBuilder};
pub use card::{Card, CardFaults, CardStats, Notifier};
pub use clock::VirtualClock;
pub use dma::{DmaFault, Mapping, Translate};
pub use fault::{Action, FaultPlan, Point, Rule};
pub use iommu::{Aperture, SimSpace};
pub use pf::{Pf, PfError, PfPersonality, Variant, VfInfo, VfLink};
pub use plan::PlanError;
pub use violation::{Violation, ViolationKind};
