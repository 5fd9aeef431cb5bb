//! From a spec to the PCI functions it names, by what sysfs and the environment say.

use std::fs;
use std::io;
use std::path::Path;

use vfnic_hw::Model;

use super::{DeviceSpec, PciAddress, SpecError, VfSet};

/// What to do about a PF that is none.
const PFS: &str = "`vfnic list` shows the PFs there are";

/// Where to look.
#[expect(
    missing_debug_implementations,
    reason = "a function has nothing to show"
)]
pub struct System<'a> {
    /// Where sysfs is.
    pub sysfs: &'a Path,
    /// The variables of the environment.
    pub environment: &'a dyn Fn(&str) -> Option<String>,
}

impl System<'static> {
    /// This one.
    #[must_use]
    pub fn this() -> Self {
        Self {
            sysfs: Path::new("/sys"),
            environment: &|name| std::env::var(name).ok(),
        }
    }
}

impl DeviceSpec {
    /// The PCI functions it names on this machine, each once, at least one: in ascending order, but those of `k8s:` in the
    /// order in which the device plugin gave them, which is what an index counts in. Specs that name no PCI function
    /// (`vfio-user:`, `sim:`) give none.
    ///
    /// # Errors
    ///
    /// [`SpecError::Nothing`] when nothing here answers to it.
    pub fn resolve(&self) -> Result<Vec<PciAddress>, SpecError> {
        self.resolve_on(&System::this())
    }

    /// As [`resolve`](Self::resolve), on a machine whose files are elsewhere.
    ///
    /// # Errors
    ///
    /// As there.
    pub fn resolve_on(&self, system: &System<'_>) -> Result<Vec<PciAddress>, SpecError> {
        let mut found = match self {
            // Whether it exists is the backend's question: it knows better errors.
            Self::Pci(address) => vec![*address],
            Self::Netdev { name, vfs } => {
                let interface = system.sysfs.join("class/net").join(name);
                if !interface.exists() {
                    return Err(self.nowhere(format!("there is no network interface `{name}`")));
                }
                self.below(&interface.join("device"), name, vfs)?
            }
            Self::OfPf { pf, vfs } => {
                let path = system.sysfs.join(format!("bus/pci/devices/{pf}"));
                if !path.exists() {
                    return Err(self.nowhere(format!("there is no function {pf}")));
                }
                self.below(&path, &pf.to_string(), vfs)?
            }
            Self::Pattern(pattern) => {
                let path = system.sysfs.join("bus/pci/devices");
                let all = ours(&path).map_err(|error| self.unreadable(&path, &error))?;
                let matching: Vec<_> = all
                    .iter()
                    .copied()
                    .filter(|address| pattern.matches(*address))
                    .collect();
                if matching.is_empty() {
                    return Err(self.nothing(format!(
                        "none of the {} VFs that vfnic drives here matches",
                        all.len()
                    )));
                }
                matching
            }
            Self::Kubernetes { resource, index } => {
                return self.of_kubernetes(system, resource, *index);
            }
            Self::VfioUser(_) | Self::Sim(_) => Vec::new(),
        };
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    /// There is not even a PF.
    fn nowhere(&self, why: String) -> SpecError {
        SpecError::Nothing {
            spec: self.to_string(),
            why,
            todo: PFS,
        }
    }

    fn nothing(&self, why: String) -> SpecError {
        SpecError::Nothing {
            spec: self.to_string(),
            why,
            todo: "the VFs there are stand under the PF in sysfs, as virtfn0, virtfn1 …",
        }
    }

    fn unreadable(&self, path: &Path, error: &io::Error) -> SpecError {
        self.nothing(format!("{} cannot be read ({error})", path.display()))
    }

    /// The VFs of the PF whose folder in sysfs is `path`, and which is called `name`.
    fn below(&self, path: &Path, name: &str, vfs: &VfSet) -> Result<Vec<PciAddress>, SpecError> {
        let entries = match fs::read_dir(path) {
            // An interface without a device below: a bridge, say.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(self.nowhere(format!("`{name}` is no PF")));
            }
            entries => entries.map_err(|error| self.unreadable(path, &error))?,
        };
        let mut numbers = Vec::new();
        for entry in entries.flatten() {
            let entry_name = entry.file_name();
            let number = entry_name
                .to_str()
                .and_then(|text| text.strip_prefix("virtfn"))
                .and_then(|digits| digits.parse::<u16>().ok());
            let address = fs::read_link(entry.path()).ok().and_then(|target| {
                target
                    .file_name()
                    .and_then(|last| last.to_str())
                    .and_then(|text| text.parse::<PciAddress>().ok())
            });
            if let (Some(number), Some(address)) = (number, address) {
                numbers.push((number, address));
            }
        }
        if numbers.is_empty() {
            // What could have VFs says how many.
            let (why, todo) = if path.join("sriov_totalvfs").exists() {
                ("has no VFs", "`vfnic provision PF 2` makes two")
            } else {
                ("is no PF", PFS)
            };
            return Err(SpecError::Nothing {
                spec: self.to_string(),
                why: format!("`{name}` {why}"),
                todo,
            });
        }
        let wanted: Vec<_> = numbers
            .iter()
            .filter(|(number, _)| vfs.contains(*number))
            .map(|(_, address)| *address)
            .collect();
        if wanted.is_empty() {
            return Err(self.nothing(format!(
                "`{name}` has {} VFs, numbered from 0",
                numbers.len()
            )));
        }
        Ok(wanted)
    }

