//! Frames that ask the hardware for something, and what must come of it, made in software.

use etherparse::{
    Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv6FlowLabel, Ipv6Header, TcpHeader,
    UdpHeader,
};
use vfnic::{L4, TxOffload};

use crate::traffic::frame::{Mac, split_mix};

/// Ethernet header.
const ETHERNET: usize = 14;
/// Shortest frame used, so that nothing on the way has to fill it up.
const SHORTEST: usize = 64;
/// Most bytes of TCP payload in one request for segmentation.
const LONGEST_TSO: usize = 40_000;
/// Most frames that one request may come to.
const MOST_SEGMENTS: usize = 24;

/// What to ask for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ask {
    /// IPv4, TCP and UDP checksums.
    Checksums,
    /// TCP segmentation, which includes checksums.
    Segments,
}

/// One request, and the frames that must arrive for it.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) frame: Vec<u8>,
    pub(super) offload: TxOffload,
    pub(super) expected: Vec<Vec<u8>>,
}

/// What is left to the card, and done differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Habits {
    /// FIN and PSH stay on the last segment; a TCP checksum that comes to zero is zero.
    Hardware,
    /// FIN and PSH stay on no segment; a TCP checksum of zero is written as all ones, which is zero as well, and which
    /// only UDP asks for.
    Qemu,
}

/// Makes requests, each different from the others, from a seed.
#[derive(Clone, Debug)]
pub(super) struct Cases {
    pub(super) ask: Ask,
    pub(super) source: Mac,
    pub(super) destination: Mac,
    /// Longest frame on the wire, neither tag nor CRC counted.
    pub(super) longest: usize,
    /// Tag to be inserted by the hardware.
    pub(super) tag: Option<u16>,
    pub(super) habits: Habits,
    pub(super) seed: u64,
}

impl Cases {
    /// Request number `index`: IPv4 and IPv6, TCP and UDP by turns.
    pub(super) fn case(&self, index: u64) -> Case {
        let mut random = self.seed ^ index.wrapping_mul(0xD6E8_FEB8_6659_FD93);
        let tcp = self.ask == Ask::Segments || index & 1 == 0;
        let ipv6 = index & 2 != 0;
        let headers = ETHERNET + if ipv6 { 40 } else { 20 } + if tcp { 20 } else { 8 };
        let most = self.longest - headers;
        let (payload, mss) = match self.ask {
            Ask::Checksums => (
                between(&mut random, SHORTEST.saturating_sub(headers), most),
                None,
            ),
            Ask::Segments => {
                // Full frames mostly, as stacks ask for; any other size now and then.
                let mss = if split_mix(&mut random) & 3 == 0 {
                    between(&mut random, 64, most)
                } else {
                    most
                };
                let limit = LONGEST_TSO.min(mss * MOST_SEGMENTS);
                let mut payload = between(&mut random, mss / 2 + 1, limit);
                // Nothing on the way should have to fill up the last segment.
                if payload > mss && (1..SHORTEST).contains(&(payload % mss)) {
                    payload -= payload % mss;
                }
                (payload, Some(mss))
            }
        };
        let payload: Vec<u8> = (0..payload)
            .map(|_| split_mix(&mut random).to_le_bytes()[0])
            .collect();
        let whole = self.build(index, ipv6, tcp, &payload);
        let mut expected = match mss {
            Some(mss) => segment(&whole, ipv6, mss, self.habits),
            None => vec![whole.clone()],
        };
        if tcp && self.habits == Habits::Qemu {
            let at = headers - 20 + 16;
            for frame in &mut expected {
                if frame[at..at + 2] == [0, 0] {
                    frame[at..at + 2].fill(0xFF);
                }
            }
        }
        if let Some(tci) = self.tag {
            for frame in &mut expected {
                insert_tag(frame, tci);
            }
        }
        let mut frame = whole;
        spoil(&mut frame, ipv6, tcp);
        Case {
            frame,
            offload: TxOffload {
                vlan: self.tag,
                ip_checksum: !ipv6,
                l4: Some(if tcp { L4::Tcp } else { L4::Udp }),
                tso_mss: mss.map(|mss| u16::try_from(mss).unwrap_or(u16::MAX)),
                ipv6,
                l2_len: 14,
                l3_len: if ipv6 { 40 } else { 20 },
                l4_len: if tcp { 20 } else { 8 },
            },
            expected,
        }
    }

