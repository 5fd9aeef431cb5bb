//! `vfnic export`: what hands VFs to a hypervisor, a cloud or a cluster, in the words each of them wants. It prints; it
//! changes nothing.

mod kubernetes;
mod libvirt;
mod machines;
mod nova;

use anyhow::bail;
use clap::{Args as ClapArgs, ValueEnum};
use vfnic::DeviceSpec;

use crate::cli::Outcome;
use crate::host::cards::{self, Card};
use crate::host::function::Function;
use crate::host::{At, Host};
use crate::output;

/// Prints what hands VFs to OpenStack, libvirt, Kubernetes, Xen or QEMU
#[derive(Clone, Debug, ClapArgs)]
#[command(after_help = "\
Examples:
  vfnic export eth0 --format nova --name fast_vf
  vfnic export eth0#0 --format libvirt
  vfnic export eth0#0-3 --format k8s
  vfnic export 0000:31:00.0#0-3 --format k8s
  vfnic export 0000:31:10.1 --format qemu")]
pub struct Args {
    /// The VFs: 0000:31:10.1, eth0#0-3, 0000:31:00.0#0-3, eth0 (all of them)
    #[arg(value_name = "SPEC")]
    spec: DeviceSpec,
    /// For whom
    #[arg(long, value_name = "FORMAT")]
    format: Format,
    /// What the alias, network, pool or resource is to be called [default: vfnic_MODEL]
    #[arg(long, value_name = "NAME", value_parser = name)]
    name: Option<String>,
    #[command(flatten)]
    at: At,
}

/// Who gets the VFs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// device_spec, alias and flavor of OpenStack Nova
    Nova,
    /// Devices for a libvirt domain
    Libvirt,
    /// A pool of VFs as a libvirt network
    LibvirtNetwork,
    /// ConfigMap of the SR-IOV device plugin, and a pod
    K8s,
    /// xe and xl
    Xen,
    /// Arguments of qemu-system-x86_64
    Qemu,
}

/// A name that every one of them takes. A dash is not among the letters: the device plugin would leave it in the name of
/// a variable, where shells have none.
fn name(text: &str) -> Result<String, String> {
    let good = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    if text.len() <= 63
        && text.starts_with(|first: char| first.is_ascii_alphabetic())
        && text.ends_with(|last: char| last.is_ascii_alphanumeric())
        && text.bytes().all(good)
    {
        return Ok(text.to_owned());
    }
    Err("up to 63 letters, digits and `_` are wanted, a letter first and no `_` last".to_owned())
}

/// What is handed over.
struct Export<'a> {
    host: &'a Host,
    name: String,
    cards: &'a [Card],
    /// They were named by their PF's address.
    by_root: bool,
}

impl Export<'_> {
    fn vfs(&self) -> impl Iterator<Item = &Function> {
        self.cards.iter().flat_map(|card| &card.vfs)
    }

    /// Vendor and device of the VFs, each pair once.
    fn ids(&self) -> Vec<(u16, u16)> {
        let mut ids: Vec<_> = self.vfs().map(|vf| (vf.vendor_id, vf.device_id)).collect();
        ids.sort_unstable();
        ids.dedup();
        ids
    }
}

/// Runs it.
///
/// # Errors
///
/// When the spec names no VF, or one that vfio-pci cannot hand on.
pub fn run(args: Args) -> anyhow::Result<Outcome> {
    let host = args.at.host()?;
    let cards = cards::of(&host, &args.spec)?;
    if let Some(pf) = cards.iter().find(|card| card.vfs.is_empty()) {
        let pf = pf.pf.as_ref().map_or("it", |pf| pf.address.as_str());
        bail!("{pf} is a PF; VFs are handed on, as eth0#0 or eth0 for all of them");
    }
    let model = cards
        .iter()
        .flat_map(|card| &card.vfs)
        .find_map(|vf| vf.model);
    let export = Export {
        host: &host,
        name: args
            .name
            .unwrap_or_else(|| format!("vfnic_{}", model.unwrap_or("vfs").to_ascii_lowercase())),
        cards: &cards,
        by_root: matches!(args.spec, DeviceSpec::OfPf { .. }),
    };
    output::text(&match args.format {
        Format::Nova => nova::text(&export),
        Format::Libvirt => libvirt::devices(&export),
        Format::LibvirtNetwork => libvirt::network(&export),
        Format::K8s => kubernetes::text(&export)?,
        Format::Xen => machines::xen(&export),
        Format::Qemu => machines::qemu(&export),
    })?;
    Ok(Outcome::Good)
}
