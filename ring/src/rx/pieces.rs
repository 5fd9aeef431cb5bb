//! Frames that are not plain: put together from several descriptors, or judged and dropped.

#![cfg_attr(not(test), deny(clippy::arithmetic_side_effects))]

use crate::batch::Batch;
use crate::desc::{Dialect, rx};
use crate::frame::{MIN_FRAME, Side};
use crate::meta::seg_len;
use crate::pool::Pool;
use crate::stats::{Counter, RxStats};

/// Most buffers a frame may have whatever its bounds say: 9728 bytes in 1 KiB buffers, and one to spare.
const MAX_SEGMENTS: usize = 11;

/// The frame being put together.
pub(super) struct Pieces {
    dialect: Dialect,
    buffer: usize,
    max_frame: usize,
    max_segments: usize,
    /// Its pieces so far; their buffers are the queue's.
    held: Vec<(u32, [u64; 2])>,
    bytes: usize,
    /// Complete, waiting for room in a batch.
    whole: bool,
    /// Dropping pieces up to and including the next EOP, so that the tail of a dropped frame is never taken for one.
    dropping: bool,
}

impl Pieces {
    pub(super) fn new(dialect: Dialect, buffer: usize, max_frame: u32) -> Self {
        let mut pieces = Self {
            dialect,
            buffer,
            max_frame: 0,
            max_segments: 0,
            held: Vec::with_capacity(MAX_SEGMENTS),
            bytes: 0,
            whole: false,
            dropping: false,
        };
        pieces.set_max_frame(max_frame);
        pieces
    }

    pub(super) fn set_max_frame(&mut self, bytes: u32) {
        self.max_frame = (bytes as usize).max(MIN_FRAME);
        let full = self.max_frame.div_ceil(self.buffer);
        self.max_segments = full.saturating_add(1).min(MAX_SEGMENTS);
    }

    /// Whether the next completion belongs to a frame already begun.
    pub(super) const fn in_progress(&self) -> bool {
        !self.held.is_empty() || self.dropping
    }

    /// Whether a complete frame waits for room.
    pub(super) const fn is_whole(&self) -> bool {
        self.whole
    }

    /// Hands a complete frame to `batch`. Whether none is left waiting.
    pub(super) fn deliver(&mut self, batch: &mut Batch, stats: &RxStats) -> bool {
        if !self.whole {
            return true;
        }
        if self.held.len() > batch.capacity() {
            stats.batch_too_small.add(1);
            self.drop_held(batch);
            return true;
        }
        if self.held.len() > batch.room() {
            return false;
        }
        stats.packets.add(1);
        stats.bytes.add(self.bytes as u64);
        let first = batch.entries;
        for (index, words) in self.held.drain(..) {
            batch.push_entry(index, words);
        }
        if batch.entries.saturating_sub(first) > 1 {
            batch.mark(first, Side::default());
        }
        self.bytes = 0;
        self.whole = false;
        true
    }

    /// Whether a completion is a good piece of a frame. If not, it and what is held of its frame are to be dropped;
    /// that is counted here.
    pub(super) fn wants(&mut self, [_, word1]: [u64; 2], stats: &RxStats) -> bool {
        let eop = word1 & rx::EOP != 0;
        if !self.dropping {
            match self.objection(word1, eop, stats) {
                None => return true,
                Some(counter) => counter.add(1),
            }
        }
        self.dropping = !eop;
        false
    }

    fn objection<'a>(&self, word1: u64, eop: bool, stats: &'a RxStats) -> Option<&'a Counter> {
        let len = seg_len(word1);
        let total = self.bytes.saturating_add(len);
        if eop && word1 & self.dialect.rx_errors() != 0 {
            self.count_errors(word1, stats);
            Some(&stats.card_error)
        } else if len == 0 || len > self.buffer || eop && total < MIN_FRAME {
            Some(&stats.bad_len)
        } else if total > self.max_frame {
            Some(&stats.too_long)
        } else if !eop && self.held.len() >= self.max_segments.saturating_sub(1) {
            Some(&stats.too_many_segments)
        } else {
            None
        }
    }

    fn count_errors(&self, word1: u64, stats: &RxStats) {
        let kinds = [
            (rx::CE, &stats.error_crc),
            (rx::LE_SE, &stats.error_symbol),
            (rx::SEQ, &stats.error_sequence),
            (rx::SECERR, &stats.error_carrier),
            (self.dialect.mac_error(), &stats.error_mac),
        ];
        for (bits, counter) in kinds {
            counter.add(u64::from(word1 & bits & self.dialect.rx_errors() != 0));
        }
    }

    /// Adds a piece, which [`wants`](Self::wants) has seen to that there is room for.
    pub(super) fn keep(&mut self, index: u32, words: [u64; 2], batch: &mut Batch) {
        if self.held.len() >= self.held.capacity() {
            debug_assert!(false, "a piece too many");
            return batch.give_back(&[index]);
        }
        self.bytes = self.bytes.saturating_add(seg_len(words[1]));
        self.whole = words[1] & rx::EOP != 0;
        self.held.push((index, words));
    }

    /// Gives the buffers held to `batch`.
    pub(super) fn drop_held(&mut self, batch: &mut Batch) {
        for (index, _) in self.held.drain(..) {
            batch.give_back(&[index]);
        }
        self.bytes = 0;
        self.whole = false;
    }

    /// Lets go of a frame that will never be complete.
    pub(super) fn forget(&mut self, pool: &Pool, stats: &RxStats) {
        if !self.held.is_empty() {
            stats.reset_partial.add(1);
        }
        for (index, _) in self.held.drain(..) {
            pool.0.take_singles(&[index]);
        }
        self.bytes = 0;
        self.whole = false;
        self.dropping = false;
    }
}
