//! Forwarding in one pass: completions of one ring become descriptors of another, a group of frames at a time, and the
//! application sees each frame in between.
//!
//! A group is copied into the batch's first entries, shown to the application there, and only then taken off the
//! receive ring and written to the transmit ring; so whatever the application's closure does, a panic included, every
//! buffer is in one place. Tails and counters are written once a call, by [`Pass`]'s drop.

use std::cell::Cell;
use std::sync::atomic::Ordering;

use crate::batch::Batch;
use crate::desc::{Descriptor, Dialect, rx, tx};
use crate::frame::{FrameMut, Side};
use crate::lines::{window, window_mut};
use crate::path::{self, Plain, Taken};
use crate::pool::{Addresses, View};
use crate::rx::RxRing;
use crate::tx::{REPORT, TxRing};
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
/// order, as [`RxRing::receive`], [`Batch::retain_mut`] and [`TxRing::send`] one after the other, in one pass over both
/// rings. `decide` may change the frame. Returns the frames received.
///
/// What the transmit ring has no room for stays in the batch, and goes first at the next call; until it has gone nothing
/// more is received. So an empty batch goes in and, in an undisturbed run, comes out.
///
/// If `decide` panics, the frames it has passed on are sent and the one it panicked at is still in the receive ring,
/// with up to seven before it that will be shown again.
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
    let passed = path::forward(rx, tx, batch, &mut decide);
    if !passed.more {
        return Ok(passed.received);
    }
    let most = batch.capacity() - passed.received;
    let rest = slowly(rx, tx, batch, most, &mut decide)?;
    Ok(passed.received + rest)
}

/// What is out of the ordinary, by the three calls. The batch may hold frames that `decide` has seen already.
#[cold]
#[inline(never)]
fn slowly(
    rx: &mut RxRing,
    tx: &mut TxRing,
    batch: &mut Batch,
    most: usize,
    decide: &mut impl FnMut(&mut FrameMut<'_>) -> Fate,
) -> Result<usize, SendError> {
    let mut seen = batch.len();
    let received = rx.receive_up_to(batch, most)?;
    batch.retain_mut(|frame| {
        let is_new = seen == 0;
        seen = seen.saturating_sub(1);
        !is_new || decide(frame) == Fate::Send
    });
    tx.send(batch)?;
    Ok(received)
}

/// What came of a pass.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Passed {
    pub(crate) received: usize,
    /// There may be more that has to be looked at closely, or there is something in the batch.
    pub(crate) more: bool,
}

/// Most frames shown to the application before they are passed on.
pub(crate) const STAGE: usize = 8;

/// How far a pass has come.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Progress {
    /// Frames of this stretch taken from their ring.
    pub(crate) received: usize,
    /// Frames of this stretch written to theirs.
    pub(crate) sent: usize,
    /// Bytes received and sent in the whole pass, in lanes to be summed up.
    pub(crate) bytes_in: Lanes,
    pub(crate) bytes_out: Lanes,
    /// Word 1 of the entry sent last.
    pub(crate) last: u64,
    /// Where the stretch ended at a staged frame that is to be sent and not plain any more.
    special: Option<Special>,
}

/// Sums that groups of frames are added to, a lane each.
pub(crate) type Lanes = [u64; STAGE];

/// Staged frames from `first` to `count`, of which those in `kept` are to be sent, and the first needs a closer look.
#[derive(Clone, Copy, Debug)]
struct Special {
    first: usize,
    count: usize,
    kept: u32,
}

/// A stretch of both rings that does not wrap, with everything that a loop over it needs, cut to one length: nothing
/// is looked up or checked twice.
///
/// Frame `received` of it is the next to come, and `sent` says where the next to go is written and which fresh buffer
/// replaces it. A dropped frame's buffer stays where it is.
pub(crate) struct Stretch<'a> {
    pub(crate) from: &'a [Descriptor],
    pub(crate) from_slots: &'a mut [u32],
    pub(crate) fresh: &'a [u32],
    pub(crate) to: &'a [Descriptor],
    pub(crate) to_slots: &'a mut [u32],
    pub(crate) addresses: Addresses,
    pub(crate) incoming: Plain,
    pub(crate) outgoing: Plain,
    pub(crate) command: u64,
    pub(crate) header: u64,
    pub(crate) reports: Reports,
    pub(crate) stage: Stage<'a>,
    pub(crate) progress: &'a mut Progress,
}

/// Which descriptors of a stretch are to report.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reports {
    /// Slot of the first descriptor of the stretch.
    first: usize,
    /// Last slot of the ring.
    end: usize,
}

