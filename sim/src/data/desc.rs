//! Descriptor layouts, from the bit numbers of ixgbevf.md §9-10 and igbvf.md §8-9.
//!
//! A descriptor is two 64-bit words. TX layouts are the same for both families; in RX write-backs the error bits differ.

use vfnic_hw::Family;

/// A descriptor as memory holds it.
pub(crate) type Words = [u64; 2];

/// A TX descriptor, decoded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TxDescriptor {
    Data(TxData),
    Context(u8, TxContext),
    /// DEXT set and a type that is neither.
    Unknown,
}

/// One piece of a frame, from an advanced data descriptor or a legacy one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TxData {
    pub(crate) address: u64,
    pub(crate) len: u32,
    pub(crate) eop: bool,
    pub(crate) ifcs: bool,
    pub(crate) rs: bool,
    /// Insert a VLAN tag.
    pub(crate) vle: bool,
    /// Segment.
    pub(crate) tse: bool,
    /// Check context.
    pub(crate) cc: bool,
    pub(crate) slot: u8,
    /// Insert the IPv4 header checksum.
    pub(crate) ixsm: bool,
    /// Insert the L4 checksum.
    pub(crate) txsm: bool,
    pub(crate) paylen: u32,
    pub(crate) legacy: Option<TxLegacy>,
}

/// What only a legacy descriptor says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TxLegacy {
    /// Insert a checksum of the bytes from `start` on, at `offset`.
    pub(crate) checksum: bool,
    pub(crate) start: u8,
    pub(crate) offset: u8,
    pub(crate) vlan: u16,
}

/// L4 type of a context.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum L4Type {
    #[default]
    Udp,
    Tcp,
    Sctp,
    None,
}

/// A context slot's content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct TxContext {
    pub(crate) mac_len: u32,
    pub(crate) ip_len: u32,
    pub(crate) l4_len: u32,
    pub(crate) mss: u32,
    pub(crate) vlan: u16,
    pub(crate) ipv4: bool,
    pub(crate) l4: L4Type,
}

const fn bit(word: u64, number: u32) -> bool {
    word & (1 << number) != 0
}

/// Bits `low..low + width` of a word; `width` is at most 32.
#[expect(
    clippy::cast_possible_truncation,
    reason = "masked to at most 32 bits just before"
)]
const fn field(word: u64, low: u32, width: u32) -> u32 {
    ((word >> low) & !(u64::MAX << width)) as u32
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the callers ask for at most 16 bits"
)]
const fn field16(word: u64, low: u32, width: u32) -> u16 {
    field(word, low, width) as u16
}

#[expect(
    clippy::cast_possible_truncation,
    reason = "the callers ask for at most 8 bits"
)]
const fn field8(word: u64, low: u32, width: u32) -> u8 {
    field(word, low, width) as u8
}

impl TxDescriptor {
    /// Decodes the 16 bytes the driver wrote.
    pub(crate) const fn decode(words: Words) -> Self {
        let [address, word] = words;
        // Bit 29 of dword 2 is DEXT; dword 2 is the low half of the second word, dword 3 the high half.
        if !bit(word, 29) {
            return Self::Data(TxData {
                address,
                len: field(word, 0, 16),
                eop: bit(word, 24),
                ifcs: bit(word, 25),
                rs: bit(word, 27),
                vle: bit(word, 30),
                tse: false,
                cc: false,
                slot: 0,
                ixsm: false,
                txsm: false,
                paylen: 0,
                legacy: Some(TxLegacy {
                    checksum: bit(word, 26),
                    offset: field8(word, 16, 8),
                    start: field8(word, 40, 8),
                    vlan: field16(word, 48, 16),
                }),
            });
        }
        match field(word, 20, 4) {
            3 => Self::Data(TxData {
                address,
                len: field(word, 0, 16),
                eop: bit(word, 24),
                ifcs: bit(word, 25),
                rs: bit(word, 27),
                vle: bit(word, 30),
                tse: bit(word, 31),
                slot: field8(word, 36, 1),
                cc: bit(word, 39),
                ixsm: bit(word, 40),
                txsm: bit(word, 41),
                paylen: field(word, 46, 18),
                legacy: None,
            }),
            2 => Self::Context(
                field8(word, 36, 1),
                TxContext {
                    ip_len: field(address, 0, 9),
                    mac_len: field(address, 9, 7),
                    vlan: field16(address, 16, 16),
                    ipv4: bit(word, 10),
                    l4: match field(word, 11, 2) {
                        0 => L4Type::Udp,
                        1 => L4Type::Tcp,
                        2 => L4Type::Sctp,
                        _ => L4Type::None,
                    },
                    l4_len: field(word, 40, 8),
                    mss: field(word, 48, 16),
                },
            ),
            _ => Self::Unknown,
        }
    }
}

/// Bits of a data descriptor's second word that must be exactly [`PLAIN`] for the short way: type, DEXT, EOP and IFCS
/// set; LinkSec, timestamp, VLE, TSE and all POPTS clear.
pub(crate) const PLAIN_MASK: u64 =
    0x7 << 40 | 1 << 31 | 1 << 30 | 1 << 29 | 1 << 25 | 1 << 24 | 0xf << 20 | 0x3 << 18;
/// See [`PLAIN_MASK`].
pub(crate) const PLAIN: u64 = 1 << 29 | 1 << 25 | 1 << 24 | 3 << 20;
/// RS.
pub(crate) const RS: u64 = 1 << 27;
/// CC, in the second word.
pub(crate) const CC: u64 = 1 << 39;

