//! `vfnic bench ring`: core cycles per packet of the rings alone.

use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use vfnic_ring::{MAX_RING, Simd};

use crate::bench::null::Caches;
use crate::bench::ring::{self, Op, REGION, Row, Setup};
use crate::cli::{Outcome, UsageError};
use crate::confine::{self, Keep};
use crate::output;

pub(super) const EXAMPLES: &str = "\
Examples:
  vfnic bench ring
  vfnic bench ring --device hot,cold --burst 32 --ring 512 --op fwd,fusedtouch --json";

/// Core cycles per packet of receiving, sending and forwarding, with a device that costs nothing
///
/// A null device makes 256 frames ready at a time, outside the timed part, and the rings handle them in bursts.
/// Other work on the machine shows in the figures: run it alone. docs/performance.md has the method.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// Where the device's writes leave the cache lines: this core's caches, memory, another core's caches
    #[arg(
        long,
        value_name = "KIND,...",
        value_delimiter = ',',
        default_value = "hot"
    )]
    device: Vec<Caches>,
    /// Packets a call
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "1,8,13,32,64,256",
          value_parser = clap::value_parser!(u16).range(1..=REGION as i64))]
    burst: Vec<u16>,
    /// Descriptors in each ring, a multiple of 8
    #[arg(long, value_name = "N,...", value_delimiter = ',', default_value = "512,2048",
          value_parser = clap::value_parser!(u16).range(2 * REGION as i64..=i64::from(MAX_RING)))]
    ring: Vec<u16>,
    /// Which ring code to run [default: all this machine can]
    #[arg(long, value_name = "CODE,...", value_delimiter = ',')]
    simd: Vec<Code>,
    /// What to measure [default: everything]
    #[arg(long, value_name = "OP,...", value_delimiter = ',')]
    op: Vec<Op>,
    /// Begin to load every frame's first line as it is received
    #[arg(long)]
    prefetch: bool,
    /// Repetitions of 200 timed regions, of which the median is shown
    #[arg(long, value_name = "N", default_value_t = 15,
          value_parser = clap::value_parser!(u16).range(1..=1000))]
    repetitions: u16,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Code {
    Portable,
    Avx2,
    Avx512,
}

impl From<Code> for Simd {
    fn from(code: Code) -> Self {
        match code {
            Code::Portable => Self::Portable,
            Code::Avx2 => Self::Avx2,
            Code::Avx512 => Self::Avx512,
        }
    }
}

#[derive(Serialize)]
struct Report {
    rows: Vec<Row>,
}

/// Runs it.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let setups = setups(args)?;
    confine::enter(Keep::Nothing);
    let mut rows = Vec::with_capacity(setups.len());
    if !args.json {
        output::line("core cycles per packet: median (min-max)")?;
        output::line("op         simd     device ring burst   cycles     min     max      ns")?;
    }
    for setup in setups {
        let row = ring::measure(&setup)?;
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

fn line(row: &Row) -> String {
    format!(
        "{:10} {:8} {:6} {:4} {:5} {:8.2} {:7.2} {:7.2} {:7.2}",
        format!("{:?}", row.op).to_lowercase(),
        row.simd,
        row.device,
        row.ring,
        row.burst,
        row.cycles,
        row.cycles_min,
        row.cycles_max,
        row.ns
    )
}

/// Every combination of what was asked for.
fn setups(args: &Args) -> anyhow::Result<Vec<Setup>> {
    let simds = if args.simd.is_empty() {
        let all = Simd::ALL.into_iter();
        all.filter(|simd| simd.is_available()).collect()
    } else {
        args.simd
            .iter()
            .copied()
            .map(Simd::from)
            .collect::<Vec<_>>()
    };
    if let Some(missing) = simds.iter().find(|simd| !simd.is_available()) {
        let error = format!(
            "--simd {}: this processor does not have it; leave the option out to measure what it has",
            missing.name()
        );
        return Err(UsageError(error).into());
    }
    if let Some(odd) = args.ring.iter().find(|ring| !ring.is_multiple_of(8)) {
        return Err(UsageError(format!("--ring {odd}: must be a multiple of 8")).into());
    }
    let ops = if args.op.is_empty() {
        Op::value_variants()
    } else {
        &args.op
    };
    let mut setups = Vec::new();
    for kind in &args.device {
        for simd in &simds {
            for ring in &args.ring {
                for burst in &args.burst {
                    setups.extend(ops.iter().map(|op| Setup {
                        op: *op,
                        simd: *simd,
                        caches: *kind,
                        ring: *ring,
                        burst: usize::from(*burst),
                        prefetch: args.prefetch,
                        repetitions: usize::from(args.repetitions),
                    }));
                }
            }
        }
    }
    Ok(setups)
}
