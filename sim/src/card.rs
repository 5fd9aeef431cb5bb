//! The card as its owner holds it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, Weak};
use std::thread::JoinHandle;
use std::time::Duration;

use vfnic_hw::{Clock, Family, Model, PciError, PciFunction, RealClock};

use crate::builder::{AutoStep, BuildError, CardBuilder};
use crate::clock::VirtualClock;
use crate::data::{Completion, DataPath, VfStats, WireStats};
use crate::fault::{FaultPlan, Faults, Rule};
use crate::function::SimFunction;
use crate::iommu::SimSpace;
use crate::per_vf::PerVf;
use crate::pf::{Pf, PfState};
use crate::run::{self, Waker};
use crate::shared::Shared;
use crate::state::{CardState, Control};
use crate::uplink::Port;
use crate::vf::{Direction, QUEUES, Vf, Words, narrow};
use crate::violation::{Violation, Violations};

/// A simulated card: a PF, its VFs, the switch between them.
///
/// A stepped card (the default) stands still until [`step`](Self::step) or its clock moves it; a threaded one runs by
/// itself. Dropping the card stops its thread; functions still held then answer register accesses but move nothing.
pub struct Card {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Card {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.shared.fmt(f)
    }
}

impl Card {
    /// Starts describing a card of `model`; one VF, stepped, Linux's PF, nothing on the wire.
    #[must_use]
    pub const fn builder(model: Model) -> CardBuilder {
        CardBuilder::new(model)
    }

    pub(crate) fn new(builder: CardBuilder) -> Result<Self, BuildError> {
        let model = builder.model;
        let most = most_vfs(model);
        if builder.vfs == 0 || builder.vfs > most {
            return Err(BuildError::Vfs {
                model,
                asked: builder.vfs,
                most,
            });
        }
        let queues = queues_per_pool(&builder)?;
        let os = |what| move |source| BuildError::Os { what, source };
        let virtual_clock = (!builder.threaded).then(|| builder.clock.clone().unwrap_or_default());
        let clock: Arc<dyn Clock> = match &virtual_clock {
            Some(clock) => Arc::new(clock.clone()),
            None => Arc::new(RealClock::new()),
        };
        let registers = match model {
            Model::I82576 => 2,
            Model::I350 => 1,
            _ => 8,
        };
        let mut path = DataPath::new(model, narrow(usize::from(builder.vfs)), registers);
        let vfs = (0..builder.vfs)
            .map(|vf| {
                Vf::new(
                    model,
                    builder.variant.device_id(model),
                    words(&mut path, vf),
                )
            })
            .collect::<PerVf<_>>();
        let tails = vfs.iter().map(|vf| vf.tails.clone()).collect();
        let mut state = CardState {
            control: Control {
                model,
                vf_count: builder.vfs,
                queues,
                now: clock.now(),
                vfs,
                pf: PfState::new(&builder),
                faults: Faults::new(&builder.faults, builder.seed),
                violations: Violations::default(),
                rung: false,
                earliest: Duration::MAX,
                spoken: false,
            },
            path,
        };
        state.power_on();
        if let Some(port) = builder.uplink {
            state.path.set_uplink(port);
        }
        if let Some(port) = builder.host {
            state.path.set_host(port);
        }
        let waker = Waker::new().map_err(os("eventfd"))?;
        let shared = Arc::new_cyclic(|me| Shared {
            model,
            clock,
            virtual_clock,
            name: builder.name.unwrap_or_else(|| format!("sim:{model}")),
            state: Mutex::new(state),
            waiters: AtomicU32::new(0),
            tails,
            auto_step: builder.auto_step == AutoStep::OnDoorbell,
            waker,
            stop: AtomicBool::new(false),
            cpu_nanos: AtomicU64::new(0),
            me: me.clone(),
        });
        let thread = if let Some(clock) = &shared.virtual_clock {
            let member: Weak<Shared> = Arc::downgrade(&shared);
            clock.attach(member);
            None
        } else {
            let card = shared.clone();
            let thread = std::thread::Builder::new().name(card.name.clone());
            Some(
                thread
                    .spawn(move || run::run(&card))
                    .map_err(os("thread"))?,
            )
        };
        Ok(Self { shared, thread })
    }

    /// Its model.
    #[must_use]
    pub fn model(&self) -> Model {
        self.shared.model
    }

    /// How many VFs it has.
    #[must_use]
    pub fn vf_count(&self) -> u16 {
        u16::try_from(self.shared.tails.len()).unwrap_or(u16::MAX)
    }

    /// Opens VF `vf` in an IOVA space of its own. That resets it (FLR), as VFIO does.
    ///
    /// # Errors
    ///
    /// [`PciError::NotFound`] when there is no such VF (any more), [`PciError::Busy`] while somebody holds it.
    pub fn function(&self, vf: u16) -> Result<Arc<dyn PciFunction>, PciError> {
        self.function_in(vf, &SimSpace::new())
    }

