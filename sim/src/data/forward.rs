//! One frame through the switch: to every pool that takes it, to the host and to the wire.

use vfnic_hw::{Family, Model};

use super::DataPath;
use super::desc::{Check, RxMeta};
use super::filters::{Filters, RssTable, bit};
use super::hooks::{At, Fault, Point};
use super::offload::strip_vlan;
use super::parse::{Parsed, be16, kind, parse};
use super::place::Place;
use super::queue::RxFormat;
use super::rss::Rss;
use super::rx::{Incoming, split_headers};
use super::stats::{DropReason, VfStats};
use super::switch::{Address, Origin, Verdict, is_plain};
use super::tx::Wait;
use super::write_back::Owner;
use crate::counting::Count;
use crate::low_bits::LowBits;

/// What became of a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Forwarded {
    /// Delivered or dropped, and counted.
    Done,
    /// Nothing was done: a receiver that may not drop has no room.
    Blocked(Wait),
}

/// One VF's copy of a frame.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target {
    pool: u8,
    queue: u8,
    strip: bool,
    headers: usize,
    meta: RxMeta,
    drop: Option<DropReason>,
}

impl Filters {
    /// Whether a frame of `len` bytes (CRC not included) is too long for a pool.
    pub(crate) fn is_oversize(&self, pool: u8, len: usize, tagged: bool) -> bool {
        let len = len.saturating_add(4);
        let untagged = len.saturating_sub(if tagged { 4 } else { 0 });
        match self.model.family() {
            Family::Ixgbevf => untagged > self.max_frame as usize,
            Family::Igbvf => match self.pools.entry(pool).max_len {
                Some(limit) => len > limit as usize,
                None => untagged > 1518,
            },
        }
    }
}

/// The write-back's view of a parsed frame.
pub(crate) fn describe(model: Model, parsed: &Parsed, verdict: &Verdict, loopback: bool) -> RxMeta {
    let mut meta = RxMeta {
        packet_type: parsed.kind,
        ip: parsed.ip,
        l4: parsed.l4_check,
        udp: parsed.udp_checksum,
        inexact: verdict.inexact,
        loopback,
        ..RxMeta::default()
    };
    // Erratum 44: the 82599 finds fault with UDP that has no checksum.
    if model == Model::I82599
        && parsed.kind & kind::UDP != 0
        && parsed.kind & kind::IPV4 != 0
        && !parsed.udp_checksum
    {
        meta.l4 = Check::Bad;
        meta.udp = true;
    }
    meta
}

impl VfStats {
    /// Counts a frame that a pool's filters took, of `len` bytes without CRC.
    pub(crate) fn count_rx(&mut self, len: usize, multicast: bool, loopback: bool) {
        let octets = (len as u64).saturating_add(4);
        self.gprc.count(1);
        self.gorc.count(octets);
        self.mprc.count(u64::from(multicast));
        if loopback {
            self.gprlbc.count(1);
            self.gorlbc.count(octets);
        }
    }

    /// Counts a frame that went out.
    pub(crate) fn count_tx(&mut self, frames: u64, octets: u64, loopback: bool) {
        self.gptc.count(frames);
        self.gotc.count(octets);
        if loopback {
            self.gptlbc.count(frames);
            self.gotlbc.count(octets);
        }
    }
}

/// The pools of a set, lowest first.
fn each(mut pools: u64) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let lowest = pools.trailing_zeros();
        pools &= pools.wrapping_sub(1);
        u8::try_from(lowest).ok().filter(|&pool| pool < 64)
    })
}

impl DataPath {
    /// Passes one frame through the switch.
    pub(crate) fn forward(
        &mut self,
        frame: &[u8],
        origin: Origin,
        place: &mut Place<'_>,
    ) -> Forwarded {
        if place.armed {
            return self.forward_asking(frame, origin, place);
        }
        self.switch(frame, origin, place)
    }

