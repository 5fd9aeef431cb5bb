//! Looking after a port that runs: a few register reads each time `poll_control` is called.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::family::Io;
use crate::mailbox::Notice;
use crate::port::PortState;
use crate::port::control::{Cause, Control};
use crate::port::shared::{Shared, Slot};
use crate::registers::Gone;
use crate::wait::block_on;
use crate::{Error, Event, Link};

/// How long one call may help a recovery along.
const SLICE: Duration = Duration::from_millis(10);
/// How soon to call again at the soonest.
const LEAST: Duration = Duration::from_millis(1);
/// How often to call when nothing is going on (ixgbevf.md §14.4).
const IDLE: Duration = Duration::from_millis(100);
/// And while frames pass. A device that goes away says nothing, and the data path reads no register that could tell: this
/// is what keeps an application from waiting on a device that is gone for more than 10 ms.
const BUSY: Duration = Duration::from_millis(4);
/// How long a message of the PF's may keep a call waiting for the buffer; it is looked at again in the next.
const COLLECT: Duration = Duration::from_millis(2);
/// Least time between two resets for the sake of a queue that is off.
const LOST_REST: Duration = Duration::from_secs(2);
/// How often counters are read and queues looked at.
const CLOSELY: Duration = Duration::from_millis(500);

/// How far a transmit queue is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Where the hardware is, and where it is to go.
    pub(crate) head: u32,
    pub(crate) tail: u32,
    /// Descriptors in the ring: a head beyond it says nothing.
    pub(crate) size: u32,
    /// Frames the ring has taken, and how often it had no room for one.
    pub(crate) taken: u64,
    pub(crate) full: u64,
}

impl Progress {
    /// Whether nothing moved since `before` although it should have: the hardware stands still with work before it, or
    /// it moves and never says so, and the ring has stayed full.
    const fn is_stuck(&self, before: &Self) -> bool {
        let stands = self.head < self.size && self.head != self.tail && self.head == before.head;
        stands || self.full > before.full && self.taken == before.taken
    }
}

/// Whether transmit queues move.
#[derive(Debug, Default)]
pub(crate) struct HangWatch {
    /// For each pair: how far it was when last looked at, and since when it has not moved although it should.
    stuck: Vec<(Progress, Option<Duration>)>,
    /// When that was.
    looked: Duration,
    /// When the last reset for it was.
    last: Option<Duration>,
}

/// TIMEOUT: a hang is seen within 2 s, with the time between two looks. Others wait longer (ixgbevf.md §14.4), and a
/// PAUSE storm looks the same, so it must not become a loop of resets.
const HANG: Duration = Duration::from_millis(1500);
const HANG_REST: Duration = Duration::from_secs(10);

impl HangWatch {
    pub(crate) fn forget(&mut self) {
        self.stuck.clear();
    }

    fn look(&mut self, now: Duration, queues: &[Progress]) -> bool {
        self.stuck.resize(queues.len(), (Progress::default(), None));
        let mut hung = false;
        for ((seen, since), queue) in self.stuck.iter_mut().zip(queues) {
            if queue.is_stuck(seen) {
                let start = *since.get_or_insert(self.looked);
                hung |= now.saturating_sub(start) >= HANG;
            } else {
                *since = None;
            }
            *seen = *queue;
        }
        self.looked = now;
        let rested = self
            .last
            .is_none_or(|last| now.saturating_sub(last) >= HANG_REST);
        if hung && rested {
            self.last = Some(now);
            return true;
        }
        false
    }
}

