//! A receiver's side of a run.

use std::num::Wrapping;

use vfnic_hw::Family;

use super::common::{Shared, flow_word};
use super::group::GROUP;
use super::{Group, Start, head, known};
use crate::counting::Count;
use crate::data::Function;
use crate::data::checksum::{Sum, sum64};
use crate::data::desc::{Check, RxSplit, Words, data_len, rss_hash, rx_status, rx_types};
use crate::data::filters::Filters;
use crate::data::forward::describe;
use crate::data::hooks::Point;
use crate::data::parse::{Parsed, kind, parse_start};
use crate::data::place::Place;
use crate::data::queue::{RxFormat, RxQueue, TxQueue, places_after};
use crate::data::rss::Rss;
use crate::data::switch::Verdict;
use crate::data::write_back::{Owner, WriteBack};
use crate::dma::{Direction, Translate};
use crate::low_bits::LowBits;

/// What a run of frames did at its receiver.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Run {
    /// Frames consumed, delivered or dropped.
    pub(super) frames: usize,
    pub(super) octets: u64,
    pub(super) delivered: u64,
    pub(super) delivered_octets: u64,
    pub(super) dropped: u64,
}

/// A receiver's side of a run.
pub(super) struct Receiver<'a> {
    pub(super) filters: &'a Filters,
    pub(super) rss: Option<&'a Rss>,
    pub(super) verdict: Verdict,
    pub(super) pool: u8,
    /// The sender's queue.
    pub(super) tx: &'a TxQueue,
}

/// One queue of a receiver.
struct Target<'a> {
    queue: &'a mut RxQueue,
    number: u8,
    space: &'a dyn Translate,
    /// The receiver's hash, if it is on.
    rss: Option<&'a Rss>,
}

