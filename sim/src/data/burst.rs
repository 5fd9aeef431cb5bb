//! The short way: plain frames of one descriptor each, from one VF's buffers straight into another's.
//!
//! Whatever is not plain (offloads, chains, tags, several receivers, odd buffers) is left where it is for the long way,
//! which gives the same result; tests hold the two to each other. Nothing here decides anything on its own.

use vfnic_hw::{Family, Model};

use super::checksum::{BORROW, is_good, sum64};
use super::desc::{
    CC, PLAIN, PLAIN_MASK, RS, RxMeta, RxSplit, SLOT, TxContext, Words, data_len, payload_len,
    rx_status, rx_types,
};
use super::filters::{Filters, VlanInsert, bit};
use super::forward::describe;
use super::hooks::Point;
use super::parse::{kind, parse_start};
use super::place::Place;
use super::queue::{RxFormat, RxQueue, TxQueue};
use super::rss::Rss;
use super::stats::DropReason;
use super::switch::{Origin, Verdict, is_plain};
use super::transmit::MIN_FRAME;
use super::tx::MAX_FRAME;
use super::write_back::{Owner, WriteBack};
use super::{DataPath, Function};
use crate::dma::{
    Chunks, Descriptors, Direction, Mapping, Translate, VolatileSlice, prefetch_read,
};

/// Descriptors looked at together: 8 cache lines of them.
const GROUP: usize = 32;

/// The addresses, the ethertype and two bytes more.
type Head = [u8; 16];

/// The first bytes of a frame, or all of a short one and zeros.
type Start = [u8; 64];

/// A group of plain frames at the head of a TX ring.
#[derive(Debug)]
pub(crate) struct Group {
    descriptors: [Words; GROUP],
    /// Their first 16 bytes, which decide where they go.
    heads: [Head; GROUP],
    /// Their first 64 bytes, once they are copied.
    starts: [Start; GROUP],
    /// How many are plain, from the first on.
    plain: usize,
}

impl Group {
    pub(crate) const fn new() -> Self {
        Self {
            descriptors: [[0; 2]; GROUP],
            heads: [[0; 16]; GROUP],
            starts: [[0; 64]; GROUP],
            plain: 0,
        }
    }
}

/// Copies the start of a frame, keeps it and sums it. The head is the one the switch has judged: what the sender has
/// written there since does not count.
#[inline]
fn copy_long(frame: &VolatileSlice<'_>, head: &Head, to: &VolatileSlice<'_>, start: &mut Start) {
    *start = frame.load(0);
    start[..16].copy_from_slice(head);
    to.store(0, start);
}

/// The same for a frame that ends inside the first 64 bytes: they are all read, since they are there to be read, but
/// only the frame's own are kept and written. `len` is 60 to 63.
#[inline]
fn copy_short(
    frame: &VolatileSlice<'_>,
    head: &Head,
    to: &VolatileSlice<'_>,
    start: &mut Start,
    len: usize,
) {
    *start = frame.load(0);
    start[..16].copy_from_slice(head);
    let ([.., sixth, seventh], []) = start.as_chunks_mut::<8>() else {
        return;
    };
    let beyond = (64 - len) * 8;
    let last = u64::from_le_bytes(*seventh) << beyond >> beyond;
    // The frame's last 8 bytes lie across the two words.
    let both = u128::from(last) << 64 | u128::from(u64::from_le_bytes(*sixth));
    let end = (both >> (64 - beyond)).to_le_bytes();
    let sixth = *sixth;
    *seventh = last.to_le_bytes();
    if let (Some(front), Some(end)) = (start.first_chunk::<48>(), end.first_chunk::<8>()) {
        to.store(0, front);
        to.store(48, &sixth);
        to.store(len - 8, end);
    }
}

