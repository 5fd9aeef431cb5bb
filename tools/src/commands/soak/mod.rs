//! `vfnic soak`: traffic and trouble on simulated cards for as long as one likes, every frame accounted for.

mod books;
mod guard;
mod overload;
mod station;
mod trouble;
mod world;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use clap::Args as ClapArgs;
use rustix::fs::Dir;
use serde::Serialize;
use vfnic_hw::Model;

use crate::apps::{End, Stop};
use crate::args;
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::live::LiveLine;
use crate::output;

use crate::dice::Dice;
use world::World;

/// Sends random traffic through simulated cards while things go wrong, and accounts for every frame
///
/// Four VFs of a card send each other frames of all lengths, plain, tagged and with checksums left to the hardware, while
/// resets, link changes, removals, refused or unanswered requests, lost and late completions, refused DMA and changes of
/// settings strike at random. After each of these every frame sent has arrived once, in order and intact, or was
/// dropped by somebody under a name, at every hop; no buffer is missing, and nothing was written beside one.
///
/// Everything random comes from the seed, and time is the card's own, so the same seed gives the same run. The first
/// thing that does not add up ends it, with the seed, the place and what led there.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// Frames to send; a million where no time is given either
    #[arg(long, value_name = "N")]
    frames: Option<u64>,
    /// Send for this long, instead of a number of frames or at most
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    duration: Option<Duration>,
    /// Decides everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Frames from one trouble to the next, on average
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    fault_every: u64,
    /// Only this card model, instead of all in turn
    #[arg(long, value_name = "82576|i350|82599|x540|x550")]
    model: Option<Model>,
    /// Round to begin with: what a failure names, to see it again sooner
    #[arg(long, value_name = "N", default_value_t = 0)]
    round: u64,
    /// Instead: one VF sends another twice as much as it can take, for --duration (10 s where none is given)
    #[arg(long, conflicts_with_all = ["frames", "fault_every", "round"])]
    overload: bool,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic soak
  vfnic soak --frames 10000000 --json
  vfnic soak --duration 8h --seed 7 --fault-every 1000
  vfnic soak --seed 7 --round 12 --model x550
  vfnic soak --overload --duration 10m

Exit status 0 only when everything added up.";

/// Frames of a round: one card, from its making to its end.
const ROUND: u64 = 1_000_000;
/// Bytes by which memory may grow once every model had a round.
const GROWTH: u64 = 1 << 20;

/// What a run came to.
#[derive(Debug, Default, Serialize)]
struct Summary {
    seed: u64,
    rounds: u64,
    sent: u64,
    received: u64,
    /// Frames lost, by reason; `sent` is `received` and these.
    lost: BTreeMap<String, u64>,
    unaccounted: u64,
    duplicated: u64,
    reordered: u64,
    corrupted: u64,
    troubles: BTreeMap<String, u64>,
    /// Seconds of the wall clock.
    seconds: f64,
    /// Bytes by which resident memory grew after a round of every model.
    memory_growth: u64,
    ended_by: Option<End>,
}

/// Runs it.
///
/// # Errors
///
/// The first thing that does not add up.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if args.overload {
        return overload(&args);
    }
    if log::max_level() <= log::LevelFilter::Warn {
        // What goes wrong here is meant to, thousands of times.
        log::set_max_level(log::LevelFilter::Off);
    }
    let mut stop = Stop::new(args.duration)?;
    let frames = match (args.frames, args.duration) {
        (Some(frames), _) => frames,
        (None, Some(_)) => u64::MAX,
        (None, None) => 1_000_000,
    };
    let models = args
        .model
        .map_or_else(|| Model::ALL.to_vec(), |one| vec![one]);
    let live = LiveLine::new(args.json);
    if !args.json {
        output::line(format_args!("seed {}", args.seed))?;
    }
    let mut warm = None;
    let mut scales = Scales::new()?;
    confine::enter(Keep::Nothing);
    stop.start();
    let begin = Instant::now();
    let mut summary = Summary {
        seed: args.seed,
        ..Summary::default()
    };
    // Every model has its share of a short run, and several rounds of a long one.
    let share = (frames / models.len() as u64).clamp(1, ROUND);
    for number in args.round..=u64::MAX {
        if summary.sent >= frames || stop.due().is_some() {
            break;
        }
        let model = models[usize::try_from(number)? % models.len()];
        let least = share.min(frames - summary.sent);
        round(&args, model, number, least, &stop, &mut summary, |sent| {
            live.show(format!(
                "round {number}, {model}: {sent} frames, {:.0} s",
                begin.elapsed().as_secs_f64()
            ));
        })
        .with_context(|| {
            format!(
                "seed {}, round {number} ({model}), frame {}",
                args.seed, summary.sent
            )
        })?;
        if summary.rounds == models.len() as u64 {
            warm = Some(scales.look()?);
        }
    }
    if let Some(warm) = warm {
        let held = scales.look()?;
        summary.memory_growth = held.resident.saturating_sub(warm.resident);
        ensure!(
            summary.memory_growth <= GROWTH,
            "memory grew by {} bytes since a round of every model was over",
            summary.memory_growth
        );
        ensure!(
            held.descriptors <= warm.descriptors,
            "{} file descriptors are open, {} were before",
            held.descriptors,
            warm.descriptors
        );
    }
    summary.seconds = begin.elapsed().as_secs_f64();
    summary.ended_by = stop.due().or(Some(End::Count));
    drop(live);
    report(&args, &summary)?;
    Ok(Outcome::Good)
}

