//! What a port's handles share, and who may touch the control side's state.
//!
//! That state is in a slot. Whoever wants to do something with it locks the slot; a recovery that takes its time takes
//! the state *out* and leaves a task in its place, which `poll_control` drives a slice at a time. So nothing ever
//! waits long for the lock, and two resets cannot run at once.

use std::collections::BTreeMap;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::Poll;
use std::time::Duration;

use vfnic_ring::{Pool, RxStats, TxStats};

use crate::config::PortConfig;
use crate::event::EventQueue;
use crate::port::control::{Cause, Control};
use crate::port::{Device, MacOrigin, PortState};
use crate::queue::run::Run;
use crate::wait::{Ticker, drive};
use crate::{Capabilities, Error, Event, Link, MacAddr, QueueError};

/// A recovery under way: gives the control state back, and whether the device is still there.
pub(crate) type Task = Pin<Box<dyn Future<Output = (Box<Control>, Result<(), Error>)> + Send>>;

/// Where the control state is.
pub(crate) enum Slot {
    Idle(Box<Control>),
    Recovering {
        task: Task,
        since: Duration,
    },
    /// The port is closed, or a caller panicked in the middle of something.
    Closed,
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Idle(_) => "Idle",
            Self::Recovering { .. } => "Recovering",
            Self::Closed => "Closed",
        })
    }
}

/// What readers see, without waiting for anybody.
#[derive(Clone, Debug)]
pub(crate) struct Published {
    pub(crate) mac: MacAddr,
    pub(crate) origin: MacOrigin,
    pub(crate) link: Link,
    pub(crate) state: PortState,
    pub(crate) capabilities: Capabilities,
    pub(crate) mtu: u16,
    pub(crate) hardware: Vec<(&'static str, u64)>,
    pub(crate) lost: Vec<String>,
    pub(crate) recoveries: u64,
}

/// Statistics of one started queue pair.
#[derive(Clone, Debug)]
pub(crate) struct PairStats {
    pub(crate) index: u16,
    pub(crate) rx: Arc<RxStats>,
    pub(crate) tx: Arc<TxStats>,
}

impl PairStats {
    fn each(&self, mut tell: impl FnMut(String, u64)) {
        for (name, value) in self.rx.each() {
            tell(format!("rx{}_{name}", self.index), value);
        }
        for (name, value) in self.tx.each() {
            tell(format!("tx{}_{name}", self.index), value);
        }
    }
}

/// A port without its handle.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) device: Arc<Device>,
    pub(crate) config: PortConfig,
    /// Queue pairs to start.
    pub(crate) pairs: u16,
    pub(crate) pool: Pool,
    /// The control side's own: used only with the slot locked.
    pub(crate) ticker: Ticker,
    pub(crate) events: EventQueue,
    slot: Mutex<Slot>,
    published: Mutex<Published>,
    /// The present life of the queues, for as long as anybody holds one.
    run: Mutex<Weak<Run>>,
    pair_stats: Mutex<Vec<PairStats>>,
    /// The administrator's wish was told.
    pub(crate) removal_told: AtomicBool,
    /// What queues of former starts counted.
    retired: Mutex<BTreeMap<String, u64>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(crate) fn new(
        device: Arc<Device>,
        config: PortConfig,
        pairs: u16,
        pool: Pool,
        ticker: Ticker,
        events: EventQueue,
        control: Box<Control>,
    ) -> Self {
        let vectors = u32::from(device.plan.count);
        let capabilities = Capabilities::of(device.family, &control.grant, vectors);
        let published = Published {
            mac: control.mac,
            origin: control.origin,
            link: Link::Down,
            state: PortState::Stopped,
            capabilities,
            mtu: control.settings.mtu,
            hardware: control.totals.iter().collect(),
            lost: Vec::new(),
            recoveries: 0,
        };
        Self {
            device,
            config,
            pairs,
            pool,
            ticker,
            events,
            slot: Mutex::new(Slot::Idle(control)),
            published: Mutex::new(published),
            run: Mutex::new(Weak::new()),
            pair_stats: Mutex::new(Vec::new()),
            removal_told: AtomicBool::new(false),
            retired: Mutex::new(BTreeMap::new()),
        }
    }