/// Copies what is behind the first 64 bytes, and sums it.
#[inline]
fn copy_rest(frame: &VolatileSlice<'_>, to: &VolatileSlice<'_>) -> u64 {
    let len = frame.len();
    let (mut total, mut at) = (0, 64);
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

#[inline]
fn word(start: &Start, at: usize) -> u64 {
    match start.get(at..).and_then(<[u8]>::first_chunk) {
        Some(&bytes) => u64::from_le_bytes(bytes),
        None => 0,
    }
}

/// Sum of a word's halves.
const fn halves(word: u64) -> u64 {
    (word & 0xffff_ffff) + (word >> 32)
}

/// What all frames of a run share: they have the same first 14 bytes.
#[derive(Clone, Copy, Debug)]
struct Shared {
    /// Sum of those bytes.
    before: u64,
    /// Second word of every write-back, but for length and checksums.
    status: u64,
}

impl Shared {
    fn new(head: &Head, status: u64) -> Self {
        let [a, b] = *head.as_chunks::<8>().0 else {
            return Self { before: 0, status };
        };
        let rest = u64::from_le_bytes(b) & 0x0000_ffff_ffff_ffff;
        Self {
            before: halves(u64::from_le_bytes(a)) + halves(rest),
            status,
        }
    }

    /// The write-back of the frames that make up nearly all traffic: TCP or UDP in IPv4 without options, fragments,
    /// padding or errors, and anything that is not IP at all. None for every other frame.
    #[inline(always)]
    fn common(self, start: &Start, len: u32, total: u64) -> Option<Words> {
        let told = self.status | u64::from(len) << 32;
        // Bytes 12..36: ethertype, the IPv4 header, the source port, in the word order of memory.
        let (a, b, c) = (word(start, 12), word(start, 20), word(start, 28));
        // IPv4 with a header of 20 bytes.
        if a & 0x00ff_ffff != 0x45_0008 {
            return match a & 0xffff {
                0x0008 | 0xdd86 | 0x0081 => None,
                _ => Some([0, told]),
            };
        }
        // The packet just fills the frame, and its L4 part has this length.
        let (ip_len, l4_len) = (
            big_endian(len.wrapping_sub(14)),
            big_endian(len.wrapping_sub(34)),
        );
        let addresses = halves(c & 0x0000_ffff_ffff_ffff) + (b >> 48);
        let header = halves(a & !0xffff) + halves(b & 0x0000_ffff_ffff_ffff) + addresses;
        // The good IP header adds nothing to the sum of the frame; what stands before it has to go.
        let checked = total + BORROW - self.before + addresses + l4_len;
        if a >> 32 & 0xffff != ip_len || !is_good(header) {
            return None;
        }
        // Protocol, time to live aside, and neither an offset nor more fragments.
        match b & 0xff00_ff3f {
            0x1100_0000 => {
                let d = word(start, 36);
                let fits = d >> 16 & 0xffff == l4_len && d & 0xffff_0000_0000 != 0;
                let words = [u64::from(kind::IPV4 | kind::UDP), told | 0x70];
                (fits && is_good(checked + (17 << 8))).then_some(words)
            }
            0x0600_0000 => {
                let words = [u64::from(kind::IPV4 | kind::TCP), told | 0x60];
                is_good(checked + (6 << 8)).then_some(words)
            }
            _ => None,
        }
    }

    /// Publishes write-backs until one frame is not common. Gives how many and their octets.
    #[inline(never)]
    fn publish(
        self,
        starts: &[Start],
        descriptors: &[Words],
        totals: &[u64],
        ring: &Descriptors<'_>,
    ) -> (usize, u64) {
        let (mut done, mut octets) = (0, 0);
        for ((start, &[_, word]), &total) in starts.iter().zip(descriptors).zip(totals) {
            let len = data_len(word);
            let Some(words) = self.common(start, len, total) else {
                break;
            };
            ring.publish(done, words);
            done += 1;
            octets += u64::from(len) + 4;
        }
        (done, octets)
    }
}

/// The low 16 bits of a length as the other end of the wire has them, in memory order.
#[expect(
    clippy::cast_possible_truncation,
    reason = "the low 16 bits are wanted"
)]
const fn big_endian(len: u32) -> u64 {
    (len as u16).swap_bytes() as u64
}