impl Reports {
    /// How many descriptors after number `sent` of the stretch the next one is that ends a block.
    #[inline(always)]
    pub(crate) fn after(self, sent: usize) -> usize {
        let slot = self.first + sent;
        (slot | (REPORT - 1)).min(self.end) - slot
    }
}

/// The entries that frames are in while the application looks at them.
pub(crate) struct Stage<'a> {
    memory: View<'a>,
    dialect: Dialect,
    pub(crate) index: &'a mut [u32; STAGE],
    pub(crate) words: &'a mut [[u64; 2]; STAGE],
    side: &'a mut [Side; STAGE],
}

impl Stage<'_> {
    #[inline(always)]
    pub(crate) const fn reborrow(&mut self) -> Stage<'_> {
        Stage {
            memory: self.memory,
            dialect: self.dialect,
            index: self.index,
            words: self.words,
            side: self.side,
        }
    }

    /// Shows the first `COUNT` frames, all plain, to the application. A bit for each that it keeps.
    #[inline(always)]
    pub(crate) fn show<const COUNT: usize>(
        &mut self,
        decide: &mut impl FnMut(&mut FrameMut<'_>) -> Fate,
    ) -> u32 {
        let words = Cell::from_mut(&mut self.words[..]).as_slice_of_cells();
        let side = Cell::from_mut(&mut self.side[..]).as_slice_of_cells();
        let index = &self.index[..];
        let mut kept = 0;
        for at in 0..COUNT {
            let mut frame = FrameMut::plain(self.memory, self.dialect, index, words, side, at);
            kept |= u32::from(decide(&mut frame) == Fate::Send) << at;
        }
        kept
    }
}

/// Word 1 of the descriptor of a plain frame with this word 1 of an entry.
#[inline(always)]
pub(crate) const fn plain_word(command: u64, word1: u64) -> u64 {
    let len = word1 >> rx::LEN_SHIFT & 0xffff;
    command | len | len << tx::PAYLEN_SHIFT
}

impl Stretch<'_> {
    /// Passes on what is left of the stretch, one by one, until a frame is not plain. Whether it came to the end.
    #[inline(always)]
    pub(crate) fn step_rest(&mut self, decide: &mut impl FnMut(&mut FrameMut<'_>) -> Fate) -> bool {
        let from = self.from;
        while let Some(descriptor) = from.get(self.progress.received) {
            // ORDERING: pairs with the device's write of the word that holds DD, the last of a completion.
            let word1 = u64::from_le(descriptor[1].load(Ordering::Acquire));
            if !self.incoming.is(word1) {
                return false;
            }
            self.stage.words[0] = [u64::from_le(descriptor[0].load(Ordering::Relaxed)), word1];
            self.stage.index[0] = self.from_slots[self.progress.received];
            let kept = self.stage.show::<1>(decide);
            self.progress.bytes_in[0] += word1 >> rx::LEN_SHIFT & 0xffff;
            if !self.pass_on(0, kept == 1) {
                self.progress.special = Some(Special {
                    first: 0,
                    count: 1,
                    kept,
                });
                return false;
            }
        }
        true
    }

    /// Takes the staged frame `number` off its ring and sends or drops it. False, and nothing done, when it is to be
    /// sent and not plain.
    #[inline(always)]
    fn pass_on(&mut self, number: usize, keep: bool) -> bool {
        let (at, sent) = (self.progress.received, self.progress.sent);
        let [_, word1] = self.stage.words[number];
        let index = self.stage.index[number];
        if keep && !self.outgoing.is(word1) {
            return false;
        }
        let stays = if keep { self.fresh[sent] } else { index };
        self.from_slots[at] = stays;
        self.from[at][0].store(self.addresses.of(stays).to_le(), Ordering::Relaxed);
        self.from[at][1].store(0, Ordering::Relaxed);
        self.progress.received = at + 1;
        if keep {
            let report = match self.reports.after(sent) {
                0 => tx::RS,
                _ => 0,
            };
            self.progress.last = word1;
            self.progress.bytes_out[0] += word1 >> rx::LEN_SHIFT & 0xffff;
            let word1 = plain_word(self.command, word1);
            self.to[sent][0].store(self.addresses.of(index).to_le(), Ordering::Relaxed);
            self.to[sent][1].store((word1 | report).to_le(), Ordering::Relaxed);
            self.to_slots[sent] = index;
            self.progress.sent = sent + 1;
        }
        true
    }

    /// Passes on the `count` staged frames, of which some are dropped or not plain any more. Whether there was none of
    /// the latter.
    #[inline(never)]
    pub(crate) fn sort_out(&mut self, count: usize, kept: u32) -> bool {
        for first in 0..count {
            if !self.pass_on(first, kept >> first & 1 == 1) {
                self.progress.special = Some(Special { first, count, kept });
                return false;
            }
        }
        true
    }
}

