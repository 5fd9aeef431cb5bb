//! `vfnic sink`: receives what `vfnic gen` sends, and says what is missing.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::bail;
use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::{Poller, Port, PortConfig, QueueCount, QueueError};

use crate::apps::{End, Meter, Ports, Stop, counters, monotonic, per_second, round};
use crate::args::{Mode, OnOneVf, Reports};
use crate::cli::{Outcome, UsageError};
use crate::confine::{self, Keep};
use crate::cpu;
use crate::drops;
use crate::live::LiveLine;
use crate::output::{self, nanoseconds, quantity};
use crate::report::{Latency, Page, PageFile, Recorder};
use crate::roles::{BURST, Sink};
use crate::traffic::{Checker, CheckerConfig, FrameSizes, Tally, latency_histogram};

/// Receives what `vfnic gen` sends, checks every frame, and counts the missing, doubled, reordered and damaged ones
///
/// To be started first: sequence numbers count from the generator's start. What was lost at the very end can only be known
/// with --sent, the generator's own count. Lost frames are named as far as this VF knows of them: what the driver dropped, and
/// what the card took for this VF and had no descriptor for. What never came to this VF only the sender's counters and the
/// PF's can tell; it is reported as lost elsewhere.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    run: OnOneVf,
    /// The generator's seed
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// The generator's number of flows
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    flows: u16,
    /// The generator's longest frame, in bytes with CRC
    #[arg(long, value_name = "64|imix|1518|9000|BYTES", default_value = "1518")]
    frame: FrameSizes,
    /// Join this VLAN
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..4095))]
    vlan: Option<u16>,
    /// Queue pairs
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
    /// How to wait for frames
    #[arg(long, value_enum, default_value_t = Mode::Adaptive)]
    mode: Mode,
    /// The generator runs on this machine: report how long frames took
    #[arg(long)]
    latency: bool,
    #[command(flatten)]
    reports: Reports,
    /// Frames the generator has sent, or will have: makes the last ones count, and ends when all are there
    #[arg(long, value_name = "N")]
    sent: Option<u64>,
}

const EXAMPLES: &str = "\
Examples:
  vfnic sink --device 0000:31:10.3 --duration 12s
  vfnic sink --device 0000:31:10.3 --latency --html latency.html --sent 1000000
  vfnic sink --device sim:82599 --duration 1s

Exit status 0 when no frame is missing, doubled or damaged.";

/// How long to wait for the link before going on without.
const LINK: Duration = Duration::from_secs(5);
/// Longest time between two looks at the port, and at whether to end.
const TICK: Duration = Duration::from_millis(50);
/// Time between two updates of the live line.
const LIVE: Duration = Duration::from_millis(500);
/// How long to look for frames that the card still hands over at the end.
const LAST: Duration = Duration::from_millis(50);
/// The card took it for this VF, and there was no descriptor.
const MISSED: &str = "card_no_descriptors";

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    mac: String,
    mode: &'static str,
    ended_by: End,
    seconds: f64,
    #[serde(flatten)]
    tally: Tally,
    /// Never seen: up to the last frame of each flow, or of all that were sent.
    missing: u64,
    /// Missing frames that neither this VF's counters nor the driver's own to.
    lost_elsewhere: u64,
    mpps: f64,
    gbit_per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    latency_ns: Option<Latency>,
    drops: BTreeMap<String, u64>,
    cpu_percent: f64,
    wakeups: u64,
    link_up: bool,
    counters: BTreeMap<String, u64>,
}

/// Runs it.
///
/// # Errors
///
/// When the port or the log cannot be had.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if !args.latency && (args.reports.hlog.is_some() || args.reports.html.is_some()) {
        bail!(UsageError(
            "--hlog and --html are about latencies; add --latency, which needs the generator on this machine".into()
        ));
    }
    let stop = Stop::new(args.run.ending.duration)?;
    let config = PortConfig::default()
        .queues(QueueCount::Exactly(args.queues))
        // Room for what comes while this process does not get to run.
        .rings(2048, 64)
        .mtu(args.frame.mtu());
    let ports = Ports::open(std::slice::from_ref(&args.run.device), &config)?;
    let port = &ports.all()[0];
    let mut poller = Poller::new(args.mode.into())?;
    for pair in port.start()? {
        poller.add(pair)?;
    }
    if let Some(vlan) = args.vlan {
        port.add_vlan(vlan)?;
    }
    for name in ports.wait_for_links(LINK)? {
        log::warn!("{name}: no link after {LINK:?}; going on without");
    }
    if !args.run.ending.json {
        // Whoever starts the generator needs it.
        output::line(format_args!("{}: address {}", port.name(), port.mac().0))?;
    }
    let checker = Checker::new(CheckerConfig {
        seed: args.seed,
        first_flow: 0,
        flows: args.flows,
        private: false,
    });
    let sink = Sink::new(checker, port.batch(2 * BURST));
    let page = PageFile::wanted(args.reports.html.as_deref())?;
    let recorder = args.reports.recorder(
        "vfnic sink: time from departure to arrival",
        args.run.ending.duration,
    )?;
    let mut run = Run {
        live: LiveLine::new(args.run.ending.json),
        recorder,
        page,
        meter: Meter::default(),
        next_live: LIVE,
        first: None,
        last: 0,
        cpu_before: cpu::of_this_thread(),
        args,
        stop,
        ports,
        sink,
    };
    let end = run.receive(&mut poller)?;
    run.finish(end, poller)
}