    /// Opens VF `vf` in `space`, which other functions, of this card or another, may share.
    ///
    /// # Errors
    ///
    /// As for [`function`](Self::function).
    pub fn function_in(&self, vf: u16, space: &SimSpace) -> Result<Arc<dyn PciFunction>, PciError> {
        Ok(SimFunction::open(&self.shared, vf, space)?)
    }

    /// Stepped: does everything that is due at the present time and moves traffic until none moves, on this card and on
    /// those that share its clock. Returns how many frames moved. A threaded card does nothing here and returns 0.
    pub fn step(&self) -> u64 {
        let clock = self.shared.virtual_clock.as_ref();
        clock.map_or(0, VirtualClock::step)
    }

    /// Lets `time` pass: moves the virtual clock, stepping at every deadline on the way; a threaded card sleeps.
    pub fn run_for(&self, time: Duration) {
        self.shared.clock.sleep(time);
    }

    /// The card's clock; the same as its functions'.
    #[must_use]
    pub fn clock(&self) -> Arc<dyn Clock> {
        self.shared.clock.clone()
    }

    /// The card's clock if it is virtual, to hang another card on it.
    #[must_use]
    pub fn virtual_clock(&self) -> Option<VirtualClock> {
        self.shared.virtual_clock.clone()
    }

    /// The PF's knobs.
    #[must_use]
    pub fn pf(&self) -> Pf {
        Pf::new(self.shared.clone())
    }

    /// A VF's counters; `None` when there is no such VF.
    #[must_use]
    pub fn vf_stats(&self, vf: u16) -> Option<VfStats> {
        let pool = u8::try_from(vf).ok()?;
        self.shared
            .with(|state| state.path.stats(pool).copied())
            .filter(|_| vf < self.vf_count())
    }

    /// All counters of the card.
    #[must_use]
    pub fn stats(&self) -> CardStats {
        self.shared.with(|state| {
            let vfs = state.control.vf_count;
            let pool = |pool: u16| {
                let pool = u8::try_from(pool).unwrap_or(u8::MAX);
                state.path.stats(pool).copied().unwrap_or_default()
            };
            CardStats {
                vfs: (0..vfs).map(pool).collect(),
                pf: pool(vfs),
                wire: *state.path.wire_stats(),
            }
        })
    }

    /// Sets every hardware counter of a VF to where `before` packets or octets are left until it wraps.
    pub fn preset_counters_near_wrap(&self, vf: u16, before: u32) {
        let pool = u8::try_from(vf).unwrap_or(u8::MAX);
        self.shared.with(|state| {
            if let Some(stats) = state.path.stats_mut(pool) {
                stats.preset_near_wrap(before);
            }
        });
    }

    /// Connects the wire to something else.
    pub fn set_uplink(&self, port: Box<dyn Port>) {
        self.shared.with(|state| {
            state.path.set_uplink(port);
            state.control.rung = true;
        });
    }

    /// Connects the host behind the PF's own port to something else.
    pub fn set_host(&self, port: Box<dyn Port>) {
        self.shared.with(|state| {
            state.path.set_host(port);
            state.control.rung = true;
        });
    }

    /// How completions are published: at once, in bursts, late, with rubbish where the hardware leaves it undefined.
    pub fn set_completion(&self, completion: Completion) {
        self.shared
            .with(|state| state.path.set_completion(completion));
    }

    /// What wakes the card's thread when something outside has frames for it.
    #[must_use]
    pub fn notifier(&self) -> Notifier {
        Notifier(Arc::downgrade(&self.shared))
    }

    /// The breaches of the hardware's rules recorded so far (the first 256 in full), oldest first.
    #[must_use]
    pub fn violations(&self) -> Vec<Violation> {
        self.shared
            .with(|state| state.control.violations.list().to_vec())
    }

    /// Takes the recorded breaches away, for a test that provoked them.
    pub fn take_violations(&self) -> Vec<Violation> {
        self.shared.with(|state| state.control.violations.take())
    }

    /// What every test ends with.
    ///
    /// # Panics
    ///
    /// When a violation was recorded; the text lists them.
    pub fn assert_no_violations(&self) {
        let (list, total) = self.shared.with(|state| {
            let violations = &state.control.violations;
            (violations.list().to_vec(), violations.total())
        });
        let text: Vec<String> = list.iter().take(20).map(ToString::to_string).collect();
        assert!(total == 0, "{total} violations:\n{}", text.join("\n"));
    }

    /// The fault plan of the running card.
    #[must_use]
    pub fn faults(&self) -> CardFaults {
        CardFaults(self.shared.clone())
    }

    /// Messages sent by a VF's vectors since it was made.
    #[must_use]
    pub fn interrupts(&self, vf: u16) -> [u64; 3] {
        self.shared.with(|state| {
            let vfs = &state.control.vfs;
            vfs.find(usize::from(vf))
                .map_or([0; 3], |vf| vfs[vf].irq.sent())
        })
    }

