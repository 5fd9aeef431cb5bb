//! The short way: plain frames of one descriptor each, from one VF's buffers straight into another's.
//!
//! Whatever is not plain (offloads, chains, tags, several receivers, odd buffers) is left where it is for the long way,
//! which gives the same result; tests hold the two to each other. Nothing here decides anything on its own.
//!
//! A [`Group`] of descriptors is read once, with the first 64 bytes of each frame; frames in a row that go the same way are
//! a run; a run is copied whole and then published whole, so that nobody's cache lines go back and forth meanwhile.

mod common;
mod copy;
mod group;
mod receiver;

use vfnic_hw::{Family, Model};

pub(super) use self::group::Group;
use self::receiver::{Receiver, Run};
use super::DataPath;
use super::desc::{RS, Words};
use super::filters::{VlanInsert, bit};
use super::place::Place;
use super::stats::DropReason;
use super::switch::{Origin, is_plain};
use super::write_back::Owner;
use crate::counting::Count;
use crate::dma::Translate;
use crate::low_bits::LowBits;

/// The addresses, the ethertype and two bytes more: what decides where a frame goes.
type Head = [u8; 16];

/// The first bytes of a frame, or all of a short one and zeros.
type Start = [u8; 64];

/// The head of a start.
#[inline]
fn head(start: &Start) -> &Head {
    // Never the second: a start is longer.
    start.first_chunk().unwrap_or(&[0; 16])
}

/// What is known of a frame of `len` bytes by its start: all of it, or as much as that is.
#[inline]
fn known(start: &Start, len: u32) -> &[u8] {
    start.get(..len as usize).unwrap_or(start)
}

impl DataPath {
    /// Passes up to `most` plain frames of a queue; 0 when the next one needs the long way.
    pub(crate) fn burst(
        &mut self,
        owner: Owner,
        most: u32,
        space: &dyn Translate,
        place: &mut Place<'_>,
    ) -> u32 {
        let source = usize::from(owner.pool);
        let model = self.filters.model;
        let insert = self.filters.pools.entry(source).insert;
        if place.armed || matches!(insert, VlanInsert::Always(_)) {
            return 0;
        }
        let Some(mut group) = self.group.take() else {
            return 0;
        };
        let mut done = 0usize;
        if let Some(tx) = self.tx_queue(owner.pool, owner.queue) {
            tx.group(most as usize, model, space, &mut group);
            while done < group.plain {
                let run = self.run(owner, &group, done, place);
                if run.frames == 0 {
                    break;
                }
                done.count(run.frames);
            }
            if let Some(descriptors) = group.descriptors.get(..done).filter(|_| done > 0) {
                self.complete_burst(owner, descriptors, space, place);
            }
        }
        self.group = Some(group);
        u32::try_from(done).unwrap_or(0)
    }

    /// Passes the frames from `from` on that go the same way.
    fn run(&mut self, owner: Owner, group: &Group, from: usize, place: &mut Place<'_>) -> Run {
        let source = usize::from(owner.pool);
        let nothing = Run::default();
        let starts = group.starts.get(from..group.plain);
        let Some((start, later)) = starts.and_then(<[Start]>::split_first) else {
            return nothing;
        };
        let head = head(start);
        if !is_plain(head) || head[0] & 1 != 0 {
            return nothing;
        }
        let origin = Origin::Pool(owner.pool);
        let verdict = self.cache.verdict(&self.filters, origin, head);
        let outside = bit(self.filters.pf_pool) | bit(owner.pool);
        if verdict.drop.is_some()
            || verdict.wire
            || verdict.disabled != 0
            || verdict.pools & outside != 0
            || !verdict.pools.is_power_of_two()
        {
            return nothing;
        }
        // Bytes 0..14: addresses and ethertype.
        let first = u128::from_le_bytes(*head) << 16;
        let same = |head: &Head| u128::from_le_bytes(*head) << 16 == first;
        let to = (from..)
            .skip(1)
            .zip(later)
            .find(|(_, start)| !same(self::head(start)))
            .map_or(group.plain, |(at, _)| at);
        let pool = u8::try_from(verdict.pools.trailing_zeros()).unwrap_or(0);
        let both = [source, usize::from(pool)];
        let Ok([sender, other]) = self.functions.get_disjoint_mut(both) else {
            return nothing;
        };
        let Some(tx) = sender.tx.get(usize::from(owner.queue)) else {
            return nothing;
        };
        let receiver = Receiver {
            filters: &self.filters,
            rss: match self.filters.model {
                Model::X550 => None,
                Model::I82599 | Model::X540 => Some(&self.pf_rss),
                _ if self.filters.pools.entry(pool).rss => Some(&self.pf_rss),
                _ => Some(&self.no_rss),
            },
            verdict,
            pool,
            tx,
        };
        let run = receiver.run(group, (from, to), other, place);
        sender.stats.taken.count(run.frames as u64);
        sender.stats.count_tx(run.frames as u64, run.octets, true);
        // Missed frames count as received on the 10 GbE cards.
        let (frames, octets) = match self.filters.model.family() {
            Family::Ixgbevf => (run.frames as u64, run.octets),
            Family::Igbvf => (run.delivered, run.delivered_octets),
        };
        let stats = &mut other.stats;
        stats.gprc.count(frames);
        stats.gorc.count(octets);
        stats.gprlbc.count(frames);
        stats.gorlbc.count(octets);
        stats.delivered.count(run.delivered);
        stats.drops.add(DropReason::NoDescriptors, run.dropped);
        run
    }

    /// Reports the descriptors of a burst's frames and moves the head over them.
    fn complete_burst(
        &mut self,
        owner: Owner,
        descriptors: &[Words],
        space: &dyn Translate,
        place: &mut Place<'_>,
    ) {
        let Some(function) = self.functions.get_mut(usize::from(owner.pool)) else {
            return;
        };
        let Some(tx) = function.tx.get_mut(usize::from(owner.queue)) else {
            return;
        };
        let head = tx.base.head;
        for (offset, [_, word]) in (0u32..).zip(descriptors) {
            if word & RS != 0 {
                let index = tx.base.after(head, offset);
                tx.base.head = tx.base.after(index, 1);
                if tx.report(space, place, owner, index) {
                    function.causes.tx |= 1 << (owner.queue & 7);
                }
            }
        }
        if tx.base.count != 0 {
            tx.base.head = tx
                .base
                .after(head, u32::try_from(descriptors.len()).unwrap_or(0));
        }
        tx.base.head_word.store(tx.base.head);
    }
}
