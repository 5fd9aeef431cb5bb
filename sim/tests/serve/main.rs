//! The vfio-user server against clients that break every rule.
#![expect(
    clippy::cast_possible_truncation,
    reason = "numbers in these tests are small, or meant to be cut"
)]

mod card;
mod client;
mod control;
mod descriptors;
#[path = "../dice/mod.rs"]
mod dice;
mod framing;
mod fuzzed;
mod interrupts;
mod life;
mod memory;
mod regions;
