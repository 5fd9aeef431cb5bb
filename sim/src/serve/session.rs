//! One client's session: what each request does, and in which order requests may come.
//!
//! No I/O here: messages come in whole, replies go out through a buffer, eventfds to signal are handed back. So the same
//! code is run by the server, by tests and by fuzzers.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rustix::io::Errno;
use vfnic_hw::{Event, PciError};

use super::backend::{VfBackend, VfSource};
use super::dma::{ClientMemory, MapLimits};
use super::irq::{ClientEvent, INFO_EVENTFD, Irqs, TYPES};
use super::regions::{self, READ_WRITE, Table};
use super::socket::Fds;
use super::version;
use super::wire::{
    Header, IrqRequest, MapRequest, Reply, Request, Span, UnmapRequest, Writes, command,
};
use crate::counting::Count;

/// `VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI`.
const DEVICE_FLAGS: u32 = 0b11;

/// What happened on one VF's socket since the server started.
#[derive(Debug, Default)]
pub struct Counters {
    /// Clients that came as far as a version both sides speak.
    pub sessions: AtomicU64,
    /// Clients turned away because another one has the function.
    pub refused: AtomicU64,
    /// Requests carried out.
    pub requests: AtomicU64,
    /// Requests answered with an error, or dropped because no answer was wanted.
    pub errors: AtomicU64,
    /// Sessions ended because the client broke the protocol or missed a deadline.
    pub broken: AtomicU64,
}

impl Counters {
    pub(crate) fn count(counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::Relaxed);
    }
}

/// What to do after a message.
#[derive(Debug, Default)]
pub(crate) struct Verdict {
    /// The reply buffer holds something to send.
    pub(crate) reply: bool,
    /// The session is over once the reply is sent.
    pub(crate) close: bool,
    /// Eventfds to signal.
    pub(crate) signal: Vec<Arc<ClientEvent>>,
}

/// A request that is not carried out.
enum Refusal {
    /// Answered; the session goes on.
    Answer(Errno),
    /// Answered; then the session ends, because client and server no longer mean the same.
    Close(Errno),
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self::Answer(errno)
    }
}

/// The events on which the function talks to the session.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sources {
    pub(crate) vectors: Vec<Event>,
    pub(crate) error: Option<Event>,
    pub(crate) request: Option<Event>,
}

/// A session.
#[derive(Debug)]
pub(crate) struct Session {
    source: Arc<dyn VfSource>,
    limits: MapLimits,
    counters: Arc<Counters>,
    state: State,
}

#[derive(Debug)]
enum State {
    /// No version agreed on yet.
    Fresh,
    Running(Box<Running>),
    Ended,
}

#[derive(Debug)]
struct Running {
    // First, so that it is dropped first: the function is reset and all DMA has ended before the memory goes.
    backend: Box<dyn VfBackend>,
    memory: ClientMemory,
    irqs: Irqs,
    table: Table,
    sources: Sources,
    routed: bool,
}

impl Session {
    pub(crate) const fn new(
        source: Arc<dyn VfSource>,
        limits: MapLimits,
        counters: Arc<Counters>,
    ) -> Self {
        Self {
            source,
            limits,
            counters,
            state: State::Fresh,
        }
    }

    /// What to listen to besides the socket; empty until a version is agreed on.
    pub(crate) fn sources(&self) -> Sources {
        match &self.state {
            State::Running(running) => running.sources.clone(),
            _ => Sources::default(),
        }
    }

    /// A version has been agreed on and the function is open.
    pub(crate) const fn is_running(&self) -> bool {
        matches!(self.state, State::Running(_))
    }

    /// Ends the session: DMA first, then everything the client lent. Harmless when repeated.
    pub(crate) fn end(&mut self) {
        self.state = State::Ended;
    }

