//! What a run says while it goes and when it is over.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;

use super::Args;
use super::bed::Bed;
use super::worker::{Done, Update};
use crate::apps::{per_second, round};
use crate::cpu;
use crate::output::{self, nanoseconds, quantity};
use crate::report::{Latency, Page, Recorder, percentile_table};
use crate::traffic::{Accounts, Rate};

/// Puts the worker's updates together.
#[derive(Debug)]
pub(super) struct Progress {
    recorder: Recorder,
    last: Snapshot,
}

/// Totals at one moment.
#[derive(Clone, Copy, Debug, Default)]
struct Snapshot {
    at: Duration,
    received: u64,
    driver: Duration,
    card: Duration,
}

/// CPU time as a share of one core, in percent.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct CpuPercent {
    driver: f64,
    sim: f64,
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Summary {
    model: &'static str,
    mode: &'static str,
    frame: String,
    rate: String,
    queues: u16,
    seed: u64,
    seconds: f64,
    behind_schedule: u64,
    #[serde(flatten)]
    pub(super) accounts: Accounts,
    mpps: f64,
    gbit_per_second: f64,
    latency_ns: Latency,
    cpu_percent: CpuPercent,
    wakeups: u64,
    ready_ms: f64,
    open_to_first_packet_ms: Option<f64>,
    idle_seconds: Option<f64>,
    idle_cpu_percent: Option<f64>,
    first_packet_after_idle_us: Option<f64>,
    still_queued: BTreeMap<&'static str, u64>,
    violations: Vec<String>,
    #[serde(skip)]
    window: Option<usize>,
}

impl Progress {
    pub(super) fn new(args: &Args) -> anyhow::Result<Self> {
        let comment = format!(
            "vfnic demo --model {} --mode {} --frame {} --rate {} --queues {} --seed {}",
            args.model,
            args.mode.name(),
            args.traffic.frame,
            args.traffic.rate,
            args.queues,
            args.traffic.seed
        );
        Ok(Self {
            recorder: args.reports.recorder(&comment, Some(args.duration))?,
            last: Snapshot::default(),
        })
    }

    /// Takes an update and gives the text for the live line.
    pub(super) fn update(&mut self, update: &Update, card: Duration) -> anyhow::Result<String> {
        self.recorder.take(&update.latencies, update.at)?;
        let now = Snapshot {
            at: update.at,
            received: update.tally.received,
            driver: update.cpu,
            card,
        };
        let wall = now.at.saturating_sub(self.last.at);
        let frames = now.received.saturating_sub(self.last.received);
        let interval = Latency::from(&update.latencies);
        // What is well is not told, so that the rest has room on 80 columns.
        let bad: String = [
            ("missing", update.missing),
            ("dup", update.tally.duplicated),
            ("reordered", update.tally.reordered),
            ("corrupt", update.tally.corrupted),
        ]
        .iter()
        .filter(|(_, count)| *count > 0)
        .map(|(name, count)| format!("  {name} {count}"))
        .collect();
        let text = format!(
            "{:5.1} s  {:>9}{bad}  p50 {}  p99 {}  CPU: driver {:.0} %, card {:.0} %",
            now.at.as_secs_f64(),
            quantity(per_second(frames, wall), "pps"),
            nanoseconds(interval.p50),
            nanoseconds(interval.p99),
            cpu::percent(now.driver.saturating_sub(self.last.driver), wall),
            cpu::percent(now.card.saturating_sub(self.last.card), wall),
        );
        self.last = now;
        Ok(text)
    }

