//! `vfnic reset`: a VF as it is when nobody has had it yet.

use std::io;

use anyhow::{Context, bail};
use clap::Args as ClapArgs;
use vfnic::Port;

use super::bind::OnFunctions;
use crate::cli::Outcome;
use crate::host::change::{comes, put, refuse_if_needed};
use crate::host::function::{Function, Role};
use crate::host::{Host, select};
use crate::output;

/// Resets VFs, so that nothing of who had them last stays
///
/// A function that vfio-pci has is reset whenever it is opened and closed; this is for those that were left in the middle of something,
/// and for the next user to begin with. The PF keeps its settings for the VF.
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
The kernel is asked through sysfs, which takes root. Without, a VF on vfio-pci is opened and
closed through its own node.

Examples:
  vfnic reset 0000:31:10.1
  vfnic reset eth0#0-3 --dry-run")]
pub struct Args {
    #[command(flatten)]
    on: OnFunctions,
}

/// Runs it.
///
/// # Errors
///
/// When a function is no VF, is needed by somebody, or does not come back.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let args = args.on;
    let host = args.at.host()?;
    let functions = select::functions(&host, &args.spec)?;
    // All are looked at before one is touched.
    for function in &functions {
        let address = &function.address;
        if function.role != Role::Vf {
            bail!(
                "{address} is no VF; a PF's reset takes the link and the mailbox from all its VFs, and is not done here"
            );
        }
        refuse_if_needed(function, args.force)?;
        if !host.has(&file(&host, function)) {
            bail!(
                "{address} cannot be reset alone: the kernel has no {} for it",
                file(&host, function)
            );
        }
    }
    for function in &functions {
        let way = reset(&host, function, args.dry_run)?;
        if args.dry_run {
            continue;
        }
        if !comes(|| answers(&host, function)) {
            bail!(
                "{} was reset and does not answer: its configuration reads all ones; dmesg may say why",
                function.address
            );
        }
        output::line(format!("{}: reset, {way}", function.address))?;
    }
    Ok(Outcome::Good)
}

fn file(host: &Host, function: &Function) -> String {
    format!("{}/reset", host.function_path(function.at))
}

/// Resets it; tells by which way.
fn reset(host: &Host, function: &Function, dry: bool) -> anyhow::Result<String> {
    let methods = host.read(&format!("{}_method", file(host, function)));
    let error = match put(host, &file(host, function), "1", dry) {
        // The kernel takes the first of its methods that works.
        Ok(()) => {
            return Ok(match methods {
                Some(methods) => format!("by the kernel ({methods})"),
                None => "by the kernel".to_owned(),
            });
        }
        Err(error) => error,
    };
    let denied = error.downcast_ref::<io::Error>().is_some_and(|error| {
        matches!(
            error.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        )
    });
    if !denied || !function.is_on_vfio() || !host.is_this() {
        return Err(error);
    }
    // VFIO resets what it opens and what is closed, and opening a port resets the VF with its PF, too.
    Port::open(&function.address)
        .and_then(Port::close)
        .with_context(|| format!("{error:#}; and through VFIO"))?;
    Ok("by VFIO and through the mailbox".to_owned())
}

/// Whether its configuration space answers; copies of a host may be without one, and are taken at their word. A VF's first four
/// bytes are ones always (PCIe base specification, 9.3.4.1: its ids are the PF's to tell); its command and status never are.
fn answers(host: &Host, function: &Function) -> bool {
    let path = format!("{}/config", host.function_path(function.at));
    match std::fs::read(host.path(&path)) {
        Ok(bytes) => bytes.get(4..8) != Some(&[0xff; 4]),
        Err(_) => true,
    }
}
