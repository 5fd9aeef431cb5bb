//! The soak frame: an ordinary Ethernet/IPv4/UDP frame that can be checked bit for bit.
//!
//! Middle boxes and capture tools see a UDP datagram between the benchmarking addresses of RFC 2544 to the discard
//! port; the UDP checksum is left out (0) as RFC 768 allows. The first 18 bytes of its payload, big-endian:
//!
//! | bytes | field |
//! |---|---|
//! | 0..4 | check over the rest of the payload: 32 bits of a 128-bit product of stamp words, and of the XXH3-64 of the body |
//! | 4..6 | seed: low 16 bits of the run's seed, tells runs apart |
//! | 6..8 | flow |
//! | 8..13 | sequence number within the flow, modulo 2^40 |
//! | 13..18 | departure: nanoseconds of the run's clock, modulo 2^40 |
//!
//! 14 + 20 + 8 + 18 = 60 bytes: with the CRC that the hardware adds, exactly the smallest frame there is. Longer ones
//! carry pseudo-random bytes behind. Every bit from the EtherType on is covered: the IPv4 header by its own checksum, ports and
//! source address because they repeat the flow, the rest by the check. The MAC addresses belong to whoever forwards.

use twox_hash::XxHash3_64;

/// A MAC address as bytes on the wire.
pub type Mac = [u8; 6];

/// Bytes of the smallest frame, CRC not included.
pub const MIN_LEN: usize = 60;
/// Largest frame this module makes, CRC not included.
pub const MAX_LEN: usize = 16_000;

const IP: usize = 14;
const UDP: usize = IP + 20;
const PAYLOAD: usize = UDP + 8;
const STAMP: usize = 18;
/// Bytes that a template keeps ready: headers and stamp.
const HEAD: usize = PAYLOAD + STAMP;

/// The discard port (RFC 863).
const DISCARD: u16 = 9;
/// Source ports repeat the low bits of the flow in the dynamic range.
const DYNAMIC: u16 = 0xC000;
/// 198.18.0.0/16; the flow fills the other half.
const SOURCE_NET: [u8; 2] = [198, 18];
const DESTINATION_IP: [u8; 4] = [198, 19, 0, 1];

/// What `parse` looks at without a further bounds check: headers behind the link layer, and stamp.
type PacketHead = [u8; HEAD - IP];

const MASK40: u64 = (1 << 40) - 1;

/// Bytes that bodies are cut from: they start anywhere in the first 4 KiB.
const BODY_STARTS: usize = 4096;
const BODY_BLOCK: usize = BODY_STARTS + MAX_LEN;

/// What a frame says about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Low 16 bits of the seed of its run.
    pub seed: u16,
    /// Its flow.
    pub flow: u16,
    /// Its place in the flow, modulo 2^40.
    pub sequence: u64,
    /// When it left, or should have left: nanoseconds of the run's clock, modulo 2^40.
    pub departure: u64,
}

impl Stamp {
    /// Nanoseconds from departure to `now`, a time of the same clock. Meaningful up to 2^40 ns (18 minutes).
    #[must_use]
    pub fn age(&self, now: u64) -> u64 {
        now.wrapping_sub(self.departure) & MASK40
    }

    /// The full sequence number, as the one nearest to `expected`.
    #[must_use]
    pub fn full_sequence(&self, expected: u64) -> u64 {
        // Sign-extends the 40-bit difference, so that a little behind is behind and not 2^40 ahead.
        let difference = (self.sequence.wrapping_sub(expected) << 24).cast_signed() >> 24;
        expected.saturating_add_signed(difference)
    }
}

/// What a receiver makes of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Parsed {
    /// One of ours, intact.
    Stamped(Stamp),
    /// One of ours, damaged.
    Corrupt,
    /// Somebody else's: not UDP over IPv4 to our port.
    Foreign,
}

/// Whose frames a template makes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity {
    /// Source MAC address.
    pub source: Mac,
    /// Destination MAC address.
    pub destination: Mac,
    /// The run's seed.
    pub seed: u64,
}

/// Frames of one length, ready but for the four fields that change.
#[derive(Clone)]
pub struct Template {
    head: [u8; HEAD],
    len: usize,
    seed: u16,
    /// Sum of the IPv4 header's 16-bit words, flow and checksum left out.
    ip_sum: u32,
    /// The frame without headers and stamp starts somewhere in here; empty for the smallest frames.
    body: std::sync::Arc<[u8]>,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template")
            .field("len", &self.len)
            .field("seed", &self.seed)
            .finish_non_exhaustive()
    }
}

/// The pseudo-random bytes that the bodies of a run's frames are cut from (SplitMix64 over the seed).
#[must_use]
pub fn body_block(seed: u64) -> std::sync::Arc<[u8]> {
    let mut state = seed;
    let mut block = Vec::with_capacity(BODY_BLOCK.next_multiple_of(8));
    while block.len() < BODY_BLOCK {
        block.extend_from_slice(&split_mix(&mut state).to_le_bytes());
    }
    block.into()
}

