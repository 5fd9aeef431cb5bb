//! What a frame is about: enough to filter it and to show it on a line.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use vfnic::MacAddr;

/// Protocol numbers of IP.
pub(crate) const ICMP: u8 = 1;
pub(crate) const TCP: u8 = 6;
pub(crate) const UDP: u8 = 17;
const ICMP6: u8 = 58;
const SCTP: u8 = 132;

/// EtherTypes.
pub(crate) const IPV4: u16 = 0x0800;
pub(crate) const ARP: u16 = 0x0806;
const IPV6: u16 = 0x86dd;
const VLAN: u16 = 0x8100;
const OUTER_VLAN: u16 = 0x88a8;

/// Most extension headers of IPv6 that are passed over.
const EXTENSIONS: usize = 8;

/// A frame's headers, as far as they are there.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Packet {
    /// Destination and source.
    pub macs: (MacAddr, MacAddr),
    /// Tag control information of the outermost VLAN tag.
    pub vlan: Option<u16>,
    /// What is behind the Ethernet header and its tags.
    pub ethertype: u16,
    /// Source and destination; of ARP, whoever asks and whoever is asked for.
    pub addresses: Option<(IpAddr, IpAddr)>,
    /// Protocol in IP.
    pub protocol: Option<u8>,
    /// Source and destination.
    pub ports: Option<(u16, u16)>,
    /// Length of the whole frame, without CRC.
    pub len: usize,
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?.first_chunk::<2>()?;
    Some(u16::from_be_bytes(*bytes))
}

fn mac(bytes: &[u8], at: usize) -> Option<MacAddr> {
    bytes.get(at..)?.first_chunk().copied().map(MacAddr)
}

fn v4(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 4] = *bytes.get(at..)?.first_chunk()?;
    Some(IpAddr::V4(Ipv4Addr::from(bytes)))
}

fn v6(bytes: &[u8], at: usize) -> Option<IpAddr> {
    let bytes: [u8; 16] = *bytes.get(at..)?.first_chunk()?;
    Some(IpAddr::V6(Ipv6Addr::from(bytes)))
}

impl Packet {
    /// Reads what is there of `frame`; nothing in it can make this fail.
    #[must_use]
    pub fn of(frame: &[u8]) -> Self {
        let mut packet = Self {
            len: frame.len(),
            ..Self::default()
        };
        packet.read(frame);
        packet
    }

    /// Fills in field after field, until there is no more.
    fn read(&mut self, frame: &[u8]) -> Option<()> {
        self.macs = (mac(frame, 0)?, mac(frame, 6)?);
        let mut at = 12;
        self.ethertype = word(frame, at)?;
        while matches!(self.ethertype, VLAN | OUTER_VLAN) {
            self.vlan = self.vlan.or_else(|| word(frame, at + 2));
            at += 4;
            self.ethertype = word(frame, at)?;
        }
        let inner = frame.get(at + 2..)?;
        match self.ethertype {
            // Of IPv4 over Ethernet only.
            ARP if word(inner, 2) == Some(IPV4) => {
                self.addresses = Some((v4(inner, 14)?, v4(inner, 24)?));
            }
            IPV4 => self.read_v4(inner)?,
            IPV6 => self.read_v6(inner)?,
            _ => {}
        }
        Some(())
    }

    fn read_v4(&mut self, packet: &[u8]) -> Option<()> {
        let header = usize::from(packet.first()? & 0xf) * 4;
        self.addresses = Some((v4(packet, 12)?, v4(packet, 16)?));
        self.protocol = Some(*packet.get(9)?);
        // Only a first fragment has ports.
        if word(packet, 6)? & 0x1fff == 0 {
            self.read_ports(packet.get(header..)?);
        }
        Some(())
    }

    fn read_v6(&mut self, packet: &[u8]) -> Option<()> {
        self.addresses = Some((v6(packet, 8)?, v6(packet, 24)?));
        let mut next = *packet.get(6)?;
        let mut at = 40;
        for _ in 0..EXTENSIONS {
            let header = packet.get(at..)?;
            let len = match next {
                // Hop by hop, routing, destination.
                0 | 43 | 60 => 8 + 8 * usize::from(*header.get(1)?),
                44 if word(header, 2)? & 0xfff8 == 0 => 8,
                44 => {
                    self.protocol = header.first().copied();
                    return Some(());
                }
                _ => break,
            };
            next = *header.first()?;
            at += len;
        }
        self.protocol = Some(next);
        self.read_ports(packet.get(at..)?);
        Some(())
    }

    fn read_ports(&mut self, payload: &[u8]) {
        if matches!(self.protocol, Some(TCP | UDP | SCTP)) {
            self.ports = word(payload, 0).zip(word(payload, 2));
        }
    }

