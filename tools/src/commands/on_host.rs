//! The commands that are about a host, as one group: finding VFs, preparing them, handing them on.

use clap::Subcommand;

use super::list;
use crate::cli::Outcome;

/// What to do to or with a host.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See [`list`].
    List(list::Args),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// As the command says.
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::List(args) => list::run(args),
        }
    }
}
