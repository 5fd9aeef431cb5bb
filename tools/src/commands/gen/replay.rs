//! Frames of a capture, sent again.

use std::path::Path;

use anyhow::bail;
use vfnic::{Batch, MacAddr, QueueError, TxQueue};

use crate::apps::capture_file::read;
use crate::traffic::frame;

/// Most bytes of frames that are kept in memory.
const MOST: usize = 1 << 30;
/// Shortest frame the card takes; it adds the CRC.
const SHORTEST: usize = 60;

/// A capture in memory.
#[derive(Debug)]
pub(super) struct Capture {
    /// Nanoseconds since the first frame, and bytes.
    frames: Vec<(u64, Vec<u8>)>,
}

impl Capture {
    /// Frames in it.
    pub(super) fn len(&self) -> u64 {
        self.frames.len() as u64
    }

    /// The MTU that its longest frame needs, 1500 at least.
    pub(super) fn mtu(&self) -> u16 {
        let longest = self.frames.iter().map(|(_, bytes)| bytes.len()).max();
        u16::try_from(longest.unwrap_or(0).saturating_sub(14))
            .unwrap_or(u16::MAX)
            .max(1500)
    }
}

/// Reads a capture.
///
/// # Errors
///
/// When it cannot be read, has no frame, or one that was not captured whole.
pub(super) fn load(path: &Path) -> anyhow::Result<Capture> {
    let mut frames: Vec<(u64, Vec<u8>)> = Vec::new();
    let mut total = 0;
    let name = path.display();
    read(path, |record| {
        let number = frames.len() + 1;
        if record.data.len() < record.original_len as usize {
            bail!(
                "{name}: frame {number} has {} of {} bytes; only whole frames can be sent: capture without a snap length",
                record.data.len(),
                record.original_len
            );
        }
        if record.data.len() < 14 || record.data.len() > frame::MAX_LEN {
            bail!(
                "{name}: frame {number} of {} bytes cannot be sent; Ethernet frames of 14 to {} bytes can",
                record.data.len(),
                frame::MAX_LEN
            );
        }
        total += record.data.len();
        if total > MOST {
            bail!(
                "{name}: more than {} MiB of frames; split the capture",
                MOST >> 20
            );
        }
        let mut bytes = record.data.to_vec();
        bytes.resize(bytes.len().max(SHORTEST), 0);
        frames.push((record.nanoseconds, bytes));
        Ok(())
    })?;
    let Some(first) = frames.first().map(|(at, _)| *at) else {
        bail!("{name}: no frames in it");
    };
    // Captures of several interfaces may have frames a little out of order; those leave with the one before.
    let mut latest = 0;
    for (at, _) in &mut frames {
        latest = at.saturating_sub(first).max(latest);
        *at = latest;
    }
    Ok(Capture { frames })
}

/// A place in the rounds of a capture.
#[derive(Clone, Copy, Debug, Default)]
struct Place {
    frame: usize,
    /// When the round began.
    round: u64,
}

/// A capture that is being sent.
#[derive(Debug)]
pub(super) struct Replay {
    capture: Capture,
    /// The next to be made.
    next: Place,
    /// The next to leave.
    left: Place,
    batch: Batch,
    sent: u64,
}

impl Replay {
    /// A replay with other addresses, as far as they are given.
    pub(super) fn new(
        mut capture: Capture,
        batch: Batch,
        destination: Option<MacAddr>,
        source: Option<MacAddr>,
    ) -> Self {
        for (_, bytes) in &mut capture.frames {
            if let Some(destination) = destination {
                bytes[..6].copy_from_slice(&destination.0);
            }
            if let Some(source) = source {
                bytes[6..12].copy_from_slice(&source.0);
            }
        }
        Self {
            capture,
            next: Place::default(),
            left: Place::default(),
            batch,
            sent: 0,
        }
    }

    /// The first round begins at `now`.
    pub(super) fn start(&mut self, now: u64) {
        self.next.round = now;
        self.left.round = now;
    }

    fn due(&self, place: Place) -> u64 {
        let frame = self.capture.frames.get(place.frame);
        // A capture may say that its frames are centuries apart; those times end where all do.
        frame.map_or(place.round, |(at, _)| place.round.saturating_add(*at))
    }

    fn advance(&self, place: Place) -> Place {
        let frames = &self.capture.frames;
        if place.frame + 1 < frames.len() {
            return Place {
                frame: place.frame + 1,
                ..place
            };
        }
        // Between two rounds is the mean distance of frames.
        let span = frames.last().map_or(0, |(at, _)| *at);
        let pause = span / frames.len().max(1) as u64;
        Place {
            frame: 0,
            round: place.round.saturating_add(span).saturating_add(pause),
        }
    }

    /// Makes up to `count` frames; returns how many there was room for.
    pub(super) fn fill(&mut self, count: usize) -> usize {
        for made in 0..count {
            let (_, bytes) = &self.capture.frames[self.next.frame];
            if self.batch.push_bytes(bytes).is_err() {
                return made;
            }
            self.next = self.advance(self.next);
        }
        count
    }

    /// Makes the frames that are due at `now`, up to `most`.
    pub(super) fn fill_due(&mut self, now: u64, most: usize) {
        for _ in 0..most {
            if self.due(self.next) > now || self.fill(1) == 0 {
                return;
            }
        }
    }

    pub(super) fn flush(&mut self, tx: &mut TxQueue) -> Result<usize, QueueError> {
        if self.batch.is_empty() {
            tx.reclaim(&mut self.batch);
            return Ok(0);
        }
        let sent = tx.send(&mut self.batch)?;
        self.sent += sent as u64;
        Ok(sent)
    }

    pub(super) fn next_due(&self) -> Option<u64> {
        Some(self.due(self.next))
    }

    pub(super) fn due_of_sent(&mut self) -> Option<u64> {
        let due = self.due(self.left);
        self.left = self.advance(self.left);
        Some(due)
    }

    pub(super) fn waiting(&self) -> usize {
        self.batch.len()
    }

    pub(super) const fn sent(&self) -> u64 {
        self.sent
    }
}