    /// The frame as software would send it, checksums and all.
    fn build(&self, index: u64, ipv6: bool, tcp: bool, payload: &[u8]) -> Vec<u8> {
        let [_, _, a, b, c, d, e, f] = index.to_be_bytes();
        let port = u16::from_be_bytes([0xC0 | (e & 0x3F), f]);
        let protocol = if tcp { IpNumber::TCP } else { IpNumber::UDP };
        let l4 = payload.len() + if tcp { 20 } else { 8 };
        // Lengths that exceed 16 bits do not come up: a request is 40 000 bytes at most.
        let length = u16::try_from(l4).unwrap_or(u16::MAX);
        let v4 = || Ipv4Header {
            identification: u16::from_be_bytes([c, f]),
            dont_fragment: true,
            fragment_offset: IpFragOffset::ZERO,
            source: [198, 18, a, b],
            destination: [198, 19, 0, 1],
            time_to_live: 64,
            ..Ipv4Header::new(length, 64, protocol, [0; 4], [0; 4]).unwrap_or_default()
        };
        let v6 = || Ipv6Header {
            traffic_class: 0,
            flow_label: Ipv6FlowLabel::ZERO,
            payload_length: length,
            next_header: protocol,
            hop_limit: 64,
            // 2001:db8::/32 is for documentation (RFC 3849).
            source: [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, a, b, c, d, e, f],
            destination: [0x20, 0x01, 0x0d, 0xb8, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        };
        let mut out = Vec::with_capacity(ETHERNET + 40 + l4);
        let ethernet = Ethernet2Header {
            source: self.source,
            destination: self.destination,
            ether_type: if ipv6 {
                etherparse::EtherType::IPV6
            } else {
                etherparse::EtherType::IPV4
            },
        };
        out.extend_from_slice(&ethernet.to_bytes());
        if ipv6 {
            out.extend_from_slice(&v6().to_bytes());
        } else {
            let mut header = v4();
            header.header_checksum = header.calc_header_checksum();
            out.extend_from_slice(&header.to_bytes());
        }
        if tcp {
            let sequence = u32::from_be_bytes([b, d, e, f]).wrapping_mul(0x9E37_79B1);
            let mut header = TcpHeader::new(port, 9, sequence, 4096);
            header.ack = true;
            header.acknowledgment_number = !sequence;
            header.psh = true;
            header.fin = index & 4 != 0;
            header.checksum = if ipv6 {
                header.calc_checksum_ipv6(&v6(), payload)
            } else {
                header.calc_checksum_ipv4(&v4(), payload)
            }
            .unwrap_or(0);
            out.extend_from_slice(&header.to_bytes());
        } else {
            let mut header = UdpHeader {
                source_port: port,
                destination_port: 9,
                length,
                checksum: 0,
            };
            header.checksum = if ipv6 {
                header.calc_checksum_ipv6(&v6(), payload)
            } else {
                header.calc_checksum_ipv4(&v4(), payload)
            }
            .unwrap_or(0);
            out.extend_from_slice(&header.to_bytes());
        }
        out.extend_from_slice(payload);
        out
    }
}

/// A number from `low` to `high`.
fn between(random: &mut u64, low: usize, high: usize) -> usize {
    let span = (high.saturating_sub(low) + 1) as u64;
    low + usize::try_from(split_mix(random) % span).unwrap_or(0)
}

/// Writes nonsense over the checksums, so that hardware that does nothing is found out.
fn spoil(frame: &mut [u8], ipv6: bool, tcp: bool) {
    let l4 = ETHERNET + if ipv6 { 40 } else { 20 };
    if !ipv6 {
        frame[ETHERNET + 10..ETHERNET + 12].fill(0xAD);
    }
    let at = l4 + if tcp { 16 } else { 6 };
    frame[at..at + 2].fill(0xDE);
}

/// Puts an 802.1Q tag behind the addresses.
pub(super) fn insert_tag(frame: &mut Vec<u8>, tci: u16) {
    let [high, low] = tci.to_be_bytes();
    frame.splice(12..12, [0x81, 0x00, high, low]);
}

/// What TCP segmentation makes of a frame (ixgbevf.md §10.6): headers repeated with length, identification, sequence number and
/// flags adapted; FIN and PSH on the last segment only, if the card has the habit.
fn segment(frame: &[u8], ipv6: bool, mss: usize, habits: Habits) -> Vec<Vec<u8>> {
    let l4 = ETHERNET + if ipv6 { 40 } else { 20 };
    let (headers, payload) = frame.split_at(l4 + 20);
    let last = payload.len().div_ceil(mss).saturating_sub(1);
    let mut frames = Vec::new();
    for (number, part) in payload.chunks(mss).enumerate() {
        let mut out = headers.to_vec();
        out.extend_from_slice(part);
        let behind_ip = be16(20 + part.len());
        if ipv6 {
            out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&behind_ip);
        } else {
            out[ETHERNET + 2..ETHERNET + 4].copy_from_slice(&be16(40 + part.len()));
            let id = u16::from_be_bytes([headers[ETHERNET + 4], headers[ETHERNET + 5]]);
            let id = id.wrapping_add(u16::try_from(number).unwrap_or(0));
            out[ETHERNET + 4..ETHERNET + 6].copy_from_slice(&id.to_be_bytes());
            out[ETHERNET + 10..ETHERNET + 12].fill(0);
            let sum = checksum(&[&out[ETHERNET..l4]]);
            out[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum);
        }
        let sequence = u32::from_be_bytes([
            headers[l4 + 4],
            headers[l4 + 5],
            headers[l4 + 6],
            headers[l4 + 7],
        ]);
        let sequence = sequence.wrapping_add(u32::try_from(number * mss).unwrap_or(0));
        out[l4 + 4..l4 + 8].copy_from_slice(&sequence.to_be_bytes());
        if number != last || habits == Habits::Qemu {
            const FIN_PSH: u8 = 0x01 | 0x08;
            out[l4 + 13] &= !FIN_PSH;
        }
        out[l4 + 16..l4 + 18].fill(0);
        let addresses = if ipv6 {
            &out[ETHERNET + 8..l4]
        } else {
            &out[ETHERNET + 12..l4]
        };
        let pseudo = [&[0, 6][..], &behind_ip].concat();
        let sum = checksum(&[addresses, &pseudo, &out[l4..]]);
        out[l4 + 16..l4 + 18].copy_from_slice(&sum);
        frames.push(out);
    }
    frames
}

