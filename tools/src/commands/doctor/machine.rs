//! Checks of the host as a whole.

use super::{Finding, Verdict};
use crate::host::Host;
use crate::host::function::{Function, Role};
use crate::host::machine::Machine;

/// What a port with its default pools pins, with room for the rings: below this opening one fails.
const WANTED: u64 = 64 << 20;

pub(super) fn checks(host: &Host, machine: &Machine, chosen: &[&Function]) -> Vec<Finding> {
    let mut findings = Vec::new();
    findings.push(place(machine));
    if machine.iommus.is_empty() {
        findings.extend(iommu_absent(machine));
    } else {
        let all = machine.iommus.join(", ");
        findings.push(Finding::pass(
            "firmware",
            "host",
            "the firmware describes an IOMMU",
        ));
        findings.push(
            Finding::pass("kernel", "host", "the kernel drives the IOMMU")
                .because("/sys/class/iommu", all),
        );
    }
    findings.push(module(host, chosen));
    findings.push(memlock(machine));
    findings.push(huge_pages(machine));
    findings
}

fn place(machine: &Machine) -> Finding {
    if let Some(why) = machine.container {
        Finding::new(
            Verdict::Note,
            "VF-PLACE-CONTAINER",
            "host",
            format!("this is {why}: the PF, its knobs and binding are the host's"),
        )
        .mend("run `vfnic doctor` on the host as well")
    } else if machine.virtual_machine {
        Finding::new(
            Verdict::Note,
            "VF-PLACE-GUEST",
            "host",
            "this is a virtual machine: the PF and its knobs are the host's",
        )
        .because("/proc/cpuinfo", "flag hypervisor")
        .mend("run `vfnic doctor` on the host as well")
    } else {
        Finding::pass("place", "host", "neither a guest nor a container")
    }
}

fn iommu_absent(machine: &Machine) -> Vec<Finding> {
    let vendor = machine.vendor;
    let tables = "/sys/firmware/acpi/tables";
    let absent = |finding: Finding| finding.because("/sys/class/iommu", "empty");
    // Where the tables are not shown at all, only the command line is left to go by.
    if machine.table.is_none() && machine.tables_shown {
        let wanted = vendor.table().unwrap_or("DMAR or IVRS");
        let finding = absent(Finding::new(
            Verdict::Fail,
            "VF-IOMMU-OFF-IN-FIRMWARE",
            "host",
            if machine.virtual_machine {
                "this virtual machine has no IOMMU".to_owned()
            } else {
                format!(
                    "the firmware describes no IOMMU: {} is off",
                    vendor.setting()
                )
            },
        ))
        .because(tables, format!("no table {wanted}"));
        let finding = if machine.virtual_machine {
            finding.mend("give the guest a virtual IOMMU (QEMU: -machine q35,kernel-irqchip=split -device intel-iommu,intremap=on,caching-mode=on)")
        } else {
            finding.mend(format!(
                "switch on {} in the firmware's setup, then restart",
                vendor.setting()
            ))
        };
        return vec![finding];
    }
    let table = machine.table.as_deref().unwrap_or("not shown here");
    let firmware =
        Finding::pass("firmware", "host", "the firmware describes an IOMMU").because(tables, table);
    let command_line = "/proc/cmdline";
    let kernel = if let Some(word) = machine.switched_off() {
        absent(Finding::new(
            Verdict::Fail,
            "VF-IOMMU-SWITCHED-OFF",
            "host",
            format!("the kernel was told not to use the IOMMU: `{word}`"),
        ))
        .because(command_line, word.clone())
        .mend(format!(
            "take `{word}` off the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub or grub2-mkconfig), and restart"
        ))
    } else if let Some(option) = vendor.option().filter(|_| !machine.switched_on()) {
        absent(Finding::new(
            Verdict::Fail,
            "VF-IOMMU-NOT-ON-COMMAND-LINE",
            "host",
            format!("the IOMMU is there and the kernel was not told to use it: no `{option}`"),
        ))
        .because(command_line, machine.command_line.clone())
        .mend(format!(
            "add `{option} iommu=pt` to the kernel's command line (GRUB_CMDLINE_LINUX in /etc/default/grub, then update-grub or grub2-mkconfig), and restart",
        ))
    } else {
        absent(Finding::new(
            Verdict::Fail,
            "VF-IOMMU-NOT-STARTED",
            "host",
            "firmware and command line are in order, and the kernel drives no IOMMU all the same",
        ))
        .because(command_line, machine.command_line.clone())
        .mend("dmesg | grep -i -e DMAR -e AMD-Vi -e iommu   # it says why there")
    };
    vec![firmware, kernel]
}

