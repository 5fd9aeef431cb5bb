//! What the `vfnic` command is made of.
//!
//! The command line is in [`cli`], one file per command in [`commands`]; [`traffic`] generates and checks frames and knows
//! no ports, so tests and benches use it as well.
#![forbid(unsafe_code)]

pub mod apps;
pub mod args;
pub mod bench;
pub mod cli;
pub mod commands;
pub mod confine;
pub mod cpu;
pub mod device;
mod dice;
pub mod drops;
pub mod host;
pub mod live;
pub mod output;
pub mod privilege;
pub mod report;
pub mod roles;
pub mod traffic;

/// An IP stack on a queue pair.
pub use vfnic::stack;

/// The examples of the README compile, and the library guide's run.
#[cfg(doctest)]
#[doc = include_str!("../../README.md")]
struct Readme;
#[cfg(doctest)]
#[doc = include_str!("../../docs/library-guide.md")]
struct LibraryGuide;
