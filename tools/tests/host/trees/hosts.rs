//! The hosts themselves.

use std::fs;

use super::{BRIDGE, ETHERNET, Pci, Tree};

const fn pci<'a>(address: &'a str, device: u16, driver: &'a str, group: Option<u32>) -> Pci<'a> {
    Pci {
        address,
        ids: (0x8086, device),
        class: ETHERNET,
        driver: Some(driver),
        group,
    }
}

pub(crate) const PORT: Pci<'_> = Pci {
    address: "0000:00:1c.0",
    ids: (0x8086, 0xa110),
    class: BRIDGE,
    driver: Some("pcieport"),
    group: Some(5),
};

pub(crate) const I350_VFS: [&str; 7] = [
    "0000:04:10.0",
    "0000:04:10.4",
    "0000:04:11.0",
    "0000:04:11.4",
    "0000:04:12.0",
    "0000:04:12.4",
    "0000:04:13.0",
];

/// An I350 with all its seven VFs; those are bound to vfio-pci, everything works.
pub(crate) fn i350() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    tree.pci(&PORT);
    tree.card(
        &pci("0000:04:00.0", 0x1521, "igb", Some(20)),
        "eno1",
        (0x1520, Some("vfio-pci")),
        &I350_VFS,
        Some(30),
    );
    tree.links("eno1", 7, false, true);
    tree
}

/// An I350 whose VFs nobody has switched on.
pub(crate) fn card_without_vfs() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    tree.card(
        &pci("0000:04:00.0", 0x1521, "igb", Some(20)),
        "eno1",
        (0x1520, None),
        &[],
        None,
    );
    tree.links("eno1", 0, false, true);
    tree
}

/// An 82599 with three VFs: one in use by QEMU, one with the kernel's driver, one with none. The PF carries the default route.
pub(crate) fn i82599() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    tree.pci(&PORT);
    tree.card(
        &pci("0000:31:00.0", 0x10fb, "ixgbe", Some(21)),
        "ens1f0",
        (0x10ed, None),
        &["0000:31:10.0", "0000:31:10.2", "0000:31:10.4"],
        Some(40),
    );
    tree.bind("0000:31:10.0", "vfio-pci");
    tree.write("dev/vfio/40", "");
    tree.write("dev/vfio/devices/vfio0", "");
    tree.write("dev/iommu", "");
    tree.write(
        "sys/bus/pci/devices/0000:31:10.0/vfio-dev/vfio0/dev",
        "511:0\n",
    );
    tree.holder(4242, "qemu-system-x86", "dev/vfio/40");
    tree.bind("0000:31:10.2", "ixgbevf");
    tree.interface("ens1f0v1", "0000:31:10.2", "02:00:00:00:00:01");
    tree.links("ens1f0", 3, true, false);
    tree.write(
        "proc/net/route",
        "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n\
         ens1f0\t00000000\t0102000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n",
    );
    tree
}

/// A port without ACS: PF, VFs and a neighbour are one group.
pub(crate) fn shared_group() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    tree.pci(&PORT);
    tree.card(
        &pci("0000:04:00.0", 0x1521, "igb", Some(5)),
        "eno1",
        (0x1520, Some("vfio-pci")),
        &["0000:04:10.0", "0000:04:10.4"],
        None,
    );
    for address in ["0000:04:10.0", "0000:04:10.4"] {
        tree.link(
            &format!("sys/bus/pci/devices/{address}/iommu_group"),
            "sys/kernel/iommu_groups/5",
        );
        tree.link(
            &format!("sys/kernel/iommu_groups/5/devices/{address}"),
            &Tree::device(address),
        );
    }
    tree.pci(&pci("0000:04:00.1", 0x1521, "igb", Some(5)));
    tree.write("dev/vfio/5", "");
    tree.links("eno1", 2, false, true);
    // A PCI Express port (capability 0x10, type 4: root port) whose extended capabilities have AER alone, no ACS.
    let mut config = vec![0; 4096];
    config[0x34] = 0x40;
    config[0x40] = 0x10;
    config[0x42] = 0x42;
    config[0x100..0x104].copy_from_slice(&0x0002_0001_u32.to_le_bytes());
    tree.write("sys/bus/pci/devices/0000:00:1c.0/config", config);
    tree
}

/// An AMD machine whose kernel was told to leave the IOMMU alone.
pub(crate) fn amd() -> Tree {
    let tree = Tree::empty();
    tree.machine("AuthenticAMD", "amd_iommu=off", "");
    tree.write("sys/firmware/acpi/tables/IVRS", "IVRS");
    tree.vfio();
    tree.card(
        &pci("0000:41:00.0", 0x1563, "ixgbe", None),
        "enp65s0f0",
        (0x1565, Some("ixgbevf")),
        &["0000:41:10.0", "0000:41:10.2"],
        None,
    );
    tree.links("enp65s0f0", 2, false, false);
    tree
}

/// An AMD machine in order.
pub(crate) fn amd_good() -> Tree {
    let tree = Tree::empty();
    tree.machine("AuthenticAMD", "", "");
    tree.write("sys/firmware/acpi/tables/IVRS", "IVRS");
    tree.write("sys/class/iommu/ivhd0/amd-iommu/cap", "0\n");
    tree.vfio();
    tree.card(
        &pci("0000:41:00.0", 0x1563, "ixgbe", Some(11)),
        "enp65s0f0",
        (0x1565, Some("vfio-pci")),
        &["0000:41:10.0", "0000:41:10.2"],
        Some(50),
    );
    tree.links("enp65s0f0", 2, false, false);
    tree
}

