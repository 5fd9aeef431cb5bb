//! Interrupts on their way from the function to the client's eventfds.
//!
//! The card signals events of this process; the session passes them on. So whatever a client does to its eventfds (a
//! full counter, blocking mode) it does to its own session's thread, never to the card.

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::PathBuf;
use std::sync::Arc;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};
use rustix::io::Errno;

use super::wire::IrqRequest;

/// Interrupt types: INTx and MSI, which VFs lack, MSI-X, error and request (`VFIO_PCI_*_IRQ_INDEX`).
pub(crate) const TYPES: u32 = 5;
const MSIX: u32 = 2;
const ERROR: u32 = 3;
const REQUEST: u32 = 4;

/// `VFIO_IRQ_INFO_EVENTFD`. Not `NORESIZE`: with it QEMU tears down every vector to add one.
pub(crate) const INFO_EVENTFD: u32 = 1;

const DATA_NONE: u32 = 1;
const DATA_BOOL: u32 = 1 << 1;
const DATA_EVENTFD: u32 = 1 << 2;
const ACTION_MASK: u32 = 1 << 3;
const ACTION_UNMASK: u32 = 1 << 4;
const ACTION_TRIGGER: u32 = 1 << 5;

/// An eventfd of the client's.
#[derive(Debug)]
pub(crate) struct ClientEvent(OwnedFd);

impl ClientEvent {
    /// Takes a descriptor that is an eventfd.
    ///
    /// # Errors
    ///
    /// `EINVAL` when it is anything else.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, Errno> {
        let link = PathBuf::from(format!("/proc/self/fd/{}", fd.as_raw_fd()));
        let is_event =
            fs::read_link(link).is_ok_and(|target| target.as_os_str() == "anon_inode:[eventfd]");
        if !is_event {
            return Err(Errno::INVAL);
        }
        let flags = fcntl_getfl(&fd)?;
        fcntl_setfl(&fd, flags | OFlags::NONBLOCK)?;
        Ok(Self(fd))
    }

    /// Adds one to the counter if there is room; a full counter already says all there is to say. (A client that turns
    /// non-blocking mode off again and fills the counter in this very moment holds up its own session; see
    /// [`super::server`] for how that ends.)
    pub(crate) fn signal(&self) {
        let mut room = [PollFd::new(&self.0, PollFlags::OUT)];
        let at_once = Timespec {
            tv_sec: 0,
            tv_nsec: 0,
        };
        if matches!(poll(&mut room, Some(&at_once)), Ok(1)) {
            let _ = rustix::io::write(&self.0, &1u64.to_ne_bytes());
        }
    }
}

/// One interrupt: where it goes, and whether it waits to.
#[derive(Clone, Debug, Default)]
struct Line {
    event: Option<Arc<ClientEvent>>,
    pending: bool,
}

/// The interrupts of one session.
#[derive(Debug)]
pub(crate) struct Irqs {
    msix: Vec<Line>,
    error: Vec<Line>,
    request: Vec<Line>,
}

/// What a change of routing asks of the caller.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// MSI-X went on or off.
    pub(crate) routed: Option<bool>,
    /// To be signalled now, outside any lock.
    pub(crate) signal: Vec<Arc<ClientEvent>>,
}

impl Irqs {
    /// Nothing routed.
    pub(crate) fn new(vectors: usize, error: bool, request: bool) -> Self {
        Self {
            msix: vec![Line::default(); vectors],
            error: vec![Line::default(); usize::from(error)],
            request: vec![Line::default(); usize::from(request)],
        }
    }

    /// How many interrupts a type has; `None` past the last type.
    pub(crate) fn count(&self, index: u32) -> Option<u32> {
        let count = match index {
            MSIX => self.msix.len(),
            ERROR => self.error.len(),
            REQUEST => self.request.len(),
            0..TYPES => 0,
            _ => return None,
        };
        u32::try_from(count).ok()
    }

    /// The vectors that fired while nobody could be told: the PBA.
    pub(crate) fn pending(&self) -> u64 {
        (0u32..64)
            .zip(&self.msix)
            .filter(|(_, line)| line.pending)
            .fold(0, |bits, (vector, _)| bits | (1 << vector))
    }

