//! `vfnic provision`: how many VFs a PF has.

use anyhow::bail;
use clap::Args as ClapArgs;

use crate::cli::Outcome;
use crate::host::At;
use crate::host::change::{comes, put};
use crate::host::function::{Function, Role};
use crate::output;

/// Gives a PF a number of VFs
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic provision eth0 4
  vfnic provision 0000:31:00.0 0 --dry-run")]
pub struct Args {
    /// The PF, by interface or address
    #[arg(value_name = "PF")]
    pf: String,
    /// How many; 0 takes them away
    #[arg(value_name = "N")]
    vfs: u16,
    /// Print the writes, make none
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    at: At,
}

/// Runs it.
///
/// # Errors
///
/// When it is no PF, cannot have so many, one of its VFs is in use, or they do not come.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let host = args.at.host()?;
    let sysfs = host.sysfs();
    let address = sysfs
        .of_interface(&args.pf)
        .or_else(|| args.pf.parse().ok());
    let pf = address.and_then(|address| Function::read(&host, address));
    let Some((pf, (on, total))) = pf
        .filter(|function| function.role == Role::Pf)
        .and_then(|function| function.vfs.map(|vfs| (function, vfs)))
    else {
        bail!(
            "`{}` is no PF here; `vfnic list` shows those there are",
            args.pf
        );
    };
    if args.vfs > total {
        bail!(
            "{} can have {total} VFs, {} were asked for",
            pf.address,
            args.vfs
        );
    }
    if args.vfs == on {
        output::line(format!("{}: has {on} VFs already", pf.address))?;
        return Ok(Outcome::Good);
    }
    // The number can only be changed by way of 0: every VF goes, whoever has it.
    for (number, vf) in sysfs.vfs(pf.at) {
        if let Some(vf) = Function::read(&host, vf) {
            let holder = vf.holders.first().map(|holder| {
                format!(
                    "held by {} (pid {})",
                    output::printable(&holder.name),
                    holder.pid
                )
            });
            if let Some(why) = holder.or(vf.in_use) {
                bail!("VF {number} ({}) would go, and is {why}", vf.address);
            }
        }
    }
    let file = format!("{}/sriov_numvfs", host.function_path(pf.at));
    let set = |vfs: u16| put(&host, &file, &vfs.to_string(), args.dry_run);
    if on != 0 {
        set(0)?;
    }
    if args.vfs != 0 {
        let made = set(args.vfs);
        let wanted = usize::from(args.vfs);
        if !args.dry_run && (made.is_err() || !comes(|| sysfs.vfs(pf.at).len() == wanted)) {
            let _ = set(0).and_then(|()| if on == 0 { Ok(()) } else { set(on) });
            made?;
            bail!(
                "{} of {wanted} VFs came; taken back, dmesg may say why",
                sysfs.vfs(pf.at).len()
            );
        }
    }
    if !args.dry_run {
        for (number, vf) in sysfs.vfs(pf.at) {
            output::line(format!("VF {number}: {vf}"))?;
        }
    }
    Ok(Outcome::Good)
}
