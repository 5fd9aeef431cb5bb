//! `vfnic bench scale`: what a frame costs as things grow.

use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic_ring::MAX_RING;

use crate::bench::scale::{self, Row, Setup};
use crate::cli::{Outcome, UsageError};
use crate::confine::{self, Keep};
use crate::output;

pub(super) const EXAMPLES: &str = "\
Examples:
  vfnic bench scale
  vfnic bench scale --queues 1,2,4,8 --ports 1 --frame 64 --ring 512 --buffers 2048 --json";

/// Core cycles per forwarded frame as queues, ports, frames, rings and pools grow
///
/// The whole driver under its poller, on a simulated X550 that works outside the timed part. Each list is gone through with
/// the first of every other one, so a list's first value is what all others are measured at. docs/performance.md has the
/// method; run it alone.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Queue pairs of each port
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u16).range(1..=8))]
    queues: Vec<u16>,
    /// Ports, each with a pool of its own
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,2,4,8",
          value_parser = clap::value_parser!(u16).range(1..=8))]
    ports: Vec<u16>,
    /// Bytes of a frame, with CRC
    #[arg(long, value_name = "BYTES,...", value_delimiter = ',', default_value = "64,256,512,1024,1518",
          value_parser = clap::value_parser!(u16).range(64..=1518))]
    frame: Vec<u16>,
    /// Descriptors in each ring, a multiple of 8
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "512,64,128,256,1024,2048,4096",
          value_parser = clap::value_parser!(u16).range(64..=i64::from(MAX_RING)))]
    ring: Vec<u16>,
    /// Buffers in each pool; fewer than twice the descriptors of all its rings are made that many
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "2048,4096,16384,65536",
          value_parser = clap::value_parser!(u32).range(64..=1 << 20))]
    buffers: Vec<u32>,
    /// Repetitions of 60 timed regions, of which the median is shown
    #[arg(long, value_name = "N", default_value_t = 5,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    repetitions: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Serialize)]
struct Report {
    rows: Vec<Row>,
}

/// Runs it.
///
/// # Errors
///
/// When ports cannot be had so, or frames get lost.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    if let Some(odd) = args.ring.iter().find(|ring| !ring.is_multiple_of(8)) {
        return Err(UsageError(format!("--ring {odd}: must be a multiple of 8")).into());
    }
    if !args.json {
        output::line("core cycles per forwarded frame: median (min-max)")?;
        output::line("axis     queues ports frame ring buffers   cycles     min     max      ns")?;
    }
    confine::enter(Keep::Nothing);
    let mut rows = Vec::new();
    for (axis, setup) in setups(args) {
        let row = scale::measure(axis, setup, usize::from(args.repetitions))?;
        if !args.json {
            output::line(line(&row))?;
        }
        rows.push(row);
    }
    if args.json {
        output::json(&Report { rows })?;
    }
    Ok(Outcome::Good)
}

/// Each list by itself. What all of them begin with comes once, first.
fn setups(args: &Args) -> Vec<(&'static str, Setup)> {
    let base = Setup {
        queues: args.queues[0],
        ports: args.ports[0],
        frame: usize::from(args.frame[0]),
        ring: args.ring[0],
        buffers: args.buffers[0],
    };
    let mut all = Vec::new();
    all.extend(
        args.queues
            .iter()
            .map(|&queues| ("queues", Setup { queues, ..base })),
    );
    all.extend(
        args.ports[1..]
            .iter()
            .map(|&ports| ("ports", Setup { ports, ..base })),
    );
    all.extend(args.frame[1..].iter().map(|&frame| {
        let frame = usize::from(frame);
        ("frame", Setup { frame, ..base })
    }));
    all.extend(
        args.ring[1..]
            .iter()
            .map(|&ring| ("ring", Setup { ring, ..base })),
    );
    all.extend(
        args.buffers[1..]
            .iter()
            .map(|&buffers| ("buffers", Setup { buffers, ..base })),
    );
    for (_, setup) in &mut all {
        let needed = 4 * u32::from(setup.queues) * u32::from(setup.ring);
        setup.buffers = setup.buffers.max(needed);
    }
    all
}

fn line(row: &Row) -> String {
    let Setup {
        queues,
        ports,
        frame,
        ring,
        buffers,
    } = row.setup;
    format!(
        "{:8} {queues:6} {ports:5} {frame:5} {ring:4} {buffers:7} {:8.2} {:7.2} {:7.2} {:7.2}",
        row.axis, row.cycles, row.cycles_min, row.cycles_max, row.ns
    )
}