    /// Carries out a request, all of it or none.
    ///
    /// # Errors
    ///
    /// `EINVAL` for anything out of range, contradictory or with other descriptors than announced; `ENOTSUP` for
    /// masking, which no type offers. What was routed before is unchanged then.
    pub(crate) fn set(
        &mut self,
        request: &IrqRequest<'_>,
        fds: &mut Vec<OwnedFd>,
    ) -> Result<Change, Errno> {
        let &IrqRequest {
            argsz,
            flags,
            index,
            start,
            count,
            data,
        } = request;
        let kind = flags & (DATA_NONE | DATA_BOOL | DATA_EVENTFD);
        let action = flags & (ACTION_MASK | ACTION_UNMASK | ACTION_TRIGGER);
        let bools = if kind == DATA_BOOL { count as usize } else { 0 };
        if flags != kind | action
            || !kind.is_power_of_two()
            || !action.is_power_of_two()
            || data.len() != bools
            || argsz
                .checked_sub(20)
                .is_none_or(|room| (room as usize) < bools)
        {
            return Err(Errno::INVAL);
        }
        let have = self.count(index).ok_or(Errno::INVAL)?;
        let end = start
            .checked_add(count)
            .filter(|&end| end <= have)
            .ok_or(Errno::INVAL)?;
        if action != ACTION_TRIGGER {
            return Err(Errno::NOTSUP);
        }
        let expected = if kind == DATA_EVENTFD { fds.len() } else { 0 };
        if fds.len() != expected || (expected != 0 && expected != count as usize) {
            return Err(Errno::INVAL);
        }
        if count == 0 {
            // Only "none of none" has a meaning: the whole type goes off.
            return if kind == DATA_NONE && start == 0 {
                Ok(self.off(index))
            } else {
                Err(Errno::INVAL)
            };
        }
        let range = start as usize..end as usize;
        if kind == DATA_EVENTFD {
            let mut events = Vec::with_capacity(fds.len());
            for fd in fds.drain(..) {
                events.push(Arc::new(ClientEvent::new(fd)?));
            }
            return Ok(self.route(index, range, events));
        }
        let lines = self.lines(index).get(range).ok_or(Errno::INVAL)?;
        let wanted = |at: usize| kind == DATA_NONE || data.get(at).is_some_and(|&byte| byte != 0);
        let signal = lines
            .iter()
            .enumerate()
            .filter(|&(at, _)| wanted(at))
            .filter_map(|(_, line)| line.event.clone())
            .collect();
        Ok(Change {
            routed: None,
            signal,
        })
    }

    fn lines(&mut self, index: u32) -> &mut [Line] {
        match index {
            MSIX => &mut self.msix,
            ERROR => &mut self.error,
            REQUEST => &mut self.request,
            _ => &mut [],
        }
    }

    fn off(&mut self, index: u32) -> Change {
        self.lines(index).fill(Line::default());
        Change {
            routed: (index == MSIX).then_some(false),
            signal: Vec::new(),
        }
    }

    /// Gives a range of interrupts these eventfds, or with none takes theirs away.
    fn route(
        &mut self,
        index: u32,
        range: std::ops::Range<usize>,
        events: Vec<Arc<ClientEvent>>,
    ) -> Change {
        let mut change = Change::default();
        let mut events = events.into_iter();
        for line in self.lines(index).get_mut(range).unwrap_or_default() {
            line.event = events.next();
            // What fired while the vector had nowhere to go goes out now, as with an unmasked vector.
            if line.pending
                && let Some(event) = &line.event
            {
                line.pending = false;
                change.signal.push(event.clone());
            }
        }
        if index == MSIX {
            change.routed = Some(self.msix.iter().any(|line| line.event.is_some()));
        }
        change
    }

    /// A vector fired: whom to tell, or it becomes pending.
    pub(crate) fn fired(&mut self, vector: usize) -> Option<Arc<ClientEvent>> {
        Self::raise(self.msix.get_mut(vector)?)
    }

    /// The bus reported an error.
    pub(crate) fn error(&mut self) -> Option<Arc<ClientEvent>> {
        Self::raise(self.error.first_mut()?)
    }

