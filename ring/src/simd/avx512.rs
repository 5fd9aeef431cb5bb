//! Eight descriptors a step with 512-bit vectors; the last ones of a burst by mask.

use std::arch::x86_64::{
    __m256i, __m512i, __mmask8, __mmask16, _mm256_add_epi32, _mm256_permutevar8x32_epi32,
    _mm256_set1_epi32, _mm256_setr_epi32, _mm512_add_epi64, _mm512_and_si512,
    _mm512_cmpeq_epi32_mask, _mm512_cvtepu32_epi64, _mm512_mask_blend_epi64,
    _mm512_maskz_permutexvar_epi64, _mm512_max_epu32, _mm512_min_epu32, _mm512_mul_epu32,
    _mm512_or_si512, _mm512_permutex2var_epi64, _mm512_reduce_add_epi64, _mm512_set1_epi64,
    _mm512_setr_epi64, _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64,
};

use super::{GROUP, lanes};
use crate::batch::Batch;
use crate::desc::tx as txbits;
use crate::rx::RxRing;
use crate::simd::WORTH_IT;
use crate::tx::{RS_EVERY, TxRing};

/// Word 0 of eight descriptors: the device addresses of these buffers.
#[target_feature(enable = "avx512f")]
#[inline]
fn addresses(indices: __m256i, stride: __m512i, base: __m512i) -> __m512i {
    _mm512_add_epi64(
        _mm512_mul_epu32(_mm512_cvtepu32_epi64(indices), stride),
        base,
    )
}

/// The dword limits a plain descriptor's masked dwords lie between, as `[low, high]`.
#[target_feature(enable = "avx512f")]
#[inline]
fn both(word0: u64, word1: u64) -> __m512i {
    let (a, b) = (word0.cast_signed(), word1.cast_signed());
    _mm512_setr_epi64(a, b, a, b, a, b, a, b)
}

/// Of the two masks of equal dwords, how many leading descriptors are equal in all four.
#[inline]
const fn leading(first: __mmask16, second: __mmask16) -> usize {
    let equal = first as u32 | (second as u32) << 16;
    (equal.trailing_ones() / 4) as usize
}

/// The qword masks of the first `count` of eight descriptors, four each.
#[inline]
const fn words_of(count: usize) -> (__mmask8, __mmask8) {
    let mask = ((1u32 << (2 * count)) - 1).to_le_bytes();
    (mask[0], mask[1])
}

/// See [`super::receive`].
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
pub(super) fn receive(rx: &mut RxRing, batch: &mut Batch, limit: usize) -> (usize, u64) {
    let plain = &rx.plain;
    let care = both(0, plain.care);
    let low = both(0, plain.low);
    let high = both(0, plain.high);
    let stride = _mm512_set1_epi64(rx.stride.cast_signed());
    let base = _mm512_set1_epi64(rx.base.cast_signed());
    let spread_low = _mm512_setr_epi64(0, 0, 1, 0, 2, 0, 3, 0);
    let spread_high = _mm512_setr_epi64(4, 0, 5, 0, 6, 0, 7, 0);
    let iota = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
    let mut lengths = _mm512_setzero_si512();
    let mut taken = 0;
    while limit - taken >= 1 {
        if !batch.stock() {
            break;
        }
        let next = rx.next as usize;
        let Some((first, second)) = rx.ring.group(next) else {
            break;
        };
        let (d0, d1) = (lanes::load_ring512(first), lanes::load_ring512(second));
        let (x0, x1) = (_mm512_and_si512(d0, care), _mm512_and_si512(d1, care));
        let ok0 = _mm512_cmpeq_epi32_mask(_mm512_min_epu32(_mm512_max_epu32(x0, low), high), x0);
        let ok1 = _mm512_cmpeq_epi32_mask(_mm512_min_epu32(_mm512_max_epu32(x1, low), high), x1);
        let count = leading(ok0, ok1).min(limit - taken);
        if count == 0 {
            break;
        }
        let (w0, w1) = words_of(count);
        let mask = ((1u32 << count) - 1).to_le_bytes()[0];
        let at = batch.entries;
        let (Some(slots), Some(index), Some(words), Some(free)) = (
            rx.slots
                .get_mut(next..)
                .and_then(|slots| slots.first_chunk_mut::<GROUP>()),
            batch
                .index
                .get_mut(at..)
                .and_then(|index| index.first_chunk_mut::<GROUP>()),
            batch
                .words
                .get_mut(at..)
                .and_then(|words| words.first_chunk_mut::<GROUP>()),
            batch.free.last_chunk::<GROUP>(),
        ) else {
            break;
        };
        // Fresh buffers from the top of the free list: its last `count`, moved to the front lanes.
        let shift = _mm256_set1_epi32((GROUP - count) as i32);
        let fresh =
            _mm256_permutevar8x32_epi32(lanes::load_indices(free), _mm256_add_epi32(iota, shift));
        // The frames, as the card wrote them, and the buffers they are in.
        lanes::store_indices(index, lanes::load_indices(slots));
        let (words_low, words_high) = halves(words);
        lanes::store_words512(words_low, w0, d0);
        lanes::store_words512(words_high, w1, d1);
        // Refill: fresh buffers in the same slots.
        lanes::store_indices_masked(slots, mask, fresh);
        let addresses = addresses(fresh, stride, base);
        lanes::store_ring512(
            first,
            w0,
            _mm512_maskz_permutexvar_epi64(0x55, spread_low, addresses),
        );
        lanes::store_ring512(
            second,
            w1,
            _mm512_maskz_permutexvar_epi64(0x55, spread_high, addresses),
        );
        // Words 1 of eight, lengths in bits 47:32, added up.
        lengths = _mm512_add_epi64(lengths, masked_lengths(x0, w0));
        lengths = _mm512_add_epi64(lengths, masked_lengths(x1, w1));
        batch.free.truncate(batch.free.len() - count);
        batch.entries += count;
        batch.frames += count;
        taken += count;
        rx.next = if next + count == rx.size() as usize {
            0
        } else {
            rx.next + count as u32
        };
        if count < GROUP {
            break;
        }
    }
    (taken, _mm512_reduce_add_epi64(lengths).cast_unsigned())
}

