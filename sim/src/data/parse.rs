//! What the card's parser sees in a frame: packet type, header lengths, and checksums that are really computed.
//!
//! Offsets are sums of what headers say; one that does not fit stays at the end of all addresses, which is in no frame.

use std::num::Wrapping;

use super::checksum::{BORROW, Sum, crc32c, is_good, sum, sum_at};
use super::desc::Check;

/// Ethertypes the card knows.
pub(crate) mod ethertype {
    pub(crate) const IPV4: u16 = 0x0800;
    pub(crate) const IPV6: u16 = 0x86dd;
    pub(crate) const VLAN: u16 = 0x8100;
    pub(crate) const PAUSE: u16 = 0x8808;
    pub(crate) const LLDP: u16 = 0x88cc;
}

/// Packet-type bits in place in dword 0 of a write-back (ixgbevf.md §9.3, igbvf.md §8.2).
pub(crate) mod kind {
    pub(crate) const IPV4: u32 = 1 << 4;
    pub(crate) const IPV4_OPTIONS: u32 = 1 << 5;
    pub(crate) const IPV6: u32 = 1 << 6;
    pub(crate) const IPV6_EXTENSIONS: u32 = 1 << 7;
    pub(crate) const TCP: u32 = 1 << 8;
    pub(crate) const UDP: u32 = 1 << 9;
    pub(crate) const SCTP: u32 = 1 << 10;
    pub(crate) const ESP: u32 = 1 << 12;
    pub(crate) const AH: u32 = 1 << 13;
}

/// What the parser found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Parsed {
    /// Packet-type bits, see [`kind`].
    pub(crate) kind: u32,
    /// Bytes up to and including the ethertype, a tag included.
    pub(crate) l2: usize,
    /// Offset of the L4 header; equals `l2` without an IP header.
    pub(crate) l4: usize,
    /// Offset behind the headers, L4 included where there is one.
    pub(crate) headers: usize,
    /// First fragment or later: no L4 header is looked at.
    pub(crate) fragment: bool,
    pub(crate) ip: Check,
    pub(crate) l4_check: Check,
    /// UDP with a checksum in it.
    pub(crate) udp_checksum: bool,
}

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;

/// The big-endian 16 bits at `at`, if they are there.
pub(crate) fn be16(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..)?
        .first_chunk()
        .copied()
        .map(u16::from_be_bytes)
}

/// `N` bytes from `at` on, if they are there.
fn chunk<const N: usize>(bytes: &[u8], at: usize) -> Option<&[u8; N]> {
    bytes.get(at..)?.first_chunk()
}

/// `len` bytes from `at` on, if they are there.
pub(crate) fn part(bytes: &[u8], at: usize, len: usize) -> Option<&[u8]> {
    bytes.get(at..)?.get(..len)
}

/// Parses a whole frame and checks its checksums.
pub(crate) fn parse(frame: &[u8]) -> Parsed {
    // With the whole frame as its beginning the parser never runs out.
    parse_start(frame, frame.len(), || sum(frame)).unwrap_or_default()
}

/// Parses a frame of `len` bytes by its first bytes, `start`, and `total`, the sum of all of them. None when that does
/// not suffice, and the whole frame is wanted.
#[inline]
pub(crate) fn parse_start(start: &[u8], len: usize, total: impl Fn() -> Sum) -> Option<Parsed> {
    let whole = start.len() == len;
    let short = if whole { Some(Parsed::default()) } else { None };
    let mut l2 = 14;
    let Some(mut ethertype) = be16(start, 12) else {
        return short;
    };
    if ethertype == ethertype::VLAN {
        l2 = 18;
        match be16(start, 16) {
            Some(inner) => ethertype = inner,
            None => return short,
        }
    }
    let mut parsed = Parsed {
        l2,
        l4: l2,
        headers: l2,
        ..Parsed::default()
    };
    match ethertype {
        ethertype::IPV4 => {
            let Some(fixed) = chunk::<20>(start, l2) else {
                return if whole { Some(parsed) } else { None };
            };
            let header = usize::from(fixed[0] & 0xf) * 4;
            let ip_len = usize::from(u16::from_be_bytes([fixed[2], fixed[3]]));
            let end = l2.saturating_add(ip_len);
            if fixed[0] >> 4 != 4 || header < 20 || ip_len < header || end > len {
                return Some(parsed);
            }
            let Some(bytes) = part(start, l2, header) else {
                return if whole { Some(parsed) } else { None };
            };
            parsed.kind = kind::IPV4 | if header > 20 { kind::IPV4_OPTIONS } else { 0 };
            parsed.l4 = l2.saturating_add(header);
            parsed.headers = parsed.l4;
            parsed.ip = if is_good(sum(bytes)) {
                Check::Good
            } else {
                Check::Bad
            };
            // More fragments, or an offset.
            parsed.fragment = u16::from_be_bytes([fixed[6], fixed[7]]) & 0x3fff != 0;
            let pseudo = sum(&fixed[12..20]);
            finish(start, len, parsed, fixed[9], end, pseudo, &total)
        }
        ethertype::IPV6 => {
            let Some(fixed) = chunk::<40>(start, l2) else {
                return if whole { Some(parsed) } else { None };
            };
            let mut at = l2.saturating_add(40);
            let end = at.saturating_add(usize::from(u16::from_be_bytes([fixed[4], fixed[5]])));
            if fixed[0] >> 4 != 6 || end > len {
                return Some(parsed);
            }
            parsed.kind = kind::IPV6;
            let pseudo = sum(&fixed[8..40]);
            let mut next = fixed[6];
            let mut routed = false;
            // Hop-by-hop, routing, fragment, destination options; more than eight of them are not worth a parser.
            for _ in 0..8 {
                if !matches!(next, 0 | 43 | 44 | 60) {
                    break;
                }
                let Some(extension) = chunk::<8>(start, at) else {
                    return if whole { Some(parsed) } else { None };
                };
                let size = if next == 44 {
                    8
                } else {
                    usize::from(extension[1])
                        .saturating_mul(8)
                        .saturating_add(8)
                };
                let behind = at.saturating_add(size);
                if behind > end {
                    return Some(parsed);
                }
                parsed.kind |= kind::IPV6_EXTENSIONS;
                // With segments left the final destination, which the checksum covers, is another one.
                routed |= next == 43 && extension[3] != 0;
                parsed.fragment |=
                    next == 44 && u16::from_be_bytes([extension[2], extension[3]]) & 0xfff9 != 0;
                next = extension[0];
                at = behind;
            }
            parsed.l4 = at;
            parsed.headers = at;
            parsed.fragment |= routed;
            finish(start, len, parsed, next, end, pseudo, &total)
        }
        _ => Some(parsed),
    }
}

