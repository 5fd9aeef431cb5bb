//! A burst of frames, and its thread's share of the pool's free buffers.
//!
//! Receiving pops fresh buffers from the batch's free list and sending pushes finished ones to it, so a loop that
//! receives and sends with one batch touches nothing shared. Only when the list runs low or over does a block move
//! between it and the pool.
//!
//! A frame is a run of entries, the last with EOP. An entry is a buffer's index and the raw 16-byte write-back, in
//! arrays side by side. Frames in one buffer that nobody asked anything of are *plain*: DD and EOP set in their word
//! 1. All others have DD cleared in every entry, so that the loops of [`path`](crate::path) leave them alone.

use std::fmt;

use crate::desc::{Dialect, rx};
use crate::frame::{MIN_FRAME, Side, run};
use crate::lines::{Lines, shift_down, shift_up};
use crate::path::SLACK;
use crate::pool::{BLOCK, Pool};
use crate::{FrameError, FrameMut};

mod owned;
mod visit;

pub use owned::DrainPackets;
pub use visit::{Frames, FramesMut};

/// A burst of frames and a cache of free buffers. One thread uses it at a time; dropping it sends everything home.
pub struct Batch {
    pub(crate) pool: Pool,
    /// A stack that grows downwards: `free[head..end]` are free, the one freed last (whose lines are still in the
    /// cache) at `head`, so that what is taken off it lies in the order in which it is used. Slack follows.
    pub(crate) free: Box<[u32]>,
    pub(crate) head: usize,
    end: usize,
    /// Free buffers kept without need.
    pub(crate) keep: usize,
    /// Buffer of each entry.
    pub(crate) index: Lines<u32>,
    /// Write-back of each entry; frames made here mimic one.
    pub(crate) words: Lines<[u64; 2]>,
    /// What a frame carries beyond those, at its first entry; only where DD is cleared.
    pub(crate) side: Box<[Side]>,
    pub(crate) entries: usize,
    pub(crate) frames: usize,
    capacity: usize,
    /// Whose write-backs these are.
    pub(crate) dialect: Dialect,
    /// Handles for owned packets, so that making one and taking it back costs no atomic.
    credits: Vec<Pool>,
}

impl Batch {
    pub(crate) fn new(pool: Pool, capacity: usize) -> Self {
        let capacity = capacity.clamp(1, 1 << 16);
        let keep = capacity + BLOCK;
        // Room for all entries on top of what is kept and a block that arrives before one leaves.
        let end = keep + 2 * BLOCK + capacity;
        Self {
            free: vec![0; end + SLACK].into_boxed_slice(),
            head: end,
            end,
            keep,
            index: Lines::new(capacity + SLACK),
            words: Lines::new(capacity + SLACK),
            side: vec![Side::default(); capacity + SLACK].into_boxed_slice(),
            entries: 0,
            frames: 0,
            capacity,
            dialect: Dialect::X540,
            credits: Vec::new(),
            pool,
        }
    }

