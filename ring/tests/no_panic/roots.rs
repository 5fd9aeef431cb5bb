//! The calls an application makes, as functions of their own.

use std::hint::black_box;

use vfnic_ring::{Batch, Fate, FrameError, PoolMismatch, RxRing, SendError, TxRing};

#[inline(never)]
fn receive(rx: &mut RxRing, batch: &mut Batch) -> Result<usize, PoolMismatch> {
    rx.receive(batch)
}

#[inline(never)]
fn receive_up_to(rx: &mut RxRing, batch: &mut Batch, most: usize) -> Result<usize, PoolMismatch> {
    rx.receive_up_to(batch, most)
}

#[inline(never)]
fn has_work(rx: &RxRing) -> bool {
    rx.has_work()
}

#[inline(never)]
fn send(tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
    tx.send(batch)
}

#[inline(never)]
fn reclaim(tx: &mut TxRing, batch: &mut Batch) -> usize {
    tx.reclaim(batch)
}

#[inline(never)]
fn forward(rx: &mut RxRing, tx: &mut TxRing, batch: &mut Batch) -> Result<usize, SendError> {
    vfnic_ring::forward(rx, tx, batch, |frame| {
        if frame.len() % 7 == 0 {
            return Fate::Drop;
        }
        if let Some(first) = frame.data_mut().first_mut() {
            *first = 2;
        }
        Fate::Send
    })
}

#[inline(never)]
fn alloc(batch: &mut Batch, len: usize) -> Result<usize, FrameError> {
    batch.alloc(len).map(|mut frame| frame.data_mut().len())
}

#[inline(never)]
fn frames(batch: &Batch) -> usize {
    batch.frames().map(|frame| frame.data().len()).sum()
}

#[inline(never)]
fn frames_mut(batch: &mut Batch) {
    for mut frame in batch.frames_mut() {
        frame.data_mut().fill(1);
    }
}

#[inline(never)]
fn retain(batch: &mut Batch) {
    batch.retain_mut(|frame| frame.data().first() == Some(&2));
}

#[inline(never)]
fn clear(batch: &mut Batch) {
    batch.clear();
}

/// What the search has to find.
#[inline(never)]
fn index(list: &[u32], at: usize) -> u32 {
    list[at]
}

/// The same, one call away and behind a loop.
#[inline(never)]
fn far(list: &[Option<u32>]) -> u32 {
    list.iter().map(|each| near(*each)).sum()
}

#[inline(never)]
#[expect(clippy::unwrap_used, reason = "to be found")]
fn near(each: Option<u32>) -> u32 {
    each.unwrap().wrapping_mul(3)
}

/// The same, behind a jump table.
#[inline(never)]
fn table(list: &[u32], which: u8, at: usize) -> u32 {
    match which {
        0 => black_box(1),
        1 => black_box(77) + 3,
        2 => black_box(2) * 5,
        3 => black_box(3) / 7,
        4 => black_box(9) ^ 1,
        5 => list[at] + 1,
        _ => 0,
    }
}

/// The same twice, which has the compiler take the panic's address.
#[inline(never)]
#[expect(clippy::unwrap_used, reason = "to be found")]
fn twice(one: &std::cell::Cell<Option<u32>>, other: &std::cell::Cell<Option<u32>>) -> u32 {
    let mut sum = 0u32;
    for _ in 0..black_box(3) {
        sum = sum.wrapping_add(one.take().unwrap());
        one.set(Some(sum));
        sum = sum.wrapping_add(other.take().unwrap());
        other.set(Some(sum));
    }
    sum
}

/// Has the compiler keep them all.
pub(crate) fn keep() {
    black_box(receive as fn(_, _) -> _);
    black_box(receive_up_to as fn(_, _, _) -> _);
    black_box(has_work as fn(_) -> _);
    black_box(send as fn(_, _) -> _);
    black_box(reclaim as fn(_, _) -> _);
    black_box(forward as fn(_, _, _) -> _);
    black_box(alloc as fn(_, _) -> _);
    black_box(frames as fn(_) -> _);
    black_box(frames_mut as fn(_));
    black_box(retain as fn(_));
    black_box(clear as fn(_));
    black_box(index as fn(_, _) -> _);
    black_box(far as fn(_) -> _);
    black_box(table as fn(_, _, _) -> _);
    black_box(twice as fn(_, _) -> _);
}
