//! `vfnic bench throughput`: how much passes between two VFs, with the sender at full speed or on a schedule.

use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::rig::{Length, Load, Path, Trial, each_length};
use crate::args;
use crate::cli::Outcome;
use crate::output::{self, quantity};
use crate::report::{Axis, Chart, Line, Page};
use crate::traffic::Rate;

const EXAMPLES: &str = "\
Examples:
  vfnic bench throughput
  vfnic bench throughput --device 0000:31:10.1 --peer 0000:31:10.3 --frame 64 --html through.html
  vfnic bench throughput --rate 250k --frame imix --json";

/// Measures how much passes between two VFs, for each frame length
///
/// One thread sends and receives in turn, so that it is the cost of both that limits it. Every lost frame is named, as far as
/// the two VFs know of it.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    path: Path,
    /// Frames per second (250k, 1.5M), or `max`
    #[arg(long, value_name = "PPS|max", default_value = "max")]
    rate: Rate,
    /// How long to send frames of each length
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = args::duration)]
    duration: Duration,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    device: String,
    peer: String,
    rows: Vec<Trial>,
}

/// Runs it.
///
/// # Errors
///
/// When a port cannot be had or goes away.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let file = args.path.page_file()?;
    let head = format!(
        "{:>6} {:>11} {:>11} {:>13} {:>10}  lost to",
        "frame", "sent", "received", "Gbit/s", "lost"
    );
    let load = |frame| Load {
        frame,
        rate: args.rate,
        length: Length::Time(args.duration),
        look: true,
    };
    let rows = each_length(
        &args.path,
        &head,
        |rig, frame| rig.trial(&load(frame)),
        |row| {
            format!(
                "{:>6} {:>11} {:>11} {:>13.3} {:>10}  {}",
                row.frame,
                quantity(row.offered_pps, "pps"),
                quantity(row.received_pps, "pps"),
                row.gbit_per_second,
                row.lost,
                reasons(row)
            )
        },
    )?;
    let summary = Summary {
        device: args.path.device.to_string(),
        peer: args.path.peer.to_string(),
        rows,
    };
    if let Some(file) = file {
        page(args, &summary)?.write(file)?;
    }
    if args.path.json {
        output::json(&summary)?;
    }
    let sound = |row: &Trial| row.damaged == 0 && row.received > 0 && row.unnamed() == 0;
    Ok(summary.rows.iter().all(sound).into())
}

/// Who lost how many, in words.
pub(super) fn reasons(trial: &Trial) -> String {
    let mut words: Vec<String> = trial
        .drops
        .iter()
        .map(|(reason, count)| format!("{reason} {count}"))
        .collect();
    if trial.unnamed() > 0 {
        words.push(format!("unknown to both VFs {}", trial.unnamed()));
    }
    words.join(", ")
}

fn page(args: &Args, summary: &Summary) -> anyhow::Result<Page> {
    let mut page = Page::new(
        "vfnic bench throughput",
        &format!("from {} to {}", summary.device, summary.peer),
    );
    let best = |value: fn(&Trial) -> f64| summary.rows.iter().map(value).fold(0.0, f64::max);
    page.figure("most frames", quantity(best(|row| row.received_pps), "pps"));
    page.figure(
        "most bits",
        quantity(best(|row| row.gbit_per_second) * 1e9, "bit/s"),
    );
    let lost: u64 = summary.rows.iter().map(|row| row.lost).sum();
    page.figure("sent", summary.rows.iter().map(|row| row.sent).sum::<u64>());
    page.figure("lost", lost);
    page.chart(
        "Frames a second",
        "By frame length in bytes, CRC included.",
        &by_length(
            "pps",
            &summary.rows,
            &[
                ("sent", |row| row.offered_pps),
                ("received", |row| row.received_pps),
            ],
        ),
    )?;
    page.chart(
        "Bits a second",
        "By frame length; without preamble and gap.",
        &by_length(
            "bit/s",
            &summary.rows,
            &[("received", |row| row.gbit_per_second * 1e9)],
        ),
    )?;
    let mut drops = std::collections::BTreeMap::new();
    for (reason, count) in summary.rows.iter().flat_map(|row| &row.drops) {
        *drops.entry(reason.clone()).or_default() += count;
    }
    page.losses(&drops, summary.rows.iter().map(Trial::unnamed).sum())?;
    page.table(
        "Configuration",
        [
            ("device", summary.device.clone()),
            ("peer", summary.peer.clone()),
            ("rate", args.rate.to_string()),
            (
                "seconds of each length",
                args.duration.as_secs_f64().to_string(),
            ),
            ("flows", args.path.flows.to_string()),
            ("descriptors of each ring", args.path.ring.to_string()),
        ],
    );
    Ok(page)
}

/// A figure of a trial, by name.
type Figure<'a> = (&'a str, fn(&Trial) -> f64);

/// Figures over the frame length; a mix has no length and is left out.
fn by_length(unit: &'static str, rows: &[Trial], figures: &[Figure<'_>]) -> Chart {
    let lines = figures.iter().map(|(name, value)| Line {
        name: (*name).to_owned(),
        points: rows
            .iter()
            .filter_map(|row| Some((row.frame.parse().ok()?, value(row))))
            .collect(),
    });
    Chart {
        x: Axis::Linear(""),
        y: Axis::Linear(unit),
        lines: lines.collect(),
    }
}
