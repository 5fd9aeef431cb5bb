//! Two ports and trials between them: what throughput, RFC 2544's search and back-to-back bursts are made of.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use serde::Serialize;
use vfnic::{Link, Port, PortConfig, PortStats, QueueCount, QueuePair};

use crate::apps::{Ports, monotonic, per_second, round};
use crate::cli::UsageError;
use crate::confine::{self, Keep};
use crate::device::Device;
use crate::drops;
use crate::output;
use crate::report::PageFile;
use crate::roles::{BURST, Sink, Source};
use crate::traffic::{
    Checker, CheckerConfig, FrameSizes, Generator, GeneratorConfig, Identity, Pacer, Rate,
};

/// Where from, where to, and what.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct Path {
    /// The VF that sends
    #[arg(long, value_name = "SPEC", default_value = "sim:82599/0")]
    pub(super) device: Device,
    /// The VF that receives
    #[arg(long, value_name = "SPEC", default_value = "sim:82599/1")]
    pub(super) peer: Device,
    /// Where the device sends to; a forwarder between the two, say [default: the peer]
    #[arg(long, value_name = "MAC")]
    to: Option<vfnic::MacAddr>,
    /// Frame lengths in bytes, CRC included, or `imix`
    #[arg(
        long,
        value_name = "LENGTH,…",
        value_delimiter = ',',
        default_value = "64,128,256,512,1024,1280,1518"
    )]
    pub(super) frame: Vec<FrameSizes>,
    /// Flows, taken in turn
    #[arg(long, value_name = "N", default_value_t = 16, value_parser = clap::value_parser!(u16).range(1..))]
    pub(super) flows: u16,
    /// Descriptors of each ring, a multiple of 8
    #[arg(long, value_name = "N", default_value_t = 1024)]
    pub(super) ring: u16,
    /// Write a report with pictures to FILE, one HTML page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub(super) html: Option<PathBuf>,
    /// Print one JSON object
    #[arg(long)]
    pub(super) json: bool,
}

impl Path {
    /// The file that the report is to go to.
    pub(super) fn page_file(&self) -> anyhow::Result<Option<PageFile>> {
        PageFile::wanted(self.html.as_deref())
    }
}

/// Measures frames of each length in turn: `head` is the table's, `line` a length's line in it, printed as it is measured.
pub(super) fn each_length<R>(
    path: &Path,
    head: &str,
    mut measure: impl FnMut(&mut Rig, FrameSizes) -> anyhow::Result<R>,
    line: impl Fn(&R) -> String,
) -> anyhow::Result<Vec<R>> {
    let mut rig = Rig::open(path)?;
    confine::enter(Keep::Nothing);
    let tell = |text: &str| match path.json {
        true => Ok(()),
        false => output::line(text),
    };
    tell(head)?;
    let mut rows = Vec::new();
    for frame in &path.frame {
        let row = measure(&mut rig, *frame)?;
        tell(&line(&row))?;
        rows.push(row);
    }
    rig.close()?;
    Ok(rows)
}

/// How long to wait for links.
const LINKS: Duration = Duration::from_secs(5);
/// How long after the last frame others may still arrive: RFC 2544, 23 has the two seconds.
const RESIDUE: u64 = 2_000_000_000;
/// How long to wait for frames where nothing comes any more that has a chance: those that are owned to are gone.
const QUIET: u64 = 200_000_000;
/// How often to look at the ports.
const LOOK: u64 = 5_000_000;
/// Frames due in this last time had none to leave in.
const GRACE: u64 = 1_000_000;

/// How much a trial sends.
#[derive(Clone, Copy, Debug)]
pub(super) enum Length {
    Time(Duration),
    Frames(u64),
}

/// What to try.
#[derive(Clone, Copy, Debug)]
pub(super) struct Load {
    pub(super) frame: FrameSizes,
    pub(super) rate: Rate,
    pub(super) length: Length,
    /// Whether the receiver looks at its ring before everything is sent.
    pub(super) look: bool,
}

/// What came of it.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Trial {
    pub(super) frame: String,
    /// Frames per second asked for, or `max`.
    pub(super) rate: String,
    pub(super) seconds: f64,
    pub(super) sent: u64,
    pub(super) received: u64,
    pub(super) lost: u64,
    pub(super) damaged: u64,
    /// Frames that were due and could not be sent: the load was not what was asked for.
    pub(super) behind: u64,
    /// Frames per second that really left.
    pub(super) offered_pps: f64,
    pub(super) received_pps: f64,
    pub(super) gbit_per_second: f64,
    pub(super) drops: BTreeMap<String, u64>,
}

