//! The Internet checksum and SCTP's CRC32c.
//!
//! Sums are kept as plain 64-bit numbers that are right modulo 65535 and in memory (little-endian) word order; since
//! 2^16 = 1 modulo 65535, words of any width may be added, and parts subtracted.

use std::num::Wrapping;

use crate::low_bits::LowBits;

/// A sum. It would be wrong once it wraps, which it is far from: a request has at most 40 pieces of 64 KiB, each word of
/// them adds less than 2^32, and each [`BORROW`] less than 2^56.
pub(crate) type Sum = Wrapping<u64>;

/// Sums `bytes` as if they stood at an even offset.
#[inline]
pub(crate) fn sum(bytes: &[u8]) -> Sum {
    let (chunks, rest) = bytes.as_chunks::<64>();
    let mut total = Wrapping(0);
    for chunk in chunks {
        total += sum64(chunk);
    }
    let (words, rest) = rest.as_chunks::<4>();
    for &word in words {
        total += Wrapping(u64::from(u32::from_le_bytes(word)));
    }
    let mut last = [0; 4];
    for (place, &byte) in last.iter_mut().zip(rest) {
        *place = byte;
    }
    total + Wrapping(u64::from(u32::from_le_bytes(last)))
}

/// Sums 64 bytes.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low word, and carries of eight additions"
)]
pub(crate) fn sum64(bytes: &[u8; 64]) -> Sum {
    let mut total = Wrapping(0u128);
    for &word in bytes.as_chunks::<8>().0 {
        total += Wrapping(u128::from(u64::from_le_bytes(word)));
    }
    // 2^64 and 2^32 are 1 modulo 65535, too.
    halves(total.0 as u64) + Wrapping((total.0 >> 64) as u64)
}

/// Sum of a word's halves.
#[inline]
pub(crate) const fn halves(word: u64) -> Sum {
    Wrapping((word & 0xffff_ffff).wrapping_add(word >> 32))
}

/// Sums `bytes` that stand at an offset of any parity.
pub(crate) fn sum_at(offset: usize, bytes: &[u8]) -> Sum {
    let even = sum(bytes);
    if offset.is_multiple_of(2) {
        even
    } else {
        // One byte further on, each byte weighs 256 times as much (modulo 65535).
        Wrapping(u64::from(fold(even)) << 8)
    }
}

/// The sum reduced to 16 bits; 0 and 0xffff are the same number here and 0 is only given for a true zero.
#[inline]
#[expect(
    clippy::cast_possible_truncation,
    reason = "below 2^16 after the last fold: no more than 0x1fffe before it"
)]
pub(crate) fn fold(total: Sum) -> u16 {
    let low = Wrapping(0xffff);
    let total = halves(total.0);
    let total = (total & low) + (total >> 16 & low) + (total >> 32);
    let total = (total & low) + (total >> 16);
    total.0 as u16
}

/// Whether a sum that includes its checksum field checks out.
#[inline]
pub(crate) const fn is_good(total: Sum) -> bool {
    // A multiple of 65535, by the inverse of 65535 modulo 2^64: the compiler does not always find it.
    total.0.wrapping_mul(0xfffe_fffe_fffe_ffff) <= u64::MAX / 0xffff
}

/// The checksum field, as it lies in memory, for a sum that includes whatever the field held before.
#[inline]
pub(crate) fn finish(total: Sum) -> [u8; 2] {
    (!fold(total)).to_le_bytes()
}

/// What must be added to subtract a part: keeps the difference positive without changing it modulo 65535.
pub(crate) const BORROW: Sum = Wrapping(0xffff << 40);

#[expect(clippy::indexing_slicing, reason = "worked out by the compiler")]
const CRC_TABLE: [u32; 256] = {
    let mut table = [0; 256];
    let mut index = 0;
    while index < 256 {
        #[expect(clippy::cast_possible_truncation, reason = "below 256")]
        let mut crc = index as u32;
        let mut round = 0;
        while round < 8 {
            crc = crc >> 1 ^ if crc & 1 == 0 { 0 } else { 0x82f6_3b78 };
            round += 1;
        }
        table[index] = crc;
        index += 1;
    }
    table
};

/// CRC32c of several pieces in a row, as SCTP puts it in its (little-endian) checksum field.
pub(crate) fn crc32c(pieces: &[&[u8]]) -> u32 {
    let mut crc = u32::MAX;
    for byte in pieces.iter().copied().flatten() {
        crc = crc >> 8 ^ *CRC_TABLE.entry((crc.to_le_bytes())[0] ^ byte);
    }
    !crc
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// One 16-bit big-endian word after the other, carry by carry: the definition.
    fn slow(bytes: &[u8]) -> u16 {
        let mut total = 0u32;
        for pair in bytes.chunks(2) {
            total += u32::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u32::from);
            total = (total & 0xffff) + (total >> 16);
        }
        u16::try_from(total).expect("folded")
    }

    #[test]
    fn the_example_of_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(fold(sum(&bytes)).swap_bytes(), 0xddf2);
        assert_eq!(finish(sum(&bytes)), [0x22, 0x0d]);
    }

    #[test]
    fn crc32c_check_values() {
        assert_eq!(crc32c(&[b"123456789"]), 0xe306_9283);
        assert_eq!(crc32c(&[b"1234", b"", b"56789"]), 0xe306_9283);
        assert_eq!(crc32c(&[&[0; 32]]), 0x8a91_36aa);
    }

    proptest! {
        #[test]
        fn sums_agree_with_the_definition(bytes in proptest::collection::vec(any::<u8>(), 0..2000), at in 0usize..4) {
            let folded = fold(sum(&bytes)).swap_bytes();
            prop_assert_eq!(folded % 0xffff, slow(&bytes) % 0xffff);
            let mut shifted = vec![0; at];
            shifted.extend_from_slice(&bytes);
            prop_assert_eq!(
                fold(sum_at(at, &bytes)).swap_bytes() % 0xffff,
                slow(&shifted) % 0xffff
            );
        }

        #[test]
        fn subtracting_a_part_leaves_the_rest(bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0usize..300) {
            let cut = cut.min(bytes.len());
            let rest = sum(&bytes) + BORROW - sum_at(0, &bytes[..cut]);
            prop_assert_eq!(
                fold(rest).swap_bytes() % 0xffff,
                slow(&[&vec![0; cut % 2], &bytes[cut..]].concat()) % 0xffff
            );
        }
    }
}
