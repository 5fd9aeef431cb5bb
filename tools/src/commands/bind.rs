//! `vfnic bind` and `vfnic unbind`: a function's driver.

use clap::Args as ClapArgs;
use vfnic::DeviceSpec;

use crate::cli::Outcome;
use crate::host::change::{rebind, refuse_if_needed};
use crate::host::{At, select};
use crate::output;

/// Gives functions to vfio-pci
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic bind 0000:31:10.1
  vfnic bind eth0#0-3 --dry-run")]
pub struct Bind {
    #[command(flatten)]
    on: OnFunctions,
}

/// Gives functions back to the kernel's drivers
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic unbind 0000:31:10.1
  vfnic unbind eth0#0-3 --dry-run")]
pub struct Unbind {
    #[command(flatten)]
    on: OnFunctions,
}

/// What is done to functions that somebody may need.
#[derive(Clone, Debug, ClapArgs)]
pub(super) struct OnFunctions {
    /// The functions: 0000:31:10.1, eth0#0-3, 0000:31:00.0#0-3, eth0 (all its VFs)
    #[arg(value_name = "SPEC")]
    pub(super) spec: DeviceSpec,
    /// Print the writes, make none
    #[arg(long)]
    pub(super) dry_run: bool,
    /// Also when a route, bridge or bond needs its interface
    #[arg(long)]
    pub(super) force: bool,
    #[command(flatten)]
    pub(super) at: At,
}

impl Bind {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// When a function is needed by somebody, or does not bind.
    pub fn run(self) -> anyhow::Result<Outcome> {
        self.on.bind(Some("vfio-pci"))
    }
}

impl Unbind {
    /// Runs it.
    ///
    /// # Errors
    ///
    /// As for [`Bind`].
    pub fn run(self) -> anyhow::Result<Outcome> {
        self.on.bind(None)
    }
}

impl OnFunctions {
    fn bind(self, driver: Option<&str>) -> anyhow::Result<Outcome> {
        let host = self.at.host()?;
        let functions = select::functions(&host, &self.spec)?;
        // All are looked at before one is touched.
        for function in &functions {
            // Where it is already, but somebody has it: whoever asks would think it theirs.
            if function.is_on_vfio() == driver.is_some() && function.holders.is_empty() {
                continue;
            }
            refuse_if_needed(function, self.force)?;
            if driver.is_some() && function.iommu_group.is_none() {
                anyhow::bail!(
                    "{} is in no IOMMU group, vfio-pci cannot have it; `vfnic doctor {}` says why",
                    function.address,
                    function.address
                );
            }
        }
        for function in functions {
            if function.is_on_vfio() == driver.is_some() {
                output::line(format!("{}: nothing to do", function.address))?;
                continue;
            }
            rebind(&host, function.at, driver, self.dry_run)?;
            if !self.dry_run {
                let now = host.sysfs().driver(function.at);
                let now = now.as_deref().unwrap_or("no driver");
                output::line(format!("{}: bound to {now}", function.address))?;
            }
        }
        Ok(Outcome::Good)
    }
}
