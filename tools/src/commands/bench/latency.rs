//! `vfnic bench latency`: how long a frame takes from the card to the application.

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use hdrhistogram::Histogram;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use serde::Serialize;
use vfnic::{Poller, Port, PortConfig, QueueCount};
use vfnic_hw::{Event, Model};
use vfnic_sim::Card;

use crate::args::{self, Mode};
use crate::cli::Outcome;
use crate::commands::demo;
use crate::confine::{self, Keep};
use crate::drops;
use crate::output::{self, nanoseconds};
use crate::report::{HistogramLog, Latency, Page, PageFile};
use crate::roles::{BURST, RunClock, Sink};
use crate::traffic::frame::Mac;
use crate::traffic::{
    Accounts, Checker, CheckerConfig, FrameSizes, Generator, GeneratorConfig, Identity, Pacer,
    Rate, latency_histogram,
};

/// Measures how long frames take from the card to the application
///
/// Three figures, each on its own schedule that nobody can slow down: from the moment the card takes a frame from its wire,
/// which is the moment it writes it back, to the application's hands; the round trip generator, forwarder, sink, from the
/// scheduled departure; and, to compare with, one thread waking another through an eventfd.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic bench latency
  vfnic bench latency --model x550 --mode poll --rate 10k --hlog latency.hlog --html latency.html")]
pub(super) struct Args {
    /// Card model
    #[arg(
        long,
        value_name = "82576|i350|82599|x540|x550",
        default_value = "82599"
    )]
    model: Model,
    /// How the driver's thread waits
    #[arg(long, value_enum, default_value_t = Mode::Adaptive)]
    mode: Mode,
    /// Frames per second (250k, 1.5M)
    #[arg(long, value_name = "PPS", default_value = "1k", value_parser = per_second)]
    rate: NonZeroU64,
    /// How long to measure, each of the three
    #[arg(long, value_name = "TIME", default_value = "3s", value_parser = args::duration)]
    duration: Duration,
    /// Write latencies to FILE and round trips to FILE.round-trip, HdrHistogram logs
    #[arg(long, value_name = "FILE")]
    hlog: Option<PathBuf>,
    /// Write a report with pictures to FILE, one HTML page that needs nothing else
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

fn per_second(text: &str) -> Result<NonZeroU64, String> {
    match text.parse()? {
        Rate::PerSecond(rate) => Ok(rate),
        Rate::Max => Err("latency is measured at a rate, not at `max`".into()),
    }
}

/// What came out.
#[derive(Debug, Serialize)]
struct Summary {
    model: &'static str,
    mode: &'static str,
    rate: u64,
    seconds: f64,
    /// From the card's write-back to the application.
    delivery_ns: Latency,
    delivery: Accounts,
    wakeups: u64,
    /// Generator, forwarder, sink, from the scheduled departure.
    round_trip_ns: Latency,
    round_trip: Accounts,
    /// One thread waking another.
    eventfd_ns: Latency,
}

const DELIVERY: &str = "card to application";
const ROUND_TRIP: &str = "generator to sink";
const HAND_OVER: &str = "eventfd hand-over";

/// Runs it.
///
/// # Errors
///
/// When the card, a port or the log file cannot be had, or a queue ends.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let logs = args.hlog.as_deref().map(|path| {
        let mut other = path.to_owned().into_os_string();
        other.push(".round-trip");
        anyhow::Ok((log(path, args)?, log(Path::new(&other), args)?))
    });
    let logs = logs.transpose()?;
    let file = PageFile::wanted(args.html.as_deref())?;
    confine::enter(Keep::Nothing);
    let delivery = deliveries(args)?;
    let round_trip = demo::round_trips(args.model, args.mode, args.rate, args.duration)?;
    let eventfd = hand_overs(args)?;
    if let Some((mut one, mut other)) = logs {
        one.interval(&delivery.latencies, args.duration)?;
        other.interval(&round_trip.0, args.duration)?;
    }
    let good = delivery.accounts.balanced() && round_trip.1.balanced();
    let summary = Summary {
        model: args.model.name(),
        mode: args.mode.name(),
        rate: args.rate.get(),
        seconds: args.duration.as_secs_f64(),
        delivery_ns: Latency::from(&delivery.latencies),
        delivery: delivery.accounts,
        wakeups: delivery.wakeups,
        round_trip_ns: Latency::from(&round_trip.0),
        round_trip: round_trip.1,
        eventfd_ns: Latency::from(&eventfd),
    };
    if let Some(file) = file {
        let all = [
            (DELIVERY, &delivery.latencies),
            (ROUND_TRIP, &round_trip.0),
            (HAND_OVER, &eventfd),
        ];
        page(&summary, good, &all)?.write(file)?;
    }
    if args.json {
        output::json(&summary)?;
    } else {
        for (name, latency) in [
            (DELIVERY, &summary.delivery_ns),
            (ROUND_TRIP, &summary.round_trip_ns),
            (HAND_OVER, &summary.eventfd_ns),
        ] {
            output::line(format!(
                "{name:<20} min {:>9}  p50 {:>9}  p90 {:>9}  p99 {:>9}  p99.9 {:>9}  max {:>9}",
                nanoseconds(latency.min),
                nanoseconds(latency.p50),
                nanoseconds(latency.p90),
                nanoseconds(latency.p99),
                nanoseconds(latency.p999),
                nanoseconds(latency.max),
            ))?;
        }
        output::line(format!(
            "{}, {} mode, {} frames/s; {} + {} frames, {} + {} unaccounted for",
            summary.model,
            summary.mode,
            summary.rate,
            summary.delivery.received,
            summary.round_trip.received,
            summary.delivery.unaccounted,
            summary.round_trip.unaccounted,
        ))?;
    }
    Ok(good.into())
}

