//! The loops in plain Rust, one descriptor a step.

use std::sync::atomic::Ordering;

use super::Taken;
use crate::SendError;
use crate::batch::Batch;
use crate::desc::{completion, rx, tx};
use crate::lines::{window, window_mut};
use crate::rx::RxRing;
use crate::tx::TxRing;

/// A whole receive call.
pub(crate) fn receive(rx: &mut RxRing, batch: &mut Batch, most: usize) -> usize {
    rx.receive_with(batch, most, take)
}

/// A whole send call.
pub(crate) fn send(tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
    tx.send_with(batch, put)
}

/// Takes up to `limit` plain frames, until one is not plain (not done, above all), refilling as it goes.
///
/// As everywhere here: no more than the ring has up to its end, the batch has room for, and free buffers for.
#[inline]
pub(crate) fn take(rx: &mut RxRing, batch: &mut Batch, limit: usize) -> Taken {
    let mut taken = Taken::default();
    // Copies, because nothing is carried in registers past an acquire.
    let (next, plain, addresses) = (rx.next, rx.plain, rx.addresses);
    let descriptors = window(rx.ring.all(), next, limit);
    let slots = window_mut(&mut rx.slots, next, limit);
    let fresh = window(&batch.free, batch.head, limit);
    let index = window_mut(&mut batch.index, batch.entries, limit);
    let words = window_mut(&mut batch.words, batch.entries, limit);
    let places = index.iter_mut().zip(words);
    let slots = slots.iter_mut().zip(fresh);
    for ((descriptor, (slot, fresh)), (index, words)) in descriptors.iter().zip(slots).zip(places) {
        let word1 = completion(&descriptor[1]);
        if !plain.is(word1) {
            break;
        }
        let word0 = u64::from_le(descriptor[0].load(Ordering::Relaxed));
        *words = [word0, word1];
        *index = *slot;
        *slot = *fresh;
        descriptor[0].store(addresses.of(*fresh).to_le(), Ordering::Relaxed);
        descriptor[1].store(0, Ordering::Relaxed);
        taken.bytes += word1 >> rx::LEN_SHIFT & 0xffff;
        taken.frames += 1;
    }
    rx.took(batch, taken.frames);
    taken
}

/// [`take`], out of the way of a vector loop, which met a frame that is not plain.
#[cold]
#[inline(never)]
pub(crate) fn take_rest(rx: &mut RxRing, batch: &mut Batch, limit: usize) -> Taken {
    take(rx, batch, limit)
}

/// [`put`], out of the way of a vector loop, which met a frame that is not plain.
#[cold]
#[inline(never)]
pub(crate) fn put_rest(tx: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> Taken {
    put(tx, batch, entry, limit)
}

/// Takes one plain frame, if that is what comes next; returns its length.
#[inline(always)]
pub(crate) fn take_one(rx: &mut RxRing, batch: &mut Batch) -> Option<u64> {
    let (next, entry, plain, addresses) = (rx.next, batch.entries, rx.plain, rx.addresses);
    let descriptor = rx.ring.all().get(next)?;
    let slot = rx.slots.get_mut(next)?;
    let fresh = *batch.free.get(batch.head)?;
    let index = batch.index.get_mut(entry)?;
    let words = batch.words.get_mut(entry)?;
    let word1 = completion(&descriptor[1]);
    if !plain.is(word1) {
        return None;
    }
    *words = [u64::from_le(descriptor[0].load(Ordering::Relaxed)), word1];
    *index = *slot;
    *slot = fresh;
    descriptor[0].store(addresses.of(fresh).to_le(), Ordering::Relaxed);
    descriptor[1].store(0, Ordering::Relaxed);
    rx.took(batch, 1);
    Some(word1 >> rx::LEN_SHIFT & 0xffff)
}

/// Writes the batch's first entry, if that is a plain frame, and asks for a report; returns its length.
#[inline(always)]
pub(crate) fn put_one(tx: &mut TxRing, batch: &Batch) -> Option<u64> {
    let [_, word1] = *batch.words.first()?;
    let index = *batch.index.first()?;
    let descriptor = tx.ring.all().get(tx.next)?;
    if !tx.plain.is(word1) {
        return None;
    }
    *tx.slots.get_mut(tx.next)? = index;
    let len = word1 >> rx::LEN_SHIFT & 0xffff;
    let word1 = tx.command | tx::RS | len | len << tx::PAYLEN_SHIFT;
    descriptor[0].store(tx.addresses.of(index).to_le(), Ordering::Relaxed);
    descriptor[1].store(word1.to_le(), Ordering::Relaxed);
    tx.next += 1;
    Some(len)
}

/// Writes up to `limit` plain frames from `entry` on, until one is not plain. The ends of blocks report, and so does
/// the last, if it comes to that.
#[inline]
pub(crate) fn put(tx: &mut TxRing, batch: &Batch, entry: usize, limit: usize) -> Taken {
    let mut taken = Taken::default();
    let (next, plain, command, addresses) = (tx.next, tx.plain, tx.command, tx.addresses);
    let descriptors = window(tx.ring.all(), next, limit);
    let slots = window_mut(&mut tx.slots, next, limit);
    let index = window(&batch.index, entry, limit);
    let words = window(&batch.words, entry, limit);
    let entries = index.iter().zip(words);
    for ((descriptor, slot), (index, [_, word1])) in descriptors.iter().zip(slots).zip(entries) {
        if !plain.is(*word1) {
            break;
        }
        let len = word1 >> rx::LEN_SHIFT & 0xffff;
        *slot = *index;
        let word1 = command | len | len << tx::PAYLEN_SHIFT;
        descriptor[0].store(addresses.of(*index).to_le(), Ordering::Relaxed);
        descriptor[1].store(word1.to_le(), Ordering::Relaxed);
        taken.bytes += len;
        taken.frames += 1;
    }
    tx.next += taken.frames;
    tx.ask_ends(next, words, taken.frames == limit);
    taken
}
