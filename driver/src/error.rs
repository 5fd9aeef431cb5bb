//! What can go wrong in the driver. Every text says what was asked, what was seen and what to do.

use std::io;
use std::time::Duration;

use vfnic_hw::{DmaError, PciError};
use vfnic_ring::RingError;

use crate::spec::SpecError;
use crate::{MacAddr, QueueError};

/// A port could not be opened or operated.
#[expect(
    clippy::error_impl_error,
    reason = "the crate's one error; `vfnic::Error` is how it is meant to be written"
)]
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The backend: not bound, busy, no IOMMU, no memory, … Trying again helps only after something was changed.
    #[error(transparent)]
    Pci(#[from] PciError),
    /// A device spec that cannot be read, or names nothing.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// A configuration that the device cannot have.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A mailbox request that was refused, or not answered.
    #[error(transparent)]
    Mailbox(#[from] MailboxError),
    /// A queue that is over, or a frame that cannot be sent.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The rings or the buffer pool.
    #[error(transparent)]
    Ring(#[from] RingError),
    /// Not one of ours.
    #[error(
        "{device}: {vendor:04x}:{id:04x} is not a VF that vfnic drives; it drives 8086:10ca (82576), 8086:1520 (I350), 8086:10ed (82599), 8086:1515 (X540) and 8086:1565, 8086:15a8, 8086:15c5 (X550 family)"
    )]
    UnsupportedDevice {
        /// The address asked for.
        device: String,
        /// Vendor id seen.
        vendor: u16,
        /// Device id seen.
        id: u16,
    },
    /// A PF where a VF was wanted.
    #[error(
        "{device}: {vendor:04x}:{id:04x} is the physical function of a {model}, wanted one of its VFs; make some with `echo 2 > /sys/bus/pci/devices/{device}/sriov_numvfs` and open one of those"
    )]
    PhysicalFunction {
        /// The address asked for.
        device: String,
        /// Vendor id seen.
        vendor: u16,
        /// Device id seen.
        id: u16,
        /// The card's model.
        model: vfnic_hw::Model,
    },
    /// The PF holds the VF in reset: its interface is down, it has no driver, or it is being reset. Trying again helps
    /// once the PF is up.
    #[error(
        "{device}: the PF held the VF in reset for {waited:?}; bring the PF's interface up (`ip link set <pf> up`) and try again"
    )]
    PfNotReady {
        /// The device.
        device: String,
        /// How long was waited.
        waited: Duration,
    },
    /// A register did not come to the value it had to.
    #[error(
        "{device}: {register} did not come to {wanted} within {waited:?}, it reads {seen:#010x}; the hardware does not answer as documented, reset or replug it"
    )]
    Register {
        /// The device.
        device: String,
        /// The register's name.
        register: &'static str,
        /// What was waited for.
        wanted: &'static str,
        /// The last value read.
        seen: u32,
        /// How long was waited.
        waited: Duration,
    },
    /// The PF gives this only to a trusted VF.
    #[error(
        "{device}: {what} was asked for, the PF did not grant it: it takes a trusted VF (`ip link set <pf> vf <n> trust on`) and {also}"
    )]
    NeedsTrust {
        /// The device.
        device: String,
        /// What was asked for.
        what: String,
        /// What else it takes.
        also: &'static str,
    },
    /// The PF said no, and trust would not change that.
    #[error("{device}: the PF refused {what}; {hint}")]
    Refused {
        /// The device.
        device: String,
        /// What was asked for.
        what: String,
        /// What to do about it.
        hint: &'static str,
    },
    /// This model, or this PF, cannot do it.
    #[error("{device}: {what} is not available: {reason}")]
    NotAvailable {
        /// The device.
        device: String,
        /// What was asked for.
        what: &'static str,
        /// Why not.
        reason: String,
    },
    /// The port is recovering from a reset of the PF. What was asked for was not done; it can be asked for again after
    /// [`Event::Recovered`](crate::Event::Recovered).
    #[error(
        "{device}: {what} was asked for while the port recovers from a reset ({since:?} so far); ask again after the Recovered event"
    )]
    Recovering {
        /// The device.
        device: String,
        /// What was asked for.
        what: &'static str,
        /// For how long it has been recovering.
        since: Duration,
    },
    /// Not in this state.
    #[error("{device}: {what}")]
    State {
        /// The device.
        device: String,
        /// What was asked, what the state is, and what to do first.
        what: &'static str,
    },
    /// A simulated device cannot be opened by the driver alone.
    #[error(
        "`{spec}` names a simulated card: make one with vfnic-sim and pass its function to Port::from_function (the vfnic command does so by itself)"
    )]
    Simulated {
        /// The spec.
        spec: String,
    },
    /// The device went away. Nothing more can be done with this port but dropping it.
    #[error(
        "{device}: the device is gone: its registers read all ones (removed, or its PF dropped its VFs); drop the port and open it again when the device is back"
    )]
    Gone {
        /// The device.
        device: String,
    },
    /// A system call failed.
    #[error("{call} failed")]
    Sys {
        /// The call and what it was for.
        call: &'static str,
        /// What the kernel said.
        #[source]
        source: io::Error,
    },
}