/// VT-d is off in the firmware: no DMAR table, whatever the command line says.
pub(crate) fn no_iommu() -> Tree {
    let tree = Tree::empty();
    tree.machine("GenuineIntel", "intel_iommu=on", "");
    tree.write("sys/firmware/acpi/tables/FACP", "FACP");
    tree.vfio();
    tree.card(
        &pci("0000:04:00.0", 0x1521, "igb", None),
        "eno1",
        (0x1520, None),
        &["0000:04:10.0"],
        None,
    );
    tree
}

/// VT-d is on in the firmware, and the kernel was not told.
pub(crate) fn not_on_the_command_line() -> Tree {
    let tree = no_iommu();
    tree.machine("GenuineIntel", "quiet", "");
    tree.write("sys/firmware/acpi/tables/DMAR", "DMAR");
    tree
}

/// VFIO without an IOMMU, as in a guest that has none.
pub(crate) fn noiommu_vfio() -> Tree {
    let tree = Tree::empty();
    tree.machine("GenuineIntel", "", "");
    tree.write("sys/firmware/acpi/tables/FACP", "FACP");
    tree.vfio();
    tree.write(
        "sys/module/vfio/parameters/enable_unsafe_noiommu_mode",
        "Y\n",
    );
    tree.card(
        &pci("0000:04:00.0", 0x1521, "igb", None),
        "eno1",
        (0x1520, Some("vfio-pci")),
        &["0000:04:10.0"],
        Some(0),
    );
    tree.write("sys/kernel/iommu_groups/0/name", "vfio-noiommu\n");
    tree.remove("sys/kernel/iommu_groups/0/type");
    tree.remove("dev/vfio/0");
    tree.write("dev/vfio/noiommu-0", "");
    tree.links("eno1", 1, false, true);
    tree
}

/// The PF itself is on vfio-pci: its VFs want a token.
pub(crate) fn pf_on_vfio() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    tree.card(
        &pci("0000:31:00.0", 0x10fb, "vfio-pci", Some(21)),
        "-",
        (0x10ed, Some("vfio-pci")),
        &["0000:31:10.0", "0000:31:10.2"],
        Some(40),
    );
    tree.holder(77, "pf-daemon", "dev/vfio/21");
    tree
}

/// A guest that was given a VF: no PF in sight, a virtual IOMMU.
pub(crate) fn guest() -> Tree {
    let tree = Tree::empty();
    tree.machine("GenuineIntel", "intel_iommu=on", "hypervisor");
    tree.write("sys/firmware/acpi/tables/DMAR", "DMAR");
    tree.write("sys/class/iommu/dmar0/intel-iommu/cap", "d2008c222f0686\n");
    tree.vfio();
    tree.pci(&pci("0000:00:05.0", 0x10ed, "vfio-pci", Some(3)));
    tree
}

/// A pod that the device plugin gave two VFs, one of which is not there; memory to pin is short.
pub(crate) fn pod() -> Tree {
    let tree = i82599();
    tree.remove("links.json");
    tree.remove("proc/4242");
    tree.remove("dev/iommu");
    tree.remove("dev/vfio/devices");
    tree.remove("sys/class/net");
    fs::create_dir_all(tree.path("sys/class/net/lo")).expect("a folder");
    tree.remove("sys/bus/pci/devices/0000:31:00.0/net");
    tree.write(
        "environ",
        "KUBERNETES_SERVICE_HOST=10.96.0.1\n\
         PCIDEVICE_INTEL_COM_SRIOV_VFS=0000:31:10.0,0000:77:00.0\n\
         PCIDEVICE_INTEL_COM_SRIOV_VFS_INFO={\"0000:31:10.0\":{\"generic\":{\"deviceID\":\"0000:31:10.0\"},\"vfio\":{\"dev-mount\":\"/dev/vfio/40\",\"mount\":\"/dev/vfio/vfio\"}},\"0000:77:00.0\":{\"vfio\":{\"vfio-dev-mount\":\"/dev/vfio/41\"}}}\n",
    );
    tree.write(
        "proc/self/limits",
        "Max locked memory         65536                65536                bytes     \n",
    );
    tree
}

/// The ports of [`two_ports`]: PF, interface, VFs, the first one's group.
pub(crate) const TWO_PORTS: [(&str, &str, &[&str], u32); 2] = [
    (
        "0000:31:00.0",
        "ens1f0",
        &[
            "0000:31:10.0",
            "0000:31:10.2",
            "0000:31:10.4",
            "0000:31:10.6",
            "0000:31:11.0",
            "0000:31:11.2",
            "0000:31:11.4",
            "0000:31:11.6",
        ],
        40,
    ),
    (
        "0000:31:00.1",
        "ens1f1",
        &[
            "0000:31:10.1",
            "0000:31:10.3",
            "0000:31:10.5",
            "0000:31:10.7",
        ],
        60,
    ),
];

/// Both ports of an 82599 with VFs on vfio-pci, in order.
pub(crate) fn two_ports() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    for (pf, interface, vfs, group) in TWO_PORTS {
        tree.card(
            &pci(pf, 0x10fb, "ixgbe", Some(group - 1)),
            interface,
            (0x10ed, Some("vfio-pci")),
            vfs,
            Some(group),
        );
    }
    tree
}

/// The host of the examples in the commands' help: `eth0` with four VFs.
pub(crate) fn example() -> Tree {
    let tree = Tree::empty();
    tree.intel();
    tree.card(
        &pci("0000:31:00.0", 0x1528, "ixgbe", Some(39)),
        "eth0",
        (0x1515, Some("vfio-pci")),
        &[
            "0000:31:10.0",
            "0000:31:10.1",
            "0000:31:10.2",
            "0000:31:10.3",
        ],
        Some(40),
    );
    tree.links("eth0", 4, false, false);
    tree
}
