//! A burst of frames, and its thread's share of the pool's free buffers.
//!
//! Receiving pops fresh buffers from the batch's free list and sending pushes finished ones to it, so a loop that
//! receives and sends with one batch touches nothing shared. Only when the list runs low or over does a block move
//! between it and the pool.
//!
//! A frame is a run of entries, the last with EOP. An entry is a buffer's index and the raw 16-byte write-back, in
//! arrays side by side. Frames in one buffer that nobody asked anything of are *plain*: DD and EOP set in their word
//! 1. All others have DD cleared in every entry, so that the loops of [`path`](crate::path) leave them alone.

use std::cell::Cell;
use std::fmt;

use crate::desc::{Dialect, rx};
use crate::frame::{MIN_FRAME, Side, run};
use crate::lines::Lines;
use crate::packet::Packet;
use crate::path::SLACK;
use crate::pool::{BLOCK, Pool, View};
use crate::{Frame, FrameError, FrameMut};

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
        let head = self.head - self.entries;
        self.free[head..self.head].copy_from_slice(&self.index[..self.entries]);
        self.head = head;
        self.entries = 0;
        self.frames = 0;
        self.trim();
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
        let surplus = surplus.min(self.cached() / BLOCK * BLOCK);
        // The oldest go: the newest are the warm ones.
        let rest = self.end - surplus;
        self.pool.0.take_home(&self.free[rest..self.end]);
        self.free.copy_within(self.head..rest, self.head + surplus);
        self.head += surplus;
    }

    /// Gets free buffers from the pool until there are `want`, as long as there are any and the list has room, which
    /// it has for a capacity's worth at least.
    #[cold]
    pub(crate) fn stock(&mut self, want: usize) {
        while self.cached() < want && self.head > self.capacity + BLOCK {
            let place = self.head - BLOCK;
            let taken = self.pool.0.lend(&mut self.free[place..self.head]);
            if taken == 0 {
                break;
            }
            self.head -= taken;
            self.free.copy_within(place..place + taken, self.head);
        }
    }

    /// A free buffer, from the pool when the own list is empty.
    #[inline]
    pub(crate) fn fresh(&mut self) -> Option<u32> {
        if self.head == self.end {
            self.stock(1);
        }
        let fresh = *self.free[..self.end].get(self.head)?;
        self.head += 1;
        Some(fresh)
    }

    /// Takes buffers into the free list.
    pub(crate) fn give_back(&mut self, indices: &[u32]) {
        for part in indices.chunks(BLOCK) {
            self.trim();
            let head = self.head - part.len();
            self.free[head..self.head].copy_from_slice(part);
            self.head = head;
        }
    }

    /// Appends an entry. The caller has checked that there is room.
    #[inline]
    pub(crate) fn push_entry(&mut self, index: u32, words: [u64; 2]) {
        debug_assert!(self.room() > 0, "the caller looked");
        self.index[self.entries] = index;
        self.words[self.entries] = words;
        self.entries += 1;
        self.frames += usize::from(words[1] & rx::EOP != 0);
    }

    /// Makes the frame that starts at entry `first` one that is looked at closely, with `side` beside it.
    /// Returns the number of its entries.
    pub(crate) fn mark(&mut self, first: usize, side: Side) -> usize {
        let end = first + run(&self.words[first..self.entries]);
        for words in &mut self.words[first..end] {
            words[1] &= !rx::DD;
        }
        self.side[first] = side;
        end - first
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
        self.index.copy_within(entries..self.entries, 0);
        self.words.copy_within(entries..self.entries, 0);
        self.side.copy_within(entries..self.entries, 0);
        self.entries -= entries;
        self.frames -= frames;
    }

    /// The frames, first to last.
    #[must_use]
    #[inline]
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            memory: self.pool.0.view(),
            dialect: self.dialect,
            index: &self.index[..self.entries],
            words: &self.words[..self.entries],
            side: &self.side[..self.entries],
        }
    }

    /// The frames, first to last, to be changed.
    #[must_use]
    #[inline]
    pub fn frames_mut(&mut self) -> FramesMut<'_> {
        let entries = self.entries;
        FramesMut {
            memory: self.pool.0.view(),
            dialect: self.dialect,
            index: &self.index[..entries],
            words: Cell::from_mut(&mut self.words[..entries]).as_slice_of_cells(),
            side: Cell::from_mut(&mut self.side[..entries]).as_slice_of_cells(),
            next: 0,
        }
    }

    /// Runs `visit` on the first segment of every frame, first to last: the whole frame where it is in one buffer.
    #[inline]
    pub fn each_first_mut(&mut self, mut visit: impl FnMut(&mut [u8])) {
        for mut frame in self.frames_mut() {
            visit(frame.data_mut());
        }
    }

    /// Keeps the frames for which `keep` says so, in order; drops the others.
    #[inline]
    pub fn retain_mut(&mut self, mut keep: impl FnMut(&mut FrameMut<'_>) -> bool) {
        let mut sieve = Sieve {
            end: std::mem::take(&mut self.entries),
            from: 0,
            batch: self,
        };
        sieve.batch.frames = 0;
        while sieve.from < sieve.end {
            let Sieve { batch, from, end } = &mut sieve;
            let next = *from + run(&batch.words[*from..*end]);
            let keeps = batch.frame_mut(*from, next).as_mut().map(&mut keep);
            if keeps == Some(true) {
                batch.keep(*from, next);
            } else {
                let head = batch.head + *from - next;
                batch.free[head..batch.head].copy_from_slice(&batch.index[*from..next]);
                batch.head = head;
            }
            *from = next;
        }
        drop(sieve);
        self.trim();
    }

    /// The frame in entries `from..to`.
    #[inline]
    fn frame_mut(&mut self, from: usize, to: usize) -> Option<FrameMut<'_>> {
        FrameMut::new(
            self.pool.0.view(),
            self.dialect,
            self.index.get(from..to)?,
            Cell::from_mut(self.words.get_mut(from..to)?).as_slice_of_cells(),
            Cell::from_mut(self.side.get_mut(from..to)?).as_slice_of_cells(),
            0,
        )
    }

    /// Moves the frame in entries `from..to`, at or behind the end, to the end.
    #[inline]
    fn keep(&mut self, from: usize, to: usize) {
        if from != self.entries {
            self.index.copy_within(from..to, self.entries);
            self.words.copy_within(from..to, self.entries);
            self.side[self.entries] = self.side[from];
        }
        self.entries += to - from;
        self.frames += 1;
    }

    /// Makes entry `staged`, at or behind the end and of a frame in one buffer, the last one.
    pub(crate) fn stay(&mut self, staged: usize) {
        self.keep(staged, staged + 1);
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

    /// Takes the last frame out as an owned packet. Costs no atomic as long as about as many come back by
    /// [`push`](Self::push).
    #[inline]
    pub fn pop(&mut self) -> Option<Packet> {
        let last = self.entries.checked_sub(1)?;
        let words = *self.words.get(last)?;
        if words[1] & rx::PLAIN != rx::PLAIN {
            return self.pop_slow();
        }
        let index = *self.index.get(last)?;
        self.entries = last;
        self.frames -= 1;
        let pool = self.credit();
        Some(Packet::plain(pool, self.dialect, index, words))
    }

    #[cold]
    fn pop_slow(&mut self) -> Option<Packet> {
        let last = self.entries.checked_sub(1)?;
        let before = self.words[..last]
            .iter()
            .rposition(|words| words[1] & rx::EOP != 0);
        let first = before.map_or(0, |end| end + 1);
        let pool = self.credit();
        let (index, words) = (&self.index[first..=last], &self.words[first..=last]);
        let packet = Packet::special(pool, self.dialect, index, words, self.side[first]);
        self.entries = first;
        self.frames -= 1;
        Some(packet)
    }

    /// Takes all frames out as owned packets, first to last. Those not taken when the iterator is dropped are dropped.
    pub fn drain_packets(&mut self) -> DrainPackets<'_> {
        self.frames = 0;
        DrainPackets {
            next: 0,
            end: std::mem::take(&mut self.entries),
            batch: self,
        }
    }

    /// As [`drain_packets`](Self::drain_packets), onto the end of `packets`.
    pub fn take_packets(&mut self, packets: &mut Vec<Packet>) {
        packets.extend(self.drain_packets());
    }

    #[inline]
    fn credit(&mut self) -> Pool {
        match self.credits.pop() {
            Some(credit) => credit,
            None => self.mint(),
        }
    }

    #[cold]
    fn mint(&mut self) -> Pool {
        let pool = &self.pool;
        self.credits
            .extend(std::iter::repeat_with(|| pool.clone()).take(BLOCK));
        self.pool.clone()
    }

    /// Appends an owned packet.
    ///
    /// # Errors
    ///
    /// The packet itself, when it is of another pool or there is no room.
    #[inline]
    pub fn push(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.room() == 0 || !packet.is_of(&self.pool) {
            return Err(packet);
        }
        if self.dialect != packet.dialect() || !packet.is_plain() {
            return self.push_slow(packet);
        }
        let (pool, index, words) = packet.dissolve();
        self.push_entry(index, words);
        self.take_credit(pool);
        Ok(())
    }

    #[inline]
    fn take_credit(&mut self, pool: Option<Pool>) {
        let Some(pool) = pool else { return };
        if self.credits.len() < self.credits.capacity() {
            self.credits.push(pool);
        } else {
            self.widen_credits(pool);
        }
    }

    #[cold]
    fn widen_credits(&mut self, pool: Pool) {
        if self.credits.len() < 2 * self.capacity.max(BLOCK) {
            self.credits.push(pool);
        } else {
            // More come than go: let a block of them go at once.
            self.credits.truncate(self.credits.len() - BLOCK);
        }
    }

    #[cold]
    fn push_slow(&mut self, packet: Packet) -> Result<(), Packet> {
        if self.room() < packet.segment_count() {
            return Err(packet);
        }
        if self.is_empty() {
            self.dialect = packet.dialect();
        }
        let first = self.entries;
        let dialect = packet.dialect();
        let plain = packet.is_plain();
        let (pool, mut side) = packet.dissolve_all(|index, words| self.push_entry(index, words));
        if dialect != self.dialect && side.dialect.is_none() {
            side.dialect = Some(dialect);
            self.mark(first, side);
        } else if !plain {
            self.side[first] = side;
        }
        self.take_credit(pool);
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

/// Iterator over a batch's frames.
#[derive(Clone)]
pub struct Frames<'a> {
    memory: View<'a>,
    dialect: Dialect,
    index: &'a [u32],
    words: &'a [[u64; 2]],
    side: &'a [Side],
}

