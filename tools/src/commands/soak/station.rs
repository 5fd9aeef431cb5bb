//! One VF of the soak: its port, what waits to be sent, what must arrive.

use std::collections::BTreeMap;

use anyhow::{Context, ensure};
use vfnic::{
    Batch, Error, L4, Port, PortConfig, PortState, PortStats, QueueCount, QueueError, QueuePair,
    TxOffload,
};
use vfnic_hw::Model;
use vfnic_sim::{Card, SimSpace};

use super::guard::{self, Guard, POISON};
use crate::drops;
use crate::traffic::{Checker, CheckerConfig, Generator, frame};

/// Most queue pairs a station uses.
const QUEUES: usize = 2;
/// Descriptors of each ring.
const RING: u16 = 256;
/// Buffers of a pool: all rings full, all batches full, and their caches.
const BUFFERS: u32 = 2048;
/// Bytes of a buffer; longer frames are in several.
const BUFFER: usize = 2048;
/// Descriptors of frames that wait for one queue.
const WAITING: usize = 96;
/// The VLAN that some flows are tagged with, and their priority.
pub(super) const VLAN: u16 = 100;
const TCI: u16 = 5 << 13 | VLAN;

/// What a flow asks of the card.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Plain,
    Tagged,
    Checksums,
}

/// Flows from one station to another, one of each kind.
pub(super) const KINDS: u16 = 3;

impl Kind {
    const fn of(flow: u16) -> Self {
        match flow % KINDS {
            0 => Self::Plain,
            1 => Self::Tagged,
            _ => Self::Checksums,
        }
    }

    fn offload(self) -> Option<TxOffload> {
        match self {
            Self::Plain => None,
            Self::Tagged => Some(TxOffload::vlan(TCI)),
            Self::Checksums => Some(TxOffload {
                ip_checksum: true,
                l4: Some(L4::Udp),
                l2_len: 14,
                l3_len: 20,
                l4_len: 8,
                ..TxOffload::default()
            }),
        }
    }
}

/// Counts that only ever grow, over all lives of its port.
#[derive(Clone, Debug, Default)]
pub(super) struct Counts {
    /// Frames that a transmit queue took.
    pub(super) sent: u64,
    /// Frames that came out of a receive queue.
    pub(super) came: u64,
    /// The driver's own counters: drops by name, and frames not confirmed at a reset.
    pub(super) driver: BTreeMap<String, u64>,
}

/// A port at work.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) port: Port,
    pairs: Vec<QueuePair>,
}

/// A VF, with a port on it most of the time.
#[derive(Debug)]
pub(super) struct Station {
    pub(super) vf: u16,
    pub(super) live: Option<Live>,
    config: PortConfig,
    space: SimSpace,
    guard: Guard,
    /// To each station, itself left out.
    pub(super) generators: Vec<Option<Generator>>,
    pub(super) checker: Checker,
    waiting: [Batch; QUEUES],
    arrived: Batch,
    scratch: Vec<u8>,
    counts: Counts,
}

impl Station {
    /// A station without a port.
    pub(super) fn new(vf: u16, mtu: u16, checker: CheckerConfig) -> anyhow::Result<Self> {
        let space = SimSpace::new();
        let guard = Guard::new(&space, guard::layout(BUFFERS, u32::try_from(BUFFER)?))?;
        let pool = guard.pool();
        let config = PortConfig::default()
            .rings(RING, RING)
            .mtu(mtu)
            .shared_pool(pool.clone());
        Ok(Self {
            vf,
            live: None,
            config,
            generators: Vec::new(),
            checker: Checker::new(checker),
            waiting: [pool.batch(WAITING), pool.batch(WAITING)],
            arrived: pool.batch(2 * WAITING),
            scratch: vec![0; frame::MAX_LEN],
            counts: Counts::default(),
            space,
            guard,
        })
    }

