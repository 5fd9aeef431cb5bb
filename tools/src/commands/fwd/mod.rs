//! `vfnic fwd`: what one port receives another sends on.

mod busy;
mod lane;
mod report;

use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args as ClapArgs;
use vfnic::{MacAddr, Poller, PoolConfig, PortConfig, QueueError, QueuePair};

use crate::apps::{End, Meter, Ports, Stop};
use crate::args::{Ending, Mode, Receiving};
use crate::cli::{Outcome, UsageError};
use crate::confine::{self, Keep};
use crate::cpu;
use crate::device::Device;
use crate::live::LiveLine;
use crate::output::quantity;

use busy::Busy;
use lane::{Lane, Rewrite};
use report::Report;

/// Forwards frames between two ports, both ways, or from one port back out of it
///
/// Frames leave with the port's own address as their source, because cards drop everything else as spoofed, and go to the
/// address given; without one they go back to whoever sent them. Nothing is copied when both ports are of one kind.
/// While the sending ring is full nothing is received, so that frames wait in the card and none is dropped here. It ends
/// after a whole burst, so that --count may be passed by one.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// The port, or the first of two
    #[arg(value_name = "A")]
    first: Device,
    /// The second port
    #[arg(value_name = "B")]
    second: Option<Device>,
    /// Destination of frames that came in on A; without it, their sender
    #[arg(long, value_name = "MAC")]
    to: Option<MacAddr>,
    /// Destination of frames that came in on B; without it, their sender
    #[arg(long, value_name = "MAC", requires = "second")]
    back_to: Option<MacAddr>,
    /// Only from A to B; what comes in on B is left there
    #[arg(long, requires = "second", conflicts_with = "back_to")]
    one_way: bool,
    /// Leave the addresses of frames as they are
    #[arg(long, conflicts_with_all = ["to", "back_to"])]
    no_rewrite: bool,
    #[command(flatten)]
    receiving: Receiving,
    #[command(flatten)]
    ending: Ending,
    /// Most frames to take at a time
    #[arg(long, value_name = "N", default_value_t = 64, value_parser = clap::value_parser!(u16).range(1..=1024))]
    burst: u16,
    /// Descriptors of each ring, a multiple of 8
    #[arg(long, value_name = "N", default_value_t = 512)]
    ring: u16,
    /// Tell the time that bursts with frames took, and looks that found none, by two looks at the processor's clock each; only
    /// with --mode poll
    #[arg(long)]
    busy: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic fwd 0000:31:10.0 0000:31:10.2 --to 02:00:00:00:00:0b --back-to 02:00:00:00:00:0a
  vfnic fwd 0000:31:10.0 --mode poll --duration 30s --json
  vfnic fwd sim:82599/0 sim:82599/1 --duration 1s

Exit status 0 when it ended by time, count or SIGINT, 1 when a device went away.";

/// Bursts tried between two looks at the clock.
const ROUNDS: u32 = 64;
/// Longest time between two looks at the ports, and at whether to end.
const TICK: Duration = Duration::from_millis(50);
/// Time between two updates of the live line.
const LIVE: Duration = Duration::from_millis(500);
/// How long to look for room for frames that still wait at the end.
const LAST: Duration = Duration::from_millis(100);
/// How long to wait for links before going on without.
const LINKS: Duration = Duration::from_secs(5);

/// Runs it.
///
/// # Errors
///
/// When a port cannot be had.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if args.busy && args.receiving.waiting.mode != Mode::Poll {
        bail!(UsageError(
            "--busy: only --mode poll has bursts without frames to leave out; add it".into()
        ));
    }
    let mut devices = vec![args.first.clone()];
    if let Some(second) = &args.second {
        if second.is(&args.first) {
            bail!(UsageError(format!(
                "{} and {second} are the same port; name it once to send frames back out of it",
                args.first
            )));
        }
        devices.push(second.clone());
    }
    // First, so that no signal finds half a forwarder.
    let stop = Stop::new(args.ending.duration)?;
    let ports = Ports::open(&devices, &config(&args, devices.len()))?;
    let mut pairs = Vec::new();
    for port in ports.all() {
        pairs.extend(port.start()?);
    }
    for name in ports.wait_for_links(LINKS)? {
        log::warn!("{name}: no link after {LINKS:?}; going on without");
    }
    let lanes = lanes(&args, &ports);
    let mut forwarding = Forwarding {
        live: LiveLine::new(args.ending.json),
        args,
        stop,
        ports,
        lanes,
        meter: Meter::default(),
        next_live: LIVE,
        wakeups: 0,
        busy: Busy::start(),
        cpu_before: cpu::of_this_thread(),
    };
    let result = forwarding.run(&mut pairs);
    forwarding.finish(result?, pairs)
}

fn config(args: &Args, ports: usize) -> PortConfig {
    let ports = u32::try_from(ports).unwrap_or(1);
    PortConfig::default()
        .rings(args.ring, args.ring)
        .mtu(args.receiving.mtu)
        // Tags stay where they are: nobody would put them back.
        .vlan_strip(false)
        .pool(PoolConfig {
            // Both rings of every port full, and as much again.
            buffers: ports * (4 * u32::from(args.ring)).max(2048),
            ..PoolConfig::default()
        })
}

