//! Turns: who may do how much, what is looked for while nothing happens, and when to look again.

use std::sync::Arc;

use super::forward::Forwarded;
use super::hooks::{Hooks, NoHooks, Point};
use super::place::Place;
use super::stats::DropReason;
use super::switch::Origin;
use super::transmit::MIN_FRAME;
use super::tx::Wait;
use super::write_back::Owner;
use super::{DataPath, Tick};
use crate::counting::Count;
use crate::low_bits::LowBits;

/// Frames one queue or port may pass before the next has its turn.
const QUANTUM: u32 = 64;

/// The ports to the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Outside {
    Wire = 0,
    Host = 1,
}

impl DataPath {
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
                let done = self.arrive(port, left.min(QUANTUM), &mut place);
                left = left.saturating_sub(done);
            }
            for index in 0..self.active.len() {
                if left == 0 {
                    break;
                }
                let index = self.turn.wrapping_add(index).checked_rem(self.active.len());
                let Some(&(pool, queue)) = index.and_then(|index| self.active.get(index)) else {
                    break;
                };
                let done = self.tx_turn(pool, queue, left.min(QUANTUM), &mut place);
                left = left.saturating_sub(done);
            }
            self.turn = self.turn.wrapping_add(1);
            if left == 0 || left == before {
                break;
            }
        }
        self.flush(&mut place);
        Tick {
            frames: budget.saturating_sub(left),
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
                function.stats.taken.count(aborted);
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
        let mut frames = 0u32;
        // Contexts and half frames take time, too.
        let mut steps = quantum.saturating_mul(16);
        while frames < quantum && steps > 0 {
            let left = quantum.saturating_sub(frames);
            let burst = self.burst(owner, left, &*space, place);
            frames.count(burst);
            steps = steps.saturating_sub(burst).saturating_sub(1);
            if burst > 0 {
                continue;
            }
            let turn = self.tx_step(owner, &*space, place);
            frames.count(turn.frames);
            if turn.idle {
                break;
            }
        }
        frames
    }

    /// Takes up to `most` frames from outside.
    fn arrive(&mut self, outside: Outside, most: u32, place: &mut Place<'_>) -> u32 {
        let which = outside as usize;
        let mut frames = 0u32;
        while frames < most {
            let mut frame = std::mem::take(self.arrived.entry_mut(which));
            let waiting = *self.waiting.entry(which);
            let again = match waiting {
                Some(wait) if !self.is_over(wait, place) => {
                    *self.arrived.entry_mut(which) = frame;
                    break;
                }
                Some(_) => true,
                None => false,
            };
            *self.waiting.entry_mut(which) = None;
            if !again && !self.next_frame(outside, &mut frame) {
                *self.arrived.entry_mut(which) = frame;
                break;
            }
            let origin = match outside {
                Outside::Wire => Origin::Wire,
                Outside::Host => Origin::Pool(self.filters.pf_pool),
            };
            if outside == Outside::Wire && !self.filters.link.up {
                self.wire.drops.add(DropReason::LinkDown, 1);
            } else if let Forwarded::Blocked(wait) = self.forward(&frame, origin, place) {
                *self.waiting.entry_mut(which) = Some(wait);
            }
            *self.arrived.entry_mut(which) = frame;
            frames.count(1);
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
            Outside::Wire => self.wire.received.count(1),
            Outside::Host => {
                let pool = usize::from(self.filters.pf_pool);
                if let Some(function) = self.functions.get_mut(pool) {
                    function.stats.taken.count(1);
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
                let Some(&(pool, queue)) = self.active.get(index) else {
                    break;
                };
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
}
