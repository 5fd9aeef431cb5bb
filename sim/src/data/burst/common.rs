//! The write-backs of the frames that make up nearly all traffic, without the parser.

use std::num::Wrapping;

use super::group::GROUP;
use super::{Head, Start};
use crate::counting::Count;
use crate::data::checksum::{BORROW, Sum, halves, is_good, sum64};
use crate::data::desc::{Words, data_len};
use crate::data::parse::kind;
use crate::data::rss::Rss;
use crate::dma::Descriptors;

#[inline]
fn word(start: &Start, at: usize) -> u64 {
    match start.get(at..).and_then(<[u8]>::first_chunk) {
        Some(&bytes) => u64::from_le_bytes(bytes),
        None => 0,
    }
}

/// What all frames of a run share: they have the same first 14 bytes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Shared<'a> {
    /// Sum of those bytes.
    before: Sum,
    /// Second word of every write-back, but for length and checksums.
    status: u64,
    /// The same of UDP in IPv4 without a checksum, which not all models take alike.
    unchecked: u64,
    /// The receiver's hash, if it is on.
    rss: Option<&'a Rss>,
}

impl<'a> Shared<'a> {
    pub(super) fn new(head: &Head, status: u64, unchecked: u64, rss: Option<&'a Rss>) -> Self {
        let before = match *head.as_chunks::<8>().0 {
            [a, b] => {
                let rest = u64::from_le_bytes(b) & 0x0000_ffff_ffff_ffff;
                halves(u64::from_le_bytes(a)) + halves(rest)
            }
            _ => Wrapping(0),
        };
        Self {
            before,
            status,
            unchecked,
            rss,
        }
    }

    /// The write-back of a frame by its start and the sum of the rest: TCP or UDP in IPv4 without options, fragments,
    /// padding or errors, and anything that is not IP at all. None for every other frame.
    #[inline(always)]
    fn common(self, start: &Start, len: u32, rest: Sum) -> Option<Words> {
        let told = self.status | u64::from(len) << 32;
        // Bytes 12..36: ethertype, the IPv4 header, the source port, in the word order of memory.
        let (a, b, c) = (word(start, 12), word(start, 20), word(start, 28));
        // IPv4 with a header of 20 bytes.
        if a & 0x00ff_ffff != 0x45_0008 {
            return match a & 0xffff {
                0x0008 | 0xdd86 | 0x0081 => None,
                _ => Some([0, told]),
            };
        }
        // The packet just fills the frame, and its L4 part has this length.
        let (ip_len, l4_len) = (
            big_endian(len.wrapping_sub(14)),
            big_endian(len.wrapping_sub(34)),
        );
        let addresses = halves(c & 0x0000_ffff_ffff_ffff) + Wrapping(b >> 48);
        let header = halves(a & !0xffff) + halves(b & 0x0000_ffff_ffff_ffff) + addresses;
        if a >> 32 & 0xffff != ip_len || !is_good(header) {
            return None;
        }
        // The good IP header adds nothing to the sum of the frame; what stands before it has to go.
        let checked = || sum64(start) + rest + BORROW - self.before + addresses + Wrapping(l4_len);
        // Protocol, time to live aside, and neither an offset nor more fragments.
        match b & 0xff00_ff3f {
            0x1100_0000 => {
                let first = u64::from(kind::IPV4 | kind::UDP) | self.hash(start, true);
                let d = word(start, 36);
                if d & 0xffff_0000_0000 == 0 {
                    return Some([first, self.unchecked | u64::from(len) << 32]);
                }
                let fits = d >> 16 & 0xffff == l4_len;
                (fits && is_good(checked() + Wrapping(17 << 8))).then_some([first, told | 0x70])
            }
            0x0600_0000 => {
                let first = u64::from(kind::IPV4 | kind::TCP) | self.hash(start, false);
                is_good(checked() + Wrapping(6 << 8)).then_some([first, told | 0x60])
            }
            _ => None,
        }
    }

    /// RSS type and hash, in place.
    #[inline(always)]
    fn hash(self, start: &Start, udp: bool) -> u64 {
        match (self.rss, start[26..].first_chunk()) {
            (Some(rss), Some(input)) => rss.word4(input, udp),
            _ => 0,
        }
    }

    /// Publishes write-backs until one frame is not common. Gives how many and their octets.
    #[inline(never)]
    pub(super) fn publish(
        self,
        starts: &[Start],
        descriptors: &[Words],
        rests: &[Sum; GROUP],
        ring: &Descriptors<'_>,
    ) -> (usize, u64) {
        let (mut done, mut octets) = (0usize, 0u64);
        for ((start, &[_, word]), &rest) in starts.iter().zip(descriptors).zip(rests) {
            let len = data_len(word);
            let Some(words) = self.common(start, len, rest) else {
                break;
            };
            ring.publish(done, words);
            done.count(1);
            octets.count(u64::from(len) + 4);
        }
        (done, octets)
    }
}

