//! The driver's thread: all three roles in one loop.

use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use vfnic::{Poller, QueueError, QueuePair, Waker};

use super::bed::Bed;
use super::{Args, INTERVAL};
use crate::apps::Stop;
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
/// At the end, how long gaps may still close.
const LINGER: u64 = 20_000_000;
/// Most that one look at the queues adds to a silence: while the whole process stood still, stopped or without a CPU, the card
/// did as well, and what it has to deliver comes after.
const LOOK: u64 = 10_000_000;
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
    /// Frames that each role took and passed on.
    pub(super) passed: Passed,
    /// From opening the first port to the first frame at the sink.
    pub(super) first_packet: Option<Duration>,
    /// What the idle phase came to, if there was one.
    pub(super) idle: Option<Idle>,
    /// The queues: frames count as not confirmed once these are gone, so they go last.
    pub(super) pairs: Vec<QueuePair>,
}

/// What the driver's side counted, to be compared with the card's counts where frames are missing.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Passed {
    /// Frames the forwarder received.
    pub(super) to_forwarder: u64,
    /// Frames it sent on.
    pub(super) forwarded: u64,
    /// Frames the sink received, whatever they were.
    pub(super) to_sink: u64,
}

/// How a silence went.
#[derive(Clone, Copy, Debug)]
pub(super) struct Idle {
    /// How long it lasted.
    pub(super) time: Duration,
    /// CPU time the driver's thread used in it.
    pub(super) cpu: Duration,
    /// From the departure of the first frame after it to its arrival at the sink; None when it did not come.
    pub(super) first_packet: Option<Duration>,
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
    /// Frames given up for lost while under way. When they come after all they are taken back.
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
                self.write_off(0);
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

    /// Gives up at least `count` frames, but none that has arrived.
    fn write_off(&mut self, count: u64) {
        let open = self.sent.saturating_sub(self.arrived);
        self.written_off = self.written_off.max(count).min(open);
    }

    /// Whether nothing more can come at the end, after so many nanoseconds of silence.
    fn is_over(&self, silence: u64) -> bool {
        let open = self.sent.saturating_sub(self.arrived);
        match (open, self.waiting(), self.under_way()) {
            (0, 0, _) => true,
            // The gaps that are left have had time to close.
            (_, 0, 0) => silence > LINGER,
            _ => silence > STALL,
        }
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

/// Whether a signal has told it to end.
pub(super) fn is_due(stop: Option<&Stop>) -> bool {
    stop.is_some_and(|stop| stop.due().is_some())
}

/// The loop, ready to run on a thread of its own.
#[derive(Debug)]
pub(super) struct Worker {
    poller: Poller,
    roles: Roles,
    tell: Sender<Update>,
    /// When the first port was opened.
    opened: Instant,
    /// How long to do nothing at the end.
    idle: Option<Duration>,
    /// What may end it sooner.
    stop: Option<Stop>,
}

impl Worker {
    /// Puts the roles on the queue pairs: `pairs` holds those of each port of `bed`, in the order of its roles.
    pub(super) fn new(
        args: &Args,
        bed: &Bed,
        pairs: Vec<Vec<QueuePair>>,
        tell: Sender<Update>,
        stop: Option<Stop>,
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
            opened: bed.opened(),
            idle: args.idle,
            stop,
        })
    }

