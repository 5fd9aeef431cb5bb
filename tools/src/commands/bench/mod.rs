//! `vfnic bench`: what the driver costs.

mod latency;
mod ring;
mod scale;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::Outcome;

/// Measures what the driver costs
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = ring::EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

#[derive(Clone, Debug, Subcommand)]
enum Command {
    Ring(ring::Args),
    Latency(latency::Args),
    Scale(scale::Args),
}

/// Runs it.
///
/// # Errors
///
/// When something cannot be measured here.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    match &args.command {
        Command::Ring(args) => ring::run(args),
        Command::Latency(args) => latency::run(args),
        Command::Scale(args) => scale::run(args),
    }
}
