//! Frames between two VFs.

use std::time::{Duration, Instant};

use anyhow::bail;
use vfnic::{PollMode, Poller, Port, QueuePair, Woken};

use super::Found;
use crate::apps::monotonic;
use crate::output::nanoseconds;
use crate::roles::{BURST, Sink, Source};
use crate::traffic::{Checker, CheckerConfig, FrameSizes, Generator, GeneratorConfig, Identity};

/// Frames of an exchange.
const FRAMES: u64 = 5000;
/// Frames under way at most: no ring overflows.
const WINDOW: u64 = 128;
/// How long an exchange may stand still.
const STALL: Duration = Duration::from_secs(2);
const FLOWS: u16 = 4;

fn source(from: &Port, to: &Port, frame: usize) -> Source {
    let generator = Generator::new(&GeneratorConfig {
        identity: Identity {
            source: from.mac().0.0,
            destination: to.mac().0.0,
            seed: 1,
        },
        sizes: FrameSizes::Fixed(frame),
        first_flow: 0,
        flows: FLOWS,
    });
    Source::new(
        generator,
        from.batch(2 * BURST),
        from.pool().config().buffer_size,
    )
}

/// Sends checked frames from one port to the other. Returns how many.
pub(super) fn exchange(
    from: (&Port, &mut QueuePair),
    to: (&Port, &mut QueuePair),
    frame: usize,
) -> anyhow::Result<u64> {
    let checker = Checker::new(CheckerConfig {
        seed: 1,
        first_flow: 0,
        flows: FLOWS,
        private: false,
    });
    let mut sink = Sink::new(checker, to.0.batch(2 * BURST));
    let mut source = source(from.0, to.0, frame);
    let mut last = Instant::now();
    loop {
        let tally = sink.checker().tally();
        if tally.received == FRAMES {
            return Ok(FRAMES);
        }
        if last.elapsed() > STALL {
            bail!(
                "{} sent, {} arrived, {} damaged, then nothing for {STALL:?}",
                source.sent(),
                tally.received,
                tally.corrupted
            );
        }
        let made = source.sent() + source.waiting() as u64;
        let room = (FRAMES - made).min(WINDOW.saturating_sub(made.saturating_sub(tally.received)));
        let allowance = usize::try_from(room).unwrap_or(usize::MAX) + source.waiting();
        source.send(&mut from.1.tx, allowance, monotonic())?;
        if sink.receive(&mut to.1.rx, monotonic)? > 0 {
            last = Instant::now();
        }
        from.0.poll_control()?;
        to.0.poll_control()?;
    }
}

/// Has the other port sleep, and wakes it with a frame.
pub(super) fn interrupt(
    from: (&Port, &mut QueuePair),
    to: (&Port, QueuePair),
) -> anyhow::Result<Found> {
    if !to.0.capabilities().has("interrupts") {
        return Ok(Found::Skip("the function has no message vectors".into()));
    }
    let mut poller = Poller::new(PollMode::Interrupt)?;
    poller.add(to.1)?;
    let mut batch = to.0.batch(64);
    let mut source = source(from.0, to.0, 64);
    let mut slowest = Duration::ZERO;
    for round in 0..5 {
        let tx = &mut from.1.tx;
        let source = &mut source;
        let (turn, sent) = std::thread::scope(|scope| {
            let sender = scope.spawn(move || {
                // Long enough for the other side to be asleep.
                std::thread::sleep(Duration::from_millis(20));
                let now = Instant::now();
                source.send(tx, 1, monotonic()).map(|_| now)
            });
            let turn = poller.turn(Some(Duration::from_secs(2)), |index, pairs| {
                let count = pairs[index].rx.receive(&mut batch)?;
                batch.clear();
                Ok(count)
            });
            (turn, sender.join())
        });
        let woken = Instant::now();
        let Ok(sent) = sent else {
            bail!("the sender panicked");
        };
        if turn?.woken != Woken::Work {
            bail!("frame {round} woke nobody within 2 s");
        }
        slowest = slowest.max(woken.saturating_duration_since(sent?));
    }
    // Frames found by the look that the poller takes now and then were not told of.
    let missed = poller.stats().missed;
    if missed > 0 {
        bail!("{missed} of 5 frames came without an interrupt");
    }
    let slowest = u64::try_from(slowest.as_nanos()).unwrap_or(u64::MAX);
    Ok(Found::Pass(format!(
        "5 of 5, within {}",
        nanoseconds(slowest)
    )))
}
