//! Userspace driver for Intel SR-IOV virtual functions.
#![forbid(unsafe_code)]

mod capabilities;
mod config;
mod error;
mod event;
mod family;
mod link;
mod mac;
mod mailbox;
mod poller;
mod port;
mod queue;
mod registers;
mod spec;
mod stats;
mod wait;

#[cfg(test)]
mod fake;

pub use capabilities::{Availability, Capabilities};
pub use config::{Itr, MacChoice, PortConfig, QueueCount, RssConfig};
pub use error::{ConfigError, Error, MailboxError, Stage};
pub use event::Event;
pub use family::{ApiVersion, Promisc};
pub use link::Link;
pub use mac::{MacAddr, MacParseError};
pub use poller::{PollMode, Pollable, Poller, PollerStats, Turn, Waker, Woken};
pub use port::{MacOrigin, Port, PortState};
pub use queue::{QueueError, QueuePair, RxQueue, TxQueue};
pub use spec::{DeviceSpec, PciAddress, PciPattern, SimSpec, SpecError, VfSet};
pub use stats::PortStats;
pub use vfnic_backend as backend;
pub use vfnic_hw as hw;
pub use vfnic_ring as ring;
pub use vfnic_ring::{
    Batch, Checksums, Frame, FrameError, FrameMut, L4, Packet, PacketType, Pool, PoolConfig,
    PoolStats, RssHash, SendError, TxOffload, Verdict,
};
