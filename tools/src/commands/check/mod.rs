//! `vfnic check`: frames both ways between two VFs, every one of them accounted for.

mod offloads;
mod requests;
mod soak;

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use clap::{Args as ClapArgs, ValueEnum};
use serde::Serialize;
use vfnic::{Poller, Port, PortConfig, QueueError, QueuePair};

use super::probe::wait_for_link;
use crate::args::{Mode, Traffic};
use crate::cli::{Outcome, UsageError};
use crate::device::Device;
use crate::drops;
use crate::live::LiveLine;
use crate::output;
use crate::traffic::{Accounts, Rate};

use offloads::Ask;
use requests::Requests;
use soak::Soak;

/// Sends checked frames both ways between two VFs
///
/// Every frame carries flow, sequence number and checksum; with --offload the hardware is asked for something, and what arrives is
/// compared, byte by byte, with what software makes of it.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    /// One VF
    #[arg(long, value_name = "SPEC")]
    device: Device,
    /// The other, on the same network
    #[arg(long, value_name = "SPEC")]
    peer: Device,
    /// Frames (with --offload csum or tso: requests) each way
    #[arg(long, value_name = "N", default_value_t = 100_000, value_parser = clap::value_parser!(u64).range(1..))]
    frames: u64,
    /// How to wait for frames
    #[arg(long, value_enum, default_value_t = Mode::Adaptive)]
    mode: Mode,
    #[command(flatten)]
    traffic: Traffic,
    /// Put this VLAN tag on every frame
    #[arg(long, value_name = "ID", value_parser = clap::value_parser!(u16).range(1..=4094))]
    vlan: Option<u16>,
    /// What to ask of the hardware
    #[arg(long, value_enum, default_value_t = Offload::None)]
    offload: Offload,
    /// Print one JSON object instead of text
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
Examples:
  vfnic check --device 0000:31:10.1 --peer 0000:31:10.3 --frames 1000000
  vfnic check --device sim:x540/0 --peer sim:x540/1 --frame imix --vlan 100
  vfnic check --device sim:82576/0 --peer sim:82576/1 --offload tso --json

Exit status 0 only when every frame arrived once, in order and intact.";

/// What is asked of the hardware.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Offload {
    /// Nothing
    None,
    /// IPv4, TCP and UDP checksums
    Csum,
    /// TCP segmentation
    Tso,
    /// Insertion of the VLAN tag
    Vlan,
}

impl Offload {
    const fn name(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Csum => "csum",
            Self::Tso => "tso",
            Self::Vlan => "vlan",
        }
    }
}

/// TIMEOUT: on emulated hardware a frame may take tens of milliseconds; a second is none of them.
const STALL: Duration = Duration::from_secs(1);
/// Stalls in a row after which it makes no sense to go on.
const MOST_STALLS: u32 = 3;
/// Time between two looks at the ports.
const CONTROL: Duration = Duration::from_millis(50);
/// Descriptors in each ring.
const RING: u16 = 512;
/// Bytes of a buffer.
const BUFFER: u32 = 2048;
/// Receive descriptors that frames under way may need, each way: less than a ring has, so that none is dropped.
const WINDOW: usize = 256;

/// What both kinds of run have in common.
trait Exchange {
    /// One step of the port with this index: sends what may be sent, checks what has come. Returns frames moved.
    fn work(&mut self, port: usize, pair: &mut QueuePair) -> Result<usize, QueueError>;
    /// Frames that arrived, both ways.
    fn arrived(&self) -> u64;
    /// Frames under way, both ways.
    fn under_way(&self) -> u64;
    /// Whether there is nothing more to send.
    fn all_sent(&self) -> bool;
    /// Takes what is under way for lost.
    fn write_off(&mut self);
    /// Makes no more frames.
    fn give_up(&mut self);
    /// The accounts of each direction: frames sent, lost and counted; called once, at the end.
    fn close(&mut self, drops: [Vec<(String, u64)>; 2]) -> [Accounts; 2];
}

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Summary {
    device: String,
    peer: String,
    mode: &'static str,
    frame: String,
    vlan: Option<u16>,
    offload: &'static str,
    frames: u64,
    seconds: f64,
    to_peer: Accounts,
    to_device: Accounts,
}