    /// The function is wanted back.
    pub(crate) fn request(&mut self) -> Option<Arc<ClientEvent>> {
        Self::raise(self.request.first_mut()?)
    }

    fn raise(line: &mut Line) -> Option<Arc<ClientEvent>> {
        line.pending = line.event.is_none();
        line.event.clone()
    }

    /// What a reset of the function does: nothing is pending any more. Routes stay, as in the kernel.
    pub(crate) fn reset(&mut self) {
        self.msix.iter_mut().for_each(|line| line.pending = false);
    }
}

#[cfg(test)]
mod tests {
    use std::fs::File;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    /// An eventfd that blocks, twice.
    fn event() -> (OwnedFd, OwnedFd) {
        let fd = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
        (fd.try_clone().expect("a copy"), fd)
    }

    /// What was signalled since the last look.
    fn taken(fd: &OwnedFd) -> u64 {
        let mut count = [0; 8];
        match rustix::io::read(fd, &mut count) {
            Ok(_) => u64::from_ne_bytes(count),
            Err(Errno::AGAIN) => 0,
            Err(errno) => panic!("{errno}"),
        }
    }

    #[test]
    fn an_eventfd_blocks_no_more_and_a_full_one_is_full() {
        let (fd, mine) = event();
        let before = fcntl_getfl(&mine).expect("flags");
        let event = ClientEvent::new(fd).expect("an eventfd");
        let after = fcntl_getfl(&mine).expect("flags");
        assert_eq!(after, before | OFlags::NONBLOCK);
        event.signal();
        event.signal();
        assert_eq!(taken(&mine), 2);
        let full = u64::MAX - 1;
        rustix::io::write(&mine, &full.to_ne_bytes()).expect("room");
        event.signal();
        assert_eq!(taken(&mine), full);
        let file = File::open("/dev/null").expect("there");
        assert!(matches!(ClientEvent::new(file.into()), Err(Errno::INVAL)));
    }

    /// Routes one interrupt to an eventfd; gives the other end, and what is to be signalled.
    fn route(irqs: &mut Irqs, index: u32, start: u32) -> (OwnedFd, usize) {
        let (fd, mine) = event();
        let request = IrqRequest {
            argsz: 20,
            flags: DATA_EVENTFD | ACTION_TRIGGER,
            index,
            start,
            count: 1,
            data: &[],
        };
        let change = irqs.set(&request, &mut vec![fd]).expect("in range");
        change.signal.iter().for_each(|event| event.signal());
        (mine, change.signal.len())
    }

    #[test]
    fn what_fires_with_nowhere_to_go_waits_for_a_route_or_a_reset() {
        let mut irqs = Irqs::new(3, true, true);
        assert!(irqs.fired(1).is_none() && irqs.fired(2).is_none());
        assert!(irqs.fired(3).is_none(), "there is no such vector");
        assert_eq!(irqs.pending(), 0b110);
        let (mine, signalled) = route(&mut irqs, MSIX, 1);
        assert_eq!((signalled, taken(&mine), irqs.pending()), (1, 1, 0b100));
        irqs.reset();
        assert_eq!(irqs.pending(), 0);
        let (_, signalled) = route(&mut irqs, MSIX, 2);
        assert_eq!(signalled, 0, "the reset has taken it");
        irqs.fired(1).expect("routed").signal();
        assert_eq!((taken(&mine), irqs.pending()), (1, 0));
    }

    #[test]
    fn errors_and_requests_are_lines_of_their_own() {
        let mut irqs = Irqs::new(1, true, true);
        assert!(irqs.error().is_none());
        let (error, signalled) = route(&mut irqs, ERROR, 0);
        assert_eq!((signalled, taken(&error)), (1, 1), "it was pending");
        let (request, signalled) = route(&mut irqs, REQUEST, 0);
        assert_eq!((signalled, taken(&request)), (0, 0));
        irqs.error().expect("routed").signal();
        assert_eq!((taken(&error), taken(&request)), (1, 0));
        irqs.request().expect("routed").signal();
        assert_eq!((taken(&error), taken(&request)), (0, 1));
        assert_eq!(irqs.pending(), 0, "only vectors have pending bits");
        let mut none = Irqs::new(1, false, false);
        assert!(none.error().is_none() && none.request().is_none());
    }
}
