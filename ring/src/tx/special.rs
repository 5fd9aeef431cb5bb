//! Frames that take more than one plain descriptor: several buffers, offloads, a moved head, or too short to go as
//! they are.

use super::{NO_BUFFER, TINY, TxRing};
use crate::batch::Batch;
use crate::desc::{rx, tx};
use crate::frame::{MIN_FRAME, Side, run};
use crate::meta::seg_len;
use crate::{FrameError, SendError};

/// Most data descriptors of one frame (ixgbevf.md §10.2: 40 on chip; igbvf.md §9.1).
const MAX_SEGMENTS: usize = 38;
/// Most bytes the payload field can name.
const MAX_PAYLOAD: usize = (1 << 18) - 1;

/// What the card's two context slots hold.
#[derive(Default)]
pub(super) struct Contexts {
    held: [Option<(u64, u64)>; 2],
    /// Which slot to replace next, where both may be.
    victim: usize,
}

/// A frame written.
pub(super) struct Special {
    pub(super) entries: usize,
    pub(super) bytes: u64,
    /// Word 1 of its last descriptor.
    pub(super) word1: u64,
}

/// Why a frame cannot be sent, before it is known how many went before it.
pub(super) enum Refusal {
    TooLong { len: usize, max: usize },
    TooShort { len: usize, min: usize },
    TooManySegments(usize),
    Request(FrameError),
}

impl Refusal {
    pub(super) const fn after(self, sent: usize) -> SendError {
        match self {
            Self::TooLong { len, max } => SendError::TooLong { sent, len, max },
            Self::TooShort { len, min } => SendError::TooShort { sent, len, min },
            Self::Request(why) => SendError::Request { sent, why },
            Self::TooManySegments(segments) => SendError::TooManySegments {
                sent,
                segments,
                max: MAX_SEGMENTS,
            },
        }
    }
}

/// A frame that may be sent, looked at closely.
struct Checked {
    /// Its first buffer.
    index: u32,
    segments: usize,
    side: Side,
    /// Bytes from the first buffer's start to the data.
    head: usize,
    first: usize,
    total: usize,
    /// Zeros to append, because the card wants [`TINY`] bytes.
    pad: usize,
}

impl TxRing {
    /// Writes the frame that starts at `entry`, with a context before it where it needs another than the card has:
    /// all of it or nothing. None when there is no room.
    pub(super) fn put_special(
        &mut self,
        batch: &Batch,
        entry: usize,
    ) -> Result<Option<Special>, Refusal> {
        let frame = self.check(batch, entry)?;
        let offload = frame.side.offload;
        let wanted = offload != crate::TxOffload::NONE;
        let (number, missing) = if wanted {
            self.context_slot(offload.context())
        } else {
            (0, None)
        };
        let slots = frame.segments + usize::from(missing.is_some());
        if self.free < slots {
            return Ok(None);
        }
        let (first_slot, block_end) = (self.next, self.block_end(self.next));
        if let Some(context) = missing {
            self.put_context(number, context);
        }
        let len = frame.first + frame.pad;
        // SAFETY: the batch owns the entry's index until the ring takes it below, and lends nothing of it meanwhile.
        let bytes = unsafe { self.pool.0.view().slice(frame.index, frame.head, len) };
        if let Some((data, padding)) = bytes.split_at_mut_checked(frame.first) {
            padding.fill(0);
            if wanted {
                offload.prepare(data, frame.total);
            }
        }
        let headers = if offload.tso_mss.is_some() {
            offload.headers()
        } else {
            0
        };
        let payload = (frame.total + frame.pad - headers) as u64;
        let mut bits = self.command & !tx::EOP | payload << tx::PAYLEN_SHIFT;
        if wanted {
            bits |= offload.data_bits() | (number as u64) << tx::IDX_SHIFT;
        }
        let mut iova_shift = i64::from(frame.side.shift).cast_unsigned();
        let mut word1 = 0;
        let entries = batch.index.iter().zip(batch.words.iter());
        let entries = entries.skip(entry).take(frame.segments);
        for (left, (&index, words)) in (0..frame.segments).rev().zip(entries) {
            let len = seg_len(words[1]) + frame.pad;
            let iova = self.pool.0.iova(index).offset(iova_shift);
            word1 = bits | len as u64;
            let slot = self.next;
            if left == 0 {
                word1 |= tx::EOP;
                // The end of the first slot's block reports, or the end of what has come to lie across it.
                if first_slot + slots >= block_end {
                    word1 |= tx::RS;
                    self.marks.report(slot);
                }
            } else {
                self.marks.set_odd(slot);
            }
            self.write(index, iova.0, word1);
            iova_shift = 0;
        }
        Ok(Some(Special {
            entries: frame.segments,
            bytes: frame.total as u64,
            word1,
        }))
    }

