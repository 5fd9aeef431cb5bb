//! Four descriptors a step with 256-bit vectors.

use std::arch::x86_64::{
    __m128i, __m256i, _mm256_add_epi64, _mm256_and_si256, _mm256_blend_epi32,
    _mm256_castsi256_si128, _mm256_cmpeq_epi32, _mm256_cvtepu32_epi64, _mm256_extracti128_si256,
    _mm256_max_epu32, _mm256_min_epu32, _mm256_movemask_epi8, _mm256_mul_epu32, _mm256_or_si256,
    _mm256_permute4x64_epi64, _mm256_set1_epi64x, _mm256_setr_epi64x, _mm256_setzero_si256,
    _mm256_slli_epi64, _mm256_srli_epi64,
};

use super::{GROUP, lanes};
use crate::batch::Batch;
use crate::desc::tx as txbits;
use crate::rx::RxRing;
use crate::tx::{RS_EVERY, TxRing};

const STEP: usize = 4;

#[target_feature(enable = "avx2")]
#[inline]
fn both(word1: u64) -> __m256i {
    _mm256_setr_epi64x(0, word1.cast_signed(), 0, word1.cast_signed())
}

#[target_feature(enable = "avx2")]
#[inline]
fn within(x: __m256i, low: __m256i, high: __m256i) -> u32 {
    let clamped = _mm256_min_epu32(_mm256_max_epu32(x, low), high);
    _mm256_movemask_epi8(_mm256_cmpeq_epi32(clamped, x)).cast_unsigned()
}

#[target_feature(enable = "avx2")]
#[inline]
fn addresses(four: __m128i, stride: __m256i, base: __m256i) -> __m256i {
    _mm256_add_epi64(_mm256_mul_epu32(_mm256_cvtepu32_epi64(four), stride), base)
}

/// Adds bits 47:32 of words 1 to `sum`, one lane a descriptor.
#[target_feature(enable = "avx2")]
#[inline]
fn add_lengths(sum: __m256i, x: __m256i) -> __m256i {
    let lengths =
        _mm256_blend_epi32::<0b1100_1100>(_mm256_setzero_si256(), _mm256_srli_epi64::<32>(x));
    _mm256_add_epi64(sum, lengths)
}

#[target_feature(enable = "avx2")]
#[inline]
fn total(sum: __m256i) -> u64 {
    let mut words = [[0u64; 2]; 2];
    lanes::store_words256(&mut words, sum);
    words.iter().flatten().sum()
}

/// See [`super::receive`].
#[target_feature(enable = "avx2")]
pub(super) fn receive(rx: &mut RxRing, batch: &mut Batch, limit: usize) -> (usize, u64) {
    let (care, low, high) = (both(rx.plain.care), both(rx.plain.low), both(rx.plain.high));
    let stride = _mm256_set1_epi64x(rx.stride.cast_signed());
    let base = _mm256_set1_epi64x(rx.base.cast_signed());
    let zero = _mm256_setzero_si256();
    let mut sum = zero;
    let mut taken = 0;
    while limit - taken >= STEP {
        if !batch.stock() {
            break;
        }
        let next = rx.next as usize;
        let Some((first, second)) = rx.ring.half_group(next) else {
            break;
        };
        let (d0, d1) = (lanes::load_ring256(first), lanes::load_ring256(second));
        let (x0, x1) = (_mm256_and_si256(d0, care), _mm256_and_si256(d1, care));
        if within(x0, low, high) & within(x1, low, high) != u32::MAX {
            break;
        }
        let at = batch.entries;
        let (Some(slots), Some(index), Some(words), Some(free)) = (
            rx.slots
                .get_mut(next..)
                .and_then(|slots| slots.first_chunk_mut::<STEP>()),
            batch
                .index
                .get_mut(at..)
                .and_then(|index| index.first_chunk_mut::<STEP>()),
            batch
                .words
                .get_mut(at..)
                .and_then(|words| words.first_chunk_mut::<STEP>()),
            batch.free.last_chunk::<GROUP>(),
        ) else {
            break;
        };
        let fresh = _mm256_extracti128_si256::<1>(lanes::load_indices(free));
        *index = *slots;
        slots.copy_from_slice(&free[GROUP - STEP..]);
        let ([words_low, words_high], _) = words.as_chunks_mut::<2>() else {
            break;
        };
        lanes::store_words256(words_low, d0);
        lanes::store_words256(words_high, d1);
        let addresses = addresses(fresh, stride, base);
        // 0, 1, 2, 3 to 0, -, 1, - and 2, -, 3, -, the dashes zero.
        let low_half = _mm256_permute4x64_epi64::<0b01_01_00_00>(addresses);
        let high_half = _mm256_permute4x64_epi64::<0b11_11_10_10>(addresses);
        lanes::store_ring256(first, _mm256_blend_epi32::<0b1100_1100>(low_half, zero));
        lanes::store_ring256(second, _mm256_blend_epi32::<0b1100_1100>(high_half, zero));
        sum = add_lengths(add_lengths(sum, x0), x1);
        batch.free.truncate(batch.free.len() - STEP);
        batch.entries += STEP;
        batch.frames += STEP;
        taken += STEP;
        rx.next = if next + STEP == rx.size() as usize {
            0
        } else {
            rx.next + STEP as u32
        };
    }
    (taken, total(sum))
}

