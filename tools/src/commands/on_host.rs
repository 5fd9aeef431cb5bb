//! The commands that are about a host, as one group: finding VFs, preparing them, handing them on.

use clap::Subcommand;

use super::{bind, doctor, export, list, manual, persist, provision, reset, set};
use crate::cli::Outcome;

/// What to do to or with a host. What each does is said by its arguments' type; a comment here would hide that.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    List(Box<list::Args>),
    Doctor(doctor::Args),
    Provision(provision::Args),
    Bind(bind::Bind),
    Unbind(bind::Unbind),
    Reset(reset::Args),
    Set(set::Args),
    Persist(persist::Args),
    Export(export::Args),
    Completions(manual::Completions),
    Man(manual::Man),
}

impl Command {
    /// Runs it.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::List(args) => list::run(*args),
            Self::Doctor(args) => doctor::run(args),
            Self::Provision(args) => provision::run(args),
            Self::Bind(args) => args.run(),
            Self::Unbind(args) => args.run(),
            Self::Reset(args) => reset::run(args),
            Self::Set(args) => set::run(args),
            Self::Persist(args) => persist::run(&args),
            Self::Export(args) => export::run(args),
            Self::Completions(args) => args.run(),
            Self::Man(args) => args.run(),
        }
    }
}