/// A data descriptor's DTALEN, from its second word.
#[inline]
pub(crate) const fn data_len(word: u64) -> u32 {
    field(word, 0, 16)
}

/// A data descriptor's PAYLEN, from its second word.
#[inline]
pub(crate) const fn payload_len(word: u64) -> u32 {
    field(word, 46, 18)
}

/// IDX, of which one bit counts, in the second word.
pub(crate) const SLOT: u64 = 1 << 36;

/// The write-back of a TX descriptor: DD in dword 3, everything else undefined, which is `rubbish` here.
#[inline]
pub(crate) const fn tx_write_back(rubbish: Words) -> Words {
    [rubbish[0], rubbish[1] & !(0xf << 32) | 1 << 32]
}

/// What a checksum check found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Check {
    /// Not done: no such header, a fragment, or nothing to check against.
    #[default]
    Not,
    Good,
    Bad,
}

/// The parts of an RX write-back that describe the frame; valid in the descriptor with EOP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RxMeta {
    /// Bits 16:4 of dword 0, in place.
    pub(crate) packet_type: u32,
    pub(crate) rss_type: u32,
    pub(crate) rss_hash: u32,
    pub(crate) ip: Check,
    pub(crate) l4: Check,
    /// L4 is UDP with a checksum.
    pub(crate) udp: bool,
    /// The frame had a tag; the tag as dword 3 shows it.
    pub(crate) tagged: bool,
    pub(crate) vlan: u16,
    pub(crate) inexact: bool,
    pub(crate) loopback: bool,
    /// A MAC error: how the card gives up a frame it had begun to write.
    pub(crate) error: bool,
}

/// Header-split part of an RX write-back; valid in a frame's first descriptor.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct RxSplit {
    pub(crate) split: bool,
    pub(crate) overflow: bool,
    pub(crate) header_len: u32,
}

const DD: u64 = 1;
const EOP: u64 = 1 << 1;

/// Second dword pair of an advanced RX write-back (status and errors, length, VLAN) with EOP set.
#[inline]
pub(crate) fn rx_status(family: Family, meta: &RxMeta, len: u32) -> u64 {
    let (rxe, l4e, ipe) = match family {
        Family::Ixgbevf => (29, 30, 31),
        Family::Igbvf => (31, 29, 30),
    };
    let mut status = DD | EOP;
    status |= u64::from(meta.tagged) << 3;
    status |= u64::from(meta.udp) << 4;
    status |= u64::from(meta.l4 != Check::Not) << 5;
    status |= u64::from(meta.ip != Check::Not) << 6;
    status |= u64::from(meta.inexact) << 7;
    status |= u64::from(meta.loopback) << 18;
    status |= u64::from(meta.l4 == Check::Bad) << l4e;
    status |= u64::from(meta.ip == Check::Bad) << ipe;
    status |= u64::from(meta.error) << rxe;
    status | u64::from(len & 0xffff) << 32 | u64::from(meta.vlan) << 48
}

/// First two dwords of an advanced RX write-back: types, header length, RSS hash.
#[inline]
pub(crate) fn rx_types(meta: &RxMeta, split: RxSplit) -> u64 {
    u64::from(meta.rss_type & 0xf)
        | u64::from(meta.packet_type & 0x1_fff0)
        | u64::from(split.header_len & 0x3ff) << 21
        | u64::from(split.split) << 31
        | u64::from(meta.rss_hash) << 32
}

/// The RSS hash in the first word of a write-back; None when its type says there is none.
#[inline]
pub(crate) const fn rss_hash(types: u64) -> Option<u32> {
    if types & 0xf == 0 {
        None
    } else {
        Some(field(types, 32, 32))
    }
}

/// The second word of a descriptor that is not a frame's last: DD and length, and HBO, which belongs to the first.
#[inline]
pub(crate) fn rx_partial(split: RxSplit, len: u32) -> u64 {
    DD | u64::from(split.overflow) << 23 | u64::from(len & 0xffff) << 32
}

/// Adds HBO to a last descriptor's second word when it is the first as well.
#[inline]
pub(crate) fn rx_overflow(split: RxSplit) -> u64 {
    u64::from(split.overflow) << 23
}

/// The second word of a legacy write-back; the first keeps the buffer address.
pub(crate) fn rx_legacy(family: Family, meta: &RxMeta, len: u32, eop: bool) -> u64 {
    let mut word = u64::from(len & 0xffff) | DD << 32;
    if eop {
        let (rxe, l4e, ipe) = match family {
            Family::Ixgbevf => (0, 6, 7),
            Family::Igbvf => (7, 5, 6),
        };
        let status = DD
            | EOP
            | u64::from(meta.tagged) << 3
            | u64::from(meta.udp) << 4
            | u64::from(meta.l4 != Check::Not) << 5
            | u64::from(meta.ip != Check::Not) << 6
            | u64::from(meta.inexact) << 7;
        let errors = u64::from(meta.error) << rxe
            | u64::from(meta.l4 == Check::Bad) << l4e
            | u64::from(meta.ip == Check::Bad) << ipe;
        word |= status << 32 | errors << 40 | u64::from(meta.vlan) << 48;
    }
    word
}

#[cfg(test)]
#[path = "desc_tests.rs"]
mod tests;
