//! The loops with AVX-512: eight descriptors a step; what is left of a run, by mask.
//!
//! A 64-byte load covers four descriptors. The architecture promises no more than 16 bytes at once, so what a load
//! says is done may not be: a full group is loaded after its *last* descriptor was seen done by an ordinary acquire
//! load (descriptors complete in order, so the other seven were written before), a partial group is loaded a second
//! time after its done descriptors were counted. Nothing but that load is used, so it does not matter what the
//! device does to the ring afterwards, nor what a device that breaks the order gets to be judged by.
#![expect(
    clippy::cast_possible_truncation,
    reason = "masks of fewer bits than the type they are cut to"
)]

use std::arch::x86_64::{
    __m256i, __m512i, _mm256_mask_blend_epi32, _mm512_add_epi64, _mm512_and_si512,
    _mm512_cmpgt_epu16_mask, _mm512_cvtepu32_epi64, _mm512_loadu_si512, _mm512_mask_add_epi64,
    _mm512_mask_or_epi64, _mm512_mask_storeu_epi64, _mm512_maskz_loadu_epi64, _mm512_mul_epu32,
    _mm512_permutex2var_epi64, _mm512_reduce_add_epi64, _mm512_set1_epi64, _mm512_setr_epi64,
    _mm512_setzero_si512, _mm512_slli_epi64, _mm512_srli_epi64, _mm512_storeu_si512,
    _mm512_sub_epi16, _mm512_ternarylogic_epi64, _mm512_test_epi64_mask,
};
use std::sync::atomic::{Ordering, compiler_fence};

use super::vector::bits;
use super::{Plain, Taken, ends, portable};
use crate::SendError;
use crate::batch::Batch;
use crate::desc::{Descriptor, rx, tx};
use crate::lines::{window, window_mut};
use crate::pool::Addresses;
use crate::rx::RxRing;
use crate::tx::TxRing;

/// A whole receive call.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
pub(super) fn receive(rx: &mut RxRing, batch: &mut Batch, most: usize) -> usize {
    rx.receive_with(batch, most, |rx, batch, limit| take(rx, batch, limit))
}

/// A whole send call.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
pub(super) fn send(tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
    tx.send_with(batch, |tx, batch, entry, limit| {
        put(tx, batch, entry, limit)
    })
}

/// Word 1 of each of eight descriptors in two vectors of words 0 and 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn second_words(low: __m512i, high: __m512i) -> __m512i {
    _mm512_permutex2var_epi64(low, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), high)
}

/// Eight words 0 and eight words 1 as two times four descriptors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn descriptors(first: __m512i, second: __m512i) -> [__m512i; 2] {
    let low = _mm512_setr_epi64(0, 8, 1, 9, 2, 10, 3, 11);
    let high = _mm512_setr_epi64(4, 12, 5, 13, 6, 14, 7, 15);
    [
        _mm512_permutex2var_epi64(first, low, second),
        _mm512_permutex2var_epi64(first, high, second),
    ]
}

/// Four descriptors, by one load.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn load(from: &[Descriptor; 4]) -> __m512i {
    // SAFETY: 64 readable bytes. They may change under the load, which is one instruction: the fence keeps the
    // compiler from ever doing it again, so that what was judged is what is used.
    let value = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
    compiler_fence(Ordering::Acquire);
    value
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn store(to: &[Descriptor; 4], value: __m512i) {
    // SAFETY: 64 bytes of atomics, which may be written through a shared reference. The doorbell orders the store
    // before the device's look.
    unsafe { _mm512_storeu_si512(to.as_ptr().cast_mut().cast(), value) };
}

/// The first `count` of eight descriptors; zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn load_some(from: &[Descriptor], count: usize) -> [__m512i; 2] {
    let [low, high] = words_of(count.min(from.len()));
    let first = from.as_ptr().cast();
    // SAFETY: the mask covers descriptors of the slice only, and what it leaves out is not accessed. As in `load`
    // otherwise.
    let a = unsafe { _mm512_maskz_loadu_epi64(low, first) };
    // SAFETY: as above.
    let b = unsafe { _mm512_maskz_loadu_epi64(high, first.wrapping_add(8)) };
    compiler_fence(Ordering::Acquire);
    [a, b]
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn store_some(to: &[Descriptor], count: usize, [a, b]: [__m512i; 2]) {
    let [low, high] = words_of(count.min(to.len()));
    let first = to.as_ptr().cast_mut().cast::<i64>();
    // SAFETY: as in `load_some` and `store`.
    unsafe { _mm512_mask_storeu_epi64(first, low, a) };
    // SAFETY: as in `load_some` and `store`.
    unsafe { _mm512_mask_storeu_epi64(first.wrapping_add(8), high, b) };
}

