//! What the card says about a frame, decoded from the raw write-back when somebody asks.

use crate::desc::{Dialect, rx};

/// A checksum, as the card saw it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Checked and right.
    Good,
    /// Checked and wrong.
    Bad,
    /// Not checked, or what the card says cannot be relied on.
    Unknown,
}

/// The card's verdicts on a frame's checksums.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Checksums {
    /// The IPv4 header's.
    pub ip: Verdict,
    /// TCP's, UDP's or SCTP's.
    pub l4: Verdict,
}

/// What the card recognised in a frame: bits of the write-back's packet type (ixgbevf.md §9.3, igbvf.md §8.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PacketType(u16);

impl PacketType {
    /// The raw 12 bits, 0 in bit 0 of the first: bit 0 IPv4 … bit 4 TCP, bit 5 UDP, bit 6 SCTP.
    #[must_use]
    pub const fn bits(self) -> u16 {
        self.0
    }
    const fn l3_valid(self) -> bool {
        self.0 & 1 << 11 == 0
    }
    /// An IPv4 header, with or without options.
    #[must_use]
    pub const fn is_ipv4(self) -> bool {
        self.l3_valid() && self.0 & 0b11 != 0
    }
    /// An IPv6 header, with or without extension headers.
    #[must_use]
    pub const fn is_ipv6(self) -> bool {
        self.l3_valid() && self.0 & 0b1100 != 0
    }
    /// TCP.
    #[must_use]
    pub const fn is_tcp(self) -> bool {
        self.l3_valid() && self.0 & 1 << 4 != 0
    }
    /// UDP.
    #[must_use]
    pub const fn is_udp(self) -> bool {
        self.l3_valid() && self.0 & 1 << 5 != 0
    }
    /// SCTP.
    #[must_use]
    pub const fn is_sctp(self) -> bool {
        self.l3_valid() && self.0 & 1 << 6 != 0
    }
}

/// The card's RSS hash of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RssHash {
    /// Which header fields went in, as the card numbers it: 1 TCP/IPv4, 2 IPv4, 3 TCP/IPv6, 5 IPv6, 7 UDP/IPv4 ….
    pub kind: u8,
    /// The hash.
    pub hash: u32,
}

/// Bytes of a segment, from its word 1.
#[inline]
pub(crate) const fn seg_len(word1: u64) -> usize {
    ((word1 >> rx::LEN_SHIFT) & 0xffff) as usize
}

/// A write-back and how to read it.
#[derive(Clone, Copy)]
pub(crate) struct Meta {
    pub(crate) dialect: Dialect,
    pub(crate) word0: u64,
    pub(crate) word1: u64,
}

impl Meta {
    pub(crate) fn checksums(self) -> Checksums {
        let seen = |bits: u64| self.word1 & bits != 0;
        if seen(self.dialect.ignore_checksums()) {
            return Checksums {
                ip: Verdict::Unknown,
                l4: Verdict::Unknown,
            };
        }
        let ip = match (seen(rx::IPCS), seen(self.dialect.ip_error())) {
            (false, _) => Verdict::Unknown,
            (true, false) => Verdict::Good,
            (true, true) => Verdict::Bad,
        };
        let l4 = match (seen(rx::L4CS | rx::UDPCS), seen(self.dialect.l4_error())) {
            (false, _) => Verdict::Unknown,
            (true, false) => Verdict::Good,
            (true, true) if self.dialect.udp_errors_lie() && self.packet_type().is_udp() => {
                Verdict::Unknown
            }
            (true, true) => Verdict::Bad,
        };
        // A verdict on headers the card says are not there is no verdict (faults.md D14).
        let kind = self.packet_type();
        Checksums {
            ip: if kind.is_ipv4() { ip } else { Verdict::Unknown },
            l4: if kind.is_tcp() || kind.is_udp() || kind.is_sctp() {
                l4
            } else {
                Verdict::Unknown
            },
        }
    }

    pub(crate) const fn packet_type(self) -> PacketType {
        PacketType(((self.word0 >> 4) & 0xfff) as u16)
    }

    pub(crate) const fn vlan(self) -> Option<u16> {
        if self.word1 & rx::VP == 0 {
            return None;
        }
        let tci = (self.word1 >> 48) as u16;
        let swapped = self.dialect.swaps_looped_vlan() && self.word1 & rx::LB != 0;
        Some(if swapped { tci.swap_bytes() } else { tci })
    }

    pub(crate) const fn looped_back(self) -> bool {
        self.word1 & rx::LB != 0
    }

    pub(crate) const fn rss(self) -> Option<RssHash> {
        let kind = (self.word0 & 0xf) as u8;
        if kind == 0 {
            None
        } else {
            Some(RssHash {
                kind,
                hash: (self.word0 >> 32) as u32,
            })
        }
    }
}
