//! Going over a batch's frames: to read them, to change them, to keep some of them.

use std::cell::Cell;
use std::fmt;

use super::Batch;
use crate::desc::{Dialect, rx};
use crate::frame::{Side, is_plain, run};
use crate::lines::shift_down;
use crate::pool::View;
use crate::{Frame, FrameMut};

impl Batch {
    /// The frames, first to last.
    #[must_use]
    #[inline]
    pub fn frames(&self) -> Frames<'_> {
        Frames {
            memory: self.pool.0.view(),
            dialect: self.dialect,
            index: self.index.get(..self.entries).unwrap_or_default(),
            words: self.words.get(..self.entries).unwrap_or_default(),
            side: self.side.get(..self.entries).unwrap_or_default(),
        }
    }

    /// The frames, first to last, to be changed.
    #[must_use]
    #[inline]
    pub fn frames_mut(&mut self) -> FramesMut<'_> {
        let plain = self.all_plain();
        self.frames_as(plain)
    }

    /// Whether all frames are plain.
    #[inline]
    pub(super) fn all_plain(&self) -> bool {
        let words = self.words.get(..self.entries).unwrap_or_default();
        is_plain(words.iter().fold(rx::PLAIN, |all, words| all & words[1]))
    }

    /// All frames, and whether they are all plain.
    #[inline]
    fn frames_as(&mut self, plain: bool) -> FramesMut<'_> {
        let entries = self.entries;
        // All or none, so that they are seen to be of one length: a frame costs one look at it then, not three.
        let (index, words, side) = match (
            self.index.get(..entries),
            self.words.get_mut(..entries),
            self.side.get_mut(..entries),
        ) {
            (Some(index), Some(words), Some(side)) => (index, words, side),
            _ => Default::default(),
        };
        FramesMut {
            memory: self.pool.0.view(),
            dialect: self.dialect,
            plain,
            index,
            words: Cell::from_mut(words).as_slice_of_cells(),
            side: Cell::from_mut(side).as_slice_of_cells(),
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
    pub fn retain_mut(&mut self, keep: impl FnMut(&mut FrameMut<'_>) -> bool) {
        let plain = self.all_plain();
        self.retain_as(plain, keep);
    }

    /// As [`retain_mut`](Self::retain_mut), for what a ring has just put into an empty batch: a received frame in one
    /// buffer is plain. Nothing is left of a closure that keeps all and looks at none.
    #[inline]
    pub(crate) fn retain_received(&mut self, keep: impl FnMut(&mut FrameMut<'_>) -> bool) {
        self.retain_as(self.entries == self.frames, keep);
    }

    #[inline]
    fn retain_as(&mut self, plain: bool, mut keep: impl FnMut(&mut FrameMut<'_>) -> bool) {
        // Mostly all are kept: then nothing moves.
        let mut frames = self.frames_as(plain);
        let refused = loop {
            let at = frames.next;
            let Some(mut frame) = frames.next() else {
                return;
            };
            if !keep(&mut frame) {
                break at;
            }
        };
        self.sift(refused, keep);
    }

    /// Drops the frame that starts at entry `refused`, and those after it for which `keep` does not speak.
    #[inline]
    fn sift(&mut self, refused: usize, mut keep: impl FnMut(&mut FrameMut<'_>) -> bool) {
        let before = Self::count(self.words.get(..refused).unwrap_or_default());
        let mut sieve = Sieve {
            end: std::mem::replace(&mut self.entries, refused),
            from: refused,
            batch: self,
        };
        sieve.batch.frames = before;
        let mut keeps = false;
        while sieve.from < sieve.end {
            let Sieve { batch, from, end } = &mut sieve;
            let next = *from + run(batch.words.get(*from..*end).unwrap_or_default()).max(1);
            if *from > refused {
                keeps = batch.frame_mut(*from, next).as_mut().is_some_and(&mut keep);
            }
            if keeps {
                batch.keep(*from, next);
            } else {
                batch.free_entries(*from, next);
            }
            *from = next;
        }
        drop(sieve);
        self.trim();
    }

    /// Frames in these entries.
    fn count(words: &[[u64; 2]]) -> usize {
        words.iter().filter(|words| words[1] & rx::EOP != 0).count()
    }

    /// The frame in entries `from..to`.
    #[inline]
    pub(super) fn frame_mut(&mut self, from: usize, to: usize) -> Option<FrameMut<'_>> {
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
            let (at, by) = (self.entries, from.saturating_sub(self.entries));
            shift_down(self.index.get_mut(at..to).unwrap_or_default(), by);
            shift_down(self.words.get_mut(at..to).unwrap_or_default(), by);
            let side = self.side.get(from).copied();
            if let (Some(place), Some(side)) = (self.side.get_mut(at), side) {
                *place = side;
            }
        }
        self.entries += to - from;
        self.frames += 1;
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
    /// Whether all frames to come are plain: a frame is changed only after it was handed out.
    plain: bool,
    index: &'a [u32],
    words: &'a [Cell<[u64; 2]>],
    side: &'a [Cell<Side>],
    next: usize,
}

impl<'a> Iterator for FramesMut<'a> {
    type Item = FrameMut<'a>;

    #[inline]
    fn next(&mut self) -> Option<FrameMut<'a>> {
        if self.plain {
            let at = self.next;
            if at >= self.words.len() {
                return None;
            }
            self.next = at + 1;
            let (index, words, side) = (self.index, self.words, self.side);
            return Some(FrameMut::plain(
                self.memory,
                self.dialect,
                index,
                words,
                side,
                at,
            ));
        }
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
            let words = self.batch.words.get(self.from..self.end);
            let next = self.from + run(words.unwrap_or_default()).max(1);
            self.batch.keep(self.from, next);
            self.from = next;
        }
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
