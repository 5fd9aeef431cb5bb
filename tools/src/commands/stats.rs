//! `vfnic stats`: a VF's counters, rates and drops.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::{Poller, Port, PortConfig, Promisc};

use crate::apps::{End, Ports, Stop, http, per_second, round};
use crate::args::{self, Mode, OneVf};
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::drops;
use crate::output::{self, quantity};

/// Holds a VF and shows what its counters say: rates, and reasons for drops
///
/// Frames that come in are counted and dropped. While it runs nobody else has the VF; programs that use this library show
/// the counters of their own ports.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    vf: OneVf,
    /// Print rates every so often, until SIGINT or --duration
    #[arg(long, value_name = "TIME", value_parser = args::duration, conflicts_with = "json")]
    watch: Option<Duration>,
    /// How long to count; a second unless given, without end with --watch or --metrics
    #[arg(long, value_name = "TIME", value_parser = args::duration)]
    duration: Option<Duration>,
    /// Serve the counters over HTTP, for Prometheus, on HOST:PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Ask the PF for frames to others as well
    #[arg(long)]
    promiscuous: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic stats --device 0000:31:10.1
  vfnic stats --device 0000:31:10.1 --watch 1s
  vfnic stats --device 0000:31:10.1 --metrics 127.0.0.1:9101
  vfnic stats --device sim:i350 --json

Exit status 0 when it ended by time or SIGINT, 1 when the device went away.";

/// Longest time between two looks at the port, and at whether to end.
const TICK: Duration = Duration::from_millis(50);

/// The counters of a moment.
#[derive(Clone, Debug, Default, Serialize)]
struct Snapshot {
    device: String,
    state: String,
    link_up: bool,
    mbps: u32,
    seconds: f64,
    counters: BTreeMap<String, u64>,
    drops: BTreeMap<String, u64>,
    /// Since the one before.
    rates: Rates,
}

#[derive(Clone, Copy, Debug, Default, Serialize)]
struct Rates {
    rx_pps: f64,
    rx_bps: f64,
    tx_pps: f64,
    tx_bps: f64,
}

impl Snapshot {
    fn of(port: &Port, at: Duration, before: &Self) -> Self {
        let stats = port.stats();
        let mut dropped = BTreeMap::new();
        for (reason, count) in drops::of_receiver(&stats).chain(drops::of_sender(&stats)) {
            *dropped.entry(reason).or_default() += count;
        }
        let counters: BTreeMap<String, u64> = stats
            .iter()
            .map(|(name, count)| (name.to_owned(), count))
            .collect();
        let time = Duration::from_secs_f64((at.as_secs_f64() - before.seconds).max(0.0));
        let rate = |name: &str, unit: u64| {
            let now = counters.get(name).copied().unwrap_or(0);
            let then = before.counters.get(name).copied().unwrap_or(0);
            round(
                per_second(now.saturating_sub(then).saturating_mul(unit), time),
                1,
            )
        };
        let rates = Rates {
            rx_pps: rate("rx_packets", 1),
            rx_bps: rate("rx_bytes", 8),
            tx_pps: rate("tx_packets", 1),
            tx_bps: rate("tx_bytes", 8),
        };
        let (link_up, mbps) = match port.link() {
            vfnic::Link::Up { mbps, .. } => (true, mbps),
            vfnic::Link::Down => (false, 0),
        };
        Self {
            device: port.name().to_owned(),
            state: port.state().to_string(),
            link_up,
            mbps,
            seconds: round(at.as_secs_f64(), 3),
            counters,
            drops: dropped,
            rates,
        }
    }

    fn line(&self) -> String {
        let rates = &self.rates;
        let dropped: u64 = self.drops.values().sum();
        format!(
            "{:8.1} s  {:<12} rx {:>12} {:>12}  tx {:>12} {:>12}  {dropped} dropped",
            self.seconds,
            self.state,
            quantity(rates.rx_pps, "pps"),
            quantity(rates.rx_bps, "bit/s"),
            quantity(rates.tx_pps, "pps"),
            quantity(rates.tx_bps, "bit/s"),
        )
    }