    /// Carries out one message. Descriptors that are not wanted stay in `fds`.
    pub(crate) fn message(
        &mut self,
        header: &Header,
        body: &[u8],
        fds: &mut Fds,
        reply: &mut Reply,
    ) -> Verdict {
        if header.is_reply() {
            // Nothing was asked of the client, so this answers nothing; answering it in turn would never end.
            Counters::count(&self.counters.errors);
            return Verdict::default();
        }
        reply.start(header);
        let mut verdict = Verdict::default();
        match self.request(header, body, fds, reply, &mut verdict) {
            Ok(()) => {
                Counters::count(&self.counters.requests);
                verdict.reply = !header.no_reply();
            }
            Err(refusal) => {
                let (errno, close) = match refusal {
                    Refusal::Answer(errno) => (errno, false),
                    Refusal::Close(errno) => (errno, true),
                };
                Counters::count(&self.counters.errors);
                log::debug!("command {} refused: {errno}", header.command);
                reply.fail(header, errno);
                verdict.reply = !header.no_reply();
                verdict.close = close;
            }
        }
        verdict
    }

    fn request(
        &mut self,
        header: &Header,
        body: &[u8],
        fds: &mut Fds,
        reply: &mut Reply,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        if header.has_error() {
            return Err(Errno::INVAL.into());
        }
        let request = Request::parse(header.command, body).map_err(Refusal::Close)?;
        if fds.truncated {
            return Err(Errno::MFILE.into());
        }
        let most = match request {
            Request::DmaMap(_) => 1,
            Request::SetIrqs(_) => usize::MAX,
            _ => 0,
        };
        if fds.list.len() > most {
            return Err(Errno::INVAL.into());
        }
        if header.no_reply() && wants_reply(header.command) {
            return Err(Refusal::Close(Errno::INVAL));
        }
        match &mut self.state {
            State::Running(running) => running.request(request, fds, reply, verdict),
            State::Fresh => {
                let Request::Version { major, data, .. } = request else {
                    return Err(Refusal::Close(Errno::INVAL));
                };
                self.version(major, data, reply).map_err(Refusal::Close)
            }
            State::Ended => Err(Refusal::Close(Errno::NODEV)),
        }
    }

    fn version(&mut self, major: u16, data: &[u8], reply: &mut Reply) -> Result<(), Errno> {
        let offered = version::offer(major, data)?;
        let running = Running::open(&*self.source, self.limits)?;
        reply.put(&version::MAJOR.to_le_bytes());
        reply.put(&version::MINOR.to_le_bytes());
        reply.put(&version::answer(&offered));
        self.state = State::Running(Box::new(running));
        Counters::count(&self.counters.sessions);
        Ok(())
    }

    /// The function signalled vector `vector`: whom to tell.
    pub(crate) fn fired(&mut self, vector: usize) -> Option<Arc<ClientEvent>> {
        self.irqs()?.fired(vector)
    }

    /// The function reported a bus error: whom to tell.
    pub(crate) fn error(&mut self) -> Option<Arc<ClientEvent>> {
        self.irqs()?.error()
    }

    /// The function is wanted back: whom to tell.
    pub(crate) fn wanted_back(&mut self) -> Option<Arc<ClientEvent>> {
        self.irqs()?.request()
    }

    const fn irqs(&mut self) -> Option<&mut Irqs> {
        match &mut self.state {
            State::Running(running) => Some(&mut running.irqs),
            _ => None,
        }
    }
}

/// Commands whose reply is the point of them: asking without wanting the answer is a broken client.
const fn wants_reply(number: u16) -> bool {
    matches!(
        number,
        command::VERSION
            | command::DEVICE_GET_INFO
            | command::GET_REGION_INFO
            | command::GET_REGION_IO_FDS
            | command::GET_IRQ_INFO
            | command::REGION_READ
    )
}

impl Running {
    fn open(source: &dyn VfSource, limits: MapLimits) -> Result<Self, Errno> {
        let backend = source.open().map_err(|error| {
            log::warn!("cannot be served: {error}");
            errno(&error)
        })?;
        let vectors = backend.vectors().min(64);
        let events: Result<Vec<Event>, _> = (0..vectors).map(|_| Event::new()).collect();
        let sources = Sources {
            vectors: events.map_err(|_| Errno::MFILE)?,
            error: backend.error_event(),
            request: backend.request_event(),
        };
        Ok(Self {
            memory: ClientMemory::new(limits),
            irqs: Irqs::new(
                vectors as usize,
                sources.error.is_some(),
                sources.request.is_some(),
            ),
            table: Table::new(vectors),
            sources,
            routed: false,
            backend,
        })
    }

