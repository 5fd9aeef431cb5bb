//! Receive-side scaling: the Toeplitz hash and the choice of a queue (ixgbevf.md §4.5, §4.8, §11.2).

use vfnic_hw::Model;

use super::filters::RssTable;
use super::parse::{Parsed, kind, part};
use crate::low_bits::LowBits;

/// Longest hash input: two IPv6 addresses and two ports.
const INPUT: usize = 36;

/// Hash-type bits of MRQC.
mod types {
    pub(super) const TCP4: u32 = 1 << 16;
    pub(super) const IP4: u32 = 1 << 17;
    pub(super) const TCP6_EX: u32 = 1 << 18;
    pub(super) const IP6_EX: u32 = 1 << 19;
    pub(super) const IP6: u32 = 1 << 20;
    pub(super) const TCP6: u32 = 1 << 21;
    pub(super) const UDP4: u32 = 1 << 22;
    pub(super) const UDP6: u32 = 1 << 23;
    pub(super) const UDP6_EX: u32 = 1 << 24;
}

/// A key, worked out per input byte.
#[derive(Clone, Debug)]
pub(crate) struct Rss {
    /// Hash-type bits; 0 is off.
    types: u32,
    reta: [u8; 128],
    /// What a byte value at an input position adds to the hash. Empty while off.
    table: Vec<[u32; 256]>,
}

impl Rss {
    pub(crate) fn new(table: &RssTable) -> Self {
        let types = table.types & 0x01ff_0000;
        let bytes = if types == 0 { 0 } else { INPUT };
        Self {
            types,
            reta: table.reta,
            table: (0..bytes)
                .map(|position| byte_table(&table.key, position))
                .collect(),
        }
    }

    /// Whether frames are hashed at all.
    pub(crate) const fn is_on(&self) -> bool {
        self.types != 0
    }

    fn hash(&self, input: impl Iterator<Item = u8>) -> u32 {
        self.table
            .iter()
            .zip(input)
            .fold(0, |hash, (table, byte)| hash ^ table.entry(byte))
    }

    /// The RSS type (dword 0, bits 3:0) and hash of a frame, if its kind is enabled. `start` is its beginning, the
    /// addresses and ports included.
    pub(crate) fn classify(&self, start: &[u8], parsed: &Parsed) -> Option<(u32, u32)> {
        let (addresses, tcp, udp, plain) = if parsed.kind & kind::IPV4 != 0 {
            ((12, 8), (types::TCP4, 1), (types::UDP4, 7), (types::IP4, 2))
        } else if parsed.kind & kind::IPV6 == 0 {
            return None;
        } else if parsed.kind & kind::IPV6_EXTENSIONS == 0 {
            ((8, 32), (types::TCP6, 3), (types::UDP6, 8), (types::IP6, 5))
        } else {
            (
                (8, 32),
                (types::TCP6_EX, 6),
                (types::UDP6_EX, 9),
                (types::IP6_EX, 4),
            )
        };
        let (at, len) = addresses;
        let addresses = part(start.get(parsed.l2..)?, at, len)?.iter().copied();
        let with_ports = match parsed.kind & (kind::TCP | kind::UDP) {
            kind::TCP => Some(tcp),
            kind::UDP => Some(udp),
            _ => None,
        };
        if let Some((bit, number)) = with_ports
            && self.types & bit != 0
            && !parsed.fragment
        {
            let ports = part(start, parsed.l4, 4)?.iter().copied();
            return Some((number, self.hash(addresses.chain(ports))));
        }
        let (bit, number) = plain;
        (self.types & bit != 0).then(|| (number, self.hash(addresses)))
    }

    /// Type and hash of an unfragmented TCP or UDP frame in IPv4, given addresses and ports, as a write-back's first
    /// word holds them; 0 when such a frame is not hashed.
    #[inline]
    pub(crate) fn word4(&self, input: &[u8; 12], udp: bool) -> u64 {
        let (bit, number) = if udp {
            (types::UDP4, 7)
        } else {
            (types::TCP4, 1)
        };
        let Some(table) = self.table.first_chunk::<12>() else {
            return 0;
        };
        let each = || {
            let both = table.iter().zip(input);
            both.map(|(table, &byte)| table.entry(byte))
        };
        let (number, hash) = if self.types & bit != 0 {
            (number, each().fold(0, |hash, part| hash ^ part))
        } else if self.types & types::IP4 != 0 {
            (2, each().take(8).fold(0, |hash, part| hash ^ part))
        } else {
            return 0;
        };
        u64::from(hash) << 32 | number
    }