impl Receiver<'_> {
    /// Passes as many of the frames `from..to` as go the short way; stops before the first that does not.
    pub(super) fn run(
        &self,
        group: &Group,
        (mut from, to): (usize, usize),
        function: &mut Function,
        place: &mut Place<'_>,
    ) -> Run {
        let mut run = Run::default();
        let Function {
            rx: queues,
            space: Some(space),
            rss: own,
            causes,
            psrtype,
            ..
        } = function
        else {
            return run;
        };
        let model = self.filters.model;
        let rss = self.rss.unwrap_or(own);
        let spread = rss.is_on() && rss.spreads(model, *psrtype);
        while from < to {
            // Frames in a row for one queue; where the hash does not decide that is all of them.
            let (mut number, mut until) = (0, to);
            if spread {
                let queue = |at: usize| {
                    let [_, word] = *group.descriptors.entry(at);
                    let hash = hash(group.starts.entry(at), data_len(word), rss)?;
                    Some(hash.map_or(0, |hash| rss.queue_of(model, hash, *psrtype, queues.len())))
                };
                let Some(first) = queue(from) else {
                    break;
                };
                number = first;
                until = (from..to)
                    .skip(1)
                    .find(|&at| queue(at) != Some(first))
                    .unwrap_or(to);
            }
            let Some(queue) = queues.get_mut(number) else {
                break;
            };
            queue.base.refresh(&**space);
            let number = u8::try_from(number).unwrap_or(0);
            let mut target = Target {
                queue,
                number,
                space: &**space,
                rss: rss.is_on().then_some(rss),
            };
            let before = run.frames;
            if self.pour(group, (from, until), &mut target, place, &mut run) {
                causes.rx |= 1 << (number & 7);
            }
            from.count(run.frames.saturating_sub(before));
            if from < until {
                break;
            }
        }
        run
    }

    /// Passes frames into one queue. True when its driver can see something new.
    fn pour(
        &self,
        group: &Group,
        (mut index, to): (usize, usize),
        target: &mut Target<'_>,
        place: &mut Place<'_>,
        run: &mut Run,
    ) -> bool {
        let owner = Owner {
            pool: self.pool,
            queue: target.number,
            point: Point::RxWriteBack,
        };
        let Target {
            queue, space, rss, ..
        } = target;
        if !queue.is_usable() || queue.settings.format != RxFormat::OneBuffer {
            return false;
        }
        let limit = self.longest(queue);
        let [always, unchecked] = self.always();
        let at_once = place.completion.burst <= 1 && !queue.base.held.must_queue(place.now);
        let mut octets = 0u64;
        let delivered = run.delivered;
        while index < to {
            let [address, word] = *group.descriptors.entry(index);
            let len = data_len(word);
            if len > limit {
                break;
            }
            if queue.at == queue.filled && !queue.fetch(*space, place, owner) {
                if !self.may_drop(queue) {
                    break;
                }
                queue.dropped.count(1);
                run.dropped.count(1);
                run.frames.count(1);
                run.octets.count(u64::from(len) + 4);
                index.count(1);
                continue;
            }
            let first = queue.base.head;
            let iova = queue.base.ring.at(first);
            let fetched = queue.fetched.get(queue.at..queue.filled);
            let Some(fetched @ [[buffer, _], ..]) = fetched else {
                break;
            };
            let buffer = *buffer;
            let windows = &mut queue.base.data_windows;
            if !windows.ensure(*space, buffer, len as usize, Direction::Write) {
                // For the long way to tell of.
                break;
            }
            let sources = &self.tx.base.data_windows;
            let (Some(source), Some(sink), Some(ring)) = (
                sources.mapping(address, Direction::Read),
                queue.base.data_windows.mapping(buffer, Direction::Write),
                queue.base.windows.descriptors(iova, fetched.len()),
            ) else {
                break;
            };
            // Two small loops instead of one keep their state in registers.
            let mut rests = [Wrapping(0); GROUP];
            let copied = group.copy((index, to), source, fetched, sink, limit, &mut rests);
            let taken = index..index.saturating_add(copied);
            let (Some(starts @ [first_start, ..]), Some(descriptors)) = (
                group.starts.get(taken.clone()),
                group.descriptors.get(taken),
            ) else {
                break;
            };
            let mut used = 0usize;
            if at_once {
                let shared = Shared::new(head(first_start), always, unchecked, *rss);
                let (done, more) = shared.publish(starts, descriptors, &rests, &ring);
                used = done;
                octets.count(more);
            }
            // One frame that takes longer, or all of them.
            let frames = starts.iter().zip(descriptors).zip(&rests).enumerate();
            for (at, ((start, &[_, word]), &rest)) in frames.skip(used) {
                let len = data_len(word);
                let Some(words) = self.uncommon(start, len, rest, *rss) else {
                    break;
                };
                if at_once {
                    ring.publish(at, words);
                } else {
                    let address = places_after(iova, at);
                    let held = &mut queue.base.held;
                    held.push(place.now, WriteBack::new(address, words));
                }
                used.count(1);
                octets.count(u64::from(len) + 4);
                if at_once {
                    break;
                }
            }
            if used == 0 {
                break;
            }
            index.count(used);
            run.frames.count(used);
            run.delivered.count(used as u64);
            queue.at.count(used);
            queue.base.head = queue.base.after(first, u32::try_from(used).unwrap_or(0));
        }
        run.octets.count(octets);
        run.delivered_octets.count(octets);
        queue.base.head_word.store(queue.base.head);
        at_once && run.delivered > delivered
    }

    /// The second word of a write-back, but for length and checksums, and that of UDP in IPv4 without a checksum.
    fn always(&self) -> [u64; 2] {
        let model = self.filters.model;
        let unchecked = Parsed {
            kind: kind::IPV4 | kind::UDP,
            ip: Check::Good,
            ..Parsed::default()
        };
        [Parsed::default(), unchecked].map(|parsed| {
            let meta = describe(model, &parsed, &self.verdict, true);
            rx_status(model.family(), &meta, 0)
        })
    }

    /// A write-back by the full parser. None when it needs more than a frame's start.
    #[inline(never)]
    fn uncommon(&self, start: &Start, len: u32, rest: Sum, rss: Option<&Rss>) -> Option<Words> {
        let known = known(start, len);
        let parsed = parse_start(known, len as usize, || sum64(start) + rest)?;
        let model = self.filters.model;
        let mut meta = describe(model, &parsed, &self.verdict, true);
        if let Some((kind, hash)) = rss.and_then(|rss| rss.classify(known, &parsed)) {
            meta.rss_type = kind;
            meta.rss_hash = hash;
        }
        Some([
            rx_types(&meta, RxSplit::default()),
            rx_status(model.family(), &meta, len),
        ])
    }

    /// Longest frame that goes into one buffer of a queue and is not too long for the pool. CRC not included.
    fn longest(&self, queue: &RxQueue) -> u32 {
        let policy = self.filters.pools.entry(self.pool);
        let card = match self.filters.model.family() {
            Family::Ixgbevf => self.filters.max_frame,
            Family::Igbvf => policy.max_len.unwrap_or(1518),
        };
        let limit = card.min(queue.settings.max_len.unwrap_or(u32::MAX));
        limit.saturating_sub(4).min(queue.settings.buffer_size)
    }

    fn may_drop(&self, queue: &RxQueue) -> bool {
        let policy = self.filters.pools.entry(self.pool);
        let drops = queue.settings.drop_en || policy.drop_en;
        drops && !self.filters.flow_control && queue.is_usable()
    }
}

/// The RSS hash of a frame, if it has any. None when that takes more than its start.
fn hash(start: &Start, len: u32, rss: &Rss) -> Option<Option<u32>> {
    if let Some(word) = flow_word(start, len, rss) {
        return Some(rss_hash(word));
    }
    let known = known(start, len);
    let parsed = parse_start(known, len as usize, || Wrapping(0))?;
    Some(rss.classify(known, &parsed).map(|(_, hash)| hash))
}
