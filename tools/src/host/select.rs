//! Which functions of a host a device spec means.

use anyhow::bail;
use vfnic::backend::VfToken;
use vfnic::{DeviceSpec, PciAddress, System, VfSet};

use super::function::Function;
use super::{Host, kubernetes};

/// Whether `function` is meant by `spec`. Without VF numbers an interface means its PF and all VFs.
///
/// # Errors
///
/// When the spec names something that only exists here under another name, and that cannot be found.
pub fn matches(host: &Host, spec: &DeviceSpec, function: &Function) -> anyhow::Result<bool> {
    Ok(match spec {
        DeviceSpec::Pci(address) => *address == function.at,
        DeviceSpec::Pattern(pattern) => pattern.matches(function.at),
        DeviceSpec::Netdev { name, vfs } => {
            let of_pf = function.pf_interface.as_ref() == Some(name);
            match vfs {
                VfSet::All => of_pf || function.interfaces.contains(name),
                VfSet::Ranges(_) => of_pf && function.vf.is_some_and(|number| vfs.contains(number)),
            }
        }
        DeviceSpec::OfPf { pf, vfs } => {
            function.pf == Some(*pf) && function.vf.is_some_and(|number| vfs.contains(number))
        }
        DeviceSpec::Kubernetes { .. } => resolve(host, spec)?.contains(&function.at),
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

/// The VF token this process was given for `function`: in the environment, or with a pool of the device plugin's.
///
/// # Errors
///
/// When what was given is none.
pub fn token(host: &Host, function: &Function) -> anyhow::Result<Option<VfToken>> {
    let pools = kubernetes::pools(host);
    let of_pools = pools
        .iter()
        .filter(|pool| {
            pool.devices
                .iter()
                .any(|given| given.address == function.address)
        })
        .map(|pool| DeviceSpec::Kubernetes {
            resource: pool.name.clone(),
            index: None,
        });
    let sysfs = host.path("/sys");
    let system = System {
        sysfs: &sysfs,
        environment: &|name| host.variable(name).map(str::to_owned),
    };
    for spec in std::iter::once(DeviceSpec::Pci(function.at)).chain(of_pools) {
        if let Some(token) = spec.vf_token_on(&system, function.at)? {
            return Ok(Some(token));
        }
    }
    Ok(None)
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