/// The lengths (bits 47:32 of words 1) of the descriptors whose words are in `mask`.
#[target_feature(enable = "avx512f")]
#[inline]
fn masked_lengths(words: __m512i, mask: __mmask8) -> __m512i {
    let lengths = _mm512_srli_epi64::<32>(words);
    _mm512_mask_blend_epi64(mask & 0xaa, _mm512_setzero_si512(), lengths)
}

/// A group's write-backs as two vectors' worth.
#[inline]
fn halves(words: &mut [[u64; 2]; GROUP]) -> (&mut [[u64; 2]; 4], &mut [[u64; 2]; 4]) {
    let [a, b] = words.as_chunks_mut::<4>().0 else {
        unreachable!("eight is two times four")
    };
    (a, b)
}

/// See [`super::send`].
#[target_feature(enable = "avx512f,avx512vl,avx512bw,avx512dq")]
pub(super) fn send(tx: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> (usize, u64) {
    let plain = &tx.plain_entry;
    let care = both(0, plain.care);
    let low = both(0, plain.low);
    let high = both(0, plain.high);
    let stride = _mm512_set1_epi64(tx.stride.cast_signed());
    let base = _mm512_set1_epi64(tx.base.cast_signed());
    let command = _mm512_set1_epi64(tx.plain.cast_signed());
    let length_bits = _mm512_set1_epi64(0xffff);
    let pair_low = _mm512_setr_epi64(0, 8, 1, 10, 2, 12, 3, 14);
    let mut lengths = _mm512_setzero_si512();
    let mut sent = 0;
    while sent < limit {
        let next = tx.next as usize;
        let at = entry + sent;
        let (Some((first, second)), Some(index), Some(words)) = (
            tx.ring.group(next),
            batch
                .index
                .get(at..)
                .and_then(|index| index.first_chunk::<GROUP>()),
            batch
                .words
                .get(at..)
                .and_then(|words| words.first_chunk::<GROUP>()),
        ) else {
            break;
        };
        let ([words_low, words_high], _) = words.as_chunks::<4>() else {
            break;
        };
        let (d0, d1) = (
            lanes::load_words512(words_low),
            lanes::load_words512(words_high),
        );
        let (x0, x1) = (_mm512_and_si512(d0, care), _mm512_and_si512(d1, care));
        let ok0 = _mm512_cmpeq_epi32_mask(_mm512_min_epu32(_mm512_max_epu32(x0, low), high), x0);
        let ok1 = _mm512_cmpeq_epi32_mask(_mm512_min_epu32(_mm512_max_epu32(x1, low), high), x1);
        let count = leading(ok0, ok1).min(limit - sent);
        if count == 0 {
            break;
        }
        let (w0, w1) = words_of(count);
        let mask = ((1u32 << count) - 1).to_le_bytes()[0];
        let Some(slots) = tx
            .slots
            .get_mut(next..)
            .and_then(|slots| slots.first_chunk_mut::<GROUP>())
        else {
            break;
        };
        let indices = lanes::load_indices(index);
        lanes::store_indices_masked(slots, mask, indices);
        let addresses = addresses(indices, stride, base);
        let high_addresses = _mm512_maskz_permutexvar_epi64(
            0x0f,
            _mm512_setr_epi64(4, 5, 6, 7, 0, 0, 0, 0),
            addresses,
        );
        // Word 1: the constant bits, the length as DTALEN and again as PAYLEN.
        let len0 = _mm512_and_si512(_mm512_srli_epi64::<32>(x0), length_bits);
        let len1 = _mm512_and_si512(_mm512_srli_epi64::<32>(x1), length_bits);
        let second0 = _mm512_or_si512(
            _mm512_or_si512(command, len0),
            _mm512_slli_epi64::<{ txbits::PAYLEN_SHIFT }>(len0),
        );
        let second1 = _mm512_or_si512(
            _mm512_or_si512(command, len1),
            _mm512_slli_epi64::<{ txbits::PAYLEN_SHIFT }>(len1),
        );
        // pair_low picks address n and the word 1 of descriptor n: qwords 1, 3, 5, 7 of the second operand.
        let pairs = _mm512_add_epi64(pair_low, _mm512_setr_epi64(0, 1, 0, 1, 0, 1, 0, 1));
        lanes::store_ring512(
            first,
            w0,
            _mm512_permutex2var_epi64(addresses, pairs, second0),
        );
        lanes::store_ring512(
            second,
            w1,
            _mm512_permutex2var_epi64(high_addresses, pairs, second1),
        );
        lengths = _mm512_add_epi64(lengths, masked_lengths(x0, w0));
        lengths = _mm512_add_epi64(lengths, masked_lengths(x1, w1));
        let last = (words[count - 1][1] >> 32) & 0xffff;
        tx.last = (
            tx.next + count as u32 - 1,
            tx.plain | last | last << txbits::PAYLEN_SHIFT,
        );
        tx.since_rs += count as u32;
        if tx.since_rs >= RS_EVERY {
            tx.ask();
        }
        sent += count;
        tx.next = if next + count == tx.size() as usize {
            0
        } else {
            tx.next + count as u32
        };
        if count < GROUP {
            break;
        }
    }
    let _ = WORTH_IT;
    (sent, _mm512_reduce_add_epi64(lengths).cast_unsigned())
}
