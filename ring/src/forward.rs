//! Forwarding in one call: completions of one ring become descriptors of another, and the application sees each frame
//! in between.
//!
//! The frames pass through the batch, a burst at a time: descriptors are read and written a vector at a time, which a
//! closure between two groups of them only holds up (a wide load of a field that was just stored narrowly waits for
//! the store). So whatever the closure does, a panic included, every buffer is in one place.

use crate::batch::Batch;
use crate::frame::FrameMut;
use crate::rx::RxRing;
use crate::tx::TxRing;
use crate::{PoolMismatch, SendError};

/// What becomes of a frame that is being forwarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It is sent, as it now is.
    Send,
    /// It is dropped.
    Drop,
}

/// Receives as many frames as `batch` holds, and sends those that `decide` lets through: the same frames, in the same
/// order, as [`RxRing::receive`], [`Batch::retain_mut`] and [`TxRing::send`] one after the other, with less around
/// them. `decide` may change the frame. Returns the frames received.
///
/// What the transmit ring has no room for stays in the batch, and goes first at the next call; until it has gone nothing
/// more is received. So an empty batch goes in and, in an undisturbed run, comes out.
///
/// If `decide` panics, the frames received are in the batch, but for those it had dropped; the next call sends them
/// without asking again.
///
/// # Errors
///
/// [`SendError::Pool`] before anything is received; the others as [`TxRing::send`], with the frame in question at the
/// front of the batch: drop it or change it, and call again.
#[inline]
pub fn forward(
    rx: &mut RxRing,
    tx: &mut TxRing,
    batch: &mut Batch,
    mut decide: impl FnMut(&mut FrameMut<'_>) -> Fate,
) -> Result<usize, SendError> {
    if !batch.pool().is(rx.pool()) || !batch.pool().is(tx.pool()) {
        return Err(PoolMismatch.into());
    }
    if !batch.is_empty() {
        tx.send(batch)?;
        if !batch.is_empty() {
            return Ok(0);
        }
    }
    let received = rx.receive(batch)?;
    if received == 0 {
        return Ok(0);
    }
    batch.retain_received(|frame| decide(frame) == Fate::Send);
    tx.send(batch)?;
    Ok(received)
}