impl<'a> Iterator for Frames<'a> {
    type Item = Frame<'a>;

    #[inline]
    fn next(&mut self) -> Option<Frame<'a>> {
        let entries = run(self.words);
        let (index, indices) = self.index.split_at_checked(entries)?;
        let (words, more) = self.words.split_at_checked(entries)?;
        let (side, sides) = self.side.split_at_checked(entries)?;
        self.index = indices;
        self.words = more;
        self.side = sides;
        let side = side.first()?;
        Some(Frame::new(self.memory, self.dialect, index, words, side))
    }
}

/// Iterator over a batch's frames, to be changed.
pub struct FramesMut<'a> {
    memory: View<'a>,
    dialect: Dialect,
    index: &'a [u32],
    words: &'a [Cell<[u64; 2]>],
    side: &'a [Cell<Side>],
    next: usize,
}

impl<'a> Iterator for FramesMut<'a> {
    type Item = FrameMut<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameMut<'a>> {
        let frame = FrameMut::new(
            self.memory,
            self.dialect,
            self.index,
            self.words,
            self.side,
            self.next,
        )?;
        self.next += frame.segment_count();
        Some(frame)
    }
}

/// The state of a [`Batch::retain_mut`]: entries from `from` to `end` have not been looked at. The batch forgets them
/// first, so that nothing is owned twice whatever the caller's closure does.
struct Sieve<'a> {
    batch: &'a mut Batch,
    from: usize,
    end: usize,
}