    /// CPU time that the card's own thread has used; zero for a stepped card, whose callers pay.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        Duration::from_nanos(self.shared.cpu_nanos.load(Ordering::Relaxed))
    }
}

impl Drop for Card {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.waker.kick();
        if let Some(thread) = self.thread.take() {
            // A panic of the card's thread has been reported on stderr already; it must not become a second one here.
            let _ = thread.join();
        }
    }
}

/// All counters of a card.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CardStats {
    /// The VFs', by number.
    pub vfs: Vec<VfStats>,
    /// The PF's own port's.
    pub pf: VfStats,
    /// The wire's.
    pub wire: WireStats,
}

/// Tells a card that one of its ports has frames. Needed only while its thread may sleep; a stepped card looks by itself.
#[derive(Clone, Debug)]
pub struct Notifier(Weak<Shared>);

impl Notifier {
    /// Wakes the card's thread if it sleeps. What it is to see must have been stored before.
    pub fn notify(&self) {
        if let Some(card) = self.0.upgrade() {
            card.waker.wake();
        }
    }
}

/// Changes what goes wrong on a running card.
#[derive(Clone, Debug)]
pub struct CardFaults(Arc<Shared>);

impl CardFaults {
    /// Adds a rule. Its window, if it has one, is in the card's own time.
    pub fn add(&self, rule: Rule) {
        self.0.with(|state| state.control.faults.add(rule));
    }

    /// Adds a rule that applies from now on for `time`.
    pub fn add_for(&self, time: Duration, rule: Rule) {
        self.0.with(|state| {
            let now = state.control.now;
            let until = now.saturating_add(time);
            state.control.faults.add(rule.between(now, until));
        });
    }

    /// Adds all rules of a plan.
    pub fn add_plan(&self, plan: &FaultPlan) {
        for rule in plan.rules() {
            self.add(rule.clone());
        }
    }

    /// Ends all faults.
    pub fn clear(&self) {
        self.0.with(|state| state.control.faults.clear());
    }

    /// How often each rule struck, in the order they were added.
    #[must_use]
    pub fn struck(&self) -> Vec<u64> {
        self.0.with(|state| state.control.faults.struck())
    }

    /// Offset and value of the last register write that a rule struck, as the driver meant it.
    #[must_use]
    pub fn struck_write(&self) -> Option<(u32, u32)> {
        self.0.with(|state| state.control.faults.struck_write)
    }

    /// Signals vector `vector` of a VF for no reason.
    pub fn spurious_interrupt(&self, vf: u16, vector: u8) {
        self.0.with(|state| {
            let vfs = &mut state.control.vfs;
            if let Some(vf) = vfs.find(usize::from(vf)) {
                vfs[vf].irq.spurious(usize::from(vector));
            }
        });
    }

    /// Clears a VF's bus master bit behind its driver's back.
    pub fn clear_bus_master(&self, vf: u16) {
        self.0.with(|state| {
            if let Some(vf) = state.control.vfs.find(usize::from(vf)) {
                state.write_config(vf, 4, &[0]);
            }
        });
    }
}

/// The head and tail words of a VF's queues.
fn words(path: &mut DataPath, vf: u16) -> Words {
    let pool = narrow(usize::from(vf));
    let mut words = Words::default();
    for queue in (0..).take(QUEUES) {
        if let Some(rx) = path.rx(pool, queue) {
            words.tails[Direction::Rx].push(rx.tail_word());
            words.heads[Direction::Rx].push(rx.head_word());
        }
        if let Some(tx) = path.tx(pool, queue) {
            words.tails[Direction::Tx].push(tx.tail_word());
            words.heads[Direction::Tx].push(tx.head_word());
        }
    }
    words
}

/// One pool is the PF's (ixgbevf.md §7.1, igbvf.md §1.3).
const fn most_vfs(model: Model) -> u16 {
    match model.family() {
        Family::Igbvf => 7,
        Family::Ixgbevf => 63,
    }
}

/// Queue pairs a VF has (ixgbevf.md §11.1, igbvf.md §13).
fn queues_per_pool(builder: &CardBuilder) -> Result<u8, BuildError> {
    let (by_default, can, text): (u8, &[u8], &'static str) = match builder.model {
        Model::I82576 => (2, &[2], "2"),
        Model::I350 => (1, &[1], "1"),
        _ => match builder.vfs {
            32.. => (2, &[2], "2 with more than 31 VFs"),
            16.. => (4, &[2, 4], "2 or 4 with more than 15 VFs"),
            _ => (4, &[2, 4, 8], "2, 4 or 8"),
        },
    };
    let queues = builder.queues.unwrap_or(by_default);
    if can.contains(&queues) {
        Ok(queues)
    } else {
        Err(BuildError::Queues {
            model: builder.model,
            asked: queues,
            can: text,
        })
    }
}