    /// The protocol's name.
    fn protocol_name(&self) -> String {
        match (self.ethertype, self.protocol) {
            (ARP, _) => "ARP".into(),
            (_, Some(ICMP)) => "ICMP".into(),
            (_, Some(TCP)) => "TCP".into(),
            (_, Some(UDP)) => "UDP".into(),
            (_, Some(ICMP6)) => "ICMPv6".into(),
            (_, Some(SCTP)) => "SCTP".into(),
            (_, Some(other)) => format!("IP protocol {other}"),
            (other, None) => format!("EtherType {other:#06x}"),
        }
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(tci) = self.vlan {
            write!(f, "VLAN {} ", tci & 0xfff)?;
        }
        write!(f, "{} ", self.protocol_name())?;
        match (self.addresses, self.ports) {
            (Some((from, to)), Some((source, destination))) => {
                write!(f, "{from} port {source} > {to} port {destination}")?;
            }
            (Some((from, to)), None) => write!(f, "{from} > {to}")?,
            (None, _) => write!(f, "{} > {}", self.macs.1, self.macs.0)?,
        }
        write!(f, ", {} bytes", self.len)
    }
}

/// Which frames are wanted: those for which everything asked for is so.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filter {
    /// From or to this address.
    pub host: Option<IpAddr>,
    /// From or to this port.
    pub port: Option<u16>,
    /// Of this protocol.
    pub protocol: Option<Protocol>,
}

/// Protocols to filter by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Protocol {
    /// Address resolution
    Arp,
    /// ICMP, of either IP
    Icmp,
    /// TCP
    Tcp,
    /// UDP
    Udp,
    /// SCTP
    Sctp,
    /// IPv4
    Ip,
    /// IPv6
    Ip6,
}

impl Filter {
    /// Whether all frames are wanted.
    #[must_use]
    pub const fn takes_all(&self) -> bool {
        self.host.is_none() && self.port.is_none() && self.protocol.is_none()
    }

    /// Whether `packet` is wanted.
    #[must_use]
    pub fn takes(&self, packet: &Packet) -> bool {
        let host = self.host.is_none_or(|host| {
            packet
                .addresses
                .is_some_and(|(from, to)| from == host || to == host)
        });
        let port = self.port.is_none_or(|port| {
            packet
                .ports
                .is_some_and(|(from, to)| from == port || to == port)
        });
        let protocol = self.protocol.is_none_or(|wanted| match wanted {
            Protocol::Arp => packet.ethertype == ARP,
            Protocol::Icmp => matches!(packet.protocol, Some(ICMP | ICMP6)),
            Protocol::Tcp => packet.protocol == Some(TCP),
            Protocol::Udp => packet.protocol == Some(UDP),
            Protocol::Sctp => packet.protocol == Some(SCTP),
            Protocol::Ip => packet.ethertype == IPV4,
            Protocol::Ip6 => packet.ethertype == IPV6,
        });
        host && port && protocol
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;
    use proptest::prelude::*;

    use super::*;

    fn bytes(builder: etherparse::PacketBuilderStep<etherparse::UdpHeader>) -> Vec<u8> {
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &[1, 2, 3]).expect("memory");
        bytes
    }

    #[test]
    fn headers_that_another_library_made_are_read() {
        let plain = PacketBuilder::ethernet2([2, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 2]);
        let udp = bytes(plain.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1000, 53));
        let packet = Packet::of(&udp);
        assert_eq!(
            packet.to_string(),
            "UDP 10.0.0.1 port 1000 > 10.0.0.2 port 53, 45 bytes"
        );
        let tagged = PacketBuilder::ethernet2([2; 6], [4; 6])
            .single_vlan(etherparse::VlanId::try_new(7).expect("small"))
            .ipv6([1; 16], [2; 16], 64)
            .udp(1, 2);
        let packet = Packet::of(&bytes(tagged));
        assert_eq!((packet.vlan, packet.ports), (Some(7), Some((1, 2))));
        assert_eq!(packet.protocol, Some(UDP));
    }

    #[test]
    fn a_filter_wants_everything_at_once() {
        let builder = PacketBuilder::ethernet2([2; 6], [4; 6]);
        let udp = bytes(builder.ipv4([10, 0, 0, 1], [10, 0, 0, 2], 64).udp(1000, 53));
        let packet = Packet::of(&udp);
        let filter = |host: Option<&str>, port, protocol| Filter {
            host: host.map(|host| host.parse().expect("an address")),
            port,
            protocol,
        };
        for (filter, wanted) in [
            (filter(None, None, None), true),
            (
                filter(Some("10.0.0.2"), Some(53), Some(Protocol::Udp)),
                true,
            ),
            (
                filter(Some("10.0.0.1"), Some(1000), Some(Protocol::Ip)),
                true,
            ),
            (filter(Some("10.0.0.3"), Some(53), None), false),
            (filter(Some("10.0.0.2"), Some(54), None), false),
            (filter(None, None, Some(Protocol::Tcp)), false),
            (filter(None, None, Some(Protocol::Arp)), false),
        ] {
            assert_eq!(filter.takes(&packet), wanted, "{filter:?}");
        }
    }

    proptest! {
        #[test]
        fn no_frame_is_too_odd(frame in proptest::collection::vec(any::<u8>(), 0..200), kind in 0usize..6) {
            let mut frame = frame;
            let kinds = [IPV4, IPV6, ARP, VLAN, OUTER_VLAN, 0];
            if let Some(bytes) = frame.get_mut(12..14) {
                bytes.copy_from_slice(&kinds[kind].to_be_bytes());
            }
            let packet = Packet::of(&frame);
            prop_assert!(!packet.to_string().is_empty());
        }
    }
}
