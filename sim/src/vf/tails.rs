//! What there is one of for each queue of a VF, and the tail words that are written without the card's lock.

use std::ops::{Index, IndexMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

use crate::data::Line;
use crate::low_bits::LowBits;

/// Most queues a VF has registers for, each way.
pub(crate) const QUEUES: usize = 8;

/// Which way a queue goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Rx,
    Tx,
}

impl Direction {
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Rx => "RX",
            Self::Tx => "TX",
        }
    }
}

/// One of something for each queue that a VF can have. Which one is meant is said by the low bits of a number, as in an
/// address.
#[derive(Clone, Debug, Default)]
pub(crate) struct PerQueue<T>([T; QUEUES]);

impl<T> PerQueue<T> {
    pub(crate) fn iter(&self) -> std::slice::Iter<'_, T> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> std::slice::IterMut<'_, T> {
        self.0.iter_mut()
    }
}

impl<T> Index<usize> for PerQueue<T> {
    type Output = T;

    #[inline]
    fn index(&self, queue: usize) -> &T {
        self.0.entry(queue)
    }
}

impl<T> IndexMut<usize> for PerQueue<T> {
    #[inline]
    fn index_mut(&mut self, queue: usize) -> &mut T {
        self.0.entry_mut(queue)
    }
}

/// One of something for each direction.
#[derive(Debug, Default)]
pub(crate) struct PerDirection<T> {
    rx: T,
    tx: T,
}

impl<T> Index<Direction> for PerDirection<T> {
    type Output = T;

    #[inline]
    fn index(&self, direction: Direction) -> &T {
        match direction {
            Direction::Rx => &self.rx,
            Direction::Tx => &self.tx,
        }
    }
}

impl<T> IndexMut<Direction> for PerDirection<T> {
    fn index_mut(&mut self, direction: Direction) -> &mut T {
        match direction {
            Direction::Rx => &mut self.rx,
            Direction::Tx => &mut self.tx,
        }
    }
}

/// A VF's head and tail words, RX queues and TX queues.
#[derive(Debug, Default)]
pub(crate) struct Words {
    pub(crate) tails: PerDirection<Vec<Arc<Line>>>,
    pub(crate) heads: PerDirection<Vec<Arc<Line>>>,
}

/// One VF's words outside the lock.
#[derive(Debug)]
pub(crate) struct Tails {
    words: Words,
    /// Descriptors in the ring while a tail may be written, else 0; one word a queue.
    limits: PerDirection<PerQueue<AtomicU32>>,
    /// The function is gone: writes go nowhere.
    pub(crate) removed: AtomicBool,
}

impl Tails {
    pub(crate) fn new(words: Words) -> Self {
        Self {
            words,
            limits: Default::default(),
            removed: AtomicBool::new(false),
        }
    }

    /// Publishes a tail. False when the queue cannot take that one: the card should have a look.
    #[inline]
    pub(crate) fn set(&self, direction: Direction, queue: usize, tail: u32) -> bool {
        if self.removed.load(Ordering::Relaxed) {
            return true;
        }
        let Some(word) = self.words.tails[direction].get(queue) else {
            return false;
        };
        word.store(tail & 0xffff);
        tail < self.limits[direction][queue].load(Ordering::Relaxed)
    }

    pub(crate) fn get(&self, direction: Direction, queue: usize) -> u32 {
        self.words.tails[direction]
            .get(queue)
            .map_or(0, |word| word.load())
    }

    /// The head, as the data path last moved it.
    pub(crate) fn head(&self, direction: Direction, queue: usize) -> u32 {
        self.words.heads[direction]
            .get(queue)
            .map_or(0, |word| word.load())
    }

    pub(super) fn set_limit(&self, direction: Direction, queue: usize, limit: u32) {
        self.limits[direction][queue].store(limit, Ordering::Relaxed);
    }
}
