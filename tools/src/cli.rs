//! The command line: what can be said, and how it ends.

use std::ffi::OsString;
use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::commands::{bench, check, demo, on_host, ping, probe, sim, watch};
use crate::{apps, confine, output, privilege};

/// Exit status of a command that was understood and failed.
pub const FAILURE: u8 = 1;
/// Exit status of a command that makes no sense.
pub const USAGE: u8 = 2;
/// Exit status of a command that worked and has warnings to give.
pub const WARNED: u8 = 3;

/// Options of every command come behind a command's own.
const LAST: usize = 900;

/// Runs Intel SR-IOV virtual functions from userspace, real ones and simulated ones.
#[derive(Debug, Parser)]
#[command(name = "vfnic", version, max_term_width = 100, after_help = GRAMMAR)]
pub struct Cli {
    /// Log more to standard error: -v debug, -vv trace (VFNIC_LOG overrides)
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = LAST)]
    verbose: u8,
    /// Leave a command that goes on for long its right to open files and sockets and to run programs
    #[arg(long, global = true, display_order = LAST)]
    no_sandbox: bool,
    #[command(subcommand)]
    command: Command,
}

const GRAMMAR: &str = "\
Devices:
  0000:31:10.1, 31:10.1   a PCI function bound to vfio-pci
  eth0#1                  VF 1 of the PF behind a network interface
  0000:31:00.0#1          VF 1 of the PF at an address
  *:31:12.*               the VF whose address matches, if there is but one
  k8s:RESOURCE[/I]        what the Kubernetes SR-IOV device plugin gave this container
  vfio-user:PATH          a device served on a Unix socket
  sim:MODEL[/VF][?KEY=VALUE&...]
                          a VF of a simulated 82576, i350, 82599, x540 or x550;
                          keys: vfs, vf, card, seed, mac, vlan, trust, mtu; specs
                          with the same model and card are VFs of one card

Exit status: 0 success, 1 failure, 2 usage, 3 success with warnings (doctor).";

/// What to do.
#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Host(on_host::Command),
    Demo(demo::Args),
    Probe(probe::Args),
    Ping(ping::Args),
    #[command(flatten)]
    Apps(apps::Command),
    Check(check::Args),
    Sim(sim::Args),
    Watch(watch::Args),
    Bench(bench::Args),
}

impl Command {
    /// Whether it needs no more privilege than the driver does. The others look into or change the host, serve a card
    /// with an uplink of the host's, or count cycles.
    const fn moves_frames(&self) -> bool {
        !matches!(self, Self::Host(_) | Self::Sim(_) | Self::Bench(_))
    }
}

/// A command line that can be parsed and makes no sense all the same; ends with status 2.
#[derive(Debug)]
pub struct UsageError(pub String);

impl std::fmt::Display for UsageError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for UsageError {}

/// How a command that did what it was asked ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// What was looked for is so.
    Good,
    /// It is not; the command has said why.
    Bad,
    /// It is, with something to be said against it.
    Warned,
}

impl From<bool> for Outcome {
    fn from(good: bool) -> Self {
        if good { Self::Good } else { Self::Bad }
    }
}

/// Whether a command line makes sense, the program's name left out. Runs nothing.
///
/// # Errors
///
/// What is wrong with it, as the command would say it.
pub fn understand(arguments: &[String]) -> Result<(), clap::Error> {
    let program = "vfnic".to_owned();
    match Cli::try_parse_from(std::iter::once(&program).chain(arguments)) {
        // `--help` and `--version` arrive as errors with status 0.
        Err(error) if error.exit_code() != 0 => Err(error),
        _ => Ok(()),
    }
}

/// Runs the command that this process was started with.
#[must_use]
pub fn main() -> ExitCode {
    confine::arm();
    run(std::env::args_os())
}

/// Runs a command, `arguments` including the program's name.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // `--help` and `--version` arrive here as well, and go to standard output with status 0.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(USAGE));
        }
    };
    start_log(cli.verbose);
    if cli.no_sandbox {
        confine::disarm();
    }
    if cli.command.moves_frames() {
        privilege::drop_spare();
    }
    let result = match cli.command {
        Command::Host(command) => command.run(),
        Command::Demo(args) => demo::run(args),
        Command::Probe(args) => probe::run(args),
        Command::Ping(args) => ping::run(args),
        Command::Apps(command) => command.run(),
        Command::Check(args) => check::run(args),
        Command::Sim(args) => sim::run(args),
        Command::Watch(args) => watch::run(args),
        Command::Bench(args) => bench::run(&args),
    };
    match result {
        Ok(Outcome::Good) => ExitCode::SUCCESS,
        Ok(Outcome::Bad) => ExitCode::from(FAILURE),
        Ok(Outcome::Warned) => ExitCode::from(WARNED),
        Err(error) if output::is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "vfnic: {}", output::chain(&error));
            ExitCode::from(if error.is::<UsageError>() {
                USAGE
            } else {
                FAILURE
            })
        }
    }
}

fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "warn",
        1 => "debug",
        _ => "trace",
    };
    env_logger::Builder::from_env(env_logger::Env::new().filter_or("VFNIC_LOG", level))
        .format_target(false)
        .format_timestamp(None)
        // Somebody who runs several commands in one process has a logger already.
        .try_init()
        .ok();
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_shows_an_example() {
        for command in Cli::command().get_subcommands_mut() {
            let help = command.render_long_help().to_string();
            let call = format!("vfnic {}", command.get_name());
            let about = command
                .get_about()
                .map(ToString::to_string)
                .unwrap_or_default();
            assert!(about.len() > 20 && !about.contains('['), "{about}");
            assert!(help.contains("Example"), "{}", command.get_name());
            assert!(help.contains(&call), "{}", command.get_name());
        }
    }
}
