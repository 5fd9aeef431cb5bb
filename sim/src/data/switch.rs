//! The embedded layer 2 switch: who gets a frame (ixgbevf.md §8, igbvf.md §12).
//!
//! A pure function of the frame's addresses and tag, where it came from, and the filters. Verdicts for plain frames are
//! cached until the filters change.

use vfnic_hw::{Family, Model};

use super::filters::{Accept, Filters, Mac, bit};
use super::parse::ethertype;
use super::stats::DropReason;
use crate::low_bits::LowBits;

/// What the switch looks at, after any VLAN insertion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Address {
    pub(crate) destination: Mac,
    pub(crate) source: Mac,
    /// TCI of the outer tag.
    pub(crate) tag: Option<u16>,
    pub(crate) ethertype: u16,
}

impl Address {
    /// Reads it from a frame's beginning. None when there are not even 14 bytes.
    pub(crate) fn of(frame: &[u8]) -> Option<Self> {
        let (&destination, rest) = frame.split_first_chunk()?;
        let (&source, rest) = rest.split_first_chunk()?;
        let mut words = rest
            .as_chunks::<2>()
            .0
            .iter()
            .map(|&word| u16::from_be_bytes(word));
        let first = words.next()?;
        let (tag, ethertype) = if first == ethertype::VLAN {
            match (words.next(), words.next()) {
                (Some(tag), Some(inner)) => (Some(tag), inner),
                _ => (None, first),
            }
        } else {
            (None, first)
        };
        Some(Self {
            destination,
            source,
            tag,
            ethertype,
        })
    }
}

/// Where a frame enters the switch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// A function of the card, the PF included.
    Pool(u8),
    /// The uplink.
    Wire,
}

/// Where it goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Verdict {
    /// Pools that get a copy.
    pub(crate) pools: u64,
    /// Pools that would, were their VFRE set.
    pub(crate) disabled: u64,
    /// It leaves by the uplink, too.
    pub(crate) wire: bool,
    /// It got in by a hash or promiscuity only.
    pub(crate) inexact: bool,
    /// It goes nowhere at all, and why.
    pub(crate) drop: Option<DropReason>,
}

impl Verdict {
    const fn dropped(reason: DropReason) -> Self {
        Self {
            pools: 0,
            disabled: 0,
            wire: false,
            inexact: false,
            drop: Some(reason),
        }
    }
}

/// The index of a multicast or unicast address in MTA or UTA.
fn hash(mac: Mac, shift: u8) -> u16 {
    (u16::from_le_bytes([mac[4], mac[5]]) >> shift) & 0xfff
}

fn in_table(table: &[u32; 128], hash: u16) -> bool {
    table.entry(hash >> 5) & (1 << (hash & 31)) != 0
}

const BROADCAST: Mac = [0xff; 6];

impl Filters {
    fn accepting(&self, what: Accept) -> u64 {
        let mut pools = 0;
        for (pool, policy) in (0..=self.pf_pool).zip(&self.pools) {
            if policy.accept.contains(what) {
                pools |= bit(pool);
            }
        }
        pools
    }

    /// Pools of all valid RARs of `mac`.
    fn rar_pools(&self, mac: Mac) -> u64 {
        self.rars
            .iter()
            .filter(|rar| rar.valid && rar.mac == mac)
            .fold(0, |pools, rar| pools | rar.pools)
    }

    /// Models whose pools can be unicast promiscuous.
    const fn has_promiscuous_pools(&self) -> bool {
        matches!(self.model, Model::X540 | Model::X550 | Model::I350)
    }

    /// Pools that take a frame by its destination alone, and whether none of them by an exact match.
    fn by_destination(&self, destination: Mac) -> (u64, bool) {
        if destination == BROADCAST {
            return (self.accepting(Accept::BAM), false);
        }
        let exact = self.rar_pools(destination);
        let mut pools = exact;
        if destination[0] & 1 != 0 {
            if in_table(&self.mta, hash(destination, self.hash_shift)) {
                pools |= self.accepting(Accept::ROMPE);
            }
            pools |= self.accepting(Accept::MPE);
            return (pools, exact == 0);
        }
        if exact == 0 && in_table(&self.uta, hash(destination, self.hash_shift)) {
            pools |= self.accepting(Accept::ROPE);
        }
        if self.has_promiscuous_pools() && (exact == 0 || self.model.family() == Family::Ixgbevf) {
            pools |= self.accepting(Accept::UPE);
        }
        (pools, exact == 0)
    }

    /// Of `pools`, those that take a frame with this tag.
    fn by_vlan(&self, pools: u64, tag: Option<u16>, from_wire: bool) -> u64 {
        let Some(vid) = tag.map(|tag| tag & 0xfff) else {
            return pools & self.accepting(Accept::AUPE);
        };
        let sees_all = match self.model {
            Model::I82576 => 0,
            _ => self.accepting(Accept::VPE),
        };
        if self.vlan_filter && !in_table(&self.vfta, vid) {
            return match self.model.family() {
                Family::Ixgbevf => pools & sees_all,
                Family::Igbvf => 0,
            };
        }
        let mut members = sees_all;
        match self.vlan_pools(vid) {
            Some(pools) => members |= pools,
            // A VLAN that passes VFTA but has no entry belongs to the default pool on the 82576.
            None if self.model == Model::I82576 && from_wire => {
                members |= self.default_pool.map_or(0, bit);
            }
            None => {}
        }
        if vid == 0 {
            members |= self.accepting(Accept::AUPE);
        }
        pools & members
    }

    /// Whether the global VLAN filter alone ends a frame: then not even the default pool gets it.
    fn vlan_is_filtered(&self, tag: Option<u16>) -> bool {
        tag.is_some_and(|tag| self.vlan_filter && !in_table(&self.vfta, tag & 0xfff))
    }