/// The words of the first `count` of eight descriptors, in two masks.
const fn words_of(count: usize) -> [u8; 2] {
    (((1u32 << (2 * count)) - 1) as u16).to_le_bytes()
}

/// [`Plain`], eight words 1 at a time, in 16-bit lanes: two of status, one of length, one of VLAN tag.
#[derive(Clone, Copy)]
struct Judge {
    mask: __m512i,
    base: __m512i,
    limit: __m512i,
}

impl Judge {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
    fn new(plain: Plain) -> Self {
        Self {
            mask: _mm512_set1_epi64(plain.mask.cast_signed()),
            base: _mm512_set1_epi64(plain.base.cast_signed()),
            limit: _mm512_set1_epi64(plain.lanes.cast_signed()),
        }
    }

    /// Lanes of `words` that are not those of a plain frame, four a descriptor, and the length in each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
    fn look(self, words: __m512i) -> (u32, __m512i) {
        let kept = _mm512_and_si512(words, self.mask);
        let over = _mm512_sub_epi16(kept, self.base);
        (
            _mm512_cmpgt_epu16_mask(over, self.limit),
            _mm512_srli_epi64::<32>(kept),
        )
    }
}

/// Whether any of the first `count` descriptors is in `odd`.
const fn any_odd(odd: u32, count: usize) -> bool {
    odd as u64 & ((1 << (4 * count)) - 1) != 0
}

/// Device addresses of eight buffers.
#[derive(Clone, Copy)]
struct Addresses8 {
    first: __m512i,
    stride: __m512i,
}

impl Addresses8 {
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
    fn new(addresses: Addresses) -> Self {
        Self {
            first: _mm512_set1_epi64(addresses.first.cast_signed()),
            stride: _mm512_set1_epi64(addresses.stride.into()),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
    fn of(self, index: __m256i) -> __m512i {
        let offset = _mm512_mul_epu32(_mm512_cvtepu32_epi64(index), self.stride);
        _mm512_add_epi64(offset, self.first)
    }
}

/// As the portable loop. What is left after the last whole group, and the first that is not all done, are taken by mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn take(ring: &mut RxRing, batch: &mut Batch, limit: usize) -> Taken {
    let next = ring.next;
    let descriptors = window(ring.ring.all(), next, limit);
    let groups = descriptors.as_chunks::<4>().0.as_chunks::<2>().0;
    let whole = groups.len();
    let slots = eights_mut(&mut ring.slots, next, limit);
    let fresh = eights(&batch.free, batch.head, limit);
    let index = eights_mut(&mut batch.index, batch.entries, limit);
    let words = eights_mut(&mut batch.words, batch.entries, limit);
    let judge = Judge::new(ring.plain);
    let addresses = Addresses8::new(ring.addresses);
    let header = _mm512_set1_epi64(ring.header.cast_signed());
    let mut bytes = _mm512_setzero_si512();

    let mut group = 0;
    while group < whole {
        let [front, back] = &groups[group];
        // ORDERING: pairs with the device's write of the last descriptor's DD; the seven before it were written
        // earlier, and x86 does not reorder loads.
        if back[3][1].load(Ordering::Acquire) & rx::DD == 0 {
            break;
        }
        let (a, b) = (load(front), load(back));
        let (odd, lengths) = judge.look(second_words(a, b));
        if odd != 0 {
            break;
        }
        words[group] = bits([a, b]);
        index[group] = slots[group];
        slots[group] = fresh[group];
        let [a, b] = self::descriptors(addresses.of(bits(fresh[group])), header);
        store(front, a);
        store(back, b);
        bytes = _mm512_add_epi64(bytes, lengths);
        group += 1;
    }
    if group * 8 == limit {
        return took(ring, batch, limit, bytes);
    }

    let rest = &descriptors[group * 8..];
    let mut count = rest.len().min(8);
    // ORDERING: as above.
    if rest[count - 1][1].load(Ordering::Acquire) & rx::DD == 0 {
        count = done(rest);
        if count == 0 {
            return took(ring, batch, group * 8, bytes);
        }
    }
    let [a, b] = load_some(rest, count);
    let (odd, lengths) = judge.look(second_words(a, b));
    if any_odd(odd, count) {
        let taken = took(ring, batch, group * 8, bytes);
        return taken + portable::take_rest(ring, batch, limit - taken.frames);
    }
    words[group] = bits([a, b]);
    index[group] = slots[group];
    let iova = addresses.of(bits(fresh[group]));
    let fresh = _mm256_mask_blend_epi32(lanes(count), bits(slots[group]), bits(fresh[group]));
    slots[group] = bits(fresh);
    store_some(rest, count, self::descriptors(iova, header));
    took(
        ring,
        batch,
        group * 8 + count,
        _mm512_add_epi64(bytes, lengths),
    )
}

/// How many of the first eight descriptors are done. What a load says here is only counted: those are loaded again.
#[cold]
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn done(descriptors: &[Descriptor]) -> usize {
    let [a, b] = load_some(descriptors, descriptors.len().min(8));
    let done = _mm512_test_epi64_mask(second_words(a, b), _mm512_set1_epi64(rx::DD as i64));
    done.trailing_ones() as usize
}

/// Moves on by so many frames, written into `batch` already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn took(ring: &mut RxRing, batch: &mut Batch, frames: usize, bytes: __m512i) -> Taken {
    ring.took(batch, frames);
    Taken {
        frames,
        bytes: _mm512_reduce_add_epi64(bytes).cast_unsigned(),
    }
}