impl Shared {
    /// See [`Port::poll_control`](crate::Port::poll_control).
    pub(crate) fn poll_control(self: &Arc<Self>) -> Result<Duration, Error> {
        let mut slot = self.slot();
        let bus_error = self.outside_events();
        if let Slot::Idle(control) = &mut *slot {
            match block_on(&self.ticker, self.watch(control, bus_error)) {
                Ok(None) => return Ok(self.pause(control)),
                Ok(Some(cause)) => self.begin_recovery(&mut slot, cause),
                Err(error) => {
                    if !self.lost_touch(&mut slot) {
                        return Err(error);
                    }
                }
            }
        }
        match &*slot {
            Slot::Closed => return Err(self.closed()),
            Slot::Idle(_) | Slot::Recovering { .. } => {}
        }
        self.drive_recovery(&mut slot, SLICE)?;
        match &mut *slot {
            // Done: the link is news, so it is looked at right away.
            Slot::Idle(control) => {
                let io = self.device.io(&self.ticker);
                if let Err(error) = block_on(&self.ticker, self.watch_link(control, io))
                    && !self.lost_touch(&mut slot)
                {
                    return Err(error);
                }
                Ok(BUSY)
            }
            // Long waits are not slept through in here, so that the caller can do something else meanwhile.
            _ => Ok(self.ticker.until_due().clamp(LEAST, IDLE)),
        }
    }

    /// How soon to look again. Traffic is over when no frame has passed for as long as an idle port is left alone.
    fn pause(&self, control: &mut Control) -> Duration {
        let (now, frames) = (self.ticker.now(), self.frames_moved());
        if frames != control.frames {
            (control.frames, control.frames_at) = (frames, Some(now));
        }
        match control.frames_at {
            Some(last) if now.saturating_sub(last) < IDLE => BUSY,
            _ => IDLE,
        }
    }

    /// What the backend has to say. True when the bus reported an error.
    fn outside_events(&self) -> bool {
        if let Some(event) = self.device.function.request_event()
            && event.take() > 0
            // It is signalled again and again until the device is released.
            && !self.removal_told.swap(true, Ordering::Relaxed)
        {
            log::warn!(
                "{}: the administrator wants the device back",
                self.device.name
            );
            self.events.push(Event::RemovalRequested);
        }
        self.device
            .function
            .error_event()
            .is_some_and(|event| event.take() > 0)
    }

    /// One look at everything. A cause when the port has to recover; an error when the device is gone.
    async fn watch(&self, control: &mut Control, bus_error: bool) -> Result<Option<Cause>, Error> {
        let io = self.device.io(&self.ticker);
        let gone = |Gone| io.gone();
        if self.device.regs.is_silent() {
            return Err(io.gone());
        }
        self.rearm_mailbox();
        let state = control.mailbox.pf_state(io.regs).map_err(gone)?;
        if state.in_reset || state.was_reset {
            return Ok(Some(Cause::PfReset));
        }
        if let Some(cause) = control.trouble.take() {
            return Ok(Some(cause));
        }
        if bus_error {
            return Ok(Some(Cause::BusError));
        }
        if let Some(cause) = self.watch_messages(control, io).await.map_err(gone)? {
            return Ok(Some(cause));
        }
        self.watch_link(control, io).await?;
        let now = io.ticker.now();
        if now.saturating_sub(control.looked) >= CLOSELY {
            control.looked = now;
            return self.watch_queues(control, io).map_err(gone);
        }
        Ok(None)
    }

    /// The mailbox's vector masks itself like any other.
    fn rearm_mailbox(&self) {
        let plan = &self.device.plan;
        let Some(event) = self.device.vectors.get(usize::from(plan.mailbox)) else {
            return;
        };
        if plan.count > 1 && event.take() > 0 {
            self.device.arm(1 << plan.mailbox);
        }
    }

    async fn watch_messages(
        &self,
        control: &mut Control,
        io: Io<'_>,
    ) -> Result<Option<Cause>, Gone> {
        control.mailbox.collect(io.regs, io.ticker, COLLECT).await?;
        while let Some(notice) = control.mailbox.next_notice() {
            match notice {
                // The link is looked at anyway.
                Notice::Look => {}
                Notice::Reset => return Ok(Some(Cause::Forgotten)),
                Notice::Stray if control.mailbox.nags() => {}
                Notice::Stray => return Ok(Some(Cause::Forgotten)),
                Notice::Unknown(word) => {
                    log::debug!("{}: message {word:#010x} of the PF's ignored", io.device);
                }
            }
        }
        Ok(None)
    }

