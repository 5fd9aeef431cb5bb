//! Two ports of a simulated card with traffic between them, for something to befall one of them.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use vfnic::{Port, PortConfig, QueueError, QueuePair};
use vfnic_hw::Model;
use vfnic_sim::Card;

use crate::dice::Dice;
use crate::roles::{BURST, Sink, Source};
use crate::traffic::frame::Mac;
use crate::traffic::{Checker, CheckerConfig, FrameSizes, Generator, GeneratorConfig, Identity};

/// TIMEOUT: what has not come about by then never will; far beyond every bound.
pub(super) const NEVER: Duration = Duration::from_secs(10);
/// A port that is idle is looked after every 100 ms, one with traffic more often.
const NOTICED: Duration = Duration::from_millis(110);
/// Between two looks at the queues; the card's thread has something to do as well.
const PAUSE: Duration = Duration::from_micros(20);

/// A port that sends and receives.
#[derive(Debug)]
pub(super) struct End {
    pub(super) port: Port,
    pair: QueuePair,
    source: Source,
    sink: Sink,
}

impl End {
    /// Starts `port`, which looks after itself. What it sends goes to `peer`.
    pub(super) fn start(port: Port, peer: Mac) -> anyhow::Result<Self> {
        const SEED: u64 = 1;
        port.spawn_control_thread()?;
        let pair = port.start()?.pop().context("a port without queues")?;
        let generator = Generator::new(&GeneratorConfig {
            identity: Identity {
                source: port.mac().0.0,
                destination: peer,
                seed: SEED,
            },
            sizes: FrameSizes::Imix,
            first_flow: 0,
            flows: 4,
        });
        let checker = Checker::new(CheckerConfig {
            seed: SEED,
            first_flow: 0,
            flows: 4,
            private: true,
        });
        let buffer = port.pool().config().buffer_size;
        Ok(Self {
            source: Source::new(generator, port.batch(4 * BURST), buffer),
            sink: Sink::new(checker, port.batch(2 * BURST)),
            port,
            pair,
        })
    }

    /// Sends a burst and takes what has come.
    pub(super) fn turn(&mut self) -> Result<(), QueueError> {
        self.source.send(&mut self.pair.tx, BURST, 0)?;
        self.sink.receive(&mut self.pair.rx, || 0)?;
        Ok(())
    }

    /// Frames that came, each once and intact.
    pub(super) fn received(&self) -> u64 {
        self.sink.checker().tally().received
    }

    /// Lets go of it, of the port first or of the queue.
    pub(super) fn end(self, port_first: bool) {
        if port_first {
            drop(self.port);
            drop(self.pair);
        } else {
            drop(self.pair);
            drop(self.port);
        }
    }

    /// Sends and receives until `over`, which is asked between bursts.
    pub(super) fn turn_until(&mut self, mut over: impl FnMut() -> bool) -> Result<(), QueueError> {
        while !over() {
            self.turn()?;
            std::thread::sleep(PAUSE);
        }
        Ok(())
    }
}

/// A card in real time and its two VFs. The ends go before the card.
#[derive(Debug)]
pub(super) struct Bed {
    pub(super) left: End,
    pub(super) right: End,
    pub(super) card: Card,
}

impl Bed {
    /// Frames have gone both ways for so long that the ports have noticed, and a while more that only the dice know.
    pub(super) fn in_traffic(model: Model, dice: &mut Dice) -> anyhow::Result<Self> {
        let card = Card::builder(model)
            .vfs(2)
            .seed(dice.roll())
            .threaded()
            .build()
            .context("cannot simulate a card")?;
        let open = |vf| -> anyhow::Result<Port> {
            let function = card.function(vf)?;
            Port::from_function(function, PortConfig::default()).context("cannot open a port")
        };
        let (left, right) = (open(0)?, open(1)?);
        let (to_left, to_right) = (left.mac().0.0, right.mac().0.0);
        let mut bed = Self {
            left: End::start(left, to_right)?,
            right: End::start(right, to_left)?,
            card,
        };
        bed.until_frames_arrive()?;
        bed.exchange(NOTICED + Duration::from_micros(dice.between(0, 20_000)))?;
        Ok(bed)
    }

    /// Both send and receive for `time`.
    pub(super) fn exchange(&mut self, time: Duration) -> Result<(), QueueError> {
        let begin = Instant::now();
        while begin.elapsed() < time {
            self.turn()?;
        }
        Ok(())
    }

    /// Both send and receive until either has got something from the other.
    pub(super) fn until_frames_arrive(&mut self) -> anyhow::Result<()> {
        let begin = Instant::now();
        let before = (self.left.received(), self.right.received());
        while self.left.received() == before.0 || self.right.received() == before.1 {
            self.turn()?;
            if begin.elapsed() > NEVER {
                bail!(
                    "no traffic for {NEVER:?}: the ports say {} and {}",
                    self.left.port.state(),
                    self.right.port.state()
                );
            }
        }
        Ok(())
    }

    fn turn(&mut self) -> Result<(), QueueError> {
        self.left.turn()?;
        self.right.turn()?;
        std::thread::sleep(PAUSE);
        Ok(())
    }
}