/// A run.
#[derive(Debug)]
struct Run {
    args: Args,
    stop: Stop,
    ports: Ports,
    sink: Sink,
    live: LiveLine,
    recorder: Recorder,
    /// Where the report goes.
    page: Option<PageFile>,
    meter: Meter,
    next_live: Duration,
    /// When the first frame came, and the last.
    first: Option<u64>,
    last: u64,
    cpu_before: Duration,
}

impl Run {
    fn receive(&mut self, poller: &mut Poller) -> anyhow::Result<End> {
        confine::enter(Keep::Nothing);
        self.stop.start();
        loop {
            let sink = &mut self.sink;
            let turn = poller.turn(Some(self.stop.left(TICK)), |index, pairs| {
                sink.receive(&mut pairs[index].rx, monotonic)
            });
            match turn {
                Ok(turn) if turn.frames > 0 => {
                    self.last = monotonic();
                    self.first.get_or_insert(self.last);
                }
                Ok(_) => {}
                Err(vfnic::Error::Queue(QueueError::Gone)) => return Ok(End::Gone),
                Err(error) => return Err(error.into()),
            }
            if let Some(end) = self.tick()? {
                return Ok(end);
            }
        }
    }

    fn tick(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(end) = End::of(self.ports.look_after())? {
            return Ok(Some(end));
        }
        let now = self.stop.elapsed();
        let tally = self.sink.checker().tally();
        if now >= self.next_live {
            self.next_live = now + LIVE;
            let rate = self.meter.rate(now, tally.received);
            self.live.show(format!(
                "{:.0} s  {} received  {}  {} missing  {} damaged  {} foreign",
                now.as_secs_f64(),
                tally.received,
                quantity(rate, "pps"),
                self.sink.checker().missing(),
                tally.corrupted,
                tally.foreign
            ));
        }
        if self.recorder.is_due(now) {
            let latencies = self.sink.checker_mut().swap_latencies(latency_histogram());
            self.recorder.take(&latencies, now)?;
        }
        let all = self.args.run.ending.count.or(self.args.sent);
        if all.is_some_and(|all| tally.received + tally.corrupted >= all) {
            return Ok(Some(End::Count));
        }
        Ok(self.stop.due())
    }

