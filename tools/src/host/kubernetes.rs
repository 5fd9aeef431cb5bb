//! What the Kubernetes SR-IOV device plugin told this container: `PCIDEVICE_…` variables in both forms.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;
use vfnic::backend::PciAddress;

use super::Host;

const PREFIX: &str = "PCIDEVICE_";
const INFO: &str = "_INFO";

/// A pool this container was given devices of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Pool {
    /// As the variables call it: `INTEL_COM_SRIOV_VFS`.
    pub name: String,
    /// Its devices, in the plugin's order.
    pub devices: Vec<Given>,
    /// What of the variables could not be read.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub troubles: Vec<String>,
}

/// A device of a pool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Given {
    /// Its address.
    pub address: String,
    /// The group node mounted for it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// The VF token, where the plugin's configuration has one.
    #[serde(skip)]
    pub token: Option<String>,
    /// Whether the function is to be seen in sysfs here.
    pub present: bool,
}

/// The variable that holds a resource's addresses. The plugin makes it upper case and turns dots into underscores (its
/// documentation says slashes, too); dashes stay.
#[must_use]
pub fn variable(resource: &str) -> String {
    format!(
        "{PREFIX}{}",
        resource.to_uppercase().replace(['.', '/'], "_")
    )
}

/// Every pool in the environment, by name.
#[must_use]
pub fn pools(host: &Host) -> Vec<Pool> {
    read(host.environment(), &|address| host.sysfs().exists(address))
}

/// As [`pools`], of any variables; `present` says whether a function is there.
#[must_use]
pub fn read(
    environment: &BTreeMap<String, String>,
    present: &dyn Fn(PciAddress) -> bool,
) -> Vec<Pool> {
    let mut pools = BTreeMap::<&str, Pool>::new();
    for (variable, value) in environment {
        let Some(name) = variable
            .strip_prefix(PREFIX)
            .filter(|name| !name.is_empty())
        else {
            continue;
        };
        // A resource may itself be called …_info: then its value is no JSON.
        let info = name
            .strip_suffix(INFO)
            .filter(|_| value.trim_start().starts_with('{'));
        let pool = pools.entry(info.unwrap_or(name)).or_default();
        if info.is_some() {
            merge_info(pool, variable, value);
        } else {
            merge_list(pool, variable, value);
        }
    }
    pools
        .into_iter()
        .map(|(name, mut pool)| {
            pool.name = name.to_owned();
            for given in &mut pool.devices {
                given.present = given.address.parse().is_ok_and(present);
            }
            pool
        })
        .collect()
}

fn merge_list(pool: &mut Pool, variable: &str, value: &str) {
    let mut listed = Vec::new();
    for part in value
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.parse::<PciAddress>() {
            Ok(address) => listed.push(address.to_string()),
            Err(_) => pool.troubles.push(format!(
                "{variable} holds `{part}`, which is no PCI address"
            )),
        }
    }
    // The list has the plugin's order, which is what an index counts in; the object has none.
    let mut rest = std::mem::take(&mut pool.devices);
    for address in listed {
        let known = rest.iter().position(|given| given.address == address);
        pool.devices.push(known.map_or_else(
            || Given {
                address: address.clone(),
                ..Given::default()
            },
            |at| rest.remove(at),
        ));
    }
    pool.devices.append(&mut rest);
}

fn merge_info(pool: &mut Pool, variable: &str, value: &str) {
    let object: serde_json::Map<String, Value> = match serde_json::from_str(value) {
        Ok(object) => object,
        Err(error) => {
            pool.troubles
                .push(format!("{variable} is no JSON object: {error}"));
            return;
        }
    };
    for (key, providers) in &object {
        let Ok(address) = key.parse::<PciAddress>() else {
            pool.troubles
                .push(format!("{variable} has `{key}`, which is no PCI address"));
            continue;
        };
        let address = address.to_string();
        let text = |provider: &str, key: &str| {
            providers
                .get(provider)
                .and_then(|provider| provider.get(key))
                .and_then(Value::as_str)
                .map(str::to_owned)
        };
        let given = match pool
            .devices
            .iter()
            .position(|given| given.address == address)
        {
            Some(at) => &mut pool.devices[at],
            None => {
                pool.devices.push(Given {
                    address,
                    ..Given::default()
                });
                let last = pool.devices.len() - 1;
                &mut pool.devices[last]
            }
        };
        // Two spellings are in use.
        given.node = text("vfio", "dev-mount").or_else(|| text("vfio", "vfio-dev-mount"));
        given.token = text("extraInfo", "token");
    }
}