    fn request(
        &mut self,
        request: Request<'_>,
        fds: &mut Fds,
        reply: &mut Reply,
        verdict: &mut Verdict,
    ) -> Result<(), Refusal> {
        match request {
            Request::Version { .. } => return Err(Errno::INVAL.into()),
            Request::DmaMap(request) => self.map(&request, fds.list.pop())?,
            Request::DmaUnmap(request) => self.unmap(&request, reply)?,
            Request::DeviceInfo { argsz } => {
                room(argsz, 16)?;
                reply.put32(&[16, DEVICE_FLAGS, regions::COUNT, TYPES]);
            }
            Request::RegionInfo { argsz, index } => {
                room(argsz, 32)?;
                let len = regions::len(index).ok_or(Errno::INVAL)?;
                let flags = if len == 0 { 0 } else { READ_WRITE };
                reply.put32(&[32, flags, index, 0]);
                reply.put(&len.to_le_bytes());
                reply.put(&[0; 8]);
            }
            Request::RegionIoFds { index } => {
                regions::len(index).ok_or(Errno::INVAL)?;
                return Err(Errno::NOTSUP.into());
            }
            Request::IrqInfo { argsz, index } => {
                room(argsz, 16)?;
                let count = self.irqs.count(index).ok_or(Errno::INVAL)?;
                let flags = if count == 0 { 0 } else { INFO_EVENTFD };
                reply.put32(&[16, flags, index, count]);
            }
            Request::SetIrqs(request) => self.set_irqs(&request, &mut fds.list, verdict)?,
            Request::RegionRead(span) => {
                regions::check(span)?;
                reply.put_span(span);
                let data = reply.space(span.count as usize);
                regions::read(
                    &mut *self.backend,
                    &self.table,
                    self.irqs.pending(),
                    span,
                    data,
                );
            }
            Request::RegionWrite { span, data } => {
                self.write(span, data)?;
                reply.put_span(span);
            }
            Request::RegionWriteMulti(writes) => self.write_all(writes, reply)?,
            Request::Reset => self.reset()?,
            Request::Unknown => return Err(Errno::NOTSUP.into()),
        }
        Ok(())
    }

    fn map(&mut self, request: &MapRequest, fd: Option<OwnedFd>) -> Result<(), Errno> {
        match self.memory.map(request, fd) {
            Ok(Some(mapping)) => self.backend.map(mapping),
            Ok(None) => {}
            Err(errno) => {
                if errno == Errno::PERM {
                    log::warn!(
                        "client memory at {:#x} refused: its file can be shortened under the card, or is made of huge \
                         pages; use a memfd that may be sealed (QEMU: memory-backend-memfd)",
                        request.address
                    );
                }
                return Err(errno);
            }
        }
        Ok(())
    }

    fn unmap(&mut self, request: &UnmapRequest, reply: &mut Reply) -> Result<(), Errno> {
        let range = self.memory.unmap(request)?;
        self.backend.unmap(range.first, range.last);
        self.memory.forget(range);
        reply.put32(&[24, request.flags]);
        reply.put(&request.address.to_le_bytes());
        reply.put(&request.size.to_le_bytes());
        Ok(())
    }

    fn set_irqs(
        &mut self,
        request: &IrqRequest<'_>,
        fds: &mut Vec<OwnedFd>,
        verdict: &mut Verdict,
    ) -> Result<(), Errno> {
        let change = self.irqs.set(request, fds)?;
        verdict.signal = change.signal;
        match change.routed {
            Some(on) if on != self.routed => self.route(on),
            _ => Ok(()),
        }
    }

    /// Turns the function's MSI-X on or off. On means all vectors: those the client has no eventfd for become pending
    /// here.
    fn route(&mut self, on: bool) -> Result<(), Errno> {
        let events = if on { &self.sources.vectors[..] } else { &[] };
        self.backend
            .route_vectors(events)
            .map_err(|error| errno(&error))?;
        self.routed = on;
        Ok(())
    }

    fn write(&mut self, span: Span, data: &[u8]) -> Result<(), Errno> {
        regions::check(span)?;
        regions::write(&mut *self.backend, &mut self.table, span, data);
        Ok(())
    }