/// See [`super::send`].
#[target_feature(enable = "avx2")]
pub(super) fn send(tx: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> (usize, u64) {
    let plain = &tx.plain_entry;
    let (care, low, high) = (both(plain.care), both(plain.low), both(plain.high));
    let stride = _mm256_set1_epi64x(tx.stride.cast_signed());
    let base = _mm256_set1_epi64x(tx.base.cast_signed());
    let command = _mm256_set1_epi64x(tx.plain.cast_signed());
    let length_bits = _mm256_set1_epi64x(0xffff);
    let mut sum = _mm256_setzero_si256();
    let mut sent = 0;
    while limit - sent >= STEP {
        let next = tx.next as usize;
        let at = entry + sent;
        let (Some((first, second)), Some(index), Some(words)) = (
            tx.ring.half_group(next),
            batch
                .index
                .get(at..)
                .and_then(|index| index.first_chunk::<GROUP>()),
            batch
                .words
                .get(at..)
                .and_then(|words| words.first_chunk::<STEP>()),
        ) else {
            break;
        };
        let ([words_low, words_high], _) = words.as_chunks::<2>() else {
            break;
        };
        let (d0, d1) = (
            lanes::load_words256(words_low),
            lanes::load_words256(words_high),
        );
        let (x0, x1) = (_mm256_and_si256(d0, care), _mm256_and_si256(d1, care));
        if within(x0, low, high) & within(x1, low, high) != u32::MAX {
            break;
        }
        let Some(slots) = tx
            .slots
            .get_mut(next..)
            .and_then(|slots| slots.first_chunk_mut::<STEP>())
        else {
            break;
        };
        slots.copy_from_slice(&index[..STEP]);
        let addresses = addresses(
            _mm256_castsi256_si128(lanes::load_indices(index)),
            stride,
            base,
        );
        let word1 = |x| {
            let len = _mm256_and_si256(_mm256_srli_epi64::<32>(x), length_bits);
            _mm256_or_si256(
                _mm256_or_si256(command, len),
                _mm256_slli_epi64::<{ txbits::PAYLEN_SHIFT as i32 }>(len),
            )
        };
        let low_half = _mm256_permute4x64_epi64::<0b01_01_00_00>(addresses);
        let high_half = _mm256_permute4x64_epi64::<0b11_11_10_10>(addresses);
        lanes::store_ring256(
            first,
            _mm256_blend_epi32::<0b1100_1100>(low_half, word1(x0)),
        );
        lanes::store_ring256(
            second,
            _mm256_blend_epi32::<0b1100_1100>(high_half, word1(x1)),
        );
        sum = add_lengths(add_lengths(sum, x0), x1);
        let last = (words[STEP - 1][1] >> 32) & 0xffff;
        tx.last = (
            tx.next + STEP as u32 - 1,
            tx.plain | last | last << txbits::PAYLEN_SHIFT,
        );
        tx.since_rs += STEP as u32;
        if tx.since_rs >= RS_EVERY {
            tx.ask();
        }
        sent += STEP;
        tx.next = if next + STEP == tx.size() as usize {
            0
        } else {
            tx.next + STEP as u32
        };
    }
    (sent, total(sum))
}