/// The L4 half: `end` is where the IP packet ends, `pseudo` the sum of its addresses.
#[inline]
fn finish(
    start: &[u8],
    len: usize,
    mut parsed: Parsed,
    protocol: u8,
    end: usize,
    pseudo: Sum,
    total: &impl Fn() -> Sum,
) -> Option<Parsed> {
    let whole = start.len() == len;
    let l4 = parsed.l4;
    let (bit, least) = match protocol {
        TCP => (kind::TCP, 20),
        UDP => (kind::UDP, 8),
        SCTP => (kind::SCTP, 12),
        41 => (kind::IPV6, 0),
        50 => (kind::ESP, 0),
        51 => (kind::AH, 0),
        _ => return Some(parsed),
    };
    if parsed.fragment || least == 0 {
        // The type of a fragment is told by its IP header alone.
        parsed.kind |= if parsed.fragment { 0 } else { bit };
        return Some(parsed);
    }
    let behind = l4.saturating_add(least);
    if behind > end {
        return Some(parsed);
    }
    let Some(header) = start.get(l4..behind) else {
        return if whole { Some(parsed) } else { None };
    };
    parsed.kind |= bit;
    parsed.headers = behind;
    let mut l4_end = end;
    match protocol {
        TCP => {
            let size = header
                .get(12)
                .map_or(0, |&offset| usize::from(offset >> 4) * 4);
            let behind = l4.saturating_add(size);
            if size >= 20 && behind <= end {
                parsed.headers = behind;
            }
        }
        UDP => {
            let [.., a, b, c, d] = *header.first_chunk::<8>()?;
            if [c, d] == [0, 0] {
                return Some(parsed);
            }
            parsed.udp_checksum = true;
            let claimed = usize::from(u16::from_be_bytes([a, b]));
            l4_end = l4.saturating_add(claimed);
            if claimed < 8 || l4_end > end {
                parsed.l4_check = Check::Bad;
                return Some(parsed);
            }
        }
        _ => {
            if !whole {
                return None;
            }
            let ([before @ .., a, b, c, d], behind) =
                start.get(l4..end)?.split_first_chunk::<12>()?;
            let good = crc32c(&[before, &[0; 4], behind]).to_le_bytes() == [*a, *b, *c, *d];
            parsed.l4_check = if good { Check::Good } else { Check::Bad };
            return Some(parsed);
        }
    }
    // Everything, less what stands before the L4 header and behind the packet.
    let mut checked = total() + BORROW - sum(start.get(..l4)?);
    if l4_end < len {
        let behind = start.get(l4_end..len)?;
        checked += BORROW - sum_at(l4_end, behind);
    }
    let l4_len = u16::try_from(l4_end.saturating_sub(l4)).unwrap_or(u16::MAX);
    checked += pseudo + Wrapping(u64::from(protocol) << 8);
    checked += Wrapping(u64::from(l4_len.swap_bytes()));
    parsed.l4_check = if is_good(checked) {
        Check::Good
    } else {
        Check::Bad
    };
    Some(parsed)
}

#[cfg(test)]
#[path = "parse_tests.rs"]
mod tests;
