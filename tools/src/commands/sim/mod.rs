//! `vfnic sim`: a simulated card for other processes.

mod metrics;
mod serve;
mod set;
mod show;
mod wire;

use std::path::{Path, PathBuf};

use clap::{Args as ClapArgs, Subcommand};
use serde_json::Value;
use vfnic_sim::serve::{KnobError, ask};

use crate::cli::{Outcome, UsageError};

/// Serves a simulated card to QEMU guests and other processes, and turns its PF's knobs
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = EXAMPLES)]
pub struct Args {
    #[command(subcommand)]
    command: Command,
}

const EXAMPLES: &str = "\
Examples:
  vfnic sim serve --model 82599 --vfs 2 --socket-dir /run/card
  vfnic sim set /run/card vf 0 mac 02:00:00:00:00:01 trust on
  vfnic sim set /run/card pf reset
  vfnic sim show /run/card --json";

#[derive(Clone, Debug, Subcommand)]
enum Command {
    Serve(serve::Args),
    Set(set::Args),
    Show(show::Args),
}

/// Runs it.
///
/// # Errors
///
/// When the card cannot be served, or does not do what is asked.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    match args.command {
        Command::Serve(args) => serve::run(args),
        Command::Set(args) => set::run(&args),
        Command::Show(args) => show::run(&args),
    }
}

/// The directory of a served card.
#[derive(Clone, Debug, ClapArgs)]
struct Served {
    /// The directory that `vfnic sim serve` was given
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Asks the server for something.
fn request(dir: &Path, request: &str) -> anyhow::Result<Value> {
    let answer = ask(dir, request).map_err(|error| {
        let dir = dir.display();
        anyhow::anyhow!(
            "nobody answers in {dir} ({error}); is `vfnic sim serve --socket-dir {dir}` running?"
        )
    })?;
    answer.map_err(|error| match error {
        KnobError::Usage(text) => UsageError(text).into(),
        KnobError::Refused(text) => anyhow::anyhow!(text),
    })
}
