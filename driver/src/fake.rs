//! A fake VF for unit tests: registers that store what is written, and a PF that follows a script.
//!
//! It is no simulator: it checks nothing and moves no packets. It says the literal words of the golden traces
//! (ixgbevf.md §18, igbvf.md §6.1), so that these tests depend on nobody's reading of them but the reference's.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use vfnic_hw::regs::Reg;
use vfnic_hw::{
    Clock, DmaError, DmaRegion, DmaRequest, DmaSpace, Doorbell, DoorbellSink, Event, Iova,
    IovaRange, Mmio, Model, PciError, PciFunction, PciIds, regs,
};
use vfnic_ring::HeapDma;

use crate::wait::tests::TestClock;

type Exchange = Vec<Vec<u32>>;

/// What the PF does.
#[derive(Clone, Debug, Default)]
pub(crate) struct PfScript {
    /// By message type: what each request of it is answered with, the last entry for ever.
    answers: HashMap<u16, VecDeque<Exchange>>,
    deaf: bool,
    holds_buffer: bool,
    reset_on: Option<u16>,
    removed_on: Option<u16>,
    flood: Option<u32>,
    /// Echoes with ACK and CTS whatever has no answer of its own.
    echo: bool,
}

impl PfScript {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Answers requests of `kind` with `messages`, the next one when the VF acknowledged the one before.
    pub(crate) fn on(mut self, kind: u16, messages: &[&[u32]]) -> Self {
        let exchange = messages.iter().map(|words| words.to_vec()).collect();
        self.answers.insert(kind, VecDeque::from([exchange]));
        self
    }

    /// Answers the request of `kind` after the one before with `messages`.
    pub(crate) fn then_on(mut self, kind: u16, messages: &[&[u32]]) -> Self {
        let exchange = messages.iter().map(|words| words.to_vec()).collect();
        self.answers.entry(kind).or_default().push_back(exchange);
        self
    }

    /// Never takes a request.
    pub(crate) fn deaf(mut self) -> Self {
        self.deaf = true;
        self
    }

    /// Never lets go of the buffer.
    pub(crate) fn holding_the_buffer(mut self) -> Self {
        self.holds_buffer = true;
        self
    }

    /// Goes into reset when a request of `kind` comes.
    pub(crate) fn resetting_on(mut self, kind: u16) -> Self {
        self.reset_on = Some(kind);
        self
    }

    /// Takes the VF away when a request of `kind` comes.
    pub(crate) fn removed_on(mut self, kind: u16) -> Self {
        self.removed_on = Some(kind);
        self
    }

    /// Sends `word` again and again and answers nothing.
    pub(crate) fn flooding(mut self, word: u32) -> Self {
        self.flood = Some(word);
        self
    }

    /// Linux's ixgbe, no address assigned, API 1.3, four queues a pool (ixgbevf.md §18).
    pub(crate) fn linux_ixgbe() -> Self {
        let mut script = Self::new()
            .on(0x01, &[&[0x4000_0001, 0, 0, 0]])
            .on(0x08, &[&[0xA000_0008, 4, 0]])
            .on(0x09, &[&[0xA000_0009, 4, 4, 0, 0]])
            .on(0x10, &[&[0xA000_0010, 1]]);
        script.echo = true;
        script
    }

    /// Linux's igb, no address assigned (igbvf.md §6).
    pub(crate) fn linux_igb() -> Self {
        let mut script = Self::new().on(0x01, &[&[0x4000_0001, 0, 0]]);
        script.echo = true;
        script
    }
}

#[derive(Debug)]
struct State {
    script: PfScript,
    registers: HashMap<u32, u32>,
    writes: Vec<(u32, u32)>,
    vfu: bool,
    pfsts: bool,
    pfack: bool,
    rsti: bool,
    rstd: bool,
    request: Vec<u32>,
    requests: Vec<Vec<u32>>,
    outbox: VecDeque<Vec<u32>>,
    removed: bool,
    /// Offsets whose writes are ignored.
    stuck: Vec<u32>,
}

/// BAR 0 with a scripted PF behind it.
#[derive(Debug)]
pub(crate) struct FakeBar {
    control: Reg,
    memory: Reg,
    state: Mutex<State>,
}

impl FakeBar {
    fn new(control: Reg, memory: Reg, script: PfScript) -> Arc<Self> {
        Arc::new(Self {
            control,
            memory,
            state: Mutex::new(State {
                script,
                registers: HashMap::new(),
                writes: Vec::new(),
                vfu: false,
                pfsts: false,
                pfack: false,
                rsti: false,
                rstd: false,
                request: Vec::new(),
                requests: Vec::new(),
                outbox: VecDeque::new(),
                removed: false,
                stuck: Vec::new(),
            }),
        })
    }