    /// Whether hashes lead to more than the first queue of a pool, given its PSRTYPE.
    pub(crate) fn spreads(&self, model: Model, psrtype: u32) -> bool {
        let any = self.reta.iter().fold(0, |any, entry| any | entry);
        let mask = match model {
            Model::X550 => u8::MAX,
            Model::I82599 | Model::X540 => !(u8::MAX << (psrtype >> 29 & 3)),
            Model::I82576 | Model::I350 => 1,
        };
        any & mask != 0
    }

    /// The queue of a hash, by whichever rule the model has.
    pub(crate) fn queue_of(&self, model: Model, hash: u32, psrtype: u32, queues: usize) -> usize {
        match model {
            Model::I82576 | Model::I350 => self.odd_queue(hash, queues),
            Model::I82599 | Model::X540 | Model::X550 => self.queue(model, hash, psrtype, queues),
        }
    }

    /// The queue of a hash within a pool of `queues`, given the pool's PSRTYPE.
    fn queue(&self, model: Model, hash: u32, psrtype: u32, queues: usize) -> usize {
        let queue = match model {
            Model::X550 => usize::from(*self.reta.entry((hash & 63) as usize)),
            _ => {
                let bits = psrtype >> 29 & 3;
                usize::from(*self.reta.entry(hash as usize)) & !(usize::MAX << bits)
            }
        };
        if queue < queues { queue } else { 0 }
    }

    /// 82576 with RSSE: the second queue for odd entries.
    fn odd_queue(&self, hash: u32, queues: usize) -> usize {
        let queue = usize::from(*self.reta.entry(hash as usize) & 1);
        if queue < queues { queue } else { 0 }
    }
}

/// For each value of input byte `position`, the key windows of its set bits, folded.
fn byte_table(key: &[u8; 40], position: usize) -> [u32; 256] {
    // The 64 key bits from the byte on; its top bit goes with the window at the very start.
    let mut window = 0u64;
    let bytes = key.iter().copied().chain(std::iter::repeat(0));
    for byte in bytes.skip(position).take(8) {
        window = window << 8 | u64::from(byte);
    }
    let mut table = [0; 256];
    for (value, entry) in table.iter_mut().enumerate() {
        for number in 0..8 {
            if value & (0x80 >> number) != 0 {
                *entry ^= (window << number >> 32) as u32;
            }
        }
    }
    table
}

#[cfg(test)]
mod tests {
    use super::super::parse::parse;
    use super::*;

    const KEY: [u8; 40] = [
        0x6d, 0x5a, 0x56, 0xda, 0x25, 0x5b, 0x0e, 0xc2, 0x41, 0x67, 0x25, 0x3d, 0x43, 0xa3, 0x8f,
        0xb0, 0xd0, 0xca, 0x2b, 0xcb, 0xae, 0x7b, 0x30, 0xb4, 0x77, 0xcb, 0x2d, 0xa3, 0x80, 0x30,
        0xf2, 0x0c, 0x6a, 0x42, 0xb7, 0x3b, 0xbe, 0xac, 0x01, 0xfa,
    ];

    fn rss(types: u32) -> Rss {
        let mut reta = [0; 128];
        for (entry, queue) in reta.iter_mut().zip((0..4).cycle()) {
            *entry = queue;
        }
        Rss::new(&RssTable {
            key: KEY,
            reta,
            types,
        })
    }

