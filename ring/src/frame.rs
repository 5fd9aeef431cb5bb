//! One frame of a batch: its bytes, what the card said about it, and what to ask of the card on its way out.

use std::cell::Cell;
use std::fmt;

use crate::desc::{Dialect, rx};
use crate::meta::{Meta, seg_len};
use crate::pool::View;
use crate::{Checksums, FrameError, PacketType, RssHash, TxOffload};

/// Fewest bytes of a frame: an Ethernet header.
pub const MIN_FRAME: usize = 14;

/// What a frame carries beyond indices and write-backs; looked at only where DD is cleared in its entries.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Side {
    /// How far the data's start has been moved, in bytes.
    pub(crate) shift: i16,
    pub(crate) offload: TxOffload,
    /// Whose write-back it is, if not the batch's.
    pub(crate) dialect: Option<Dialect>,
}

/// Whether a frame is in one buffer, with nothing in the side table.
#[inline]
pub(crate) const fn is_plain(word1: u64) -> bool {
    word1 & rx::PLAIN == rx::PLAIN
}

/// Entries of the frame that starts `words`.
#[inline]
pub(crate) fn run(words: &[[u64; 2]]) -> usize {
    match words {
        [[_, first], ..] if first & rx::EOP != 0 => 1,
        _ => long_run(words.iter().copied()),
    }
}

#[cold]
fn long_run(mut words: impl ExactSizeIterator<Item = [u64; 2]>) -> usize {
    let all = words.len();
    let last = words.position(|[_, word1]| word1 & rx::EOP != 0);
    last.map_or(all, |last| last + 1)
}

/// Entries of a frame that is not plain, and where its data starts.
#[cold]
#[inline(never)]
fn look_closely(
    words: &[Cell<[u64; 2]>],
    side: &[Cell<Side>],
    at: usize,
    headroom: usize,
) -> (usize, usize) {
    let words = words.get(at..).unwrap_or_default();
    let side = side.get(at).map(Cell::get).unwrap_or_default();
    let head = headroom.wrapping_add_signed(side.shift.into());
    (long_run(words.iter().map(Cell::get)), head)
}

/// A frame to read.
#[derive(Clone, Copy)]
pub struct Frame<'a> {
    memory: View<'a>,
    dialect: Dialect,
    /// Its entries.
    index: &'a [u32],
    words: &'a [[u64; 2]],
    side: &'a Side,
    /// Bytes from the first buffer's start to the data.
    head: usize,
}

/// A frame to read and change.
///
/// Only ever one of a frame: the iterators that make them go over a batch borrowed exclusively, once.
pub struct FrameMut<'a> {
    memory: View<'a>,
    dialect: Dialect,
    /// All entries of the batch, of which the frame's are `segments` from `at` on; cells, so that going from one
    /// frame to the next is counting and not cutting slices.
    index: &'a [u32],
    words: &'a [Cell<[u64; 2]>],
    side: &'a [Cell<Side>],
    at: usize,
    segments: usize,
    /// Bytes from the first buffer's start to the data.
    head: usize,
}

impl<'a> Frame<'a> {
    /// The frame in these entries.
    #[inline]
    pub(crate) fn new(
        memory: View<'a>,
        dialect: Dialect,
        index: &'a [u32],
        words: &'a [[u64; 2]],
        side: &'a Side,
    ) -> Self {
        let plain = words.first().is_some_and(|words| is_plain(words[1]));
        let shift = if plain { 0 } else { side.shift };
        Self {
            memory,
            dialect,
            index,
            words,
            side,
            head: memory.headroom().wrapping_add_signed(shift.into()),
        }
    }

    #[inline]
    fn word(&self, number: usize) -> [u64; 2] {
        self.words.get(number).copied().unwrap_or_default()
    }

    const fn side(&self) -> Side {
        *self.side
    }

    #[inline]
    fn buffer(&self, number: usize) -> Option<u32> {
        self.index.get(number).copied()
    }

    /// Buffers the frame lies in.
    #[must_use]
    #[inline]
    pub const fn segment_count(&self) -> usize {
        self.words.len()
    }
}

impl<'a> FrameMut<'a> {
    /// The frame that starts at entry `at`; None at the end. The caller hands out no other of the same frame.
    #[inline]
    pub(crate) fn new(
        memory: View<'a>,
        dialect: Dialect,
        index: &'a [u32],
        words: &'a [Cell<[u64; 2]>],
        side: &'a [Cell<Side>],
        at: usize,
    ) -> Option<Self> {
        let headroom = memory.headroom();
        let (segments, head) = if is_plain(words.get(at)?.get()[1]) {
            (1, headroom)
        } else {
            look_closely(words, side, at, headroom)
        };
        Some(Self {
            memory,
            dialect,
            index,
            words,
            side,
            at,
            segments,
            head,
        })
    }

