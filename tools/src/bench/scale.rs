//! What a forwarded frame costs the whole driver, poller included, as the number of queues and ports, the frames, the
//! rings and the pools grow.
//!
//! The card is a stepped one: it makes frames ready and takes away what was sent outside the timed part, on the same core.
//! Inside it a poller receives, rewrites both addresses and sends, until all that was ready is gone.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context, ensure};
use serde::Serialize;
use vfnic::{PollMode, Poller, PoolConfig, Port, PortConfig, QueueCount};
use vfnic_hw::Model;
use vfnic_ring::measure;
use vfnic_sim::Card;

use super::clock;
use crate::roles::{BURST, Forwarder};
use crate::traffic::frame::Mac;
use crate::traffic::{FrameSizes, Generator, GeneratorConfig, Identity};

/// Frames in a timed region, all queues together; fewer where the rings are too small for their share.
const REGION: usize = 256;
const WARM_UP: usize = 20;
const TIMED: usize = 60;
/// Flows to each port: enough for each of its queues to get some.
const FLOWS: u16 = 64;
/// Somebody on the wire.
const STRANGER: Mac = [2, 0, 0, 0, 0, 0xfe];

/// One configuration to measure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Setup {
    /// Queue pairs of each port.
    pub queues: u16,
    /// Ports, each with a pool of its own.
    pub ports: u16,
    /// Bytes of a frame, with CRC.
    pub frame: usize,
    /// Descriptors in each ring.
    pub ring: u16,
    /// Buffers in each pool.
    pub buffers: u32,
}

/// One line of the result.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What was varied: `queues`, `ports`, `frame`, `ring` or `buffers`.
    pub axis: &'static str,
    /// What was measured.
    #[serde(flatten)]
    pub setup: Setup,
    /// Core cycles per frame: median over the repetitions.
    pub cycles: f64,
    /// The least of them.
    pub cycles_min: f64,
    /// The most of them.
    pub cycles_max: f64,
    /// Nanoseconds per frame at the clock it ran at: median.
    pub ns: f64,
}

/// The wire: gives what it has been asked for, counts what comes back.
#[derive(Debug)]
struct Wire {
    /// One for each port.
    generators: Vec<Generator>,
    /// Frames to give, to each port in turn.
    ready: Arc<AtomicU64>,
    returned: Arc<AtomicU64>,
    turn: usize,
}

impl vfnic_sim::uplink::Port for Wire {
    fn send(&mut self, frame: &[u8]) -> bool {
        let ours = frame.starts_with(&STRANGER);
        // ORDERING: one thread steps the card and reads this.
        self.returned.fetch_add(ours.into(), Ordering::Relaxed);
        true
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        if !self.has_frames() {
            return false;
        }
        self.ready.fetch_sub(1, Ordering::Relaxed);
        let generator = &mut self.generators[self.turn];
        frame.resize(generator.next_len(), 0);
        generator.write(frame, 0);
        self.turn = (self.turn + 1) % self.generators.len();
        true
    }

    fn has_frames(&mut self) -> bool {
        self.ready.load(Ordering::Relaxed) > 0
    }
}

struct Bench {
    poller: Poller,
    forwarders: Vec<Forwarder>,
    card: Card,
    /// Outlives the queues.
    _ports: Vec<Port>,
    ready: Arc<AtomicU64>,
    returned: Arc<AtomicU64>,
    region: usize,
}

