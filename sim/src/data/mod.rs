//! The data path: descriptor engines, offloads and the switch between functions, PF and wire.
//!
//! It owns queue and filter state and does nothing on its own: the card writes registers and filters through the
//! setters and calls [`DataPath::tick`], which does a bounded amount of work and returns. A frame is copied straight
//! from the sender's buffer to the receiver's; nothing is queued between two functions and nothing recurses.

mod burst;
mod checksum;
mod desc;
mod filters;
mod forward;
mod hooks;
mod limit;
mod offload;
mod parse;
mod place;
mod queue;
mod rss;
mod rx;
mod stats;
mod switch;
mod transmit;
mod tx;
mod write_back;

use std::sync::Arc;

use vfnic_hw::Model;

use self::burst::Group;
use self::forward::{Forwarded, Target};
use self::limit::Limit;
use self::place::Place;
use self::rss::Rss;
use self::switch::{Cache, Origin};
use self::transmit::MIN_FRAME;
use self::tx::Wait;
use self::write_back::Owner;
use crate::dma::Translate;
use crate::uplink::{Nowhere, Port};

pub use self::filters::{
    Accept, Filters, LinkState, MAX_POOLS, Mac, RssTable, SpoofChecks, VlanInsert,
};
pub use self::hooks::{At, Fault, Hooks, Malicious, NoHooks, Point, RingViolation};
pub use self::queue::{Line, Ring, RxFormat, RxQueue, RxSettings, TxQueue};
pub use self::stats::{DropReason, Drops, VfStats, WireStats};

/// Queues whose descriptors were written back, by queue number, for one function.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Causes {
    /// RX queues, one bit each.
    pub rx: u8,
    /// TX queues, one bit each.
    pub tx: u8,
}

/// What a tick did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tick {
    /// Frames moved or dropped.
    pub frames: u32,
    /// Stopped for its budget with work left.
    pub more: bool,
}

/// How TX and RX completions are published.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Completion {
    /// Write-backs are held until this many wait on a queue, or `delay_ns` went by; 0 and 1 publish at once.
    pub burst: u16,
    /// Longest time one is held, in nanoseconds of the card's clock.
    pub delay_ns: u64,
    /// Undefined parts of a write-back are filled with rubbish; otherwise with zeros.
    pub scribble: bool,
}

impl Default for Completion {
    fn default() -> Self {
        Self {
            burst: 0,
            delay_ns: 0,
            scribble: true,
        }
    }
}

/// Frames one queue or port may pass before the next has its turn.
const QUANTUM: u32 = 64;

/// The data path of one card.
#[derive(Debug)]
pub struct DataPath {
    filters: Filters,
    /// The VFs, and last the PF, which has no rings here.
    functions: Vec<Function>,
    uplink: Box<dyn Port>,
    host: Box<dyn Port>,
    completion: Completion,
    wire: WireStats,
    cache: Cache,
    no_rss: Rss,
    pf_rss: Rss,
    pf_table: RssTable,
    rss_generation: u64,
    /// TX queues that can have work.
    active: Vec<(u8, u8)>,
    active_generation: u64,
    /// A queue was handed out and may have changed.
    touched: bool,
    /// Whose turn is next.
    turn: usize,
    /// Some queue may hold write-backs back.
    holding: bool,
    /// Frames from the ports that wait for a receiver: from the wire, from the host.
    waiting: [Option<Wait>; 2],
    arrived: [Vec<u8>; 2],
    // Scratch, kept for its memory.
    request: Vec<u8>,
    frame: Vec<u8>,
    stripped: Vec<u8>,
    targets: Vec<Target>,
    group: Option<Box<Group>>,
}

/// What the data path keeps of one function.
#[derive(Debug)]
struct Function {
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    space: Option<Arc<dyn Translate>>,
    stats: VfStats,
    causes: Causes,
    rss: Rss,
    psrtype: u32,
}