/// The three as curves in one picture.
fn page(summary: &Summary, good: bool, all: &[(&str, &Histogram<u64>)]) -> anyhow::Result<Page> {
    let mut page = Page::new(
        "vfnic bench latency",
        &format!(
            "{}, {} mode, {} frames/s",
            summary.model, summary.mode, summary.rate
        ),
    );
    page.verdict(
        good,
        if good {
            "every frame accounted for"
        } else {
            "not accounted for"
        },
    );
    page.latency_figures(&summary.delivery_ns);
    page.percentiles(
        "Latency",
        "Share of frames, and how long they took at most: from the card's write-back to the application; generator, forwarder and sink from the scheduled departure; and one thread waking another, for which no driver can do anything. The figures above are of the first.",
        all,
    )?;
    let mut drops = summary.delivery.drops.clone();
    for (reason, count) in &summary.round_trip.drops {
        *drops.entry(reason.clone()).or_default() += count;
    }
    let unnamed = summary.delivery.unaccounted + summary.round_trip.unaccounted;
    page.losses(&drops, unnamed.try_into().unwrap_or_default())?;
    page.table(
        "Configuration",
        [
            ("model", summary.model.to_owned()),
            ("mode", summary.mode.to_owned()),
            ("frames a second", summary.rate.to_string()),
            ("seconds of each", summary.seconds.to_string()),
            ("frames delivered", summary.delivery.received.to_string()),
            ("round trips", summary.round_trip.received.to_string()),
            ("wake-ups", summary.wakeups.to_string()),
        ],
    );
    for (name, histogram) in all {
        page.percentile_table(name, histogram)?;
    }
    Ok(page)
}

fn log(path: &Path, args: &Args) -> anyhow::Result<HistogramLog> {
    let comment = format!(
        "vfnic bench latency --model {} --mode {} --rate {}",
        args.model,
        args.mode.name(),
        args.rate
    );
    HistogramLog::create(path, &comment)
}

/// A wire that frames come from on a schedule, made and stamped the moment the card takes them.
#[derive(Debug)]
struct Wire {
    generator: Generator,
    clock: RunClock,
    pacer: Pacer,
    end: u64,
    /// What the card's clock is ahead of the run's.
    ahead: u64,
    sent: Arc<AtomicU64>,
}

impl vfnic_sim::uplink::Port for Wire {
    fn send(&mut self, _frame: &[u8]) -> bool {
        true
    }

    fn receive(&mut self, frame: &mut Vec<u8>) -> bool {
        let now = self.clock.now();
        if self.pacer.next() >= self.end || self.pacer.due(now, 1) == 0 {
            return false;
        }
        self.pacer.take();
        frame.resize(self.generator.next_len(), 0);
        self.generator.write(frame, now);
        // ORDERING: the frame itself goes through the rings; this is only counted.
        self.sent.fetch_add(1, Ordering::Relaxed);
        true
    }

    fn has_frames(&mut self) -> bool {
        self.pacer.next() < self.end && self.clock.now() >= self.pacer.next()
    }

    fn set_time(&mut self, now: u64) {
        self.ahead = now.saturating_sub(self.clock.now());
    }

    fn next_due(&self) -> Option<u64> {
        (self.pacer.next() < self.end).then(|| self.pacer.next().saturating_add(self.ahead))
    }
}

/// The first figure, and what it is made of.
#[derive(Debug)]
struct Deliveries {
    latencies: Histogram<u64>,
    accounts: Accounts,
    wakeups: u64,
}

/// How long what is under way at the end may take. TIMEOUT: generous, a machine may be busy.
const DRAIN: u64 = 1_000_000_000;

