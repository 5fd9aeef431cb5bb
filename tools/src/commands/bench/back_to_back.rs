//! `vfnic bench back-to-back`: the longest burst of which nothing is lost.

use clap::Args as ClapArgs;
use serde::Serialize;

use super::rig::{Length, Load, Path, Rig, Trial, each_length};
use super::throughput::reasons;
use crate::cli::Outcome;
use crate::output;
use crate::report::{Axis, Chart, Line, Page};
use crate::traffic::{FrameSizes, Rate};

const EXAMPLES: &str = "\
Examples:
  vfnic bench back-to-back
  vfnic bench back-to-back --device 0000:31:10.1 --peer 0000:31:10.3 --frame 64 --repeat 50
  vfnic bench back-to-back --unattended --ring 512 --json";

/// Searches the longest burst of frames, sent as fast as they go, of which none is lost, as RFC 2544, 26.4
///
/// The length is halved and doubled between the longest burst that arrived whole and the shortest that did not, several times;
/// the mean is the result. With --unattended the receiver looks at its ring only when the whole burst has been sent: then it
/// is what the card and the ring take in while a program is busy elsewhere.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    path: Path,
    /// Longest burst to try, in frames
    #[arg(long, value_name = "N", default_value_t = 65_536, value_parser = clap::value_parser!(u64).range(2..=100_000_000))]
    most: u64,
    /// Searches for each frame length; RFC 2544 wants 50
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=1000))]
    repeat: u32,
    /// Receive nothing before the whole burst has been sent
    #[arg(long)]
    unattended: bool,
}

/// What was found for one frame length.
#[derive(Debug, Serialize)]
struct Row {
    frame: String,
    /// Mean of the longest bursts without loss.
    frames: u64,
    shortest: u64,
    longest: u64,
    /// The longest that was tried arrived whole, every time.
    at_least: bool,
    trials: u32,
    /// The shortest burst that was not whole: who lost how many.
    first_loss: Option<Trial>,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    device: String,
    peer: String,
    unattended: bool,
    rows: Vec<Row>,
}

/// Runs it.
///
/// # Errors
///
/// When a port cannot be had or goes away.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let file = args.path.page_file()?;
    let head = format!(
        "{:>6} {:>10} {:>10} {:>10} {:>7}  lost first to",
        "frame", "burst", "shortest", "longest", "trials"
    );
    let rows = each_length(
        &args.path,
        &head,
        |rig, frame| search(args, rig, frame),
        |row| {
            let sign = if row.at_least { "≥ " } else { "" };
            format!(
                "{:>6} {:>10} {:>10} {:>10} {:>7}  {}",
                row.frame,
                format!("{sign}{}", row.frames),
                row.shortest,
                row.longest,
                row.trials,
                row.first_loss.as_ref().map(reasons).unwrap_or_default()
            )
        },
    )?;
    let summary = Summary {
        device: args.path.device.to_string(),
        peer: args.path.peer.to_string(),
        unattended: args.unattended,
        rows,
    };
    if let Some(file) = file {
        page(args, &summary)?.write(file)?;
    }
    if args.path.json {
        output::json(&summary)?;
    }
    Ok(summary.rows.iter().all(|row| row.frames > 0).into())
}

fn search(args: &Args, rig: &mut Rig, frame: FrameSizes) -> anyhow::Result<Row> {
    let mut found = Vec::new();
    let mut trials = 0;
    let mut first_loss: Option<Trial> = None;
    for _ in 0..args.repeat {
        // One above the longest: that one is tried first.
        let (mut whole, mut broken) = (0, args.most + 1);
        let mut length = args.most;
        while broken - whole > 1 {
            trials += 1;
            let trial = rig.trial(&Load {
                frame,
                rate: Rate::Max,
                length: Length::Frames(length),
                look: !args.unattended,
            })?;
            if trial.passes(0.0) && trial.sent == length {
                whole = length;
            } else {
                broken = length;
                if first_loss
                    .as_ref()
                    .is_none_or(|least| trial.sent < least.sent)
                {
                    first_loss = Some(trial);
                }
            }
            length = whole + (broken - whole) / 2;
        }
        found.push(whole);
    }
    let (shortest, longest) = (
        found.iter().min().copied().unwrap_or(0),
        found.iter().max().copied().unwrap_or(0),
    );
    Ok(Row {
        frame: frame.to_string(),
        frames: found.iter().sum::<u64>() / found.len().max(1) as u64,
        shortest,
        longest,
        at_least: shortest == args.most,
        trials,
        first_loss,
    })
}

fn page(args: &Args, summary: &Summary) -> anyhow::Result<Page> {
    let mut page = Page::new(
        "vfnic bench back-to-back",
        &format!("from {} to {}", summary.device, summary.peer),
    );
    for row in summary.rows.iter().take(4) {
        let sign = if row.at_least { "≥ " } else { "" };
        page.figure(
            &format!("frames of {}", row.frame),
            format!("{sign}{}", row.frames),
        );
    }
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let line = |name: &str, value: fn(&Row) -> u64| Line {
        name: name.to_owned(),
        points: summary
            .rows
            .iter()
            .filter_map(|row| Some((row.frame.parse().ok()?, value(row) as f64)))
            .collect(),
    };
    page.chart(
        "Longest burst without loss",
        "Frames, by their length in bytes, CRC included.",
        &Chart {
            x: Axis::Linear(""),
            y: Axis::Linear("frames"),
            lines: vec![
                line("longest", |row| row.longest),
                line("mean", |row| row.frames),
                line("shortest", |row| row.shortest),
            ],
        },
    )?;
    page.table(
        "Configuration",
        [
            ("device", summary.device.clone()),
            ("peer", summary.peer.clone()),
            ("longest burst tried", args.most.to_string()),
            ("searches", args.repeat.to_string()),
            (
                "receiver",
                if args.unattended {
                    "looks after the burst".to_owned()
                } else {
                    "looks all the time".to_owned()
                },
            ),
            ("descriptors of each ring", args.path.ring.to_string()),
        ],
    );
    Ok(page)
}
