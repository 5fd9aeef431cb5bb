//! Answers to ARP, ICMP echo and UDP, made of the very frames that asked.

use std::net::Ipv4Addr;

use serde::Serialize;
use vfnic::MacAddr;

use super::packet::{ARP, ICMP, IPV4, UDP};

const ETHERNET: usize = 14;
/// Bytes of an IPv4 header without options.
const HEADER: usize = 20;

/// What was asked and answered, and what was not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Answered {
    /// ARP requests for the address.
    pub arp: u64,
    /// ICMP echo requests.
    pub icmp: u64,
    /// UDP datagrams.
    pub udp: u64,
    /// Everything else.
    pub ignored: u64,
}

impl Answered {
    /// Frames answered, of any kind.
    #[must_use]
    pub const fn total(&self) -> u64 {
        self.arp + self.icmp + self.udp
    }
}

/// What a frame asked.
#[derive(Clone, Copy, Debug)]
enum Asked {
    Arp,
    Icmp,
    Udp,
}

/// A station with one address that answers whatever can be answered without remembering anything.
#[derive(Debug)]
pub struct Responder {
    mac: [u8; 6],
    address: [u8; 4],
    /// The UDP port that answers; none: all of them.
    port: Option<u16>,
    answered: Answered,
}

impl Responder {
    /// A station that has answered nothing.
    #[must_use]
    pub fn new(mac: MacAddr, address: Ipv4Addr, port: Option<u16>) -> Self {
        Self {
            mac: mac.0,
            address: address.octets(),
            port,
            answered: Answered::default(),
        }
    }

    /// What it has answered.
    #[must_use]
    pub const fn answered(&self) -> Answered {
        self.answered
    }

    /// Turns a frame (without VLAN tag, its headers in one piece) into the answer to it. False when there is none; the
    /// frame is as it was then.
    #[must_use]
    pub fn answer(&mut self, frame: &mut [u8]) -> bool {
        let kind = match frame.get(12..14) {
            Some(bytes) => u16::from_be_bytes([bytes[0], bytes[1]]),
            None => 0,
        };
        let asked = match kind {
            ARP => self.arp(frame),
            IPV4 => self.ip(frame),
            _ => None,
        };
        let count = match asked {
            Some(Asked::Arp) => &mut self.answered.arp,
            Some(Asked::Icmp) => &mut self.answered.icmp,
            Some(Asked::Udp) => &mut self.answered.udp,
            None => &mut self.answered.ignored,
        };
        *count += 1;
        asked.is_some()
    }

    /// RFC 826: the asker becomes the target, and we the sender.
    fn arp(&self, frame: &mut [u8]) -> Option<Asked> {
        let arp = frame.get_mut(ETHERNET..ETHERNET + 28)?;
        // Ethernet, IPv4, 6 and 4 bytes, request.
        if arp[..8] != [0, 1, 8, 0, 6, 4, 0, 1] || arp[24..28] != self.address {
            return None;
        }
        arp[7] = 2;
        arp.copy_within(8..18, 18);
        arp[8..14].copy_from_slice(&self.mac);
        arp[14..18].copy_from_slice(&self.address);
        frame.copy_within(6..12, 0);
        frame[6..12].copy_from_slice(&self.mac);
        Some(Asked::Arp)
    }

    fn ip(&self, frame: &mut [u8]) -> Option<Asked> {
        if frame.get(..6)? != self.mac.as_slice() {
            return None;
        }
        let packet = frame.get_mut(ETHERNET..)?;
        let header = usize::from(packet.first()? & 0xf) * 4;
        // A fragment would have to be put together first.
        let sound = packet.first()? >> 4 == 4
            && header >= HEADER
            && packet.len() >= header + 8
            && packet[16..20] == self.address
            && u16::from_be_bytes([packet[6], packet[7]]) & 0x3fff == 0
            && sum(&packet[..header]) == 0xffff;
        if !sound {
            return None;
        }
        let protocol = packet[9];
        let (head, payload) = packet.split_at_mut(header);
        match protocol {
            // An echo request; RFC 1624: a byte 8 less in the sum is 8 more in its complement.
            ICMP if payload[..2] == [8, 0] => {
                payload[0] = 0;
                let old = u16::from_be_bytes([payload[2], payload[3]]);
                let (new, carry) = old.overflowing_add(0x0800);
                let new = new + u16::from(carry);
                payload[2..4].copy_from_slice(&new.to_be_bytes());
            }
            // Ports and addresses swapped: the checksum is the same sum in another order.
            UDP => {
                let to = u16::from_be_bytes([payload[2], payload[3]]);
                if self.port.is_some_and(|port| port != to) {
                    return None;
                }
                swap(&mut payload[..4]);
            }
            _ => return None,
        }
        swap(&mut head[12..20]);
        frame.copy_within(6..12, 0);
        frame[6..12].copy_from_slice(&self.mac);
        Some(if protocol == ICMP {
            Asked::Icmp
        } else {
            Asked::Udp
        })
    }
}

/// Swaps the two halves.
fn swap(bytes: &mut [u8]) {
    let (one, two) = bytes.split_at_mut(bytes.len() / 2);
    one.swap_with_slice(two);
}