    fn check(&self, batch: &Batch, entry: usize) -> Result<Checked, Refusal> {
        let words = batch.words.get(entry..batch.entries).unwrap_or_default();
        let segments = run(words);
        let lengths = words.iter().take(segments).map(|words| seg_len(words[1]));
        let total: usize = lengths.sum();
        // There is an entry: the caller has one left to send.
        let (Some([_, word1]), Some(&index)) = (words.first(), batch.index.get(entry)) else {
            return Err(Refusal::TooShort {
                len: 0,
                min: MIN_FRAME,
            });
        };
        let first = seg_len(*word1);
        let side = if word1 & rx::DD == 0 {
            batch.side.get(entry).copied().unwrap_or_default()
        } else {
            Side::default()
        };
        let offload = side.offload;
        if segments > MAX_SEGMENTS {
            return Err(Refusal::TooManySegments(segments));
        }
        let (min, max) = match offload.tso_mss {
            None => (MIN_FRAME, self.max_frame),
            Some(_) => (offload.headers() + 1, offload.headers() + MAX_PAYLOAD),
        };
        if offload != crate::TxOffload::NONE {
            // Asked when the frame may have been longer.
            offload.check(first).map_err(Refusal::Request)?;
        }
        if total > max {
            return Err(Refusal::TooLong { len: total, max });
        }
        let memory = self.pool.0.view();
        let head = memory.headroom().wrapping_add_signed(side.shift.into());
        let pad = TINY.saturating_sub(total);
        let no_pad = pad > 0 && (segments > 1 || head + first + pad > memory.room());
        if total < min || no_pad {
            let min = if no_pad { TINY } else { min };
            return Err(Refusal::TooShort { len: total, min });
        }
        Ok(Checked {
            index,
            segments,
            side,
            head,
            first,
            total,
            pad,
        })
    }

    /// Which context slot a frame with this context uses, and the context if it must be written first.
    fn context_slot(&self, context: (u64, u64)) -> (usize, Option<(u64, u64)>) {
        let contexts = &self.contexts;
        if let Some(number) = contexts.held.iter().position(|held| *held == Some(context)) {
            return (number, None);
        }
        // Slot 0 stays the default where plain frames name it.
        let number = if self.dialect.checks_context() {
            1
        } else {
            contexts.victim
        };
        (number, Some(context))
    }

    pub(super) fn put_context(&mut self, number: usize, context: (u64, u64)) {
        if let Some(held) = self.contexts.held.get_mut(number) {
            *held = Some(context);
        }
        self.contexts.victim = usize::from(number == 0);
        self.stats.contexts.add(1);
        self.marks.set_odd(self.next);
        let (word0, word1) = context;
        self.write(NO_BUFFER, word0, word1 | (number as u64) << tx::IDX_SHIFT);
    }

    /// Writes one descriptor, any kind.
    fn write(&mut self, index: u32, word0: u64, word1: u64) {
        if let Some(slot) = self.slots.get_mut(self.next) {
            *slot = index;
        }
        self.ring.store(self.next, word0, word1);
        self.next = self.ring.after(self.next, 1);
        self.free -= 1;
    }
}
