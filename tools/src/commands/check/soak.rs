//! Stamped frames both ways.

use vfnic::{Port, QueueError, QueuePair};

use super::{Args, BUFFER, Exchange, Offload, WINDOW};
use crate::roles::{BURST, RunClock, Sink, Source, Tagging};
use crate::traffic::{Accounts, Checker, CheckerConfig, Generator, GeneratorConfig, Identity};

/// Flows each way.
const FLOWS: u16 = 16;

/// One direction.
#[derive(Debug)]
struct Way {
    source: Option<Source>,
    sink: Sink,
    /// Frames that may still be made.
    left: u64,
    sent: u64,
    arrived: u64,
    written_off: u64,
}

/// Both directions: `ways[i]` leads from port `i` to the other.
#[derive(Debug)]
pub(super) struct Soak {
    ways: [Way; 2],
    window: u64,
    clock: RunClock,
}

impl Way {
    const fn under_way(&self) -> u64 {
        self.sent.saturating_sub(self.arrived + self.written_off)
    }
}

impl Soak {
    pub(super) fn new(args: &Args, ports: &[Port; 2]) -> Self {
        let tagging = match (args.vlan, args.offload) {
            (None, _) => Tagging::None,
            (Some(id), Offload::Vlan) => Tagging::Hardware(id),
            (Some(id), _) => Tagging::Frame(id),
        };
        let way = |from: usize| {
            let (sender, receiver) = (&ports[from], &ports[1 - from]);
            // Different seeds, so that a frame that comes back to its sender is recognised.
            let seed = args.traffic.seed.wrapping_mul(2).wrapping_add(from as u64);
            let generator = Generator::new(&GeneratorConfig {
                identity: Identity {
                    source: sender.mac().0.0,
                    destination: receiver.mac().0.0,
                    seed,
                },
                sizes: args.traffic.frame,
                first_flow: 0,
                flows: FLOWS,
            });
            let checker = Checker::new(CheckerConfig {
                seed,
                first_flow: 0,
                flows: FLOWS,
                // Real networks have other senders: their frames are foreign, not damaged.
                private: false,
            });
            Way {
                source: Some(
                    Source::new(generator, sender.batch(2 * BURST), BUFFER).tagged(tagging),
                ),
                sink: Sink::new(checker, receiver.batch(2 * BURST)).expecting(args.vlan),
                left: args.frames,
                sent: 0,
                arrived: 0,
                written_off: 0,
            }
        };
        let buffers = (args.traffic.frame.longest_len() + 4).div_ceil(BUFFER as usize);
        Self {
            ways: [way(0), way(1)],
            window: (WINDOW / buffers) as u64,
            clock: RunClock::start(),
        }
    }
}

impl Exchange for Soak {
    fn work(&mut self, port: usize, pair: &mut QueuePair) -> Result<usize, QueueError> {
        let clock = self.clock;
        let incoming = &mut self.ways[1 - port];
        let before = incoming.sink.checker().tally();
        let came = incoming.sink.receive(&mut pair.rx, || clock.now())?;
        // What others send must not open the window.
        let foreign = incoming.sink.checker().tally().foreign - before.foreign;
        incoming.arrived += (came as u64).saturating_sub(foreign);
        let outgoing = &mut self.ways[port];
        let room = self.window.saturating_sub(outgoing.under_way());
        let mut sent = 0;
        if let Some(source) = &mut outgoing.source {
            // What waits for the queue has been made already.
            let fresh = usize::try_from(outgoing.left.min(room)).unwrap_or(usize::MAX);
            let waiting = source.waiting();
            sent = source.send(&mut pair.tx, fresh, clock.now())?;
            let made = source.waiting() + sent - waiting;
            outgoing.left -= made as u64;
            outgoing.sent += sent as u64;
        }
        Ok(came + sent)
    }

    fn arrived(&self) -> u64 {
        self.ways.iter().map(|way| way.arrived).sum()
    }

    fn under_way(&self) -> u64 {
        self.ways.iter().map(Way::under_way).sum()
    }

    fn all_sent(&self) -> bool {
        self.ways.iter().all(|way| {
            way.left == 0
                && way
                    .source
                    .as_ref()
                    .is_none_or(|source| source.waiting() == 0)
        })
    }

    fn write_off(&mut self) {
        for way in &mut self.ways {
            way.written_off += way.under_way();
        }
    }

    fn give_up(&mut self) {
        for way in &mut self.ways {
            way.left = 0;
        }
    }

    fn close(&mut self, drops: [Vec<(String, u64)>; 2]) -> [Accounts; 2] {
        let [first, second] = &mut self.ways;
        let [first_drops, second_drops] = drops;
        [(first, first_drops), (second, second_drops)].map(|(way, drops)| {
            let generator = way.source.take().map(Source::finish);
            let made = |flow| generator.as_ref().map_or(0, |g| g.made(flow));
            let checker = way.sink.checker_mut();
            let lost = checker.close(made);
            Accounts::new(way.sent, lost, &checker.tally(), drops)
        })
    }
}
