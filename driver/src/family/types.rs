//! What families and the rest of the driver tell each other.

use vfnic_hw::Iova;
use vfnic_hw::regs::Reg;

use crate::MacAddr;

/// What the PF answered to the reset handshake.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Handshake {
    /// The address the administrator gave, if any.
    pub(crate) assigned: Option<MacAddr>,
    /// Which address bits the multicast hash is made of, 0 to 3 (ixgbevf.md §6.7).
    pub(crate) filter_type: u8,
}

/// What the PF lets this VF have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Grant {
    /// Mailbox API agreed on; igbvf has but one.
    pub(crate) api: Option<ApiVersion>,
    /// Queue pairs it may use.
    pub(crate) pairs: u16,
    /// What limits the pairs.
    pub(crate) pairs_why: &'static str,
    /// The administrator set a port VLAN (or traffic classes): tags are the PF's business.
    pub(crate) port_vlan: bool,
}

/// A version of the ixgbevf mailbox API (ixgbevf.md §6.6).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ApiVersion {
    /// 1.0: what every PF understands.
    V1_0,
    /// 1.1: queue counts, jumbo frames.
    V1_1,
    /// 1.2: promiscuity up to all multicast, administrative link state.
    V1_2,
    /// 1.3: unicast promiscuity.
    V1_3,
}

impl std::fmt::Display for ApiVersion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::V1_0 => "1.0",
            Self::V1_1 => "1.1",
            Self::V1_2 => "1.2",
            Self::V1_3 => "1.3",
        })
    }
}

/// What a model can have, whatever the PF says.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// Largest MTU, in bytes.
    pub(crate) max_mtu: u16,
    /// What limits it.
    pub(crate) mtu_why: &'static str,
    /// Bytes that a message about frame sizes adds to the MTU.
    pub(crate) lpe_overhead: u16,
    /// Entries of the redirection table the VF owns; 0 when it owns none.
    pub(crate) reta_entries: u16,
}

impl Limits {
    /// The longest frame of an MTU, as it is told to the PF.
    pub(crate) fn lpe(&self, mtu: u16) -> u32 {
        u32::from(mtu).saturating_add(u32::from(self.lpe_overhead))
    }
}

/// Smallest MTU of both families, in bytes (ixgbevf.md §9.7, igbvf.md §8.4).
pub(crate) const MIN_MTU: u16 = 68;

/// Descriptors in a ring (ixgbevf.md §9.1, igbvf.md §8.5).
pub(crate) const RING_SIZES: std::ops::RangeInclusive<u16> = 64..=4096;

/// A receive queue to bring up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RxSetup {
    pub(crate) ring: Iova,
    /// Descriptors.
    pub(crate) size: u16,
    /// Bytes a buffer takes, a multiple of 1024.
    pub(crate) buffer_size: u32,
    pub(crate) strip_vlan: bool,
    pub(crate) mtu: u16,
}

/// A transmit queue to bring up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct TxSetup {
    pub(crate) ring: Iova,
    /// Descriptors.
    pub(crate) size: u16,
}

/// Which message vector each cause goes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct VectorPlan {
    /// Vectors in use, 0 for none.
    pub(crate) count: u8,
    /// The mailbox's.
    pub(crate) mailbox: u8,
    pub(super) rx: [u8; 2],
    pub(super) tx: [u8; 2],
}

impl VectorPlan {
    /// No interrupts at all.
    pub(crate) const NONE: Self = Self {
        count: 0,
        mailbox: 0,
        rx: [0; 2],
        tx: [0; 2],
    };

    /// Vector of receive queue `queue`. Queues beyond the second share: only vectors 0 and 1 can be a queue's
    /// (ixgbevf.md §4.4).
    pub(crate) const fn rx(&self, queue: u16) -> u8 {
        self.rx[(queue % 2) as usize]
    }

    /// Vector of transmit queue `queue`.
    pub(crate) const fn tx(&self, queue: u16) -> u8 {
        self.tx[(queue % 2) as usize]
    }

    /// Mask of all vectors in use.
    pub(crate) const fn mask(&self) -> u32 {
        !(u32::MAX << self.count)
    }
}

/// How promiscuous a VF is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Promisc {
    /// Its own addresses, its multicast list and broadcasts.
    #[default]
    Off,
    /// All multicast frames as well.
    AllMulticast,
    /// All frames of its VLANs that pass the card's switch.
    All,
}

/// The registers of interrupt masking, the same in both families but for their addresses.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InterruptRegs {
    /// Writing a bit unmasks the vector.
    pub(crate) set: Reg,
    /// Writing a bit masks the vector.
    pub(crate) clear: Reg,
    /// Writing a bit clears the vector's pending cause.
    pub(crate) cause: Reg,
}

/// Multicast addresses that fit in one message (ixgbevf.md §6.7, igbvf.md §6.1).
pub(crate) const MOST_MULTICAST: usize = 30;

/// Towards the VF, or away from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Rx,
    Tx,
}
