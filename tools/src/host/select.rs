//! Which functions of a host a device spec means.

use anyhow::bail;
use vfnic::{DeviceSpec, PciAddress, System, VfSet};

use super::Host;
use super::function::Function;

/// Whether `function` is meant by `spec`. Without VF numbers an interface means its PF and all VFs.
///
/// # Errors
///
/// When the spec names something that only exists here under another name, and that cannot be found.
pub fn matches(host: &Host, spec: &DeviceSpec, function: &Function) -> anyhow::Result<bool> {
    Ok(match spec {
        DeviceSpec::Pci(address) => address.to_string() == function.address,
        DeviceSpec::Pattern(pattern) => {
            let at = function.at;
            PciAddress::new(at.domain, at.bus, at.device, at.function)
                .is_some_and(|address| pattern.matches(address))
        }
        DeviceSpec::Netdev { name, vfs } => {
            let of_pf = function.pf_interface.as_ref() == Some(name);
            match vfs {
                VfSet::All => of_pf || function.interfaces.contains(name),
                VfSet::Ranges(_) => of_pf && function.vf.is_some_and(|number| vfs.contains(number)),
            }
        }
        DeviceSpec::Kubernetes { .. } => resolve(host, spec)?
            .iter()
            .any(|address| address.to_string() == function.address),
        _ => bail!(
            "`{spec}` is no function of a host: an address, eth0#0, *:31:12.* or k8s:RESOURCE is wanted"
        ),
    })
}

/// The functions of `host` that `spec` names, by the library's own rules.
///
/// # Errors
///
/// When there are none.
pub fn resolve(host: &Host, spec: &DeviceSpec) -> anyhow::Result<Vec<PciAddress>> {
    let sysfs = host.path("/sys");
    Ok(spec.resolve_on(&System {
        sysfs: &sysfs,
        environment: &|name| host.variable(name).map(str::to_owned),
    })?)
}

/// The functions meant by `spec`, read. For an interface without numbers these are its VFs, or the function itself when it
/// has none.
///
/// # Errors
///
/// When there are none, or the spec is no function of a host.
pub fn functions(host: &Host, spec: &DeviceSpec) -> anyhow::Result<Vec<Function>> {
    if matches!(spec, DeviceSpec::VfioUser(_) | DeviceSpec::Sim(_)) {
        bail!(
            "`{spec}` is no function of a host: an address, eth0#0, *:31:12.* or k8s:RESOURCE is wanted"
        );
    }
    let addresses = resolve(host, spec)?;
    let mut found = Vec::new();
    for address in addresses {
        let address = address.to_string().parse()?;
        match Function::read(host, address) {
            Some(function) => found.push(function),
            None => bail!(
                "there is no function {address} here: {} does not exist; `vfnic list` shows those there are",
                host.function_path(address)
            ),
        }
    }
    Ok(found)
}
