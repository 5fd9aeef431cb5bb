//! A frame that owns itself: may outlive its batch, its queue and its port, and may cross threads.
//!
//! The slower path. Making one from a batch and giving it back to a batch costs no atomic; dropping one elsewhere
//! sends each of its buffers home through the pool's lock-free list.

use std::cell::Cell;
use std::fmt;
use std::slice;

use crate::desc::Dialect;
use crate::frame::{Side, is_plain};
use crate::meta::seg_len;
use crate::pool::{Pool, View};
use crate::{Frame, FrameMut, TxOffload};

const NO_SIDE: Side = Side {
    shift: 0,
    offload: TxOffload::NONE,
    dialect: None,
};

/// One owned frame.
pub struct Packet {
    /// None only after its buffers were given away.
    pool: Option<Pool>,
    /// Everything, for frames that are not plain: several buffers, a moved head, requests.
    more: Option<Box<More>>,
    words: [u64; 2],
    index: u32,
    /// Four bytes, so that there is no padding: a packet that moves is moved by wide loads, which wait for narrow
    /// stores.
    dialect: Dialect,
}

struct More {
    side: Side,
    index: Vec<u32>,
    words: Vec<[u64; 2]>,
}

impl Packet {
    #[inline]
    pub(crate) const fn plain(pool: Pool, dialect: Dialect, index: u32, words: [u64; 2]) -> Self {
        Self {
            pool: Some(pool),
            more: None,
            words,
            index,
            dialect,
        }
    }

    #[cold]
    pub(crate) fn special(
        pool: Pool,
        dialect: Dialect,
        index: &[u32],
        words: &[[u64; 2]],
        side: Side,
    ) -> Self {
        Self {
            pool: Some(pool),
            more: Some(Box::new(More {
                side,
                index: index.to_vec(),
                words: words.to_vec(),
            })),
            words: words.first().copied().unwrap_or_default(),
            index: index.first().copied().unwrap_or_default(),
            dialect,
        }
    }

    /// Length in bytes over all segments, without FCS.
    #[must_use]
    #[inline]
    pub fn len(&self) -> usize {
        match &self.more {
            None => seg_len(self.words[1]),
            Some(more) => more.words.iter().map(|words| seg_len(words[1])).sum(),
        }
    }

    /// Buffers it lies in.
    #[must_use]
    #[inline]
    pub fn segment_count(&self) -> usize {
        self.more.as_ref().map_or(1, |more| more.index.len())
    }

    /// Whether the frame lies in one buffer.
    #[must_use]
    #[inline]
    pub fn is_single(&self) -> bool {
        self.segment_count() == 1
    }

    /// The pool's memory, and of it the first buffer, where in it the data is, and how much.
    #[inline]
    fn first(&self) -> (View<'_>, u32, usize, usize) {
        let Some(pool) = &self.pool else {
            return (View::NONE, 0, 0, 0);
        };
        let memory = pool.0.view();
        let (index, head, len) = match &self.more {
            None => (self.index, memory.headroom(), seg_len(self.words[1])),
            Some(more) => more.first(memory.headroom()),
        };
        (memory, index, head, len)
    }

    /// The bytes of the first segment: the whole frame where [`is_single`](Self::is_single).
    #[must_use]
    #[inline]
    pub fn data(&self) -> &[u8] {
        let (memory, index, head, len) = self.first();
        // SAFETY: the packet owns the index, and the borrow ties the slice to it; head and length were checked
        // against the buffer when they came about.
        unsafe { memory.slice(index, head, len) }
    }

    /// The bytes of the first segment, to be changed in place.
    #[must_use]
    #[inline]
    pub fn data_mut(&mut self) -> &mut [u8] {
        let (memory, index, head, len) = self.first();
        // SAFETY: as in `data`, and the borrow is exclusive.
        unsafe { memory.slice(index, head, len) }
    }

    /// The frame, to be read like one of a batch.
    #[must_use]
    pub fn frame(&self) -> Frame<'_> {
        let Some(pool) = &self.pool else {
            return Frame::new(View::NONE, self.dialect, &[], &[], &NO_SIDE);
        };
        let (index, words, side) = match &self.more {
            None => (
                slice::from_ref(&self.index),
                slice::from_ref(&self.words),
                &NO_SIDE,
            ),
            Some(more) => (&more.index[..], &more.words[..], &more.side),
        };
        Frame::new(pool.0.view(), self.dialect, index, words, side)
    }

    /// The frame, to be changed like one of a batch. The first call allocates what a plain packet does without; for
    /// bytes alone [`data_mut`](Self::data_mut) is cheaper.
    #[must_use]
    pub fn frame_mut(&mut self) -> FrameMut<'_> {
        let Some(pool) = &self.pool else {
            return FrameMut::first(View::NONE, self.dialect, &[], &[], &[]);
        };
        let memory = pool.0.view();
        let more = self.more.get_or_insert_with(|| {
            Box::new(More {
                side: NO_SIDE,
                index: vec![self.index],
                words: vec![self.words],
            })
        });
        FrameMut::first(
            memory,
            self.dialect,
            &more.index,
            Cell::from_mut(&mut more.words[..]).as_slice_of_cells(),
            slice::from_ref(Cell::from_mut(&mut more.side)),
        )
    }

    /// The frame in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.frame().to_vec()
    }

    #[inline]
    pub(crate) fn is_of(&self, pool: &Pool) -> bool {
        self.pool.as_ref().is_some_and(|own| own.is(pool))
    }

    /// Whether there is nothing but one buffer and its write-back.
    #[inline]
    pub(crate) const fn is_plain(&self) -> bool {
        self.more.is_none()
    }

    #[inline]
    pub(crate) const fn dialect(&self) -> Dialect {
        self.dialect
    }

    /// Gives a plain packet's parts away: the pool, the buffer, the write-back. The pool is always there.
    #[inline]
    pub(crate) fn dissolve(mut self) -> (Option<Pool>, u32, [u64; 2]) {
        let parts = (self.pool.take(), self.index, self.words);
        // Nothing is left in it: a plain packet has no more.
        std::mem::forget(self);
        parts
    }

    /// Gives every buffer and write-back to `take`, in order, and returns what else there is.
    pub(crate) fn dissolve_all(
        mut self,
        mut take: impl FnMut(u32, [u64; 2]),
    ) -> (Option<Pool>, Side) {
        let pool = self.pool.take();
        let Some(more) = self.more.take() else {
            take(self.index, self.words);
            return (pool, NO_SIDE);
        };
        for (index, words) in more.index.iter().zip(&more.words) {
            take(*index, *words);
        }
        (pool, more.side)
    }
}

impl More {
    #[cold]
    fn first(&self, headroom: usize) -> (u32, usize, usize) {
        let (Some(&index), Some(&[_, word1])) = (self.index.first(), self.words.first()) else {
            return (0, headroom, 0);
        };
        let shift = if is_plain(word1) { 0 } else { self.side.shift };
        (
            index,
            headroom.wrapping_add_signed(shift.into()),
            seg_len(word1),
        )
    }
}

impl Drop for Packet {
    #[inline]
    fn drop(&mut self) {
        if let Some(pool) = self.pool.take() {
            match &self.more {
                None => pool.0.take_singles(&[self.index]),
                Some(more) => pool.0.take_singles(&more.index),
            }
        }
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("len", &self.len())
            .field("segments", &self.segment_count())
            .finish_non_exhaustive()
    }
}