    /// Closes the books.
    pub(super) fn finish(
        &mut self,
        args: &Args,
        done: &Done,
        bed: &Bed,
    ) -> anyhow::Result<Summary> {
        let card = bed.card_cpu();
        self.recorder.finish(&done.last.latencies, done.last.at)?;
        let tally = done.last.tally;
        let sending = done.sending;
        let max = args.traffic.rate == Rate::Max;
        Ok(Summary {
            model: args.model.name(),
            mode: args.mode.name(),
            frame: args.traffic.frame.to_string(),
            rate: args.traffic.rate.to_string(),
            queues: args.queues,
            seed: args.traffic.seed,
            seconds: round(sending.as_secs_f64(), 6),
            behind_schedule: done.behind,
            accounts: Accounts::new(done.sent, done.lost, &tally, bed.drops()),
            mpps: round(per_second(tally.received, sending) / 1e6, 6),
            // Preamble, start delimiter, CRC and gap are the wire's; frames and CRC are what is usually quoted.
            gbit_per_second: round(
                per_second(8 * (tally.bytes + 4 * tally.received), sending) / 1e9,
                6,
            ),
            latency_ns: Latency::from(self.recorder.total()),
            cpu_percent: CpuPercent {
                driver: round(cpu::percent(done.last.cpu, done.last.at), 1),
                sim: round(cpu::percent(card, done.last.at), 1),
            },
            wakeups: done.wakeups,
            ready_ms: round(bed.ready_after().as_secs_f64() * 1e3, 3),
            open_to_first_packet_ms: done
                .first_packet
                .map(|time| round(time.as_secs_f64() * 1e3, 3)),
            idle_seconds: done.idle.map(|idle| round(idle.time.as_secs_f64(), 6)),
            idle_cpu_percent: done
                .idle
                .map(|idle| round(cpu::percent(idle.cpu, idle.time), 3)),
            first_packet_after_idle_us: done
                .idle
                .and_then(|idle| idle.first_packet)
                .map(|time| round(time.as_secs_f64() * 1e6, 1)),
            still_queued: bed.still_queued(done),
            violations: bed.violations(),
            window: max.then(|| bed.window()),
        })
    }

    /// All latencies.
    pub(super) const fn latencies(&self) -> &Histogram<u64> {
        self.recorder.total()
    }

    /// The same, and how they came.
    pub(super) const fn recorder(&self) -> &Recorder {
        &self.recorder
    }
}

impl Summary {
    /// Prints it for people.
    pub(super) fn print(&self, latencies: &Histogram<u64>) -> anyhow::Result<()> {
        let mut out = std::io::stdout().lock();
        self.write(&mut out, latencies)?;
        Ok(())
    }

    fn write(
        &self,
        out: &mut impl std::io::Write,
        latencies: &Histogram<u64>,
    ) -> std::io::Result<()> {
        let accounts = &self.accounts;
        writeln!(out, "{}", self.about())?;
        writeln!(out)?;
        for (name, count) in [
            ("sent", accounts.sent),
            ("received", accounts.received),
            ("lost", accounts.lost),
            ("duplicated", accounts.duplicated),
            ("reordered", accounts.reordered),
            ("corrupted", accounts.corrupted),
        ] {
            writeln!(out, "  {name:<12}{count:>14}")?;
        }
        for (reason, count) in &accounts.drops {
            writeln!(out, "  dropped     {count:>14}  {reason}")?;
        }
        writeln!(out, "  unaccounted {:>14}", accounts.unaccounted)?;
        for (place, count) in &self.still_queued {
            writeln!(out, "  still in    {count:>14}  {place}")?;
        }
        if self.behind_schedule > 0 {
            writeln!(
                out,
                "  not sent    {:>14}  the schedule was too fast for this machine",
                self.behind_schedule
            )?;
        }
        writeln!(out)?;
        writeln!(
            out,
            "  {:.2} Mpps end to end, {:.2} Gbit/s, over {:.2} s; CPU: driver {:.0} %, card {:.0} %; {} wake-ups; ready after {:.1} ms, first frame after {}",
            self.mpps,
            self.gbit_per_second,
            self.seconds,
            self.cpu_percent.driver,
            self.cpu_percent.sim,
            self.wakeups,
            self.ready_ms,
            self.open_to_first_packet_ms
                .map_or_else(|| "never".to_owned(), |ms| format!("{ms:.1} ms")),
        )?;
        if let (Some(seconds), Some(percent)) = (self.idle_seconds, self.idle_cpu_percent) {
            writeln!(
                out,
                "  idle for {seconds:.1} s: driver's thread {percent:.2} % CPU, first frame after it {}",
                self.first_packet_after_idle_us
                    .map_or_else(|| "lost".to_owned(), |us| format!("{us:.0} us")),
            )?;
        }
        let latency = &self.latency_ns;
        writeln!(
            out,
            "  latency: min {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}, from {} departure",
            nanoseconds(latency.min),
            nanoseconds(latency.p50),
            nanoseconds(latency.p90),
            nanoseconds(latency.p99),
            nanoseconds(latency.p999),
            nanoseconds(latency.max),
            self.departure(),
        )?;
        writeln!(out)?;
        percentile_table(out, latencies)?;
        for violation in &self.violations {
            writeln!(out, "violation: {violation}")?;
        }
        out.flush()
    }

