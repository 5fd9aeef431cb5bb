//! The short way: plain frames of one descriptor each, from one VF's buffers straight into another's.
//!
//! Whatever is not plain (offloads, chains, tags, several receivers, odd buffers) is left where it is for the long way,
//! which gives the same result; tests hold the two to each other. Nothing here decides anything on its own.

use vfnic_hw::{Family, Model};

use super::checksum::sum64;
use super::desc::{
    CC, PLAIN, PLAIN_MASK, RS, RxSplit, Words, context_slot, data_len, payload_len, rx_status,
    rx_types,
};
use super::filters::{Filters, VlanInsert, bit};
use super::forward::describe;
use super::hooks::Point;
use super::parse::parse_start;
use super::place::Place;
use super::queue::{RxFormat, RxQueue, TxQueue};
use super::rss::Rss;
use super::stats::DropReason;
use super::switch::{Origin, Verdict, is_plain, key};
use super::transmit::MIN_FRAME;
use super::tx::MAX_FRAME;
use super::write_back::{Owner, WriteBack};
use super::{DataPath, Function};
use crate::dma::{Chunks, Direction, Translate, VolatileSlice, prefetch_read};

/// Descriptors looked at together: 8 cache lines of them.
const GROUP: usize = 32;

/// The first bytes of a frame, or all of a short one and zeros.
type Start = [u8; 64];

/// A group of plain frames at the head of a TX ring.
#[derive(Debug)]
pub(crate) struct Group {
    descriptors: [Words; GROUP],
    starts: [Start; GROUP],
    /// How many are plain, from the first on.
    plain: usize,
}

impl Group {
    pub(crate) const fn new() -> Self {
        Self {
            descriptors: [[0; 2]; GROUP],
            starts: [[0; 64]; GROUP],
            plain: 0,
        }
    }
}

/// Copies the first 64 bytes of a frame of at least [`MIN_FRAME`] bytes; zeros follow a shorter one.
#[inline]
fn start_of(frame: &VolatileSlice<'_>, start: &mut Start) {
    if frame.len() >= 64 {
        *start = frame.load(0);
        return;
    }
    // Two copies of a fixed size that overlap beat one of a length known only now.
    let back_at = frame.len() - 32;
    let (front, back) = (frame.load::<32>(0), frame.load::<32>(back_at));
    start[32..].fill(0);
    start[..32].copy_from_slice(&front);
    start[back_at..back_at + 32].copy_from_slice(&back);
}

/// Copies a frame whose first bytes are at hand, and sums all of it.
#[inline]
fn copy_and_sum(frame: &VolatileSlice<'_>, start: &Start, to: &VolatileSlice<'_>) -> u64 {
    let len = frame.len();
    if len < 64 {
        let back_at = len.saturating_sub(32).min(32);
        let (mut front, mut back) = ([0; 32], [0; 32]);
        front.copy_from_slice(&start[..32]);
        back.copy_from_slice(&start[back_at..back_at + 32]);
        to.store(0, &front);
        to.store(back_at, &back);
        return sum64(start);
    }
    to.store(0, start);
    let mut total = sum64(start);
    let mut at = 64;
    while at + 64 <= len {
        let chunk = frame.load(at);
        to.store(at, &chunk);
        total += sum64(&chunk);
        at += 64;
    }
    if at < len {
        // The last chunk overlaps the one before; only what is new is summed.
        let chunk: [u8; 64] = frame.load(len - 64);
        to.store(len - 64, &chunk);
        let mut rest = [0; 64];
        let new = len - at;
        rest[..new].copy_from_slice(&chunk[64 - new..]);
        total += sum64(&rest);
    }
    total
}

