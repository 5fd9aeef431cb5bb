//! The traffic commands, as part of the command line.

use clap::Subcommand;

use crate::cli::Outcome;
use crate::commands::{capture, echo, fwd, r#gen, selftest, sink, soak, stats};

/// Commands that move frames through ports of any kind.
#[derive(Clone, Debug, Subcommand)]
pub(crate) enum Command {
    Fwd(fwd::Args),
    Gen(r#gen::Args),
    Sink(sink::Args),
    Capture(capture::Args),
    Stats(stats::Args),
    Echo(echo::Args),
    Selftest(selftest::Args),
    Soak(soak::Args),
}

impl Command {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// What the command says.
    pub(crate) fn run(self) -> anyhow::Result<Outcome> {
        match self {
            Self::Fwd(args) => fwd::run(args),
            Self::Gen(args) => r#gen::run(args),
            Self::Sink(args) => sink::run(args),
            Self::Capture(args) => capture::run(args),
            Self::Stats(args) => stats::run(args),
            Self::Echo(args) => echo::run(args),
            Self::Selftest(args) => selftest::run(args),
            Self::Soak(args) => soak::run(args),
        }
    }
}