/// Runs it.
///
/// # Errors
///
/// When a device cannot be opened, or its link does not come up.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    if args.device.is(&args.peer) {
        return Err(UsageError(format!(
            "--peer and --device are both {}: name two different VFs",
            args.device
        ))
        .into());
    }
    if args.offload == Offload::Vlan && args.vlan.is_none() {
        return Err(UsageError("--offload vlan needs a tag: add --vlan ID".into()).into());
    }
    if args.traffic.rate != Rate::Max {
        return Err(UsageError(format!(
            "--rate {}: a check sends as fast as frames arrive; leave --rate out",
            args.traffic.rate
        ))
        .into());
    }
    let ports = [open(&args, &args.device)?, open(&args, &args.peer)?];
    let mut poller = Poller::new(args.mode.into())?;
    for port in &ports {
        let [pair] = <[QueuePair; 1]>::try_from(port.start()?)
            .map_err(|_| anyhow::anyhow!("{}: one queue pair wanted", port.name()))?;
        poller.add(pair)?;
    }
    for port in &ports {
        if !wait_for_link(port, Duration::from_secs(5))? {
            bail!(
                "{}: no link after 5 s; is the PF's interface up?",
                port.name()
            );
        }
    }
    let mut exchange: Box<dyn Exchange> = match args.offload {
        Offload::None => Box::new(Soak::new(&args, &ports)),
        Offload::Vlan => Box::new(Soak::new(&args, &ports)),
        Offload::Csum => Box::new(Requests::new(&args, &ports, Ask::Checksums)),
        Offload::Tso => Box::new(Requests::new(&args, &ports, Ask::Segments)),
    };
    let start = Instant::now();
    exchange_all(&args, &ports, &mut poller, exchange.as_mut())?;
    let seconds = start.elapsed().as_secs_f64();
    let drops = [0, 1].map(|from| {
        let (sender, receiver) = (&ports[from], &ports[1 - from]);
        drops::of_sender(&sender.stats())
            .chain(drops::of_receiver(&receiver.stats()))
            .collect()
    });
    let [to_peer, to_device] = exchange.close(drops);
    drop(exchange);
    drop(poller.into_queues());
    for port in ports {
        port.close()?;
    }
    let summary = Summary {
        device: args.device.to_string(),
        peer: args.peer.to_string(),
        mode: args.mode.name(),
        frame: args.traffic.frame.to_string(),
        vlan: args.vlan,
        offload: args.offload.name(),
        frames: args.frames,
        seconds,
        to_peer,
        to_device,
    };
    if args.json {
        output::json(&summary)?;
    } else {
        output::line(summary.text())?;
    }
    Ok(summary.good().into())
}

fn open(args: &Args, device: &Device) -> anyhow::Result<Port> {
    let config = PortConfig::default()
        .rings(RING, RING)
        .buffer_size(BUFFER)
        .mtu(args.traffic.frame.mtu());
    let port = device.open(config)?;
    if let Some(id) = args.vlan {
        port.add_vlan(id)
            .with_context(|| format!("{device}: cannot join VLAN {id}"))?;
    }
    Ok(port)
}

fn exchange_all(
    args: &Args,
    ports: &[Port; 2],
    poller: &mut Poller,
    exchange: &mut dyn Exchange,
) -> anyhow::Result<()> {
    let live = LiveLine::new(args.json);
    let mut last_arrival = Instant::now();
    let mut control = last_arrival;
    let mut stalls = 0;
    loop {
        if exchange.all_sent() && exchange.under_way() == 0 {
            return Ok(());
        }
        let arrived = exchange.arrived();
        poller.turn(Some(CONTROL), |index, pairs| {
            exchange.work(index, &mut pairs[index])
        })?;
        let now = Instant::now();
        if exchange.arrived() > arrived {
            last_arrival = now;
            stalls = 0;
        } else if now.duration_since(last_arrival) > STALL {
            log::debug!("{} frames did not arrive", exchange.under_way());
            exchange.write_off();
            last_arrival = now;
            stalls += 1;
            if stalls == MOST_STALLS {
                log::warn!("nothing arrives any more; giving up");
                exchange.give_up();
            }
        }
        if now >= control {
            control = now + CONTROL;
            live.show(format!(
                "{} frames arrived, {} under way",
                exchange.arrived(),
                exchange.under_way()
            ));
            for port in ports {
                port.poll_control()?;
                for event in port.events() {
                    log::info!("{}: {event:?}", port.name());
                }
            }
        }
    }
}

impl Summary {
    fn good(&self) -> bool {
        self.to_peer.flawless() && self.to_device.flawless()
    }

    fn text(&self) -> String {
        let way = |from: &str, to: &str, accounts: &Accounts| {
            let mut line = format!(
                "{from} → {to}: {} sent, {} received, {} lost, {} duplicated, {} reordered, {} corrupted",
                accounts.sent,
                accounts.received,
                accounts.lost,
                accounts.duplicated,
                accounts.reordered,
                accounts.corrupted
            );
            for (reason, count) in &accounts.drops {
                line.push_str(&format!("; {count} {reason}"));
            }
            line
        };
        format!(
            "{}\n{}\n{} in {:.2} s, {} mode",
            way(&self.device, &self.peer, &self.to_peer),
            way(&self.peer, &self.device, &self.to_device),
            if self.good() { "all well" } else { "not well" },
            self.seconds,
            self.mode
        )
    }
}