impl TxQueue {
    /// Reads the descriptors at the head and finds the plain frames among the first of them.
    fn group(&mut self, most: usize, model: Model, space: &dyn Translate, group: &mut Group) {
        group.plain = 0;
        if !self.assembly.is_empty() || self.limit.is_some() {
            return;
        }
        let head = self.base.head;
        // A tail beyond the ring is for the long way to complain of.
        let Ok(available) = self.base.available(head) else {
            return;
        };
        let until_wrap = self.base.count.saturating_sub(head) as usize;
        let want = (available as usize).min(until_wrap).min(most).min(GROUP);
        if want == 0 {
            return;
        }
        let iova = self.base.ring.at(head);
        let descriptors = &mut group.descriptors[..want];
        let got = self.base.windows.fetch(space, iova, descriptors);
        let needs_cc = matches!(model, Model::X550);
        let windows = &self.base.data_windows;
        for (index, &[address, word]) in group.descriptors[..got].iter().enumerate() {
            let len = data_len(word);
            let context_missing = if word & CC == 0 {
                needs_cc
            } else {
                self.contexts[context_slot(word)].is_none()
            };
            if word & PLAIN_MASK != PLAIN
                || payload_len(word) != len
                || (len as usize) < MIN_FRAME
                || len as usize > MAX_FRAME
                || context_missing
            {
                break;
            }
            let Some(frame) = windows.get(address, len as usize, Direction::Read) else {
                break;
            };
            prefetch_read(&frame);
            group.plain = index + 1;
        }
        let plain = group.plain;
        for ([address, word], start) in group.descriptors[..plain].iter().zip(&mut group.starts) {
            let len = data_len(*word) as usize;
            if let Some(frame) = windows.get(*address, len, Direction::Read) {
                start_of(&frame, start);
            }
        }
    }
}

/// What a run of frames did at its receiver.
#[derive(Clone, Copy, Debug, Default)]
struct Run {
    /// Frames consumed, delivered or dropped.
    frames: usize,
    octets: u64,
    delivered: u64,
    delivered_octets: u64,
    dropped: u64,
}

/// A receiver's side of a run.
struct Receiver<'a> {
    filters: &'a Filters,
    rss: Option<&'a Rss>,
    verdict: Verdict,
    pool: u8,
}

/// Frames `from..to` of a group, and the queue they come from.
struct Batch<'a> {
    group: &'a Group,
    tx: &'a TxQueue,
    from: usize,
    to: usize,
}

impl Batch<'_> {
    fn len(&self, index: usize) -> u32 {
        data_len(self.group.descriptors[index][1])
    }

    /// What is known of a frame's bytes.
    fn known(&self, index: usize) -> &[u8] {
        let len = self.len(index) as usize;
        &self.group.starts[index][..len.min(64)]
    }
}

