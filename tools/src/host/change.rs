//! Changing a host: writes to sysfs, verified by their effect, taken back when it does not come.

use std::fs;
use std::io::{self, Write as _};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use vfnic::backend::PciAddress;

use super::Host;
use super::function::Function;

/// TIMEOUT: probing a driver is done when the write returns; VFs and their links in sysfs may come later.
const PATIENCE: Duration = Duration::from_secs(5);

/// Puts `value` into a file of sysfs, or says what would be put there.
///
/// # Errors
///
/// What the kernel answers, with the path.
pub fn put(host: &Host, path: &str, value: &str, dry: bool) -> anyhow::Result<()> {
    if dry {
        return crate::output::line(format!("echo '{value}' > {path}"));
    }
    let write = || -> io::Result<()> {
        // Never created: a path that is not there is a kernel that cannot do this.
        // Truncated as a shell does it: sysfs does not mind, and a copy of it holds what was written.
        let mut file = fs::OpenOptions::new()
            .write(true)
            .truncate(true)
            .open(host.path(path))?;
        file.write_all(format!("{value}\n").as_bytes())
    };
    write().with_context(|| format!("`{value}` cannot be written to {path}"))
}

/// Waits until `what` is so. False when it is not in time.
pub(crate) fn comes(what: impl Fn() -> bool) -> bool {
    let start = Instant::now();
    loop {
        if what() {
            return true;
        }
        if start.elapsed() >= PATIENCE {
            return false;
        }
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Refuses what would take a function away from somebody.
///
/// # Errors
///
/// Who or what needs it.
pub fn refuse_if_needed(function: &Function, force: bool) -> anyhow::Result<()> {
    let address = &function.address;
    if let Some((on, _)) = function.vfs.filter(|(on, _)| *on > 0) {
        bail!(
            "{address} is a PF with {on} VFs, which would go with its driver; `vfnic provision {address} 0` takes them away first"
        );
    }
    if let Some(holder) = function.holders.first() {
        bail!(
            "{address} is held by {} (pid {}); end that first",
            crate::output::printable(&holder.name),
            holder.pid
        );
    }
    match &function.in_use {
        Some(why) if !force => bail!("{address} is in use: {why}; --force does it all the same"),
        _ => Ok(()),
    }
}

/// Gives a function to `driver`, or with `None` to the one the kernel chooses. Whatever fails, the function is given back to where it was.
///
/// # Errors
///
/// What went wrong, and whether it could be taken back.
pub fn rebind(
    host: &Host,
    address: PciAddress,
    driver: Option<&str>,
    dry: bool,
) -> anyhow::Result<()> {
    let sysfs = host.sysfs();
    let (was, override_was) = (sysfs.driver(address), sysfs.driver_override(address));
    let done = steps(host, address, driver.unwrap_or(""), dry);
    if dry {
        return done;
    }
    let arrived = || match driver {
        Some(driver) => sysfs.driver(address).as_deref() == Some(driver),
        None => sysfs
            .driver(address)
            .is_none_or(|driver| !vfnic::backend::sysfs::is_vfio(&driver)),
    };
    let why = match done {
        Ok(()) if comes(arrived) => return Ok(()),
        Ok(()) => anyhow::anyhow!(
            "{address} was offered to {} and is bound to {}; dmesg may say why",
            driver.unwrap_or("the kernel's drivers"),
            sysfs.driver(address).as_deref().unwrap_or("nothing")
        ),
        Err(error) => error,
    };
    // Back: the same steps with the old values.
    let back = steps(host, address, override_was.as_deref().unwrap_or(""), false);
    Err(match back {
        Ok(()) if comes(|| sysfs.driver(address) == was) => {
            why.context("taken back, nothing is changed")
        }
        Ok(()) => why.context(format!(
            "not all could be taken back: it was bound to {}",
            was.as_deref().unwrap_or("nothing")
        )),
        Err(error) => why.context(format!("and taking it back failed ({error:#})")),
    })
}

fn steps(host: &Host, address: PciAddress, driver: &str, dry: bool) -> anyhow::Result<()> {
    let device = host.function_path(address);
    let text = address.to_string();
    put(host, &format!("{device}/driver_override"), driver, dry)?;
    if host.sysfs().driver(address).is_some() {
        put(host, &format!("{device}/driver/unbind"), &text, dry)?;
    }
    put(host, "/sys/bus/pci/drivers_probe", &text, dry)
}