impl DataPath {
    /// A card of `model` with `vfs` VFs (at most 63) of `queues` queue pairs each (at most 8), nothing enabled, nothing
    /// connected. More are cut off.
    #[must_use]
    pub fn new(model: Model, vfs: u8, queues: u8) -> Self {
        let vfs = vfs.min(63);
        let off = Rss::new(&RssTable::default());
        let function = |queues: u8| Function {
            rx: (0..queues).map(|_| RxQueue::new(model)).collect(),
            tx: (0..queues).map(|_| TxQueue::new()).collect(),
            space: None,
            stats: VfStats::default(),
            causes: Causes::default(),
            rss: off.clone(),
            psrtype: 0,
        };
        let functions = (0..vfs)
            .map(|_| function(queues.min(8)))
            .chain([function(0)])
            .collect();
        Self {
            filters: Filters::new(model, vfs),
            functions,
            uplink: Box::new(Nowhere),
            host: Box::new(Nowhere),
            completion: Completion::default(),
            wire: WireStats::default(),
            cache: Cache::new(),
            no_rss: off.clone(),
            pf_rss: off,
            pf_table: RssTable::default(),
            rss_generation: 0,
            active: Vec::new(),
            active_generation: 0,
            touched: true,
            turn: 0,
            holding: false,
            waiting: [None; 2],
            arrived: [Vec::new(), Vec::new()],
            request: Vec::new(),
            frame: Vec::new(),
            stripped: Vec::new(),
            targets: Vec::new(),
            group: Some(Box::new(Group::new())),
        }
    }

    /// What the PF has programmed.
    #[must_use]
    pub const fn filters(&self) -> &Filters {
        &self.filters
    }

    /// What the PF has programmed, for its model to change.
    pub fn filters_mut(&mut self) -> &mut Filters {
        &mut self.filters
    }

    /// An RX queue of a VF, if it exists.
    pub fn rx(&mut self, pool: u8, queue: u8) -> Option<&mut RxQueue> {
        self.touched = true;
        self.rx_queue(pool, queue)
    }

    /// A TX queue of a VF, if it exists.
    pub fn tx(&mut self, pool: u8, queue: u8) -> Option<&mut TxQueue> {
        self.touched = true;
        self.tx_queue(pool, queue)
    }

    fn rx_queue(&mut self, pool: u8, queue: u8) -> Option<&mut RxQueue> {
        let function = self.functions.get_mut(usize::from(pool))?;
        function.rx.get_mut(usize::from(queue))
    }

    fn tx_queue(&mut self, pool: u8, queue: u8) -> Option<&mut TxQueue> {
        let function = self.functions.get_mut(usize::from(pool))?;
        function.tx.get_mut(usize::from(queue))
    }