/// The first `count` of eight lanes.
const fn lanes(count: usize) -> u8 {
    ((1u32 << count) - 1) as u8
}

/// As the portable loop. What is left after the last whole group is written by mask.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn put(ring: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> Taken {
    let next = ring.next;
    let descriptors = window(ring.ring.all(), next, limit);
    let groups = descriptors.as_chunks::<4>().0.as_chunks::<2>().0;
    let whole = groups.len();
    let slots = eights_mut(&mut ring.slots, next, limit);
    let index = eights(&batch.index, entry, limit);
    let words = eights(&batch.words, entry, limit);
    let judge = Judge::new(ring.plain);
    let addresses = Addresses8::new(ring.addresses);
    let command = _mm512_set1_epi64(ring.command.cast_signed());
    let report = _mm512_set1_epi64(tx::RS.cast_signed());
    let mut ends = ends(next);
    let mut bytes = _mm512_setzero_si512();

    let mut group = 0;
    while group < whole {
        let [front, back] = &groups[group];
        let [a, b]: [__m512i; 2] = bits(words[group]);
        let (odd, lengths) = judge.look(second_words(a, b));
        if odd != 0 {
            let taken = gave(ring, group * 8, bytes);
            return taken
                + portable::put_rest(ring, batch, entry + taken.frames, limit - taken.frames);
        }
        slots[group] = index[group];
        let iova = addresses.of(bits(index[group]));
        group += 1;
        // The last reports, too.
        let lanes = ends as u8 | u8::from(group * 8 == limit) << 7;
        ends = ends.rotate_right(8);
        let second = plain_words(command, lengths);
        let second = _mm512_mask_or_epi64(second, lanes, second, report);
        let [a, b] = self::descriptors(iova, second);
        store(front, a);
        store(back, b);
        bytes = _mm512_add_epi64(bytes, lengths);
    }
    if whole * 8 == limit {
        return gave(ring, limit, bytes);
    }

    let (rest, count) = (&descriptors[whole * 8..], limit % 8);
    let [a, b]: [__m512i; 2] = bits(words[whole]);
    let (odd, lengths) = judge.look(second_words(a, b));
    if any_odd(odd, count) {
        let taken = gave(ring, whole * 8, bytes);
        return taken + portable::put_rest(ring, batch, entry + taken.frames, limit - taken.frames);
    }
    let lanes = lanes(count);
    let all = bits(index[whole]);
    slots[whole] = bits(_mm256_mask_blend_epi32(lanes, bits(slots[whole]), all));
    let second = plain_words(command, lengths);
    let second = _mm512_mask_or_epi64(second, ends as u8 | lanes ^ lanes >> 1, second, report);
    store_some(rest, count, self::descriptors(addresses.of(all), second));
    let bytes = _mm512_mask_add_epi64(bytes, lanes, bytes, lengths);
    gave(ring, limit, bytes)
}

/// Moves on by so many frames, written already.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn gave(ring: &mut TxRing, frames: usize, bytes: __m512i) -> Taken {
    ring.next += frames;
    Taken {
        frames,
        bytes: _mm512_reduce_add_epi64(bytes).cast_unsigned(),
    }
}

/// Words 1 of plain frames of these lengths.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,bmi1,bmi2")]
fn plain_words(command: __m512i, lengths: __m512i) -> __m512i {
    const SHIFT: u32 = tx::PAYLEN_SHIFT;
    // The operation is x | y | z.
    _mm512_ternarylogic_epi64::<0xfe>(lengths, _mm512_slli_epi64::<SHIFT>(lengths), command)
}

/// So many elements of `slice` from `at` on, and a few more to make eights of them.
#[inline]
fn eights<T>(slice: &[T], at: usize, count: usize) -> &[[T; 8]] {
    window(slice, at, count.next_multiple_of(8)).as_chunks().0
}

/// As [`eights`], to be changed.
#[inline]
fn eights_mut<T>(slice: &mut [T], at: usize, count: usize) -> &mut [[T; 8]] {
    window_mut(slice, at, count.next_multiple_of(8))
        .as_chunks_mut()
        .0
}
