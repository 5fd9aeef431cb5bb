//! Everything behind the card's lock.

use std::time::Duration;

use vfnic_hw::Model;

use crate::data::{
    At, Causes, DataPath, Fault as DataFault, Hooks, Malicious, RingViolation, Tick, VfStats,
};
use crate::dma::DmaFault;
use crate::fault::{Action, Faults, Point};
use crate::irq::Delivery;
use crate::per_vf::{PerVf, VfId};
use crate::pf::PfState;
use crate::vf::Vf;
use crate::violation::{ViolationKind, Violations};

/// The card: control side and data path.
#[derive(Debug)]
pub(crate) struct CardState {
    pub(crate) control: Control,
    pub(crate) path: DataPath,
}

/// The control side.
#[derive(Debug)]
pub(crate) struct Control {
    pub(crate) model: Model,
    /// VFs the card has.
    pub(crate) vf_count: u16,
    /// Queue pairs a VF's pool has.
    pub(crate) queues: u8,
    /// The card's clock, read when the lock was taken.
    pub(crate) now: Duration,
    pub(crate) vfs: PerVf<Vf>,
    pub(crate) pf: PfState,
    pub(crate) faults: Faults,
    pub(crate) violations: Violations,
    /// A register write gave the data path something to do: whoever lets go of the lock wakes it.
    pub(crate) rung: bool,
    /// Nothing but traffic is due before this moment.
    pub(crate) earliest: Duration,
    /// An interrupt message has gone out: somebody was woken.
    pub(crate) spoken: bool,
}

impl CardState {
    /// Records a violation.
    #[cold]
    pub(crate) fn violation(&mut self, vf: VfId, kind: ViolationKind) {
        let now = self.control.now;
        self.control.violations.record(now, vf.number(), kind);
    }

    /// A VF's counters.
    pub(crate) fn counters(&self, vf: VfId) -> VfStats {
        self.path.stats(vf.pool()).copied().unwrap_or_default()
    }

    /// Lets the data path reach memory, or not: opened, present, and bus master.
    pub(crate) fn update_dma(&mut self, vf: VfId) {
        let this = &self.control.vfs[vf];
        let space = this
            .space
            .as_ref()
            .filter(|_| this.open && !this.removed && this.config.bus_master())
            .map(|space| space.translate());
        self.path.set_space(vf.pool(), space);
        self.update_tail_limits(vf);
    }

    /// Sends the messages that are due on one VF.
    #[inline]
    pub(crate) fn deliver_interrupts(&mut self, vf: VfId) {
        self.control.deliver(vf);
    }

    /// Raises a VF's mailbox cause.
    pub(crate) fn raise_mailbox(&mut self, vf: VfId) {
        let irq = &mut self.control.vfs[vf].irq;
        irq.raise(irq.mailbox_cause());
        self.control.deliver(vf);
    }

    /// Everything but traffic that is due now.
    #[inline]
    pub(crate) fn timers(&mut self) {
        if self.control.now >= self.control.earliest {
            self.run_timers();
        }
    }

    fn run_timers(&mut self) {
        for vf in self.control.vfs.ids() {
            self.late_enables(vf);
        }
        self.pf_timers();
        for vf in self.control.vfs.ids() {
            self.control.deliver(vf);
        }
        self.control.earliest = self.control_deadline().unwrap_or(Duration::MAX);
    }

    /// When something is due next, traffic included.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        let path = self.path.next_due().map(Duration::from_nanos);
        self.control_deadline().into_iter().chain(path).min()
    }

    fn control_deadline(&self) -> Option<Duration> {
        let control = self.control.vfs.ids().flat_map(|vf| {
            let this = &self.control.vfs[vf];
            let irq = this.irq.deadline().filter(|_| this.config.bus_master());
            [irq, self.late_enable_deadline(vf)]
        });
        control.flatten().chain(self.pf_deadline()).min()
    }

    /// One bounded piece of traffic, and the interrupts it causes.
    pub(crate) fn traffic(&mut self, budget: u32) -> Tick {
        let nanos = u64::try_from(self.control.now.as_nanos()).unwrap_or(u64::MAX);
        let control = &mut self.control;
        let mut observer = Observer {
            control,
            malicious: 0,
        };
        let tick = self.path.tick(nanos, budget, &mut observer);
        let malicious = observer.malicious;
        self.path.take_causes(|pool, causes| {
            control_causes(&mut self.control, usize::from(pool), causes);
        });
        if malicious != 0 {
            self.pf_malicious(malicious);
        }
        tick
    }
}

/// Turns write-backs into interrupt causes.
fn control_causes(control: &mut Control, vf: usize, causes: Causes) {
    let Some(vf) = control.vfs.find(vf) else {
        return;
    };
    let this = &mut control.vfs[vf];
    let mut bits = 0;
    for queue in 0..8 {
        if causes.rx & (1 << queue) != 0 {
            bits |= this.irq.rx_cause(queue);
        }
        if causes.tx & (1 << queue) != 0 {
            bits |= this.irq.tx_cause(queue);
        }
    }
    this.irq.raise(bits);
    control.deliver(vf);
}

impl Control {
    #[inline]
    fn deliver(&mut self, vf: VfId) {
        let now = self.now;
        let this = &mut self.vfs[vf];
        let faults = &mut self.faults;
        let master = this.config.bus_master();
        this.irq.deliver(now, master, &mut |vector| match faults.at(
            Point::Interrupt,
            now,
            vf.number(),
            u32::from(vector),
        ) {
            Some(Action::Drop) => Delivery::Lose,
            Some(Action::Repeat(times)) => Delivery::Repeat(times),
            Some(Action::Divert(other)) => Delivery::Divert(other),
            Some(Action::Delay(time)) => Delivery::Delay(time),
            _ => Delivery::Send,
        });
        self.spoken |= this.irq.take_spoken();
        if let Some(later) = self.vfs[vf].irq.deadline() {
            self.due_at(later);
        }
    }

    /// Something is to be done at `at`.
    #[inline]
    pub(crate) fn due_at(&mut self, at: Duration) {
        self.earliest = self.earliest.min(at);
    }
}

/// What the data path tells while it works.
struct Observer<'a> {
    control: &'a mut Control,
    /// VFs that malicious-driver detection struck, one bit each.
    malicious: u64,
}

impl Hooks for Observer<'_> {
    fn armed(&self) -> bool {
        self.control.faults.data_armed()
    }

    fn at(&mut self, at: At) -> Option<DataFault> {
        let now = self.control.now;
        let selector = u32::from(at.queue);
        match self
            .control
            .faults
            .at(Point::Data(at.point), now, usize::from(at.pool), selector)
        {
            Some(Action::Data(fault)) => Some(fault),
            _ => None,
        }
    }

    fn dma_fault(&mut self, fault: DmaFault) {
        let now = self.control.now;
        let kind = ViolationKind::DmaFault {
            iova: vfnic_hw::Iova(fault.iova),
            len: fault.len as usize,
            write: fault.write,
        };
        self.control
            .violations
            .record(now, usize::from(fault.pool), kind);
    }

    fn violation(&mut self, pool: u8, queue: u8, violation: RingViolation) {
        let now = self.control.now;
        let kind = ViolationKind::Ring {
            queue,
            what: violation,
        };
        self.control.violations.record(now, usize::from(pool), kind);
    }

    fn malicious(&mut self, pool: u8, queue: u8, cause: Malicious) {
        self.violation(pool, queue, cause);
        self.malicious |= 1 << (pool & 63);
    }

    fn spoofed(&mut self, pool: u8, _queue: u8) {
        self.control.pf.spoofed(usize::from(pool));
    }
}