    /// Takes what is in the rings still, so that the counters of both sides are of the same frames.
    fn drain(&mut self, poller: &mut Poller) -> anyhow::Result<()> {
        let sink = &mut self.sink;
        let start = Instant::now();
        while start.elapsed() < LAST {
            let turn = poller.turn(Some(Duration::from_millis(1)), |index, pairs| {
                sink.receive(&mut pairs[index].rx, monotonic)
            });
            match turn {
                Ok(turn) if turn.frames > 0 => self.last = monotonic(),
                Ok(_) => break,
                Err(vfnic::Error::Queue(QueueError::Gone)) => break,
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    fn finish(mut self, end: End, mut poller: Poller) -> anyhow::Result<Outcome> {
        let time = self.stop.elapsed();
        self.drain(&mut poller)?;
        let latencies = self.sink.checker_mut().swap_latencies(latency_histogram());
        self.recorder.finish(&latencies, time)?;
        let port = &self.ports.all()[0];
        if let Err(error) = port.refresh_stats() {
            log::debug!("{error}");
        }
        let used = cpu::of_this_thread().saturating_sub(self.cpu_before);
        let report = self.report(port, end, cpu::percent(used, time), poller.stats().wakeups);
        if let Some(page) = self.page.take() {
            report.page(&self.args, &self.recorder)?.write(page)?;
        }
        drop((self.live, self.sink, poller));
        if end == End::Gone {
            drop(self.ports);
        } else {
            self.ports.close()?;
        }
        report.print(self.args.run.ending.json)?;
        let tally = report.tally;
        let whole = report.missing == 0 && tally.duplicated == 0 && tally.corrupted == 0;
        Ok((whole && end != End::Gone).into())
    }

    fn report(&self, port: &Port, ended_by: End, cpu_percent: f64, wakeups: u64) -> Report {
        let tally = self.sink.checker().tally();
        let seen = tally.received + tally.corrupted;
        let missing = self.args.sent.map_or_else(
            || self.sink.checker().missing(),
            |sent| sent.saturating_sub(seen),
        );
        let stats = port.stats();
        let mut drops = BTreeMap::new();
        for (reason, count) in drops::of_receiver(&stats) {
            *drops.entry(reason).or_default() += count;
        }
        let missed = drops::missed(&stats);
        if missed > 0 {
            drops.insert(MISSED.to_owned(), missed);
        }
        let named: u64 = drops.values().sum();
        let span = Duration::from_nanos(self.first.map_or(0, |first| self.last - first));
        // With the CRC, which the card has taken off.
        let bits = 8 * (tally.bytes + 4 * tally.received);
        Report {
            device: port.name().to_owned(),
            mac: port.mac().0.to_string(),
            mode: self.args.mode.name(),
            ended_by,
            seconds: round(span.as_secs_f64(), 6),
            tally,
            missing,
            lost_elsewhere: missing.saturating_sub(named),
            mpps: round(per_second(tally.received, span) / 1e6, 6),
            gbit_per_second: round(per_second(bits, span) / 1e9, 6),
            latency_ns: self
                .args
                .latency
                .then(|| Latency::from(self.recorder.total())),
            drops,
            cpu_percent: round(cpu_percent, 1),
            wakeups,
            link_up: port.link().is_up(),
            counters: counters(&stats),
        }
    }
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        let tally = &self.tally;
        let mut lines = Vec::new();
        for (name, count) in [
            ("received", tally.received),
            ("missing", self.missing),
            ("duplicated", tally.duplicated),
            ("reordered", tally.reordered),
            ("corrupted", tally.corrupted),
            ("foreign", tally.foreign),
        ] {
            lines.push(format!("  {name:<12}{count:>14}"));
        }
        for (reason, count) in &self.drops {
            lines.push(format!("  dropped     {count:>14}  {reason}"));
        }
        if self.lost_elsewhere > 0 {
            lines.push(format!(
                "  elsewhere   {:>14}  never came to this VF, as far as its counters say: see the sender's report and the PF's counters (`ip -s link`, `vfnic sim show`)",
                self.lost_elsewhere
            ));
        }
        lines.push(format!(
            "  {}, {:.3} Gbit/s over {:.2} s; CPU {:.0} %, {} wake-ups",
            quantity(self.mpps * 1e6, "pps"),
            self.gbit_per_second,
            self.seconds,
            self.cpu_percent,
            self.wakeups
        ));
        if let Some(latency) = &self.latency_ns {
            lines.push(format!(
                "  latency: min {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}, from departure to when this process saw it",
                nanoseconds(latency.min),
                nanoseconds(latency.p50),
                nanoseconds(latency.p90),
                nanoseconds(latency.p99),
                nanoseconds(latency.p999),
                nanoseconds(latency.max)
            ));
        }
        output::line(lines.join("\n"))
    }

    /// The same with pictures.
    fn page(&self, args: &Args, recorder: &Recorder) -> anyhow::Result<Page> {
        let tally = &self.tally;
        let mut page = Page::new(
            "vfnic sink",
            &format!("{}, address {}, {} mode", self.device, self.mac, self.mode),
        );
        let whole = self.missing == 0 && tally.duplicated == 0 && tally.corrupted == 0;
        page.verdict(
            whole,
            if whole {
                "every frame arrived"
            } else {
                "not whole"
            },
        );
        page.figure("received", tally.received);
        page.figure("missing", self.missing);
        page.figure("rate", quantity(self.mpps * 1e6, "pps"));
        page.figure("CPU", format!("{:.0} %", self.cpu_percent));
        page.latency_figures(&Latency::from(recorder.total()));
        page.percentiles(
            "Latency",
            "Share of frames, and how long they took at most: from the departure the generator had planned to when this process saw them.",
            &[("latency", recorder.total())],
        )?;
        page.over_time(
            "Latency over time",
            "Of the frames of each moment.",
            recorder.moments(),
        )?;
        page.rate_over_time("Frames over time", recorder.moments())?;
        page.losses(&self.drops, self.lost_elsewhere)?;
        page.table(
            "Configuration",
            [
                ("device", self.device.clone()),
                ("mode", self.mode.to_owned()),
                ("queues", args.queues.to_string()),
                ("flows", args.flows.to_string()),
                ("seed", args.seed.to_string()),
                (
                    "VLAN",
                    args.vlan
                        .map_or_else(|| "none".into(), |vlan| vlan.to_string()),
                ),
                ("ended by", format!("{:?}", self.ended_by).to_lowercase()),
                ("seconds", self.seconds.to_string()),
            ],
        );
        page.table("Counters", &self.counters);
        page.percentile_table("All percentiles", recorder.total())?;
        Ok(page)
    }
}
