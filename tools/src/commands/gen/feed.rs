//! What is sent next, and when.

use std::time::Duration;

use vfnic::{Batch, Port, QueueError, TxQueue};

use super::Args;
use super::replay::{Capture, Replay};
use crate::roles::{BURST, Source, Tagging};
use crate::traffic::{Generator, GeneratorConfig, Identity, Pacer, Rate};

/// A schedule of frames.
#[derive(Debug)]
pub(super) struct Feed {
    kind: Kind,
    /// When frames are due; none: at once.
    pacer: Option<Pacer>,
    /// The same schedule, as far as frames have left.
    left: Option<Pacer>,
    /// Frames still to be made.
    remaining: u64,
    rate: Rate,
    idle: Batch,
    started: u64,
}

#[derive(Debug)]
enum Kind {
    Generated(Box<Source>),
    Replayed(Box<Replay>),
}

impl Feed {
    pub(super) fn new(args: &Args, port: &Port, capture: Option<Capture>) -> Self {
        let own = port.mac().0;
        let source = args.source.unwrap_or(own);
        let batch = port.batch(4 * BURST);
        let mut remaining = args.run.ending.count.unwrap_or(u64::MAX);
        let kind = match capture {
            Some(capture) => {
                remaining = remaining.min(capture.len().saturating_mul(args.times));
                let source = (!args.keep_source).then_some(source);
                Kind::Replayed(Box::new(Replay::new(capture, batch, args.to, source)))
            }
            None => {
                let generator = Generator::new(&GeneratorConfig {
                    identity: Identity {
                        source: source.0,
                        // The command line has one whenever there is no capture.
                        destination: args.to.unwrap_or_default().0,
                        seed: args.traffic.seed,
                    },
                    sizes: args.traffic.frame,
                    first_flow: 0,
                    flows: args.flows,
                });
                let source = Source::new(generator, batch, port.pool().config().buffer_size);
                let tagging = args.vlan.map_or(Tagging::None, Tagging::Hardware);
                Kind::Generated(Box::new(source.tagged(tagging)))
            }
        };
        Self {
            kind,
            pacer: None,
            left: None,
            remaining,
            rate: args.traffic.rate,
            idle: port.batch(BURST),
            started: 0,
        }
    }

    /// The schedule begins at `now`, nanoseconds of the machine's clock.
    pub(super) fn start(&mut self, now: u64) {
        self.started = now;
        self.pacer = match self.rate {
            Rate::PerSecond(rate) => Some(Pacer::new(rate, now)),
            Rate::Max => None,
        };
        self.left.clone_from(&self.pacer);
        if let Kind::Replayed(replay) = &mut self.kind {
            replay.start(now);
        }
    }

    /// Sends what is due at `now`, up to a burst. Returns how many frames the queue took.
    #[inline]
    pub(super) fn step(&mut self, tx: &mut TxQueue, now: u64) -> Result<usize, QueueError> {
        let before = self.waiting();
        let room = BURST.saturating_sub(before);
        let most = usize::try_from(self.remaining)
            .unwrap_or(usize::MAX)
            .min(room);
        let sent = match (&mut self.kind, &mut self.pacer) {
            (Kind::Generated(source), _) if most == 0 => source.flush(tx)?,
            (Kind::Generated(source), Some(pacer)) if most == room => {
                source.send_due(tx, pacer, now)?
            }
            // The last few of a count: one at a time, so that there are exactly as many.
            (Kind::Generated(source), Some(pacer)) if pacer.due(now, 1) > 0 => {
                let departure = pacer.take();
                source.send(tx, before + 1, departure)?
            }
            (Kind::Generated(source), Some(_)) => source.flush(tx)?,
            (Kind::Generated(source), None) => source.send(tx, before + most, now)?,
            (Kind::Replayed(replay), Some(pacer)) => {
                let due = pacer.due(now, most);
                let made = replay.fill(due);
                for _ in 0..made {
                    pacer.take();
                }
                replay.flush(tx)?
            }
            (Kind::Replayed(replay), None) => {
                replay.fill_due(now, most);
                replay.flush(tx)?
            }
        };
        // Frames that were made wait or have been sent.
        self.remaining -= (self.waiting() + sent).saturating_sub(before) as u64;
        Ok(sent)
    }

    /// Hands over frames that wait.
    pub(super) fn flush(&mut self, tx: &mut TxQueue) -> Result<usize, QueueError> {
        match &mut self.kind {
            Kind::Generated(source) => source.flush(tx),
            Kind::Replayed(replay) => replay.flush(tx),
        }
    }

    /// Takes back what has been sent.
    pub(super) fn reclaim(&mut self, tx: &mut TxQueue) {
        tx.reclaim(&mut self.idle);
    }

    /// When the next frame is due; none when there is no schedule or no frame.
    pub(super) fn next_due(&self) -> Option<u64> {
        match (&self.pacer, &self.kind) {
            (Some(pacer), _) => Some(pacer.next()),
            (None, Kind::Replayed(replay)) => replay.next_due(),
            (None, Kind::Generated(_)) => None,
        }
    }

    /// When the frame was due that left next after those asked for before.
    #[inline]
    pub(super) fn due_of_sent(&mut self) -> Option<u64> {
        match (&mut self.left, &mut self.kind) {
            (Some(pacer), _) => Some(pacer.take()),
            (None, Kind::Replayed(replay)) => replay.due_of_sent(),
            (None, Kind::Generated(_)) => None,
        }
    }

    /// Whether everything has been sent that was to be.
    pub(super) fn is_over(&self) -> bool {
        self.remaining == 0 && self.waiting() == 0
    }

    /// Frames that wait for the queue.
    pub(super) fn waiting(&self) -> usize {
        match &self.kind {
            Kind::Generated(source) => source.waiting(),
            Kind::Replayed(replay) => replay.waiting(),
        }
    }

    /// Frames the queue took.
    pub(super) fn sent(&self) -> u64 {
        match &self.kind {
            Kind::Generated(source) => source.sent(),
            Kind::Replayed(replay) => replay.sent(),
        }
    }

    /// Frames due within `time` of the start, and not sent for want of time or room.
    pub(super) fn behind(&self, time: Duration) -> u64 {
        let until = self.started + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        // Those due in the last millisecond had no time to be late.
        let due = self.pacer.as_ref().map_or(0, |pacer| {
            pacer.due(until.saturating_sub(1_000_000), usize::MAX) as u64
        });
        due.min(self.remaining)
    }
}
