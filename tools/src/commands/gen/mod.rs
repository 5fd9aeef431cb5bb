//! `vfnic gen`: sends generated or captured frames on a schedule, and says how well the schedule was kept.

mod feed;
mod replay;
mod report;
mod timing;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::bail;
use clap::Args as ClapArgs;
use vfnic::{MacAddr, Port, PortConfig, QueuePair};

use crate::apps::{End, Meter, Ports, Stop, monotonic};
use crate::args::{OnOneVf, Reports, Traffic};
use crate::cli::{Outcome, UsageError};
use crate::confine::{self, Keep};
use crate::live::LiveLine;
use crate::output::quantity;
use crate::report::{PageFile, Recorder};
use crate::traffic::FrameSizes;

use feed::Feed;
use report::Report;
use timing::Timing;

/// Sends frames on schedule, and reports how they really left
///
/// Frames carry flow, sequence number, time of departure and a checksum; `vfnic sink` checks all four. With a rate, frame N
/// is due N intervals after the start whatever happens before: a late one is sent late, not left out, and nobody's
/// schedule is moved for it. Reported are the gaps between departures as they were, zero within a burst, and by how much
/// frames were late. A departure is the moment at which the card was told of the frame: these cards stamp nothing.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    run: OnOneVf,
    /// Destination of the frames; with --pcap they keep the one they were captured with unless one is given
    #[arg(long, value_name = "MAC", required_unless_present = "pcap")]
    to: Option<MacAddr>,
    /// Source of the frames; the VF's own unless given, and cards drop frames with another as spoofed
    #[arg(long, value_name = "MAC")]
    source: Option<MacAddr>,
    #[command(flatten)]
    traffic: Traffic,
    /// Flows, taken in turn: each has an IP address and a port of its own
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    flows: u16,
    /// Have the card tag every frame with this VLAN, and this priority
    #[arg(long, value_name = "ID[:PRIORITY]", value_parser = vlan)]
    vlan: Option<u16>,
    /// Send the frames of this capture (pcap or pcapng) instead, at the intervals they were captured at or at --rate
    #[arg(long, value_name = "FILE", conflicts_with_all = ["frame", "flows", "vlan"])]
    pcap: Option<PathBuf>,
    /// Send the capture so many times
    #[arg(long, value_name = "N", default_value_t = 1, requires = "pcap", value_parser = clap::value_parser!(u64).range(1..))]
    times: u64,
    /// Leave captured frames their source address
    #[arg(long, requires = "pcap", conflicts_with = "source")]
    keep_source: bool,
    #[command(flatten)]
    reports: Reports,
}

const EXAMPLES: &str = "\
Examples:
  vfnic gen --device 0000:31:10.1 --to 02:00:00:00:00:0b --rate 250k --duration 10s
  vfnic gen --device 0000:31:10.1 --to 02:00:00:00:00:0b --frame imix --vlan 100:5 --hlog gaps.hlog
  vfnic gen --device 0000:31:10.1 --pcap session.pcapng --times 10
  vfnic gen --device sim:82599 --to 02:00:00:00:00:0b --rate 10k --duration 1s

Exit status 0 when it ended by time, count or SIGINT, 1 when there was no link or the device went away.";

/// How long to wait for the link.
const LINK: Duration = Duration::from_secs(5);
/// Longest sleep between two looks at the port and at whether to end.
const TICK: u64 = 50_000_000;
/// Steps between two looks when there is no pause.
const STEPS: u32 = 256;
/// A frame due later than this is slept for; what is left of the time is spent looking at the clock, because sleepers are
/// woken late.
const NAP: u64 = 300_000;
/// How much earlier than due to wake up.
const EARLY: u64 = 150_000;
/// How long the last frames may take to leave.
const LAST: u64 = 500_000_000;
/// Time between two updates of the live line.
const LIVE: Duration = Duration::from_millis(500);

/// Reads `100` or `100:5`; gives tag control information.
fn vlan(text: &str) -> Result<u16, String> {
    let (id, priority) = text.split_once(':').unwrap_or((text, "0"));
    match (id.parse::<u16>(), priority.parse::<u16>()) {
        (Ok(id @ 1..=4094), Ok(priority @ 0..=7)) => Ok(priority << 13 | id),
        _ => Err(format!(
            "`{text}` is not a VLAN from 1 to 4094, such as 100, or with a priority from 0 to 7, such as 100:5"
        )),
    }
}

/// Runs it.
///
/// # Errors
///
/// When the port, the capture or the log cannot be had, or there is no link.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stop = Stop::new(args.run.ending.duration)?;
    let capture = args.pcap.as_deref().map(replay::load).transpose()?;
    let mtu = capture
        .as_ref()
        .map_or_else(|| args.traffic.frame.mtu(), |capture| capture.mtu());
    let config = PortConfig::default().mtu(mtu).rings(64, 1024);
    let ports = Ports::open(std::slice::from_ref(&args.run.device), &config)?;
    let [port] = ports.all() else {
        bail!(UsageError("one port is wanted".into()));
    };
    let mut pairs = port.start()?;
    if let Some(tci) = args.vlan {
        port.add_vlan(tci & 0xFFF)?;
    }
    if !ports.wait_for_links(LINK)?.is_empty() {
        bail!(
            "{}: no link after {LINK:?}; is the PF's interface up and its cable in?",
            port.name()
        );
    }
    warn_of_source(&args, port);
    let feed = Feed::new(&args, port, capture);
    let page = PageFile::wanted(args.reports.html.as_deref())?;
    let recorder = args.reports.recorder(
        "vfnic gen: gaps between departures",
        args.run.ending.duration,
    )?;
    let mut run = Run {
        live: LiveLine::new(args.run.ending.json),
        recorder,
        page,
        timing: Timing::default(),
        meter: Meter::default(),
        next_live: LIVE,
        args,
        stop,
        ports,
        feed,
    };
    let end = match pairs.first_mut() {
        Some(pair) => run.send(pair)?,
        None => bail!("the port has no queues"),
    };
    run.finish(end, pairs)
}

