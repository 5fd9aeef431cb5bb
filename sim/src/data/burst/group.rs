//! A group of descriptors at the head of a TX ring, and the beginnings of their frames.

use vfnic_hw::Model;

use super::Start;
use crate::counting::Count;
use crate::data::desc::{CC, PLAIN, PLAIN_MASK, SLOT, TxContext, Words, data_len, payload_len};
use crate::data::queue::{TxQueue, places_after};
use crate::data::transmit::MIN_FRAME;
use crate::data::tx::MAX_FRAME;
use crate::dma::{Chunks, Direction, Translate, prefetch_read};

/// Descriptors looked at together: 8 cache lines of them.
pub(super) const GROUP: usize = 32;

/// A group of plain frames at the head of a TX ring.
#[derive(Debug)]
pub(in crate::data) struct Group {
    pub(super) descriptors: [Words; GROUP],
    /// The first 64 bytes of each frame, read once; zeros behind a shorter one.
    pub(super) starts: [Start; GROUP],
    /// How many are plain, from the first on.
    pub(super) plain: usize,
}

impl Group {
    pub(in crate::data) const fn new() -> Self {
        Self {
            descriptors: [[0; 2]; GROUP],
            starts: [[0; 64]; GROUP],
            plain: 0,
        }
    }
}

/// The bits of a data descriptor's second word that must match for the short way, and how, given the queue's contexts:
/// whoever asks for the check of a context that was never loaded goes the long way, to be told so.
const fn plain_bits(model: Model, contexts: &[Option<TxContext>; 2]) -> (u64, u64) {
    let (mut mask, mut value) = (PLAIN_MASK, PLAIN);
    if matches!(model, Model::X550) {
        mask |= CC;
        value |= CC;
    } else if contexts[0].is_none() {
        mask |= CC;
    }
    if contexts[1].is_none() {
        mask |= SLOT;
    }
    if contexts[0].is_none() && matches!(model, Model::X550) {
        // Nothing matches.
        value |= !mask;
    }
    (mask, value)
}

impl TxQueue {
    /// Reads the descriptors at the head and finds the plain frames among the first of them.
    pub(super) fn group(
        &mut self,
        most: usize,
        model: Model,
        space: &dyn Translate,
        group: &mut Group,
    ) {
        group.plain = 0;
        if !self.assembly.is_empty() || self.limit.is_some() {
            return;
        }
        let head = self.base.head;
        // A tail beyond the ring is for the long way to complain of.
        let available = self.base.peek(head) as usize;
        let until_wrap = self.base.count.saturating_sub(head) as usize;
        let want = available.min(until_wrap).min(most).min(GROUP);
        let Some(descriptors) = group.descriptors.get_mut(..want).filter(|_| want > 0) else {
            return;
        };
        let iova = self.base.ring.at(head);
        let got = self.base.windows.fetch(space, iova, descriptors);
        let next = places_after(iova, got);
        let more = available.min(until_wrap).saturating_sub(got).min(2 * GROUP);
        let first = group.descriptors[0][0];
        let windows = &self.base.data_windows;
        let Some(mapping) = windows.mapping(first, Direction::Read) else {
            return;
        };
        // While this group is worked on, the next one's frames travel, and the descriptors after those.
        let (near, far) = (more.min(GROUP), more.saturating_sub(GROUP));
        let rings = &self.base.windows;
        rings.prefetch(places_after(next, near), far, Direction::Read);
        let (mask, value) = plain_bits(model, &self.contexts);
        let mut plain = 0usize;
        for &[address, word] in group.descriptors.iter().take(got) {
            let len = data_len(word);
            let usual = (MIN_FRAME..=MAX_FRAME).contains(&(len as usize));
            if word & mask != value || payload_len(word) != len || !usual {
                break;
            }
            // A short frame's start is read past its end, if that is there to be read; the rest is no part of it.
            let Some(frame) = mapping.part(address, (len as usize).max(64)) else {
                break;
            };
            prefetch_read(&frame);
            plain.count(1);
        }
        group.plain = plain;
        rings.addresses(next, near, |address| {
            if let Some(frame) = mapping.part(address, 64) {
                prefetch_read(&frame);
            }
        });
        let starts = group.starts.iter_mut().take(plain);
        for (&[address, word], start) in group.descriptors.iter().zip(starts) {
            if let Some(frame) = mapping.part(address, 64) {
                *start = frame.load(0);
            }
            let len = data_len(word) as usize;
            if len < 64
                && let Some(last) = start.last_chunk_mut::<8>()
            {
                // 60 bytes at least.
                let beyond = 64usize.saturating_sub(len) << 3;
                *last = (u64::from_le_bytes(*last) << beyond >> beyond).to_le_bytes();
            }
        }
    }
}
