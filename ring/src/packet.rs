//! A frame that owns itself: may outlive its batch, its queue and its port, and may cross threads.
//!
//! The slower path. Making one from a batch and giving it back to a batch costs no atomic; dropping one elsewhere
//! sends each of its buffers home through the pool's lock-free list.

use std::fmt;
use std::sync::Arc;

use crate::Frame;
use crate::desc::Dialect;
use crate::frame::Side;
use crate::pool::{Pool, Shared};

/// One owned frame.
pub struct Packet {
    /// None only after its buffers were given away.
    pool: Option<Arc<Shared>>,
    dialect: Dialect,
    index: u32,
    words: [u64; 2],
    /// Where the first entry's `SIDE` bit is set, and segments after the first.
    more: Option<Box<More>>,
}

struct More {
    side: Side,
    index: Vec<u32>,
    words: Vec<[u64; 2]>,
}

impl Packet {
    #[inline]
    pub(crate) fn new(
        pool: Arc<Shared>,
        dialect: Dialect,
        index: &[u32],
        words: &[[u64; 2]],
        side: Side,
    ) -> Self {
        let first = words.first().copied().unwrap_or_default();
        let more = if index.len() > 1 || first[1] & crate::desc::rx::SIDE != 0 {
            Some(Box::new(More {
                side,
                index: index.to_vec(),
                words: words.to_vec(),
            }))
        } else {
            None
        };
        Self {
            pool: Some(pool),
            dialect,
            index: index.first().copied().unwrap_or_default(),
            words: first,
            more,
        }
    }

    /// Length in bytes over all segments, without FCS.
    #[must_use]
    pub fn len(&self) -> usize {
        match &self.more {
            None => crate::frame::seg_len(self.words[1]),
            Some(more) => more
                .words
                .iter()
                .map(|words| crate::frame::seg_len(words[1]))
                .sum(),
        }
    }

    /// Buffers it lies in.
    #[must_use]
    pub fn segment_count(&self) -> usize {
        self.more.as_ref().map_or(1, |more| more.index.len())
    }

    /// Runs `read` on the frame.
    pub fn with<R>(&self, read: impl FnOnce(&Frame<'_>) -> R) -> Option<R> {
        const NO_SIDE: Side = Side {
            head: 0,
            offload: crate::TxOffload {
                vlan: None,
                ip_checksum: false,
                l4: None,
                tso_mss: None,
                ipv6: false,
                l2_len: 0,
                l3_len: 0,
                l4_len: 0,
            },
        };
        let shared = self.pool.as_deref()?;
        let frame = match &self.more {
            None => Frame {
                shared,
                dialect: self.dialect,
                index: std::slice::from_ref(&self.index),
                words: std::slice::from_ref(&self.words),
                side: &NO_SIDE,
            },
            Some(more) => Frame {
                shared,
                dialect: self.dialect,
                index: &more.index,
                words: &more.words,
                side: &more.side,
            },
        };
        Some(read(&frame))
    }

    /// The frame in one piece.
    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        self.with(|frame| frame.to_vec()).unwrap_or_default()
    }

    pub(crate) fn is_of(&self, pool: &Pool) -> bool {
        self.pool
            .as_ref()
            .is_some_and(|own| Arc::ptr_eq(own, &pool.0))
    }

    pub(crate) fn side(&self) -> Side {
        self.more.as_ref().map(|more| more.side).unwrap_or_default()
    }

    /// Moves the buffers to the front of these slices, which are long enough; returns the pool handle.
    #[inline]
    pub(crate) fn dissolve(mut self, index: &mut [u32], words: &mut [[u64; 2]]) -> Arc<Shared> {
        match self.more.take() {
            None => {
                index[0] = self.index;
                words[0] = self.words;
            }
            Some(more) => {
                index[..more.index.len()].copy_from_slice(&more.index);
                words[..more.words.len()].copy_from_slice(&more.words);
            }
        }
        match self.pool.take() {
            Some(pool) => pool,
            // `pool` is only ever taken here, and `self` is consumed.
            None => unreachable!("a packet gives its buffers away once"),
        }
    }
}

impl Drop for Packet {
    fn drop(&mut self) {
        let Some(pool) = self.pool.take() else { return };
        match &self.more {
            None => pool.take_one(self.index),
            Some(more) => more.index.iter().for_each(|index| pool.take_one(*index)),
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