fn lanes(args: &Args, ports: &Ports) -> Vec<Lane> {
    let all = ports.all();
    let last = all.len() - 1;
    let ways: &[(usize, usize, Option<MacAddr>)] = match (last, args.one_way) {
        (0, _) => &[(0, 0, args.to)],
        (_, true) => &[(0, 1, args.to)],
        (_, false) => &[(0, 1, args.to), (1, 0, args.back_to)],
    };
    ways.iter()
        .map(|&(from, to, destination)| {
            let own = all[to].mac().0;
            let rewrite = match destination {
                _ if args.no_rewrite => Rewrite::Nothing,
                Some(destination) => Rewrite::to(destination, own),
                None => Rewrite::back(own),
            };
            Lane::new((from, &all[from]), (to, &all[to]), rewrite, args.burst)
        })
        .collect()
}

/// A run.
#[derive(Debug)]
struct Forwarding {
    args: Args,
    stop: Stop,
    ports: Ports,
    lanes: Vec<Lane>,
    live: LiveLine,
    meter: Meter,
    next_live: Duration,
    wakeups: u64,
    /// What bursts cost, with `--busy`.
    busy: Busy,
    cpu_before: Duration,
}

impl Forwarding {
    fn run(&mut self, pairs: &mut Vec<QueuePair>) -> anyhow::Result<End> {
        confine::enter(Keep::Nothing);
        self.stop.start();
        let end = if self.args.receiving.waiting.mode == Mode::Poll && self.args.busy {
            self.poll(pairs, |lane, pairs, busy| {
                busy.burst(|| lane.forward(pairs))
            })
        } else if self.args.receiving.waiting.mode == Mode::Poll {
            self.poll(pairs, |lane, pairs, _| lane.forward(pairs))
        } else {
            self.wait(pairs)
        };
        if matches!(end, Ok(End::Duration | End::Count | End::Signal)) {
            flush(&mut self.lanes, pairs);
        }
        end
    }

    /// Looks all the time, with nothing between one burst and the next.
    fn poll(
        &mut self,
        pairs: &mut [QueuePair],
        forward: impl Fn(&mut Lane, &mut [QueuePair], &mut Busy) -> Result<usize, QueueError>,
    ) -> anyhow::Result<End> {
        loop {
            for _ in 0..ROUNDS {
                for lane in &mut self.lanes {
                    match forward(lane, pairs, &mut self.busy) {
                        Ok(_) => {}
                        Err(QueueError::Gone) => return Ok(End::Gone),
                        Err(error) => return Err(error.into()),
                    }
                }
            }
            if let Some(end) = self.tick()? {
                return Ok(end);
            }
        }
    }

    /// Sleeps when there is nothing.
    fn wait(&mut self, pairs: &mut Vec<QueuePair>) -> anyhow::Result<End> {
        let mut poller = Poller::new(self.args.receiving.waiting.mode.into())?;
        for pair in pairs.drain(..) {
            poller.add(pair)?;
        }
        let end = loop {
            let wait = self.stop.left(TICK);
            let lanes = &mut self.lanes;
            let turn = poller.turn(Some(wait), |index, pairs| {
                // By the port that receives: a lane is looked at when its own queue has its turn.
                match lanes.iter_mut().find(|lane| lane.from() == index) {
                    Some(lane) => lane.forward(pairs),
                    None => {
                        // Nobody receives here, but what was sent comes back.
                        lanes[0].reclaim(pairs);
                        Ok(0)
                    }
                }
            });
            let end = match End::of(turn) {
                Ok(None) => self.tick(),
                over => over,
            };
            if let Some(end) = end.transpose() {
                break end;
            }
        };
        self.wakeups = poller.stats().wakeups;
        *pairs = poller.into_queues();
        end
    }

    /// Everything but forwarding. Says why to end, if it is time to.
    fn tick(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(end) = End::of(self.ports.look_after())? {
            return Ok(Some(end));
        }
        let forwarded = self.forwarded();
        let now = self.stop.elapsed();
        if now >= self.next_live {
            self.next_live = now + LIVE;
            let rate = self.meter.rate(now, forwarded);
            self.live.show(format!(
                "{:.0} s  {forwarded} forwarded  {}",
                now.as_secs_f64(),
                quantity(rate, "pps")
            ));
        }
        if self
            .args
            .ending
            .count
            .is_some_and(|count| forwarded >= count)
        {
            return Ok(Some(End::Count));
        }
        Ok(self.stop.due())
    }

    fn forwarded(&self) -> u64 {
        self.lanes.iter().map(Lane::forwarded).sum()
    }

    /// Reports, and puts the ports to rest.
    fn finish(self, end: End, pairs: Vec<QueuePair>) -> anyhow::Result<Outcome> {
        let time = self.stop.elapsed();
        drop(self.live);
        let used = cpu::of_this_thread().saturating_sub(self.cpu_before);
        let cpu = cpu::percent(used, time);
        for port in self.ports.all() {
            if let Err(error) = port.refresh_stats() {
                log::debug!("{error}");
            }
        }
        let report = Report::new(
            &self.args,
            self.ports.all(),
            &self.lanes,
            end,
            time,
            cpu,
            self.wakeups,
        );
        let report = if self.args.busy {
            report.busy(self.busy.cost())
        } else {
            report
        };
        drop((self.lanes, pairs));
        if end == End::Gone {
            // There is nothing left to put to rest.
            drop(self.ports);
        } else {
            self.ports.close()?;
        }
        report.print(self.args.ending.json)?;
        Ok((end != End::Gone).into())
    }
}

/// Sends what still waits for room, as far as there soon is some.
fn flush(lanes: &mut [Lane], pairs: &mut [QueuePair]) {
    let start = Instant::now();
    while lanes.iter().any(|lane| lane.waiting() > 0) && start.elapsed() < LAST {
        for lane in &mut *lanes {
            if lane.send(pairs).is_err() {
                return;
            }
        }
        std::thread::sleep(Duration::from_micros(20));
    }
}