    /// The plain frame in entry `at`, in one buffer. The caller hands out no other of the same frame.
    #[inline(always)]
    pub(crate) const fn plain(
        memory: View<'a>,
        dialect: Dialect,
        index: &'a [u32],
        words: &'a [Cell<[u64; 2]>],
        side: &'a [Cell<Side>],
        at: usize,
    ) -> Self {
        let head = memory.headroom();
        Self {
            memory,
            dialect,
            index,
            words,
            side,
            at,
            segments: 1,
            head,
        }
    }

    /// The frame in these entries, of which there is at least one.
    pub(crate) fn first(
        memory: View<'a>,
        dialect: Dialect,
        index: &'a [u32],
        words: &'a [Cell<[u64; 2]>],
        side: &'a [Cell<Side>],
    ) -> Self {
        Self::new(memory, dialect, index, words, side, 0).unwrap_or(Self {
            memory,
            dialect,
            index: &[],
            words: &[],
            side: &[],
            at: 0,
            segments: 0,
            head: 0,
        })
    }

    #[inline]
    fn word(&self, number: usize) -> [u64; 2] {
        let words = self.words.get(self.at + number).map(Cell::get);
        words.unwrap_or_default()
    }

    fn side(&self) -> Side {
        self.side.get(self.at).map(Cell::get).unwrap_or_default()
    }

    #[inline]
    fn buffer(&self, number: usize) -> Option<u32> {
        self.index.get(self.at + number).copied()
    }

    /// Buffers the frame lies in.
    #[must_use]
    #[inline]
    pub const fn segment_count(&self) -> usize {
        self.segments
    }
}

macro_rules! frame_reads {
    () => {
        fn meta(&self) -> Meta {
            // All but length is valid in the last descriptor only.
            let [word0, word1] = self.word(self.segment_count().saturating_sub(1));
            let dialect = match self.side().dialect {
                Some(dialect) if !is_plain(word1) => dialect,
                _ => self.dialect,
            };
            Meta {
                dialect,
                word0,
                word1,
            }
        }

        /// Length in bytes over all segments, without FCS.
        #[must_use]
        #[inline]
        pub fn len(&self) -> usize {
            (0..self.segment_count())
                .map(|number| seg_len(self.word(number)[1]))
                .sum()
        }

        /// Whether the frame lies in one buffer.
        #[must_use]
        #[inline]
        pub const fn is_single(&self) -> bool {
            self.segment_count() == 1
        }

        /// The bytes of the first segment: the whole frame where [`is_single`](Self::is_single).
        #[must_use]
        #[inline]
        pub fn data(&self) -> &[u8] {
            self.segment(0, self.head)
        }

        #[inline]
        fn segment(&self, number: usize, head: usize) -> &[u8] {
            let Some(index) = self.buffer(number) else {
                return &[];
            };
            let len = seg_len(self.word(number)[1]);
            // SAFETY: whoever this frame borrows from owns the index, and the borrow ties the slice to it; head and
            // length were checked against the buffer when they came about.
            unsafe { self.memory.slice(index, head, len) }
        }

        /// The frame's bytes, buffer by buffer.
        pub fn segments(&self) -> impl Iterator<Item = &[u8]> + '_ {
            (0..self.segment_count()).map(|number| {
                let head = if number == 0 {
                    self.head
                } else {
                    self.memory.headroom()
                };
                self.segment(number, head)
            })
        }

        /// Copies the frame, as much of it as fits, and returns how much that was.
        pub fn copy_to(&self, mut to: &mut [u8]) -> usize {
            let mut copied = 0;
            for from in self.segments() {
                let len = from.len().min(to.len());
                to[..len].copy_from_slice(&from[..len]);
                to = &mut to[len..];
                copied += len;
            }
            copied
        }

        /// The frame in one piece.
        #[must_use]
        pub fn to_vec(&self) -> Vec<u8> {
            let mut all = vec![0; self.len()];
            self.copy_to(&mut all);
            all
        }

        /// The card's verdicts on the checksums.
        #[must_use]
        pub fn checksums(&self) -> Checksums {
            self.meta().checksums()
        }

        /// The 802.1Q tag that came with the frame (TCI). It is out of the data only where stripping is on.
        #[must_use]
        pub fn vlan(&self) -> Option<u16> {
            self.meta().vlan()
        }

        /// The RSS hash, where the card computed one.
        #[must_use]
        pub fn rss(&self) -> Option<RssHash> {
            self.meta().rss()
        }

        /// What the card recognised.
        #[must_use]
        pub fn packet_type(&self) -> PacketType {
            self.meta().packet_type()
        }

        /// Whether it came from another function of the same card. QEMU's igb never says so.
        #[must_use]
        pub fn looped_back(&self) -> bool {
            self.meta().looped_back()
        }
    };
}