fn deliveries(args: &Args) -> anyhow::Result<Deliveries> {
    const SEED: u64 = 1;
    let card = Card::builder(args.model)
        .threaded()
        .build()
        .context("cannot simulate a card")?;
    let config = PortConfig::default().queues(QueueCount::Exactly(1));
    let port = Port::from_function(card.function(0)?, config).context("cannot open the port")?;
    let mut poller = Poller::new(args.mode.into())?;
    for pair in port.start().context("cannot start the port")? {
        poller.add(pair)?;
    }
    wait_for_link(&port)?;
    let checker = Checker::new(CheckerConfig {
        seed: SEED,
        first_flow: 0,
        flows: 1,
        private: true,
    });
    let mut sink = Sink::new(checker, port.batch(2 * BURST));
    let clock = RunClock::start();
    let end = u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX / 2);
    let sent = Arc::new(AtomicU64::new(0));
    let stranger: Mac = [2, 0, 0, 0, 0, 0xfe];
    card.set_uplink(Box::new(Wire {
        generator: Generator::new(&GeneratorConfig {
            identity: Identity {
                source: stranger,
                destination: port.mac().0.0,
                seed: SEED,
            },
            sizes: FrameSizes::Fixed(64),
            first_flow: 0,
            flows: 1,
        }),
        clock,
        pacer: Pacer::new(args.rate, clock.now()),
        end,
        ahead: 0,
        sent: Arc::clone(&sent),
    }));
    let mut arrived = 0;
    let mut now = clock.now();
    while now < end || (arrived < sent.load(Ordering::Relaxed) && now < end.saturating_add(DRAIN)) {
        let wait = Duration::from_millis(20);
        poller.turn(Some(wait), |_, pairs| {
            let mut count = 0;
            for pair in pairs {
                count += sink.receive(&mut pair.rx, || clock.now())?;
            }
            arrived += count as u64;
            Ok(count)
        })?;
        now = clock.now();
        port.poll_control()?;
    }
    let sent = sent.load(Ordering::Relaxed);
    let checker = sink.checker_mut();
    let lost = checker.close(|_| sent);
    let tally = checker.tally();
    let latencies = checker.swap_latencies(latency_histogram());
    let stats = card.stats();
    let vf = stats.vfs.first().copied().unwrap_or_default();
    let wire = stats.wire.drops.iter();
    let wire = wire.map(|(reason, count)| (format!("wire_{}", reason.name()), count));
    let accounts = Accounts::new(sent, lost, &tally, drops::of_card(&vf).chain(wire));
    let wakeups = poller.stats().wakeups;
    drop(poller.into_queues());
    port.close()?;
    Ok(Deliveries {
        latencies,
        accounts,
        wakeups,
    })
}

fn wait_for_link(port: &Port) -> anyhow::Result<()> {
    const LIMIT: u64 = 5_000_000_000;
    let clock = RunClock::start();
    while !port.link().is_up() {
        anyhow::ensure!(
            clock.now() < LIMIT,
            "the link of {} did not come up within 5 s",
            port.name()
        );
        let pause = port.poll_control()?;
        std::thread::sleep(pause.min(Duration::from_micros(100)));
    }
    Ok(())
}

/// One thread signals an eventfd on schedule, another sleeps on it: what any wake-up costs on this machine.
fn hand_overs(args: &Args) -> anyhow::Result<Histogram<u64>> {
    let event = Arc::new(Event::new().context("cannot create an eventfd")?);
    let (stamp, over) = (
        Arc::new(AtomicU64::new(u64::MAX)),
        Arc::new(AtomicBool::new(false)),
    );
    let clock = RunClock::start();
    let end = u64::try_from(args.duration.as_nanos()).unwrap_or(u64::MAX / 2);
    let mut pacer = Pacer::new(args.rate, 0);
    let teller = {
        let (event, stamp, over) = (Arc::clone(&event), Arc::clone(&stamp), Arc::clone(&over));
        std::thread::Builder::new()
            .name("vfnic-teller".into())
            .spawn(move || {
                while pacer.next() < end {
                    let now = clock.now();
                    if pacer.due(now, 1) == 0 {
                        std::thread::sleep(Duration::from_nanos(pacer.next() - now));
                        continue;
                    }
                    pacer.take();
                    // The oldest that was not heard of counts. ORDERING: the eventfd's system calls order the rest.
                    let _ = stamp.compare_exchange(
                        u64::MAX,
                        clock.now(),
                        Ordering::Release,
                        Ordering::Relaxed,
                    );
                    event.signal();
                }
                over.store(true, Ordering::Release);
                event.signal();
            })
            .context("cannot start a thread")?
    };
    let mut latencies = latency_histogram();
    let second = Timespec {
        tv_sec: 1,
        tv_nsec: 0,
    };
    while !over.load(Ordering::Acquire) {
        let mut fds = [PollFd::new(&*event, PollFlags::IN)];
        // EINTR only means another look.
        let _ = poll(&mut fds, Some(&second));
        let now = clock.now();
        event.take();
        let told = stamp.swap(u64::MAX, Ordering::AcqRel);
        if told != u64::MAX {
            // Longer than the histogram's bounds is recorded as its longest.
            latencies.saturating_record(now.saturating_sub(told).max(1));
        }
    }
    teller
        .join()
        .map_err(|_| anyhow::anyhow!("the telling thread panicked"))?;
    Ok(latencies)
}
