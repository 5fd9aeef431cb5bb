//! A port: one VF as an application sees it.

mod control;
mod device;
mod open;
mod recovery;
mod settings;
mod shared;
mod start;
mod thread;
pub(crate) mod watch;

use std::fmt;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use vfnic_hw::{Model, PciIds};
use vfnic_ring::{Batch, Pool};

pub(crate) use device::Device;
use shared::{Shared, Slot};
use thread::ControlThread;

use crate::{Capabilities, Error, Event, Link, MacAddr, PortStats, QueueError, QueuePair};

/// Where a VF's address comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MacOrigin {
    /// The administrator assigned it on the PF.
    Administered,
    /// Nobody assigned one: made up at random when the port was opened, and kept over resets.
    Random,
    /// The application asked for it, and the PF agreed.
    Requested,
    /// The application asked for another one, and the PF insisted on the one it assigned.
    Refused {
        /// What was asked for.
        requested: MacAddr,
    },
}

/// What a port is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PortState {
    /// Opened, and not started or stopped again.
    Stopped,
    /// Started, and the link is up.
    Up,
    /// Started, and the link is down.
    LinkDown,
    /// The PF is in reset; traffic stands still.
    PfResetting,
    /// The handshake with the PF is done anew; traffic stands still.
    Recovering,
    /// The device is gone.
    Gone,
    /// Closed.
    Closed,
}

impl fmt::Display for PortState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Stopped => "stopped",
            Self::Up => "up",
            Self::LinkDown => "link down",
            Self::PfResetting => "PF resetting",
            Self::Recovering => "recovering",
            Self::Gone => "gone",
            Self::Closed => "closed",
        })
    }
}

/// A VF.
///
/// # Lifecycle
///
/// 1. [`open`](Self::open) or [`from_function`](Self::from_function): the VF is reset and makes itself known to the PF.
///    Nothing is received or sent yet.
/// 2. [`start`](Self::start) gives the queue pairs, for the threads that move frames. The port itself stays with whoever
///    looks after it.
/// 3. While it is open, [`poll_control`](Self::poll_control) is called as often as it asks for (every 4 ms while frames
///    pass, else every 100 ms), or [`spawn_control_thread`](Self::spawn_control_thread) once. That is what notices link changes and resets, and
///    recovers from them; what happened is told as [`Event`]s.
/// 4. [`stop`](Self::stop), and perhaps `start` again. Dropping the port, or [`close`](Self::close), ends it: queues
///    stopped, function reset, bus mastering off, interrupts off, then memory, as far as nobody holds packets of it.
///
/// # Requests
///
/// What asks the PF (`set_…`, `add_…`, `remove_…`) waits for its answer: microseconds on the simulator, and where the PF is
/// slow or silent at most [`mailbox_timeout`](crate::PortConfig::mailbox_timeout) in all. Besides the errors named there each
/// can fail with [`Error::Mailbox`] when the PF does not answer, [`Error::Recovering`] while a reset is being recovered from,
/// [`Error::Gone`], and [`Error::State`] after the port was closed. What was granted is asked for again after every reset.
///
/// All methods take `&self` and may be called from any thread; requests wait for one another.
#[derive(Debug)]
pub struct Port {
    shared: Arc<Shared>,
    thread: Mutex<Option<ControlThread>>,
}

impl Port {
    fn from_shared(shared: Arc<Shared>) -> Self {
        Self {
            shared,
            thread: Mutex::new(None),
        }
    }

