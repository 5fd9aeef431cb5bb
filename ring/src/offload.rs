//! What a frame may ask of the hardware on its way out, and the context descriptor that says it.

use crate::FrameError;
use crate::desc::tx;

/// An L4 protocol the hardware can put a checksum into.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum L4 {
    /// TCP.
    Tcp,
    /// UDP.
    Udp,
    /// SCTP (CRC32c).
    Sctp,
}

/// Most header bytes of a frame to segment (ixgbevf.md §10.6; 512 on igb).
const MAX_TSO_HEADERS: usize = 256;

/// Offloads asked for one frame. The default asks for none.
///
/// The queue prepares the headers as the hardware wants them (checksum fields zeroed or seeded with the pseudo-header
/// sum, lengths zeroed for TSO, ixgbevf.md §10.5-10.6), so an application only says what it wants.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct TxOffload {
    /// Insert this 802.1Q tag (TCI: priority, DEI, VLAN id).
    pub vlan: Option<u16>,
    /// Compute the IPv4 header checksum.
    pub ip_checksum: bool,
    /// Compute this protocol's checksum.
    pub l4: Option<L4>,
    /// Segment: TCP payload bytes per frame on the wire.
    pub tso_mss: Option<u16>,
    /// The L3 header is IPv6.
    pub ipv6: bool,
    /// Bytes before the L3 header, an in-frame VLAN tag included; 14 to 127.
    pub l2_len: u8,
    /// Bytes of L3 header, extension headers included; up to 511.
    pub l3_len: u16,
    /// Bytes of L4 header; needed for TSO.
    pub l4_len: u8,
}

impl TxOffload {
    /// Nothing at all.
    pub(crate) const NONE: Self = Self {
        vlan: None,
        ip_checksum: false,
        l4: None,
        tso_mss: None,
        ipv6: false,
        l2_len: 0,
        l3_len: 0,
        l4_len: 0,
    };

    /// A tag and nothing else.
    #[must_use]
    pub const fn vlan(tci: u16) -> Self {
        Self {
            vlan: Some(tci),
            l2_len: 14,
            ..Self::NONE
        }
    }

    pub(crate) const fn headers(&self) -> usize {
        self.l2_len as usize + self.l3_len as usize + self.l4_len as usize
    }

    /// Checks the request against the bytes of the frame's first buffer.
    pub(crate) fn check(&self, first: usize) -> Result<(), FrameError> {
        let l4_needed = match (self.l4, self.tso_mss) {
            (Some(L4::Tcp), Some(_)) => 20,
            (Some(L4::Tcp), None) => 18,
            (Some(L4::Udp), _) => 8,
            (Some(L4::Sctp), _) => 12,
            (None, _) => 0,
        };
        let plain = !self.ip_checksum && self.l4.is_none() && self.tso_mss.is_none();
        let l3_needed = if plain {
            0
        } else if self.ipv6 {
            40
        } else {
            20
        };
        let bad = !(14..=127).contains(&self.l2_len)
            || self.l3_len > 511
            || self.l3_len < l3_needed
            || (self.tso_mss.is_some() && (self.l4_len < 20 || self.headers() > MAX_TSO_HEADERS))
            || usize::from(self.l2_len)
                + usize::from(self.l3_len)
                + usize::from(self.l4_len).max(l4_needed)
                > first
            || (self.ip_checksum && self.ipv6);
        if bad {
            return Err(FrameError::Headers {
                l2: self.l2_len.into(),
                l3: self.l3_len,
                l4: self.l4_len.into(),
                len: first,
            });
        }
        if let Some(mss) = self.tso_mss {
            let max = u16::try_from(9724usize.saturating_sub(self.headers())).unwrap_or(0);
            if self.l4 != Some(L4::Tcp) || !(64..=max).contains(&mss) {
                return Err(FrameError::Tso { mss, max });
            }
        }
        Ok(())
    }

    /// The context descriptor's two words, without its slot number (ixgbevf.md §10.3, igbvf.md §9.2).
    pub(crate) fn context(&self) -> (u64, u64) {
        let word0 = u64::from(self.l3_len)
            | u64::from(self.l2_len) << 9
            | u64::from(self.vlan.unwrap_or(0)) << 16;
        let l4t = match self.l4 {
            Some(L4::Udp) => 0,
            Some(L4::Tcp) => 1,
            Some(L4::Sctp) => 2,
            None => 3,
        };
        let ipv4 = u64::from(!self.ipv6 && (self.ip_checksum || self.l4.is_some()));
        let mut word1 = ipv4 << 10 | l4t << 11 | tx::DTYP_CTX | tx::DEXT;
        if let Some(mss) = self.tso_mss {
            word1 |= u64::from(self.l4_len) << 40 | u64::from(mss) << 48;
        }
        (word0, word1)
    }