    /// Opens the VF and starts `queues` queue pairs.
    pub(super) fn open(&mut self, card: &Card, queues: u16) -> Result<(), Error> {
        let function = card.function_in(self.vf, &self.space)?;
        let config = self.config.clone().queues(QueueCount::Exactly(queues));
        let port = Port::from_function(function, config)?;
        port.add_vlan(VLAN)?;
        let pairs = port.start()?;
        self.live = Some(Live { port, pairs });
        Ok(())
    }

    /// Ends the port, and checks that every buffer of its is back.
    pub(super) fn close(&mut self) -> anyhow::Result<()> {
        let Some(Live { port, pairs }) = self.live.take() else {
            return Ok(());
        };
        drop(pairs);
        self.keep(&port.stats());
        port.close().context("closing a port")?;
        let stats = self.guard.pool().stats();
        let batches = self.waiting.iter().chain([&self.arrived]);
        let cached: usize = batches.map(|batch| batch.cached() + batch.len()).sum();
        ensure!(
            stats.lost == 0 && stats.lent as usize >= cached,
            "buffers of VF {} after closing: {stats:?}, {cached} in batches",
            self.vf
        );
        // Frames of several buffers wait as well, so only empty batches tell exactly.
        if self.waiting.iter().all(Batch::is_empty) {
            ensure!(
                stats.lent as usize == cached,
                "buffers of VF {} were not given back: {stats:?}, {cached} in batches",
                self.vf
            );
        }
        Ok(())
    }

    /// Stops the queues and starts them again.
    pub(super) fn restart(&mut self) -> Result<(), Error> {
        let Some(Live { port, pairs }) = &mut self.live else {
            return Ok(());
        };
        port.stop(std::mem::take(pairs))?;
        *pairs = port.start()?;
        Ok(())
    }

    /// Looks after the port. Whether its device is there.
    pub(super) fn look_after(&self) -> anyhow::Result<bool> {
        let Some(live) = &self.live else {
            return Ok(false);
        };
        match live.port.poll_control() {
            Ok(_) => {}
            Err(Error::Gone { .. }) => return Ok(false),
            Err(error) => return Err(error.into()),
        }
        // Nobody reads them; a queue of events has its bound.
        live.port.events().for_each(drop);
        Ok(true)
    }

    /// Makes up to `count` frames to station `to` and hands all that wait to the queues. Returns how many these took.
    pub(super) fn send(&mut self, to: usize, count: usize, now: u64) -> anyhow::Result<u64> {
        for _ in 0..count {
            if !self.make(to, now) {
                break;
            }
        }
        self.flush()
    }

    /// Makes a frame; false when there is no room for one.
    fn make(&mut self, to: usize, now: u64) -> bool {
        let Some(Some(generator)) = self.generators.get_mut(to) else {
            return false;
        };
        let (len, flow) = (generator.next_len(), generator.next_flow());
        let batch = &mut self.waiting[usize::from(flow) % QUEUES];
        let offload = Kind::of(flow).offload();
        if len <= BUFFER {
            let Ok(mut frame) = batch.alloc(len) else {
                return false;
            };
            generator.write(frame.data_mut(), now);
            return offload.is_none_or(|offload| frame.request(offload).is_ok());
        }
        let bytes = &mut self.scratch[..len];
        generator.write(bytes, now);
        if batch.push_bytes(bytes).is_err() {
            generator.take_back(bytes);
            return false;
        }
        let frame = batch.frames_mut().last();
        offload.is_none_or(|offload| frame.is_some_and(|mut frame| frame.request(offload).is_ok()))
    }

    /// Hands what waits to the queues.
    pub(super) fn flush(&mut self) -> anyhow::Result<u64> {
        let Some(live) = &mut self.live else {
            return Ok(0);
        };
        let mut taken = 0;
        let pairs = live.pairs.len();
        for (index, batch) in self.waiting.iter_mut().enumerate() {
            if pairs == 0 {
                break;
            }
            // A flow's frames are always in the same batch, so they leave by one queue, in order.
            match live.pairs[index % pairs].tx.send(batch) {
                Ok(count) => taken += count as u64,
                Err(QueueError::Gone) => break,
                Err(error) => return Err(error.into()),
            }
        }
        self.counts.sent += taken;
        Ok(taken)
    }

