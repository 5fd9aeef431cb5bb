//! Telling the network where an address lives now: gratuitous ARP and unsolicited neighbour advertisements.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::MacAddr;

/// Shortest frame, CRC not included.
const SHORTEST: usize = 60;

/// The frame that makes neighbours and switches learn that `address` is at `mac`.
pub(super) fn announcement(mac: MacAddr, address: IpAddr) -> Vec<u8> {
    let mut frame = match address {
        IpAddr::V4(address) => gratuitous_arp(mac, address),
        IpAddr::V6(address) => unsolicited_advertisement(mac, address),
    };
    frame.resize(frame.len().max(SHORTEST), 0);
    frame
}

/// An ARP request for one's own address (RFC 5227 §1.1, RFC 826).
fn gratuitous_arp(mac: MacAddr, address: Ipv4Addr) -> Vec<u8> {
    let mut frame = [MacAddr::BROADCAST.0, mac.0].concat();
    // ARP; Ethernet and IPv4, their lengths; a request.
    frame.extend([0x08, 0x06, 0, 1, 0x08, 0, 6, 4, 0, 1]);
    frame.extend(mac.0);
    frame.extend(address.octets());
    frame.extend([0; 6]);
    frame.extend(address.octets());
    frame
}

/// A neighbour advertisement that nobody asked for, to all nodes (RFC 4861 §4.4, §7.2.6).
fn unsolicited_advertisement(mac: MacAddr, address: Ipv6Addr) -> Vec<u8> {
    let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
    // Type, code, checksum; the override flag; target; target's link-layer address.
    let mut message = vec![136, 0, 0, 0, 0x20, 0, 0, 0];
    message.extend(address.octets());
    message.extend([2, 1]);
    message.extend(mac.0);
    let sum = checksum(address, to, &message);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    let mut frame = [[0x33, 0x33, 0, 0, 0, 1], mac.0].concat();
    let len = u16::try_from(message.len()).unwrap_or(0).to_be_bytes();
    // IPv6; ICMPv6 behind it; hop limit 255, or nobody believes it.
    frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, len[0], len[1], 58, 255]);
    frame.extend(address.octets());
    frame.extend(to.octets());
    frame.extend(message);
    frame
}

/// The checksum of ICMPv6, pseudo-header included (RFC 8200 §8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, message: &[u8]) -> u16 {
    let len = u32::try_from(message.len()).unwrap_or(0).to_be_bytes();
    let parts: [&[u8]; 5] = [&from.octets(), &to.octets(), &len, &[0, 58], message];
    let words = parts.into_iter().flat_map(|part| part.chunks(2));
    let sum = words.fold(0u16, |sum, pair| {
        let word = u16::from_be_bytes([pair[0], pair.get(1).copied().unwrap_or(0)]);
        // One's complement: a carry comes in again at the other end, where there is room for it.
        let (sum, carry) = sum.overflowing_add(word);
        sum.wrapping_add(u16::from(carry))
    });
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 9]);

    #[test]
    fn ipv4_asks_everybody_for_its_own_address() {
        let frame = announcement(MAC, IpAddr::V4(Ipv4Addr::new(192, 0, 2, 7)));
        assert_eq!(frame.len(), 60);
        assert_eq!(frame[..6], [0xff; 6]);
        assert_eq!((&frame[6..12], &frame[22..28]), (&MAC.0[..], &MAC.0[..]));
        assert_eq!(
            (&frame[28..32], &frame[38..42]),
            (&[192, 0, 2, 7][..], &[192, 0, 2, 7][..])
        );
    }

    #[test]
    fn ipv6_advertises_with_a_checksum_that_holds() {
        let address: Ipv6Addr = "2001:db8::7".parse().expect("an address");
        let frame = announcement(MAC, IpAddr::V6(address));
        assert_eq!(frame.len(), 86);
        assert_eq!(frame[..6], [0x33, 0x33, 0, 0, 0, 1]);
        assert_eq!(
            (frame[54], frame[58]),
            (136, 0x20),
            "overrides what is known"
        );
        assert_eq!(frame[80..86], MAC.0);
        let to = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        assert_eq!(
            checksum(address, to, &frame[54..]),
            0,
            "with itself it comes to zero"
        );
    }
}
