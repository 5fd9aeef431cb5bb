//! The loops with AVX2: four descriptors a step, what is left of a run one by one.
//!
//! As in the AVX-512 loops, a group is loaded after its last descriptor was seen done, and nothing but that load is
//! used. Words 1 of four descriptors come out of `unpackhi` in the order 0, 2, 1, 3; the address vectors follow it.

use std::arch::x86_64::{
    __m128i, __m256i, _mm_shuffle_epi32, _mm256_add_epi64, _mm256_and_si256, _mm256_cvtepu32_epi64,
    _mm256_loadu_si256, _mm256_mul_epu32, _mm256_or_si256, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_slli_epi64, _mm256_srli_epi64, _mm256_storeu_si256,
    _mm256_sub_epi16, _mm256_subs_epu16, _mm256_testz_si256, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi64,
};
use std::sync::atomic::{Ordering, compiler_fence};

use super::vector::bits;
use super::{Plain, Taken, portable};
use crate::SendError;
use crate::batch::Batch;
use crate::desc::{Descriptor, rx, tx};
use crate::lines::{window, window_mut};
use crate::pool::Addresses;
use crate::rx::RxRing;
use crate::tx::TxRing;

/// A whole receive call.
#[target_feature(enable = "avx2,bmi1,bmi2")]
pub(super) fn receive(rx: &mut RxRing, batch: &mut Batch, most: usize) -> usize {
    rx.receive_with(batch, most, |rx, batch, limit| take(rx, batch, limit))
}

/// A whole send call.
#[target_feature(enable = "avx2,bmi1,bmi2")]
pub(super) fn send(tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
    tx.send_with(batch, |tx, batch, entry, limit| {
        put(tx, batch, entry, limit)
    })
}

const SHIFT: i32 = tx::PAYLEN_SHIFT.cast_signed();
/// Elements 0, 2, 1, 3.
const CROSSED: i32 = 0b11_01_10_00;

/// Two descriptors, by one load.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn load(from: &[Descriptor; 2]) -> __m256i {
    // SAFETY: 32 readable bytes. They may change under the load, which is one instruction: the fence keeps the
    // compiler from ever doing it again, so that what was judged is what is used.
    let value = unsafe { _mm256_loadu_si256(from.as_ptr().cast()) };
    compiler_fence(Ordering::Acquire);
    value
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn store(to: &[Descriptor; 2], value: __m256i) {
    // SAFETY: 32 bytes of atomics, which may be written through a shared reference. The doorbell orders the store
    // before the device's look.
    unsafe { _mm256_storeu_si256(to.as_ptr().cast_mut().cast(), value) };
}

/// [`Plain`], four words 1 at a time, in 16-bit lanes: two of status, one of length, one of VLAN tag.
#[derive(Clone, Copy)]
struct Judge {
    mask: __m256i,
    base: __m256i,
    limit: __m256i,
}

impl Judge {
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn new(plain: Plain) -> Self {
        Self {
            mask: _mm256_set1_epi64x(plain.mask.cast_signed()),
            base: _mm256_set1_epi64x(plain.base.cast_signed()),
            limit: _mm256_set1_epi64x(plain.lanes.cast_signed()),
        }
    }

    /// Whether all four are words 1 of plain frames, and the length in each.
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn look(self, words: __m256i) -> (bool, __m256i) {
        let kept = _mm256_and_si256(words, self.mask);
        let over = _mm256_subs_epu16(_mm256_sub_epi16(kept, self.base), self.limit);
        (
            _mm256_testz_si256(over, over) == 1,
            _mm256_srli_epi64::<32>(kept),
        )
    }
}

#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn sum(lanes: __m256i) -> u64 {
    bits::<_, [u64; 4]>(lanes).iter().sum()
}

/// Device addresses of four buffers.
#[derive(Clone, Copy)]
struct Addresses4 {
    first: __m256i,
    stride: __m256i,
}