impl Bench {
    fn new(setup: &Setup) -> anyhow::Result<Self> {
        let registers = match setup.queues {
            ..=2 => 2,
            3..=4 => 4,
            _ => 8,
        };
        let card = Card::builder(Model::X550)
            .vfs(setup.ports)
            .queues(registers)
            .build()
            .context("cannot simulate a card")?;
        let config = PortConfig::default()
            .queues(QueueCount::Exactly(setup.queues))
            .rings(setup.ring, setup.ring)
            .interrupts(false)
            .pool(PoolConfig {
                buffers: setup.buffers,
                ..PoolConfig::default()
            });
        let mut poller = Poller::new(PollMode::Poll)?;
        let (mut ports, mut forwarders, mut generators) = (Vec::new(), Vec::new(), Vec::new());
        for vf in 0..setup.ports {
            let port = Port::from_function(card.function(vf)?, config.clone())
                .with_context(|| format!("cannot open port {vf}"))?;
            let own = port.mac().0.0;
            for pair in port.start()? {
                poller.add(pair)?;
                forwarders.push(Forwarder::new(port.batch(BURST), STRANGER, own));
            }
            generators.push(Generator::new(&GeneratorConfig {
                identity: Identity {
                    source: STRANGER,
                    destination: own,
                    seed: 1,
                },
                sizes: FrameSizes::Fixed(setup.frame),
                first_flow: 0,
                flows: FLOWS,
            }));
            ports.push(port);
        }
        for port in &ports {
            let mut steps = 0;
            while !port.link().is_up() {
                card.run_for(port.poll_control()?.min(Duration::from_millis(10)));
                steps += 1;
                ensure!(
                    steps < 10_000,
                    "the link of {} did not come up",
                    port.name()
                );
            }
        }
        let (ready, returned) = (Arc::default(), Arc::default());
        card.set_uplink(Box::new(Wire {
            generators,
            ready: Arc::clone(&ready),
            returned: Arc::clone(&returned),
            turn: 0,
        }));
        // Flows may all fall to one queue of a port: its ring has to hold the port's whole share.
        let lanes = usize::from(setup.ports);
        let share = (REGION / lanes).clamp(1, usize::from(setup.ring) / 2);
        Ok(Self {
            poller,
            forwarders,
            card,
            _ports: ports,
            ready,
            returned,
            region: share * lanes,
        })
    }

    /// Everything outside the timed part: what was sent leaves, as much comes in.
    fn prepare(&self) {
        self.ready.store(self.region as u64, Ordering::Relaxed);
        self.card.step();
    }

    /// The timed part. Returns the frames handled, for a check.
    #[inline(never)]
    fn run(&mut self) -> anyhow::Result<usize> {
        let forwarders = &mut self.forwarders;
        let mut handled = 0;
        while handled < self.region {
            let turn = self.poller.turn(Some(Duration::ZERO), |index, pairs| {
                let pair = &mut pairs[index];
                forwarders[index].forward(&mut pair.rx, &mut pair.tx)
            })?;
            if turn.frames == 0 {
                break;
            }
            handled += turn.frames;
        }
        Ok(handled)
    }
}

/// Measures one configuration.
///
/// # Errors
///
/// When the ports cannot be had so, or a frame that was ready is not forwarded to the wire.
pub fn measure(axis: &'static str, setup: Setup, repetitions: usize) -> anyhow::Result<Row> {
    let mut bench = Bench::new(&setup)?;
    let overhead = clock::overhead();
    let mut results = Vec::with_capacity(repetitions);
    let mut total = 0;
    for _ in 0..repetitions {
        let mut regions = Vec::with_capacity(TIMED);
        for region in 0..WARM_UP + TIMED {
            bench.prepare();
            let start = measure::ticks_start();
            let handled = black_box(bench.run()?);
            let ticks = measure::ticks_end() - start;
            ensure!(
                handled == bench.region,
                "{handled} frames of {} that were ready came through, with {setup:?}",
                bench.region
            );
            total += handled as u64;
            if region >= WARM_UP {
                regions.push(ticks.saturating_sub(overhead));
            }
        }
        #[expect(clippy::cast_precision_loss, reason = "a few hundred")]
        let each = clock::interquartile_mean(&mut regions) / bench.region as f64;
        results.push((each / clock::ticks_per_cycle(), each * clock::ns_per_tick()));
    }
    bench.card.step();
    let returned = bench.returned.load(Ordering::Relaxed);
    ensure!(
        returned == total,
        "{returned} frames reached the wire of {total} sent, with {setup:?}"
    );
    results.sort_by(|a, b| a.0.total_cmp(&b.0));
    let (first, middle, last) = (0, results.len() / 2, results.len() - 1);
    Ok(Row {
        axis,
        setup,
        cycles: results[middle].0,
        cycles_min: results[first].0,
        cycles_max: results[last].0,
        ns: results[middle].1,
    })
}
