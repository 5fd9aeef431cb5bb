//! A burst of frames, and its thread's share of the pool's free buffers.
//!
//! Receiving pops fresh buffers from the batch's free list and sending pushes finished ones to it, so a loop that
//! receives and sends with one batch touches nothing shared. Only when the list runs low or over does a block move
//! between it and the pool.

use std::fmt;
use std::sync::Arc;

use crate::desc::{Dialect, rx};
use crate::frame::{MIN_FRAME, Side, seg_len};
use crate::packet::Packet;
use crate::pool::{BLOCK, Pool, Shared};
use crate::simd::GROUP;
use crate::{Frame, FrameError, FrameMut};

/// Free buffers a batch keeps when it sends the rest home: enough for the largest bursts, and little enough that a
/// few batches never starve a small pool.
fn keep(buffers: u32) -> usize {
    (buffers as usize / 16).clamp(BLOCK, 512)
}

/// A burst of frames and a cache of free buffers. One thread uses it at a time; dropping it sends everything home.
pub struct Batch {
    pool: Pool,
    capacity: usize,
    /// See [`keep`].
    keep: usize,
    /// LIFO: the buffer freed last is the one whose lines are still in the cache.
    pub(crate) free: Vec<u32>,
    /// Buffer of each entry. A frame is a run of entries, the last with EOP. Longer than `capacity` by one group, so
    /// that vector code may always look at a whole one.
    pub(crate) index: Box<[u32]>,
    /// The raw write-back of each entry; frames made here mimic one.
    pub(crate) words: Box<[[u64; 2]]>,
    pub(crate) side: Box<[Side]>,
    pub(crate) entries: usize,
    pub(crate) frames: usize,
    pub(crate) dialect: Dialect,
    /// Handles for owned packets, so that making one and taking it back costs no atomic.
    credits: Vec<Arc<Shared>>,
}

impl Batch {
    pub(crate) fn new(pool: Pool, capacity: usize) -> Self {
        let capacity = capacity.clamp(8, 1 << 16);
        let keep = keep(pool.config().buffers);
        Self {
            keep,
            free: Vec::with_capacity(2 * keep + capacity + 2 * BLOCK),
            index: vec![0; capacity + GROUP].into(),
            words: vec![[0; 2]; capacity + GROUP].into(),
            side: vec![Side::default(); capacity].into(),
            entries: 0,
            frames: 0,
            dialect: Dialect::X540,
            credits: Vec::new(),
            pool,
            capacity,
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
    pub const fn room(&self) -> usize {
        self.capacity - self.entries
    }

    /// The pool its buffers come from.
    #[must_use]
    pub const fn pool(&self) -> &Pool {
        &self.pool
    }

    /// Free buffers in the batch's own list.
    #[must_use]
    pub const fn cached(&self) -> usize {
        self.free.len()
    }

    /// Drops all frames; their buffers stay in the batch's free list.
    pub fn clear(&mut self) {
        self.free.extend_from_slice(&self.index[..self.entries]);
        self.entries = 0;
        self.frames = 0;
        self.trim();
    }

    /// Sends free buffers home until no more than a few blocks are left.
    #[inline]
    pub(crate) fn trim(&mut self) {
        if self.free.len() > 2 * self.keep {
            self.spill();
        }
    }

    #[cold]
    fn spill(&mut self) {
        // The oldest go: the newest are the warm ones.
        let surplus = (self.free.len() - self.keep) / BLOCK * BLOCK;
        self.pool.0.take_home(&self.free[..surplus]);
        self.free.drain(..surplus);
    }

    /// A free buffer, from the shared list when the own one is empty.
    #[inline]
    pub(crate) fn fresh(&mut self) -> Option<u32> {
        if self.free.is_empty() && self.pool.0.lend(&mut self.free) == 0 {
            return None;
        }
        self.free.pop()
    }

    /// Appends an entry. The caller has checked that there is room.
    #[inline]
    pub(crate) fn push_entry(&mut self, index: u32, words: [u64; 2]) {
        self.index[self.entries] = index;
        self.words[self.entries] = words;
        self.entries += 1;
        self.frames += usize::from(words[1] & rx::EOP != 0);
    }

    /// Forgets the first `entries` entries, whose buffers have gone elsewhere and made up `frames` frames.
    pub(crate) fn consume(&mut self, entries: usize, frames: usize) {
        if entries < self.entries && entries > 0 {
            self.index.copy_within(entries..self.entries, 0);
            self.words.copy_within(entries..self.entries, 0);
            self.side.rotate_left(entries);
        }
        self.entries -= entries;
        self.frames -= frames;
    }

    /// The frames, first to last.
    #[must_use]
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            shared: &self.pool.0,
            dialect: self.dialect,
            index: &self.index[..self.entries],
            words: &self.words[..self.entries],
            side: &self.side,
        }
    }

