//! Which flow a frame is of, told without the card's help.

/// Tags a frame may have before its own type: two are in use (802.1ad), more are somebody's mistake.
const TAGS: usize = 2;
/// IPv6 extension headers that are stepped over before the ports are given up.
const EXTENSIONS: usize = 4;

/// A hash of a frame's flow: addresses, protocol and, for TCP, UDP, UDP-Lite and SCTP, ports. Both directions of a
/// conversation have the same, and so have all fragments of a datagram's flow that carry no ports, since no fragment's ports
/// are looked at. VLAN tags are stepped over. What is not IP goes by its MAC addresses.
///
/// It is not secret: who may choose addresses and ports can choose flows that hash alike.
#[must_use]
pub fn flow_hash(frame: &[u8]) -> u32 {
    of_ip(frame).or_else(|| of_macs(frame)).unwrap_or_default()
}

fn of_macs(frame: &[u8]) -> Option<u32> {
    Some(mixed(frame.get(..6)?, frame.get(6..12)?, [0; 2], 0))
}

fn of_ip(frame: &[u8]) -> Option<u32> {
    // From a type on: that of a tag, or of what is carried.
    let mut typed = frame.get(12..)?;
    for _ in 0..TAGS {
        if !matches!(word(typed, 0)?, 0x8100 | 0x88a8 | 0x9100) {
            break;
        }
        typed = typed.get(4..)?;
    }
    let packet = typed.get(2..)?;
    match word(typed, 0)? {
        0x0800 => of_ipv4(packet),
        0x86dd => of_ipv6(packet),
        _ => None,
    }
}

fn of_ipv4(packet: &[u8]) -> Option<u32> {
    let header = usize::from(packet.first()? & 0xf) * 4;
    // Another fragment of the same datagram has no ports to go by, so this one's do not count either.
    let fragment = word(packet, 6)? & 0x3fff != 0;
    let protocol = *packet.get(9)?;
    let ports = if fragment || header < 20 {
        [0; 2]
    } else {
        ports(protocol, packet.get(header..).unwrap_or_default())
    };
    Some(mixed(
        packet.get(12..16)?,
        packet.get(16..20)?,
        ports,
        protocol,
    ))
}

fn of_ipv6(packet: &[u8]) -> Option<u32> {
    let (from, to) = (packet.get(8..24)?, packet.get(24..40)?);
    let mut protocol = *packet.get(6)?;
    let mut rest = packet.get(40..).unwrap_or_default();
    for _ in 0..EXTENSIONS {
        // Hop-by-hop options, routing, destination options: the next header, then how many more than eight bytes.
        if !matches!(protocol, 0 | 43 | 60) {
            break;
        }
        let &[next, length, ..] = rest else { break };
        protocol = next;
        rest = rest
            .get((usize::from(length) + 1) << 3..)
            .unwrap_or_default();
    }
    // A fragment's own header (44) is none of the protocols below.
    Some(mixed(from, to, ports(protocol, rest), protocol))
}

fn ports(protocol: u8, segment: &[u8]) -> [u16; 2] {
    if !matches!(protocol, 6 | 17 | 132 | 136) {
        return [0; 2];
    }
    match (word(segment, 0), word(segment, 2)) {
        (Some(from), Some(to)) => [from, to],
        _ => [0; 2],
    }
}

fn word(bytes: &[u8], at: usize) -> Option<u16> {
    let pair = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_be_bytes(pair.try_into().ok()?))
}

/// The two ends are hashed apart and added, so that it does not matter which of them speaks.
fn mixed(from: &[u8], to: &[u8], ports: [u16; 2], protocol: u8) -> u32 {
    let end = |address: &[u8], port: u16| {
        let begun = u64::from(port) << 16 | u64::from(protocol);
        address.chunks(8).fold(scrambled(begun), |hash, part| {
            let mut bytes = [0; 8];
            for (byte, from) in bytes.iter_mut().zip(part) {
                *byte = *from;
            }
            scrambled(hash ^ u64::from_be_bytes(bytes))
        })
    };
    let [from_port, to_port] = ports;
    let both = end(from, from_port).wrapping_add(end(to, to_port));
    let [high, _] = halves(scrambled(both));
    high
}

/// The finaliser of SplitMix64: every bit of the result depends on every bit that went in.
const fn scrambled(mut value: u64) -> u64 {
    value = value.wrapping_add(0x9e37_79b9_7f4a_7c15);
    value = (value ^ (value >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    value = (value ^ (value >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    value ^ (value >> 31)
}

fn halves(value: u64) -> [u32; 2] {
    let [a, b, c, d, e, f, g, h] = value.to_be_bytes();
    [
        u32::from_be_bytes([a, b, c, d]),
        u32::from_be_bytes([e, f, g, h]),
    ]
}
