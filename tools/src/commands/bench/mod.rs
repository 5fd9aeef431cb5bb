//! `vfnic bench`: what the driver costs, and what passes between two VFs.

mod back_to_back;
mod bounds;
mod latency;
mod rfc2544;
mod rig;
mod ring;
mod scale;
mod throughput;

use clap::{Args as ClapArgs, Subcommand};

use crate::cli::Outcome;

/// Measures what the driver costs, and what passes between two VFs
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
    Throughput(throughput::Args),
    Rfc2544(rfc2544::Args),
    BackToBack(back_to_back::Args),
    Bounds(bounds::Args),
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
        Command::Throughput(args) => throughput::run(args),
        Command::Rfc2544(args) => rfc2544::run(args),
        Command::BackToBack(args) => back_to_back::run(args),
        Command::Bounds(args) => bounds::run(args),
    }
}
