//! What functions, doorbells, knobs and the card's thread share: the lock, and what lies beside it.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use vfnic_hw::{Clock, Iova, Model};

use crate::clock::{Stepped, VirtualClock};
use crate::iommu::{Master, SimSpace};
use crate::per_vf::{PerVf, VfId};
use crate::run::{self, Waker};
use crate::state::CardState;
use crate::vf::Tails;
use crate::violation::ViolationKind;

/// A card, to whoever is part of it.
pub(crate) struct Shared {
    pub(crate) model: Model,
    pub(crate) clock: Arc<dyn Clock>,
    /// The same clock, when it is virtual.
    pub(crate) virtual_clock: Option<VirtualClock>,
    pub(crate) name: String,
    pub(crate) state: Mutex<CardState>,
    /// Register accesses that want the lock: the engine lets them go first.
    pub(crate) waiters: AtomicU32,
    pub(crate) tails: PerVf<Arc<Tails>>,
    pub(crate) auto_step: bool,
    pub(crate) waker: Waker,
    pub(crate) stop: AtomicBool,
    /// CPU time of the card's thread, in nanoseconds, as it last said.
    pub(crate) cpu_nanos: AtomicU64,
    /// Itself, for whoever must not keep it alive.
    pub(crate) me: Weak<Self>,
}

impl Shared {
    /// The lock, for a register access or a knob.
    fn lock(&self) -> MutexGuard<'_, CardState> {
        self.waiters.fetch_add(1, Ordering::Relaxed);
        let guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        self.waiters.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// The lock, for the engine: it waits until nobody else wants it.
    pub(crate) fn lock_for_engine(&self) -> MutexGuard<'_, CardState> {
        while self.waiters.load(Ordering::Relaxed) > 0 {
            std::thread::yield_now();
        }
        let mut guard = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        guard.control.now = self.clock.now();
        guard
    }

    /// Does something with the card, at the present time, and passes on what it set off.
    pub(crate) fn with<R>(&self, what: impl FnOnce(&mut CardState) -> R) -> R {
        let mut state = self.lock();
        state.control.now = self.clock.now();
        let earliest = state.control.earliest;
        let result = what(&mut state);
        let wake = std::mem::take(&mut state.control.rung) | (state.control.earliest < earliest);
        drop(state);
        if wake {
            self.rung();
        }
        result
    }

    /// A tail was written, or something else came up that the engine should see.
    #[inline]
    pub(crate) fn rung(&self) {
        match &self.virtual_clock {
            None => self.waker.wake(),
            Some(clock) if self.auto_step => {
                clock.step();
            }
            Some(_) => {}
        }
    }

    /// Stepped: everything due now, then traffic until none moves. Returns frames moved.
    pub(crate) fn step(&self) -> u64 {
        run::step(&mut self.lock_for_engine())
    }

    pub(crate) fn vf_name(&self, vf: impl fmt::Display) -> String {
        format!("{}/vf{vf}", self.name)
    }

    pub(crate) fn tails(&self, vf: VfId) -> Arc<Tails> {
        self.tails[vf].clone()
    }

    pub(crate) fn as_master(&self) -> Weak<dyn Master> {
        self.me.clone()
    }
}

impl Master for Shared {
    fn quiesce(&self, space: &SimSpace, iova: Iova, len: usize) {
        // Getting the lock is the waiting: whatever the engine was doing with the old table is over.
        self.with(|state| state.unmapped(space, iova, len));
    }
}

impl Stepped for Shared {
    fn step_now(&self) -> u64 {
        self.step()
    }

    fn next_deadline(&self) -> Option<Duration> {
        self.lock_for_engine().deadline()
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Card")
            .field("name", &self.name)
            .field("model", &self.model)
            .field("vfs", &self.tails.len())
            .finish_non_exhaustive()
    }
}

impl CardState {
    /// A mapping has ended; a live ring must not have been in it.
    fn unmapped(&mut self, space: &SimSpace, iova: Iova, len: usize) {
        let end = iova.0.saturating_add(len as u64);
        for vf in self.control.vfs.ids() {
            let this = &self.control.vfs[vf];
            let reached = this.config.bus_master()
                && this.space.as_ref().is_some_and(|own| own.same(space))
                && this
                    .regs
                    .live_rings()
                    .any(|base| base >= iova.0 && base < end);
            if reached {
                self.violation(vf, ViolationKind::UnmapWhileEnabled { iova, len });
            }
        }
    }
}