impl From<DmaError> for Error {
    fn from(error: DmaError) -> Self {
        Self::Pci(PciError::Dma(error))
    }
}

/// A configuration that the device cannot have. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A ring of an impossible size.
    #[error(
        "{ring} ring of {asked} descriptors asked for: a ring has {min} to {max}, and a multiple of 8"
    )]
    RingSize {
        /// Which ring, "rx" or "tx".
        ring: &'static str,
        /// What was asked for.
        asked: u16,
        /// Smallest.
        min: u16,
        /// Largest.
        max: u16,
    },
    /// More queue pairs than there are, or none.
    #[error("{asked} queue pairs asked for: this VF can have 1 to {max} ({why})")]
    Queues {
        /// What was asked for.
        asked: u16,
        /// Most it can have.
        max: u16,
        /// What limits it.
        why: &'static str,
    },
    /// An impossible MTU.
    #[error(
        "MTU of {asked} bytes asked for: this VF can have {min} to {max} ({why}); the MTU counts neither Ethernet header nor CRC"
    )]
    Mtu {
        /// What was asked for, in bytes.
        asked: u16,
        /// Smallest, in bytes.
        min: u16,
        /// Largest, in bytes.
        max: u16,
        /// What limits it.
        why: &'static str,
    },
    /// A pool too small to fill the rings.
    #[error(
        "pool of {asked} buffers asked for: the receive rings alone take {need}; ask for at least {want} or make the rings smaller"
    )]
    Pool {
        /// What was asked for.
        asked: u32,
        /// Buffers the receive rings hold.
        need: u32,
        /// Least that makes sense.
        want: u32,
    },
    /// An address no VF can have as its own.
    #[error("{asked} asked for as the VF's own address: {why}; ask for a unicast address")]
    Mac {
        /// What was asked for.
        asked: MacAddr,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A group address was wanted.
    #[error("{asked} asked for as a multicast address: its first byte must be odd")]
    NotMulticast {
        /// What was asked for.
        asked: MacAddr,
    },
    /// An impossible VLAN.
    #[error("VLAN {asked} asked for: ids are 0 to 4094")]
    Vlan {
        /// What was asked for.
        asked: u16,
    },
    /// A spread of receive traffic that the queues cannot have.
    #[error(
        "receive spreading asked for with {what}; entries name queues below {queues}, and the table has {entries} of them"
    )]
    Rss {
        /// What is wrong.
        what: String,
        /// Queues there are.
        queues: u16,
        /// Entries the table has.
        entries: u16,
    },
    /// Nonsense in a number with a unit.
    #[error("{what} of {asked:?} asked for: it can be {min:?} to {max:?}")]
    Duration {
        /// Which setting.
        what: &'static str,
        /// What was asked for.
        asked: Duration,
        /// Shortest.
        min: Duration,
        /// Longest.
        max: Duration,
    },
}

/// A request to the PF that did not end well.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum MailboxError {
    /// No answer. The mailbox is taken for dead until the next reset handshake, which follows by itself.
    #[error(
        "the PF did not answer {request} within {waited:?} ({stage}); is its driver loaded and its interface up?"
    )]
    Timeout {
        /// The request's name.
        request: &'static str,
        /// How far it got.
        stage: Stage,
        /// How long was waited.
        waited: Duration,
    },
    /// The PF said no.
    #[error("the PF refused {request}; its log or `ip link show <pf>` may tell why")]
    Refused {
        /// The request's name.
        request: &'static str,
    },
    /// The PF was reset in the middle of it; the handshake is done anew by itself.
    #[error("the PF was reset while {request} was under way; the port recovers by itself")]
    PfReset {
        /// The request's name.
        request: &'static str,
    },
    /// The PF no longer knows this VF; the handshake is done anew by itself.
    #[error(
        "the PF answered {request} as if it had never seen this VF (it was restarted, or the VF's settings were changed); the port recovers by itself"
    )]
    Forgotten {
        /// The request's name.
        request: &'static str,
    },
}

/// How far a mailbox request got before its time was up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stage {
    /// The mailbox memory was never free: the PF holds it.
    Locked,
    /// The request was written but never taken.
    NotTaken,
    /// The request was taken but never answered.
    NotAnswered,
    /// An earlier request timed out; nothing is sent until the next handshake.
    Dead,
}

impl std::fmt::Display for Stage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Locked => "the PF never let go of the mailbox",
            Self::NotTaken => "it never took the request",
            Self::NotAnswered => "it took the request but sent no reply to it",
            Self::Dead => "an earlier request had timed out, so nothing was sent",
        })
    }
}
