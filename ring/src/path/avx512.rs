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
use super::{FEW, Plain, Taken, portable};
use crate::batch::Batch;
use crate::desc::{Descriptor, rx, tx};
use crate::forward::{Fate, Pass, Passed, Stretch};
use crate::lines::{chunk, chunk_mut, window, window_mut};
use crate::pool::Addresses;
use crate::rx::RxRing;
use crate::tx::TxRing;
use crate::{FrameMut, SendError};

/// A whole receive call.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn receive(rx: &mut RxRing, batch: &mut Batch, most: usize) -> usize {
    rx.receive_with(batch, most, |rx, batch, limit| take(rx, batch, limit))
}

/// A whole send call.
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn send(tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
    tx.send_with(batch, |tx, batch, entry, limit| {
        put(tx, batch, entry, limit)
    })
}

/// A whole forward call.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
pub(super) fn forward<F: FnMut(&mut FrameMut<'_>) -> Fate>(
    rx: &mut RxRing,
    tx: &mut TxRing,
    batch: &mut Batch,
    decide: &mut F,
) -> Passed {
    Pass::run(rx, tx, batch, decide, |stretch, decide: &mut F| {
        pass(stretch, decide)
    })
}

/// Passes a stretch on, eight frames at a time. Whether it came to its end.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn pass<F: FnMut(&mut FrameMut<'_>) -> Fate>(stretch: &mut Stretch<'_>, decide: &mut F) -> bool {
    while let Some(kept) = groups(stretch, decide) {
        if !stretch.sort_out(8, kept) {
            return false;
        }
    }
    stretch.step_rest(decide)
}

/// Passes on groups of eight up to one of which some are dropped or not plain any more, which is staged; a bit for each
/// of it that is kept. None when there are no eight plain frames any more.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn groups<F: FnMut(&mut FrameMut<'_>) -> Fate>(
    stretch: &mut Stretch<'_>,
    decide: &mut F,
) -> Option<u32> {
    let (incoming, outgoing) = (Judge::new(stretch.incoming), Judge::new(stretch.outgoing));
    let addresses = Addresses8::new(stretch.addresses);
    let header = _mm512_set1_epi64(stretch.header.cast_signed());
    let command = _mm512_set1_epi64(stretch.command.cast_signed());
    let report = _mm512_set1_epi64(tx::RS.cast_signed());
    let (from, to, fresh, reports) = (stretch.from, stretch.to, stretch.fresh, stretch.reports);
    let (from_slots, to_slots) = (&mut *stretch.from_slots, &mut *stretch.to_slots);
    let (mut stage, progress) = (stretch.stage.reborrow(), &mut *stretch.progress);
    // What is kept here is only ever written to `progress`, for the case that `decide` panics.
    let (mut received, mut sent) = (progress.received, progress.sent);
    let (mut bytes_in, mut bytes_out) = (bits(progress.bytes_in), bits(progress.bytes_out));
    loop {
        let [front, back] = eight(from, received)?;
        let slots = chunk_mut::<_, 8>(from_slots, received)?;
        let [to_front, to_back] = eight(to, sent)?;
        let to_slots = chunk_mut::<_, 8>(to_slots, sent)?;
        let fresh = chunk::<_, 8>(fresh, sent)?;
        // ORDERING: as in `take`.
        if back[3][1].load(Ordering::Acquire) & rx::DD == 0 {
            return None;
        }
        let (a, b) = (load(front), load(back));
        let (odd, lengths) = incoming.look(second_words(a, b));
        if odd != 0 {
            return None;
        }
        *stage.words = bits([a, b]);
        *stage.index = *slots;
        let kept = stage.show::<8>(decide);
        bytes_in = _mm512_add_epi64(bytes_in, lengths);
        progress.bytes_in = bits(bytes_in);
        let [a, b]: [__m512i; 2] = bits(*stage.words);
        let (odd, lengths) = outgoing.look(second_words(a, b));
        if kept != 0xff || odd != 0 {
            return Some(kept);
        }
        let index = bits(*slots);
        let [a, b] = descriptors(addresses.of(bits(*fresh)), header);
        store(front, a);
        store(back, b);
        *slots = *fresh;
        let words = plain_words(command, lengths);
        let lane = (1u64 << reports.after(sent)) as u8;
        let words = _mm512_mask_or_epi64(words, lane, words, report);
        let [a, b] = descriptors(addresses.of(index), words);
        store(to_front, a);
        store(to_back, b);
        *to_slots = bits(index);
        bytes_out = _mm512_add_epi64(bytes_out, lengths);
        received += 8;
        sent += 8;
        progress.bytes_out = bits(bytes_out);
        (progress.received, progress.sent) = (received, sent);
        progress.last = stage.words[7][1];
    }
}

/// Eight descriptors from `at` on, in two lines' worth.
#[inline(always)]
fn eight(all: &[Descriptor], at: usize) -> Option<&[[Descriptor; 4]; 2]> {
    all.get(at..)?.as_chunks::<4>().0.first_chunk()
}