    fn forward_asking(&mut self, frame: &[u8], origin: Origin, place: &mut Place<'_>) -> Forwarded {
        let pool = match origin {
            Origin::Pool(pool) => pool,
            Origin::Wire => u8::MAX,
        };
        let asked = place.ask(At {
            point: Point::Frame,
            pool,
            queue: 0,
            index: 0,
        });
        match asked {
            Some(Fault::Swallow) => {
                self.count_drop(origin, DropReason::Injected);
                Forwarded::Done
            }
            Some(Fault::Corrupt(at)) => {
                let mut frame = frame.to_vec();
                let at = (at as usize).checked_rem(frame.len());
                if let Some(byte) = at.and_then(|at| frame.get_mut(at)) {
                    *byte = !*byte;
                }
                self.switch(&frame, origin, place)
            }
            Some(Fault::Duplicate) => {
                let first = self.switch(frame, origin, place);
                if first == Forwarded::Done {
                    self.switch(frame, origin, place);
                }
                first
            }
            _ => self.switch(frame, origin, place),
        }
    }

    fn count_drop(&mut self, origin: Origin, reason: DropReason) {
        match origin {
            Origin::Pool(pool) => {
                if let Some(function) = self.functions.get_mut(usize::from(pool)) {
                    function.stats.drops.add(reason, 1);
                }
            }
            Origin::Wire => self.wire.drops.add(reason, 1),
        }
    }

    fn switch(&mut self, frame: &[u8], origin: Origin, place: &mut Place<'_>) -> Forwarded {
        let verdict = match frame.first_chunk() {
            Some(start) if is_plain(start) => self.cache.verdict(&self.filters, origin, start),
            _ => match Address::of(frame) {
                Some(address) => self.filters.classify(origin, &address),
                None => {
                    self.count_drop(origin, DropReason::Malformed);
                    return Forwarded::Done;
                }
            },
        };
        if let Some(reason) = verdict.drop {
            self.count_drop(origin, reason);
            if let Origin::Pool(pool) = origin
                && matches!(reason, DropReason::SpoofMac | DropReason::SpoofVlan)
            {
                place.hooks.spoofed(pool, 0);
            }
            return Forwarded::Done;
        }
        let pf = bit(self.filters.pf_pool);
        let vfs = verdict.pools & !pf;
        if vfs != 0 {
            let mut targets = std::mem::take(&mut self.targets);
            targets.clear();
            let parsed = parse(frame);
            for pool in each(vfs) {
                targets.push(self.target(pool, frame, &parsed, &verdict, origin));
            }
            let blocked = targets
                .iter()
                .find_map(|target| self.wait_for(target, frame, place));
            if blocked.is_none() {
                for target in &targets {
                    self.deliver(target, frame, place);
                }
            }
            self.targets = targets;
            if let Some(wait) = blocked {
                return Forwarded::Blocked(wait);
            }
        }
        let loopback = origin != Origin::Wire;
        if let Origin::Pool(pool) = origin
            && let Some(function) = self.functions.get_mut(usize::from(pool))
        {
            let local = verdict.pools | verdict.disabled != 0;
            let octets = (frame.len() as u64).saturating_add(4);
            function.stats.count_tx(1, octets, local);
        }
        for pool in each(verdict.disabled) {
            if let Some(function) = self.functions.get_mut(usize::from(pool)) {
                function.stats.drops.add(DropReason::ReceiveDisabled, 1);
            }
        }
        if verdict.pools & pf != 0 {
            self.hand_to_host(frame, loopback);
        }
        if verdict.wire {
            if self.uplink.send(frame) {
                self.wire.sent.count(1);
            } else {
                self.count_drop(origin, DropReason::PortFull);
            }
        }
        Forwarded::Done
    }

    fn hand_to_host(&mut self, frame: &[u8], loopback: bool) {
        let pool = self.filters.pf_pool;
        let tagged = frame.get(12..14) == Some(&[0x81, 0x00]);
        let oversize = self.filters.is_oversize(pool, frame.len(), tagged);
        let Some(function) = self.functions.get_mut(usize::from(pool)) else {
            return;
        };
        if oversize {
            function.stats.drops.add(DropReason::Oversize, 1);
        } else if self.host.send(frame) {
            let multicast = is_multicast(frame);
            function.stats.count_rx(frame.len(), multicast, loopback);
            function.stats.delivered.count(1);
        } else {
            function.stats.drops.add(DropReason::PortFull, 1);
        }
    }

