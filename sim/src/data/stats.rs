//! What is counted: the hardware's registers with the hardware's widths, and every lost frame under a named reason.

use crate::counting::Count;

/// Why a frame, or one copy of it, went nowhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
#[non_exhaustive]
pub enum DropReason {
    /// RX: no descriptors, and the queue may drop.
    NoDescriptors,
    /// RX: the queue chosen is disabled, or its ring is unusable.
    QueueDisabled,
    /// RX: VFRE of the pool is 0.
    ReceiveDisabled,
    /// RX: longer than MAXFRS, the pool's limit or the queue's RLPML.
    Oversize,
    /// RX: an access was refused by the IOMMU.
    RxFault,
    /// Switch: no pool takes it and it came from the wire.
    Filtered,
    /// Switch: nowhere to go, the link being down or the wire refusing it.
    LinkDown,
    /// Uplink or host: the port takes no more.
    PortFull,
    /// TX: source address not the pool's.
    SpoofMac,
    /// TX: VLAN not the pool's.
    SpoofVlan,
    /// TX: control frame (PAUSE, LLDP) from a VF.
    ControlFrame,
    /// TX: descriptors that make no frame.
    Malformed,
    /// TX: an access was refused by the IOMMU.
    TxFault,
    /// TX: queue disabled or reset in the middle of a frame.
    Aborted,
    /// A planned fault took it.
    Injected,
}

impl DropReason {
    /// All of them.
    pub const ALL: [Self; 15] = [
        Self::NoDescriptors,
        Self::QueueDisabled,
        Self::ReceiveDisabled,
        Self::Oversize,
        Self::RxFault,
        Self::Filtered,
        Self::LinkDown,
        Self::PortFull,
        Self::SpoofMac,
        Self::SpoofVlan,
        Self::ControlFrame,
        Self::Malformed,
        Self::TxFault,
        Self::Aborted,
        Self::Injected,
    ];

    /// Its name in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoDescriptors => "no_descriptors",
            Self::QueueDisabled => "queue_disabled",
            Self::ReceiveDisabled => "receive_disabled",
            Self::Oversize => "oversize",
            Self::RxFault => "rx_dma_fault",
            Self::Filtered => "filtered",
            Self::LinkDown => "link_down",
            Self::PortFull => "port_full",
            Self::SpoofMac => "spoof_mac",
            Self::SpoofVlan => "spoof_vlan",
            Self::ControlFrame => "control_frame",
            Self::Malformed => "malformed",
            Self::TxFault => "tx_dma_fault",
            Self::Aborted => "aborted",
            Self::Injected => "injected",
        }
    }
}

/// Lost frames by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Drops([u64; DropReason::ALL.len()]);

impl Drops {
    /// Counts `frames` more.
    #[expect(clippy::indexing_slicing, reason = "there is one for each reason")]
    pub fn add(&mut self, reason: DropReason, frames: u64) {
        self.0[reason as usize].count(frames);
    }

    /// How many for this reason.
    #[must_use]
    #[expect(clippy::indexing_slicing, reason = "there is one for each reason")]
    pub const fn get(&self, reason: DropReason) -> u64 {
        self.0[reason as usize]
    }

    /// The reasons that occurred, with their counts.
    pub fn iter(&self) -> impl Iterator<Item = (DropReason, u64)> + '_ {
        DropReason::ALL
            .into_iter()
            .map(|reason| (reason, self.get(reason)))
            .filter(|&(_, count)| count != 0)
    }

    /// All reasons together.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.0
            .iter()
            .fold(0, |total, &frames| total.saturating_add(frames))
    }
}

/// One function's counters. The register values are these, cut to the register's width (ixgbevf.md §13, igbvf.md §11).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct VfStats {
    /// Good packets received, loopback and those missed for lack of descriptors included (32 bits).
    pub gprc: u64,
    /// Their octets, destination address to CRC (36 bits on ixgbevf, 32 on igbvf).
    pub gorc: u64,
    /// Multicast packets received, broadcast not included (32 bits).
    pub mprc: u64,
    /// Packets sent, by wire or loopback (32 bits).
    pub gptc: u64,
    /// Their octets, CRC included (36 bits on ixgbevf, 32 on igbvf).
    pub gotc: u64,
    /// Packets received by loopback (igbvf, 32 bits).
    pub gprlbc: u64,
    /// Their octets (igbvf, 32 bits).
    pub gorlbc: u64,
    /// Packets sent by loopback (igbvf, 32 bits).
    pub gptlbc: u64,
    /// Their octets (igbvf, 32 bits).
    pub gotlbc: u64,
    /// Copies that reached the driver's memory, none of them lost.
    pub delivered: u64,
    /// Frames taken from the driver's TX rings, TSO segments each for themselves.
    pub taken: u64,
    /// What was lost on the way in or out, by reason.
    pub drops: Drops,
}

/// The uplink's own counters.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct WireStats {
    /// Frames that came in by the wire.
    pub received: u64,
    /// Frames that left by it.
    pub sent: u64,
    /// Frames from the wire that reached no pool, by reason.
    pub drops: Drops,
}

impl VfStats {
    /// Low 32 bits, as every packet counter register shows them.
    #[must_use]
    #[expect(
        clippy::cast_possible_truncation,
        reason = "the register has 32 bits and wraps"
    )]
    pub const fn low(value: u64) -> u32 {
        value as u32
    }

    /// Bits 35:32, as the ixgbevf octet counters' high register shows them.
    #[must_use]
    pub const fn high(value: u64) -> u32 {
        ((value >> 32) & 0xf) as u32
    }

    /// Every hardware counter at zero again, as a reset of the port leaves them. What this simulator counts for itself goes
    /// on: a frame lost before a reset stays accounted for.
    pub(super) fn power_on(&mut self) {
        *self = Self {
            delivered: self.delivered,
            taken: self.taken,
            drops: self.drops,
            ..Self::default()
        };
    }

    /// Sets every hardware counter to just below its wrap: `before` packets or octets are left until then.
    pub fn preset_near_wrap(&mut self, before: u32) {
        let packets = (1u64 << 32).saturating_sub(u64::from(before));
        let octets = (1u64 << 36).saturating_sub(u64::from(before));
        for counter in [
            &mut self.gprc,
            &mut self.mprc,
            &mut self.gptc,
            &mut self.gprlbc,
            &mut self.gptlbc,
        ] {
            *counter = packets;
        }
        for counter in [
            &mut self.gorc,
            &mut self.gotc,
            &mut self.gorlbc,
            &mut self.gotlbc,
        ] {
            *counter = octets;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reports and dashboards go by them.
    #[test]
    fn every_reason_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<_> =
            DropReason::ALL.iter().map(|reason| reason.name()).collect();
        assert_eq!(names.len(), DropReason::ALL.len());
        let plain = |name: &&str| {
            name.bytes()
                .all(|byte| byte == b'_' || byte.is_ascii_lowercase())
        };
        assert!(names.iter().all(plain), "{names:?}");
    }
}