/// The Internet checksum (RFC 1071) over `parts`, all but the last of even length.
fn checksum(parts: &[&[u8]]) -> [u8; 2] {
    let mut sum: u32 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u32::from(u16::from_be_bytes([
                pair[0],
                pair.get(1).copied().unwrap_or(0),
            ]));
        }
    }
    while sum > 0xFFFF {
        sum = (sum & 0xFFFF) + (sum >> 16);
    }
    (!u16::try_from(sum).unwrap_or(0)).to_be_bytes()
}

fn be16(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use etherparse::{NetSlice, SlicedPacket, TransportSlice};

    use super::*;

    fn cases(ask: Ask, tag: Option<u16>) -> Cases {
        Cases {
            ask,
            source: [2, 0, 0, 0, 0, 1],
            destination: [2, 0, 0, 0, 0, 2],
            longest: 1514,
            tag,
            habits: Habits::Hardware,
            seed: 3,
        }
    }

    /// Whether an independent parser finds every checksum of `frame` right.
    fn sound(frame: &[u8]) -> bool {
        let packet = SlicedPacket::from_ethernet(frame).expect("well-formed");
        match (
            packet.net.expect("IP"),
            packet.transport.expect("TCP or UDP"),
        ) {
            (NetSlice::Ipv4(ip), TransportSlice::Tcp(tcp)) => {
                let header = ip.header().to_header();
                header.calc_header_checksum() == header.header_checksum
                    && tcp.calc_checksum_ipv4(ip.header().source(), ip.header().destination())
                        == Ok(tcp.checksum())
            }
            (NetSlice::Ipv6(ip), TransportSlice::Tcp(tcp)) => {
                let header = ip.header().to_header();
                tcp.calc_checksum_ipv6(header.source, header.destination) == Ok(tcp.checksum())
            }
            (NetSlice::Ipv4(ip), TransportSlice::Udp(udp)) => {
                let header = ip.header().to_header();
                header.calc_header_checksum() == header.header_checksum
                    && udp.to_header().calc_checksum_ipv4(&header, udp.payload())
                        == Ok(udp.checksum())
            }
            (NetSlice::Ipv6(ip), TransportSlice::Udp(udp)) => {
                let header = ip.header().to_header();
                udp.to_header().calc_checksum_ipv6(&header, udp.payload()) == Ok(udp.checksum())
            }
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn what_is_expected_is_right_and_what_is_sent_is_not() {
        for index in 0..200 {
            let case = cases(Ask::Checksums, None).case(index);
            assert_eq!(case.expected.len(), 1);
            assert!(sound(&case.expected[0]), "{index}");
            assert!(!sound(&case.frame), "{index}");
            assert!((SHORTEST..=1514).contains(&case.frame.len()), "{index}");
        }
    }

    #[test]
    fn segments_are_sound_and_carry_the_whole_payload() {
        for index in 0..200 {
            let cases = cases(Ask::Segments, None);
            let case = cases.case(index);
            let l4 = 14 + usize::from(case.offload.l3_len);
            let mut payload = Vec::new();
            for (number, frame) in case.expected.iter().enumerate() {
                assert!(sound(frame), "segment {number} of {index}");
                assert!(frame.len() <= 1514);
                let last = number + 1 == case.expected.len();
                assert_eq!(frame[l4 + 13] & 0x08 != 0, last, "PSH");
                payload.extend_from_slice(&frame[l4 + 20..]);
            }
            assert_eq!(payload, case.frame[l4 + 20..], "{index}");
        }
    }

    #[test]
    fn qemu_has_no_tcp_checksum_of_zero() {
        let hardware = Cases {
            seed: 2,
            ..cases(Ask::Segments, None)
        };
        let qemu = Cases {
            habits: Habits::Qemu,
            ..hardware.clone()
        };
        let zero = |cases: &Cases, index| {
            let case = cases.case(index);
            let at = 14 + usize::from(case.offload.l3_len) + 16;
            let mut frames = case.expected.iter();
            frames.any(|frame| frame[at..at + 2] == [0, 0])
        };
        let index = (0..4000).find(|&index| zero(&hardware, index));
        assert!(!zero(&qemu, index.expect("one in 65536 or so")));
    }

    #[test]
    fn a_tag_stands_behind_the_addresses() {
        let plain = cases(Ask::Checksums, None).case(7);
        let tagged = cases(Ask::Checksums, Some(0x6064)).case(7);
        assert_eq!(tagged.frame, plain.frame);
        let (frame, untagged) = (&tagged.expected[0], &plain.expected[0]);
        assert_eq!(frame[12..16], [0x81, 0x00, 0x60, 0x64]);
        assert_eq!(frame[16..], untagged[12..]);
    }
}