    /// Lets a VF do DMA through `space`, or, with `None`, not at all (no bus mastering, closed, removed).
    pub fn set_space(&mut self, pool: u8, space: Option<Arc<dyn Translate>>) {
        self.touched = true;
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            for base in function.bases() {
                base.windows.clear();
                base.data_windows.clear();
            }
            function.space = space;
        }
    }

    /// VFPSRTYPE of a VF.
    pub fn set_psrtype(&mut self, pool: u8, value: u32) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.psrtype = value;
        }
    }

    /// X550: the VF's own RSS registers. Types 0 while VFMRQC.RSSEN is clear.
    pub fn set_vf_rss(&mut self, pool: u8, table: RssTable) {
        self.put_vf_rss(pool, &table);
    }

    /// Limits each TX queue of a VF to this many Mb/s, or not at all.
    pub fn set_rate(&mut self, pool: u8, mbps: Option<u32>) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            for queue in &mut function.tx {
                queue.limit = mbps.map(Limit::new);
            }
        }
    }

    /// What a VF reset does to the data path: every queue of it as [`RxQueue::reset`] and [`TxQueue::reset`] say.
    pub fn reset_vf(&mut self, pool: u8) {
        self.touched = true;
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.rx.iter_mut().for_each(RxQueue::reset);
            function.tx.iter_mut().for_each(TxQueue::reset);
        }
    }

    /// What a reset of the whole port does: every queue and every counter back to power-on, filters as new. Link and the
    /// card's options (loopback without link, control frames) stay.
    pub fn reset_port(&mut self) {
        self.touched = true;
        let model = self.filters.model;
        let new = Filters::new(model, self.filters.pf_pool);
        let old = std::mem::replace(&mut self.filters, new);
        self.filters.succeed(&old);
        for function in &mut self.functions {
            function
                .rx
                .iter_mut()
                .for_each(|queue| queue.power_on(model));
            function.tx.iter_mut().for_each(TxQueue::power_on);
            function.stats = VfStats::default();
            function.causes = Causes::default();
            function.rss = self.no_rss.clone();
            function.psrtype = 0;
        }
        self.waiting = [None; 2];
    }

    /// Connects the wire.
    pub fn set_uplink(&mut self, port: Box<dyn Port>) {
        self.uplink = port;
    }

    /// Connects the host behind the PF's own port.
    pub fn set_host(&mut self, port: Box<dyn Port>) {
        self.host = port;
    }

    /// How completions are published.
    pub fn set_completion(&mut self, completion: Completion) {
        self.completion = completion;
        self.holding = true;
    }

    /// Counters of a pool, the PF's included.
    #[must_use]
    pub fn stats(&self, pool: u8) -> Option<&VfStats> {
        let function = self.functions.get(usize::from(pool))?;
        Some(&function.stats)
    }

    /// The same, to preset.
    pub fn stats_mut(&mut self, pool: u8) -> Option<&mut VfStats> {
        let function = self.functions.get_mut(usize::from(pool))?;
        Some(&mut function.stats)
    }

    /// The uplink's counters.
    #[must_use]
    pub const fn wire_stats(&self) -> &WireStats {
        &self.wire
    }

    /// Does about `budget` frames of work at time `now` (nanoseconds of the card's clock): every TX queue in turn, the
    /// wire and the host, held-back write-backs. One segmentation request counts for its frames but is not cut.
    pub fn tick(&mut self, now: u64, budget: u32, hooks: &mut dyn Hooks) -> Tick {
        let armed = hooks.armed();
        let mut place = Place {
            now,
            hooks,
            armed,
            completion: self.completion,
        };
        self.holding |= armed || self.completion.burst > 1;
        self.uplink.set_time(now);
        self.host.set_time(now);
        self.refresh_rss();
        self.refresh_active();
        let mut left = budget;
        loop {
            let before = left;
            for port in [Outside::Wire, Outside::Host] {
                left -= self.arrive(port, left.min(QUANTUM), &mut place).min(left);
            }
            for index in 0..self.active.len() {
                if left == 0 {
                    break;
                }
                let index = (self.turn + index) % self.active.len();
                let (pool, queue) = self.active[index];
                left -= self
                    .tx_turn(pool, queue, left.min(QUANTUM), &mut place)
                    .min(left);
            }
            self.turn = self.turn.wrapping_add(1);
            if left == 0 || left == before {
                break;
            }
        }
        self.flush(&mut place);
        Tick {
            frames: budget - left,
            more: left == 0,
        }
    }

    /// Finds the TX queues that can have work.
    fn refresh_active(&mut self) {
        if !self.touched && self.active_generation == self.filters.generation {
            return;
        }
        self.touched = false;
        self.active_generation = self.filters.generation;
        self.active.clear();
        for (pool, function) in (0u8..).zip(&mut self.functions) {
            for (queue, tx) in (0u8..).zip(&mut function.tx) {
                let aborted = u64::from(std::mem::take(&mut tx.assembly.aborted));
                function.stats.taken += aborted;
                function.stats.drops.add(DropReason::Aborted, aborted);
                let may = self.filters.tx_enabled >> pool & 1 != 0;
                if may && tx.base.count != 0 && function.space.is_some() {
                    self.active.push((pool, queue));
                }
            }
        }
    }

    /// Whether functions may send at all: the chip's clock stops with the link, unless told otherwise.
    fn is_stalled(&self) -> bool {
        !self.filters.link.up && !self.filters.loopback_without_link
    }

    /// Lets one TX queue pass up to `quantum` frames.
    fn tx_turn(&mut self, pool: u8, queue: u8, quantum: u32, place: &mut Place<'_>) -> u32 {
        if self.is_stalled() {
            return 0;
        }
        let owner = Owner {
            pool,
            queue,
            point: Point::TxWriteBack,
        };
        let Some(function) = self.functions.get_mut(usize::from(pool)) else {
            return 0;
        };
        let (Some(space), Some(tx)) = (&function.space, function.tx.get_mut(usize::from(queue)))
        else {
            return 0;
        };
        // A queue that has been stopped since stays among the active ones until they are looked for anew.
        let idle = !tx.assembly.complete && tx.base.tail.load() == tx.base.head;
        if idle || tx.base.count == 0 {
            return 0;
        }
        let space = Arc::clone(space);
        tx.base.refresh(&*space);
        let mut frames = 0;
        // Contexts and half frames take time, too.
        let mut steps = quantum * 16;
        while frames < quantum && steps > 0 {
            let burst = self.burst(owner, quantum - frames, &*space, place);
            frames += burst;
            steps = steps.saturating_sub(1 + burst);
            if burst > 0 {
                continue;
            }
            let turn = self.tx_step(owner, &*space, place);
            frames += turn.frames;
            if turn.idle {
                break;
            }
        }
        frames
    }

    /// Takes up to `most` frames from outside.
    fn arrive(&mut self, outside: Outside, most: u32, place: &mut Place<'_>) -> u32 {
        let which = outside as usize;
        let mut frames = 0;
        while frames < most {
            let mut frame = std::mem::take(&mut self.arrived[which]);
            let waiting = self.waiting[which];
            let again = match waiting {
                Some(wait) if !self.is_over(wait, place) => {
                    self.arrived[which] = frame;
                    break;
                }
                Some(_) => true,
                None => false,
            };
            self.waiting[which] = None;
            if !again && !self.next_frame(outside, &mut frame) {
                self.arrived[which] = frame;
                break;
            }
            let origin = match outside {
                Outside::Wire => Origin::Wire,
                Outside::Host => Origin::Pool(self.filters.pf_pool),
            };
            if outside == Outside::Wire && !self.filters.link.up {
                self.wire.drops.add(DropReason::LinkDown, 1);
            } else if let Forwarded::Blocked(wait) = self.forward(&frame, origin, place) {
                self.waiting[which] = Some(wait);
            }
            self.arrived[which] = frame;
            frames += 1;
        }
        frames
    }

    /// The next frame from a port, padded as a sender would have to.
    fn next_frame(&mut self, outside: Outside, frame: &mut Vec<u8>) -> bool {
        let port = match outside {
            Outside::Wire => &mut self.uplink,
            Outside::Host => &mut self.host,
        };
        if outside == Outside::Host && !self.filters.link.up && !self.filters.loopback_without_link
        {
            return false;
        }
        if !port.has_frames() || !port.receive(frame) {
            return false;
        }
        if frame.len() < MIN_FRAME {
            frame.resize(MIN_FRAME, 0);
        }
        match outside {
            Outside::Wire => self.wire.received += 1,
            Outside::Host => {
                let pool = usize::from(self.filters.pf_pool);
                if let Some(function) = self.functions.get_mut(pool) {
                    function.stats.taken += 1;
                }
            }
        }
        true
    }

    /// Publishes write-backs whose time has come.
    fn flush(&mut self, place: &mut Place<'_>) {
        if !self.holding {
            return;
        }
        self.holding = place.armed || self.completion.burst > 1;
        for (pool, function) in (0u8..).zip(&mut self.functions) {
            let Some(space) = &function.space else {
                continue;
            };
            for (queue, rx) in (0u8..).zip(&mut function.rx) {
                if !rx.base.held.is_empty() {
                    rx.base.refresh(&**space);
                    let owner = Owner {
                        pool,
                        queue,
                        point: Point::RxWriteBack,
                    };
                    if rx.base.flush(&**space, place, owner) {
                        function.causes.rx |= 1 << (queue & 7);
                    }
                    self.holding |= !rx.base.held.is_empty();
                }
            }
            for (queue, tx) in (0u8..).zip(&mut function.tx) {
                if !tx.base.held.is_empty() {
                    tx.base.refresh(&**space);
                    let owner = Owner {
                        pool,
                        queue,
                        point: Point::TxWriteBack,
                    };
                    if tx.base.flush(&**space, place, owner) {
                        function.causes.tx |= 1 << (queue & 7);
                    }
                    self.holding |= !tx.base.held.is_empty();
                }
            }
        }
    }

    /// Whether a tick would find anything to do at once: tails moved, frames at the ports. Cheap; for an idle loop to spin
    /// on. What waits for a time is told by [`next_due`](Self::next_due), what waits for a receiver's descriptors by
    /// this.
    #[must_use]
    pub fn has_work(&mut self) -> bool {
        self.refresh_active();
        if !self.is_stalled() {
            for index in 0..self.active.len() {
                let (pool, queue) = self.active[index];
                let Some(tx) = self.tx_queue(pool, queue) else {
                    continue;
                };
                let tail = tx.base.tail.load();
                if tx.base.count == 0 {
                    continue;
                }
                if tx.assembly.complete {
                    let Some(wait) = tx.assembly.wait else {
                        // It waits for time alone, if at all.
                        if tx.limit.is_none() {
                            return true;
                        }
                        continue;
                    };
                    if self.has_room_for(wait) {
                        return true;
                    }
                } else if tail != tx.base.head && tx.base.bad_tail != Some(tail) {
                    return true;
                }
            }
        }
        let stuck = self.waiting;
        [(stuck[0], true), (stuck[1], false)]
            .into_iter()
            .any(|(wait, wire)| match wait {
                Some(wait) => self.has_room_for(wait),
                None if wire => self.uplink.has_frames(),
                None => !self.is_stalled() && self.host.has_frames(),
            })
    }

    fn has_room_for(&mut self, wait: Wait) -> bool {
        let mut nobody = NoHooks;
        let mut place = Place {
            now: 0,
            hooks: &mut nobody,
            armed: false,
            completion: self.completion,
        };
        self.is_over(wait, &mut place)
    }

    /// When something is due although nobody rings a doorbell: rate limits, held-back write-backs, ports. In nanoseconds
    /// of the card's clock; a time past is due now.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        let burst = usize::from(self.completion.burst);
        let delay = self.completion.delay_ns;
        let mut due = match (self.uplink.next_due(), self.host.next_due()) {
            (Some(a), Some(b)) => Some(a.min(b)),
            (a, b) => a.or(b),
        };
        let mut earlier = |time: Option<u64>| {
            if let Some(time) = time {
                due = Some(due.map_or(time, |due| due.min(time)));
            }
        };
        for function in &self.functions {
            for tx in &function.tx {
                if tx.assembly.complete && tx.assembly.wait.is_none() && !self.is_stalled() {
                    earlier(tx.limit.map(|limit| limit.due()));
                }
                if self.holding {
                    earlier(tx.base.held.due(burst, delay));
                }
            }
            if self.holding {
                for rx in &function.rx {
                    earlier(rx.base.held.due(burst, delay));
                }
            }
        }
        due
    }

    /// Takes the interrupt causes gathered since the last call, for each VF that has any.
    pub fn take_causes(&mut self, mut each: impl FnMut(u8, Causes)) {
        for (pool, function) in (0u8..).zip(&mut self.functions) {
            let causes = std::mem::take(&mut function.causes);
            if causes != Causes::default() {
                each(pool, causes);
            }
        }
    }
}

/// The ports to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    Wire = 0,
    Host = 1,
}

impl Function {
    /// What all its queues have in common.
    fn bases(&mut self) -> impl Iterator<Item = &mut queue::Base> {
        let rx = self.rx.iter_mut().map(|queue| &mut queue.base);
        rx.chain(self.tx.iter_mut().map(|queue| &mut queue.base))
    }
}