/// One step of SplitMix64.
pub(crate) fn split_mix(state: &mut u64) -> u64 {
    *state = state.wrapping_add(0x9E37_79B9_7F4A_7C15);
    let mut word = *state;
    word = (word ^ (word >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    word = (word ^ (word >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    word ^ (word >> 31)
}

impl Template {
    /// Frames of `len` bytes, CRC not included, brought into [`MIN_LEN`]..=[`MAX_LEN`]; bodies are cut from `body`, a
    /// [`body_block`] of the same seed.
    #[must_use]
    pub fn new(identity: &Identity, len: usize, body: &std::sync::Arc<[u8]>) -> Self {
        let len = len.clamp(MIN_LEN, MAX_LEN);
        let ip_len = be16(len - IP);
        let udp_len = be16(len - UDP);
        let mut head = [0; HEAD];
        head[0..6].copy_from_slice(&identity.destination);
        head[6..12].copy_from_slice(&identity.source);
        head[12..14].copy_from_slice(&[0x08, 0x00]);
        head[IP..IP + 2].copy_from_slice(&[0x45, 0x00]);
        head[IP + 2..IP + 4].copy_from_slice(&ip_len);
        // Identification 0, don't fragment, time to live 64, UDP.
        head[IP + 6..IP + 10].copy_from_slice(&[0x40, 0x00, 64, 17]);
        head[IP + 12..IP + 14].copy_from_slice(&SOURCE_NET);
        head[IP + 16..IP + 20].copy_from_slice(&DESTINATION_IP);
        let ip_sum = head[IP..UDP]
            .chunks_exact(2)
            .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
            .sum();
        head[UDP + 2..UDP + 4].copy_from_slice(&DISCARD.to_be_bytes());
        head[UDP + 4..UDP + 6].copy_from_slice(&udp_len);
        let seed = low16(identity.seed);
        head[PAYLOAD + 4..PAYLOAD + 6].copy_from_slice(&seed.to_be_bytes());
        Self {
            head,
            len,
            seed,
            ip_sum,
            body: std::sync::Arc::clone(body),
        }
    }

    /// Length of its frames in bytes, CRC not included.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// Writes a frame over the first [`len`](Self::len) bytes of `frame`.
    ///
    /// # Panics
    ///
    /// When `frame` is shorter than that.
    #[inline]
    pub fn write(&self, frame: &mut [u8], flow: u16, sequence: u64, departure: u64) {
        let frame = &mut frame[..self.len];
        frame[..HEAD].copy_from_slice(&self.head);
        // RFC 1071: fold twice, the sum of ten words is far below 2^20.
        let sum = self.ip_sum + u32::from(flow);
        let sum = (sum & 0xFFFF) + (sum >> 16);
        let sum = low16(u64::from((sum & 0xFFFF) + (sum >> 16)));
        frame[IP + 10..IP + 12].copy_from_slice(&(!sum).to_be_bytes());
        frame[IP + 14..IP + 16].copy_from_slice(&flow.to_be_bytes());
        frame[UDP..UDP + 2].copy_from_slice(&source_port(flow).to_be_bytes());
        // Flow, sequence and departure are 12 bytes: two stores.
        let first =
            (u64::from(flow) << 48) | ((sequence & MASK40) << 8) | ((departure >> 32) & 0xFF);
        let last = low32(departure);
        frame[PAYLOAD + 6..PAYLOAD + 14].copy_from_slice(&first.to_be_bytes());
        frame[PAYLOAD + 14..PAYLOAD + 18].copy_from_slice(&last.to_be_bytes());
        if self.len > HEAD {
            let start = body_start(self.seed, flow, sequence);
            let body = &self.body[start..start + self.len - HEAD];
            frame[HEAD..].copy_from_slice(body);
        }
        let check = check(self.seed, first, last, &frame[HEAD..]);
        frame[PAYLOAD..PAYLOAD + 4].copy_from_slice(&check.to_be_bytes());
    }
}

/// The check of a frame, from the words of its stamp and its body.
///
/// The words come in registers, so that writing a frame does not wait for its own stores. The second factor is never
/// zero: its constant has bits where no stamp has any.
#[inline]
fn check(seed: u16, first: u64, last: u32, body: &[u8]) -> u32 {
    const FIRST: u64 = 0xA076_1D64_78BD_642F;
    const SECOND: u64 = 0xE703_7ED1_A0B4_28DB;
    let second = (u64::from(seed) << 32) | u64::from(last);
    let product = u128::from(first ^ FIRST) * u128::from(second ^ SECOND);
    #[expect(clippy::cast_possible_truncation, reason = "both halves are meant")]
    let mut folded = (product >> 64) as u64 ^ product as u64;
    if !body.is_empty() {
        folded ^= XxHash3_64::oneshot(body);
    }
    low32(folded ^ (folded >> 32))
}

/// Reads a frame (one piece, CRC not included, with or without one 802.1Q tag) and checks all that it says.
#[inline]
#[must_use]
pub fn parse(frame: &[u8]) -> Parsed {
    let Some(kind) = word(frame, 12) else {
        return Parsed::Foreign;
    };
    if kind == 0x8100 {
        return match (frame.get(18..), word(frame, 16)) {
            (Some(packet), Some(0x0800)) => parse_packet(packet),
            _ => Parsed::Foreign,
        };
    }
    match frame.get(IP..) {
        Some(packet) if kind == 0x0800 => parse_packet(packet),
        _ => Parsed::Foreign,
    }
}

/// From the IPv4 header on.
#[inline]
fn parse_packet(packet: &[u8]) -> Parsed {
    const UDP: usize = 20;
    const PAYLOAD: usize = UDP + 8;
    let Some(head) = packet.first_chunk::<{ HEAD - IP }>() else {
        return Parsed::Foreign;
    };
    let ours = head[9] == 17 && u16::from_be_bytes([head[22], head[23]]) == DISCARD;
    if !ours {
        return Parsed::Foreign;
    }
    let (one, two) = (read64(head, 0), read64(head, 8));
    let mut sum = (one & 0xFFFF_FFFF) + (one >> 32) + (two & 0xFFFF_FFFF) + (two >> 32);
    sum += u64::from(read32(head, 16));
    // RFC 1071: words of any width, folded to 16 bits.
    sum = (sum & 0xFFFF_FFFF) + (sum >> 32);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    sum = (sum & 0xFFFF) + (sum >> 16);
    let ip_len = u16::from_be_bytes([head[2], head[3]]);
    let udp_len = u16::from_be_bytes([head[24], head[25]]);
    let seed = u16::from_be_bytes([head[PAYLOAD + 4], head[PAYLOAD + 5]]);
    let first = read64(head, PAYLOAD + 6);
    let last = read32(head, PAYLOAD + 14);
    let flow = low16(first >> 48);
    let sound = sum == 0xFFFF
        && head[0] == 0x45
        && usize::from(ip_len) == packet.len()
        && usize::from(udp_len) + UDP == packet.len()
        && u16::from_be_bytes([head[14], head[15]]) == flow
        && u16::from_be_bytes([head[20], head[21]]) == source_port(flow)
        && read32(head, PAYLOAD) == check(seed, first, last, &packet[PAYLOAD + STAMP..])
        && (head[26] | head[27] == 0 || udp_checksum_holds(packet));
    if !sound {
        return Parsed::Corrupt;
    }
    Parsed::Stamped(Stamp {
        seed,
        flow,
        sequence: (first >> 8) & MASK40,
        departure: ((first & 0xFF) << 32) | u64::from(last),
    })
}

/// Whether the UDP checksum of an IPv4 packet whose lengths have been checked is right: for frames whose checksum was
/// filled in on the way.
#[cold]
fn udp_checksum_holds(packet: &[u8]) -> bool {
    let Ok((header, _)) = etherparse::Ipv4Header::from_slice(packet) else {
        return false;
    };
    let Ok((udp, payload)) = etherparse::UdpHeader::from_slice(&packet[header.header_len()..])
    else {
        return false;
    };
    udp.calc_checksum_ipv4(&header, payload)
        .is_ok_and(|right| right == udp.checksum)
}

const fn source_port(flow: u16) -> u16 {
    DYNAMIC | (flow & !DYNAMIC)
}

/// Where the body of a frame starts: differs from frame to frame, so that a stale buffer shows.
#[inline]
const fn body_start(seed: u16, flow: u16, sequence: u64) -> usize {
    let mixed = (sequence ^ ((flow as u64) << 40) ^ ((seed as u64) << 24))
        .wrapping_mul(0x9E37_79B9_7F4A_7C15)
        >> 52;
    low16(mixed) as usize
}

#[inline]
fn word(bytes: &[u8], at: usize) -> Option<u16> {
    bytes
        .get(at..at + 2)
        .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
}

#[inline]
fn read32(head: &PacketHead, at: usize) -> u32 {
    u32::from_be_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]])
}

#[inline]
fn read64(head: &PacketHead, at: usize) -> u64 {
    u64::from_be_bytes([
        head[at],
        head[at + 1],
        head[at + 2],
        head[at + 3],
        head[at + 4],
        head[at + 5],
        head[at + 6],
        head[at + 7],
    ])
}

fn be16(value: usize) -> [u8; 2] {
    u16::try_from(value).unwrap_or(u16::MAX).to_be_bytes()
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
#[inline]
const fn low16(value: u64) -> u16 {
    value as u16
}

#[expect(clippy::cast_possible_truncation, reason = "the low bits are meant")]
#[inline]
const fn low32(value: u64) -> u32 {
    value as u32
}

#[cfg(test)]
#[path = "frame_tests.rs"]
mod tests;