    /// What was run.
    fn about(&self) -> String {
        format!(
            "{}, {} mode, {} frames, {}, {} queue{}, seed {}: generator, forwarder and sink on VFs 0, 1, 2",
            self.model,
            self.mode,
            if self.frame == "imix" {
                "imix".to_owned()
            } else {
                format!("{}-byte", self.frame)
            },
            self.window.map_or_else(
                || format!("{} frames/s on schedule", self.rate),
                |window| format!("at most {window} frames under way")
            ),
            self.queues,
            if self.queues == 1 { "" } else { "s" },
            self.seed,
        )
    }

    /// The moment that latencies count from.
    const fn departure(&self) -> &'static str {
        if self.window.is_some() {
            "actual"
        } else {
            "scheduled"
        }
    }

    /// The same as is printed, with pictures.
    pub(super) fn page(&self, recorder: &Recorder) -> anyhow::Result<Page> {
        let accounts = &self.accounts;
        let mut page = Page::new("vfnic demo", &self.about());
        page.verdict(
            self.good(),
            if self.good() {
                "every frame accounted for"
            } else {
                "not accounted for"
            },
        );
        page.figure("received", accounts.received);
        page.figure("lost", accounts.lost);
        page.figure("end to end", quantity(self.mpps * 1e6, "pps"));
        page.figure(
            "CPU of the driver",
            format!("{:.0} %", self.cpu_percent.driver),
        );
        page.latency_figures(&self.latency_ns);
        let note = format!(
            "Share of frames, and how long they took at most: from their {} departure, through two VFs and the switch twice, to the sink.",
            self.departure()
        );
        page.percentiles("Latency", &note, &[("latency", recorder.total())])?;
        page.over_time(
            "Latency over time",
            "Of the frames of each moment.",
            recorder.moments(),
        )?;
        page.rate_over_time("Frames over time", recorder.moments())?;
        page.losses(
            &accounts.drops,
            accounts.unaccounted.try_into().unwrap_or_default(),
        )?;
        page.table(
            "Configuration",
            [
                ("model", self.model.to_owned()),
                ("mode", self.mode.to_owned()),
                ("frame", self.frame.clone()),
                ("rate", self.rate.clone()),
                ("queues", self.queues.to_string()),
                ("seed", self.seed.to_string()),
                ("seconds", self.seconds.to_string()),
                ("wake-ups", self.wakeups.to_string()),
            ],
        );
        for violation in &self.violations {
            page.table("Violation", [("", violation)]);
        }
        page.percentile_table("All percentiles", recorder.total())?;
        Ok(page)
    }

    /// Whether the run was as it should be.
    pub(super) fn good(&self) -> bool {
        self.accounts.balanced() && self.violations.is_empty()
    }

    /// Prints it for scripts.
    pub(super) fn json(&self) -> anyhow::Result<()> {
        output::json(self)
    }
}