/// Word 1 of each of eight descriptors in two vectors of words 0 and 1.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn second_words(low: __m512i, high: __m512i) -> __m512i {
    _mm512_permutex2var_epi64(low, _mm512_setr_epi64(1, 3, 5, 7, 9, 11, 13, 15), high)
}

/// Eight words 0 and eight words 1 as two times four descriptors.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn load(from: &[Descriptor; 4]) -> __m512i {
    // SAFETY: 64 readable bytes. They may change under the load, which is one instruction: the fence keeps the
    // compiler from ever doing it again, so that what was judged is what is used.
    let value = unsafe { _mm512_loadu_si512(from.as_ptr().cast()) };
    compiler_fence(Ordering::Acquire);
    value
}

#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn store(to: &[Descriptor; 4], value: __m512i) {
    // SAFETY: 64 bytes of atomics, which may be written through a shared reference. The doorbell orders the store
    // before the device's look.
    unsafe { _mm512_storeu_si512(to.as_ptr().cast_mut().cast(), value) };
}

/// The first `count` of eight descriptors; zeros for the others.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
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
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn new(plain: Plain) -> Self {
        Self {
            mask: _mm512_set1_epi64(plain.mask.cast_signed()),
            base: _mm512_set1_epi64(plain.base.cast_signed()),
            limit: _mm512_set1_epi64((0xffff << 48 | plain.spread << 32).cast_signed()),
        }
    }

    /// Lanes of `words` that are not those of a plain frame, four a descriptor, and the length in each.
    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
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
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn new(addresses: Addresses) -> Self {
        Self {
            first: _mm512_set1_epi64(addresses.first.cast_signed()),
            stride: _mm512_set1_epi64(addresses.stride.into()),
        }
    }

    #[inline]
    #[target_feature(enable = "avx512f,avx512bw,avx512vl")]
    fn of(self, index: __m256i) -> __m512i {
        let offset = _mm512_mul_epu32(_mm512_cvtepu32_epi64(index), self.stride);
        _mm512_add_epi64(offset, self.first)
    }
}

/// As the portable loop.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn take(ring: &mut RxRing, batch: &mut Batch, limit: usize) -> Taken {
    let whole = limit & !7;
    let next = ring.next;
    let descriptors = window(ring.ring.all(), next, whole);
    let slots = window_mut(&mut ring.slots, next, whole);
    let fresh = window(&batch.free, batch.head, whole);
    let index = window_mut(&mut batch.index, batch.entries, whole);
    let words = window_mut(&mut batch.words, batch.entries, whole);
    let judge = Judge::new(ring.plain);
    let addresses = Addresses8::new(ring.addresses);
    let header = _mm512_set1_epi64(ring.header.cast_signed());
    let mut bytes = _mm512_setzero_si512();

    let descriptors = descriptors.as_chunks::<4>().0.as_chunks::<2>().0;
    let groups = descriptors.len();
    let slots = &mut slots.as_chunks_mut::<8>().0[..groups];
    let fresh = &fresh.as_chunks::<8>().0[..groups];
    let index = &mut index.as_chunks_mut::<8>().0[..groups];
    let words = &mut words.as_chunks_mut::<4>().0.as_chunks_mut::<2>().0[..groups];
    let mut group = 0;
    while group < groups {
        let [front, back] = &descriptors[group];
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
        words[group] = [bits(a), bits(b)];
        index[group] = slots[group];
        slots[group] = fresh[group];
        let [a, b] = self::descriptors(addresses.of(bits(fresh[group])), header);
        store(front, a);
        store(back, b);
        bytes = _mm512_add_epi64(bytes, lengths);
        group += 1;
    }
    let frames = group * 8;
    ring.took(batch, frames);
    let taken = Taken {
        frames,
        bytes: _mm512_reduce_add_epi64(bytes).cast_unsigned(),
    };
    if frames == limit {
        return taken;
    }
    taken + take_rest(ring, batch, limit - frames)
}

