//! The driver's thread: all three roles in one loop.

use std::sync::mpsc::Sender;
use std::time::Duration;

use hdrhistogram::Histogram;
use vfnic::{Poller, QueueError, QueuePair};

use super::bed::Bed;
use super::{Args, INTERVAL};
use crate::cpu;
use crate::roles::{BURST, Forwarder, RunClock, Sink, Source};
use crate::traffic::{
    Checker, CheckerConfig, Generator, GeneratorConfig, Identity, Pacer, Rate, Tally,
    latency_histogram,
};

/// Flows of each queue pair: enough to reach every queue of the next VF.
const FLOWS: u16 = 16;
/// When nothing arrives for this long, what is under way is taken for lost. TIMEOUT: the card delivers within
/// microseconds, if its thread gets to run at all; on a machine with other things to do that can take a while.
const STALL: u64 = 2_000_000_000;
/// When nothing arrives for this long, gaps in the sequence stop counting as under way.
const PAUSE: u64 = 1_000_000;
/// How long a sender that is late may go on after the end to send what was due before it.
const GRACE: u64 = 1_000_000_000;

/// Pause before another try at a full transmit queue.
const TX_FULL: u64 = 20_000;

/// How a run goes, at one moment.
#[derive(Debug)]
pub(super) struct Update {
    /// Since the start.
    pub(super) at: Duration,
    /// What arrived so far.
    pub(super) tally: Tally,
    /// Frames jumped over so far, at the moment lost or late.
    pub(super) missing: u64,
    /// Latencies since the last update.
    pub(super) latencies: Histogram<u64>,
    /// CPU time of the thread.
    pub(super) cpu: Duration,
}

/// How it went.
#[derive(Debug)]
pub(super) struct Done {
    pub(super) sent: u64,
    pub(super) lost: u64,
    /// From the first frame to the last.
    pub(super) sending: Duration,
    pub(super) wakeups: u64,
    /// Frames of the schedule that there was no time for.
    pub(super) behind: u64,
    /// The last update, which nobody was told.
    pub(super) last: Update,
    /// The queues: frames count as not confirmed once these are gone, so they go last.
    pub(super) pairs: Vec<QueuePair>,
}

/// What a queue pair is for.
#[derive(Debug)]
enum Role {
    Source(Box<Source>),
    Forwarder(Forwarder),
    Sink,
}

/// The roles of all queue pairs, and what they share.
#[derive(Debug)]
struct Roles {
    /// By the poller's index.
    roles: Vec<Role>,
    /// All sinks' checker.
    sink: Sink,
    /// The schedule of all sources together, if there is one.
    pacer: Option<Pacer>,
    clock: RunClock,
    /// Most frames under way when there is no schedule.
    window: u64,
    /// Whether new frames are made.
    sending: bool,
    sent: u64,
    /// Frames that arrived, whatever they were.
    arrived: u64,
    /// Frames given up for lost while under way.
    written_off: u64,
    /// When to stop, in nanoseconds.
    duration: u64,
}

impl Roles {
    /// One step of the role behind the queue pair `index`. Returns how many frames moved.
    fn work(&mut self, index: usize, pairs: &mut [QueuePair]) -> Result<usize, QueueError> {
        let pair = &mut pairs[index];
        let room = self.window.saturating_sub(self.under_way());
        match &mut self.roles[index] {
            Role::Source(source) => {
                let sent = match &mut self.pacer {
                    _ if !self.sending => source.flush(&mut pair.tx)?,
                    Some(pacer) => {
                        let now = self.clock.now().min(self.duration - 1);
                        source.send_due(&mut pair.tx, pacer, now)?
                    }
                    None if room == 0 => source.idle(&mut pair.tx),
                    None => {
                        let room = usize::try_from(room).unwrap_or(usize::MAX);
                        source.send(&mut pair.tx, room, self.clock.now())?
                    }
                };
                self.sent += sent as u64;
                Ok(sent)
            }
            Role::Forwarder(forwarder) => forwarder.forward(&mut pair.rx, &mut pair.tx),
            Role::Sink => {
                let clock = self.clock;
                let arrived = self.sink.receive(&mut pair.rx, || clock.now())?;
                self.arrived += arrived as u64;
                Ok(arrived)
            }
        }
    }

    /// Whether there are frames to be made at the time `now`.
    fn is_sending(&self, now: u64) -> bool {
        match &self.pacer {
            None => now < self.duration,
            Some(pacer) => pacer.next() < self.duration && now < self.duration + GRACE,
        }
    }

    /// Frames that were due before the end and were not made.
    fn behind(&self) -> u64 {
        self.pacer.as_ref().map_or(0, |pacer| {
            let due = pacer.due(self.duration - 1, usize::MAX);
            due as u64
        })
    }

    /// Frames sent, not arrived and not given up.
    const fn under_way(&self) -> u64 {
        self.sent.saturating_sub(self.arrived + self.written_off)
    }

    /// Frames that wait for a transmit queue.
    fn waiting(&self) -> usize {
        self.roles
            .iter()
            .map(|role| match role {
                Role::Source(source) => source.waiting(),
                Role::Forwarder(forwarder) => forwarder.waiting(),
                Role::Sink => 0,
            })
            .sum()
    }
}

/// The loop, ready to run on a thread of its own.
#[derive(Debug)]
pub(super) struct Worker {
    poller: Poller,
    roles: Roles,
    tell: Sender<Update>,
}