    /// Takes and checks what has come. Returns how many frames it was.
    pub(super) fn receive(&mut self, now: u64) -> anyhow::Result<u64> {
        let Some(live) = &mut self.live else {
            return Ok(0);
        };
        let mut came = 0;
        for pair in &mut live.pairs {
            loop {
                let count = match pair.rx.receive(&mut self.arrived) {
                    Ok(0) | Err(QueueError::Gone) => break,
                    Ok(count) => count,
                    Err(error) => return Err(error.into()),
                };
                came += count as u64;
                for frame in self.arrived.frames() {
                    let len = frame.len();
                    let bytes = if frame.is_single() {
                        frame.data()
                    } else {
                        frame.copy_to(&mut self.scratch);
                        &self.scratch[..len]
                    };
                    // Where the tag has been taken out, the flow is in the source address.
                    let flow = bytes
                        .get(28..30)
                        .map_or(0, |low| u16::from_be_bytes([low[0], low[1]]));
                    let tag = (Kind::of(flow) == Kind::Tagged).then_some(TCI);
                    if frame.vlan() == tag {
                        self.checker.frame(bytes, now);
                    } else {
                        self.checker.damaged();
                    }
                }
                for mut frame in self.arrived.frames_mut() {
                    frame.data_mut().fill(POISON);
                }
                self.arrived.clear();
            }
        }
        self.counts.came += came;
        Ok(came)
    }

    /// Frames made and not taken by a queue.
    pub(super) fn waiting(&self) -> usize {
        self.waiting.iter().map(Batch::len).sum()
    }

    /// Whether traffic can run.
    pub(super) fn is_up(&self) -> bool {
        self.state() == Some(PortState::Up)
    }

    pub(super) fn state(&self) -> Option<PortState> {
        self.live.as_ref().map(|live| live.port.state())
    }

    /// How things are, for a failure's text.
    pub(super) fn describe(&self) -> String {
        let rings = self.live.iter().flat_map(|live| &live.pairs).map(|pair| {
            let tx = &pair.tx;
            format!(
                "TX {} {} free, {} pending",
                tx.index(),
                tx.free_slots(),
                tx.pending()
            )
        });
        format!(
            "VF {} {:?}, {} frames wait; {}",
            self.vf,
            self.state(),
            self.waiting(),
            rings.collect::<Vec<_>>().join(", ")
        )
    }

    /// All counters, of the present port and of those before.
    pub(super) fn counts(&self) -> Counts {
        let mut counts = self.counts.clone();
        if let Some(live) = &self.live {
            add(&mut counts.driver, &live.port.stats());
        }
        counts
    }

    fn keep(&mut self, stats: &PortStats) {
        add(&mut self.counts.driver, stats);
    }

    /// Canaries, and buffers that nobody can account for.
    pub(super) fn check(&self) -> anyhow::Result<()> {
        let vf = self.vf;
        self.guard.check().with_context(|| format!("VF {vf}"))?;
        let stats = self.guard.pool().stats();
        ensure!(
            stats.lost == 0 && stats.home + stats.lent == stats.total,
            "buffers of VF {vf}: {stats:?}"
        );
        Ok(())
    }

    /// Poisons every buffer; nothing may be under way.
    pub(super) fn poison(&self) {
        if self.waiting() == 0 {
            self.guard.poison();
        }
    }
}

/// Queue pairs a station can use on a model.
pub(super) const fn most_queues(model: Model) -> u16 {
    match model {
        Model::I82576 | Model::I350 => 1,
        _ => 2,
    }
}

fn add(to: &mut BTreeMap<String, u64>, stats: &PortStats) {
    for (name, count) in drops::of_receiver(stats).chain(drops::of_sender(stats)) {
        *to.entry(name).or_default() += count;
    }
}