impl Trial {
    /// Whether all of the load was sent, and no more than this share of it, in percent, was lost.
    #[expect(clippy::cast_precision_loss, reason = "a share")]
    pub(super) fn passes(&self, loss: f64) -> bool {
        self.behind == 0
            && self.damaged == 0
            && self.sent > 0
            && self.lost as f64 * 100.0 <= loss * self.sent as f64
    }

    /// Lost frames that nobody owns to.
    pub(super) fn unnamed(&self) -> u64 {
        self.lost.saturating_sub(self.drops.values().sum())
    }
}

/// Two ports, ready.
#[derive(Debug)]
pub(super) struct Rig {
    from: QueuePair,
    to: QueuePair,
    rest: Vec<QueuePair>,
    ports: Ports,
    path: Path,
    /// Frames of one trial are foreign to the next.
    seed: u64,
}

impl Rig {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        if path.device.is(&path.peer) {
            bail!(UsageError(format!(
                "{} and {} are the same VF; a path has two ends",
                path.device, path.peer
            )));
        }
        let mtu = path.frame.iter().map(FrameSizes::mtu).max();
        let ring = u32::from(path.ring);
        let config = PortConfig::default()
            .queues(QueueCount::Exactly(1))
            .rings(path.ring, path.ring)
            .mtu(mtu.unwrap_or(1500))
            .pool(vfnic::PoolConfig {
                // All four rings full, and as much again.
                buffers: (8 * ring).max(4096),
                ..vfnic::PoolConfig::default()
            });
        let ports = Ports::open(&[path.device.clone(), path.peer.clone()], &config)?;
        let mut pairs = Vec::new();
        for port in ports.all() {
            pairs.extend(port.start()?.into_iter().take(1));
        }
        let down = ports.wait_for_links(LINKS)?;
        if !down.is_empty() {
            bail!(
                "{}: no link after {LINKS:?}; is the PF's interface up and its cable in?",
                down.join(", ")
            );
        }
        let (Some(to), Some(from)) = (pairs.pop(), pairs.pop()) else {
            bail!("a port has no queues");
        };
        Ok(Self {
            from,
            to,
            rest: pairs,
            ports,
            path: path.clone(),
            seed: 0,
        })
    }

    fn port(&self, at: usize) -> &Port {
        &self.ports.all()[at]
    }

    /// What the sender's link could carry of these frames, per second: 20 bytes of preamble and gap go with each.
    pub(super) fn line_rate(&self, frame: FrameSizes) -> Option<f64> {
        let Link::Up { mbps, .. } = self.port(0).link() else {
            return None;
        };
        let pattern = frame.pattern();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let bytes = pattern.iter().sum::<usize>() as f64 / pattern.len() as f64;
        Some(f64::from(mbps) * 1e6 / (8.0 * (bytes + 20.0)))
    }

    fn counters(&self) -> anyhow::Result<[PortStats; 2]> {
        for port in self.ports.all() {
            port.refresh_stats()
                .with_context(|| format!("{}: counters", port.name()))?;
        }
        Ok([self.port(0).stats(), self.port(1).stats()])
    }

    /// Sends a load, and waits for what comes of it.
    pub(super) fn trial(&mut self, load: &Load) -> anyhow::Result<Trial> {
        self.seed = self.seed % 0xFFFF + 1;
        let before = owned(&self.counters()?);
        let generator = Generator::new(&GeneratorConfig {
            identity: Identity {
                source: self.port(0).mac().0.0,
                destination: self.path.to.unwrap_or_else(|| self.port(1).mac().0).0,
                seed: self.seed,
            },
            sizes: load.frame,
            first_flow: 0,
            flows: self.path.flows,
        });
        let buffer = self.port(0).pool().config().buffer_size;
        let mut source = Source::new(generator, self.port(0).batch(4 * BURST), buffer);
        let checker = Checker::new(CheckerConfig {
            seed: self.seed,
            first_flow: 0,
            flows: self.path.flows,
            private: false,
        });
        let mut sink = Sink::new(checker, self.port(1).batch(2 * BURST));
        let start = monotonic();
        let (end, count) = match load.length {
            Length::Time(time) => (start + nanos(time), u64::MAX),
            // TIMEOUT: a path that takes nothing at all would never end.
            Length::Frames(count) => (start + 60_000_000_000, count),
        };
        let mut pacer = match load.rate {
            Rate::PerSecond(rate) => Some(Pacer::new(rate, start)),
            Rate::Max => None,
        };
        let (mut look, mut now) = (start + LOOK, start);
        let (mut left_at, mut arrived_at) = (start, start);
        while now < end && source.sent() < count {
            let sent = match &mut pacer {
                Some(pacer) => source.send_due(&mut self.from.tx, pacer, now)?,
                None => {
                    let made = source.sent() + source.waiting() as u64;
                    let more = usize::try_from(count - made).unwrap_or(BURST).min(BURST);
                    let allowance = (source.waiting() + more).min(BURST);
                    source.send(&mut self.from.tx, allowance, now)?
                }
            };
            if sent > 0 {
                left_at = monotonic();
            }
            if load.look && sink.receive(&mut self.to.rx, monotonic)? > 0 {
                arrived_at = monotonic();
            }
            now = monotonic();
            if now >= look {
                look = now + LOOK;
                self.ports.look_after()?;
            }
        }
        let behind = pacer.map_or(0, |pacer| {
            pacer.due(end.saturating_sub(GRACE), usize::MAX) as u64
        });
        // Frames that were made count once they are sent; no more are made.
        let sent_until = monotonic();
        // A burst nobody looks at is over when the card has taken its last frame, not when the ring has.
        while !load.look && monotonic() - sent_until < RESIDUE {
            source.idle(&mut self.from.tx);
            if self.from.tx.pending() == 0 {
                break;
            }
            std::thread::yield_now();
        }
        let mut last = monotonic();
        loop {
            if source.waiting() > 0 && source.flush(&mut self.from.tx)? > 0 {
                left_at = monotonic();
                last = left_at;
            }
            source.idle(&mut self.from.tx);
            if sink.receive(&mut self.to.rx, monotonic)? > 0 {
                arrived_at = monotonic();
                last = arrived_at;
            }
            let tally = sink.checker().tally();
            let done = source.waiting() == 0 && tally.received + tally.corrupted >= source.sent();
            let now = monotonic();
            if done || now - sent_until > RESIDUE {
                break;
            }
            if now - last > QUIET && source.waiting() == 0 {
                let lost = source.sent() - (tally.received + tally.corrupted).min(source.sent());
                let drops: u64 = difference(&before, &owned(&self.counters()?))
                    .values()
                    .sum();
                if drops >= lost {
                    break;
                }
                last = now;
            }
            self.ports.look_after()?;
        }
        let tally = sink.checker().tally();
        let sent = source.sent();
        let time = Duration::from_nanos(left_at - start);
        let arriving = Duration::from_nanos(arrived_at - start);
        drop((source, sink));
        let drops = difference(&before, &owned(&self.counters()?));
        let received_pps = per_second(tally.received, arriving.max(time));
        let pattern = load.frame.pattern();
        #[expect(clippy::cast_precision_loss, reason = "a rate for people")]
        let bits = 8.0 * pattern.iter().sum::<usize>() as f64 / pattern.len() as f64;
        Ok(Trial {
            frame: load.frame.to_string(),
            rate: load.rate.to_string(),
            seconds: round(time.as_secs_f64(), 6),
            sent,
            received: tally.received,
            lost: sent.saturating_sub(tally.received + tally.corrupted),
            damaged: tally.corrupted + tally.duplicated,
            behind,
            offered_pps: round(per_second(sent, time), 1),
            received_pps: round(received_pps, 1),
            gbit_per_second: round(received_pps * bits / 1e9, 6),
            drops,
        })
    }

    pub(super) fn close(self) -> anyhow::Result<()> {
        drop((self.from, self.to, self.rest));
        self.ports.close()
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX / 4)
}

/// Every loss that either end owns to, so far.
fn owned([from, to]: &[PortStats; 2]) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    for (reason, count) in drops::of_sender(from).chain(drops::of_receiver(to)) {
        *all.entry(reason).or_default() += count;
    }
    all.insert("card_no_descriptors".to_owned(), drops::missed(to));
    all
}

fn difference(
    before: &BTreeMap<String, u64>,
    after: &BTreeMap<String, u64>,
) -> BTreeMap<String, u64> {
    after
        .iter()
        .map(|(name, count)| {
            let then = before.get(name).copied().unwrap_or(0);
            (name.clone(), count.saturating_sub(then))
        })
        .filter(|(_, count)| *count > 0)
        .collect()
}