    /// Works out one VF's copy: its queue, its tag, whether it can have it at all.
    fn target(
        &self,
        pool: u8,
        frame: &[u8],
        parsed: &Parsed,
        verdict: &Verdict,
        origin: Origin,
    ) -> Target {
        let model = self.filters.model;
        let policy = self.filters.pools.entry(pool);
        let loopback = origin != Origin::Wire;
        let mut meta = describe(model, parsed, verdict, loopback);
        let tag = be16(frame, 14).filter(|_| parsed.l2 == 18);
        let mut target = Target {
            pool,
            queue: 0,
            strip: false,
            headers: 0,
            meta,
            drop: None,
        };
        let Some(function) = self.functions.get(usize::from(pool)) else {
            target.drop = Some(DropReason::QueueDisabled);
            return target;
        };
        if self.filters.is_oversize(pool, frame.len(), tag.is_some()) {
            target.drop = Some(DropReason::Oversize);
            return target;
        }
        let rss = self.rss_of(pool);
        if rss.is_on()
            && let Some((kind, hash)) = rss.classify(frame, parsed)
        {
            meta.rss_type = kind;
            meta.rss_hash = hash;
            let queue = rss.queue_of(model, hash, function.psrtype, function.rx.len());
            target.queue = u8::try_from(queue).unwrap_or(0);
        }
        let Some(queue) = function.rx.get(usize::from(target.queue)) else {
            target.drop = Some(DropReason::QueueDisabled);
            return target;
        };
        let settings = &queue.settings;
        if !queue.is_usable() || function.space.is_none() {
            target.drop = Some(DropReason::QueueDisabled);
        } else if let Some(limit) = settings.max_len
            && frame
                .len()
                .saturating_add(4)
                .saturating_sub(if tag.is_some() { 4 } else { 0 })
                > limit as usize
        {
            target.drop = Some(DropReason::Oversize);
        }
        if let Some(tag) = tag {
            let strip = match model {
                Model::I82576 if is_multicast(frame) => self.filters.replicated_strip,
                Model::I82576 | Model::I350 => policy.strip,
                _ => settings.strip,
            };
            target.strip = strip || policy.hide_vlan;
            if !policy.hide_vlan {
                // An igb tells only of a tag it took out.
                meta.tagged = strip || model.family() == Family::Ixgbevf;
                meta.vlan = match (strip, model) {
                    (false, _) => 0,
                    (true, Model::I350) if loopback => tag.swap_bytes(),
                    (true, _) => tag,
                };
            }
        }
        if !matches!(settings.format, RxFormat::OneBuffer | RxFormat::Legacy) {
            let gone = if target.strip { 4 } else { 0 };
            target.headers = split_headers(model, function.psrtype, parsed).saturating_sub(gone);
        }
        target.meta = meta;
        target
    }

    /// The hash that decides on a pool's queue.
    pub(crate) fn rss_of(&self, pool: u8) -> &Rss {
        match self.filters.model {
            Model::X550 => match self.functions.get(usize::from(pool)) {
                Some(function) => &function.rss,
                None => &self.no_rss,
            },
            Model::I82599 | Model::X540 => &self.pf_rss,
            Model::I82576 | Model::I350 => {
                if self.filters.pools.entry(pool).rss {
                    &self.pf_rss
                } else {
                    &self.no_rss
                }
            }
        }
    }

    /// Brings the worked-out form of the PF's RSS table up to date.
    pub(crate) fn refresh_rss(&mut self) {
        if self.rss_generation != self.filters.generation {
            self.rss_generation = self.filters.generation;
            if self.pf_table != self.filters.rss {
                self.pf_table = self.filters.rss;
                self.pf_rss = Rss::new(&self.pf_table);
            }
        }
    }

