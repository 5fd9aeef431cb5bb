//! Waiting for frames on many queues, with NAPI's discipline inside.

mod arm;
mod idle;
mod moderation;
mod pollable;
mod spin;
mod stats;
mod waiting;

use std::fmt;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use rustix::event::epoll;
use rustix::io::Errno;
use vfnic_hw::Event;

use moderation::Moderation;
pub use pollable::Pollable;
use spin::Spin;
pub use stats::{PollMode, PollerStats, Turn, Waker, Woken};

use crate::{Error, QueueError, QueuePair};

/// What an fd in the epoll set is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Source {
    Vector = 0,
    Wake = 1,
    Foreign = 2,
}

/// Frames a queue may move before the next has its turn.
const BUDGET: usize = 256;

/// Looks after the queues of one thread, of one port or of several.
///
/// Each [`turn`](Self::turn) calls the work for every queue, by turns and within a budget; when none has anything to
/// do it waits as the mode says. Masking on wake-up, polling, arming and the look that must follow are in here, so
/// that no application can get them wrong.
///
/// ```
/// # use vfnic::{Port, PortConfig, PollMode, Poller};
/// # use vfnic_sim::Card;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let card = Card::builder(vfnic_hw::Model::X550).threaded().build()?;
/// # let port = Port::from_function(card.function(0)?, PortConfig::default())?;
/// let mut poller = Poller::new(PollMode::Adaptive)?;
/// for pair in port.start()? {
///     poller.add(pair)?;
/// }
/// let mut batch = port.batch(64);
/// for _ in 0..3 {
///     poller.turn(Some(std::time::Duration::from_millis(10)), |index, pairs| {
///         let frames = pairs[index].rx.receive(&mut batch)?;
///         // Look at `batch.frames()` here.
///         batch.clear();
///         Ok(frames)
///     })?;
///     port.poll_control()?;
/// }
/// # Ok(())
/// # }
/// ```
pub struct Poller<Q: Pollable = QueuePair> {
    mode: PollMode,
    budget: usize,
    queues: Vec<Q>,
    /// The queue to begin the next turn with.
    first: usize,
    epoll: OwnedFd,
    waker: Waker,
    spin: Spin,
    moderation: Moderation,
    /// Vectors may be unmasked.
    armed: bool,
    /// Frames since the last wake-up.
    frames: usize,
    stats: PollerStats,
}

impl<Q: Pollable> Poller<Q> {
    /// A poller without queues.
    ///
    /// # Errors
    ///
    /// [`Error::Sys`] when the kernel has no epoll or eventfd to give.
    pub fn new(mode: PollMode) -> Result<Self, Error> {
        let sys = |call| {
            move |source: Errno| Error::Sys {
                call,
                source: source.into(),
            }
        };
        let epoll =
            epoll::create(epoll::CreateFlags::CLOEXEC).map_err(sys("epoll_create for a poller"))?;
        let event = Event::new().map_err(|source| Error::Sys {
            call: "eventfd for a poller",
            source,
        })?;
        epoll::add(
            &epoll,
            &event,
            epoll::EventData::new_u64(Source::Wake as u64),
            epoll::EventFlags::IN,
        )
        .map_err(sys("epoll_ctl for a poller"))?;
        Ok(Self {
            mode,
            budget: BUDGET,
            queues: Vec::new(),
            first: 0,
            epoll,
            waker: Waker {
                event,
                flag: Arc::default(),
            },
            spin: Spin::default(),
            moderation: Moderation::default(),
            armed: false,
            frames: 0,
            stats: PollerStats::default(),
        })
    }

    /// How it waits.
    #[must_use]
    pub const fn mode(&self) -> PollMode {
        self.mode
    }

    /// Waits in another way from the next turn on.
    pub const fn set_mode(&mut self, mode: PollMode) {
        self.mode = mode;
    }

    /// Lets a queue move up to `frames` (256 unless told otherwise) before the next has its turn.
    pub const fn set_budget(&mut self, frames: usize) {
        self.budget = if frames == 0 { 1 } else { frames };
    }

    /// Takes over queues; gives their index.
    ///
    /// # Errors
    ///
    /// [`Error::Sys`] when the kernel cannot watch one more fd.
    pub fn add(&mut self, queues: Q) -> Result<usize, Error> {
        let run = queues.run();
        for (number, event) in run.device().vectors.iter().enumerate() {
            if queues.vectors() & (1 << number) == 0 {
                continue;
            }
            // Edge-triggered and never read: each message wakes everybody who waits on a vector that queues of several
            // threads share, and no wake-up costs a read.
            let flags = epoll::EventFlags::IN | epoll::EventFlags::ET;
            let data = epoll::EventData::new_u64(Source::Vector as u64);
            match epoll::add(&self.epoll, event, data, flags) {
                // Two queues of this poller on one vector.
                Ok(()) | Err(Errno::EXIST) => {}
                Err(source) => {
                    return Err(Error::Sys {
                        call: "epoll_ctl for a message vector",
                        source: source.into(),
                    });
                }
            }
        }
        run.add_waker(&self.waker.event);
        let index = self.queues.len();
        self.queues.push(queues);
        Ok(index)
    }