/// RFC 1071's sum.
fn sum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or(0)))
        .sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    u16::try_from(sum).unwrap_or(u16::MAX)
}

#[cfg(test)]
mod tests {
    use etherparse::{PacketBuilder, SlicedPacket, TransportSlice};
    use proptest::prelude::*;

    use super::*;

    const OURS: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
    const THEIRS: [u8; 6] = [2, 0, 0, 0, 0, 9];
    const ADDRESS: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
    const ASKER: [u8; 4] = [192, 0, 2, 9];

    fn station(port: Option<u16>) -> Responder {
        Responder::new(OURS, ADDRESS, port)
    }

    fn udp(to: [u8; 4], port: u16) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(THEIRS, OURS.0)
            .ipv4(ASKER, to, 64)
            .udp(4000, port)
            .write(&mut bytes, b"hello")
            .expect("memory");
        bytes
    }

    fn ping(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(THEIRS, OURS.0)
            .ipv4(ASKER, ADDRESS.octets(), 64)
            .icmpv4_echo_request(7, 3)
            .write(&mut bytes, payload)
            .expect("memory");
        bytes
    }

    #[test]
    fn a_ping_is_answered_with_a_checksum_that_holds() {
        let mut station = station(None);
        for payload in [b"abcdefgh".as_slice(), &[0xff; 57], &[]] {
            let mut frame = ping(payload);
            assert!(station.answer(&mut frame));
            let sliced = SlicedPacket::from_ethernet(&frame).expect("sound");
            let Some(TransportSlice::Icmpv4(icmp)) = sliced.transport else {
                panic!("{sliced:?}");
            };
            assert!(
                matches!(icmp.icmp_type(), etherparse::Icmpv4Type::EchoReply(echo) if echo.id == 7 && echo.seq == 3)
            );
            let expected = icmp.icmp_type().calc_checksum(icmp.payload());
            assert_eq!(icmp.checksum(), expected, "{payload:?}");
            assert_eq!(sum(&frame[ETHERNET..ETHERNET + HEADER]), 0xffff);
            assert_eq!(frame[..12], [THEIRS, OURS.0].concat());
            assert_eq!(frame[26..34], [ADDRESS.octets(), ASKER].concat());
        }
        assert_eq!(station.answered().icmp, 3);
    }

    #[test]
    fn a_datagram_comes_back() {
        let mut station = station(Some(7));
        let mut frame = udp(ADDRESS.octets(), 7);
        assert!(station.answer(&mut frame));
        let sliced = SlicedPacket::from_ethernet(&frame).expect("sound");
        let Some(TransportSlice::Udp(datagram)) = sliced.transport else {
            panic!("{sliced:?}");
        };
        assert_eq!(
            (datagram.source_port(), datagram.destination_port()),
            (7, 4000)
        );
        let checksum =
            datagram
                .to_header()
                .calc_checksum_ipv4_raw(ADDRESS.octets(), ASKER, b"hello");
        assert_eq!(Ok(datagram.checksum()), checksum);
        // Another port, another address, another station: not ours.
        for mut other in [udp(ADDRESS.octets(), 8), udp([192, 0, 2, 2], 7)] {
            let before = other.clone();
            assert!(!station.answer(&mut other));
            assert_eq!(other, before);
        }
        assert_eq!((station.answered().udp, station.answered().ignored), (1, 2));
    }

    #[test]
    fn whoever_asks_for_the_address_is_told() {
        let mut frame = [0; 60];
        frame[..6].fill(0xff);
        frame[6..12].copy_from_slice(&THEIRS);
        frame[12..22].copy_from_slice(&[8, 6, 0, 1, 8, 0, 6, 4, 0, 1]);
        frame[22..28].copy_from_slice(&THEIRS);
        frame[28..32].copy_from_slice(&ASKER);
        frame[38..42].copy_from_slice(&ADDRESS.octets());
        let mut station = station(None);
        assert!(station.answer(&mut frame));
        assert_eq!(frame[..12], [THEIRS, OURS.0].concat());
        assert_eq!(frame[20..22], [0, 2], "a reply");
        assert_eq!(
            frame[22..32],
            [OURS.0.as_slice(), &ADDRESS.octets()].concat()
        );
        assert_eq!(frame[32..42], [THEIRS.as_slice(), &ASKER].concat());
        assert!(!station.answer(&mut frame), "a reply is not answered");
    }

    #[test]
    fn damage_and_fragments_are_not_answered() {
        let mut station = station(None);
        let whole = ping(b"abc");
        let mut damaged = whole.clone();
        damaged[ETHERNET + 8] ^= 1;
        assert!(!station.answer(&mut damaged), "header checksum");
        let mut fragment = whole.clone();
        fragment[ETHERNET + 6] |= 0x20;
        assert!(!station.answer(&mut fragment));
        for len in 0..ETHERNET + HEADER + 8 {
            assert!(!station.answer(&mut whole.clone()[..len]), "{len}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_is_too_odd(frame in proptest::collection::vec(any::<u8>(), 0..120), ip in any::<bool>()) {
            let mut frame = frame;
            if let Some(bytes) = frame.get_mut(12..14) {
                bytes.copy_from_slice(if ip { &[8, 0] } else { &[8, 6] });
            }
            let _ = station(None).answer(&mut frame);
        }
    }
}
