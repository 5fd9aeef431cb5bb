//! Traffic whose every frame says who it is, and the accounting that holds a path to it.
//!
//! A [`Generator`] stamps frames with flow, sequence number, seed, time of departure and a checksum over all of them
//! ([`frame`]); a [`Checker`] on the other side counts lost, duplicated, reordered and corrupted frames apart. Both
//! work batch by batch and allocate nothing per frame. Nothing here knows ports or queues, so that every command and
//! test can put its own path between the two.

pub mod frame;

mod accounts;
mod checker;
mod generator;
mod pace;
mod sequence;
mod sizes;

pub use accounts::Accounts;
pub use checker::{Checker, CheckerConfig, Tally, latency_histogram};
pub use frame::{Identity, Parsed, Stamp, Template};
pub use generator::{Generator, GeneratorConfig};
pub use pace::{Pacer, Rate};
pub use sequence::{Arrival, SequenceTracker};
pub use sizes::FrameSizes;