    /// Runs to the end.
    pub(super) fn run(mut self) -> anyhow::Result<Done> {
        let clock = RunClock::start();
        self.roles.clock = clock;
        let interval = u64::try_from(INTERVAL.as_nanos()).unwrap_or(u64::MAX);
        let mut next_update = interval;
        let (mut now, mut silence) = (0, 0);
        let (mut first_packet, mut ended) = (None, None);
        loop {
            if is_due(self.stop.as_ref()) {
                self.roles.duration = self.roles.duration.min(now.max(1));
            }
            self.roles.sending = self.roles.is_sending(now);
            if !self.roles.sending {
                ended.get_or_insert(now);
                if self.roles.is_over(silence) {
                    break;
                }
            }
            let arrived = self.roles.arrived;
            let wait = self.wait(now, next_update);
            let roles = &mut self.roles;
            self.poller
                .turn(Some(wait), |index, pairs| roles.work(index, pairs))?;
            let before = std::mem::replace(&mut now, clock.now());
            let roles = &mut self.roles;
            if roles.arrived > arrived {
                silence = 0;
                first_packet.get_or_insert_with(|| self.opened.elapsed());
            } else if roles.sending && roles.under_way() == 0 {
                silence = 0;
            } else {
                silence += (now - before).min(LOOK);
                if silence > PAUSE {
                    roles.write_off(roles.sink.checker().missing());
                }
            }
            if roles.sending && silence > STALL {
                log::debug!(
                    "{} frames taken for lost, {} of them wait for a transmit queue; {:?}",
                    roles.under_way(),
                    roles.waiting(),
                    self.poller.stats()
                );
                roles.write_off(u64::MAX);
                silence = 0;
            }
            if now >= next_update {
                next_update = now + interval;
                let update = self.update(now);
                // Nobody listens any more when the main thread has failed; it says why.
                let _ = self.tell.send(update);
            }
        }
        let last = self.update(now);
        let idle = self.idle.filter(|_| !is_due(self.stop.as_ref()));
        let idle = idle.map(|time| self.stay_idle(time)).transpose()?;
        let mut done = self.finish(last, ended.unwrap_or(now));
        done.first_packet = first_packet;
        done.idle = idle;
        Ok(done)
    }

    /// Ends its sleep, if it sleeps, for a look at what has told it to stop.
    pub(super) fn waker(&self) -> Waker {
        self.poller.waker()
    }

    /// Does nothing for `time`, as the mode has it, then sends one frame. Its latency is not among the others.
    fn stay_idle(&mut self, time: Duration) -> anyhow::Result<Idle> {
        let clock = self.roles.clock;
        let (start, cpu) = (clock.now(), cpu::of_this_thread());
        let end = start + u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 2);
        let roles = &mut self.roles;
        let mut now = start;
        while now < end && !is_due(self.stop.as_ref()) {
            let wait = Duration::from_nanos(end - now);
            self.poller
                .turn(Some(wait), |index, pairs| roles.work(index, pairs))?;
            now = clock.now();
        }
        let mut idle = Idle {
            time: Duration::from_nanos(now - start),
            cpu: cpu::of_this_thread().saturating_sub(cpu),
            first_packet: None,
        };
        let (arrived, departure) = (roles.arrived, clock.now());
        if let (Some(Role::Source(source)), Some(pair)) = (
            roles.roles.first_mut(),
            self.poller.queues_mut().first_mut(),
        ) {
            roles.sent += source.send(&mut pair.tx, 1, departure)? as u64;
        }
        let mut silence = 0;
        now = departure;
        while !roles.is_over(silence) {
            let wait = Duration::from_nanos(PAUSE);
            self.poller
                .turn(Some(wait), |index, pairs| roles.work(index, pairs))?;
            let before = std::mem::replace(&mut now, clock.now());
            silence += (now - before).min(LOOK);
            if roles.arrived > arrived && idle.first_packet.is_none() {
                idle.first_packet = Some(Duration::from_nanos(now - departure));
            }
        }
        Ok(idle)
    }

    /// How long to wait for frames at most.
    fn wait(&self, now: u64, next_update: u64) -> Duration {
        let roles = &self.roles;
        let mut until = next_update;
        if roles.sending {
            until = until.min(roles.pacer.as_ref().map_or(roles.duration, Pacer::next));
        }
        if roles.under_way() > 0 || !roles.sending {
            until = until.min(now + PAUSE);
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

    fn finish(mut self, mut last: Update, ended: u64) -> Done {
        let mut passed = Passed {
            to_sink: self.roles.arrived,
            ..Passed::default()
        };
        let mut generators = Vec::new();
        for role in self.roles.roles.drain(..) {
            match role {
                Role::Source(source) => generators.push(source.finish()),
                Role::Forwarder(forwarder) => {
                    passed.forwarded += forwarder.forwarded();
                    passed.to_forwarder += forwarder.forwarded() + forwarder.waiting() as u64;
                }
                Role::Sink => {}
            }
        }
        let made = |flow| generators.iter().map(|g| g.made(flow)).sum();
        let checker = self.roles.sink.checker_mut();
        let lost = checker.close(made);
        // What came after the last update counts, its latency does not.
        last.tally = checker.tally();
        Done {
            sent: self.roles.sent,
            lost,
            sending: Duration::from_nanos(ended),
            wakeups: self.poller.stats().wakeups,
            behind: self.roles.behind(),
            last,
            passed,
            first_packet: None,
            idle: None,
            pairs: self.poller.into_queues(),
        }
    }
}
