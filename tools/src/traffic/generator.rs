//! The sending end: which frame comes next, and how many have been made of each flow.

use std::sync::Arc;

use super::frame::{self, Identity, Template};
use super::sizes::{CRC, FrameSizes};

/// What to send.
#[derive(Clone, Copy, Debug)]
pub struct GeneratorConfig {
    /// Addresses and seed.
    pub identity: Identity,
    /// Frame lengths.
    pub sizes: FrameSizes,
    /// First flow.
    pub first_flow: u16,
    /// Flows, taken in turn; at least one is sent.
    pub flows: u16,
}

/// Makes frames, one after the other, each flow counted from 0.
#[derive(Debug)]
pub struct Generator {
    /// One for each different length.
    templates: Vec<Template>,
    /// Indices of templates, repeated.
    pattern: Vec<usize>,
    place: usize,
    first_flow: u16,
    /// Frames made of each flow.
    made: Vec<u64>,
    flow: usize,
}

impl Generator {
    /// A generator that has made nothing. The seed decides where in a mix of lengths it starts.
    #[must_use]
    pub fn new(config: &GeneratorConfig) -> Self {
        let body = frame::body_block(config.identity.seed);
        Self::with_lengths(config, &config.sizes.pattern(), &body)
    }

    /// A generator of frames of these lengths in turn, in bytes with CRC; there is at least one. `body` is the
    /// [`body_block`](frame::body_block) of the configuration's seed, which several generators may share.
    #[must_use]
    pub fn with_lengths(config: &GeneratorConfig, lengths: &[usize], body: &Arc<[u8]>) -> Self {
        let mut distinct = lengths.to_vec();
        distinct.sort_unstable();
        distinct.dedup();
        let place = usize::try_from(config.identity.seed % lengths.len() as u64).unwrap_or(0);
        Self {
            templates: distinct
                .iter()
                .map(|len| Template::new(&config.identity, len.saturating_sub(CRC), body))
                .collect(),
            pattern: lengths
                .iter()
                .map(|len| distinct.partition_point(|other| other < len))
                .collect(),
            place,
            first_flow: config.first_flow,
            made: vec![0; usize::from(config.flows.max(1))],
            flow: 0,
        }
    }

    /// Length of the next frame in bytes, CRC not included.
    #[inline]
    #[must_use]
    pub fn next_len(&self) -> usize {
        self.templates[self.pattern[self.place]].len()
    }

    /// Flow of the next frame.
    #[inline]
    #[must_use]
    pub fn next_flow(&self) -> u16 {
        #[expect(
            clippy::cast_possible_truncation,
            reason = "the number of flows is a u16"
        )]
        self.first_flow.wrapping_add(self.flow as u16)
    }

    /// Writes the next frame to the start of `buffer`, stamped with `departure` (nanoseconds of the clock that the
    /// checker uses), and counts it.
    ///
    /// # Panics
    ///
    /// When `buffer` is shorter than [`next_len`](Self::next_len).
    #[inline]
    pub fn write(&mut self, buffer: &mut [u8], departure: u64) {
        let flow = self.next_flow();
        let sequence = &mut self.made[self.flow];
        self.templates[self.pattern[self.place]].write(buffer, flow, *sequence, departure);
        *sequence += 1;
        self.flow += 1;
        if self.flow == self.made.len() {
            self.flow = 0;
        }
        self.place += 1;
        if self.place == self.pattern.len() {
            self.place = 0;
        }
    }

    /// Takes back a frame that was made but never left, given its bytes. Only the last ones made may be taken back,
    /// or the checker will miss others in their place.
    pub fn take_back(&mut self, bytes: &[u8]) {
        if let frame::Parsed::Stamped(stamp) = frame::parse(bytes) {
            let index = usize::from(stamp.flow.wrapping_sub(self.first_flow));
            if let Some(made) = self.made.get_mut(index) {
                *made = made.saturating_sub(1);
            }
        }
    }

    /// Frames made of `flow`.
    #[must_use]
    pub fn made(&self, flow: u16) -> u64 {
        let index = usize::from(flow.wrapping_sub(self.first_flow));
        self.made.get(index).copied().unwrap_or(0)
    }

    /// Frames made of all flows.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.made.iter().sum()
    }
}