fn module(host: &Host, chosen: &[&Function]) -> Finding {
    let path = "/sys/bus/pci/drivers/vfio-pci";
    if host.has(path) || chosen.iter().any(|function| function.is_on_vfio()) {
        return Finding::pass("module", "host", "vfio-pci is loaded");
    }
    Finding::new(
        Verdict::Fail,
        "VF-MODULE-MISSING",
        "host",
        "the driver vfio-pci is not loaded",
    )
    .because(path, "not there")
    .mend("modprobe vfio-pci && echo vfio-pci > /etc/modules-load.d/vfio-pci.conf")
}

fn memlock(machine: &Machine) -> Finding {
    let path = "/proc/self/limits";
    match machine.memlock {
        Some(allowed) if allowed < WANTED && !machine.memlock_exempt => Finding::new(
            Verdict::Fail,
            "VF-MEMLOCK-LOW",
            "host",
            format!("a process may pin {allowed} bytes; a port with its default pools wants {WANTED}"),
        )
        .because(path, format!("Max locked memory {allowed}"))
        .mend(format!("ulimit -l {}   # or LimitMEMLOCK= in the unit, memlock in /etc/security/limits.conf", WANTED / 1024))
        .mend("in a container: --ulimit memlock=-1, or the capability IPC_LOCK; privileged is not needed"),
        _ => Finding::pass("memlock", "host", "enough memory may be pinned"),
    }
}

fn huge_pages(machine: &Machine) -> Finding {
    let free: u64 = machine.huge_pages.iter().map(|(_, free)| free).sum();
    if free > 0 {
        return Finding::pass("hugepages", "host", format!("{free} huge pages are free"));
    }
    Finding::new(
        Verdict::Note,
        "VF-HUGEPAGES-NONE",
        "host",
        "no huge pages are free; ordinary ones do, with more entries in the IOMMU",
    )
    .because("/sys/kernel/mm/hugepages", "none free")
    .mend("echo 64 > /sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages")
}

/// There is no VF to examine: why not?
pub(super) fn no_vfs(functions: &[Function]) -> Vec<Finding> {
    let pfs: Vec<_> = functions
        .iter()
        .filter(|function| function.role == Role::Pf && function.model.is_some())
        .collect();
    if pfs.is_empty() {
        return vec![
            Finding::new(
                Verdict::Fail,
                "VF-SRIOV-OFF",
                "host",
                "there is no VF here, and no card of ours that could have one",
            )
            .because("/sys/bus/pci/devices/*/sriov_totalvfs", "none for a 82576, I350, 82599, X540 or X550")
            .mend("switch on SR-IOV in the firmware's setup (and in the card's own, if it has one); lspci shows whether the card is seen at all"),
        ];
    }
    pfs.iter()
        .map(|pf| {
            let (on, total) = pf.vfs.unwrap_or_default();
            let name = pf.interfaces.first().unwrap_or(&pf.address);
            Finding::new(
                Verdict::Fail,
                "VF-NONE",
                &pf.address,
                format!("the PF {name} can have {total} VFs and has {on}"),
            )
            .because(
                format!("/sys/bus/pci/devices/{}/sriov_numvfs", pf.address),
                on.to_string(),
            )
            .mend(format!("vfnic provision {name} {}", total.min(4)))
        })
        .collect()
}