/// A pass under way. Dropping it tells the card and the counters.
pub(crate) struct Pass<'a> {
    rx: &'a mut RxRing,
    tx: &'a mut TxRing,
    batch: &'a mut Batch,
    received: usize,
    sent: usize,
    progress: Progress,
}

impl Drop for Pass<'_> {
    #[inline(always)]
    fn drop(&mut self) {
        self.settle();
        self.rx.passed(Taken {
            frames: self.received,
            bytes: self.progress.bytes_in.iter().sum(),
        });
        let sent = Taken {
            frames: self.sent,
            bytes: self.progress.bytes_out.iter().sum(),
        };
        if sent.frames > 0 {
            let last = plain_word(self.tx.command, self.progress.last);
            self.tx.passed(sent, last);
        }
    }
}

impl<'a> Pass<'a> {
    /// A whole pass around the loop for a stretch; `batch` is empty. The loop says whether it came to its end.
    #[inline(always)]
    pub(crate) fn run<F: FnMut(&mut FrameMut<'_>) -> Fate>(
        rx: &'a mut RxRing,
        tx: &'a mut TxRing,
        batch: &'a mut Batch,
        decide: &mut F,
        each: impl Fn(&mut Stretch<'_>, &mut F) -> bool,
    ) -> Passed {
        let limit = rx.passable(batch);
        if limit == 0 || !tx.has_room(batch, limit) || batch.cached() < limit {
            return Passed {
                received: 0,
                more: true,
            };
        }
        let mut pass = Self {
            rx,
            tx,
            batch,
            received: 0,
            sent: 0,
            progress: Progress::default(),
        };
        let mut more = false;
        while pass.received < limit {
            let left = limit - pass.received;
            let straight = left.min(pass.rx.ahead()).min(pass.tx.ahead());
            let Some(mut stretch) = pass.stretch(straight) else {
                break;
            };
            let all = each(&mut stretch, decide);
            pass.settle();
            if !all {
                more = pass.take_special() || pass.rx.has_next();
                break;
            }
        }
        Passed {
            received: pass.received,
            more,
        }
    }

    #[inline(always)]
    fn stretch(&mut self, straight: usize) -> Option<Stretch<'_>> {
        let (rx, tx, batch) = (&mut *self.rx, &mut *self.tx, &mut *self.batch);
        let (from, to) = (rx.next, tx.next);
        Some(Stretch {
            from: window(rx.ring.all(), from, straight),
            from_slots: window_mut(&mut rx.slots, from, straight),
            fresh: window(&batch.free, batch.head, straight),
            to: window(tx.ring.all(), to, straight),
            to_slots: window_mut(&mut tx.slots, to, straight),
            addresses: rx.addresses,
            incoming: rx.plain,
            outgoing: tx.plain,
            command: tx.command,
            header: rx.header,
            reports: Reports {
                first: to,
                end: tx.ring.size() - 1,
            },
            stage: Stage {
                memory: batch.pool.0.view(),
                dialect: batch.dialect,
                index: batch.index.first_chunk_mut()?,
                words: batch.words.first_chunk_mut()?,
                side: batch.side.first_chunk_mut()?,
            },
            progress: &mut self.progress,
        })
    }

    /// Moves both rings on by what the stretch under way has done.
    #[inline(always)]
    fn settle(&mut self) {
        let progress = &mut self.progress;
        let received = std::mem::take(&mut progress.received);
        let sent = std::mem::take(&mut progress.sent);
        self.rx.skip(received);
        self.tx.skip(sent);
        self.batch.head += sent;
        self.received += received;
        self.sent += sent;
    }

    /// Takes what the stretch stopped at, if it was such a frame, and those shown with it into the batch. Whether there
    /// was one.
    #[cold]
    #[inline(never)]
    fn take_special(&mut self) -> bool {
        let Some(Special { first, count, kept }) = self.progress.special.take() else {
            return false;
        };
        for staged in first..count {
            if kept >> staged & 1 == 1 {
                let Some(fresh) = self.batch.fresh() else {
                    break;
                };
                self.rx.slots[self.rx.next] = fresh;
                self.batch.stay(staged);
            }
            self.rx.post(self.rx.next);
            self.rx.skip(1);
            self.received += 1;
        }
        true
    }
}

/// The pass with the portable loop.
#[inline]
pub(crate) fn portable(
    rx: &mut RxRing,
    tx: &mut TxRing,
    batch: &mut Batch,
    decide: &mut impl FnMut(&mut FrameMut<'_>) -> Fate,
) -> Passed {
    Pass::run(rx, tx, batch, decide, |stretch, decide| {
        stretch.step_rest(decide)
    })
}
