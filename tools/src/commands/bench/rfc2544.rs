//! `vfnic bench rfc2544`: the highest rate at which nothing is lost, for each frame length.

use std::num::NonZeroU64;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;

use super::rig::{Length, Load, Path, Rig, Trial, each_length};
use crate::apps::round;
use crate::args;
use crate::cli::Outcome;
use crate::output::{self, quantity};
use crate::report::{Axis, Chart, Line, Page};
use crate::traffic::{FrameSizes, Rate};

const EXAMPLES: &str = "\
Examples:
  vfnic bench rfc2544
  vfnic bench rfc2544 --device 0000:31:10.1 --peer 0000:31:10.3 --trial 60s --html rfc2544.html
  vfnic bench rfc2544 --frame 64,1518 --trial 1s --resolution 5 --json";

/// Searches the highest rate at which no frame is lost between two VFs, for each frame length, as RFC 2544, 26.1
///
/// A trial sends on a fixed schedule for a time and passes when every frame of the schedule was sent, no more than --loss of
/// them is missing two seconds after the last, and none came damaged or twice. A trial whose schedule the sender could not keep
/// fails: a rate nobody offered was not measured. The first rate tried is the lower of what the link carries and what the sender
/// makes at full speed; then the interval between the highest rate that passed and the lowest that failed is halved until it is
/// --resolution of the latter. RFC 2544 wants trials of 60 s (--trial 60s); shorter ones are indications.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    #[command(flatten)]
    path: Path,
    /// How long a trial sends
    #[arg(long, value_name = "TIME", default_value = "2s", value_parser = args::duration)]
    trial: Duration,
    /// Frames that may be lost, in percent of those sent
    #[arg(long, value_name = "PERCENT", default_value_t = 0.0, value_parser = percent)]
    loss: f64,
    /// How close to come, in percent of the rate
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0, value_parser = above_zero)]
    resolution: f64,
}

fn percent(text: &str) -> Result<f64, String> {
    match text.parse() {
        Ok(value) if (0.0..=50.0).contains(&value) => Ok(value),
        _ => Err(format!("`{text}` is not a percentage from 0 to 50")),
    }
}

fn above_zero(text: &str) -> Result<f64, String> {
    percent(text).and_then(|value| {
        if value >= 0.01 {
            Ok(value)
        } else {
            Err(format!("`{text}`: the search would not end; 0.01 at least"))
        }
    })
}

/// What was found for one frame length.
#[derive(Debug, Serialize)]
struct Row {
    frame: String,
    /// The highest rate that passed; 0 when none did.
    pps: u64,
    gbit_per_second: f64,
    /// Of what the link carries.
    percent_of_line: Option<f64>,
    /// What ended the search.
    limit: &'static str,
    trials: Vec<Trial>,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    device: String,
    peer: String,
    criteria: String,
    rows: Vec<Row>,
}

/// Runs it.
///
/// # Errors
///
/// When a port cannot be had or goes away.
pub(super) fn run(args: &Args) -> anyhow::Result<Outcome> {
    let file = args.path.page_file()?;
    let criteria = format!(
        "trials of {:?}; passed when the whole schedule was sent, at most {} % is missing 2 s after its end, none damaged or doubled; to {} %",
        args.trial, args.loss, args.resolution
    );
    let head = format!(
        "{criteria}\n{:>6} {:>11} {:>9} {:>9} {:>7}  limit",
        "frame", "rate", "Gbit/s", "of line", "trials"
    );
    let rows = each_length(
        &args.path,
        &head,
        |rig, frame| search(args, rig, frame),
        |row| {
            #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
            let rate = quantity(row.pps as f64, "pps");
            let line = row
                .percent_of_line
                .map_or_else(|| "?".to_owned(), |percent| format!("{percent:.1} %"));
            format!(
                "{:>6} {rate:>11} {:>9.3} {line:>9} {:>7}  {}",
                row.frame,
                row.gbit_per_second,
                row.trials.len(),
                row.limit
            )
        },
    )?;
    let summary = Summary {
        device: args.path.device.to_string(),
        peer: args.path.peer.to_string(),
        criteria,
        rows,
    };
    if let Some(file) = file {
        page(args, &summary)?.write(file)?;
    }
    if args.path.json {
        output::json(&summary)?;
    }
    Ok(summary.rows.iter().all(|row| row.pps > 0).into())
}

/// A search in whole frames per second: what is known to pass, and to fail.
#[derive(Clone, Copy, Debug)]
struct Bounds {
    passed: u64,
    failed: u64,
    resolution: f64,
}