impl Drop for Sieve<'_> {
    fn drop(&mut self) {
        // Only after a panic is there anything left: keep it.
        while self.from < self.end {
            let next = self.from + run(&self.batch.words[self.from..self.end]);
            self.batch.keep(self.from, next);
            self.from = next;
        }
    }
}

/// Iterator that takes a batch's frames out as owned packets, first to last.
pub struct DrainPackets<'a> {
    /// Its entries are forgotten already, so that nothing is owned twice even if this iterator is.
    batch: &'a mut Batch,
    next: usize,
    end: usize,
}

impl Iterator for DrainPackets<'_> {
    type Item = Packet;

    #[inline]
    fn next(&mut self) -> Option<Packet> {
        let first = self.next;
        let words = self.batch.words.get(first..self.end)?;
        let plain = words.first()?[1] & rx::PLAIN == rx::PLAIN;
        let end = first + run(words);
        self.next = end;
        let batch = &mut *self.batch;
        let pool = batch.credit();
        let (index, words) = (&batch.index[first..end], &batch.words[first..end]);
        Some(match (plain, index, words) {
            (true, &[index], &[words]) => Packet::plain(pool, batch.dialect, index, words),
            _ => Packet::special(pool, batch.dialect, index, words, batch.side[first]),
        })
    }
}

impl Drop for DrainPackets<'_> {
    fn drop(&mut self) {
        let Self { batch, next, end } = self;
        let head = batch.head + *next - *end;
        batch.free[head..batch.head].copy_from_slice(&batch.index[*next..*end]);
        batch.head = head;
        batch.trim();
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
            .field("entries", &(self.index.len() - self.next))
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for DrainPackets<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DrainPackets")
            .field("entries", &(self.end - self.next))
            .finish_non_exhaustive()
    }
}