    fn v4(source: [u8; 4], destination: [u8; 4], protocol: u8, ports: (u16, u16)) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x08, 0x00, 0x45, 0, 0, 40, 0, 0, 0, 0, 64, protocol, 0, 0]);
        frame.extend(source);
        frame.extend(destination);
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn v6(source: &str, destination: &str, ports: (u16, u16)) -> Vec<u8> {
        let mut frame = vec![0; 12];
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 20, 6, 64]);
        for address in [source, destination] {
            let address: std::net::Ipv6Addr = address.parse().expect("an address");
            frame.extend(address.octets());
        }
        frame.extend(ports.0.to_be_bytes());
        frame.extend(ports.1.to_be_bytes());
        frame.extend([0, 0, 0, 0, 0, 0, 0, 0, 0x50, 0, 0, 0, 0, 0, 0, 0]);
        frame
    }

    fn classify(rss: &Rss, frame: &[u8]) -> Option<(u32, u32)> {
        rss.classify(frame, &parse(frame))
    }

    #[test]
    fn the_published_vectors() {
        let all = rss(0x01ff_0000);
        let addresses_only = rss(1 << 17 | 1 << 20);
        for (source, destination, ports, plain, with_ports) in [
            (
                [66, 9, 149, 187],
                [161, 142, 100, 80],
                (2794, 1766),
                0x323e_8fc2,
                0x51cc_c178,
            ),
            (
                [199, 92, 111, 2],
                [65, 69, 140, 83],
                (14230, 4739),
                0xd718_262a,
                0xc626_b0ea,
            ),
            (
                [24, 19, 198, 95],
                [12, 22, 207, 184],
                (12898, 38024),
                0xd2d0_a5de,
                0x5c2b_394a,
            ),
        ] {
            let tcp = v4(source, destination, 6, ports);
            assert_eq!(classify(&all, &tcp), Some((1, with_ports)));
            assert_eq!(classify(&addresses_only, &tcp), Some((2, plain)));
            let udp = v4(source, destination, 17, ports);
            assert_eq!(classify(&all, &udp), Some((7, with_ports)));
            let other = v4(source, destination, 1, ports);
            assert_eq!(classify(&all, &other), Some((2, plain)));
        }
        let tcp = v6("3ffe:2501:200:1fff::7", "3ffe:2501:200:3::1", (2794, 1766));
        assert_eq!(classify(&all, &tcp), Some((3, 0x4020_7d3d)));
        assert_eq!(classify(&addresses_only, &tcp), Some((5, 0x2cc1_8cd5)));
    }

    #[test]
    fn the_linux_default_hashes_udp_by_addresses() {
        let linux = rss(0x0033_0000);
        let udp = v4([66, 9, 149, 187], [161, 142, 100, 80], 17, (2794, 1766));
        assert_eq!(classify(&linux, &udp), Some((2, 0x323e_8fc2)));
    }

    #[test]
    fn fragments_are_hashed_without_ports_and_arp_not_at_all() {
        let all = rss(0x01ff_0000);
        let mut fragment = v4([66, 9, 149, 187], [161, 142, 100, 80], 6, (2794, 1766));
        fragment[14 + 6] = 0x20;
        assert_eq!(classify(&all, &fragment), Some((2, 0x323e_8fc2)));
        let mut arp = fragment;
        arp[12..14].copy_from_slice(&[0x08, 0x06]);
        assert_eq!(classify(&all, &arp), None);
    }

    #[test]
    fn each_model_takes_its_own_bits_of_the_table() {
        let mut table = RssTable {
            key: KEY,
            types: 1 << 17,
            ..RssTable::default()
        };
        // Index 2 of 64 and of 128 for row 1 without ports; 66 differs between the two.
        table.reta[2] = 3;
        table.reta[66] = 2;
        let rss = Rss::new(&table);
        let hash = 0x323e_8fc2;
        assert_eq!(hash & 63, 2);
        assert_eq!(hash & 127, 66);
        assert_eq!(rss.queue(Model::X550, hash, 0, 4), 3);
        assert_eq!(
            rss.queue(Model::X550, hash, 0, 2),
            0,
            "a queue that is not there"
        );
        assert_eq!(
            rss.queue(Model::I82599, hash, 0, 4),
            0,
            "RQPL 0 is one queue"
        );
        assert_eq!(
            rss.queue(Model::I82599, hash, 1 << 29, 4),
            0,
            "one bit of 2"
        );
        assert_eq!(rss.queue(Model::X540, hash, 2 << 29, 4), 2);
        assert_eq!(0x51cc_c178_u32 & 63, 56);
    }

    #[test]
    fn an_entry_leads_to_a_queue_that_is_there_or_to_the_first() {
        let mut rss = rss(0);
        for model in [Model::X550, Model::X540, Model::I82576] {
            let psrtype = 2 << 29;
            rss.reta[5] = 1;
            assert_eq!(rss.queue_of(model, 5, psrtype, 2), 1, "{model}");
            assert_eq!(rss.queue_of(model, 5, psrtype, 1), 0, "{model}");
        }
        rss.reta[5] = 3;
        assert_eq!(rss.queue_of(Model::X540, 5, 2 << 29, 4), 3);
        assert_eq!(rss.queue_of(Model::X540, 5, 2 << 29, 3), 0);
    }
}
