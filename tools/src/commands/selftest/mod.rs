//! `vfnic selftest`: tries what a VF can do, step by step, and writes it down.

mod steps;
mod traffic;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;

use crate::args::OneVf;
use crate::cli::{Outcome, UsageError};
use crate::device::Device;
use crate::output;

/// Tries what a VF can do, step by step: opening, queues, link, sending, settings, restarts, and with a peer traffic and interrupts
///
/// Nothing is changed on the host. A few frames go out, to a made-up address and from the VF's own. With --report the
/// findings, the card's ids and this machine's kernel and CPU go to a file that can be sent to the project: it holds
/// no more of a MAC address than its first half.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    vf: OneVf,
    /// Another VF on the same network, for traffic between the two
    #[arg(long, value_name = "SPEC")]
    peer: Option<Device>,
    /// Write a report to FILE, as JSON
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

const EXAMPLES: &str = "\
Examples:
  vfnic selftest --device 0000:31:10.1
  vfnic selftest --device 0000:31:10.1 --peer 0000:31:10.3 --report selftest.json
  vfnic selftest --device sim:82599/0 --peer sim:82599/1

Exit status 0 when no step failed.";

/// How a step ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Verdict {
    Pass,
    Fail,
    /// It could not be tried here; that is no failure.
    Skip,
}

/// What a step found.
#[derive(Debug)]
enum Found {
    Pass(String),
    Skip(String),
}

#[derive(Debug, Serialize)]
struct Step {
    name: &'static str,
    verdict: Verdict,
    detail: String,
    milliseconds: f64,
}

/// The object that `--json` prints and `--report` writes.
#[derive(Debug, Default, Serialize)]
struct Report {
    version: &'static str,
    kernel: String,
    machine: String,
    cpu: String,
    model: String,
    ids: String,
    mac_prefix: String,
    mac_origin: String,
    mailbox_api: String,
    capabilities: std::collections::BTreeMap<String, String>,
    passed: usize,
    failed: usize,
    skipped: usize,
    steps: Vec<Step>,
    #[serde(skip)]
    quiet: bool,
}

impl Report {
    fn new(quiet: bool) -> Self {
        let system = rustix::system::uname();
        let cpu = std::fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
        let cpu = cpu
            .lines()
            .find_map(|line| line.strip_prefix("model name")?.split_once(':'))
            .map(|(_, name)| name.trim().to_owned());
        Self {
            version: env!("CARGO_PKG_VERSION"),
            kernel: system.release().to_string_lossy().into_owned(),
            machine: system.machine().to_string_lossy().into_owned(),
            cpu: cpu.unwrap_or_default(),
            quiet,
            ..Self::default()
        }
    }

    /// Takes one step, and says at once how it ended.
    fn step(
        &mut self,
        name: &'static str,
        try_it: impl FnOnce() -> anyhow::Result<Found>,
    ) -> anyhow::Result<bool> {
        let start = Instant::now();
        let (verdict, detail) = match try_it() {
            Ok(Found::Pass(detail)) => (Verdict::Pass, detail),
            Ok(Found::Skip(detail)) => (Verdict::Skip, detail),
            Err(error) => (Verdict::Fail, output::chain(&error)),
        };
        match verdict {
            Verdict::Pass => self.passed += 1,
            Verdict::Fail => self.failed += 1,
            Verdict::Skip => self.skipped += 1,
        }
        if !self.quiet {
            let word = match verdict {
                Verdict::Pass => "ok",
                Verdict::Fail => "FAILED",
                Verdict::Skip => "skipped",
            };
            output::line(format_args!("{name:<12} {word:<8} {detail}"))?;
        }
        self.steps.push(Step {
            name,
            verdict,
            detail,
            milliseconds: crate::apps::round(start.elapsed().as_secs_f64() * 1e3, 3),
        });
        Ok(verdict != Verdict::Fail)
    }
}

/// Runs it.
///
/// # Errors
///
/// When the report cannot be written. A step that fails is no error, but status 1.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if let Some(peer) = args.peer.as_ref().filter(|peer| peer.is(&args.vf.device)) {
        return Err(UsageError(format!(
            "{} and {peer} are the same VF; traffic wants two",
            args.vf.device
        ))
        .into());
    }
    let mut report = Report::new(args.vf.json);
    steps::run(&args, &mut report)?;
    if let Some(path) = &args.report {
        let name = path.display();
        let mut text = serde_json::to_string_pretty(&report)?;
        text.push('\n');
        std::fs::write(path, text).with_context(|| format!("cannot write {name}"))?;
    }
    if args.vf.json {
        output::json(&report)?;
    } else {
        output::line(format_args!(
            "{} passed, {} failed, {} skipped",
            report.passed, report.failed, report.skipped
        ))?;
    }
    Ok((report.failed == 0).into())
}
