//! What both vector loops need: loads and stores of descriptors, and arrays as vectors.

use std::arch::x86_64::{__m128i, __m256i, __m512i};

/// Types of which every bit pattern is a value, without padding.
pub(super) trait Bits: Copy {}
impl Bits for __m128i {}
impl Bits for __m256i {}
impl Bits for __m512i {}
impl Bits for u32 {}
impl Bits for u64 {}
impl<T: Bits, const N: usize> Bits for [T; N] {}

/// The same bits as another type of the same size: how arrays become vectors and back.
#[inline(always)]
pub(super) const fn bits<A: Bits, B: Bits>(from: A) -> B {
    const { assert!(size_of::<A>() == size_of::<B>(), "bits must be kept") };
    // SAFETY: the sizes are equal, and `Bits` is only implemented (here) for types to which any bits are a value.
    unsafe { std::mem::transmute_copy(&from) }
}
