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
mod tick;
mod transmit;
mod tx;
mod write_back;

use std::sync::Arc;

use vfnic_hw::Model;

use self::burst::Group;
use self::forward::Target;
use self::limit::Limit;
use self::rss::Rss;
use self::switch::Cache;
use self::tx::Wait;
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
            function.stats.power_on();
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

impl Function {
    /// What all its queues have in common.
    fn bases(&mut self) -> impl Iterator<Item = &mut queue::Base> {
        let rx = self.rx.iter_mut().map(|queue| &mut queue.base);
        rx.chain(self.tx.iter_mut().map(|queue| &mut queue.base))
    }
}
