//! Loads and stores of the vector paths: the only places there that touch memory, each on an array it has borrowed.

use std::arch::x86_64::{
    __m256i, __m512i, __mmask8, _mm256_loadu_si256, _mm256_mask_storeu_epi32, _mm256_storeu_si256,
    _mm512_loadu_si512, _mm512_mask_storeu_epi64,
};
use std::sync::atomic::AtomicU64;

/// Loads four descriptors of a live ring.
///
/// The device may be writing them: each 16-byte descriptor lies within one cache line, and both of its words come
/// from the one access this is, so a descriptor seen done is seen whole (perf.md §3.2, 12).
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_ring512(words: &[AtomicU64; 8]) -> __m512i {
    // SAFETY: 64 bytes of live memory; a vector load does not care whether the device writes them meanwhile.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Stores the words of `mask` into four descriptors of a live ring.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store_ring512(words: &[AtomicU64; 8], mask: __mmask8, value: __m512i) {
    // SAFETY: 64 bytes of live memory inside atomics, which may be written through a shared reference.
    unsafe { _mm512_mask_storeu_epi64(words.as_ptr().cast_mut().cast(), mask, value) }
}

/// Stores the words of `mask` into four write-backs of a batch.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn store_words512(words: &mut [[u64; 2]; 4], mask: __mmask8, value: __m512i) {
    // SAFETY: 64 exclusively borrowed bytes.
    unsafe { _mm512_mask_storeu_epi64(words.as_mut_ptr().cast(), mask, value) }
}

/// Loads four write-backs of a batch.
#[target_feature(enable = "avx512f")]
#[inline]
pub(super) fn load_words512(words: &[[u64; 2]; 4]) -> __m512i {
    // SAFETY: 64 borrowed bytes.
    unsafe { _mm512_loadu_si512(words.as_ptr().cast()) }
}

/// Loads eight indices.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_indices(indices: &[u32; 8]) -> __m256i {
    // SAFETY: 32 borrowed bytes.
    unsafe { _mm256_loadu_si256(indices.as_ptr().cast()) }
}

/// Stores eight indices.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_indices(indices: &mut [u32; 8], value: __m256i) {
    // SAFETY: 32 exclusively borrowed bytes.
    unsafe { _mm256_storeu_si256(indices.as_mut_ptr().cast(), value) }
}

/// Stores the indices of `mask`.
#[target_feature(enable = "avx512f,avx512vl")]
#[inline]
pub(super) fn store_indices_masked(indices: &mut [u32; 8], mask: __mmask8, value: __m256i) {
    // SAFETY: 32 exclusively borrowed bytes.
    unsafe { _mm256_mask_storeu_epi32(indices.as_mut_ptr().cast(), mask, value) }
}

/// Loads two descriptors of a live ring; see [`load_ring512`].
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_ring256(words: &[AtomicU64; 4]) -> __m256i {
    // SAFETY: 32 bytes of live memory; a vector load does not care whether the device writes them meanwhile.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Stores two descriptors of a live ring.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_ring256(words: &[AtomicU64; 4], value: __m256i) {
    // SAFETY: 32 bytes of live memory inside atomics, which may be written through a shared reference.
    unsafe { _mm256_storeu_si256(words.as_ptr().cast_mut().cast(), value) }
}

/// Loads two write-backs of a batch.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn load_words256(words: &[[u64; 2]; 2]) -> __m256i {
    // SAFETY: 32 borrowed bytes.
    unsafe { _mm256_loadu_si256(words.as_ptr().cast()) }
}

/// Stores two write-backs of a batch.
#[target_feature(enable = "avx2")]
#[inline]
pub(super) fn store_words256(words: &mut [[u64; 2]; 2], value: __m256i) {
    // SAFETY: 32 exclusively borrowed bytes.
    unsafe { _mm256_storeu_si256(words.as_mut_ptr().cast(), value) }
}