/// What is left after the last full group: up to seven by mask where it is worth it, or one by one up to the first
/// that is not plain.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn take_rest(ring: &mut RxRing, batch: &mut Batch, limit: usize) -> Taken {
    let next = ring.next;
    let Some(descriptors) = ring.ring.all().get(next..next + limit.min(8)) else {
        return Taken::default();
    };
    // How many are done …
    let [a, b] = load_some(descriptors, limit.min(8));
    let done = _mm512_test_epi64_mask(second_words(a, b), _mm512_set1_epi64(rx::DD as i64));
    let count = done.trailing_ones() as usize;
    if count < FEW {
        return portable::take(ring, batch, limit.min(FEW));
    }
    // … and those again, now that they are known to be.
    let [a, b] = load_some(descriptors, count);
    let (odd, lengths) = Judge::new(ring.plain).look(second_words(a, b));
    if any_odd(odd, count) {
        return portable::take(ring, batch, limit);
    }
    let Some(slots) = ring
        .slots
        .get_mut(next..)
        .and_then(<[_]>::first_chunk_mut::<8>)
    else {
        return Taken::default();
    };
    let Some(fresh) = batch
        .free
        .get(batch.head..)
        .and_then(<[_]>::first_chunk::<8>)
    else {
        return Taken::default();
    };
    let Some(index) = batch
        .index
        .get_mut(batch.entries..)
        .and_then(<[_]>::first_chunk_mut::<8>)
    else {
        return Taken::default();
    };
    let Some(words) = batch
        .words
        .get_mut(batch.entries..)
        .and_then(<[_]>::first_chunk_mut::<8>)
    else {
        return Taken::default();
    };
    *words = bits([a, b]);
    *index = *slots;
    let fresh: __m256i = bits(*fresh);
    let lanes = ((1u32 << count) - 1) as u8;
    *slots = bits(_mm256_mask_blend_epi32(lanes, bits(*slots), fresh));
    let iova = Addresses8::new(ring.addresses).of(fresh);
    store_some(
        descriptors,
        count,
        self::descriptors(iova, _mm512_setzero_si512()),
    );
    ring.took(batch, count);
    Taken {
        frames: count,
        bytes: _mm512_reduce_add_epi64(lengths).cast_unsigned(),
    }
}

/// As the portable loop.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn put(ring: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> Taken {
    let whole = limit & !7;
    let next = ring.next;
    let descriptors = window(ring.ring.all(), next, whole);
    let slots = window_mut(&mut ring.slots, next, whole);
    let index = window(&batch.index, entry, whole);
    let words = window(&batch.words, entry, whole);
    let judge = Judge::new(ring.plain);
    let addresses = Addresses8::new(ring.addresses);
    let command = _mm512_set1_epi64(ring.command.cast_signed());
    let mut bytes = _mm512_setzero_si512();

    let descriptors = descriptors.as_chunks::<4>().0.as_chunks::<2>().0;
    let groups = descriptors.len();
    let slots = &mut slots.as_chunks_mut::<8>().0[..groups];
    let index = &index.as_chunks::<8>().0[..groups];
    let words = &words.as_chunks::<4>().0.as_chunks::<2>().0[..groups];
    let mut group = 0;
    while group < groups {
        let [front, back] = &descriptors[group];
        let [a, b] = words[group];
        let (odd, lengths) = judge.look(second_words(bits(a), bits(b)));
        if odd != 0 {
            break;
        }
        slots[group] = index[group];
        let iova = addresses.of(bits(index[group]));
        let [a, b] = self::descriptors(iova, plain_words(command, lengths));
        store(front, a);
        store(back, b);
        bytes = _mm512_add_epi64(bytes, lengths);
        group += 1;
    }
    let frames = group * 8;
    ring.next += frames;
    let taken = Taken {
        frames,
        bytes: _mm512_reduce_add_epi64(bytes).cast_unsigned(),
    };
    if frames == limit {
        return taken;
    }
    taken + put_rest(ring, batch, entry + frames, limit - frames)
}

/// Words 1 of plain frames of these lengths.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn plain_words(command: __m512i, lengths: __m512i) -> __m512i {
    const SHIFT: u32 = tx::PAYLEN_SHIFT;
    // The operation is x | y | z.
    _mm512_ternarylogic_epi64::<0xfe>(lengths, _mm512_slli_epi64::<SHIFT>(lengths), command)
}

/// What is left after the last full group.
#[inline(never)]
#[target_feature(enable = "avx512f,avx512bw,avx512vl")]
fn put_rest(ring: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> Taken {
    let next = ring.next;
    if !(FEW..8).contains(&limit) {
        return portable::put(ring, batch, entry, limit);
    }
    let descriptors = window(ring.ring.all(), next, limit);
    let Some(slots) = ring
        .slots
        .get_mut(next..)
        .and_then(<[_]>::first_chunk_mut::<8>)
    else {
        return Taken::default();
    };
    let Some(index) = batch.index.get(entry..).and_then(<[_]>::first_chunk::<8>) else {
        return Taken::default();
    };
    let Some(words) = batch.words.get(entry..).and_then(<[_]>::first_chunk::<8>) else {
        return Taken::default();
    };
    let [a, b]: [__m512i; 2] = bits(*words);
    let (odd, lengths) = Judge::new(ring.plain).look(second_words(a, b));
    if any_odd(odd, limit) {
        return portable::put(ring, batch, entry, limit);
    }
    let lanes = ((1u32 << limit) - 1) as u8;
    let index: __m256i = bits(*index);
    *slots = bits(_mm256_mask_blend_epi32(lanes, bits(*slots), index));
    let iova = Addresses8::new(ring.addresses).of(index);
    let command = _mm512_set1_epi64(ring.command.cast_signed());
    store_some(
        descriptors,
        limit,
        self::descriptors(iova, plain_words(command, lengths)),
    );
    let zero = _mm512_setzero_si512();
    let lengths = _mm512_mask_add_epi64(zero, lanes, zero, lengths);
    ring.next += limit;
    Taken {
        frames: limit,
        bytes: _mm512_reduce_add_epi64(lengths).cast_unsigned(),
    }
}