    pub(crate) fn ixgbevf(script: PfScript) -> Arc<Self> {
        Self::new(regs::ixgbevf::VFMAILBOX, regs::ixgbevf::VFMBMEM, script)
    }

    pub(crate) fn igbvf(script: PfScript) -> Arc<Self> {
        Self::new(regs::igbvf::V2PMAILBOX, regs::igbvf::VMBMEM, script)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("no panic while held")
    }

    pub(crate) fn script(&self, script: PfScript) {
        self.state().script = script;
    }

    /// The requests so far, each as the words written for it.
    pub(crate) fn requests(&self) -> Vec<Vec<u32>> {
        self.state().requests.clone()
    }

    /// Everything written so far, mailbox included.
    pub(crate) fn writes(&self) -> Vec<(u32, u32)> {
        self.state().writes.clone()
    }

    pub(crate) fn forget_writes(&self) {
        let mut state = self.state();
        state.writes.clear();
        state.requests.clear();
    }

    pub(crate) fn get(&self, offset: u32) -> u32 {
        self.state().registers.get(&offset).copied().unwrap_or(0)
    }

    pub(crate) fn set(&self, offset: u32, value: u32) {
        self.state().registers.insert(offset, value);
    }

    /// Writes to `offset` have no effect from now on.
    pub(crate) fn stick(&self, offset: u32) {
        self.state().stuck.push(offset);
    }

    /// The PF has been in reset, and is not any more.
    pub(crate) fn pf_was_reset(&self) {
        self.state().rstd = true;
    }

    /// A message of the PF's own.
    pub(crate) fn pf_sends(&self, words: &[u32]) {
        let mut state = self.state();
        state.outbox.push_back(words.to_vec());
        if !state.pfsts {
            self.deliver(&mut state);
        }
    }

    fn deliver(&self, state: &mut State) {
        let next = state
            .outbox
            .pop_front()
            .or_else(|| state.script.flood.map(|word| vec![word]));
        if let Some(words) = next {
            for (index, word) in (0..).zip(words) {
                state.registers.insert(self.memory.at(index), word);
            }
            state.pfsts = true;
        }
    }

    fn request(&self, state: &mut State) {
        let request = std::mem::take(&mut state.request);
        let kind = u16::try_from(request.first().copied().unwrap_or(0) & 0xffff).expect("16 bits");
        state.requests.push(request.clone());
        if state.script.deaf {
            return;
        }
        state.pfack = true;
        if state.script.reset_on == Some(kind) {
            state.rsti = true;
            return;
        }
        if state.script.removed_on == Some(kind) {
            state.removed = true;
            return;
        }
        let echo = state.script.echo;
        let exchange = match state.script.answers.get_mut(&kind) {
            Some(answers) if answers.len() > 1 => answers.pop_front().expect("more than one"),
            Some(answers) => answers[0].clone(),
            None if echo => {
                let mut words = request;
                words[0] |= 0xA000_0000;
                vec![words]
            }
            None => Vec::new(),
        };
        state.outbox.extend(exchange);
        self.deliver(state);
    }
}

impl Mmio for FakeBar {
    fn len(&self) -> u32 {
        0x4000
    }

    fn read32(&self, offset: u32) -> u32 {
        let mut state = self.state();
        if state.removed {
            return u32::MAX;
        }
        if offset == self.control.addr() {
            let value = u32::from(state.vfu) << 2
                | u32::from(state.script.holds_buffer) << 3
                | u32::from(state.pfsts) << 4
                | u32::from(state.pfack) << 5
                | u32::from(state.rsti) << 6
                | u32::from(state.rstd) << 7;
            (state.pfsts, state.pfack, state.rstd) = (false, false, false);
            return value;
        }
        state.registers.get(&offset).copied().unwrap_or(0)
    }

    fn write32(&self, offset: u32, value: u32) {
        let mut state = self.state();
        if state.removed || state.stuck.contains(&offset) {
            return;
        }
        state.writes.push((offset, value));
        if offset == self.control.addr() {
            state.vfu = value & 4 != 0 && !state.script.holds_buffer;
            if value & 1 != 0 {
                self.request(&mut state);
            }
            if value & 2 != 0 {
                self.deliver(&mut state);
            }
            return;
        }
        if self.memory.index_of(offset).is_some() {
            state.request.push(value);
        }
        state.registers.insert(offset, value);
    }

    fn doorbell(&self, offset: u32) -> Result<Doorbell, PciError> {
        assert!(offset < self.len(), "a doorbell outside the BAR");
        Ok(Doorbell::sink(Arc::new(NoDevice)))
    }
}

/// Nobody behind the doorbell.
#[derive(Debug)]
struct NoDevice;

impl DoorbellSink for NoDevice {
    fn ring(&self, _: u32) {}
}

/// What was done to a function, in order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Call {
    BusMaster(bool),
    Vectors(usize),
    NoVectors,
    Reset,
}