    /// Decides on a frame.
    pub(crate) fn classify(&self, origin: Origin, address: &Address) -> Verdict {
        let (own, from_wire) = match origin {
            Origin::Pool(pool) => {
                if let Some(reason) = self.spoofed(pool, address) {
                    return Verdict::dropped(reason);
                }
                (bit(pool) & !self.hairpin, false)
            }
            Origin::Wire => (0, true),
        };
        let multicast = address.destination[0] & 1 != 0;
        if !from_wire && !self.loopback {
            return self.to_wire(Verdict::default());
        }
        let (mut pools, mut inexact) = self.by_destination(address.destination);
        if self.model.family() == Family::Ixgbevf && pools == 0 && from_wire {
            let accepted = if multicast {
                self.pf_multicast
            } else {
                self.pf_unicast
            };
            if accepted && let Some(pool) = self.default_pool {
                pools = bit(pool);
                inexact = true;
            }
        }
        pools = self.by_vlan(pools, address.tag, from_wire) & !own;
        if self.model.family() == Family::Igbvf
            && pools == 0
            && from_wire
            && !self.vlan_is_filtered(address.tag)
            && let Some(pool) = self.default_pool
        {
            pools = bit(pool);
            inexact = true;
        }
        if from_wire && self.source_pruning != 0 {
            pools &= !(self.rar_pools(address.source) & self.source_pruning);
        }
        if !self.replication && pools.count_ones() > 1 {
            let pf = bit(self.pf_pool);
            pools = if pools & pf != 0 {
                pf
            } else {
                pools & pools.wrapping_neg()
            };
        }
        let verdict = Verdict {
            pools: pools & self.rx_enabled,
            disabled: pools & !self.rx_enabled,
            wire: false,
            inexact,
            drop: None,
        };
        if !from_wire && (multicast || pools == 0) {
            return self.to_wire(verdict);
        }
        if pools == 0 {
            return Verdict::dropped(DropReason::Filtered);
        }
        verdict
    }

    fn to_wire(&self, mut verdict: Verdict) -> Verdict {
        if self.link.up {
            verdict.wire = true;
        } else if verdict.pools == 0 && verdict.disabled == 0 {
            return Verdict::dropped(DropReason::LinkDown);
        }
        verdict
    }

    /// Why a function may not send this, if so.
    fn spoofed(&self, pool: u8, address: &Address) -> Option<DropReason> {
        if pool == self.pf_pool {
            return None;
        }
        let control = matches!(address.ethertype, ethertype::PAUSE | ethertype::LLDP);
        if control && (!self.control_frames || self.spoof_ethertype & bit(pool) != 0) {
            return Some(DropReason::ControlFrame);
        }
        if self.spoof_mac & bit(pool) != 0 && self.rar_pools(address.source) & bit(pool) == 0 {
            return Some(DropReason::SpoofMac);
        }
        if self.spoof_vlan & bit(pool) != 0 {
            // An untagged frame counts as VLAN 0 on ixgbe, and is nobody's business on igb.
            let vid = match (address.tag, self.model.family()) {
                (Some(tag), _) => Some(tag & 0xfff),
                (None, Family::Ixgbevf) => Some(0),
                (None, Family::Igbvf) => None,
            };
            if vid.is_some_and(|vid| !self.has_vlan(vid, pool)) {
                return Some(DropReason::SpoofVlan);
            }
        }
        None
    }
}

/// Verdicts of plain frames: untagged, and no control frame.
#[derive(Debug)]
pub(crate) struct Cache {
    entries: Box<[Entry; CACHED]>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    generation: u64,
    /// The two addresses as a frame holds them: bytes 0..8 and 8..12.
    addresses: (u64, u32),
    origin: u8,
    verdict: Verdict,
}

const CACHED: usize = 256;

/// The address bytes of a frame, as the cache keys them.
#[inline]
pub(crate) fn key(start: &[u8; 16]) -> (u64, u32) {
    let [a, b, c, d, e, f, g, h, i, j, k, l, ..] = *start;
    (
        u64::from_le_bytes([a, b, c, d, e, f, g, h]),
        u32::from_le_bytes([i, j, k, l]),
    )
}

/// Whether a frame is plain, by its ethertype as memory holds it.
#[inline]
pub(crate) const fn is_plain(start: &[u8; 16]) -> bool {
    !matches!(
        u16::from_be_bytes([start[12], start[13]]),
        ethertype::VLAN | ethertype::PAUSE | ethertype::LLDP
    )
}

impl Cache {
    pub(crate) fn new() -> Self {
        Self {
            entries: Box::new([Entry::default(); CACHED]),
        }
    }

    /// The verdict on a plain frame from `origin`, from the cache if it still holds.
    #[inline]
    pub(crate) fn verdict(
        &mut self,
        filters: &Filters,
        origin: Origin,
        start: &[u8; 16],
    ) -> Verdict {
        let addresses = key(start);
        let number = match origin {
            Origin::Pool(pool) => pool,
            Origin::Wire => u8::MAX,
        };
        let mixed = (addresses.0 ^ u64::from(addresses.1) << 17 ^ u64::from(number) << 56)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let entry = self.entries.entry_mut((mixed >> 56) as usize);
        if entry.generation != filters.generation
            || entry.addresses != addresses
            || entry.origin != number
        {
            *entry = Entry {
                generation: filters.generation,
                addresses,
                origin: number,
                verdict: Address::of(start).map_or_else(
                    || Verdict::dropped(DropReason::Malformed),
                    |address| filters.classify(origin, &address),
                ),
            };
        }
        entry.verdict
    }
}

#[cfg(test)]
#[path = "switch_tests.rs"]
mod tests;
