//! `vfnic capture`: what a VF receives, into files or onto the screen.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context;
use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::{Batch, Frame, Poller, PortConfig, Promisc};

use crate::apps::capture_file::{About, Files, Record, Writer};
use crate::apps::packet::{Filter, Packet, Protocol};
use crate::apps::{End, Ports, Stop, counters};
use crate::args::{OnOneVf, Receiving};
use crate::cli::Outcome;
use crate::confine::{self, Keep};
use crate::live::LiveLine;
use crate::output;
use crate::traffic::frame::MAX_LEN;

/// Captures what a VF receives, as pcapng with nanoseconds, or as a line for each frame
///
/// A VF sees what the card's switch gives it: frames to its own addresses, broadcasts, the multicast groups it joined,
/// and with --promiscuous more, if the administrator trusts it; never what it sends itself. VLAN tags that the card took off
/// are put back. These cards stamp no frames: the time is that at which the driver saw the frame, the same for all of a
/// batch. While it runs nobody else has the VF.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(flatten)]
    run: OnOneVf,
    /// Write to FILE; without it, print a line for each frame
    #[arg(long, short, value_name = "FILE")]
    write: Option<PathBuf>,
    /// Begin the next file, FILE-00001 and so on, when one has so many MiB
    #[arg(long, value_name = "MIB", requires = "write", value_parser = clap::value_parser!(u32).range(1..))]
    file_size: Option<u32>,
    /// Keep so many files, the newest; the oldest is written over
    #[arg(long, value_name = "N", requires = "file_size", value_parser = clap::value_parser!(u32).range(2..))]
    files: Option<u32>,
    /// Keep so many bytes of each frame
    #[arg(long, value_name = "BYTES", value_parser = clap::value_parser!(u32).range(14..))]
    snap: Option<u32>,
    /// Only frames from or to this address
    #[arg(long, value_name = "IP")]
    host: Option<IpAddr>,
    /// Only frames from or to this port
    #[arg(long, value_name = "N")]
    port: Option<u16>,
    /// Only frames of this protocol
    #[arg(long, value_enum)]
    proto: Option<Protocol>,
    /// Join these VLANs
    #[arg(long, value_name = "ID,…", value_delimiter = ',', value_parser = clap::value_parser!(u16).range(1..4095))]
    vlan: Vec<u16>,
    /// Ask the PF for frames to others as well
    #[arg(long)]
    promiscuous: bool,
    #[command(flatten)]
    receiving: Receiving,
}

const EXAMPLES: &str = "\
Examples:
  vfnic capture --device 0000:31:10.1 --write all.pcapng --duration 1m
  vfnic capture --device 0000:31:10.1 --proto udp --port 53
  vfnic capture --device 0000:31:10.1 --write ring.pcapng --file-size 64 --files 10 --vlan 100,200
  vfnic capture --device sim:82599 --duration 1s

Exit status 0 when it ended by time, count or SIGINT, 1 when the device went away.";

const LINK: Duration = Duration::from_secs(5);
/// Longest time between two looks at the port, and at whether to end.
const TICK: Duration = Duration::from_millis(50);
/// Time after which what was captured is in the file, whatever comes.
const LIVE: Duration = Duration::from_millis(500);
/// Frames taken at a time.
const BURST: usize = 64;

/// The object that `--json` prints.
#[derive(Debug, Serialize)]
struct Report {
    device: String,
    ended_by: End,
    received: u64,
    captured: u64,
    /// What such a capture contains.
    sees: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    file: Option<String>,
    files: u32,
    bytes_written: u64,
    counters: std::collections::BTreeMap<String, u64>,
}

/// Runs it.
///
/// # Errors
///
/// When the port or a file cannot be had.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let stop = Stop::new(args.run.ending.duration)?;
    let config = PortConfig::default()
        .mtu(args.receiving.mtu)
        .rings(2048, 64);
    let ports = Ports::open(std::slice::from_ref(&args.run.device), &config)?;
    let port = &ports.all()[0];
    let mut poller = Poller::new(args.receiving.waiting.mode.into())?;
    for pair in port.start()? {
        poller.add(pair)?;
    }
    for vlan in &args.vlan {
        port.add_vlan(*vlan)?;
    }
    if args.promiscuous {
        port.set_promiscuous(Promisc::All)
            .with_context(|| format!("{}: cannot be promiscuous", port.name()))?;
    }
    for name in ports.wait_for_links(LINK)? {
        log::warn!("{name}: no link after {LINK:?}; going on without");
    }
    let about = About {
        interface: port.name().to_owned(),
        description: format!("{} VF {}", port.model().name(), port.mac().0),
        snap: args.snap.unwrap_or(0),
    };
    let writer = args.write.clone().map(|path| {
        let files = Files {
            path,
            limit: args.file_size.map_or(0, |mib| u64::from(mib) << 20),
            count: args.files.unwrap_or(0),
        };
        Writer::create(files, about)
    });
    let batch = port.batch(BURST);
    let mut run = Run {
        filter: Filter {
            host: args.host,
            port: args.port,
            protocol: args.proto,
        },
        // Lines of frames and a live line do not go together.
        live: LiveLine::new(args.run.ending.json || args.write.is_none()),
        writer: writer.transpose()?,
        scratch: Vec::with_capacity(MAX_LEN + 4),
        received: 0,
        captured: 0,
        next_live: LIVE,
        args,
        stop,
        ports,
    };
    let end = run.capture(&mut poller, batch);
    drop(poller);
    match end {
        Ok(end) => run.finish(end),
        // A full disk ends the capture and not its report: what is in the file by now counts.
        Err(error) => {
            run.finish(End::Failed)?;
            Err(error)
        }
    }
}