impl Receiver<'_> {
    /// Passes as many frames as go the short way; stops before the first that does not.
    fn run(&self, batch: &Batch<'_>, function: &mut Function, place: &mut Place<'_>) -> Run {
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
        let space = &**space;
        let rss = self.rss.unwrap_or(own);
        let mut from = batch.from;
        while from < batch.to {
            // Frames in a row for one queue; without RSS that is all of them.
            let (mut number, mut to) = (0, batch.to);
            let mut hash = None;
            if rss.is_on() {
                let Some(parsed) = parse_start(batch.known(from), batch.len(from) as usize, || 0)
                else {
                    break;
                };
                hash = rss.classify(batch.known(from), &parsed);
                if let Some((_, hash)) = hash {
                    number = match self.filters.model.family() {
                        Family::Igbvf => rss.odd_queue(hash, queues.len()),
                        Family::Ixgbevf => {
                            rss.queue(self.filters.model, hash, *psrtype, queues.len())
                        }
                    };
                }
                to = from + 1;
            }
            let Some(queue) = queues.get_mut(number) else {
                break;
            };
            let part = Batch { from, to, ..*batch };
            let before = run;
            queue.base.refresh(space);
            let number = u8::try_from(number).unwrap_or(0);
            if self.pour(&part, hash, queue, number, space, place, &mut run) {
                causes.rx |= 1 << (number & 7);
            }
            from += run.frames - before.frames;
            if from < to {
                break;
            }
        }
        run
    }

    /// Passes frames into one queue. True when its driver can see something new.
    #[expect(
        clippy::too_many_arguments,
        reason = "the inner loop, split from the outer one"
    )]
    fn pour(
        &self,
        batch: &Batch<'_>,
        hash: Option<(u32, u32)>,
        queue: &mut RxQueue,
        number: u8,
        space: &dyn Translate,
        place: &mut Place<'_>,
        run: &mut Run,
    ) -> bool {
        let owner = Owner {
            pool: self.pool,
            queue: number,
            point: Point::RxWriteBack,
        };
        if !queue.is_usable() || queue.settings.format != RxFormat::OneBuffer {
            return false;
        }
        let limit = self.longest(queue);
        let model = self.filters.model;
        let family = model.family();
        let at_once = place.completion.burst <= 1 && !queue.base.held.must_queue(place.now);
        let mut seen = false;
        let mut index = batch.from;
        while index < batch.to {
            let len = batch.len(index);
            if len > limit {
                break;
            }
            if queue.at == queue.filled && !queue.fetch(space, place, owner) {
                if !self.may_drop(queue) {
                    break;
                }
                queue.dropped = queue.dropped.saturating_add(1);
                run.dropped += 1;
                run.frames += 1;
                run.octets += u64::from(len) + 4;
                index += 1;
                continue;
            }
            let first = queue.base.head;
            let iova = queue.base.ring.at(first);
            let ready = queue.filled - queue.at;
            let mut used = 0;
            let buffers = &queue.base.data_windows;
            let Some(ring) = queue.base.windows.descriptors(iova, ready) else {
                break;
            };
            let mut filled = true;
            while used < ready && index < batch.to {
                let len = batch.len(index);
                let buffer = queue.fetched[queue.at + used][0];
                let address = batch.group.descriptors[index][0];
                let frames = &batch.tx.base.data_windows;
                let Some(frame) = frames.get(address, len as usize, Direction::Read) else {
                    break;
                };
                if len > limit || buffer == 0 {
                    break;
                }
                let Some(into) = buffers.get(buffer, len as usize, Direction::Write) else {
                    filled = false;
                    break;
                };
                let start = &batch.group.starts[index];
                let total = copy_and_sum(&frame, start, &into);
                let Some(parsed) = parse_start(batch.known(index), len as usize, || total) else {
                    break;
                };
                let mut meta = describe(model, &parsed, &self.verdict, true);
                if let Some((kind, hash)) = hash {
                    meta.rss_type = kind;
                    meta.rss_hash = hash;
                }
                let words = [
                    rx_types(&meta, RxSplit::default()),
                    rx_status(family, &meta, len),
                ];
                if !at_once {
                    queue.base.held.push(
                        place.now,
                        WriteBack::new(iova.wrapping_add(used as u64 * 16), words),
                    );
                } else {
                    ring.publish(used, words);
                    seen = true;
                }
                used += 1;
                index += 1;
                run.frames += 1;
                run.delivered += 1;
                run.octets += u64::from(len) + 4;
                run.delivered_octets += u64::from(len) + 4;
            }
            queue.at += used;
            queue.base.head = queue.base.after(first, u32::try_from(used).unwrap_or(0));
            if used > 0 {
                continue;
            }
            // A buffer in memory not used lately; once it is remembered it works, or it is for the long way.
            let buffer = queue.fetched[queue.at][0];
            let windows = &mut queue.base.data_windows;
            if filled || !windows.ensure(space, buffer, len as usize, Direction::Write) {
                break;
            }
        }
        queue.base.head_word.store(queue.base.head);
        seen
    }

    /// Longest frame that goes into one buffer of a queue and is not too long for the pool. CRC not included.
    fn longest(&self, queue: &RxQueue) -> u32 {
        let policy = &self.filters.pools[usize::from(self.pool & 63)];
        let card = match self.filters.model.family() {
            Family::Ixgbevf => self.filters.max_frame,
            Family::Igbvf => policy.max_len.unwrap_or(1518),
        };
        let limit = card.min(queue.settings.max_len.unwrap_or(u32::MAX));
        limit.saturating_sub(4).min(queue.settings.buffer_size)
    }

    fn may_drop(&self, queue: &RxQueue) -> bool {
        let policy = &self.filters.pools[usize::from(self.pool & 63)];
        let drops = queue.settings.drop_en || policy.drop_en;
        drops && !self.filters.flow_control && queue.is_usable()
    }
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
        let insert = self.filters.pools[source & 63].insert;
        if place.armed || matches!(insert, VlanInsert::Always(_)) {
            return 0;
        }
        let Some(mut group) = self.group.take() else {
            return 0;
        };
        let mut done = 0;
        if let Some(tx) = self.tx_queue(owner.pool, owner.queue) {
            tx.group(most as usize, model, space, &mut group);
            while done < group.plain {
                let run = self.run(owner, &group, done, place);
                if run.frames == 0 {
                    break;
                }
                done += run.frames;
            }
            if done > 0 {
                self.complete_burst(owner, &group.descriptors[..done], space, place);
            }
        }
        self.group = Some(group);
        u32::try_from(done).unwrap_or(0)
    }

    /// Passes the frames from `from` on that go the same way.
    fn run(&mut self, owner: Owner, group: &Group, from: usize, place: &mut Place<'_>) -> Run {
        let source = usize::from(owner.pool);
        let nothing = Run::default();
        let chunk = group.starts[from].first_chunk().unwrap_or(&[0; 16]);
        if !is_plain(chunk) || chunk[0] & 1 != 0 {
            return nothing;
        }
        let origin = Origin::Pool(owner.pool);
        let verdict = self.cache.verdict(&self.filters, origin, chunk);
        let outside = bit(self.filters.pf_pool) | bit(owner.pool);
        if verdict.drop.is_some()
            || verdict.wire
            || verdict.disabled != 0
            || verdict.pools & outside != 0
            || !verdict.pools.is_power_of_two()
        {
            return nothing;
        }
        let addresses = key(chunk);
        let same = |start: &Start| {
            let chunk = start.first_chunk().unwrap_or(&[0; 16]);
            key(chunk) == addresses && is_plain(chunk)
        };
        let to = group.starts[from + 1..group.plain]
            .iter()
            .position(|start| !same(start))
            .map_or(group.plain, |more| from + 1 + more);
        let pool = u8::try_from(verdict.pools.trailing_zeros()).unwrap_or(0);
        let receiver = Receiver {
            filters: &self.filters,
            rss: match self.filters.model {
                Model::X550 => None,
                Model::I82599 | Model::X540 => Some(&self.pf_rss),
                _ if self.filters.pools[usize::from(pool & 63)].rss => Some(&self.pf_rss),
                _ => Some(&self.no_rss),
            },
            verdict,
            pool,
        };
        let both = [source, usize::from(pool)];
        let Ok([sender, other]) = self.functions.get_disjoint_mut(both) else {
            return nothing;
        };
        let Some(tx) = sender.tx.get(usize::from(owner.queue)) else {
            return nothing;
        };
        let batch = Batch {
            group,
            tx,
            from,
            to,
        };
        let run = receiver.run(&batch, other, place);
        sender.stats.taken += run.frames as u64;
        sender.stats.count_tx(run.frames as u64, run.octets, true);
        // Missed frames count as received on the 10 GbE cards.
        let (frames, octets) = match self.filters.model.family() {
            Family::Ixgbevf => (run.frames as u64, run.octets),
            Family::Igbvf => (run.delivered, run.delivered_octets),
        };
        let stats = &mut other.stats;
        stats.gprc += frames;
        stats.gorc += octets;
        stats.gprlbc += frames;
        stats.gorlbc += octets;
        stats.delivered += run.delivered;
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
                tx.base.head = tx.base.after(head, offset + 1);
                let index = tx.base.after(head, offset);
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