impl Bounds {
    /// What to try next; nothing when the two are close enough.
    #[expect(
        clippy::cast_precision_loss,
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "rates are far below 2^53"
    )]
    fn next(&self) -> Option<u64> {
        let step = (self.failed as f64 * self.resolution / 100.0).max(1.0) as u64;
        (self.failed - self.passed > step).then(|| self.passed + (self.failed - self.passed) / 2)
    }
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "rates are far below 2^53"
)]
fn search(args: &Args, rig: &mut Rig, frame: FrameSizes) -> anyhow::Result<Row> {
    let line = rig.line_rate(frame);
    let fastest = rig.trial(&Load {
        frame,
        rate: Rate::Max,
        length: Length::Time(args.trial.min(Duration::from_secs(1))),
        look: true,
    })?;
    let ceiling = line.map_or(fastest.offered_pps, |line| line.min(fastest.offered_pps));
    let ceiling = (ceiling as u64).max(1);
    let mut limit = match line {
        Some(line) if line <= fastest.offered_pps => "line rate",
        _ => "sender at full speed",
    };
    let mut trials = Vec::new();
    let mut try_rate = |rate: u64| -> anyhow::Result<bool> {
        let trial = rig.trial(&Load {
            frame,
            rate: NonZeroU64::new(rate).map_or(Rate::Max, Rate::PerSecond),
            length: Length::Time(args.trial),
            look: true,
        })?;
        log::debug!("{frame} at {rate}: {trial:?}");
        let passed = trial.passes(args.loss);
        trials.push(trial);
        Ok(passed)
    };
    let mut pps = ceiling;
    if !try_rate(ceiling)? {
        let mut bounds = Bounds {
            passed: 0,
            failed: ceiling,
            resolution: args.resolution,
        };
        while let Some(rate) = bounds.next() {
            if try_rate(rate)? {
                bounds.passed = rate;
            } else {
                bounds.failed = rate;
            }
        }
        pps = bounds.passed;
        // The last failure is the nearest above.
        let nearest = trials
            .iter()
            .filter(|trial| !trial.passes(args.loss))
            .min_by(|one, two| one.offered_pps.total_cmp(&two.offered_pps));
        limit = match nearest {
            Some(trial) if trial.behind > 0 => "the sender's schedule",
            Some(trial) if trial.drops.contains_key("card_no_descriptors") => {
                "no descriptors at the receiver"
            }
            _ => "loss",
        };
    }
    let pattern = frame.pattern();
    let bits = 8.0 * pattern.iter().sum::<usize>() as f64 / pattern.len() as f64;
    Ok(Row {
        frame: frame.to_string(),
        pps,
        gbit_per_second: round(pps as f64 * bits / 1e9, 6),
        percent_of_line: line.map(|line| round(100.0 * pps as f64 / line, 2)),
        limit,
        trials,
    })
}

fn page(args: &Args, summary: &Summary) -> anyhow::Result<Page> {
    let mut page = Page::new(
        "vfnic bench rfc2544",
        &format!(
            "from {} to {}; {}",
            summary.device, summary.peer, summary.criteria
        ),
    );
    #[expect(clippy::cast_precision_loss, reason = "a picture")]
    let rate = |row: &Row| row.pps as f64;
    for row in summary.rows.iter().take(4) {
        page.figure(
            &format!("frames of {} without loss", row.frame),
            quantity(rate(row), "pps"),
        );
    }
    let points = |value: &dyn Fn(&Row) -> f64| {
        let rows = summary.rows.iter();
        rows.filter_map(|row| Some((row.frame.parse().ok()?, value(row))))
            .collect()
    };
    page.chart(
        "Rate without loss",
        "By frame length in bytes, CRC included.",
        &Chart {
            x: Axis::Linear(""),
            y: Axis::Linear("pps"),
            lines: vec![Line {
                name: "rate".to_owned(),
                points: points(&rate),
            }],
        },
    )?;
    page.chart(
        "Bits without loss",
        "By frame length; without preamble and gap.",
        &Chart {
            x: Axis::Linear(""),
            y: Axis::Linear("bit/s"),
            lines: vec![Line {
                name: "rate".to_owned(),
                points: points(&|row| row.gbit_per_second * 1e9),
            }],
        },
    )?;
    let mut drops = std::collections::BTreeMap::new();
    let trials = || summary.rows.iter().flat_map(|row| &row.trials);
    for (reason, count) in trials().flat_map(|trial| &trial.drops) {
        *drops.entry(reason.clone()).or_default() += count;
    }
    page.losses(&drops, trials().map(Trial::unnamed).sum())?;
    page.table(
        "Results",
        summary.rows.iter().map(|row| {
            let line = row.percent_of_line.map_or_else(String::new, |percent| {
                format!(", {percent:.1} % of the line")
            });
            (
                format!("{} bytes", row.frame),
                format!(
                    "{}{line}; {} trials; limited by: {}",
                    quantity(rate(row), "pps"),
                    row.trials.len(),
                    row.limit
                ),
            )
        }),
    );
    page.table(
        "Configuration",
        [
            ("device", summary.device.clone()),
            ("peer", summary.peer.clone()),
            ("trial", format!("{:?}", args.trial)),
            ("loss allowed", format!("{} %", args.loss)),
            ("resolution", format!("{} %", args.resolution)),
            ("flows", args.path.flows.to_string()),
            ("descriptors of each ring", args.path.ring.to_string()),
        ],
    );
    Ok(page)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_search_ends_close_below_the_limit() {
        for limit in [1u64, 999, 123_456, 9_999_999] {
            let mut bounds = Bounds {
                passed: 0,
                failed: 10_000_000,
                resolution: 1.0,
            };
            let mut trials = 0;
            while let Some(rate) = bounds.next() {
                assert!(rate > bounds.passed && rate < bounds.failed);
                if rate <= limit {
                    bounds.passed = rate;
                } else {
                    bounds.failed = rate;
                }
                trials += 1;
            }
            assert!(trials < 40, "{trials}");
            assert!(bounds.passed <= limit && limit < bounds.failed);
            assert!(bounds.failed - bounds.passed <= (bounds.failed / 100).max(1));
        }
    }

    #[test]
    fn percentages_have_bounds() {
        assert_eq!(percent("0.5"), Ok(0.5));
        assert!(percent("51").is_err() && percent("-1").is_err() && percent("NaN").is_err());
        assert!(above_zero("0").is_err());
    }
}
