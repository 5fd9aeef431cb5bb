//! What can go wrong below the driver. Every text says what was asked, what was seen and what to do.

use std::io;

/// A PCI function could not be opened or operated.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PciError {
    /// Not the address of a PCI function.
    #[error("`{text}` is no PCI address; one looks like 0000:31:10.1 (domain:bus:device.function)")]
    Address {
        /// What was given.
        text: String,
    },
    /// No such function.
    #[error(
        "{device}: no such PCI function ({path} is absent); a PF's VFs are its virtfn* links in sysfs, made by writing their number to sriov_numvfs"
    )]
    NotFound {
        /// The address asked for.
        device: String,
        /// Where it was looked for.
        path: String,
    },
    /// Bound to another driver, or to none.
    #[error(
        "{device}: bound to {driver}, wanted vfio-pci; in /sys/bus/pci/devices/{device} write vfio-pci to driver_override and the address to driver/unbind (if there is one), then the address to /sys/bus/pci/drivers_probe"
    )]
    NotBound {
        /// The address asked for.
        device: String,
        /// The driver that holds it, or "no driver".
        driver: String,
    },
    /// Without an IOMMU group VFIO cannot open it.
    #[error(
        "{device}: has no IOMMU group; turn the IOMMU on in the firmware and with intel_iommu=on (AMD: on by default) on the kernel command line"
    )]
    NoIommu {
        /// The address asked for.
        device: String,
    },
    /// Somebody else has the group or device open.
    #[error("{device}: {path} is held by {}; stop it first", holder.as_deref().unwrap_or("another process"))]
    Busy {
        /// The address asked for.
        device: String,
        /// The node that could not be opened.
        path: String,
        /// Who holds it, when that can be seen.
        holder: Option<String>,
    },
    /// A group member is bound to a driver that VFIO cannot trust.
    #[error(
        "{device}: IOMMU group {group} is not viable: {members}; bind every member to vfio-pci or leave it without a driver"
    )]
    GroupNotViable {
        /// The address asked for.
        device: String,
        /// The group's number.
        group: u32,
        /// The members with their drivers, as `0000:31:10.3 (ixgbevf), …`.
        members: String,
    },
    /// The function is bound to vfio-pci but its node is not there.
    #[error(
        "{device}: {path} is absent; load the module that makes it (vfio, vfio_iommu_type1) or, in a container, pass it in"
    )]
    NoNode {
        /// The address asked for.
        device: String,
        /// The node.
        path: String,
    },
    /// The node cannot be opened by this user.
    #[error(
        "{device}: no permission to open {path} ({owner}); give this user access to it (udev rule or chown)"
    )]
    Permission {
        /// The address asked for.
        device: String,
        /// The node.
        path: String,
        /// Whose it is and who asked, as `owner 0:0, mode 600, this user 1000`.
        owner: String,
    },
    /// A system call failed in a way none of the above covers.
    #[error("{device}: {call} failed")]
    Sys {
        /// The address asked for.
        device: String,
        /// The call, with the arguments that matter.
        call: String,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// No such BAR, or smaller than the device needs.
    #[error(
        "{device}: BAR {bar} has {have} bytes, wanted {want}; is this a VF of a supported model?"
    )]
    Bar {
        /// The address asked for.
        device: String,
        /// The BAR's number.
        bar: u8,
        /// Bytes wanted.
        want: u64,
        /// Bytes present.
        have: u64,
    },
    /// More interrupt vectors asked for than the function has.
    #[error("{device}: {want} MSI-X vectors asked for, the function has {have}")]
    Vectors {
        /// The address asked for.
        device: String,
        /// Vectors wanted.
        want: u32,
        /// Vectors present.
        have: u32,
    },
    /// Memory could not be mapped.
    #[error(transparent)]
    Dma(#[from] DmaError),
    /// The backend cannot do this at all.
    #[error("{device}: {what} is not possible through this backend")]
    Unsupported {
        /// The address asked for.
        device: String,
        /// What was asked.
        what: String,
    },
    /// The device went away.
    #[error(
        "{device}: the device is gone (removed, or its PF was reset away); reopen it when it is back"
    )]
    Gone {
        /// The address asked for.
        device: String,
    },
    /// The other side of a vfio-user socket broke the protocol or closed.
    #[error("{device}: {what}; is the server still running?")]
    Protocol {
        /// The device's spec, which begins with `vfio-user:`.
        device: String,
        /// What was wrong.
        what: String,
    },
}

/// Memory could not be mapped for a device.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DmaError {
    /// RLIMIT_MEMLOCK is too low.
    #[error(
        "mapping {need} bytes for DMA: {locked} bytes are locked already and RLIMIT_MEMLOCK allows {allowed}; raise it (ulimit -l, LimitMEMLOCK=, or the pod's limits) or use a smaller pool"
    )]
    Memlock {
        /// Bytes asked for.
        need: u64,
        /// Bytes this process has locked already.
        locked: u64,
        /// The limit.
        allowed: u64,
    },
    /// No reported IOVA range has room.
    #[error(
        "mapping {need} bytes for DMA: no usable IOVA range has room; the IOMMU reports {ranges}"
    )]
    NoIova {
        /// Bytes asked for.
        need: u64,
        /// The ranges, as text.
        ranges: String,
    },
    /// Memory was not to be had.
    #[error("allocating {need} bytes for DMA failed")]
    Allocate {
        /// Bytes asked for.
        need: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
    /// The IOMMU refused the mapping.
    #[error("mapping {need} bytes at IOVA {iova:#x} for DMA was refused")]
    Map {
        /// Bytes asked for.
        need: u64,
        /// Where.
        iova: u64,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}