impl Worker {
    /// Puts the roles on the queue pairs: `pairs` holds those of each port of `bed`, in the order of its roles.
    pub(super) fn new(
        args: &Args,
        bed: &Bed,
        pairs: Vec<Vec<QueuePair>>,
        tell: Sender<Update>,
    ) -> anyhow::Result<Self> {
        let traffic = &args.traffic;
        let macs = [0, 1, 2].map(|role| bed.port(role).mac().0.0);
        let mut poller = Poller::new(args.mode.into())?;
        let mut roles = Vec::new();
        for (role, pairs) in pairs.into_iter().enumerate() {
            for (number, pair) in (0..).zip(pairs) {
                let batch = bed.port(role).batch(2 * BURST);
                roles.push(match role {
                    0 => {
                        let generator = Generator::new(&GeneratorConfig {
                            identity: Identity {
                                source: macs[0],
                                destination: macs[1],
                                seed: traffic.seed,
                            },
                            sizes: traffic.frame,
                            first_flow: number * FLOWS,
                            flows: FLOWS,
                        });
                        Role::Source(Box::new(Source::new(generator, batch, bed.buffer_size())))
                    }
                    1 => Role::Forwarder(Forwarder::new(batch, macs[2], macs[1])),
                    _ => Role::Sink,
                });
                poller.add(pair)?;
            }
        }
        let checker = Checker::new(CheckerConfig {
            seed: traffic.seed,
            first_flow: 0,
            flows: FLOWS.saturating_mul(args.queues),
            private: true,
        });
        Ok(Self {
            poller,
            roles: Roles {
                roles,
                sink: Sink::new(checker, bed.port(2).batch(2 * BURST)),
                pacer: match traffic.rate {
                    Rate::Max => None,
                    Rate::PerSecond(rate) => Some(Pacer::new(rate, 0)),
                },
                clock: RunClock::start(),
                window: bed.window() as u64,
                sending: true,
                sent: 0,
                arrived: 0,
                written_off: 0,
                // No more than a week, so nothing overflows.
                duration: u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX / 2),
            },
            tell,
        })
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> anyhow::Result<Done> {
        let clock = RunClock::start();
        self.roles.clock = clock;
        let interval = u64::try_from(INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let mut next_update = interval;
        let mut last_arrival = 0;
        let mut now = 0;
        let mut ended = None;
        loop {
            self.roles.sending = self.roles.is_sending(now);
            if !self.roles.sending {
                ended.get_or_insert(now);
                if self.roles.under_way() == 0 && self.roles.waiting() == 0 {
                    break;
                }
            }
            let arrived = self.roles.arrived;
            let wait = self.wait(now, next_update, last_arrival);
            let roles = &mut self.roles;
            self.poller
                .turn(Some(wait), |index, pairs| roles.work(index, pairs))?;
            now = clock.now();
            if self.roles.arrived > arrived || self.roles.under_way() == 0 {
                last_arrival = now;
            } else if now.saturating_sub(last_arrival) > PAUSE {
                let missing = self.roles.sink.checker().missing();
                self.roles.written_off = self.roles.written_off.max(missing);
            }
            if now.saturating_sub(last_arrival) > STALL {
                log::debug!(
                    "{} frames taken for lost, {} of them wait for a transmit queue; {:?}",
                    self.roles.under_way(),
                    self.roles.waiting(),
                    self.poller.stats()
                );
                self.roles.written_off += self.roles.under_way();
                last_arrival = now;
            }
            if now >= next_update {
                next_update += interval;
                let update = self.update(now);
                // Nobody listens any more when the main thread has failed; it says why.
                let _ = self.tell.send(update);
            }
        }
        Ok(self.finish(now, ended.unwrap_or(now)))
    }

    /// How long to wait for frames at most.
    fn wait(&self, now: u64, next_update: u64, last_arrival: u64) -> Duration {
        let roles = &self.roles;
        let mut until = next_update;
        if roles.sending {
            until = until.min(roles.pacer.as_ref().map_or(roles.duration, Pacer::next));
        }
        if roles.under_way() > 0 {
            until = until.min(last_arrival + STALL + 1).min(now + PAUSE);
        }
        if roles.waiting() > 0 {
            // Room in a transmit queue comes without a message.
            until = until.min(now + TX_FULL);
        }
        Duration::from_nanos(until.saturating_sub(now))
    }

    fn update(&mut self, now: u64) -> Update {
        let checker = self.roles.sink.checker_mut();
        Update {
            at: Duration::from_nanos(now),
            tally: checker.tally(),
            missing: checker.missing(),
            latencies: checker.swap_latencies(latency_histogram()),
            cpu: cpu::of_this_thread(),
        }
    }

    fn finish(mut self, now: u64, ended: u64) -> Done {
        let generators: Vec<Generator> = self
            .roles
            .roles
            .drain(..)
            .filter_map(|role| match role {
                Role::Source(source) => Some(source.finish()),
                _ => None,
            })
            .collect();
        let made = |flow| generators.iter().map(|g| g.made(flow)).sum();
        Done {
            sent: self.roles.sent,
            lost: self.roles.sink.checker_mut().close(made),
            sending: Duration::from_nanos(ended),
            wakeups: self.poller.stats().wakeups,
            behind: self.roles.behind(),
            last: self.update(now),
            pairs: self.poller.into_queues(),
        }
    }
}
