//! How `vfnic` reaches real PCI functions: the kernel's VFIO, by group and container or by the function's own node and
//! iommufd.
//!
//! [`open`] takes an address such as `0000:31:10.1` and returns a [`PciFunction`] in an IOVA space of its own;
//! [`VfioSpace`] and [`open_in`] put several functions into one. [`open_handed`] is for a process that is given its nodes
//! open and may open none itself. [`sysfs`] reads what the system says about functions and groups without opening any.
//!
//! # Of the libraries for this
//!
//! Numbers and structures come from `vfio-bindings` and `iommufd-bindings`; the calls are made here, in one module. The
//! layer above them, `vfio-ioctls` 0.10 (and `iommufd-ioctls` 0.4), does not serve:
//! * it ends the life of a container's mappings with the last *device*, here memory may outlive the device that used it;
//! * its `Drop` panics when the device has gone from sysfs or the kernel refuses, which is when a VF is taken away;
//! * its mapping call forbids any Rust reference to the memory, `&[AtomicU8]` included, which is what
//!   [`DmaRegion`](vfnic_hw::DmaRegion) is made of; iommufd-ioctls' one takes any address from safe code;
//! * it has no errno for a refused group, interrupt or reset, and none at all for register and config access;
//! * its cdev support needs the KVM crates, its paths are fixed.
//!
//! # When a device goes away
//!
//! Register reads of a function that has been removed give all-ones, from the bus or from here. One case is different:
//! where the kernel itself takes a *mapping* back (a function with memory decoding off, or in a low-power state), the
//! access raises SIGBUS. Linux exempts VFs from the first and this crate asks for neither. A library must not install a
//! handler for a signal behind its program's back, so there is none; a program that wants to be safe from it even so
//! opens with [`Registers::ByCall`], where each register access is a system call that can fail. When
//! [`request_event`](PciFunction::request_event) or [`error_event`](PciFunction::error_event) fires, stop touching the
//! function and drop it.
//!
//! # fork and exec
//!
//! Every descriptor is closed on `exec`. After `fork` only the parent may use what was opened: in the child the
//! registers and the DMA memory are not mapped, and values dropped there leave the parent's devices alone.
//!
//! # Invariants
//!
//! * Memory is freed after the kernel has confirmed that its mapping ended, or never ([`VfioSpace::leaked_bytes`]).
//! * Only `sys`, `memory` and `window` contain `unsafe`.
//! * Every value from the kernel, a file or a socket is checked before it is used as a length or an offset.
#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]
#![cfg_attr(
    test,
    expect(clippy::unwrap_used, reason = "a test that panics has failed")
)]

use std::path::PathBuf;
use std::sync::Arc;

use vfnic_hw::{PciError, PciFunction};

pub mod sysfs;
pub mod vfio_user;

mod address;
mod caps;
mod check;
mod config;
mod function;
mod handed;
mod holders;
mod iommu;
mod iova;
mod memlock;
mod memory;
mod space;
mod sys;
#[cfg(test)]
mod testing;
mod token;
mod window;

pub use address::PciAddress;
pub use handed::{Handed, open_handed, open_handed_in};
pub use holders::{Holder, holders};
pub use space::VfioSpace;
pub use sysfs::Sysfs;
pub use token::VfToken;

/// Which of VFIO's two interfaces to use.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Interface {
    /// The function's own node and iommufd where both are there, else the group's node and a container.
    #[default]
    Auto,
    /// `/dev/vfio/GROUP` and `/dev/vfio/vfio`.
    Group,
    /// `/dev/vfio/devices/vfioN` and `/dev/iommu`.
    Cdev,
}

/// How registers are reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Registers {
    /// Mapped, where the kernel lets them be.
    #[default]
    Mapped,
    /// By a system call each: slow, and never a SIGBUS.
    ByCall,
}

/// How to open functions. The roots are those of the system unless somebody says otherwise; tests do.
#[derive(Clone, Debug)]
pub struct OpenOptions {
    /// Where sysfs is.
    pub sysfs: PathBuf,
    /// Where the device nodes are.
    pub dev: PathBuf,
    /// Where the processes are.
    pub proc: PathBuf,
    /// Which interface to use.
    pub interface: Interface,
    /// How registers are reached.
    pub registers: Registers,
    /// The PF's token, needed when a VFIO user has the PF, and sent to the kernel only then.
    pub vf_token: Option<VfToken>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self {
            sysfs: "/sys".into(),
            dev: "/dev".into(),
            proc: "/proc".into(),
            interface: Interface::default(),
            registers: Registers::default(),
            vf_token: None,
        }
    }
}

/// Opens a function in an IOVA space of its own. That resets it; bus mastering is off.
///
/// Takes as long as the reset, 100 ms and more.
///
/// # Errors
///
/// One [`PciError`] for each thing that can stand in the way, found before anything is opened where sysfs tells:
/// [`Address`](PciError::Address), [`NotFound`](PciError::NotFound), [`NoIommu`](PciError::NoIommu),
/// [`NotBound`](PciError::NotBound), [`GroupNotViable`](PciError::GroupNotViable), [`NoNode`](PciError::NoNode),
/// [`Permission`](PciError::Permission), [`Busy`](PciError::Busy), and [`Sys`](PciError::Sys) for what no other covers.
/// Nothing stays open.
pub fn open(address: &str, options: &OpenOptions) -> Result<Arc<dyn PciFunction>, PciError> {
    open_in(address, &VfioSpace::new(options))
}

/// Opens a function in a space that other functions share, with the options of the space.
///
/// # Errors
///
/// As for [`open`]; and the kernel refuses a function whose IOMMU cannot have what is mapped in the space already.
pub fn open_in(address: &str, space: &VfioSpace) -> Result<Arc<dyn PciFunction>, PciError> {
    Ok(Arc::new(function::VfioFunction::open(
        address.parse()?,
        space,
        None,
    )?))
}
