//! What a forwarder has done.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use vfnic::Port;

use super::Args;
use super::busy::Cost;
use super::lane::Lane;
use crate::apps::{End, counters, per_second, round};
use crate::drops;
use crate::output::{self, quantity};

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    mode: &'static str,
    ended_by: End,
    seconds: f64,
    forwarded: u64,
    mpps: f64,
    zero_copy: bool,
    ways: Vec<Way>,
    /// Frames dropped, by reason and all ports together.
    drops: BTreeMap<String, u64>,
    cpu_percent: f64,
    wakeups: u64,
    /// With --busy: what bursts cost.
    #[serde(flatten)]
    cost: Option<Cost>,
    ports: Vec<PortReport>,
}

#[derive(Debug, Serialize)]
struct Way {
    from: String,
    to: String,
    forwarded: u64,
    mpps: f64,
    /// Received, and no room to send it until the end.
    waiting: usize,
}

#[derive(Debug, Serialize)]
struct PortReport {
    device: String,
    mac: String,
    link_up: bool,
    counters: BTreeMap<String, u64>,
}

impl Report {
    pub(super) fn new(
        args: &Args,
        ports: &[Port],
        lanes: &[Lane],
        ended_by: End,
        time: Duration,
        cpu_percent: f64,
        wakeups: u64,
    ) -> Self {
        let mpps = |count| round(per_second(count, time) / 1e6, 6);
        let forwarded = lanes.iter().map(Lane::forwarded).sum();
        let mut drops = BTreeMap::new();
        for port in ports {
            let stats = port.stats();
            for (reason, count) in drops::of_receiver(&stats).chain(drops::of_sender(&stats)) {
                *drops.entry(reason).or_default() += count;
            }
        }
        let unsendable: u64 = lanes.iter().map(Lane::unsendable).sum();
        if unsendable > 0 {
            drops.insert("unsendable".into(), unsendable);
        }
        Self {
            mode: args.receiving.waiting.mode.name(),
            ended_by,
            seconds: round(time.as_secs_f64(), 3),
            forwarded,
            mpps: mpps(forwarded),
            zero_copy: !lanes.iter().any(Lane::copies),
            ways: lanes
                .iter()
                .map(|lane| Way {
                    from: ports[lane.from()].name().to_owned(),
                    to: ports[lane.to()].name().to_owned(),
                    forwarded: lane.forwarded(),
                    mpps: mpps(lane.forwarded()),
                    waiting: lane.waiting(),
                })
                .collect(),
            drops,
            cpu_percent: round(cpu_percent, 1),
            wakeups,
            cost: None,
            ports: ports
                .iter()
                .map(|port| PortReport {
                    device: port.name().to_owned(),
                    mac: port.mac().0.to_string(),
                    link_up: port.link().is_up(),
                    counters: counters(&port.stats()),
                })
                .collect(),
        }
    }

    /// The same with what `--busy` measured.
    pub(super) fn busy(mut self, cost: Cost) -> Self {
        self.cost = Some(Cost {
            busy_ns: round(cost.busy_ns, 2),
            busy_burst: round(cost.busy_burst, 1),
            empty_ns: round(cost.empty_ns, 1),
            ..cost
        });
        self
    }

    pub(super) fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        let mut lines = Vec::new();
        for way in &self.ways {
            lines.push(format!(
                "{} to {}: {} frames, {}",
                way.from,
                way.to,
                way.forwarded,
                quantity(way.mpps * 1e6, "pps")
            ));
            if way.waiting > 0 {
                lines.push(format!(
                    "  not sent {:>14}  no room until the end",
                    way.waiting
                ));
            }
        }
        for (reason, count) in &self.drops {
            lines.push(format!("  dropped  {count:>14}  {reason}"));
        }
        lines.push(format!(
            "{} frames in {:.2} s ({}), {}; CPU {:.0} %, {} wake-ups{}",
            self.forwarded,
            self.seconds,
            match self.ended_by {
                End::Duration => "time was up",
                End::Count => "count reached",
                End::Signal => "interrupted",
                End::Gone => "a device went away",
                End::Failed => "output failed",
            },
            quantity(self.mpps * 1e6, "pps"),
            self.cpu_percent,
            self.wakeups,
            if self.zero_copy {
                ""
            } else {
                "; frames were copied: the ports share no memory"
            }
        ));
        if let Some(cost) = self.cost {
            lines.push(format!(
                "{} ns a frame in bursts that had any, of {} frames; {} looks that found none took {} ns each",
                cost.busy_ns, cost.busy_burst, cost.empty_polls, cost.empty_ns
            ));
        }
        output::line(lines.join("\n"))
    }
}