    fn write_all(&mut self, writes: Writes<'_>, reply: &mut Reply) -> Result<(), Errno> {
        let mut done = 0u64;
        for write in writes.iter() {
            let (span, data) = write.ok_or(Errno::INVAL)?;
            self.write(span, data)?;
            done.count(1);
        }
        reply.put(&done.to_le_bytes());
        Ok(())
    }

    fn reset(&mut self) -> Result<(), Errno> {
        self.backend.reset().map_err(|error| errno(&error))?;
        self.irqs.reset();
        self.table = Table::new(self.backend.vectors().min(64));
        // The kernel restores MSI-X after a reset that VFIO asked for; so does this.
        if self.routed {
            self.route(true)
        } else {
            Ok(())
        }
    }
}

/// The client must have room for a reply payload of `need` bytes.
const fn room(argsz: u32, need: u32) -> Result<(), Errno> {
    if argsz < need {
        Err(Errno::INVAL)
    } else {
        Ok(())
    }
}

/// What a client is told of an error of the card's.
const fn errno(error: &PciError) -> Errno {
    match error {
        PciError::Busy { .. } => Errno::BUSY,
        PciError::NotFound { .. } | PciError::Gone { .. } => Errno::NODEV,
        PciError::Vectors { .. } => Errno::INVAL,
        _ => Errno::IO,
    }
}

#[cfg(test)]
mod tests {
    use rustix::event::{EventfdFlags, eventfd};
    use vfnic_hw::Model;

    use super::super::wire::HEADER;
    use super::*;
    use crate::Card;
    use crate::serve::CardVf;

    /// Hands over one message. Whether it was answered with success.
    fn done(session: &mut Session, command: u16, body: &[u8], fds: Vec<OwnedFd>) -> bool {
        let mut head = [0; HEADER];
        head[2..4].copy_from_slice(&command.to_le_bytes());
        let size = u32::try_from(HEADER + body.len()).expect("short");
        head[4..8].copy_from_slice(&size.to_le_bytes());
        let header = Header::parse(&head).expect("a good header");
        let mut fds = Fds {
            list: fds,
            truncated: false,
        };
        let mut reply = Reply::default();
        let verdict = session.message(&header, body, &mut fds, &mut reply);
        verdict.reply && reply.finish()[8] & 0x20 == 0
    }

    #[test]
    fn a_session_runs_from_the_version_to_its_end_and_has_somebody_to_tell_in_between() {
        let card = Card::builder(Model::I82599).vfs(1).build();
        let source = CardVf::new(Arc::new(card.expect("a card")), 0);
        let limits = MapLimits {
            windows: 1,
            files: 1,
            bytes: 4096,
        };
        let mut session = Session::new(Arc::new(source), limits, Arc::default());
        assert!(!session.is_running() && session.error().is_none());
        let version = [version::MAJOR, version::MINOR].map(u16::to_le_bytes);
        assert!(done(
            &mut session,
            command::VERSION,
            version.as_flattened(),
            vec![]
        ));
        assert!(session.is_running() && session.sources().error.is_some());
        assert!(session.error().is_none(), "nobody wants to know");
        // Eventfds, triggered; the error, and the request.
        let events = [3u32, 4].map(|kind| {
            let event = eventfd(0, EventfdFlags::CLOEXEC).expect("an eventfd");
            let copy = event.try_clone().expect("a copy");
            let body = [20, 1 << 2 | 1 << 5, kind, 0, 1].map(u32::to_le_bytes);
            let body = body.as_flattened();
            assert!(done(&mut session, command::SET_IRQS, body, vec![copy]));
            event
        });
        session.error().expect("routed").signal();
        session.wanted_back().expect("routed").signal();
        session.wanted_back().expect("routed").signal();
        let counts = events.map(|event| {
            let mut count = [0; 8];
            rustix::io::read(event, &mut count).expect("signalled");
            u64::from_ne_bytes(count)
        });
        // The error above has waited for the route; to signal that is left to whoever asked for it.
        assert_eq!(counts, [1, 2]);
        session.end();
        assert!(!session.is_running() && session.error().is_none());
    }
}
