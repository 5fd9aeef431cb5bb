//! `vfnic bench bounds`: how long what is bounded takes.

mod bed;
mod open;
mod signal;
mod silence;
mod trouble;

use std::time::Duration;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};
use hdrhistogram::Histogram;
use serde::Serialize;
use vfnic_hw::Model;

use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::dice::Dice;
use crate::output::{self, nanoseconds};
use crate::report::Latency;
use crate::traffic::latency_histogram;

pub(super) const EXAMPLES: &str = "\
Examples:
  vfnic bench bounds
  vfnic bench bounds --bound removal,drop --model x550 --repeat 1000 --seed 7 --json

Exit status 0 only when nothing took longer than its bound.";

/// How long what the driver bounds takes, on simulated cards: removal, a silent PF, lying registers, resets, drops, SIGTERM
///
/// removal: from the VF's going away, under traffic, until a queue, the port and its events have said so. mailbox: calls of
/// the control side while the PF stops to answer. open: opening, and starting, a VF whose registers read anything or whose PF
/// is silent. reset: from the PF's return until frames arrive again both ways. drop: of a port and its queue under
/// traffic. sigterm: from the signal to the end of commands that go on for long.
///
/// Cards run in real time, but for mailbox and open: there waiting is done on the card's own clock, and what counts is
/// the sum of both clocks, so ten times as much is tried. When things happen, and what, comes from the seed.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Only these [default: all]
    #[arg(long, value_name = "BOUND,...", value_delimiter = ',')]
    bound: Vec<Bound>,
    /// Only this card model, instead of all
    #[arg(long, value_name = "82576|i350|82599|x540|x550")]
    model: Option<Model>,
    /// How often each is tried on each model, or with each command
    #[arg(long, value_name = "N", default_value_t = 20, value_parser = clap::value_parser!(u32).range(1..))]
    repeat: u32,
    /// Decides everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    seed: u64,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Bound {
    Sigterm,
    Removal,
    Mailbox,
    Open,
    Reset,
    Drop,
}

impl Bound {
    const fn name(self) -> &'static str {
        match self {
            Self::Sigterm => "sigterm",
            Self::Removal => "removal",
            Self::Mailbox => "mailbox",
            Self::Open => "open",
            Self::Reset => "reset",
            Self::Drop => "drop",
        }
    }

    /// The promise; ARCHITECTURE.md has it in words.
    const fn limit(self) -> Duration {
        match self {
            Self::Removal => Duration::from_millis(10),
            Self::Mailbox | Self::Sigterm => Duration::from_secs(1),
            Self::Open => Duration::from_secs(5),
            Self::Reset | Self::Drop => Duration::from_millis(100),
        }
    }

    /// The times of `repeat` tries on `model`.
    fn on(self, model: Model, repeat: u32, dice: &mut Dice) -> anyhow::Result<Histogram<u64>> {
        let mut took = latency_histogram();
        for _ in 0..repeat {
            match self {
                Self::Removal => record(&mut took, trouble::removal(model, dice)?),
                Self::Reset => record(&mut took, trouble::reset(model, dice)?),
                Self::Drop => record(&mut took, trouble::drop(model, dice)?),
                Self::Mailbox => {
                    for _ in 0..MORE {
                        silence::calls(model, dice, |time| record(&mut took, time))?;
                    }
                }
                Self::Open => {
                    for _ in 0..MORE {
                        open::anything(model, dice, |time| record(&mut took, time))?;
                    }
                }
                // Commands are told to end, not models.
                Self::Sigterm => {}
            }
        }
        Ok(took)
    }
}

/// Tries on the card's own clock for one in real time.
const MORE: u32 = 10;

/// Longer than the histogram knows is recorded as its longest.
fn record(times: &mut Histogram<u64>, time: Duration) {
    times.saturating_record(u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
}

/// One line.
#[derive(Debug, Serialize)]
struct Row {
    bound: &'static str,
    /// The model, or the command.
    on: String,
    times: u64,
    took_ns: Latency,
    bound_ns: u64,
    ok: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    seed: u64,
    repeat: u32,
    rows: Vec<Row>,
}

/// Runs it.
///
/// # Errors
///
/// When something does not end within ten seconds at all, or ends in another way than it should.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let asked = |bound: &Bound| args.bound.is_empty() || args.bound.contains(bound);
    let models = args
        .model
        .map_or_else(|| Model::ALL.to_vec(), |one| vec![one]);
    if log::max_level() <= log::LevelFilter::Warn {
        // What goes wrong here is meant to.
        log::set_max_level(log::LevelFilter::Off);
    }
    let mut table = Table::new(args)?;
    let mut dice = Dice::new(args.seed);
    // First: a confined process starts no commands.
    if asked(&Bound::Sigterm) {
        for command in signal::COMMANDS {
            let took = signal::times(command, &models, args.repeat, &mut dice)
                .with_context(|| format!("sigterm, {}", signal::name(command)))?;
            table.add(Bound::Sigterm, signal::name(command), &took)?;
        }
    }
    confine::enter(Keep::Nothing);
    for bound in Bound::value_variants() {
        if *bound == Bound::Sigterm || !asked(bound) {
            continue;
        }
        for model in &models {
            let took = bound
                .on(*model, args.repeat, &mut dice)
                .with_context(|| format!("{}, {model}, seed {}", bound.name(), args.seed))?;
            table.add(*bound, model.name(), &took)?;
        }
    }
    table.finish()
}

/// The report as it grows.
struct Table<'a> {
    args: &'a Args,
    rows: Vec<Row>,
}

impl<'a> Table<'a> {
    fn new(args: &'a Args) -> anyhow::Result<Self> {
        if !args.json {
            output::line(format_args!("seed {}", args.seed))?;
            output::line("bound    on           times       p50       p99       max     bound")?;
        }
        Ok(Self {
            args,
            rows: Vec::new(),
        })
    }

    fn add(&mut self, bound: Bound, on: &str, took: &Histogram<u64>) -> anyhow::Result<()> {
        let took_ns = Latency::from(took);
        let bound_ns = u64::try_from(bound.limit().as_nanos()).unwrap_or(u64::MAX);
        let row = Row {
            bound: bound.name(),
            on: on.to_owned(),
            times: took.len(),
            took_ns,
            bound_ns,
            ok: took_ns.max <= bound_ns,
        };
        if !self.args.json {
            output::line(format_args!(
                "{:8} {:10} {:7} {:>9} {:>9} {:>9} {:>9}  {}",
                row.bound,
                row.on,
                row.times,
                nanoseconds(took_ns.p50),
                nanoseconds(took_ns.p99),
                nanoseconds(took_ns.max),
                nanoseconds(bound_ns),
                if row.ok { "ok" } else { "over" },
            ))?;
        }
        self.rows.push(row);
        Ok(())
    }

    fn finish(self) -> anyhow::Result<Outcome> {
        let good = self.rows.iter().all(|row| row.ok);
        if self.args.json {
            output::json(&Report {
                seed: self.args.seed,
                repeat: self.args.repeat,
                rows: self.rows,
            })?;
        }
        Ok(good.into())
    }
}