impl Frame<'_> {
    frame_reads!();
}

impl FrameMut<'_> {
    frame_reads!();

    /// The bytes of the first segment, to be changed in place.
    #[must_use]
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let Some(index) = self.buffer(0) else {
            return &mut [];
        };
        let len = seg_len(self.word(0)[1]);
        // SAFETY: whoever this frame borrows from owns the index, and the exclusive borrow ties the slice to it; head
        // and length were checked against the buffer when they came about.
        unsafe { self.memory.slice(index, self.head, len) }
    }

    /// Sets the length of a one-buffer frame; bytes that were not part of it keep what was in the buffer.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] below an Ethernet header, above the buffer, or for a frame of several buffers.
    #[inline]
    pub fn set_len(&mut self, len: usize) -> Result<(), FrameError> {
        let max = if self.is_single() {
            self.memory.room().saturating_sub(self.head)
        } else {
            0
        };
        if !(MIN_FRAME..=max).contains(&len) {
            return Err(FrameError::Length {
                len,
                min: MIN_FRAME,
                max,
            });
        }
        self.write_len(len);
        Ok(())
    }

    /// `len` is at most a buffer with its headroom: 17 KiB.
    #[inline]
    fn write_len(&mut self, len: usize) {
        if let Some(words) = self.words.get(self.at) {
            let [word0, word1] = words.get();
            let len = (len as u64 & 0xffff) << rx::LEN_SHIFT;
            words.set([word0, word1 & !(0xffff << rx::LEN_SHIFT) | len]);
        }
    }

    /// Begins to use the side table, and changes what stands there.
    fn mark(&mut self, change: impl FnOnce(&mut Side)) {
        let plain = is_plain(self.word(0)[1]);
        let mut side = if plain { Side::default() } else { self.side() };
        change(&mut side);
        if let Some(place) = self.side.get(self.at) {
            place.set(side);
        }
        for words in self.words.iter().skip(self.at).take(self.segments) {
            let [word0, word1] = words.get();
            words.set([word0, word1 & !rx::DD]);
        }
    }

    /// Makes room for `by` bytes in front of the data, taken from the headroom; they hold what was there before.
    ///
    /// # Errors
    ///
    /// [`FrameError::Headroom`] when there is less.
    pub fn push_front(&mut self, by: usize) -> Result<&mut [u8], FrameError> {
        let have = self.head;
        if by > have {
            return Err(FrameError::Headroom { by, have });
        }
        let len = seg_len(self.word(0)[1]) + by;
        self.move_head(have - by, len);
        let data = self.data_mut();
        let by = by.min(data.len());
        Ok(&mut data[..by])
    }

    /// Takes `by` bytes off the front.
    ///
    /// # Errors
    ///
    /// [`FrameError::Length`] when less than an Ethernet header would stay in the first buffer.
    pub fn pull_front(&mut self, by: usize) -> Result<(), FrameError> {
        let have = seg_len(self.word(0)[1]);
        match have.checked_sub(by) {
            Some(left) if left >= MIN_FRAME => {
                self.move_head(self.head + by, left);
                Ok(())
            }
            left => Err(FrameError::Length {
                len: left.unwrap_or(0),
                min: MIN_FRAME,
                max: have,
            }),
        }
    }

    /// Both are inside a buffer with its headroom: 17 KiB.
    fn move_head(&mut self, head: usize, len: usize) {
        let shift = head.cast_signed() - self.memory.headroom().cast_signed();
        self.mark(|side| side.shift = i16::try_from(shift).unwrap_or(0));
        self.head = head;
        self.write_len(len);
    }

    /// Asks the card for offloads when the frame is sent; replaces what was asked before.
    ///
    /// # Errors
    ///
    /// [`FrameError::Headers`] or [`FrameError::Tso`] when the lengths cannot be right for this frame.
    pub fn request(&mut self, offload: TxOffload) -> Result<(), FrameError> {
        offload.check(seg_len(self.word(0)[1]))?;
        self.mark(|side| side.offload = offload);
        Ok(())
    }
}

impl fmt::Debug for Frame<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Frame")
            .field("len", &self.len())
            .field("segments", &self.segment_count())
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for FrameMut<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FrameMut")
            .field("len", &self.len())
            .field("segments", &self.segment_count())
            .finish_non_exhaustive()
    }
}
