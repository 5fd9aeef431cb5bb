//! `vfnic sim serve`: the card.

use std::fs;
use std::io::{BufWriter, Read};
use std::net::SocketAddr;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use anyhow::Context;
use clap::{Args as ClapArgs, ValueEnum};
use serde_json::{Value, json};
use signal_hook::consts::{SIGINT, SIGTERM};
use vfnic_hw::Model;
use vfnic_sim::serve::{CardVf, Control, Counters, Limits, Server, Trace, show};
use vfnic_sim::{Card, FaultPlan, PfPersonality};

use super::metrics;
use super::wire::Wire;
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::output;

/// Serves a simulated card over vfio-user until SIGTERM or SIGINT, one socket a VF: DIR/vf0.sock and so on
///
/// Clients come and go; each VF serves one at a time. QEMU takes a VF with
/// -device '{"driver":"vfio-user-pci","socket":{"type":"unix","path":"DIR/vf0.sock"}}' and memory that the card can reach:
/// -object memory-backend-memfd,id=m,size=512M,share=on -machine memory-backend=m. When clients can connect it says so
/// on standard output.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub(super) struct Args {
    /// 82576, i350, 82599, x540 or x550
    #[arg(long)]
    model: Model,
    /// How many VFs
    #[arg(long, value_name = "N", default_value_t = 1)]
    vfs: u16,
    /// Where the sockets go; made if it is not there
    #[arg(long, value_name = "DIR")]
    socket_dir: PathBuf,
    /// What is on the wire: none, loopback, tap:NAME, pcap:IN[,OUT] or peer:DIR
    #[arg(long, value_name = "WIRE", default_value = "none")]
    uplink: Wire,
    /// What is behind the PF's own port: none or tap:NAME, the host's network stack
    #[arg(long, value_name = "WIRE", default_value = "none")]
    host: Wire,
    /// Which PF driver answers the VFs' mailboxes
    #[arg(long, value_name = "DRIVER", default_value = "linux")]
    pf: PfDriver,
    /// What goes wrong: rules `POINT=ACTION[,KEY=VALUE…]` separated by `;`, or @FILE with one a line
    #[arg(long, value_name = "PLAN", default_value = "", value_parser = fault_plan)]
    fault: FaultPlan,
    /// Writes every access of every client to FILE
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// Serves counters over HTTP, for Prometheus, on HOST:PORT
    #[arg(long, value_name = "ADDR")]
    metrics: Option<SocketAddr>,
    /// Decides everything random
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
}

const EXAMPLES: &str = "\
Examples:
  vfnic sim serve --model 82599 --vfs 2 --socket-dir /run/card
  vfnic sim serve --model x540 --socket-dir /run/card --uplink tap:card0
  vfnic sim serve --model i350 --socket-dir /run/card --trace /tmp/accesses --metrics 127.0.0.1:9100
  vfnic sim serve --model x550 --socket-dir /run/card --fault 'interrupt=drop,ppm=1000'";

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum PfDriver {
    /// ixgbe or igb of the Linux kernel
    Linux,
    /// DPDK's
    Dpdk,
}

fn fault_plan(text: &str) -> anyhow::Result<FaultPlan> {
    let text = match text.strip_prefix('@') {
        Some(path) => fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?,
        None => text.to_owned(),
    };
    Ok(text.parse()?)
}

pub(super) fn run(args: Args) -> anyhow::Result<Outcome> {
    // First, so that no signal finds half a server.
    let (mut told, tell) = UnixStream::pair().context("no socket for signals")?;
    for signal in [SIGTERM, SIGINT] {
        signal_hook::low_level::pipe::register(signal, tell.try_clone()?)
            .with_context(|| format!("cannot catch signal {signal}"))?;
    }
    let card = Card::builder(args.model)
        .vfs(args.vfs)
        .seed(args.seed)
        .faults(args.fault)
        .personality(match args.pf {
            PfDriver::Linux => PfPersonality::Linux,
            PfDriver::Dpdk => PfPersonality::Dpdk,
        })
        .threaded()
        .build()?;
    let card = Arc::new(card);
    if let Some(port) = args.uplink.connect(&card, &told)? {
        card.set_uplink(port);
    }
    if let Some(port) = args.host.connect(&card, &told)? {
        card.set_host(port);
    }
    let mut functions = CardVf::all(&card);
    let trace = match &args.trace {
        Some(path) => {
            let file = fs::File::create(path)
                .with_context(|| format!("cannot write {}", path.display()))?;
            let trace = Trace::new(Box::new(BufWriter::new(file)));
            functions = trace.over(args.model, functions);
            Some(trace)
        }
        None => None,
    };
    let server = Server::start(&args.socket_dir, functions, Limits::default())?;
    let counters = server.counters().to_vec();
    let sessions = counters.clone();
    let control = Control::start(&args.socket_dir, card.clone(), move |value| {
        add_sessions(value, &sessions)
    })?;
    if let Some(address) = args.metrics {
        let card = card.clone();
        let address = metrics::serve(address, move || {
            let mut value = show(&card);
            add_sessions(&mut value, &counters);
            value
        })
        .with_context(|| format!("cannot listen on {address}"))?;
        output::line(format_args!("metrics on http://{address}/metrics"))?;
    }
    // Clients bring what they want mapped: nothing has to be opened for them.
    confine::enter(Keep::RemoveBelow(&args.socket_dir));
    let dir = args.socket_dir.display();
    output::line(format_args!(
        "ready: {} with {} VFs in {dir}",
        args.model, args.vfs
    ))?;

    // Until a signal comes; one that came while a peer was waited for is still there.
    let _ = told.read(&mut [0]);
    drop(control);
    drop(server);
    if let Some(trace) = trace {
        trace.flush();
    }
    Ok(Outcome::Good)
}

/// Adds what happened on the sockets to what the card shows.
fn add_sessions(value: &mut Value, counters: &[Arc<Counters>]) {
    let vfs = value["vfs"].as_array_mut();
    for (vf, counters) in vfs.into_iter().flatten().zip(counters) {
        vf["sessions"] = json!({
            "sessions": counters.sessions.load(Ordering::Relaxed),
            "refused": counters.refused.load(Ordering::Relaxed),
            "requests": counters.requests.load(Ordering::Relaxed),
            "errors": counters.errors.load(Ordering::Relaxed),
            "broken": counters.broken.load(Ordering::Relaxed),
        });
    }
}