/// The low 16 bits of a length as the other end of the wire has them, in memory order.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 16 bits are wanted"
)]
const fn big_endian(len: u32) -> u64 {
    (len as u16).swap_bytes() as u64
}

/// RSS type and hash, as a write-back holds them, of a frame whose kind shows at a glance: an unfragmented TCP or UDP packet
/// that fills it, in IPv4 without options. None for every other frame.
#[inline]
pub(super) fn flow_word(start: &Start, len: u32, rss: &Rss) -> Option<u64> {
    let (a, b) = (word(start, 12), word(start, 20));
    let usual = u64::from(0x45_0008_u32) | big_endian(len.wrapping_sub(14)) << 32;
    if a & 0xffff_00ff_ffff != usual || b & 0xff3f != 0 {
        return None;
    }
    let udp = match b >> 24 & 0xff {
        17 => true,
        6 => false,
        _ => return None,
    };
    Some(rss.word4(start[26..].first_chunk()?, udp))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::data::checksum::sum;
    use crate::data::desc::Check;
    use crate::data::parse::parse;

    fn head_of(frame: &[u8]) -> Head {
        *frame.first_chunk().expect("60 bytes")
    }

    fn common(frame: &[u8]) -> Option<Words> {
        let mut start = [0; 64];
        let known = frame.len().min(64);
        start[..known].copy_from_slice(&frame[..known]);
        let len = u32::try_from(frame.len()).expect("short");
        let rest = sum(&frame[known..]);
        Shared::new(&head_of(frame), 3, 0x43, None).common(&start, len, rest)
    }

    #[test]
    fn bytes_behind_the_packet_do_not_count() {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([9, 8, 7, 6], [1, 2, 3, 4], 5)
            .tcp(1, 2, 3, 4)
            .write(&mut frame, &[0x11; 20])
            .expect("short");
        assert!(common(&frame).is_some());
        // A checksum that would be right if the two bytes more belonged to the packet.
        frame.extend([0, 0]);
        let sum = u16::from_be_bytes([frame[50], frame[51]]);
        frame[50..52].copy_from_slice(&(sum - 2).to_be_bytes());
        assert_eq!(parse(&frame).l4_check, Check::Bad);
        assert_eq!(common(&frame), None);
    }

    proptest! {
        // Two words that change places leave the sum of the frame as it was, so damage in the header and damage in the
        // payload hide each other from whoever looks at the sum alone.
        #[test]
        fn what_is_called_good_is_good(
            tcp in any::<bool>(),
            len in 18usize..200,
            pad in prop_oneof![3 => Just(0usize), 1 => 1usize..8],
            swaps in proptest::collection::vec((6usize..60, 6usize..60), 0..3),
        ) {
            let mut frame = Vec::new();
            let payload: Vec<u8> = (0..len).map(|n| (n * 91 + len).to_le_bytes()[0]).collect();
            let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([9, 8, 7, 6], [1, 2, 3, 4], 5);
            if tcp {
                builder.tcp(1, 2, 3, 4).write(&mut frame, &payload).expect("short");
            } else {
                builder.udp(1, 2).write(&mut frame, &payload).expect("short");
            }
            frame.resize(frame.len() + pad, 0);
            for (one, other) in swaps {
                let even = |word: usize| word * 2 % (frame.len() - 1) / 2 * 2;
                let (one, other) = (even(one), even(other));
                if one >= 12 && other >= 12 {
                    frame.swap(one, other);
                    frame.swap(one + 1, other + 1);
                }
            }
            let truth = parse(&frame);
            match common(&frame) {
                Some([0, _]) => prop_assert_eq!(truth.kind, 0),
                Some([kinds, word]) => {
                    prop_assert_eq!(kinds, u64::from(truth.kind));
                    let told = if word & 0xff == 0x43 { Check::Not } else { Check::Good };
                    prop_assert_eq!((truth.ip, truth.l4_check), (Check::Good, told));
                    prop_assert_eq!(word >> 4 & 1 != 0, truth.udp_checksum);
                }
                // Nothing that is simply right takes the slower parser.
                None => prop_assert!(
                    truth.ip != Check::Good || truth.l4_check != Check::Good || pad > 0 || truth.headers > 54
                        || truth.fragment || frame[14] != 0x45
                ),
            }
        }
    }
}