    fn of_kubernetes(
        &self,
        system: &System<'_>,
        resource: &str,
        index: Option<u16>,
    ) -> Result<Vec<PciAddress>, SpecError> {
        let [plain, dashless] = variables(resource);
        let value = (system.environment)(&plain).or_else(|| (system.environment)(&dashless));
        let Some(value) = value else {
            return Err(SpecError::Nothing {
                spec: self.to_string(),
                why: format!("the environment variable {plain} is not set"),
                todo: "request the resource in the pod's limits; the SR-IOV device plugin sets the variable",
            });
        };
        let mut addresses = Vec::new();
        for part in value
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
        {
            let address = part.parse::<PciAddress>().map_err(|_| {
                self.nothing(format!("{plain} holds `{part}`, which is no PCI address"))
            })?;
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
        if addresses.is_empty() {
            return Err(self.nothing(format!("{plain} is empty")));
        }
        match index {
            None => Ok(addresses),
            Some(index) => addresses
                .get(usize::from(index))
                .map(|address| vec![*address])
                .ok_or_else(|| {
                    self.nothing(format!(
                        "{plain} holds {} devices, numbered from 0",
                        addresses.len()
                    ))
                }),
        }
    }
}

/// The variables that may hold a resource's addresses. The plugin turns dots and slashes into underscores; what others
/// set by hand does so with dashes, too.
pub(super) fn variables(resource: &str) -> [String; 2] {
    let text = resource.to_uppercase().replace(['.', '/'], "_");
    [
        format!("PCIDEVICE_{text}"),
        format!("PCIDEVICE_{}", text.replace('-', "_")),
    ]
}

/// Every VF that we drive.
fn ours(path: &Path) -> io::Result<Vec<PciAddress>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(path)?.flatten() {
        let id = |file: &str| {
            let text = fs::read_to_string(entry.path().join(file)).ok()?;
            u16::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
        };
        let is_ours = id("vendor")
            .zip(id("device"))
            .is_some_and(|(vendor, device)| Model::from_vf_ids(vendor, device).is_some());
        let address = entry
            .file_name()
            .to_str()
            .and_then(|text| text.parse::<PciAddress>().ok());
        if let (true, Some(address)) = (is_ours, address) {
            found.push(address);
        }
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;
    use std::path::PathBuf;

    use super::*;

    /// A machine with a PF that has three VFs, and a foreign device.
    fn machine(name: &str) -> PathBuf {
        let root = std::env::temp_dir().join(format!("vfnic-spec-{name}-{}", std::process::id()));
        let _ = fs::remove_dir_all(&root);
        let devices = root.join("bus/pci/devices");
        for (address, device) in [
            ("0000:31:10.0", "0x10ed"),
            ("0000:31:10.2", "0x10ed"),
            ("0000:31:11.0", "0x10ed"),
            ("0000:31:00.0", "0x10fb"),
            ("0000:31:00.1", "0x10fb"),
            ("0000:00:03.0", "0x100e"),
        ] {
            let path = devices.join(address);
            fs::create_dir_all(&path).expect("a folder");
            fs::write(path.join("vendor"), "0x8086\n").expect("a file");
            fs::write(path.join("device"), format!("{device}\n")).expect("a file");
        }
        for pf in ["0000:31:00.0", "0000:31:00.1"] {
            fs::write(devices.join(pf).join("sriov_totalvfs"), "63\n").expect("a file");
        }
        let pf = devices.join("0000:31:00.0");
        for (number, address) in [
            (0, "0000:31:10.0"),
            (1, "0000:31:10.2"),
            (10, "0000:31:11.0"),
        ] {
            symlink(format!("../{address}"), pf.join(format!("virtfn{number}"))).expect("a link");
        }
        fs::create_dir_all(root.join("class/net/bridge0")).expect("a folder");
        let net = root.join("class/net/eth0");
        fs::create_dir_all(&net).expect("a folder");
        symlink(&pf, net.join("device")).expect("a link");
        root
    }

    fn resolve(spec: &str, root: &Path) -> Result<Vec<String>, SpecError> {
        let environment = |name: &str| match name {
            "PCIDEVICE_INTEL_COM_VFS" => Some("0000:31:10.2,0000:31:10.0".to_owned()),
            "PCIDEVICE_MY_VFS" => Some("0000:31:11.0".to_owned()),
            "PCIDEVICE_BAD" => Some("0000:31:11.0,eth1".to_owned()),
            _ => None,
        };
        let spec: DeviceSpec = spec.parse().expect("a good spec");
        let system = System {
            sysfs: root,
            environment: &environment,
        };
        Ok(spec
            .resolve_on(&system)?
            .iter()
            .map(ToString::to_string)
            .collect())
    }

    #[test]
    fn every_form_finds_its_devices() {
        let root = machine("forms");
        for (spec, wanted) in [
            ("31:10.1", vec!["0000:31:10.1"]),
            ("eth0", vec!["0000:31:10.0", "0000:31:10.2", "0000:31:11.0"]),
            ("eth0#0,5-10", vec!["0000:31:10.0", "0000:31:11.0"]),
            ("*:31:10.*", vec!["0000:31:10.0", "0000:31:10.2"]),
            ("k8s:intel.com/vfs/0", vec!["0000:31:10.2"]),
            // The plugin's own order.
            ("k8s:intel.com/vfs", vec!["0000:31:10.2", "0000:31:10.0"]),
            ("k8s:intel.com/vfs/1", vec!["0000:31:10.0"]),
            ("31:00.0#0,5-10", vec!["0000:31:10.0", "0000:31:11.0"]),
            ("k8s:my-vfs", vec!["0000:31:11.0"]),
            ("sim:82599", vec![]),
        ] {
            assert_eq!(
                resolve(spec, &root).as_deref(),
                Ok(wanted
                    .as_slice()
                    .iter()
                    .map(|s| (*s).to_owned())
                    .collect::<Vec<_>>()
                    .as_slice()),
                "{spec}"
            );
        }
        let _ = fs::remove_dir_all(root);
    }

    #[test]
    fn what_is_not_there_is_said_with_the_place_looked_at() {
        let root = machine("absent");
        for (spec, part) in [
            ("eth7#0", "no network interface `eth7`"),
            ("eth0#3", "`eth0` has 3 VFs"),
            ("0000:31:00.0#3", "`0000:31:00.0` has 3 VFs"),
            ("0000:31:10.0#0", "`0000:31:10.0` is no PF; `vfnic list`"),
            (
                "0000:31:00.1#0",
                "`0000:31:00.1` has no VFs; `vfnic provision",
            ),
            ("bridge0#0", "`bridge0` is no PF"),
            ("0000:32:00.0#0", "no function 0000:32:00.0"),
            ("*:32:*.*", "none of the 3 VFs"),
            (
                "k8s:intel.com/vfs/2",
                "PCIDEVICE_INTEL_COM_VFS holds 2 devices",
            ),
            ("k8s:nothing", "PCIDEVICE_NOTHING is not set"),
            ("k8s:bad", "`eth1`, which is no PCI address"),
        ] {
            let text = resolve(spec, &root).expect_err(spec).to_string();
            assert!(text.contains(part), "{spec}: {text}");
        }
        let _ = fs::remove_dir_all(root);
    }
}
