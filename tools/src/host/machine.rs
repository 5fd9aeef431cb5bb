//! What is true of the whole host: firmware, kernel, where it runs, limits.

use serde::Serialize;

use super::Host;

/// Whose processors, which decides what the IOMMU is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Vendor {
    /// VT-d, table DMAR.
    Intel,
    /// AMD-Vi, table IVRS.
    Amd,
    /// Another, or not said.
    Other,
}

impl Vendor {
    /// The firmware's table that describes the IOMMU.
    #[must_use]
    pub const fn table(self) -> Option<&'static str> {
        match self {
            Self::Intel => Some("DMAR"),
            Self::Amd => Some("IVRS"),
            Self::Other => None,
        }
    }

    /// What the firmware's menu calls it.
    #[must_use]
    pub const fn setting(self) -> &'static str {
        match self {
            Self::Intel => "VT-d (Intel Virtualization Technology for Directed I/O)",
            Self::Amd => "IOMMU (AMD-Vi)",
            Self::Other => "IOMMU",
        }
    }

    /// The kernel option that switches it on, where one is needed: AMD's is on by itself.
    #[must_use]
    pub const fn option(self) -> Option<&'static str> {
        match self {
            Self::Intel => Some("intel_iommu=on"),
            Self::Amd | Self::Other => None,
        }
    }
}

/// Facts about a host.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Whose processors.
    pub vendor: Vendor,
    /// Whether this is a virtual machine.
    pub virtual_machine: bool,
    /// Why this looks like a container, if it does.
    pub container: Option<&'static str>,
    /// The kernel's command line.
    pub command_line: String,
    /// The IOMMUs the kernel drives.
    pub iommus: Vec<String>,
    /// The firmware's table, when it is there; `None` also when the kernel does not show tables.
    pub table: Option<String>,
    /// Whether the kernel shows the firmware's tables at all.
    pub tables_shown: bool,
    /// Bytes a process may pin, `None` for no limit.
    pub memlock: Option<u64>,
    /// Whether that limit applies to this process.
    pub memlock_exempt: bool,
    /// Free huge pages as (page in KiB, free).
    pub huge_pages: Vec<(u64, u64)>,
    /// Whether VFIO may be used without an IOMMU.
    pub unsafe_noiommu: bool,
}

const CAP_IPC_LOCK: u32 = 14;

impl Machine {
    /// Reads them.
    #[must_use]
    pub fn read(host: &Host) -> Self {
        let cpuinfo = host.read("/proc/cpuinfo").unwrap_or_default();
        let field = |name: &str| {
            cpuinfo
                .lines()
                .find(|line| line.split(':').next().is_some_and(|key| key.trim() == name))
                .and_then(|line| line.split_once(':'))
                .map_or("", |(_, value)| value.trim())
        };
        let vendor = match field("vendor_id") {
            "GenuineIntel" => Vendor::Intel,
            "AuthenticAMD" | "HygonGenuine" => Vendor::Amd,
            _ => Vendor::Other,
        };
        let tables = host.names("/sys/firmware/acpi/tables");
        let table = ["DMAR", "IVRS", "VIOT", "IORT"]
            .into_iter()
            .find(|name| tables.iter().any(|table| table == name))
            .map(str::to_owned);
        let limits = host.read("/proc/self/limits").unwrap_or_default();
        let memlock = limits
            .lines()
            .find_map(|line| line.strip_prefix("Max locked memory"))
            .and_then(|rest| rest.split_whitespace().next()?.parse().ok());
        let status = host.read("/proc/self/status").unwrap_or_default();
        let capabilities = status
            .lines()
            .find_map(|line| line.strip_prefix("CapEff:"))
            .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
            .unwrap_or(0);
        let pages = "/sys/kernel/mm/hugepages";
        let huge_pages = host
            .names(pages)
            .iter()
            .filter_map(|name| {
                let size = name.strip_prefix("hugepages-")?.strip_suffix("kB")?;
                let free = host.read(&format!("{pages}/{name}/free_hugepages"))?;
                Some((size.parse().ok()?, free.parse().ok()?))
            })
            .collect();
        Self {
            vendor,
            virtual_machine: field("flags")
                .split_whitespace()
                .any(|flag| flag == "hypervisor"),
            container: container(host),
            command_line: host.read("/proc/cmdline").unwrap_or_default(),
            iommus: host.names("/sys/class/iommu"),
            table,
            tables_shown: !tables.is_empty(),
            memlock,
            memlock_exempt: capabilities >> CAP_IPC_LOCK & 1 == 1,
            huge_pages,
            unsafe_noiommu: host
                .read("/sys/module/vfio/parameters/enable_unsafe_noiommu_mode")
                .is_some_and(|value| value == "Y"),
        }
    }

    /// The word of the command line that is `name` or `name=…`; the last one counts.
    #[must_use]
    pub fn option(&self, name: &str) -> Option<&str> {
        self.command_line.split_whitespace().rev().find_map(|word| {
            let rest = word.strip_prefix(name)?;
            if rest.is_empty() {
                Some(rest)
            } else {
                rest.strip_prefix('=')
            }
        })
    }

    /// The word of the command line that switches the IOMMU off, if one does.
    #[must_use]
    pub fn switched_off(&self) -> Option<String> {
        ["intel_iommu", "amd_iommu", "iommu"]
            .iter()
            .find_map(|name| {
                let off = self.option(name)?.split(',').any(|value| value == "off");
                off.then(|| format!("{name}={}", self.option(name).unwrap_or_default()))
            })
    }

    /// Whether the kernel has been told to use an IOMMU, or needs not be.
    #[must_use]
    pub fn switched_on(&self) -> bool {
        let Some((name, _)) = self
            .vendor
            .option()
            .and_then(|option| option.split_once('='))
        else {
            return true;
        };
        self.option(name)
            .is_some_and(|values| values.split(',').any(|value| value == "on"))
    }
}

/// What shows that this is a container. Each runtime leaves another trace.
fn container(host: &Host) -> Option<&'static str> {
    if host.variable("KUBERNETES_SERVICE_HOST").is_some() {
        return Some("a Kubernetes pod (KUBERNETES_SERVICE_HOST is set)");
    }
    if host
        .environment()
        .keys()
        .any(|name| name.starts_with("PCIDEVICE_"))
    {
        return Some("a Kubernetes pod (PCIDEVICE_… is set)");
    }
    if host.has("/.dockerenv") {
        return Some("a container (/.dockerenv is there)");
    }
    if host.has("/run/.containerenv") {
        return Some("a container (/run/.containerenv is there)");
    }
    if host.variable("container").is_some() {
        return Some("a container (the variable `container` is set)");
    }
    None
}
