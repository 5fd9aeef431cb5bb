//! What a poller does while nothing is there: it looks for a while, then it sleeps.

use std::mem::MaybeUninit;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::{Timespec, epoll};
use rustix::io::Errno;

use super::arm::{Armed, Vectors, arm_and_look};
use super::waiting::{self, Waiting};
use super::{PollMode, Pollable, Poller, Source, Woken};
use crate::Error;
use crate::config::Itr;

/// TIMEOUT: a lost interrupt costs at most this.
const LONGEST_SLEEP: Duration = Duration::from_millis(500);
/// How long to sleep between looks when there are no message vectors.
const BLIND_SLEEP: Duration = Duration::from_micros(100);
/// Looks between two looks at the clock.
const LOOKS: u32 = 16;

impl<Q: Pollable> Poller<Q> {
    /// One step of waiting. `None`: there may be work now.
    pub(super) fn wait(
        &mut self,
        now: Instant,
        deadline: Option<Instant>,
    ) -> Result<Option<Woken>, Error> {
        match self.mode {
            PollMode::Poll => {
                // A few looks only: the work may have reasons to be called that no queue knows of.
                self.spin(now, deadline, Duration::ZERO);
                return Ok(None);
            }
            PollMode::Adaptive if !self.spin.time().is_zero() => {
                let time = self.spin.time();
                if let Some(waited) = self.spin(now, deadline, time) {
                    self.spin.paid(waited);
                    return Ok(None);
                }
                self.spin.in_vain();
            }
            PollMode::Adaptive | PollMode::Interrupt => {}
        }
        self.adjust();
        if !self.arm() {
            return Ok(None);
        }
        self.sleep(deadline)
    }

    /// Looks for about `time` until something is there; then says after how long.
    fn spin(
        &mut self,
        start: Instant,
        deadline: Option<Instant>,
        time: Duration,
    ) -> Option<Duration> {
        let end = start.checked_add(time);
        let found = loop {
            let mut found = false;
            for _ in 0..LOOKS {
                if self.has_work() || self.waker.flag.load(Ordering::Relaxed) {
                    found = true;
                    break;
                }
                std::hint::spin_loop();
            }
            let now = Instant::now();
            if found
                || end.is_none_or(|end| now >= end)
                || deadline.is_some_and(|deadline| now >= deadline)
            {
                break found.then(|| now.saturating_duration_since(start));
            }
        };
        let spent = start.elapsed().as_nanos();
        let spent = u64::try_from(spent).unwrap_or(u64::MAX);
        self.stats.spin_ns = self.stats.spin_ns.saturating_add(spent);
        found
    }

    #[inline]
    fn has_work(&self) -> bool {
        self.queues.iter().any(waiting::has_work)
    }

    /// Unmasks the vectors of all queues. True when nothing is there and a sleep on [`as_fd`](std::os::fd::AsFd::as_fd) will end
    /// when something is: for applications that have an event loop of their own. (The fd is an epoll fd; after it
    /// became readable call [`turn`](Self::turn) with no time to wait.)
    #[must_use]
    pub fn arm(&mut self) -> bool {
        let waiting = Waiting(&self.queues);
        self.armed = arm_and_look(&waiting, &waiting) == Armed::Sleep;
        self.armed
    }

    /// Masks the vectors again. Not before frames have been looked for: a vector that sent its message has masked itself,
    /// and until the others are masked their messages cost a wake-up at worst, while a frame that waits for a register
    /// is late for certain.
    #[cold]
    pub(super) fn disarm(&mut self) {
        Waiting(&self.queues).mask();
        self.armed = false;
    }

    fn sleep(&mut self, deadline: Option<Instant>) -> Result<Option<Woken>, Error> {
        let start = Instant::now();
        let mut longest = LONGEST_SLEEP;
        if self.queues.iter().any(|queues| queues.vectors() == 0) {
            longest = BLIND_SLEEP;
        }
        let left = deadline.map_or(longest, |deadline| {
            deadline.saturating_duration_since(start).min(longest)
        });
        let timeout = Timespec {
            tv_sec: i64::try_from(left.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: left.subsec_nanos().into(),
        };
        let mut events = [const { MaybeUninit::uninit() }; 8];
        let ready = match epoll::wait(&self.epoll, &mut events, Some(&timeout)) {
            Ok((ready, _)) => ready,
            Err(Errno::INTR) => &mut [],
            Err(source) => {
                return Err(Error::Sys {
                    call: "epoll_wait of a poller",
                    source: source.into(),
                });
            }
        };
        let silent = ready.is_empty();
        let (mut vector, mut foreign) = (false, false);
        for event in ready {
            match event.data.u64() {
                data if data == Source::Vector as u64 => vector = true,
                data if data == Source::Foreign as u64 => foreign = true,
                // The wake event: a waker's flag, or a generation that has moved, says the rest.
                _ => drop(self.waker.event.take()),
            }
        }
        let slept = start.elapsed();
        let nanos = u64::try_from(slept.as_nanos()).unwrap_or(u64::MAX);
        self.stats.wakeups = self.stats.wakeups.saturating_add(1);
        self.stats.sleep_ns = self.stats.sleep_ns.saturating_add(nanos);
        let work = self.has_work();
        match (vector, work) {
            (true, false) => {
                self.stats.spurious = self.stats.spurious.saturating_add(1);
                self.spin.disturbed(slept);
            }
            (false, true) if silent && left == LONGEST_SLEEP => self.missed(),
            _ => {}
        }
        if work {
            self.spin.slept(slept);
        }
        Ok((foreign && !work).then_some(Woken::External))
    }

    /// There was work, and nobody had said so.
    #[cold]
    fn missed(&mut self) {
        self.stats.missed = self.stats.missed.saturating_add(1);
        // An event whose counter is full cannot be signalled, and its readers are not told; so they are emptied.
        for queues in &self.queues {
            for (number, event) in queues.run().device().vectors.iter().enumerate() {
                if queues.vectors() & (1 << number) != 0 {
                    event.take();
                }
            }
        }
    }

    /// Before sleeping: makes the interrupt rate follow what the last wake-up brought.
    fn adjust(&mut self) {
        let frames = std::mem::take(&mut self.frames);
        let Some(class) = self.moderation.woken(frames) else {
            return;
        };
        for queues in &self.queues {
            let run = queues.run();
            let device = run.device();
            if !matches!(run.itr(), Itr::Adaptive) {
                continue;
            }
            for vector in 0..device.plan.count {
                if queues.vectors() & (1 << vector) != 0
                    && let Some((register, value)) =
                        device.family.throttle(vector, class.interval())
                {
                    device.regs.write(register, value);
                }
            }
        }
    }
}