    /// Also comes back from [`turn`](Self::turn) when `fd` is readable, and for as long as it is. An fd that is closed
    /// is forgotten.
    ///
    /// # Errors
    ///
    /// [`Error::Sys`] when the kernel cannot watch it.
    pub fn watch(&mut self, fd: impl AsFd) -> Result<(), Error> {
        epoll::add(
            &self.epoll,
            fd,
            epoll::EventData::new_u64(Source::Foreign as u64),
            epoll::EventFlags::IN,
        )
        .map_err(|source| Error::Sys {
            call: "epoll_ctl for an fd of the application's",
            source: source.into(),
        })
    }

    /// The queues, in the order added.
    #[must_use]
    pub fn queues(&self) -> &[Q] {
        &self.queues
    }

    /// The queues, in the order added.
    #[must_use]
    pub fn queues_mut(&mut self) -> &mut [Q] {
        &mut self.queues
    }

    /// Gives the queues back.
    #[must_use]
    pub fn into_queues(mut self) -> Vec<Q> {
        self.forget_wakers();
        std::mem::take(&mut self.queues)
    }

    /// What wakes it from other threads.
    #[must_use]
    pub fn waker(&self) -> Waker {
        self.waker.clone()
    }

    /// How it has spent its time.
    #[must_use]
    pub const fn stats(&self) -> PollerStats {
        self.stats
    }

    /// Calls `work` with the index of each queue, and all queues, until frames have moved; while there are none it
    /// waits, at most for `wait` (`None`: for ever). `work` says how many frames it moved; it is called again for the
    /// same queue until that is none, or the budget is used up. Even with no time to wait every queue is looked at
    /// once.
    ///
    /// # Errors
    ///
    /// What `work` returns; [`Error::Sys`] when the kernel cannot wait.
    pub fn turn(
        &mut self,
        wait: Option<Duration>,
        mut work: impl FnMut(usize, &mut [Q]) -> Result<usize, QueueError>,
    ) -> Result<Turn, Error> {
        let frames = self.pass(&mut work)?;
        if frames > 0 {
            return Ok(self.came(frames));
        }
        let start = Instant::now();
        let deadline = wait.and_then(|wait| start.checked_add(wait));
        loop {
            if self.was_called() {
                return Ok(Turn {
                    frames: 0,
                    woken: Woken::External,
                });
            }
            let now = Instant::now();
            if deadline.is_some_and(|deadline| now >= deadline) {
                return Ok(Turn {
                    frames: 0,
                    woken: Woken::Deadline,
                });
            }
            if let Some(woken) = self.wait(now, deadline)? {
                return Ok(Turn { frames: 0, woken });
            }
            let frames = self.pass(&mut work)?;
            if frames > 0 {
                return Ok(self.came(frames));
            }
        }
    }

    fn came(&mut self, frames: usize) -> Turn {
        self.frames = self.frames.saturating_add(frames);
        Turn {
            frames,
            woken: Woken::Work,
        }
    }

    /// Every queue once, by turns.
    fn pass(
        &mut self,
        work: &mut impl FnMut(usize, &mut [Q]) -> Result<usize, QueueError>,
    ) -> Result<usize, QueueError> {
        let count = self.queues.len();
        let mut total = 0usize;
        for step in 0..count {
            let Some(index) = self.first.saturating_add(step).checked_rem(count) else {
                break;
            };
            let mut moved = 0usize;
            loop {
                let frames = work(index, &mut self.queues)?;
                moved = moved.saturating_add(frames);
                if frames == 0 || moved >= self.budget {
                    break;
                }
            }
            total = moved.saturating_add(total);
        }
        if count > 1 {
            let next = self.first.saturating_add(1);
            self.first = next.checked_rem(count).unwrap_or(0);
        }
        if self.armed {
            self.disarm();
        }
        Ok(total)
    }

    fn was_called(&self) -> bool {
        // ORDERING: pairs with the Release in `Waker::wake`.
        self.waker.flag.load(Ordering::Relaxed) && self.waker.flag.swap(false, Ordering::Acquire)
    }

    fn forget_wakers(&self) {
        for queues in &self.queues {
            queues.run().remove_waker(&self.waker.event);
        }
    }
}

impl<Q: Pollable> Drop for Poller<Q> {
    fn drop(&mut self) {
        self.forget_wakers();
    }
}

impl<Q: Pollable> AsFd for Poller<Q> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}

impl<Q: Pollable> fmt::Debug for Poller<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Poller")
            .field("mode", &self.mode)
            .field("queues", &self.queues.len())
            .field("stats", &self.stats)
            .finish_non_exhaustive()
    }
}