    /// The frames, first to last, to be changed.
    #[must_use]
    pub fn frames_mut(&mut self) -> FramesMut<'_> {
        FramesMut {
            shared: &self.pool.0,
            dialect: self.dialect,
            index: &self.index[..self.entries],
            words: &mut self.words[..self.entries],
            side: &mut self.side,
        }
    }

    /// Keeps the frames for which `keep` says so, in order; drops the others.
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut FrameMut<'_>) -> bool) {
        let (mut from, mut to) = (0, 0);
        self.frames = 0;
        while from < self.entries {
            let end = from + run(&self.words[from..self.entries]);
            let mut frame = FrameMut {
                shared: &self.pool.0,
                dialect: self.dialect,
                index: &self.index[from..end],
                words: &mut self.words[from..end],
                side: &mut self.side[from],
            };
            if keep(&mut frame) {
                self.index.copy_within(from..end, to);
                self.words.copy_within(from..end, to);
                self.side.swap(from, to);
                to += end - from;
                self.frames += 1;
            } else {
                self.free.extend_from_slice(&self.index[from..end]);
            }
            from = end;
        }
        self.entries = to;
        self.trim();
    }

    /// Appends a one-buffer frame of `len` bytes, which hold whatever the buffer held before.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] or [`FrameError::NoRoom`].
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
        self.push_entry(index, [0, rx::DD | rx::EOP | (len as u64) << rx::LEN_SHIFT]);
        let at = self.entries - 1;
        Ok(FrameMut {
            shared: &self.pool.0,
            dialect: self.dialect,
            index: &self.index[at..=at],
            words: &mut self.words[at..=at],
            side: &mut self.side[at],
        })
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
        while self.free.len() < segments {
            if self.pool.0.lend(&mut self.free) == 0 {
                return Err(FrameError::NoRoom);
            }
        }
        if self.room() < segments {
            return Err(FrameError::NoRoom);
        }
        let head = usize::from(self.pool.config().headroom);
        for (number, part) in frame.chunks(size).enumerate() {
            let Some(index) = self.free.pop() else {
                return Err(FrameError::NoRoom);
            };
            // SAFETY: the index was just popped from the free list, so this batch owns it and nothing else sees it.
            let bytes = unsafe { self.pool.0.bytes(index, head, part.len()) };
            bytes.copy_from_slice(part);
            let eop = if number + 1 == segments { rx::EOP } else { 0 };
            self.push_entry(
                index,
                [0, rx::DD | eop | (part.len() as u64) << rx::LEN_SHIFT],
            );
        }
        Ok(())
    }

    /// Runs `touch` on the first segment of every frame: the leanest way through a batch.
    #[inline]
    pub fn each_first_mut(&mut self, mut touch: impl FnMut(&mut [u8])) {
        let headroom = usize::from(self.pool.config().headroom);
        let mut starts = true;
        for entry in 0..self.entries {
            let word1 = self.words[entry][1];
            if starts {
                let head = if word1 & rx::SIDE == 0 {
                    headroom
                } else {
                    self.side[entry].head.into()
                };
                // SAFETY: the batch owns every index among its entries, and `self` is borrowed exclusively.
                touch(unsafe { self.pool.0.bytes(self.index[entry], head, seg_len(word1)) });
            }
            starts = word1 & rx::EOP != 0;
        }
    }

    /// Makes sure that a whole group of free buffers is at hand, if the pool has them.
    #[inline]
    pub(crate) fn stock(&mut self) -> bool {
        self.free.len() >= GROUP
            || (self.pool.0.lend(&mut self.free) > 0 && self.free.len() >= GROUP)
    }

    /// Takes all frames out as owned packets, first to last, onto the end of `packets`.
    pub fn take_packets(&mut self, packets: &mut Vec<Packet>) {
        let mut from = 0;
        while from < self.entries {
            let end = from + run(&self.words[from..self.entries]);
            let credit = self.credit();
            packets.push(Packet::new(
                credit,
                self.dialect,
                &self.index[from..end],
                &self.words[from..end],
                self.side[from],
            ));
            from = end;
        }
        self.entries = 0;
        self.frames = 0;
    }

    /// Takes the last frame out as an owned packet.
    pub fn pop(&mut self) -> Option<Packet> {
        let last = self.entries.checked_sub(1)?;
        let mut first = last;
        while first > 0 && self.words[first - 1][1] & rx::EOP == 0 {
            first -= 1;
        }
        let credit = self.credit();
        let entries = first..self.entries;
        let packet = Packet::new(
            credit,
            self.dialect,
            &self.index[entries.clone()],
            &self.words[entries],
            self.side[first],
        );
        self.entries = first;
        self.frames -= 1;
        Some(packet)
    }

    #[inline]
    fn credit(&mut self) -> Arc<Shared> {
        match self.credits.pop() {
            Some(credit) => credit,
            None => self.mint(),
        }
    }

    #[cold]
    fn mint(&mut self) -> Arc<Shared> {
        self.credits
            .extend(std::iter::repeat_with(|| Arc::clone(&self.pool.0)).take(BLOCK));
        Arc::clone(&self.pool.0)
    }

    /// Appends an owned packet.
    ///
    /// # Errors
    ///
    /// The packet itself, when it is of another pool or there is no room.
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if !packet.is_of(&self.pool) || self.room() < packet.segment_count() {
            return Err(packet);
        }
        let at = self.entries;
        self.side[at] = packet.side();
        self.entries += packet.segment_count();
        let credit = packet.dissolve(&mut self.index[at..], &mut self.words[at..]);
        self.frames += 1;
        if self.credits.len() < 2 * self.keep {
            self.credits.push(credit);
        }
        Ok(())
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        self.pool.0.take_home(&self.index[..self.entries]);
        self.pool.0.take_home(&self.free);
    }
}

impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("frames", &self.frames)
            .field("entries", &self.entries)
            .field("capacity", &self.capacity)
            .field("free", &self.free.len())
            .finish_non_exhaustive()
    }
}

/// Entries of the frame that starts `words`.
#[inline]
fn run(words: &[[u64; 2]]) -> usize {
    match words {
        [[_, first], ..] if first & rx::EOP != 0 => 1,
        _ => words
            .iter()
            .position(|[_, word1]| word1 & rx::EOP != 0)
            .map_or(words.len(), |last| last + 1),
    }
}

/// Iterator over a batch's frames.
#[derive(Clone)]
pub struct Frames<'a> {
    shared: &'a Shared,
    dialect: Dialect,
    index: &'a [u32],
    words: &'a [[u64; 2]],
    side: &'a [Side],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let (side, sides) = self.side.split_first()?;
        if self.index.is_empty() {
            return None;
        }
        let entries = run(self.words);
        let (index, indices) = self.index.split_at_checked(entries)?;
        let (words, more) = self.words.split_at_checked(entries)?;
        self.index = indices;
        self.words = more;
        self.side = sides.get(entries - 1..).unwrap_or_default();
        Some(Frame {
            shared: self.shared,
            dialect: self.dialect,
            index,
            words,
            side,
        })
    }
}

/// Iterator over a batch's frames, to be changed.
pub struct FramesMut<'a> {
    shared: &'a Shared,
    dialect: Dialect,
    index: &'a [u32],
    words: &'a mut [[u64; 2]],
    side: &'a mut [Side],
}

impl<'a> Iterator for FramesMut<'a> {
    type Item = FrameMut<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameMut<'a>> {
        if self.index.is_empty() {
            return None;
        }
        let entries = run(self.words);
        let (index, indices) = self.index.split_at_checked(entries)?;
        let (words, more) = std::mem::take(&mut self.words).split_at_mut_checked(entries)?;
        let (side, sides) = std::mem::take(&mut self.side).split_at_mut_checked(entries)?;
        self.index = indices;
        self.words = more;
        self.side = sides;
        Some(FrameMut {
            shared: self.shared,
            dialect: self.dialect,
            index,
            words,
            side: side.first_mut()?,
        })
    }
}

impl fmt::Debug for Frames<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frames")
            .field("entries", &self.index.len())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FramesMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FramesMut")
            .field("entries", &self.index.len())
            .finish_non_exhaustive()
    }
}
