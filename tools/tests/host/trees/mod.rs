//! Hosts made of files: what /sys, /proc and /dev look like.

mod hosts;

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

pub(crate) use hosts::*;

/// A folder with `sys`, `proc` and `dev`; it goes when the value goes.
pub(crate) struct Tree {
    root: PathBuf,
}

/// A function to be made.
pub(crate) struct Pci<'a> {
    pub(crate) address: &'a str,
    pub(crate) ids: (u16, u16),
    pub(crate) class: u32,
    pub(crate) driver: Option<&'a str>,
    pub(crate) group: Option<u32>,
}

impl Drop for Tree {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.root);
    }
}

const ETHERNET: u32 = 0x02_0000;
const BRIDGE: u32 = 0x06_0400;

impl Tree {
    pub(crate) fn empty() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let root = std::env::temp_dir().join(format!(
            "vfnic-host-{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        ));
        let tree = Self { root };
        for folder in [
            "sys/bus/pci/devices",
            "sys/bus/pci/drivers",
            "sys/class/net",
            "sys/class/iommu",
            "sys/kernel/iommu_groups",
            "sys/firmware/acpi/tables",
            "sys/devices/pci0000:00",
            "dev/vfio",
            "proc/net",
        ] {
            fs::create_dir_all(tree.path(folder)).expect("a folder");
        }
        tree
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn path(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }

    pub(crate) fn write(&self, path: &str, text: impl AsRef<[u8]>) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        fs::write(path, text).expect("a file");
    }

    pub(crate) fn remove(&self, path: &str) {
        let path = self.path(path);
        if path.is_dir() && !path.is_symlink() {
            fs::remove_dir_all(path).expect("a folder less");
        } else {
            fs::remove_file(path).expect("a file less");
        }
    }

    /// A link to another place of the tree.
    pub(crate) fn link(&self, path: &str, target: &str) {
        let path = self.path(path);
        fs::create_dir_all(path.parent().expect("a parent")).expect("a folder");
        let _ = fs::remove_file(&path);
        symlink(self.path(target), path).expect("a link");
    }

    pub(crate) fn device(address: &str) -> String {
        format!("sys/bus/pci/devices/{address}")
    }

    /// A machine: processors, command line, limits.
    pub(crate) fn machine(&self, vendor: &str, command_line: &str, more_flags: &str) {
        self.write(
            "proc/cpuinfo",
            format!("processor\t: 0\nvendor_id\t: {vendor}\nflags\t\t: fpu sse2 {more_flags}\n"),
        );
        self.write(
            "proc/cmdline",
            format!("BOOT_IMAGE=/vmlinuz ro {command_line}\n"),
        );
        self.write(
            "proc/self/limits",
            "Limit                     Soft Limit           Hard Limit           Units     \n\
             Max locked memory         unlimited            unlimited            bytes     \n",
        );
        self.write(
            "proc/self/status",
            "Name:\tvfnic\nCapEff:\t0000000000000000\n",
        );
        self.write(
            "proc/net/route",
            "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n",
        );
        self.write(
            "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
            "64\n",
        );
    }

    /// An Intel machine whose IOMMU works.
    pub(crate) fn intel(&self) {
        self.machine("GenuineIntel", "intel_iommu=on iommu=pt", "");
        self.write("sys/firmware/acpi/tables/DMAR", "DMAR");
        self.write("sys/class/iommu/dmar0/intel-iommu/cap", "d2008c222f0686\n");
        self.vfio();
    }

    /// The modules of VFIO are loaded.
    pub(crate) fn vfio(&self) {
        self.driver("vfio-pci");
        self.write(
            "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
            "N\n",
        );
        self.write("dev/vfio/vfio", "");
    }

    pub(crate) fn driver(&self, name: &str) {
        self.write(&format!("sys/bus/pci/drivers/{name}/bind"), "");
        self.write(&format!("sys/bus/pci/drivers/{name}/unbind"), "");
        self.write("sys/bus/pci/drivers_probe", "");
        self.write("sys/bus/pci/drivers_autoprobe", "1\n");
    }

    pub(crate) fn pci(&self, pci: &Pci<'_>) {
        let device = Self::device(pci.address);
        // As in the kernel: the bus has links, the devices are below their bridge.
        let bridge = "sys/devices/pci0000:00/0000:00:1c.0";
        let home = if pci.address == PORT.address {
            bridge.to_owned()
        } else {
            format!("{bridge}/{}", pci.address)
        };
        fs::create_dir_all(self.path(&home)).expect("a folder");
        self.link(&device, &home);
        self.write(
            &format!("{device}/vendor"),
            format!("0x{:04x}\n", pci.ids.0),
        );
        self.write(
            &format!("{device}/device"),
            format!("0x{:04x}\n", pci.ids.1),
        );
        self.write(&format!("{device}/class"), format!("0x{:06x}\n", pci.class));
        self.write(&format!("{device}/numa_node"), "0\n");
        self.write(&format!("{device}/driver_override"), "(null)\n");
        self.write(&format!("{device}/reset"), "");
        self.write(&format!("{device}/reset_method"), "flr\n");
        self.write(
            &format!("{device}/resource"),
            "0x00000000c0000000 0x00000000c0003fff 0x000000000014220c\n",
        );
        self.write(&format!("{device}/reset"), "");
        if let Some(driver) = pci.driver {
            self.bind(pci.address, driver);
        }
        if let Some(group) = pci.group {
            self.link(
                &format!("{device}/iommu_group"),
                &format!("sys/kernel/iommu_groups/{group}"),
            );
            self.link(
                &format!("sys/kernel/iommu_groups/{group}/devices/{}", pci.address),
                &device,
            );
            self.write(&format!("sys/kernel/iommu_groups/{group}/type"), "DMA\n");
            self.write(
                &format!("sys/kernel/iommu_groups/{group}/reserved_regions"),
                "0x00000000fee00000 0x00000000feefffff msi\n",
            );
            if pci.driver == Some("vfio-pci") {
                self.write(&format!("dev/vfio/{group}"), "");
            }
        }
    }

    pub(crate) fn bind(&self, address: &str, driver: &str) {
        self.driver(driver);
        self.link(
            &format!("{}/driver", Self::device(address)),
            &format!("sys/bus/pci/drivers/{driver}"),
        );
        self.link(
            &format!("sys/bus/pci/drivers/{driver}/{address}"),
            &Self::device(address),
        );
    }

    pub(crate) fn interface(&self, name: &str, address: &str, mac: &str) {
        let device = Self::device(address);
        let home = format!("{device}/net/{name}");
        for (file, text) in [
            ("address", mac),
            ("flags", "0x1003"),
            ("carrier", "1"),
            ("operstate", "up"),
            ("mtu", "1500"),
            ("speed", "1000"),
        ] {
            self.write(&format!("{home}/{file}"), format!("{text}\n"));
        }
        self.link(&format!("{home}/device"), &device);
        self.link(&format!("sys/class/net/{name}"), &home);
    }

    /// A PF with an interface, and its VFs: `vfs` are addresses, group numbers follow from `first_group`.
    pub(crate) fn card(
        &self,
        pf: &Pci<'_>,
        interface: &str,
        vf: (u16, Option<&str>),
        vfs: &[&str],
        first_group: Option<u32>,
    ) {
        self.pci(pf);
        let device = Self::device(pf.address);
        if pf.driver != Some("vfio-pci") {
            self.interface(interface, pf.address, "a0:36:9f:00:00:01");
        }
        let total = if matches!(pf.ids.1, 0x1521 | 0x10c9) {
            7
        } else {
            63
        };
        self.write(
            &format!("{device}/sriov_numvfs"),
            format!("{}\n", vfs.len()),
        );
        self.write(&format!("{device}/sriov_totalvfs"), format!("{total}\n"));
        self.write(&format!("{device}/sriov_drivers_autoprobe"), "1\n");
        self.write(
            &format!("{device}/sriov_vf_device"),
            format!("{:x}\n", vf.0),
        );
        for (number, address) in vfs.iter().enumerate() {
            let offset = u32::try_from(number).expect("few VFs");
            self.pci(&Pci {
                address,
                ids: (0x8086, vf.0),
                class: ETHERNET,
                driver: vf.1,
                group: first_group.map(|first| first + offset),
            });
            self.link(&format!("{}/physfn", Self::device(address)), &device);
            self.link(&format!("{device}/virtfn{number}"), &Self::device(address));
        }
    }

    /// What netlink says: settings of `count` VFs, each with an address unless `bare`.
    pub(crate) fn links(&self, interface: &str, count: u32, bare: bool, gigabit: bool) {
        let vfs: serde_json::Map<String, serde_json::Value> = (0..count)
            .map(|number| {
                let mac = if bare {
                    "00:00:00:00:00:00".to_owned()
                } else {
                    format!("02:00:00:00:00:{number:02x}")
                };
                let mut vf = serde_json::json!({
                    "mac": mac, "vlan": 0, "qos": 0, "spoofchk": true, "trust": false,
                    "min_tx_rate": 0, "max_tx_rate": 0, "state": "auto",
                });
                if !gigabit {
                    vf["query_rss"] = false.into();
                }
                (number.to_string(), vf)
            })
            .collect();
        let all = serde_json::json!({ interface: vfs });
        self.write("links.json", all.to_string());
    }

    /// Process `pid` has `node` open.
    pub(crate) fn holder(&self, pid: u32, name: &str, node: &str) {
        self.write(&format!("proc/{pid}/comm"), format!("{name}\n"));
        self.link(&format!("proc/{pid}/fd/7"), node);
    }
}

/// The driver a function is bound to.
pub(crate) fn driver(tree: &Tree, address: &str) -> Option<String> {
    let link = fs::read_link(tree.path(&format!("{}/driver", Tree::device(address)))).ok()?;
    Some(link.file_name()?.to_str()?.to_owned())
}