/// Frames with somebody else's source address are dropped without a word, and may get the VF into trouble.
fn warn_of_source(args: &Args, port: &Port) {
    let own = port.mac().0;
    let other = match (args.source, args.keep_source) {
        (Some(source), _) if source != own => format!("from {source}"),
        (_, true) => "with the addresses they were captured with".to_owned(),
        _ => return,
    };
    log::warn!(
        "{}: frames are sent {other}, and the VF's own address is {own}; the card drops them as spoofed unless the PF has `spoofchk off` for this VF",
        port.name()
    );
}

/// A run.
#[derive(Debug)]
struct Run {
    args: Args,
    stop: Stop,
    ports: Ports,
    feed: Feed,
    timing: Timing,
    live: LiveLine,
    meter: Meter,
    recorder: Recorder,
    /// Where the report goes.
    page: Option<PageFile>,
    next_live: Duration,
}

impl Run {
    fn send(&mut self, pair: &mut QueuePair) -> anyhow::Result<End> {
        confine::enter(Keep::Nothing);
        self.stop.start();
        self.feed.start(monotonic());
        let mut received = self.ports.all()[0].batch(64);
        let end = loop {
            for _ in 0..STEPS {
                let now = monotonic();
                let sent = match self.feed.step(&mut pair.tx, now) {
                    Ok(sent) => sent,
                    Err(vfnic::QueueError::Gone) => return Ok(End::Gone),
                    Err(error) => return Err(error.into()),
                };
                if sent > 0 {
                    self.timing.departed(sent, monotonic(), &mut self.feed);
                } else if self.feed.is_over() || self.pause(now) {
                    break;
                }
            }
            // What comes in is nobody's, but a queue that is never looked at stays behind when the port recovers.
            while matches!(pair.rx.receive(&mut received), Ok(1..)) {
                received.clear();
            }
            if let Some(end) = self.tick()? {
                break end;
            }
        };
        self.drain(pair)?;
        Ok(end)
    }

    /// Until the next frame is due, or not at all. True when it has slept.
    fn pause(&self, now: u64) -> bool {
        let due = self.feed.next_due().unwrap_or(now);
        let left = due.saturating_sub(now);
        if left < NAP {
            std::hint::spin_loop();
            return false;
        }
        let nap = Duration::from_nanos((left - EARLY).min(TICK));
        std::thread::sleep(self.stop.left(nap));
        true
    }

    /// Everything but sending. Says why to end, if it is time to.
    fn tick(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(end) = End::of(self.ports.look_after())? {
            return Ok(Some(end));
        }
        let now = self.stop.elapsed();
        if now >= self.next_live {
            self.next_live = now + LIVE;
            let sent = self.feed.sent();
            let rate = self.meter.rate(now, sent);
            self.live.show(format!(
                "{:.0} s  {sent} sent  {}  {}",
                now.as_secs_f64(),
                quantity(rate, "pps"),
                self.timing.line()
            ));
        }
        if self.recorder.is_due(now) {
            let gaps = self.timing.take_gaps();
            self.recorder.take(&gaps, now)?;
        }
        if self.feed.is_over() {
            return Ok(Some(End::Count));
        }
        Ok(self.stop.due())
    }

    /// Hands over what was made, and lets it leave.
    fn drain(&mut self, pair: &mut QueuePair) -> anyhow::Result<()> {
        let start = monotonic();
        loop {
            let sent = self.feed.flush(&mut pair.tx)?;
            self.timing.departed(sent, monotonic(), &mut self.feed);
            if (self.feed.waiting() == 0 && pair.tx.pending() == 0) || monotonic() - start > LAST {
                return Ok(());
            }
            std::thread::sleep(Duration::from_micros(50));
            self.feed.reclaim(&mut pair.tx);
            if pair.tx.pending() < 32 && monotonic() - start > LAST / 10 {
                // Cards report finished frames in groups; the last few may never be.
                return Ok(());
            }
        }
    }

    /// Reports, and puts the port to rest.
    fn finish(mut self, end: End, pairs: Vec<QueuePair>) -> anyhow::Result<Outcome> {
        let now = self.stop.elapsed();
        self.recorder.finish(&self.timing.take_gaps(), now)?;
        drop(self.live);
        let port = &self.ports.all()[0];
        if let Err(error) = port.refresh_stats() {
            log::debug!("{error}");
        }
        let report = Report::new(
            &self.args,
            port,
            &self.feed,
            &self.timing,
            self.recorder.total(),
            end,
        );
        drop((self.feed, pairs));
        if end == End::Gone {
            drop(self.ports);
        } else {
            self.ports.close()?;
        }
        if let Some(page) = self.page.take() {
            report
                .page(&self.args, &self.timing, &self.recorder)?
                .write(page)?;
        }
        report.print(
            self.args.run.ending.json,
            &self.timing,
            self.recorder.total(),
        )?;
        Ok((end != End::Gone).into())
    }
}

/// Frame lengths as the user wrote them.
fn frame_text(sizes: FrameSizes) -> String {
    match sizes {
        FrameSizes::Imix => "imix".into(),
        FrameSizes::Fixed(len) => len.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vlans_have_a_priority_or_none() {
        assert_eq!(vlan("100"), Ok(100));
        assert_eq!(vlan("100:5"), Ok(0xA064));
        for bad in ["", "0", "4095", "5:8", "5:", ":1", "x"] {
            assert!(vlan(bad).is_err(), "{bad}");
        }
    }
}
