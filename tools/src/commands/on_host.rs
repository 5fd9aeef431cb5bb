//! The commands that are about a host, as one group: finding VFs, preparing them, handing them on.

use clap::Subcommand;

use super::{bind, doctor, export, list, manual, persist, provision, set};
use crate::cli::Outcome;

/// What to do to or with a host.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// See [`list`].
    List(Box<list::Args>),
    /// See [`doctor`].
    Doctor(doctor::Args),
    /// See [`provision`].
    Provision(provision::Args),
    /// See [`bind`].
    Bind(bind::Bind),
    /// See [`bind`].
    Unbind(bind::Unbind),
    /// See [`set`].
    Set(set::Args),
    /// See [`persist`].
    Persist(persist::Args),
    /// See [`export`].
    Export(export::Args),
    /// See [`manual`].
    Completions(manual::Completions),
    /// See [`manual`].
    Man(manual::Man),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// As the command says.
    pub fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::List(args) => list::run(*args),
            Self::Doctor(args) => doctor::run(args),
            Self::Provision(args) => provision::run(args),
            Self::Bind(args) => args.run(),
            Self::Unbind(args) => args.run(),
            Self::Set(args) => set::run(args),
            Self::Persist(args) => persist::run(&args),
            Self::Export(args) => export::run(args),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}
