//! `vfnic echo`: a station that answers.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::time::Duration;

use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::{Batch, Poller, PortConfig, QueueError, QueuePair};

use crate::apps::responder::{Answered, Responder};
use crate::apps::{End, Meter, Ports, Stop, counters};
use crate::args::{OnOneVf, Receiving};
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::live::LiveLine;
use crate::output::{self, quantity};

/// Answers ARP, pings and UDP datagrams, so that the other side has something to measure against
///
/// Answers are made in the very buffers the requests came in, and nothing is remembered. Fragments are not answered.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    run: OnOneVf,
    /// The address to answer for
    #[arg(long, value_name = "IP", default_value = "10.0.2.15")]
    address: Ipv4Addr,
    /// Answer datagrams to this UDP port only
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..))]
    udp_port: Option<u16>,
    #[command(flatten)]
    receiving: Receiving,
}

const EXAMPLES: &str = "\
Examples:
  vfnic echo --device 0000:31:10.1 --address 192.0.2.1
  vfnic echo --device vfio-user:/run/card/vf0.sock --address 192.0.2.1 --udp-port 7 --mode poll
  vfnic echo --device sim:82599 --duration 1s

Exit status 0 when it ended by time, count or SIGINT, 1 when the device went away.";

const LINK: Duration = Duration::from_secs(5);
/// Longest time between two looks at the port, and at whether to end.
const TICK: Duration = Duration::from_millis(50);
/// Pause before another try at a full transmit queue.
const TX_FULL: Duration = Duration::from_micros(20);
const LIVE: Duration = Duration::from_millis(500);
const BURST: usize = 64;

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    address: Ipv4Addr,
    ended_by: End,
    seconds: f64,
    #[serde(flatten)]
    answered: Answered,
    /// Answers there was no room for until the end.
    not_sent: usize,
    wakeups: u64,
    counters: BTreeMap<String, u64>,
}

/// Runs it.
///
/// # Errors
///
/// When the port cannot be had.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let mut stop = Stop::new(args.run.ending.duration)?;
    // A tag stays in the frame, which then is nobody's we answer: there is one network here.
    let config = PortConfig::default().mtu(args.receiving.mtu);
    let mut ports = Ports::open(std::slice::from_ref(&args.run.device), &config)?;
    let port = &ports.all()[0];
    let mut poller = Poller::new(args.receiving.waiting.mode.into())?;
    for pair in port.start()? {
        poller.add(pair)?;
    }
    for name in ports.wait_for_links(LINK)? {
        log::warn!("{name}: no link after {LINK:?}; going on without");
    }
    if !args.run.ending.json {
        output::line(format_args!(
            "{}: {} at {}",
            port.name(),
            args.address,
            port.mac().0
        ))?;
    }
    let mut station = Responder::new(port.mac().0, args.address, args.udp_port);
    let mut batch = port.batch(BURST);
    let live = LiveLine::new(args.run.ending.json);
    let mut meter = Meter::default();
    let mut next_live = LIVE;
    confine::enter(Keep::Nothing);
    stop.start();
    let end = loop {
        let most = if batch.is_empty() { TICK } else { TX_FULL };
        let turn = poller.turn(Some(stop.left(most)), |index, pairs| {
            answer(&mut station, &mut batch, &mut pairs[index])
        });
        if let Some(end) = End::of(turn.and_then(|_| ports.look_after()))? {
            break end;
        }
        let answered = station.answered().total();
        let now = stop.elapsed();
        if now >= next_live {
            next_live = now + LIVE;
            live.show(format!(
                "{:.0} s  {answered} answered  {}",
                now.as_secs_f64(),
                quantity(meter.rate(now, answered), "pps")
            ));
        }
        if args.run.ending.count.is_some_and(|count| answered >= count) && batch.is_empty() {
            break End::Count;
        }
        if let Some(end) = stop.due() {
            break end;
        }
    };
    drop(live);
    let port = &ports.all()[0];
    if end != End::Gone {
        // The last answers leave before the port is stopped.
        std::thread::sleep(Duration::from_millis(1));
        let _ = port.refresh_stats();
    }
    let report = Report {
        device: port.name().to_owned(),
        address: args.address,
        ended_by: end,
        seconds: crate::apps::round(stop.elapsed().as_secs_f64(), 3),
        answered: station.answered(),
        not_sent: batch.len(),
        wakeups: poller.stats().wakeups,
        counters: counters(&port.stats()),
    };
    drop((poller, batch));
    if end == End::Gone {
        drop(ports);
    } else {
        ports.close()?;
    }
    report.print(args.run.ending.json)?;
    Ok((end != End::Gone).into())
}

/// Answers what has come. While answers wait for room nothing new is taken.
fn answer(
    station: &mut Responder,
    batch: &mut Batch,
    pair: &mut QueuePair,
) -> Result<usize, QueueError> {
    if batch.is_empty() {
        if pair.rx.receive(batch)? == 0 {
            pair.tx.reclaim(batch);
            return Ok(0);
        }
        batch.retain_mut(|frame| frame.vlan().is_none() && station.answer(frame.data_mut()));
        if batch.is_empty() {
            // What came was looked at, and that is work.
            return Ok(1);
        }
    }
    pair.tx.send(batch)
}

impl Report {
    fn print(&self, json: bool) -> anyhow::Result<()> {
        if json {
            return output::json(self);
        }
        let answered = &self.answered;
        output::line(format_args!(
            "answered in {:.2} s: {} ARP, {} ICMP, {} UDP; ignored {}; {} wake-ups",
            self.seconds, answered.arp, answered.icmp, answered.udp, answered.ignored, self.wakeups
        ))
    }
}