    /// What the data descriptors of such a frame carry in word 1 besides lengths.
    pub(crate) fn data_bits(&self) -> u64 {
        let mut bits = 0;
        if self.vlan.is_some() {
            bits |= tx::VLE;
        }
        if self.ip_checksum || (self.tso_mss.is_some() && !self.ipv6) {
            bits |= tx::IXSM;
        }
        if self.l4.is_some() {
            bits |= tx::TXSM;
        }
        if self.tso_mss.is_some() {
            bits |= tx::TSE;
        }
        bits
    }

    /// Prepares the headers in `frame` (the first buffer) for what was asked. `total` is the whole frame's length.
    pub(crate) fn prepare(&self, frame: &mut [u8], total: usize) {
        let l3 = usize::from(self.l2_len);
        let l4 = l3 + usize::from(self.l3_len);
        let tso = self.tso_mss.is_some();
        let Some((_, packet)) = frame.split_at_mut_checked(l3) else {
            return;
        };
        let Some((ip, rest)) = packet.split_at_mut_checked(usize::from(self.l3_len)) else {
            return;
        };
        if !self.ipv6 && ip.len() >= 20 {
            if self.ip_checksum || tso {
                ip[10..12].fill(0);
            }
            if tso {
                ip[2..4].fill(0);
            }
        } else if self.ipv6 && ip.len() >= 40 && tso {
            ip[4..6].fill(0);
        }
        let Some(l4_kind) = self.l4 else { return };
        // By the IP header, not by the frame, which may be padded; by the frame where the header cannot be right.
        let field = if self.ipv6 {
            ip.get(4..6)
        } else {
            ip.get(2..4)
        };
        let stated = match field {
            Some(&[high, low]) => usize::from(u16::from_be_bytes([high, low])),
            _ => 0,
        };
        let stated = (stated + if self.ipv6 { 40 } else { 0 }).checked_sub(ip.len());
        let frame = total.saturating_sub(l4);
        let l4_bytes = stated
            .filter(|len| (1..=frame).contains(len))
            .unwrap_or(frame);
        let (at, protocol) = match l4_kind {
            L4::Tcp => (16, 6),
            L4::Udp => (6, 17),
            L4::Sctp => {
                if let Some(field) = rest.get_mut(8..12) {
                    field.fill(0);
                }
                return;
            }
        };
        let length = if tso { 0 } else { l4_bytes };
        let addresses = if self.ipv6 {
            ip.get(8..40)
        } else {
            ip.get(12..20)
        };
        let seed = pseudo_sum(addresses.unwrap_or_default(), protocol, length);
        if let Some(field) = rest.get_mut(at..at + 2) {
            field.copy_from_slice(&seed.to_be_bytes());
        }
    }
}

/// The one's-complement sum of a pseudo header: addresses, protocol and length (0 for TSO).
fn pseudo_sum(addresses: &[u8], protocol: u32, length: usize) -> u16 {
    let words = addresses
        .chunks_exact(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])));
    let mut sum = words.sum::<u32>() + protocol;
    let length = u32::try_from(length).unwrap_or(u32::MAX);
    sum += (length & 0xffff) + (length >> 16);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    // Two folds leave 16 bits.
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A request's headers that end beyond the first buffer leave what is there alone, and are filled in as far as whole
    /// fields are inside.
    #[test]
    fn headers_beyond_the_buffer_are_not_written() {
        let tcp = TxOffload {
            ip_checksum: true,
            l4: Some(L4::Tcp),
            tso_mss: Some(100),
            l2_len: 14,
            l3_len: 20,
            l4_len: 20,
            ..TxOffload::NONE
        };
        let sctp = TxOffload {
            l4: Some(L4::Sctp),
            tso_mss: None,
            ..tcp
        };
        let v6 = TxOffload { ipv6: true, ..tcp };
        for request in [tcp, sctp, v6] {
            for len in [0, 13, 14, 33] {
                let mut frame = vec![0xee; len];
                request.prepare(&mut frame, 1000);
                assert_eq!(frame, vec![0xee; len], "{request:?}");
            }
        }
        // The IP header is whole, the other one's field is not: bytes 50 and 51 of TCP, 42 to 45 of SCTP.
        for (request, len) in [(tcp, 51), (sctp, 45), (v6, 51)] {
            let mut frame = vec![0xee; len];
            request.prepare(&mut frame, 1000);
            assert!(frame[34..].iter().all(|byte| *byte == 0xee), "{request:?}");
        }
    }
}
