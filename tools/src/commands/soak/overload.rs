//! Twice as much as the receiver can take, for as long as one likes: what still gets through, who owns to the rest, and how
//! long the control side's calls take meanwhile.
//!
//! Judged is what arrives in a second. The card and the sender are threads of this process and take the receiver's CPU away, as no
//! card made of silicon does, so what the receiver gets done in a second of its own CPU time is told beside it: where the one
//! is low and the other is not, the machine had other things to do.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use serde::Serialize;
use vfnic::{Port, PortConfig, QueuePair};
use vfnic_hw::Model;
use vfnic_sim::Card;

use super::books::UNSENT;
use crate::apps::Stop;
use crate::cpu;
use crate::drops;
use crate::roles::{BURST, RunClock, Sink, Source};
use crate::traffic::{
    Accounts, Checker, CheckerConfig, FrameSizes, Generator, GeneratorConfig, Identity, Pacer,
    latency_histogram,
};

/// Time that the application at the receiver's end has for a frame, on top of checking it: it is the bottleneck.
const WORK: Duration = Duration::from_micros(8);
/// How long the peak is measured.
const PEAK: Duration = Duration::from_secs(2);
/// Frames under way at most, where nothing is to be lost.
const WINDOW: u64 = 192;
/// Time between two calls of the control side.
const CALLS: Duration = Duration::from_millis(5);
/// How long the sender waits when nothing is due.
const PAUSE: Duration = Duration::from_micros(50);
/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(5);
const BUFFER: u32 = 2048;

/// What it came to.
#[derive(Debug, Default, Serialize)]
pub(super) struct Overload {
    model: String,
    /// Frames a second that arrive where no more are sent than the receiver takes.
    pub(super) peak: u64,
    /// Frames a second that were sent.
    pub(super) offered: u64,
    /// Frames a second that arrived meanwhile.
    pub(super) goodput: u64,
    /// The one as a share of the other.
    pub(super) share: f64,
    /// Frames that arrive in a second of the receiver's CPU time, without an overload and with one, and their share.
    pub(super) peak_per_cpu: u64,
    pub(super) goodput_per_cpu: u64,
    pub(super) cpu_share: f64,
    seconds: f64,
    /// Of calls that ask the PF for something, in nanoseconds.
    pub(super) control_calls: u64,
    pub(super) control_p99: u64,
    pub(super) control_max: u64,
    pub(super) accounts: Accounts,
}

/// What the two threads share.
#[derive(Debug, Default)]
struct Shared {
    sent: AtomicU64,
    arrived: AtomicU64,
    /// Nanoseconds of CPU time that the receiver used for them.
    used: AtomicU64,
    /// The source is to end, and then the sink.
    stop: AtomicBool,
    end: AtomicBool,
}

/// Runs it on a card of `model` until `stop` says so.
pub(super) fn run(model: Model, seed: u64, stop: &mut Stop) -> anyhow::Result<Overload> {
    let peak = phase(model, seed, None, |start| start.elapsed() >= PEAK)?;
    let rate = NonZeroU64::new(peak.goodput * 2).context("nothing arrived at all")?;
    stop.start();
    let mut result = phase(model, seed, Some(rate), |_| stop.due().is_some())?;
    result.peak = peak.goodput;
    result.share = share(result.goodput, peak.goodput);
    result.peak_per_cpu = peak.goodput_per_cpu;
    result.cpu_share = share(result.goodput_per_cpu, peak.goodput_per_cpu);
    Ok(result)
}

#[expect(clippy::cast_precision_loss, reason = "a share, to be read")]
fn share(part: u64, whole: u64) -> f64 {
    part as f64 / whole.max(1) as f64
}

