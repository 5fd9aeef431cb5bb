//! `vfnic demo`: generator, forwarder and checking sink on three VFs of a simulated card.

mod bed;
mod report;
mod worker;

use std::num::NonZeroU64;
use std::sync::mpsc;
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use hdrhistogram::Histogram;
use vfnic_hw::Model;

use crate::apps::Stop;
use crate::args::{self, Mode, Reports, Traffic};
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::live::LiveLine;
use crate::report::PageFile;
use crate::traffic::{Accounts, FrameSizes, Rate};

use bed::Bed;
use report::{Progress, Summary};
use worker::{Worker, is_due};

/// Sends traffic through a simulated card and accounts for every frame
///
/// A generator on one VF, a forwarder on a second, a checking sink on a third, all on one thread; the card, with its
/// switch, runs on another. Frames carry flow, sequence number and checksum, so lost, duplicated, reordered and corrupted ones are
/// counted apart.
///
/// With `--rate max` the generator keeps a bounded number of frames under way, so that nothing is dropped for overload;
/// latency then counts from the actual departure. With a rate it sends on schedule whatever happens, and latency counts from
/// the scheduled departure.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Card model
    #[arg(
        long,
        value_name = "82576|i350|82599|x540|x550",
        default_value = "82599"
    )]
    model: Model,
    /// How long to send
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = args::duration)]
    duration: Duration,
    /// How the driver's thread waits
    #[arg(long, value_enum, default_value_t = Mode::Poll)]
    mode: Mode,
    #[command(flatten)]
    traffic: Traffic,
    /// Queue pairs of each VF
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    queues: u16,
    /// Frames under way at most, with `--rate max`: fewer for latency, more for throughput
    #[arg(long, value_name = "N", default_value_t = 256, value_parser = clap::value_parser!(u16).range(1..=4095))]
    window: u16,
    /// After the traffic do nothing for this long, then send one frame: tells what idling costs
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    idle: Option<Duration>,
    #[command(flatten)]
    reports: Reports,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic demo
  vfnic demo --model x550 --queues 2 --mode adaptive --rate 250k --duration 10s
  vfnic demo --frame imix --json
  vfnic demo --rate 1M --hlog latency.hlog --html latency.html
  vfnic demo --mode adaptive --duration 1s --idle 5s

A first Ctrl-C, or SIGTERM, ends the traffic, or the idling, and with it the run, with its sum.

Exit status 0 only when every frame is accounted for and none was duplicated or corrupted.";

/// How often the worker tells how it is doing.
const INTERVAL: Duration = Duration::from_millis(200);

/// Runs it.
///
/// # Errors
///
/// When the card, a port or the log file cannot be had, signals cannot be caught, or a queue ends.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stop = Stop::new(None)?;
    let live = LiveLine::new(args.json);
    let page = PageFile::wanted(args.reports.html.as_deref())?;
    let (summary, progress) = traffic(&args, Some(stop), |text| live.show(text))?;
    drop(live);
    if let Some(page) = page {
        summary.page(progress.recorder())?.write(page)?;
    }
    if args.json {
        summary.json()?;
    } else {
        summary.print(progress.latencies())?;
    }
    Ok(summary.good().into())
}

/// One run on the smallest frames at a rate, without a word: its latencies from the scheduled departures, and its accounts.
///
/// # Errors
///
/// As [`run`].
pub(crate) fn round_trips(
    model: Model,
    mode: Mode,
    rate: NonZeroU64,
    duration: Duration,
) -> anyhow::Result<(Histogram<u64>, Accounts)> {
    let args = Args {
        model,
        duration,
        mode,
        traffic: Traffic {
            frame: FrameSizes::Fixed(64),
            rate: Rate::PerSecond(rate),
            seed: 1,
        },
        queues: 1,
        window: 256,
        idle: None,
        reports: Reports::default(),
        json: true,
    };
    let (summary, progress) = traffic(&args, None, |_| ())?;
    Ok((progress.latencies().clone(), summary.accounts))
}

/// The run itself, cut short when `stop` says so; `show` is told how it goes.
fn traffic(
    args: &Args,
    stop: Option<Stop>,
    show: impl Fn(String),
) -> anyhow::Result<(Summary, Progress)> {
    let mut progress = Progress::new(args)?;
    let (bed, pairs) = Bed::build(args)?;
    confine::enter(Keep::Nothing);
    let (tell, told) = mpsc::channel();
    let worker = Worker::new(args, &bed, pairs, tell, stop.clone())?;
    let waker = worker.waker();
    let thread = std::thread::Builder::new()
        .name("vfnic-demo".into())
        .spawn(move || worker.run())
        .context("cannot start a thread")?;
    // Ends when the worker drops its end, well or not.
    loop {
        match told.recv_timeout(INTERVAL) {
            Ok(update) => show(progress.update(&update, bed.card_cpu())?),
            Err(mpsc::RecvTimeoutError::Timeout) => {}
            Err(mpsc::RecvTimeoutError::Disconnected) => break,
        }
        if is_due(stop.as_ref()) {
            waker.wake();
        }
        bed.poll_control()?;
    }
    let done = thread
        .join()
        .map_err(|_| anyhow::anyhow!("the driver's thread panicked"))??;
    let summary = progress.finish(args, &done, &bed)?;
    if !summary.good() {
        bed.log_counters();
    }
    drop(done.pairs);
    bed.close()?;
    Ok((summary, progress))
}