    /// Frames in the batch.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.frames
    }

    /// Whether there are none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.frames == 0
    }

    /// Descriptors the batch holds at most; a frame of several buffers takes several.
    #[must_use]
    pub const fn capacity(&self) -> usize {
        self.capacity
    }

    /// Descriptors that still fit.
    #[must_use]
    #[inline]
    pub const fn room(&self) -> usize {
        self.capacity - self.entries
    }

    /// The pool its buffers come from.
    #[must_use]
    #[inline]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Free buffers in the batch's own list.
    #[must_use]
    #[inline]
    pub const fn cached(&self) -> usize {
        self.end - self.head
    }

    /// Drops all frames; their buffers stay in the batch's free list.
    #[inline]
    pub fn clear(&mut self) {
        if self.entries == 0 {
            return;
        }
        // What is free and what is held together never exceed what the list has room for.
        let entries = std::mem::take(&mut self.entries);
        self.frames = 0;
        self.free_entries(0, entries);
        self.trim();
    }

    /// Takes the buffers of entries `from..to` into the free list. Where it has no room, which is nowhere, they go home.
    #[inline]
    pub(crate) fn free_entries(&mut self, from: usize, to: usize) {
        let Some(buffers) = self.index.get(from..to) else {
            return;
        };
        let head = self.head.wrapping_sub(buffers.len());
        match self.free.get_mut(head..self.head) {
            Some(place) if place.len() == buffers.len() => {
                place.copy_from_slice(buffers);
                self.head = head;
            }
            _ => self.pool.0.take_home(buffers),
        }
    }

    /// Sends free buffers home when there are more than a block too many.
    #[inline]
    pub(crate) fn trim(&mut self) {
        if self.cached() > self.keep + BLOCK {
            self.spill();
        }
    }

    /// Sends the oldest free buffers home, whole blocks, until no more than are kept without need are left.
    #[cold]
    fn spill(&mut self) {
        let surplus = self
            .cached()
            .saturating_sub(self.keep)
            .next_multiple_of(BLOCK);
        // As many there are: more than a block is kept. The oldest go: the newest are the warm ones.
        let free = self.free.get_mut(self.head..self.end).unwrap_or_default();
        let kept = free.len().saturating_sub(surplus);
        self.pool.0.take_home(free.get(kept..).unwrap_or_default());
        shift_up(free, surplus);
        self.head += surplus;
    }

    /// Gets free buffers from the pool until there are `want`, as long as there are any and the list has room, which
    /// it has for a capacity's worth at least.
    #[cold]
    pub(crate) fn stock(&mut self, want: usize) {
        while self.cached() < want && self.head > self.capacity + BLOCK {
            let head = self.head;
            let place = self.free.get_mut(head - BLOCK..head).unwrap_or_default();
            let taken = self.pool.0.lend(place);
            if taken == 0 {
                break;
            }
            shift_up(place, place.len().saturating_sub(taken));
            self.head -= taken;
        }
    }

    /// A free buffer, from the pool when the own list is empty.
    #[inline]
    pub(crate) fn fresh(&mut self) -> Option<u32> {
        if self.head == self.end {
            self.stock(1);
        }
        let fresh = *self.free.get(..self.end)?.get(self.head)?;
        self.head += 1;
        Some(fresh)
    }

    /// Takes buffers into the free list.
    pub(crate) fn give_back(&mut self, indices: &[u32]) {
        for part in indices.chunks(BLOCK) {
            self.trim();
            let head = self.head.wrapping_sub(part.len());
            match self.free.get_mut(head..self.head) {
                Some(place) if place.len() == part.len() => {
                    place.copy_from_slice(part);
                    self.head = head;
                }
                _ => self.pool.0.take_home(part),
            }
        }
    }

    /// Appends an entry. The caller has checked that there is room.
    #[inline]
    pub(crate) fn push_entry(&mut self, index: u32, words: [u64; 2]) {
        debug_assert!(self.room() > 0, "the caller looked");
        let at = self.entries;
        let (Some(index_at), Some(words_at)) = (self.index.get_mut(at), self.words.get_mut(at))
        else {
            return self.pool.0.take_singles(&[index]);
        };
        *index_at = index;
        *words_at = words;
        self.entries += 1;
        self.frames += usize::from(words[1] & rx::EOP != 0);
    }

    /// Makes the frame that starts at entry `first` one that is looked at closely, with `side` beside it.
    /// Returns the number of its entries.
    pub(crate) fn mark(&mut self, first: usize, side: Side) -> usize {
        let words = self.words.get_mut(first..self.entries).unwrap_or_default();
        let entries = run(words);
        for words in words.iter_mut().take(entries) {
            words[1] &= !rx::DD;
        }
        if let Some(place) = self.side.get_mut(first) {
            *place = side;
        }
        entries
    }

    /// Forgets the first `entries` entries, whose buffers have gone elsewhere and made up `frames` frames.
    #[inline]
    pub(crate) fn consume(&mut self, entries: usize, frames: usize) {
        if entries == self.entries {
            self.entries = 0;
            self.frames = 0;
        } else {
            self.shift(entries, frames);
        }
    }

    #[cold]
    fn shift(&mut self, entries: usize, frames: usize) {
        let end = self.entries;
        shift_down(self.index.get_mut(..end).unwrap_or_default(), entries);
        shift_down(self.words.get_mut(..end).unwrap_or_default(), entries);
        shift_down(self.side.get_mut(..end).unwrap_or_default(), entries);
        self.entries -= entries;
        self.frames -= frames;
    }

    /// Appends a one-buffer frame of `len` bytes, which hold whatever the buffer held before.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] or [`FrameError::NoRoom`].
    #[inline]
    pub fn alloc(&mut self, len: usize) -> Result<FrameMut<'_>, FrameError> {
        let max = self.pool.config().buffer_size as usize;
        if !(MIN_FRAME..=max).contains(&len) {
            return Err(FrameError::Length {
                len,
                min: MIN_FRAME,
                max,
            });
        }
        if self.room() == 0 {
            return Err(FrameError::NoRoom);
        }
        let index = self.fresh().ok_or(FrameError::NoRoom)?;
        let at = self.entries;
        self.push_entry(index, [0, rx::PLAIN | (len as u64) << rx::LEN_SHIFT]);
        self.frame_mut(at, at + 1).ok_or(FrameError::NoRoom)
    }

    /// Appends a copy of `frame`, in as many buffers as it takes.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] or [`FrameError::NoRoom`]; nothing is appended then.
    pub fn push_bytes(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        let size = self.pool.config().buffer_size as usize;
        if frame.len() < MIN_FRAME || frame.len() > 1 << 18 {
            return Err(FrameError::Length {
                len: frame.len(),
                min: MIN_FRAME,
                max: 1 << 18,
            });
        }
        let segments = frame.len().div_ceil(size);
        if self.cached() < segments {
            self.stock(segments);
        }
        if self.room() < segments || self.cached() < segments {
            return Err(FrameError::NoRoom);
        }
        let first = self.entries;
        let memory = self.pool.0.view();
        for (part, (index, words)) in frame
            .chunks(size)
            .zip(self.index[first..].iter_mut().zip(&mut self.words[first..]))
        {
            *index = self.free[self.head];
            self.head += 1;
            // SAFETY: the index was just popped from the free list, so this batch owns it and nothing else sees it.
            let bytes = unsafe { memory.slice(*index, memory.headroom(), part.len()) };
            bytes.copy_from_slice(part);
            *words = [0, rx::DD | (part.len() as u64) << rx::LEN_SHIFT];
        }
        self.entries += segments;
        self.frames += 1;
        self.words[self.entries - 1][1] |= rx::EOP;
        if segments > 1 {
            self.mark(first, Side::default());
        }
        Ok(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pool.0.take_home(&self.index[..self.entries]);
        self.pool.0.take_home(&self.free[self.head..self.end]);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("frames", &self.frames)
            .field("entries", &self.entries)
            .field("capacity", &self.capacity)
            .field("free", &self.cached())
            .finish_non_exhaustive()
    }
}