/// Opens a VF and waits for its link.
fn open(card: &Card, vf: u16) -> anyhow::Result<(Port, QueuePair)> {
    let config = PortConfig::default().rings(512, 512).buffer_size(BUFFER);
    let port = Port::from_function(card.function(vf)?, config)?;
    let pair = port.start()?.pop().context("no queue")?;
    let start = Instant::now();
    while !port.link().is_up() {
        port.poll_control()?;
        ensure!(start.elapsed() < REST, "no link within {REST:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    Ok((port, pair))
}

/// Traffic at `rate`, or as the receiver takes it, until `over`.
fn phase(
    model: Model,
    seed: u64,
    rate: Option<NonZeroU64>,
    over: impl Fn(Instant) -> bool,
) -> anyhow::Result<Overload> {
    let card = Card::builder(model).vfs(2).seed(seed).threaded().build()?;
    let (from, mut out) = open(&card, 0)?;
    let (to, mut into) = open(&card, 1)?;
    let identity = Identity {
        source: from.mac().0.0,
        destination: to.mac().0.0,
        seed,
    };
    let generator = Generator::new(&GeneratorConfig {
        identity,
        sizes: FrameSizes::Imix,
        first_flow: 0,
        flows: 16,
    });
    let checker = Checker::new(CheckerConfig {
        seed,
        first_flow: 0,
        flows: 16,
        private: true,
    });
    let mut source = Source::new(generator, from.batch(2 * BURST), BUFFER);
    let mut sink = Sink::new(checker, to.batch(2 * BURST));
    let (clock, shared) = (RunClock::start(), Shared::default());
    let start = Instant::now();
    let mut calls = latency_histogram();
    let mut report = Overload {
        model: model.to_string(),
        ..Overload::default()
    };
    std::thread::scope(|threads| -> anyhow::Result<()> {
        let shared = &shared;
        let sender = threads.spawn(move || -> anyhow::Result<(Source, QueuePair)> {
            let mut pacer = rate.map(|rate| Pacer::new(rate, clock.now()));
            while !shared.stop.load(Ordering::Relaxed) {
                let now = clock.now();
                let sent = match &mut pacer {
                    Some(pacer) => source.send_due(&mut out.tx, pacer, now)?,
                    None => {
                        let under_way = shared.sent.load(Ordering::Relaxed)
                            - shared.arrived.load(Ordering::Relaxed);
                        let room = usize::try_from(WINDOW.saturating_sub(under_way)).unwrap_or(0);
                        source.send(&mut out.tx, room, now)?
                    }
                };
                shared.sent.fetch_add(sent as u64, Ordering::Relaxed);
                if sent == 0 {
                    // The CPU is for those that have too much to do.
                    std::thread::sleep(PAUSE);
                }
            }
            Ok((source, out))
        });
        let receiver = threads.spawn(move || -> anyhow::Result<Sink> {
            let started = cpu::of_this_thread();
            while !shared.end.load(Ordering::Relaxed) {
                let begin = cpu::of_this_thread();
                let came = sink.receive(&mut into.rx, || clock.now())?;
                shared.arrived.fetch_add(came as u64, Ordering::Relaxed);
                if came == 0 {
                    std::thread::yield_now();
                }
                let busy = WORK * u32::try_from(came).unwrap_or(0);
                let mut now = cpu::of_this_thread();
                while now.saturating_sub(begin) < busy {
                    std::hint::spin_loop();
                    now = cpu::of_this_thread();
                }
                let used = now.saturating_sub(started).as_nanos();
                let used = u64::try_from(used).unwrap_or(u64::MAX);
                shared.used.store(used, Ordering::Relaxed);
            }
            Ok(sink)
        });
        while !over(start) && !sender.is_finished() && !receiver.is_finished() {
            let begin = Instant::now();
            to.add_vlan(7)?;
            to.remove_vlan(7)?;
            // Two requests each time.
            let took = u64::try_from(begin.elapsed().as_nanos() / 2).unwrap_or(u64::MAX);
            let _ = calls.record(took.clamp(1, 60_000_000_000));
            for port in [&from, &to] {
                port.poll_control()?;
            }
            std::thread::sleep(CALLS);
        }
        let seconds = start.elapsed().as_secs_f64();
        let arrived = shared.arrived.load(Ordering::Relaxed);
        report.seconds = seconds;
        report.goodput = per_second(arrived, seconds);
        let used = Duration::from_nanos(shared.used.load(Ordering::Relaxed));
        report.goodput_per_cpu = per_second(arrived, used.as_secs_f64());
        report.offered = per_second(shared.sent.load(Ordering::Relaxed), seconds);
        shared.stop.store(true, Ordering::Relaxed);
        // The queue stays open: one that is closed may give up what the card has taken and not reported yet.
        let (source, out) = join(sender)?;
        let rest = Instant::now();
        while taken(&card) < source.sent() && rest.elapsed() < REST {
            std::thread::sleep(Duration::from_millis(1));
        }
        // What is under way arrives or is dropped.
        let (mut seen, mut since) = (0, Instant::now());
        while since.elapsed() < Duration::from_millis(300) && rest.elapsed() < REST {
            let now = shared.arrived.load(Ordering::Relaxed);
            if now != seen {
                (seen, since) = (now, Instant::now());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        shared.end.store(true, Ordering::Relaxed);
        let mut sink = join(receiver)?;
        let sent = source.sent();
        let generator = source.finish();
        let checker = sink.checker_mut();
        let lost = checker.close(|flow| generator.made(flow));
        let mut owned = dropped(&card, &from, &to);
        // What the driver gave up because of a reset, the card may have taken and sent all the same. Never more than the driver says:
        // a frame that neither of them knows of stays unaccounted.
        if let Some(count) = owned.get_mut(UNSENT) {
            *count = (*count).min(sent.saturating_sub(taken(&card)));
        }
        report.accounts = Accounts::new(sent, lost, &checker.tally(), owned);
        drop(out);
        Ok(())
    })?;
    report.control_calls = calls.len() * 2;
    report.control_p99 = calls.value_at_quantile(0.99);
    report.control_max = calls.max();
    Ok(report)
}

/// Frames that the card took from the sender's ring.
fn taken(card: &Card) -> u64 {
    card.vf_stats(0).unwrap_or_default().taken
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, anyhow::Result<T>>) -> anyhow::Result<T> {
    match thread.join() {
        Ok(result) => result,
        Err(_) => bail!("a thread of the run panicked"),
    }
}

/// Every drop that anybody owns to.
fn dropped(card: &Card, from: &Port, to: &Port) -> BTreeMap<String, u64> {
    let mut all = BTreeMap::new();
    let sender = from.stats();
    let receiver = to.stats();
    let driver = drops::of_sender(&sender).chain(drops::of_receiver(&receiver));
    for (name, count) in driver {
        *all.entry(format!("driver_{name}")).or_default() += count;
    }
    for vf in 0..2 {
        for (name, count) in drops::of_card(&card.vf_stats(vf).unwrap_or_default()) {
            *all.entry(format!("card_{name}")).or_default() += count;
        }
    }
    all
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a rate, far below 2^52"
)]
fn per_second(count: u64, seconds: f64) -> u64 {
    (count as f64 / seconds.max(1e-9)) as u64
}