/// Share of the peak that has to get through an overload, and the longest time that 99 of 100 control calls may take.
const GOODPUT: f64 = 0.9;
const CONTROL: Duration = Duration::from_millis(50);

fn overload(args: &Args) -> anyhow::Result<Outcome> {
    let mut stop = Stop::new(args.duration.or(Some(Duration::from_secs(10))))?;
    let model = args.model.unwrap_or(Model::I82599);
    confine::enter(Keep::Nothing);
    let result = overload::run(model, args.seed, &mut stop)?;
    let p99 = Duration::from_nanos(result.control_p99);
    if args.json {
        output::json(&result)?;
    } else {
        output::line(format_args!(
            "{} frames in a second, of at most {}, {} offered: {:.1} %",
            result.goodput,
            result.peak,
            result.offered,
            result.share * 100.0
        ))?;
        output::line(format_args!(
            "{} frames in a second of the receiver's CPU time, of at most {}: {:.1} %",
            result.goodput_per_cpu,
            result.peak_per_cpu,
            result.cpu_share * 100.0
        ))?;
        let accounts = &result.accounts;
        output::line(format_args!(
            "{} sent, {} received, {} lost, {} of them without a name",
            accounts.sent, accounts.received, accounts.lost, accounts.unaccounted
        ))?;
        for (reason, count) in &accounts.drops {
            output::line(format_args!("  {reason:<28} {count:>10}"))?;
        }
        output::line(format_args!(
            "{} control calls: p99 {p99:?}, longest {:?}",
            result.control_calls,
            Duration::from_nanos(result.control_max)
        ))?;
    }
    let good = result.share >= GOODPUT && p99 <= CONTROL && result.accounts.balanced();
    Ok(good.into())
}

/// One card's life.
fn round(
    args: &Args,
    model: Model,
    number: u64,
    frames: u64,
    stop: &Stop,
    summary: &mut Summary,
    show: impl Fn(u64),
) -> anyhow::Result<()> {
    // Neighbouring seeds and rounds have nothing in common.
    let seed = Dice::new(args.seed ^ number.rotate_left(32)).roll();
    let mut dice = Dice::new(!seed);
    let mut world = World::new(model, seed)?;
    while world.sent() < frames && stop.due().is_none() {
        let next = dice.between(
            args.fault_every / 2,
            args.fault_every.saturating_add(args.fault_every / 2),
        );
        let left = frames.saturating_sub(world.sent());
        if let Err(error) = world.episode(next, left, || stop.due().is_some()) {
            eprintln!("{}", world.position());
            return Err(error);
        }
        show(summary.sent + world.sent());
    }
    for (trouble, count) in &world.troubles {
        *summary.troubles.entry(format!("{trouble:?}")).or_default() += count;
    }
    for station in &world.stations {
        let tally = station.checker.tally();
        summary.duplicated += tally.duplicated;
        summary.reordered += tally.reordered;
        summary.corrupted += tally.corrupted;
    }
    let books = world.close()?;
    summary.sent += books.sent();
    summary.received += books.received();
    for (reason, count) in &books.lost {
        *summary.lost.entry(reason.clone()).or_default() += count;
    }
    summary.rounds += 1;
    Ok(())
}

fn report(args: &Args, summary: &Summary) -> anyhow::Result<()> {
    if args.json {
        return output::json(summary);
    }
    let lost: u64 = summary.lost.values().sum();
    output::line(format_args!(
        "{} frames sent, {} received, {lost} lost under a name, 0 unaccounted, duplicated, reordered or corrupted",
        summary.sent, summary.received
    ))?;
    for (reason, count) in &summary.lost {
        output::line(format_args!("  {reason:<28} {count:>10}"))?;
    }
    let troubles: u64 = summary.troubles.values().sum();
    output::line(format_args!(
        "{troubles} troubles of {} kinds in {} rounds, {:.1} s; memory grew by {} KiB",
        summary.troubles.len(),
        summary.rounds,
        summary.seconds,
        summary.memory_growth / 1024
    ))
}

/// What this process holds at one moment.
#[derive(Clone, Copy, Debug)]
struct Held {
    /// Bytes of resident memory.
    resident: u64,
    /// Open file descriptors.
    descriptors: usize,
}

/// Looks at what this process holds, by files opened before nothing can be opened any more.
#[derive(Debug)]
struct Scales {
    memory: File,
    descriptors: Dir,
}

impl Scales {
    fn new() -> anyhow::Result<Self> {
        let dir = File::open("/proc/self/fd")?;
        Ok(Self {
            memory: File::open("/proc/self/statm")?,
            descriptors: Dir::new(dir)?,
        })
    }

    fn look(&mut self) -> anyhow::Result<Held> {
        let mut statm = String::new();
        self.memory.rewind()?;
        self.memory.read_to_string(&mut statm)?;
        let pages = statm.split_whitespace().nth(1).unwrap_or("0");
        self.descriptors.rewind();
        Ok(Held {
            resident: pages.parse::<u64>()? * rustix::param::page_size() as u64,
            descriptors: self.descriptors.by_ref().count(),
        })
    }
}