/// A function around a [`FakeBar`].
#[derive(Debug)]
pub(crate) struct FakeFunction {
    pub(crate) bar: Arc<FakeBar>,
    ids: PciIds,
    clock: Arc<TestClock>,
    space: Arc<FakeSpace>,
    pub(crate) request: Event,
    pub(crate) error: Event,
    pub(crate) calls: Mutex<Vec<Call>>,
    vectors: u32,
}

impl FakeFunction {
    pub(crate) fn of(model: Model) -> Arc<Self> {
        let bar = match model.family() {
            vfnic_hw::Family::Igbvf => FakeBar::igbvf(PfScript::linux_igb()),
            vfnic_hw::Family::Ixgbevf => FakeBar::ixgbevf(PfScript::linux_ixgbe()),
        };
        Self::with(bar, 0x8086, model.vf_device_id())
    }

    pub(crate) fn with(bar: Arc<FakeBar>, vendor: u16, device: u16) -> Arc<Self> {
        Arc::new(Self {
            bar,
            ids: PciIds {
                vendor,
                device,
                class: 0x02_0000,
                ..PciIds::default()
            },
            clock: Arc::default(),
            space: Arc::default(),
            request: Event::new().expect("an eventfd"),
            error: Event::new().expect("an eventfd"),
            calls: Mutex::default(),
            vectors: 3,
        })
    }

    /// The same with another number of message vectors.
    pub(crate) fn with_vectors(mut self, vectors: u32) -> Self {
        self.vectors = vectors;
        self
    }

    fn call(&self, call: Call) {
        self.calls.lock().expect("no panic while held").push(call);
    }

    pub(crate) fn calls(&self) -> Vec<Call> {
        self.calls.lock().expect("no panic while held").clone()
    }
}

impl PciFunction for FakeFunction {
    fn name(&self) -> &str {
        "0000:00:00.0"
    }
    fn ids(&self) -> PciIds {
        self.ids
    }
    fn read_config(&self, offset: u16, data: &mut [u8]) -> Result<(), PciError> {
        if self.bar.state().removed {
            data.fill(0xff);
            return Ok(());
        }
        data.fill(0);
        if offset == 4 {
            let last = self.calls().into_iter().rev().find_map(|call| match call {
                Call::BusMaster(on) => Some(on),
                _ => None,
            });
            data[0] = if last == Some(true) { 4 } else { 0 };
        }
        Ok(())
    }
    fn write_config(&self, offset: u16, data: &[u8]) -> Result<(), PciError> {
        if offset == 4 {
            self.call(Call::BusMaster(data[0] & 4 != 0));
        }
        Ok(())
    }
    fn bar(&self, index: u8) -> Result<Arc<dyn Mmio>, PciError> {
        assert_eq!(index, 0, "a VF driver needs BAR 0 only");
        Ok(Arc::clone(&self.bar) as _)
    }
    fn dma_space(&self) -> Arc<dyn DmaSpace> {
        Arc::clone(&self.space) as _
    }
    fn clock(&self) -> Arc<dyn Clock> {
        Arc::clone(&self.clock) as _
    }
    fn vector_count(&self) -> u32 {
        self.vectors
    }
    fn enable_vectors(&self, events: &[Event]) -> Result<(), PciError> {
        self.call(Call::Vectors(events.len()));
        Ok(())
    }
    fn disable_vectors(&self) -> Result<(), PciError> {
        self.call(Call::NoVectors);
        Ok(())
    }
    fn error_event(&self) -> Option<Event> {
        Some(self.error.clone())
    }
    fn request_event(&self) -> Option<Event> {
        Some(self.request.clone())
    }
    fn reset(&self) -> Result<(), PciError> {
        self.call(Call::Reset);
        Ok(())
    }
}

#[derive(Debug)]
struct FakeSpace {
    next: AtomicU64,
}

impl Default for FakeSpace {
    fn default() -> Self {
        Self {
            next: AtomicU64::new(0x10_0000),
        }
    }
}

impl DmaSpace for FakeSpace {
    fn map(&self, request: DmaRequest) -> Result<DmaRegion, DmaError> {
        let len = request.len.next_multiple_of(4096);
        let iova = self.next.fetch_add(len as u64 + 4096, Ordering::Relaxed);
        HeapDma::new(len, Iova(iova))
            .map(|memory| DmaRegion::new(Arc::new(memory)))
            .map_err(|source| DmaError::Allocate {
                need: len as u64,
                source,
            })
    }
    fn ranges(&self) -> Vec<IovaRange> {
        vec![IovaRange {
            start: 0,
            end: 0xffff_ffff,
        }]
    }
    fn mapped_bytes(&self) -> u64 {
        0
    }
    fn page_size(&self) -> usize {
        4096
    }
}