    fn text(&self) -> String {
        let mut lines = vec![format!(
            "{}: {}, {}",
            self.device,
            self.state,
            if self.link_up {
                format!("{} Mb/s", self.mbps)
            } else {
                "no link".into()
            }
        )];
        // All of them, as `ethtool -S` does: a zero says that this was looked for and did not happen, and what a script looks
        // for is there from the first call on. What was dropped, and why, follows without zeros.
        for (name, count) in &self.counters {
            lines.push(format!("  {name:<24}{count:>16}"));
        }
        for (reason, count) in &self.drops {
            lines.push(format!("  dropped {reason:<16}{count:>16}"));
        }
        lines.push(self.line());
        lines.join("\n")
    }

    /// As metrics of Prometheus.
    fn metrics(&self) -> String {
        let mut text = String::new();
        let device = self.device.replace('\\', "\\\\").replace('"', "\\\"");
        let _ = writeln!(
            text,
            "# HELP vfnic_port_link_up Whether the link is up.\n# TYPE vfnic_port_link_up gauge\nvfnic_port_link_up{{device=\"{device}\"}} {}",
            u8::from(self.link_up)
        );
        let mut family = |name: &str, help: &str, label: &str, values: &BTreeMap<String, u64>| {
            let _ = writeln!(
                text,
                "# HELP vfnic_port_{name} {help}\n# TYPE vfnic_port_{name} counter"
            );
            for (key, count) in values {
                let _ = writeln!(
                    text,
                    "vfnic_port_{name}{{device=\"{device}\",{label}=\"{key}\"}} {count}"
                );
            }
        };
        family(
            "counter_total",
            "Counters of the hardware (rx_, tx_) and of each queue (rx0_, tx0_).",
            "name",
            &self.counters,
        );
        family(
            "dropped_frames_total",
            "Frames dropped by the driver, by reason.",
            "reason",
            &self.drops,
        );
        text
    }
}

/// Runs it.
///
/// # Errors
///
/// When the port or the address cannot be had.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let endless = args.watch.is_some() || args.metrics.is_some();
    let duration = args
        .duration
        .or_else(|| (!endless).then_some(Duration::from_secs(1)));
    let mut stop = Stop::new(duration)?;
    let mut ports = Ports::open(
        std::slice::from_ref(&args.vf.device),
        &PortConfig::default(),
    )?;
    let mut poller = Poller::new(Mode::Interrupt.into())?;
    for pair in ports.all()[0].start()? {
        poller.add(pair)?;
    }
    if args.promiscuous {
        ports.all()[0].set_promiscuous(Promisc::All)?;
    }
    let mut batch = ports.all()[0].batch(64);
    stop.start();
    let first = Snapshot::of(&ports.all()[0], Duration::ZERO, &Snapshot::default());
    let shared = Arc::new(Mutex::new(first.clone()));
    if let Some(address) = args.metrics {
        let shared = Arc::clone(&shared);
        let text = move || {
            shared
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .metrics()
        };
        let bound =
            http::serve(address, text).with_context(|| format!("cannot listen on {address}"))?;
        output::line(format_args!("metrics on http://{bound}/metrics"))?;
    }
    confine::enter(Keep::Nothing);
    let mut before = first;
    let mut next = args.watch;
    let end = loop {
        let turn = poller.turn(Some(stop.left(TICK)), |index, pairs| {
            let count = pairs[index].rx.receive(&mut batch)?;
            batch.clear();
            Ok(count)
        });
        if let Some(end) = End::of(turn.and_then(|_| ports.look_after()))? {
            break end;
        }
        let now = stop.elapsed();
        if args.metrics.is_some() {
            let snapshot = Snapshot::of(&ports.all()[0], now, &before);
            *shared.lock().unwrap_or_else(PoisonError::into_inner) = snapshot;
        }
        if let (Some(at), Some(every)) = (next, args.watch)
            && now >= at
        {
            next = Some(at + every);
            before = look(&ports.all()[0], now, &before);
            output::line(before.line())?;
        }
        if let Some(end) = stop.due() {
            break end;
        }
    };
    let last = look(&ports.all()[0], stop.elapsed(), &before);
    drop((poller, batch));
    if end == End::Gone {
        drop(ports);
    } else {
        ports.close()?;
    }
    if args.vf.json {
        output::json(&last)?;
    } else {
        output::line(last.text())?;
    }
    Ok((end != End::Gone).into())
}

/// The counters as the hardware has them now.
fn look(port: &Port, now: Duration, before: &Snapshot) -> Snapshot {
    if let Err(error) = port.refresh_stats() {
        log::debug!("{error}");
    }
    Snapshot::of(port, now, before)
}
