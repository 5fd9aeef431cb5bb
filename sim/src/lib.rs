//! A simulator of SR-IOV cards: VFs, the PF's side, switch, IOMMU, wires and faults.
//!
//! A [`Card`] is of one [`Model`](vfnic_hw::Model) and has a number of VFs. [`Card::function`] opens one of them as a
//! [`PciFunction`](vfnic_hw::PciFunction), the same contract that VFIO backends implement, so a driver cannot tell the
//! difference; [`Card::pf`] is the administrator's side; [`Card::faults`] makes things go wrong. Behind the functions
//! are the register files of both families, the mailbox and a PF that answers it as Linux's (or DPDK's) does, the
//! interrupt logic, and the [data path](data) that moves frames between rings, switch and [wire](uplink).
//!
//! What it knows of the hardware is written here from the reference, with literal bit numbers, and from nobody's
//! driver; only names, addresses and message numbers are shared (`vfnic_hw::regs`, `vfnic_hw::mailbox`). It is a
//! critic: whatever the hardware's rules forbid is recorded as a [`Violation`], and a test ends with
//! [`Card::assert_no_violations`].
//!
//! # Running
//!
//! * *Stepped* (the default): time is a [`VirtualClock`]. Registers, mailbox and knobs act at once; frames move in
//!   [`Card::step`], when the clock moves ([`Card::run_for`], or anybody who sleeps on it), or, with
//!   [`AutoStep::OnDoorbell`], inside every doorbell. The same seed and the same calls give the same run.
//! * *Threaded* ([`CardBuilder::threaded`]): real time, and a thread that spins while there is traffic and sleeps when
//!   there is none.
//!
//! ```
//! use vfnic_hw::Model;
//! use vfnic_sim::Card;
//!
//! let card = Card::builder(Model::X540).vfs(2).build()?;
//! card.pf().set_vf_mac(0, [0x02, 0, 0, 0, 0, 1])?;
//! let function = card.function(0)?;
//! let bar = function.bar(0)?;
//! // VFMAILBOX is at 0x2fc, its memory at 0x200: take the memory, say RESET, ring.
//! bar.write32(0x2fc, 0x4);
//! bar.write32(0x200, 0x1);
//! bar.write32(0x2fc, 0x1);
//! assert_eq!(bar.read32(0x2fc), 0x30, "acknowledged and answered");
//! assert_eq!(bar.read32(0x200), 0x8000_0001, "with the address that the administrator gave");
//! card.assert_no_violations();
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! # Inside
//!
//! One lock guards the card's state. Outside it are only the tail words, which a doorbell stores to without a lock, and
//! what wakes the card's thread. The data path's thread takes the lock for one bounded burst at a time and lets register
//! accesses go first; ending a DMA mapping takes it once, so that no DMA to the mapping is running afterwards.
//!
//! Invariant: nothing a driver, a guest or a wire can do panics or holds the card up for long.
#![deny(unsafe_code)]
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing,
        clippy::arithmetic_side_effects
    )
)]

pub mod data;
pub mod serve;
pub mod uplink;

mod bar;
mod builder;
mod card;
mod clock;
mod config;
mod counting;
#[expect(
    unsafe_code,
    reason = "the one place that reaches guests' memory; every other module goes through it"
)]
mod dma;
mod fault;
mod function;
mod iommu;
mod irq;
mod low_bits;
mod mailbox;
mod per_vf;
mod pf;
mod plan;
mod run;
mod shared;
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

/// The README's example runs.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