    /// What the device is called in messages: its address or its spec.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.device.name
    }

    /// The card's model.
    #[must_use]
    pub fn model(&self) -> Model {
        self.shared.device.model
    }

    /// The ids the function shows.
    #[must_use]
    pub fn ids(&self) -> PciIds {
        self.shared.device.function.ids()
    }

    /// The VF's address, and where it comes from.
    #[must_use]
    pub fn mac(&self) -> (MacAddr, MacOrigin) {
        let published = self.shared.published();
        (published.mac, published.origin)
    }

    /// The link, as [`poll_control`](Self::poll_control) last saw it.
    #[must_use]
    pub fn link(&self) -> Link {
        self.shared.published().link
    }

    /// What the port is about.
    #[must_use]
    pub fn state(&self) -> PortState {
        self.shared.published().state
    }

    /// The MTU, in bytes.
    #[must_use]
    pub fn mtu(&self) -> u16 {
        self.shared.published().mtu
    }

    /// What it can do, and why not.
    #[must_use]
    pub fn capabilities(&self) -> Capabilities {
        self.shared.published().capabilities.clone()
    }

    /// Queue pairs that [`start`](Self::start) gives.
    #[must_use]
    pub fn queue_pairs(&self) -> u16 {
        self.shared.pairs
    }

    /// What the PF no longer granted at the last recovery, each with the reason; empty when all is as configured.
    #[must_use]
    pub fn lost_settings(&self) -> Vec<String> {
        self.shared.published().lost.clone()
    }

    /// The buffer pool of its queues.
    #[must_use]
    pub fn pool(&self) -> &Pool {
        &self.shared.pool
    }

    /// A batch for its queues, with room for `capacity` descriptors (a frame of several buffers takes several), at least 8.
    /// It allocates: one for each thread, made once, is what is wanted.
    #[must_use]
    pub fn batch(&self, capacity: usize) -> Batch {
        self.shared.pool.batch(capacity)
    }

    /// Looks after the port: messages of the PF, link, resets, counters. Never blocks for long: a recovery is helped
    /// along for at most 10 ms a call, and only while the PF answers promptly. Gives the time after which it wants to be
    /// called again: 4 ms while frames pass, 100 ms while nothing goes on. A device that goes away is told by the next call.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`] when the device is gone; then there is nothing to look after any more.
    pub fn poll_control(&self) -> Result<Duration, Error> {
        self.shared.poll_control()
    }

    /// Has a thread of its own look after the port, until it is dropped. It sleeps nearly always. A second call
    /// changes nothing.
    ///
    /// # Errors
    ///
    /// [`Error::Sys`] when no thread, or no eventfd, is to be had.
    pub fn spawn_control_thread(&self) -> Result<(), Error> {
        let mut thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner);
        if thread.is_none() {
            *thread = Some(ControlThread::spawn(Arc::clone(&self.shared))?);
        }
        Ok(())
    }

    /// The next thing that happened, if there is one.
    #[must_use]
    pub fn next_event(&self) -> Option<Event> {
        self.shared.events.pop()
    }

    /// All that happened and was not fetched yet, oldest first.
    pub fn events(&self) -> impl Iterator<Item = Event> + '_ {
        std::iter::from_fn(|| self.next_event())
    }

    /// Readable when there is an event; not to be read, [`next_event`](Self::next_event) does that.
    #[must_use]
    pub fn event_fd(&self) -> BorrowedFd<'_> {
        self.shared.events.fd()
    }

    /// Counters: the hardware's as of the last [`poll_control`](Self::poll_control) that read them (twice a second),
    /// the queues' own as of now.
    #[must_use]
    pub fn stats(&self) -> PortStats {
        let mut stats = PortStats::default();
        {
            let published = self.shared.published();
            for (name, value) in &published.hardware {
                stats.push(*name, *value);
            }
            stats.push("recoveries", published.recoveries);
        }
        self.shared
            .each_queue_counter(|name, value| stats.push(name, value));
        stats
    }

    /// Reads the hardware's counters now instead of twice a second.
    ///
    /// # Errors
    ///
    /// [`Error::Gone`]; [`Error::Recovering`], the counters are then as before the reset.
    pub fn refresh_stats(&self) -> Result<(), Error> {
        let shared = &self.shared;
        shared.with_control("reading counters", async |control| {
            control
                .totals
                .update(&shared.device.regs)
                .map_err(|_| shared.device.gone())?;
            shared.published().hardware = control.totals.iter().collect();
            Ok(())
        })
    }

    /// Stops the queues; no frame is received or sent from here on. `pairs` are the pairs that [`start`](Self::start)
    /// gave; those that are elsewhere (in other threads, in a [`Poller`](crate::Poller)) become useless and must be
    /// dropped before the port can be started again. Stopping a stopped port does nothing.
    ///
    /// # Errors
    ///
    /// [`Error`] when the VF could not be reset; the queues are stopped all the same.
    pub fn stop(&self, pairs: Vec<QueuePair>) -> Result<(), Error> {
        let shared = &self.shared;
        let Some(run) = shared.run().filter(|run| run.ended().is_none()) else {
            return Ok(());
        };
        // A recovery that may be under way waits for the lock, and then finds nothing to resume.
        let mut slot = shared.slot();
        run.suspend();
        if let Slot::Idle(control) = &mut *slot {
            control.fresh = false;
        }
        let result = shared.device.quiesce(&shared.ticker);
        run.end(QueueError::Stopped, result.is_ok());
        if matches!(*slot, Slot::Idle(_)) && !shared.device.regs.is_gone() {
            shared.publish_link(PortState::Stopped, Link::Down);
        }
        drop(slot);
        drop(pairs);
        match result {
            // The end of it, and no obstacle to it.
            Err(Error::Gone { .. }) => Ok(()),
            result => result,
        }
    }

    /// Ends it: as dropping the port does, but tells whether all went well.
    ///
    /// # Errors
    ///
    /// [`Error::State`] when the device could not be stopped for certain; its memory is then kept for good.
    pub fn close(self) -> Result<(), Error> {
        self.end()
    }

    fn end(&self) -> Result<(), Error> {
        drop(
            self.thread
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .take(),
        );
        let shared = &self.shared;
        // A recovery under way is given up; nobody can begin another.
        let was = std::mem::replace(&mut *shared.slot(), Slot::Closed);
        if matches!(was, Slot::Closed) {
            return Ok(());
        }
        drop(was);
        let run = shared.run();
        if let Some(run) = &run {
            run.suspend();
        }
        let quiet = shared.device.close();
        if let Some(run) = &run {
            run.end(QueueError::Stopped, quiet);
        }
        if !quiet {
            // Nobody knows what the device will still write to.
            std::mem::forget(shared.pool.clone());
        }
        {
            let mut published = shared.published();
            if published.state != PortState::Gone {
                published.state = PortState::Closed;
            }
            published.link = Link::Down;
        }
        if quiet {
            return Ok(());
        }
        Err(Error::State {
            device: shared.device.name.clone(),
            what: "the device could not be stopped; its memory is kept until this process ends",
        })
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            log::error!("{error}");
        }
    }
}

#[cfg(test)]
mod tests;