    pub(crate) fn slot(&self) -> MutexGuard<'_, Slot> {
        lock(&self.slot)
    }

    pub(crate) fn published(&self) -> MutexGuard<'_, Published> {
        lock(&self.published)
    }

    pub(crate) fn count_recovery(&self) {
        let mut published = self.published();
        published.recoveries = published.recoveries.saturating_add(1);
    }

    pub(crate) fn run(&self) -> Option<Arc<Run>> {
        lock(&self.run).upgrade()
    }

    pub(crate) fn set_run(&self, run: &Arc<Run>) {
        *lock(&self.run) = Arc::downgrade(run);
    }

    /// Counters of the queues of this start from now on. Those of the one before have counted all they will ever
    /// count: their queues are gone.
    pub(crate) fn set_pair_stats(&self, stats: Vec<PairStats>) {
        let mut retired = lock(&self.retired);
        for pair in lock(&self.pair_stats).iter() {
            pair.each(|name, value| {
                let all = retired.entry(name).or_insert(0);
                *all = all.wrapping_add(value);
            });
        }
        *lock(&self.pair_stats) = stats;
    }

    /// Frames a transmit queue of this start has taken, and how often it had no room for one.
    pub(crate) fn tx_counts(&self, queue: u16) -> (u64, u64) {
        lock(&self.pair_stats)
            .iter()
            .find(|pair| pair.index == queue)
            .map_or((0, 0), |pair| (pair.tx.packets(), pair.tx.ring_full()))
    }

    /// Frames that the queues of this start have received and taken to send.
    pub(crate) fn frames_moved(&self) -> u64 {
        lock(&self.pair_stats)
            .iter()
            .map(|pair| pair.rx.packets().wrapping_add(pair.tx.packets()))
            .fold(0, u64::wrapping_add)
    }

    /// Every counter of the queues, former starts included.
    pub(crate) fn each_queue_counter(&self, mut tell: impl FnMut(String, u64)) {
        let retired = lock(&self.retired);
        for pair in lock(&self.pair_stats).iter() {
            pair.each(|name, value| {
                let before = retired.get(&name).copied().unwrap_or(0);
                tell(name, before.wrapping_add(value));
            });
        }
    }

    /// The error for whatever was asked of a closed port.
    pub(crate) fn closed(&self) -> Error {
        if self.device.regs.is_gone() {
            return self.device.gone();
        }
        Error::State {
            device: self.device.name.clone(),
            what: "the port is closed; open it again",
        }
    }

    /// The control state, for a request of the application's, which is over within the time for one message however many it
    /// takes. While a recovery is under way it is helped along for a part of that; if it is still going on then, `what`
    /// was not done.
    pub(crate) fn with_control<R>(
        self: &Arc<Self>,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Control) -> Result<R, Error>,
    ) -> Result<R, Error> {
        self.with_control_for(self.config.mailbox_timeout, what, work)
    }

    /// The same for what takes long: it is over within `limit`.
    pub(crate) fn with_control_for<R>(
        self: &Arc<Self>,
        limit: Duration,
        what: &'static str,
        work: impl AsyncFnOnce(&mut Control) -> Result<R, Error>,
    ) -> Result<R, Error> {
        let mut slot = self.slot();
        let begin = self.ticker.now();
        if let Slot::Recovering { since, .. } = *slot {
            // TIMEOUT: several times what a recovery takes whose PF answers. The rest is for what was asked.
            let part = limit.checked_div(4).unwrap_or_default();
            self.drive_recovery(&mut slot, part)?;
            if matches!(*slot, Slot::Recovering { .. }) {
                return Err(Error::Recovering {
                    device: self.device.name.clone(),
                    what,
                    since: self.ticker.now().saturating_sub(since),
                });
            }
        }
        let Slot::Idle(control) = &mut *slot else {
            return Err(self.closed());
        };
        let spent = self.ticker.now().saturating_sub(begin);
        self.ticker.limit_all(Some(limit.saturating_sub(spent)));
        let result = crate::wait::block_on(&self.ticker, work(control));
        self.ticker.limit_all(None);
        if let Err(Error::Gone { .. }) = result
            && self.lost_touch(&mut slot)
        {
            return Err(Error::Recovering {
                device: self.device.name.clone(),
                what,
                since: Duration::ZERO,
            });
        }
        result
    }

    /// The registers read all ones. True when the function is still on its bus: then a recovery begins, which waits for
    /// it. Else it is gone for good.
    pub(crate) fn lost_touch(self: &Arc<Self>, slot: &mut Slot) -> bool {
        if self.device.regs.is_gone() || !self.device.is_on_the_bus() {
            self.declare_gone();
            return false;
        }
        self.begin_recovery(slot, Cause::Absent);
        // Its first step is what has the queues let go.
        self.drive_recovery(slot, Duration::ZERO).is_ok()
    }

    /// Drives a recovery for `slice`, if there is one. An error means that the device is gone.
    pub(crate) fn drive_recovery(&self, slot: &mut Slot, slice: Duration) -> Result<(), Error> {
        let Slot::Recovering { task, .. } = slot else {
            return Ok(());
        };
        if let Poll::Ready((control, result)) = drive(&self.ticker, task.as_mut(), slice) {
            *slot = Slot::Idle(control);
            if let Err(error) = result {
                self.declare_gone();
                return Err(error);
            }
        }
        Ok(())
    }

    /// The device is gone: tells everybody, once.
    pub(crate) fn declare_gone(&self) {
        self.device.regs.bury();
        let first = {
            let mut published = self.published();
            let first = published.state != PortState::Gone;
            published.state = PortState::Gone;
            published.link = Link::Down;
            first
        };
        if first {
            if let Some(run) = self.run() {
                run.end(QueueError::Gone, true);
            }
            log::error!("{}: the device is gone", self.device.name);
            self.events.push(Event::Gone);
        }
    }

    /// Makes the state and the link as readers see them `state` and `link`, and tells of what changed.
    pub(crate) fn publish_link(&self, state: PortState, link: Link) {
        let before = {
            let mut published = self.published();
            published.state = state;
            std::mem::replace(&mut published.link, link)
        };
        match link {
            _ if link == before => {}
            Link::Up { mbps, .. } => self.events.push(Event::LinkUp { mbps }),
            Link::Down => self.events.push(Event::LinkDown),
        }
    }

    /// Makes what the PF granted visible, and tells when the address changed.
    pub(crate) fn publish_grant(&self, control: &Control) {
        let capabilities = Capabilities::of(
            self.device.family,
            &control.grant,
            u32::from(self.device.plan.count),
        );
        let changed = {
            let mut published = self.published();
            published.capabilities = capabilities;
            published.origin = control.origin;
            published.mtu = control.settings.mtu;
            std::mem::replace(&mut published.mac, control.mac) != control.mac
        };
        if changed {
            self.events.push(Event::MacChanged);
        }
    }
}
