//! What was sent, and when.

use std::collections::BTreeMap;
use std::io::Write;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::Serialize;
use vfnic::Port;

use super::feed::Feed;
use super::timing::Timing;
use super::{Args, frame_text};
use crate::apps::{End, counters, per_second, round};
use crate::drops;
use crate::output::{self, nanoseconds, quantity};
use crate::report::{Latency, Page, Recorder, percentile_table};

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    device: String,
    source: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    destination: Option<String>,
    /// Frame length, or the capture's name.
    frame: String,
    rate: String,
    ended_by: End,
    /// From the first departure to the last.
    seconds: f64,
    sent: u64,
    /// Frames of the schedule that there was no time or room for.
    behind: u64,
    mpps: f64,
    gbit_per_second: f64,
    /// Times the card was told of frames.
    bursts: u64,
    gap_ns: Latency,
    /// All zero when there is no schedule.
    late_ns: Latency,
    drops: BTreeMap<String, u64>,
    link_up: bool,
    counters: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(
        args: &Args,
        port: &Port,
        feed: &Feed,
        timing: &Timing,
        gaps: &Histogram<u64>,
        end: End,
    ) -> Self {
        let stats = port.stats();
        let time = Duration::from_nanos(timing.span());
        let sent = feed.sent();
        // The first frame starts the time and is not part of the rate.
        let rate = per_second(sent.saturating_sub(1), time);
        let bytes = stats.get("tx0_bytes").unwrap_or(0);
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let bits = if sent == 0 {
            0.0
        } else {
            // With the CRC, which the card adds.
            8.0 * rate * (bytes as f64 / sent as f64 + 4.0)
        };
        let mut drops = BTreeMap::new();
        for (reason, count) in drops::of_sender(&stats) {
            *drops.entry(reason).or_default() += count;
        }
        Self {
            device: port.name().to_owned(),
            source: args.source.unwrap_or_else(|| port.mac().0).to_string(),
            destination: args.to.map(|to| to.to_string()),
            frame: args.pcap.as_ref().map_or_else(
                || frame_text(args.traffic.frame),
                |path| path.display().to_string(),
            ),
            rate: args.traffic.rate.to_string(),
            ended_by: end,
            seconds: round(time.as_secs_f64(), 6),
            sent,
            behind: match args.run.ending.duration {
                Some(duration) if end == End::Duration => feed.behind(duration),
                _ => 0,
            },
            mpps: round(rate / 1e6, 6),
            gbit_per_second: round(bits / 1e9, 6),
            bursts: timing.bursts(),
            gap_ns: Latency::from(gaps),
            late_ns: Latency::from(&timing.lateness),
            drops,
            link_up: port.link().is_up(),
            counters: counters(&stats),
        }
    }

    pub(super) fn print(
        &self,
        json: bool,
        timing: &Timing,
        gaps: &Histogram<u64>,
    ) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        let mut out = std::io::stdout().lock();
        writeln!(
            out,
            "{}: {} frames ({}) in {:.3} s, {}, {:.3} Gbit/s, {} bursts",
            self.device,
            self.sent,
            self.frame,
            self.seconds,
            quantity(self.mpps * 1e6, "pps"),
            self.gbit_per_second,
            self.bursts,
        )?;
        if self.behind > 0 {
            writeln!(
                out,
                "  not sent {:>14}  the schedule was too fast for this machine or this card",
                self.behind
            )?;
        }
        for (reason, count) in &self.drops {
            writeln!(out, "  dropped  {count:>14}  {reason}")?;
        }
        for (what, latency, histogram) in [
            ("gaps", &self.gap_ns, gaps),
            ("late by", &self.late_ns, &timing.lateness),
        ] {
            if histogram.is_empty() {
                continue;
            }
            writeln!(
                out,
                "  {what:<8} min {}, p50 {}, p90 {}, p99 {}, p99.9 {}, max {}",
                nanoseconds(latency.min),
                nanoseconds(latency.p50),
                nanoseconds(latency.p90),
                nanoseconds(latency.p99),
                nanoseconds(latency.p999),
                nanoseconds(latency.max),
            )?;
        }
        if !gaps.is_empty() {
            writeln!(out, "\nGaps between departures:")?;
            percentile_table(&mut out, gaps)?;
        }
        out.flush()?;
        Ok(())
    }

    /// The same with pictures.
    pub(super) fn page(
        &self,
        args: &Args,
        timing: &Timing,
        recorder: &Recorder,
    ) -> anyhow::Result<Page> {
        let to = self.destination.as_deref().unwrap_or("as captured");
        let mut page = Page::new(
            "vfnic gen",
            &format!("{}, from {} to {to}", self.device, self.source),
        );
        let kept = self.behind == 0 && self.drops.is_empty();
        page.verdict(kept, if kept { "all sent" } else { "not all sent" });
        page.figure("sent", self.sent);
        page.figure("rate", quantity(self.mpps * 1e6, "pps"));
        page.figure("on the wire", quantity(self.gbit_per_second * 1e9, "bit/s"));
        page.figure("bursts", self.bursts);
        page.latency_figures(&self.gap_ns);
        page.percentiles(
            "Gaps between departures",
            "Share of gaps, and how long they were at most. Frames that the card was told of together have none between them. Late is by how much frames left after they were due.",
            &[("gaps", recorder.total()), ("late", &timing.lateness)],
        )?;
        page.over_time(
            "Gaps over time",
            "Of the frames of each moment.",
            recorder.moments(),
        )?;
        page.rate_over_time("Frames over time", recorder.moments())?;
        let mut losses = self.drops.clone();
        if self.behind > 0 {
            losses.insert("not sent: the schedule was too fast".into(), self.behind);
        }
        page.losses(&losses, 0)?;
        page.table(
            "Configuration",
            [
                ("device", self.device.clone()),
                ("frame", self.frame.clone()),
                ("rate", self.rate.clone()),
                ("flows", args.flows.to_string()),
                ("seed", args.traffic.seed.to_string()),
                (
                    "VLAN",
                    args.vlan
                        .map_or_else(|| "none".into(), |tci| (tci & 0xfff).to_string()),
                ),
                ("ended by", format!("{:?}", self.ended_by).to_lowercase()),
                ("seconds", self.seconds.to_string()),
            ],
        );
        page.table("Counters", &self.counters);
        page.percentile_table("All percentiles of the gaps", recorder.total())?;
        Ok(page)
    }
}