impl Group {
    /// Copies frames `from..to` into buffers for as long as both are where they are expected, and sums them. Gives how many.
    #[inline(never)]
    fn copy(
        &mut self,
        (from, to): (usize, usize),
        source: &Mapping,
        buffers: &[Words],
        target: &Mapping,
        limit: u32,
        totals: &mut [u64; GROUP],
    ) -> usize {
        let descriptors = &self.descriptors[from..to];
        let heads = self.heads[from..to].iter().zip(&mut self.starts[from..to]);
        let places = buffers.iter().zip(descriptors).zip(heads).zip(totals);
        let mut copied = 0;
        for (((&[buffer, _], &[address, word]), (head, start)), total) in places {
            let len = data_len(word);
            if len > limit || buffer == 0 {
                break;
            }
            let len = (len as usize).max(MIN_FRAME);
            let Some(into) = target.part(buffer, len) else {
                break;
            };
            if len < 64 {
                let Some(frame) = source.part(address, 64) else {
                    break;
                };
                copy_short(&frame, head, &into, start, len);
                *total = sum64(start);
            } else {
                let Some(frame) = source.part(address, len) else {
                    break;
                };
                copy_long(&frame, head, &into, start);
                *total = sum64(start) + copy_rest(&frame, &into);
            }
            copied += 1;
        }
        copied
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
    fn group(&mut self, most: usize, model: Model, space: &dyn Translate, group: &mut Group) {
        group.plain = 0;
        if !self.assembly.is_empty() || self.limit.is_some() {
            return;
        }
        let head = self.base.head;
        // A tail beyond the ring is for the long way to complain of.
        let available = self.base.peek(head) as usize;
        let until_wrap = self.base.count.saturating_sub(head) as usize;
        let want = available.min(until_wrap).min(most).min(GROUP);
        if want == 0 {
            return;
        }
        let iova = self.base.ring.at(head);
        let descriptors = &mut group.descriptors[..want];
        let got = self.base.windows.fetch(space, iova, descriptors);
        // The next group's lines travel while this one is worked on.
        let ahead = (available - got.min(available)).min(GROUP);
        let next = self.base.ring.at(head).wrapping_add(got as u64 * 16);
        self.base.windows.prefetch(next, ahead, Direction::Read);
        let first = group.descriptors[0][0];
        let windows = &self.base.data_windows;
        let Some(mapping) = windows.mapping(first, Direction::Read) else {
            return;
        };
        let (mask, value) = plain_bits(model, &self.contexts);
        let mut plain = 0;
        for &[address, word] in &group.descriptors[..got] {
            let len = data_len(word);
            let usual = (MIN_FRAME..=MAX_FRAME).contains(&(len as usize));
            if word & mask != value || payload_len(word) != len || !usual {
                break;
            }
            let Some(frame) = mapping.part(address, len as usize) else {
                break;
            };
            prefetch_read(&frame);
            plain += 1;
        }
        group.plain = plain;
        let heads = group.heads[..plain].iter_mut();
        for ([address, _], head) in group.descriptors[..plain].iter().zip(heads) {
            if let Some(frame) = mapping.part(*address, 16) {
                *head = frame.load(0);
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
    /// The sender's queue.
    tx: &'a TxQueue,
}

/// One queue of a receiver.
struct Target<'a> {
    queue: &'a mut RxQueue,
    number: u8,
    space: &'a dyn Translate,
    /// RSS type and hash of all frames.
    hash: Option<(u32, u32)>,
}

impl Receiver<'_> {
    /// Passes as many of the frames `from..to` as go the short way; stops before the first that does not.
    fn run(
        &self,
        group: &mut Group,
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
        let rss = self.rss.unwrap_or(own);
        while from < to {
            // Frames in a row for one queue; without RSS that is all of them.
            let (mut number, mut until, mut hash) = (0, to, None);
            if rss.is_on() {
                match self.hash(&group.descriptors[from], rss) {
                    Some(known) => hash = known,
                    None => break,
                }
                if let Some((_, hash)) = hash {
                    number = match self.filters.model.family() {
                        Family::Igbvf => rss.odd_queue(hash, queues.len()),
                        Family::Ixgbevf => {
                            rss.queue(self.filters.model, hash, *psrtype, queues.len())
                        }
                    };
                }
                until = from + 1;
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
                hash,
            };
            let before = run.frames;
            if self.pour(group, (from, until), &mut target, place, &mut run) {
                causes.rx |= 1 << (number & 7);
            }
            from += run.frames - before;
            if from < until {
                break;
            }
        }
        run
    }

    /// The RSS type and hash of a frame, if it has any. None when that takes more than its start.
    fn hash(&self, &[address, word]: &Words, rss: &Rss) -> Option<Option<(u32, u32)>> {
        let len = data_len(word) as usize;
        let known = len.min(64);
        let windows = &self.tx.base.data_windows;
        let frame = windows.get(address, known, Direction::Read)?;
        let mut start = [0; 64];
        frame.copy_to(&mut start);
        let start = &start[..known];
        let parsed = parse_start(start, len, || 0)?;
        Some(rss.classify(start, &parsed))
    }

    /// Passes frames into one queue. True when its driver can see something new.
    fn pour(
        &self,
        group: &mut Group,
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
            queue, space, hash, ..
        } = target;
        if !queue.is_usable() || queue.settings.format != RxFormat::OneBuffer {
            return false;
        }
        let limit = self.longest(queue);
        let always = rx_status(self.filters.model.family(), &self.blank(), 0);
        let at_once = place.completion.burst <= 1 && !queue.base.held.must_queue(place.now);
        let mut octets = 0;
        let delivered = run.delivered;
        while index < to {
            let [address, word] = group.descriptors[index];
            let len = data_len(word);
            if len > limit {
                break;
            }
            if queue.at == queue.filled && !queue.fetch(*space, place, owner) {
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
            let buffer = queue.fetched[queue.at][0];
            let windows = &mut queue.base.data_windows;
            if !windows.ensure(*space, buffer, len as usize, Direction::Write) {
                // For the long way to tell of.
                break;
            }
            let sources = &self.tx.base.data_windows;
            let (Some(source), Some(sink), Some(ring)) = (
                sources.mapping(address, Direction::Read),
                queue.base.data_windows.mapping(buffer, Direction::Write),
                queue
                    .base
                    .windows
                    .descriptors(iova, queue.filled - queue.at),
            ) else {
                break;
            };
            // Two small loops instead of one keep their state in registers.
            let fetched = &queue.fetched[queue.at..queue.filled];
            let mut totals = [0; GROUP];
            let copied = group.copy((index, to), source, fetched, sink, limit, &mut totals);
            let starts = &group.starts[index..index + copied];
            let descriptors = &group.descriptors[index..index + copied];
            let shared = Shared::new(&group.heads[index], always);
            let mut used = 0;
            if at_once && hash.is_none() {
                let (done, more) = shared.publish(starts, descriptors, &totals, &ring);
                used = done;
                octets += more;
            }
            // One frame that takes longer, or all of them.
            let rest = used..copied;
            for at in rest {
                let (start, total) = (&starts[at], totals[at]);
                let len = data_len(descriptors[at][1]);
                let Some(words) = self.uncommon(start, len, total, *hash) else {
                    break;
                };
                if at_once {
                    ring.publish(at, words);
                } else {
                    let address = iova.wrapping_add(at as u64 * 16);
                    let held = &mut queue.base.held;
                    held.push(place.now, WriteBack::new(address, words));
                }
                used += 1;
                octets += u64::from(len) + 4;
                if at_once && hash.is_none() {
                    break;
                }
            }
            if used == 0 {
                break;
            }
            index += used;
            run.frames += used;
            run.delivered += used as u64;
            queue.at += used;
            queue.base.head = queue.base.after(first, u32::try_from(used).unwrap_or(0));
        }
        run.octets += octets;
        run.delivered_octets += octets;
        queue.base.head_word.store(queue.base.head);
        at_once && run.delivered > delivered
    }

    /// What is the same for every frame of a run.
    fn blank(&self) -> RxMeta {
        RxMeta {
            inexact: self.verdict.inexact,
            loopback: true,
            ..RxMeta::default()
        }
    }

    /// A write-back by the full parser. None when it needs more than a frame's start.
    #[inline(never)]
    fn uncommon(
        &self,
        start: &Start,
        len: u32,
        total: u64,
        hash: Option<(u32, u32)>,
    ) -> Option<Words> {
        let known = &start[..(len as usize).min(64)];
        let parsed = parse_start(known, len as usize, || total)?;
        let model = self.filters.model;
        let mut meta = describe(model, &parsed, &self.verdict, true);
        if let Some((kind, hash)) = hash {
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
                let run = self.run(owner, &mut group, done, place);
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
    fn run(&mut self, owner: Owner, group: &mut Group, from: usize, place: &mut Place<'_>) -> Run {
        let source = usize::from(owner.pool);
        let nothing = Run::default();
        let head = &group.heads[from];
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
        let to = group.heads[from + 1..group.plain]
            .iter()
            .position(|head| !same(head))
            .map_or(group.plain, |more| from + 1 + more);
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
                _ if self.filters.pools[usize::from(pool & 63)].rss => Some(&self.pf_rss),
                _ => Some(&self.no_rss),
            },
            verdict,
            pool,
            tx,
        };
        let run = receiver.run(group, (from, to), other, place);
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::checksum::sum;
    use super::super::desc::Check;
    use super::super::parse::parse;
    use super::*;

    fn head_of(frame: &[u8]) -> Head {
        *frame.first_chunk().expect("60 bytes")
    }

    fn common(frame: &[u8]) -> Option<Words> {
        let mut start = [0; 64];
        let known = frame.len().min(64);
        start[..known].copy_from_slice(&frame[..known]);
        let len = u32::try_from(frame.len()).expect("short");
        Shared::new(&head_of(frame), 3).common(&start, len, sum(frame))
    }

    #[test]
    fn bytes_behind_the_packet_do_not_count() {
        let mut frame = Vec::new();
        etherparse::PacketBuilder::ethernet2([2; 6], [4; 6])
            .ipv4([9, 8, 7, 6], [1, 2, 3, 4], 5)
            .tcp(1, 2, 3, 4)
            .write(&mut frame, &[0x11; 20])
            .expect("short");
        assert!(common(&frame).is_some());
        // A checksum that would be right if the two bytes more belonged to the packet.
        frame.extend([0, 0]);
        let sum = u16::from_be_bytes([frame[50], frame[51]]);
        frame[50..52].copy_from_slice(&(sum - 2).to_be_bytes());
        assert_eq!(parse(&frame).l4_check, Check::Bad);
        assert_eq!(common(&frame), None);
    }

    proptest! {
        // Two words that change places leave the sum of the frame as it was, so damage in the header and damage in the
        // payload hide each other from whoever looks at the sum alone.
        #[test]
        fn what_is_called_good_is_good(
            tcp in any::<bool>(),
            len in 18usize..200,
            pad in prop_oneof![3 => Just(0usize), 1 => 1usize..8],
            swaps in proptest::collection::vec((6usize..60, 6usize..60), 0..3),
        ) {
            let mut frame = Vec::new();
            let payload: Vec<u8> = (0..len).map(|n| (n * 91 + len).to_le_bytes()[0]).collect();
            let builder = etherparse::PacketBuilder::ethernet2([2; 6], [4; 6]).ipv4([9, 8, 7, 6], [1, 2, 3, 4], 5);
            if tcp {
                builder.tcp(1, 2, 3, 4).write(&mut frame, &payload).expect("short");
            } else {
                builder.udp(1, 2).write(&mut frame, &payload).expect("short");
            }
            frame.resize(frame.len() + pad, 0);
            for (one, other) in swaps {
                let even = |word: usize| word * 2 % (frame.len() - 1) / 2 * 2;
                let (one, other) = (even(one), even(other));
                if one >= 12 && other >= 12 {
                    frame.swap(one, other);
                    frame.swap(one + 1, other + 1);
                }
            }
            let truth = parse(&frame);
            match common(&frame) {
                Some([0, _]) => prop_assert_eq!(truth.kind, 0),
                Some([kinds, word]) => {
                    prop_assert_eq!(kinds, u64::from(truth.kind));
                    prop_assert_eq!((truth.ip, truth.l4_check), (Check::Good, Check::Good));
                    prop_assert_eq!(word >> 4 & 1 != 0, truth.udp_checksum);
                }
                // Nothing that is simply right takes the slower parser.
                None => prop_assert!(
                    truth.ip != Check::Good || truth.l4_check != Check::Good || pad > 0 || truth.headers > 54
                        || truth.fragment || frame[14] != 0x45
                ),
            }
        }
    }
}