/// A run.
#[derive(Debug)]
struct Run {
    args: Args,
    stop: Stop,
    ports: Ports,
    filter: Filter,
    live: LiveLine,
    writer: Option<Writer>,
    /// A frame in one piece, with its tag.
    scratch: Vec<u8>,
    received: u64,
    captured: u64,
    next_live: Duration,
}

impl Run {
    fn capture(&mut self, poller: &mut Poller, mut batch: Batch) -> anyhow::Result<End> {
        let dir = match self.args.write.as_deref().and_then(Path::parent) {
            Some(here) if here.as_os_str().is_empty() => Some(Path::new(".")),
            dir => dir,
        };
        confine::enter(match (dir, self.args.file_size) {
            // The files that come after the first.
            (Some(dir), Some(_)) => Keep::CreateBelow(dir),
            _ => Keep::Nothing,
        });
        self.stop.start();
        loop {
            let wait = self.stop.left(TICK);
            let mut failed = None;
            let turn = poller.turn(Some(wait), |index, pairs| {
                let count = pairs[index].rx.receive(&mut batch)?;
                if count > 0 && failed.is_none() {
                    failed = self.take(&batch).err();
                }
                batch.clear();
                Ok(count)
            });
            if let Some(error) = failed {
                return Err(error);
            }
            if let Some(end) = End::of(turn)? {
                return Ok(end);
            }
            if let Some(end) = self.tick()? {
                return Ok(end);
            }
        }
    }

    /// Takes the frames of a batch that are wanted.
    fn take(&mut self, batch: &Batch) -> anyhow::Result<()> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let nanoseconds = now.map_or(0, |now| u64::try_from(now.as_nanos()).unwrap_or(u64::MAX));
        self.received += batch.len() as u64;
        for frame in batch.frames() {
            if self.is_full() {
                return Ok(());
            }
            whole(&frame, &mut self.scratch);
            let packet = || Packet::of(&self.scratch);
            if !self.filter.takes_all() && !self.filter.takes(&packet()) {
                continue;
            }
            self.captured += 1;
            let original_len = u32::try_from(self.scratch.len()).unwrap_or(u32::MAX);
            let kept = self.args.snap.map_or(usize::MAX, |snap| snap as usize);
            match &mut self.writer {
                Some(writer) => writer.frame(Record {
                    nanoseconds,
                    data: &self.scratch[..self.scratch.len().min(kept)],
                    original_len,
                })?,
                None if self.args.run.ending.json => {}
                None => output::line(format_args!(
                    "{}.{:09} {}",
                    nanoseconds / 1_000_000_000,
                    nanoseconds % 1_000_000_000,
                    packet()
                ))?,
            }
        }
        Ok(())
    }

    fn is_full(&self) -> bool {
        self.args
            .run
            .ending
            .count
            .is_some_and(|count| self.captured >= count)
    }

    fn tick(&mut self) -> anyhow::Result<Option<End>> {
        if let Some(end) = End::of(self.ports.look_after())? {
            return Ok(Some(end));
        }
        let now = self.stop.elapsed();
        if now >= self.next_live {
            self.next_live = now + LIVE;
            if let Some(writer) = &mut self.writer {
                writer.flush()?;
            }
            self.live.show(format!(
                "{:.0} s  {} captured of {} received",
                now.as_secs_f64(),
                self.captured,
                self.received
            ));
        }
        if self.is_full() {
            return Ok(Some(End::Count));
        }
        Ok(self.stop.due())
    }

    fn finish(mut self, ended_by: End) -> anyhow::Result<Outcome> {
        if let Some(writer) = self.writer.as_mut().filter(|_| ended_by != End::Failed) {
            writer.flush()?;
        }
        let port = &self.ports.all()[0];
        let _ = port.refresh_stats();
        let report = Report {
            device: port.name().to_owned(),
            ended_by,
            received: self.received,
            captured: self.captured,
            sees: if self.args.promiscuous {
                "what passes the card's switch in its VLANs, as far as the PF lets a trusted VF; not what this VF sends"
            } else {
                "frames to this VF's own addresses, and broadcasts; not those to others, and not what this VF sends"
            },
            file: self
                .writer
                .as_ref()
                .map(|writer| writer.path().display().to_string()),
            files: self.writer.as_ref().map_or(0, Writer::files),
            bytes_written: self.writer.as_ref().map_or(0, Writer::bytes),
            counters: counters(&port.stats()),
        };
        drop(self.live);
        if ended_by == End::Gone {
            drop(self.ports);
        } else {
            self.ports.close()?;
        }
        if self.args.run.ending.json {
            output::json(&report)?;
        } else {
            let files = report.file.map_or_else(String::new, |file| {
                format!("; {} bytes, last file {file}", report.bytes_written)
            });
            output::line(format_args!(
                "{} captured of {} received{files}\nIn it are {}.",
                report.captured, report.received, report.sees
            ))?;
        }
        Ok((ended_by != End::Gone).into())
    }
}

/// Puts a frame together as it was on the wire: in one piece, and with the tag that the card took off.
fn whole(frame: &Frame<'_>, to: &mut Vec<u8>) {
    to.clear();
    for segment in frame.segments() {
        to.extend_from_slice(segment);
    }
    if let Some(tci) = frame.vlan()
        && to.len() >= 12
    {
        let [high, low] = tci.to_be_bytes();
        to.splice(12..12, [0x81, 0x00, high, low]);
    }
}