    /// Brings the published link up to date.
    pub(crate) async fn watch_link(&self, control: &mut Control, io: Io<'_>) -> Result<(), Error> {
        let gone = |Gone| io.gone();
        let mut raw = self.device.family.link(io.regs).map_err(gone)?;
        if raw.up
            && !control.link.is_up()
            && let Some((times, apart)) = self.device.family.link_debounce()
        {
            for _ in 0..times {
                io.ticker.pause(apart).await;
                raw = self.device.family.link(io.regs).map_err(gone)?;
                if !raw.up {
                    break;
                }
            }
        }
        let link = if control.admin_down {
            Link::Down
        } else {
            raw.into()
        };
        control.link = link;
        let state = match self.run() {
            None => PortState::Stopped,
            Some(run) if run.ended().is_some() => PortState::Stopped,
            Some(_) if link.is_up() => PortState::Up,
            Some(_) => PortState::LinkDown,
        };
        self.publish_link(state, link);
        Ok(())
    }

    fn watch_queues(&self, control: &mut Control, io: Io<'_>) -> Result<Option<Cause>, Gone> {
        control.totals.update(io.regs)?;
        self.published().hardware = control.totals.iter().collect();
        let Some(run) = self.run().filter(|run| run.is_live()) else {
            return Ok(None);
        };
        if run.has_lost_a_queue()? || !self.device.is_bus_master() {
            let now = io.ticker.now();
            // A queue that cannot be had at all must not become a loop of resets.
            if control
                .lost_queue
                .is_none_or(|last| now.saturating_sub(last) >= LOST_REST)
            {
                control.lost_queue = Some(now);
                return Ok(Some(Cause::LostQueue));
            }
        }
        if !control.link.is_up() {
            control.hang.forget();
            return Ok(None);
        }
        let progress = (0..run.pairs())
            .map(|queue| {
                let (head, tail) = self.device.family.progress(io.regs, queue)?;
                let (taken, full) = self.tx_counts(queue);
                Ok(Progress {
                    head,
                    tail,
                    size: self.config.tx_ring.into(),
                    taken,
                    full,
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let hung = control.hang.look(io.ticker.now(), &progress);
        Ok(hung.then_some(Cause::TxHang))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOOK: Duration = Duration::from_millis(500);

    fn at_of(head: u32, tail: u32) -> Progress {
        Progress {
            head,
            tail,
            size: 64,
            ..Progress::default()
        }
    }

    #[test]
    fn d32_l6_a_queue_that_does_not_move_is_reset_once_in_a_while() {
        let mut watch = HangWatch::default();
        let resets: Vec<_> = (0..60)
            .filter(|look| watch.look(LOOK * *look, &[at_of(7, 9)]))
            .map(|look| LOOK * look)
            .collect();
        // The first look only learns how far the queue is.
        let at = |millis| Duration::from_millis(millis);
        assert_eq!(resets, [at(1500), at(11_500), at(21_500)]);
    }

    #[test]
    fn d35_a_head_that_is_none_is_not_believed() {
        let mut watch = HangWatch::default();
        for look in 0..30 {
            let queues = [at_of(64, 9), at_of(u32::MAX - 1, 9)];
            assert!(!watch.look(LOOK * look, &queues));
        }
    }

    #[test]
    fn a_queue_that_moves_or_is_empty_is_left_alone() {
        let mut watch = HangWatch::default();
        for look in 0..30 {
            assert!(!watch.look(LOOK * look, &[at_of(look, 40), at_of(9, 9)]));
        }
    }

    #[test]
    fn d32_a_queue_that_stays_full_is_stuck_although_the_hardware_has_moved() {
        let mut watch = HangWatch::default();
        let full = |look: u32| Progress {
            full: look.into(),
            ..at_of(9, 9)
        };
        assert_eq!(
            (0..30).find(|look| watch.look(LOOK * *look, &[full(*look)])),
            Some(3)
        );
        // One that is full now and then, and goes on, is busy.
        let mut watch = HangWatch::default();
        for look in 0..30 {
            let busy = Progress {
                taken: look.into(),
                ..full(look)
            };
            assert!(!watch.look(LOOK * look, &[busy]));
        }
    }
}
