//! What befalls a port under traffic: its VF goes away, its PF is reset, it is dropped.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use vfnic::{Error, Event, QueueError};
use vfnic_hw::Model;

use super::bed::{Bed, NEVER};
use crate::dice::Dice;

/// From the VF's going away until queue, port and events have all said so.
pub(super) fn removal(model: Model, dice: &mut Dice) -> anyhow::Result<Duration> {
    let mut bed = Bed::in_traffic(model, dice)?;
    let (pf, pause) = (
        bed.card.pf(),
        Duration::from_micros(dice.between(0, 20_000)),
    );
    let took = std::thread::scope(|threads| -> anyhow::Result<Duration> {
        let strike = threads.spawn(move || {
            std::thread::sleep(pause);
            let now = Instant::now();
            pf.remove_vf(0).map(|()| now)
        });
        let begin = Instant::now();
        loop {
            match bed.exchange(Duration::from_micros(50)) {
                Ok(()) => ensure!(begin.elapsed() < NEVER, "the removal goes unnoticed"),
                Err(QueueError::Gone) => break,
                Err(other) => return Err(other).context("a queue of a VF that is gone"),
            }
        }
        let port = &bed.left.port;
        ensure!(
            matches!(port.poll_control(), Err(Error::Gone { .. })),
            "the queue is gone and the port is not"
        );
        while port.next_event().context("nobody told")? != Event::Gone {}
        let told = Instant::now();
        let Ok(struck) = strike.join() else {
            bail!("the thread that removes the VF panicked");
        };
        Ok(told.duration_since(struck?))
    })?;
    Ok(took)
}

/// From the PF's return until frames arrive again, both ways. Every other time the PF is down for longer than a reset.
pub(super) fn reset(model: Model, dice: &mut Dice) -> anyhow::Result<Duration> {
    let mut bed = Bed::in_traffic(model, dice)?;
    let pf = bed.card.pf();
    let back = if dice.below(2) == 0 {
        let away = Duration::from_micros(dice.between(100, 60_000));
        let back = Instant::now() + away;
        pf.reset(away);
        bed.exchange(back.saturating_duration_since(Instant::now()))?;
        back
    } else {
        pf.down();
        bed.exchange(Duration::from_micros(dice.between(100, 400_000)))?;
        let back = Instant::now();
        pf.up();
        back
    };
    bed.until_frames_arrive()?;
    Ok(back.elapsed())
}

/// Of the port and its queue, one or the other first, while its neighbour goes on sending to it.
pub(super) fn drop(model: Model, dice: &mut Dice) -> anyhow::Result<Duration> {
    let Bed {
        left,
        mut right,
        card,
    } = Bed::in_traffic(model, dice)?;
    let over = AtomicBool::new(false);
    let took = std::thread::scope(|threads| -> anyhow::Result<Duration> {
        let over = &over;
        let neighbour = threads.spawn(move || right.turn_until(|| over.load(Ordering::Relaxed)));
        std::thread::sleep(Duration::from_micros(dice.between(0, 2_000)));
        let begin = Instant::now();
        left.end(dice.below(2) == 0);
        let took = begin.elapsed();
        over.store(true, Ordering::Relaxed);
        match neighbour.join() {
            Ok(result) => result.context("the neighbour's queue")?,
            Err(_) => bail!("the neighbour's thread panicked"),
        }
        Ok(took)
    });
    std::mem::drop(card);
    took
}