impl Addresses4 {
    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn new(addresses: Addresses) -> Self {
        Self {
            first: _mm256_set1_epi64x(addresses.first.cast_signed()),
            stride: _mm256_set1_epi64x(addresses.stride.into()),
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,bmi1,bmi2")]
    fn of(self, index: __m128i) -> __m256i {
        let offset = _mm256_mul_epu32(_mm256_cvtepu32_epi64(index), self.stride);
        _mm256_add_epi64(offset, self.first)
    }
}

/// As the portable loop.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn take(ring: &mut RxRing, batch: &mut Batch, limit: usize) -> Taken {
    let whole = limit & !3;
    let next = ring.next;
    let descriptors = window(ring.ring.all(), next, whole);
    let slots = window_mut(&mut ring.slots, next, whole);
    let fresh = window(&batch.free, batch.head, whole);
    let index = window_mut(&mut batch.index, batch.entries, whole);
    let words = window_mut(&mut batch.words, batch.entries, whole);
    let judge = Judge::new(ring.plain);
    let addresses = Addresses4::new(ring.addresses);
    let zero = _mm256_setzero_si256();
    let mut bytes = zero;

    let descriptors = descriptors.as_chunks::<2>().0.as_chunks::<2>().0;
    let groups = descriptors.len();
    let slots = &mut slots.as_chunks_mut::<4>().0[..groups];
    let fresh = &fresh.as_chunks::<4>().0[..groups];
    let index = &mut index.as_chunks_mut::<4>().0[..groups];
    let words = &mut words.as_chunks_mut::<2>().0.as_chunks_mut::<2>().0[..groups];
    let mut group = 0;
    while group < groups {
        let [front, back] = &descriptors[group];
        // ORDERING: pairs with the device's write of the last descriptor's DD; the three before it were written
        // earlier, and x86 does not reorder loads.
        if back[1][1].load(Ordering::Acquire) & rx::DD == 0 {
            break;
        }
        let (a, b) = (load(front), load(back));
        let (plain, lengths) = judge.look(_mm256_unpackhi_epi64(a, b));
        if !plain {
            break;
        }
        words[group] = [bits(a), bits(b)];
        index[group] = slots[group];
        slots[group] = fresh[group];
        let iova = addresses.of(_mm_shuffle_epi32::<CROSSED>(bits(fresh[group])));
        store(front, _mm256_unpacklo_epi64(iova, zero));
        store(back, _mm256_unpackhi_epi64(iova, zero));
        bytes = _mm256_add_epi64(bytes, lengths);
        group += 1;
    }
    let frames = group * 4;
    ring.took(batch, frames);
    let taken = Taken {
        frames,
        bytes: sum(bytes),
    };
    if frames == limit {
        return taken;
    }
    taken + portable::take_rest(ring, batch, limit - frames)
}

/// As the portable loop.
#[inline]
#[target_feature(enable = "avx2,bmi1,bmi2")]
fn put(ring: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> Taken {
    let whole = limit & !3;
    let next = ring.next;
    let descriptors = window(ring.ring.all(), next, whole);
    let slots = window_mut(&mut ring.slots, next, whole);
    let index = window(&batch.index, entry, whole);
    let words = window(&batch.words, entry, whole);
    let judge = Judge::new(ring.plain);
    let addresses = Addresses4::new(ring.addresses);
    let command = _mm256_set1_epi64x(ring.command.cast_signed());
    let mut bytes = _mm256_setzero_si256();

    let descriptors = descriptors.as_chunks::<2>().0.as_chunks::<2>().0;
    let groups = descriptors.len();
    let slots = &mut slots.as_chunks_mut::<4>().0[..groups];
    let index = &index.as_chunks::<4>().0[..groups];
    let words = &words.as_chunks::<2>().0.as_chunks::<2>().0[..groups];
    let mut group = 0;
    while group < groups {
        let [front, back] = &descriptors[group];
        let [a, b] = words[group];
        let (plain, lengths) = judge.look(_mm256_unpackhi_epi64(bits(a), bits(b)));
        if !plain {
            break;
        }
        slots[group] = index[group];
        let twice = _mm256_or_si256(lengths, _mm256_slli_epi64::<SHIFT>(lengths));
        let second = _mm256_or_si256(twice, command);
        let iova = addresses.of(_mm_shuffle_epi32::<CROSSED>(bits(index[group])));
        store(front, _mm256_unpacklo_epi64(iova, second));
        store(back, _mm256_unpackhi_epi64(iova, second));
        bytes = _mm256_add_epi64(bytes, lengths);
        group += 1;
    }
    let frames = group * 4;
    ring.next += frames;
    ring.ask_ends(next, &batch.words[entry..], frames == limit);
    let taken = Taken {
        frames,
        bytes: sum(bytes),
    };
    if frames == limit {
        return taken;
    }
    taken + portable::put_rest(ring, batch, entry + frames, limit - frames)
}
