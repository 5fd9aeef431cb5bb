//! `vfnic completions` and `vfnic man`: what a shell and `man` want to know of the command line, made from the command
//! line itself.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::Context;
use clap::{Args as ClapArgs, CommandFactory};
use clap_complete::Shell;

use crate::cli::{Cli, Outcome};

/// Prints completions for a shell
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic completions bash > /etc/bash_completion.d/vfnic
  vfnic completions zsh > /usr/local/share/zsh/site-functions/_vfnic
  vfnic completions fish > ~/.config/fish/completions/vfnic.fish")]
pub struct Completions {
    /// Which
    #[arg(value_name = "SHELL")]
    shell: Shell,
}

/// Writes the manual pages
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic man | man -l -
  vfnic man /usr/local/share/man/man1")]
pub struct Man {
    /// A folder for a page of each command; without it, vfnic(1) goes to standard output
    #[arg(value_name = "DIR")]
    folder: Option<PathBuf>,
}

impl Completions {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// When standard output cannot be written.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        // Into memory first: the generator does not survive a reader that goes away.
        let mut script = Vec::new();
        clap_complete::generate(self.shell, &mut Cli::command(), "vfnic", &mut script);
        put(&script)?;
        Ok(Outcome::Good)
    }
}

impl Man {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// When the folder or standard output cannot be written.
    pub fn run(&self) -> anyhow::Result<Outcome> {
        let mut command = Cli::command();
        command.build();
        match &self.folder {
            None => put(&page(command)?)?,
            Some(folder) => {
                fs::create_dir_all(folder)
                    .with_context(|| format!("{} cannot be made", folder.display()))?;
                pages(command, folder)?;
            }
        }
        Ok(Outcome::Good)
    }
}

/// A page for `command` and each below it.
fn pages(command: clap::Command, folder: &Path) -> anyhow::Result<()> {
    for below in command.get_subcommands().filter(|below| !is_help(below)) {
        pages(below.clone(), folder)?;
    }
    // `build` has given every command its full name: vfnic-bench-ring.
    let name = command
        .get_display_name()
        .unwrap_or_else(|| command.get_name());
    let file = folder.join(format!("{name}.1"));
    fs::write(&file, page(command)?)
        .with_context(|| format!("{} cannot be written", file.display()))
}

fn is_help(command: &clap::Command) -> bool {
    command.get_name() == "help" || command.is_hide_set()
}

fn page(command: clap::Command) -> anyhow::Result<Vec<u8>> {
    let mut page = Vec::new();
    clap_mangen::Man::new(command).render(&mut page)?;
    Ok(page)
}

fn put(bytes: &[u8]) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(bytes)?;
    out.flush()?;
    Ok(())
}