    /// X550: works out a VF's own table.
    pub(crate) fn put_vf_rss(&mut self, pool: u8, table: &RssTable) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.rss = Rss::new(table);
        }
    }

    /// Whether a queue of a pool may drop for want of descriptors.
    pub(crate) fn may_drop(&self, pool: u8, drop_en: bool) -> bool {
        let policy = self.filters.pools.entry(pool);
        !self.filters.flow_control && (drop_en || policy.drop_en)
    }

    /// The queue a copy must wait for, if it may not be dropped and there is no room.
    fn wait_for(&mut self, target: &Target, frame: &[u8], place: &mut Place<'_>) -> Option<Wait> {
        if target.drop.is_some() {
            return None;
        }
        let owner = target.owner();
        let queue = self
            .functions
            .get(usize::from(target.pool))?
            .rx
            .get(usize::from(target.queue))?;
        if self.may_drop(target.pool, queue.settings.drop_en) {
            return None;
        }
        let len = frame.len().saturating_sub(if target.strip { 4 } else { 0 });
        let queue = self.rx_queue(target.pool, target.queue)?;
        let needed = queue.needed(len, target.headers);
        (!queue.has_room(needed, place, owner)).then_some(Wait {
            pool: target.pool,
            queue: target.queue,
            needed,
        })
    }

    /// Whether what a frame waited for is there, or will never be.
    pub(crate) fn is_over(&mut self, wait: Wait, place: &mut Place<'_>) -> bool {
        let owner = Owner {
            pool: wait.pool,
            queue: wait.queue,
            point: Point::RxWriteBack,
        };
        let Some(queue) = self.rx_queue(wait.pool, wait.queue) else {
            return true;
        };
        let drop_en = queue.settings.drop_en;
        !queue.is_usable()
            || queue.has_room(wait.needed, place, owner)
            || self.may_drop(wait.pool, drop_en)
    }

    fn deliver(&mut self, target: &Target, frame: &[u8], place: &mut Place<'_>) {
        let family = self.filters.model.family();
        let mut stripped = std::mem::take(&mut self.stripped);
        let data = if target.strip {
            strip_vlan(frame, &mut stripped);
            &stripped
        } else {
            frame
        };
        let incoming = Incoming {
            data,
            meta: target.meta,
            headers: target.headers,
        };
        if let Some(function) = self.functions.get_mut(usize::from(target.pool)) {
            let outcome = match (target.drop, &function.space) {
                (Some(reason), _) => Err(reason),
                (None, None) => Err(DropReason::QueueDisabled),
                (None, Some(space)) => match function.rx.get_mut(usize::from(target.queue)) {
                    None => Err(DropReason::QueueDisabled),
                    Some(queue) => {
                        let owner = target.owner();
                        queue.base.refresh(&**space);
                        let needed = queue.needed(data.len(), target.headers);
                        if queue.has_room(needed, place, owner) {
                            queue.put(&**space, family, &incoming, place, owner)
                        } else {
                            queue.dropped.count(1);
                            Err(DropReason::NoDescriptors)
                        }
                    }
                },
            };
            let stats = &mut function.stats;
            // Missed frames count as received on these cards.
            if outcome.is_ok()
                || family == Family::Ixgbevf && outcome == Err(DropReason::NoDescriptors)
            {
                stats.count_rx(frame.len(), is_multicast(frame), target.meta.loopback);
            }
            match outcome {
                Ok(put) => {
                    if put.raised {
                        function.causes.rx |= 1 << (target.queue & 7);
                    }
                    if put.lost {
                        stats.drops.add(DropReason::RxFault, 1);
                    } else {
                        stats.delivered.count(1);
                    }
                }
                Err(reason) => stats.drops.add(reason, 1),
            }
        }
        self.stripped = stripped;
    }
}

impl Target {
    const fn owner(&self) -> Owner {
        Owner {
            pool: self.pool,
            queue: self.queue,
            point: Point::RxWriteBack,
        }
    }
}

/// Multicast, but not broadcast.
pub(crate) fn is_multicast(frame: &[u8]) -> bool {
    frame.first().is_some_and(|first| first & 1 != 0) && frame.get(..6) != Some(&[0xff; 6])
}
