//! `vfnic persist`: what has to be written where, so that VFs are there again after a restart. It prints; it installs
//! nothing, for what a host starts with is its administrator's.
//!
//! Functions are named by address and by number under their PF. A group's number never appears: the kernel gives it
//! out anew at every start.

mod link;
mod network_manager;
mod script;
mod udev;

use std::fmt::Write;

use anyhow::bail;
use clap::{Args as ClapArgs, ValueEnum};
use vfnic::DeviceSpec;

use crate::cli::Outcome;
use crate::host::cards::{self, Card, Changed};
use crate::host::{At, function::Function};
use crate::output;

/// Prints what keeps VFs over a restart: their number, their settings, vfio-pci
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
What is printed puts things back to how they are now: the PF's number of VFs, what `vfnic set`
changed on the VFs named, and those on vfio-pci. Lines that begin with `# /` name the files.

Examples:
  vfnic persist eth0 --format udev
  vfnic persist eth0#0-3 --format systemd-link
  vfnic persist 0000:31:10.1 --format rc-local")]
pub struct Args {
    /// The VFs: 0000:31:10.1, eth0#0-3, 0000:31:00.0#0-3, eth0 (all of them); a PF's address keeps its number of VFs only
    #[arg(value_name = "SPEC")]
    spec: DeviceSpec,
    /// What is to do it
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// A group of users that may open the VFs without being root
    #[arg(long, value_name = "GROUP", value_parser = group)]
    group: Option<String>,
    #[command(flatten)]
    at: At,
}

/// What starts things on a host.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// Rules for udev, on any distribution
    Udev,
    /// A .link file of systemd's (251 or newer) and a rule for udev
    SystemdLink,
    /// A profile of NetworkManager's and a rule for udev
    Networkmanager,
    /// Commands of driverctl's and a rule for udev
    Driverctl,
    /// A shell script
    RcLocal,
}

/// A group's name, as groupadd takes it: it ends up in a file that root's programs read.
fn group(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    if !text.is_empty()
        && text.len() <= 32
        && text.bytes().all(good)
        && !text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
    {
        return Ok(text.to_owned());
    }
    Err("a group's name has letters, digits, `_` and `-`, and begins with a letter".to_owned())
}

/// Runs it.
///
/// # Errors
///
/// When the spec names nothing that could be kept.
pub fn run(args: &Args) -> anyhow::Result<Outcome> {
    let host = args.at.host()?;
    let cards = cards::of(&host, &args.spec)?;
    let mut text = String::new();
    for (at, card) in cards.iter().enumerate() {
        if card.vfs.is_empty() && card.count() == 0 {
            bail!(
                "{} has no VFs: nothing to keep; `vfnic provision` makes some",
                args.spec
            );
        }
        if at > 0 {
            text.push('\n');
        }
        match args.format {
            Format::Udev => udev::write(&mut text, card)?,
            Format::SystemdLink => link::write(&mut text, card)?,
            Format::Networkmanager => network_manager::write(&mut text, card)?,
            Format::Driverctl => udev::write_for_driverctl(&mut text, card)?,
            Format::RcLocal => script::write(&mut text, card)?,
        }
    }
    if let Some(group) = &args.group {
        let _ = write!(
            text,
            "\n# /etc/udev/rules.d/71-vfnic-nodes.rules\n\
             # Members of the group {group} may open every VFIO node; the system's own limits on locked memory still hold.\n\
             SUBSYSTEM==\"vfio\", GROUP=\"{group}\", MODE=\"0660\"\n\
             SUBSYSTEM==\"vfio-dev\", GROUP=\"{group}\", MODE=\"0660\"\n"
        );
    }
    output::text(&text)?;
    Ok(Outcome::Good)
}

/// What is kept of a VF.
struct Kept<'a> {
    vf: &'a Function,
    changed: Changed,
}

fn kept(card: &Card) -> impl Iterator<Item = Kept<'_>> {
    card.vfs.iter().map(|vf| Kept {
        vf,
        changed: Changed::of(vf.settings.as_ref()),
    })
}

/// A name for files, from an address: `0000-31-00.0`.
fn file_name(card: &Card) -> String {
    let function = card.pf.as_ref().or_else(|| card.vfs.first());
    function.map_or_else(String::new, |function| function.address.replace(':', "-"))
}
