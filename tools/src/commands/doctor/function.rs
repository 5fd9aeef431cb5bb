//! Checks of one function.

use super::{Finding, Verdict};
use crate::host::Host;
use crate::host::function::{Function, GroupMember, Role};
use crate::host::machine::Machine;

/// Whether it can be opened: nodes, holders, tokens.
mod access;
/// Reads capability registers of the port above a function.
mod acs;
/// Its PF and what that has set for it.
mod pf;

pub(super) fn checks(host: &Host, machine: &Machine, function: &Function) -> Vec<Finding> {
    let about = &function.address;
    let mut findings = vec![vf(host, function)];
    findings.push(iommu(host, machine, function));
    if function.iommu_group.is_some() {
        findings.push(group(function));
        findings.push(acs::check(host, function));
        findings.push(iova(host, function));
    }
    findings.push(binding(function));
    if function.is_on_vfio() {
        findings.push(access::node(host, function));
        findings.push(access::holder(function));
    }
    findings.push(access::token(host, function));
    let up = pf::up(host, function);
    let seen = up.code != Some("VF-PF-OUT-OF-SIGHT");
    findings.push(up);
    if seen {
        findings.push(pf::link(host, function));
        findings.extend(pf::settings(host, function));
    }
    debug_assert!(findings.iter().all(|finding| &finding.about == about));
    findings
}

fn vf(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    if function.role != Role::Vf {
        return Finding::new(
            Verdict::Fail,
            "VF-NOT-A-VF",
            about,
            format!("{} is no virtual function", function.ids),
        )
        .because(
            format!("{}/physfn", host.function_path(function.at)),
            "not there",
        )
        .mend("vfnic list   # shows the VFs there are");
    }
    if function.model.is_none() {
        return Finding::new(
            Verdict::Fail,
            "VF-NOT-OURS",
            about,
            format!(
                "{} is not a VF that vfnic drives (82576, I350, 82599, X540, X550)",
                function.ids
            ),
        )
        .because(
            format!("{}/device", host.function_path(function.at)),
            function.ids.clone(),
        )
        .mend("vfnic list   # names the model of those it drives");
    }
    let resource = format!("{}/resource", host.function_path(function.at));
    let first = host.read(&resource).unwrap_or_default();
    let first = first.lines().next().unwrap_or_default();
    if first.split_whitespace().next() == Some("0x0000000000000000") {
        return Finding::new(
            Verdict::Fail,
            "VF-BAR-UNASSIGNED",
            about,
            "the firmware left no room for its registers",
        )
        .because(resource, first)
        .mend("add `pci=realloc` to the kernel's command line and restart; or switch on `Above 4G decoding` in the firmware's setup");
    }
    Finding::pass("vf", about, "a VF of ours, with registers")
}

fn iommu(host: &Host, machine: &Machine, function: &Function) -> Finding {
    let about = &function.address;
    let link = format!("{}/iommu_group", host.function_path(function.at));
    match (function.iommu_group, function.iommu_type.as_deref()) {
        (Some(group), Some("vfio-noiommu")) => Finding::new(
            Verdict::Fail,
            "VF-NOIOMMU-MODE",
            about,
            "no IOMMU stands behind it: it can write anywhere in memory, a mistake here corrupts the kernel; vfnic does not open such a VF",
        )
        .because(format!("/sys/kernel/iommu_groups/{group}/name"), "vfio-noiommu")
        .mend(if machine.virtual_machine {
            "give the guest a virtual IOMMU"
        } else {
            "switch the IOMMU on (see the checks of the host above), and: echo N > /sys/module/vfio/parameters/enable_unsafe_noiommu_mode"
        }),
        (Some(_), _) => Finding::pass("iommu", about, "behind an IOMMU"),
        (None, _) => Finding::new(
            Verdict::Fail,
            "VF-NO-GROUP",
            about,
            "it is in no IOMMU group, so VFIO cannot have it",
        )
        .because(link, "not there")
        .mend(if machine.iommus.is_empty() {
            "switch the IOMMU on: see the checks of the host above"
        } else {
            "dmesg | grep -i iommu   # the IOMMU is on and does not cover this slot; try another"
        }),
    }
}

/// Whether VFIO lets a group be opened that has this member.
fn is_viable(member: &GroupMember) -> bool {
    member.driver.as_deref().is_none_or(|driver| {
        vfnic::backend::sysfs::is_vfio(driver) || matches!(driver, "pci-stub" | "pcieport")
    })
}

fn group(function: &Function) -> Finding {
    let about = &function.address;
    let group = function.iommu_group.unwrap_or_default();
    let bad: Vec<_> = function
        .group_members
        .iter()
        .filter(|member| member.address != function.address && !is_viable(member))
        .collect();
    if bad.is_empty() {
        return Finding::pass("group", about, format!("group {group} can be opened"));
    }
    let names: Vec<_> = bad.iter().map(|member| member.address.as_str()).collect();
    let mut finding = Finding::new(
        Verdict::Fail,
        "VF-GROUP-NOT-VIABLE",
        about,
        format!(
            "group {group} is opened as a whole, and {} in it belong{} to the kernel's drivers",
            names.join(", "),
            if bad.len() == 1 { "s" } else { "" }
        ),
    );
    for member in &function.group_members {
        let driver = member.driver.as_deref().unwrap_or("no driver");
        let verdict = if is_viable(member) || member.address == function.address {
            "can stay"
        } else {
            "blocks"
        };
        finding = finding.because(
            format!(
                "/sys/kernel/iommu_groups/{group}/devices/{}",
                member.address
            ),
            format!("{driver}: {verdict}"),
        );
    }
    for member in bad {
        finding = if function.pf_text.as_ref() == Some(&member.address) {
            finding.mend(format!(
                "{} is this VF's own PF and cannot leave without its VFs: put the card into a slot whose port has ACS",
                member.address
            ))
        } else {
            finding.mend(format!(
                "vfnic bind {}   # if nothing needs it",
                member.address
            ))
        };
    }
    finding
}

fn iova(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let group = function.iommu_group.unwrap_or_default();
    let path = format!("/sys/kernel/iommu_groups/{group}/reserved_regions");
    let regions = host.read(&path).unwrap_or_default();
    if let Some(line) = regions.lines().find(|line| line.ends_with(" direct")) {
        return Finding::new(
            Verdict::Fail,
            "VF-FIRMWARE-REGION",
            about,
            "the firmware wants memory of its own mapped for this device, so the kernel does not hand it out",
        )
        .because(path, line)
        .mend("switch off the firmware feature that watches the card (HPE: shared memory features, hprmrr utility), or use another slot");
    }
    // Bits 21:16 of VT-d's capability register: the width of IOVAs less one.
    for unit in host.names("/sys/class/iommu") {
        let path = format!("/sys/class/iommu/{unit}/intel-iommu/cap");
        let width = host
            .read(&path)
            .and_then(|hex| u64::from_str_radix(&hex, 16).ok())
            .map(|capabilities| (capabilities >> 16 & 0x3f) + 1);
        if let Some(width) = width.filter(|width| *width < 48) {
            return Finding::new(
                Verdict::Note,
                "VF-IOVA-NARROW",
                about,
                format!("the IOMMU has {width} bits of address; vfnic chooses its addresses below that by itself"),
            )
            .because(path, format!("{width} bits"))
            .mend("nothing, for vfnic; programs that take IOVA from pointers fail here");
        }
    }
    Finding::pass("iova", about, "addresses for DMA are not restricted")
}

fn binding(function: &Function) -> Finding {
    let about = &function.address;
    if function.is_on_vfio() {
        return Finding::pass("binding", about, "bound to vfio-pci");
    }
    let driver = function.driver.as_deref().unwrap_or("no driver");
    let finding = Finding::new(
        Verdict::Fail,
        "VF-NOT-BOUND",
        about,
        format!("it is bound to {driver}, not to vfio-pci"),
    )
    .because(format!("/sys/bus/pci/devices/{about}/driver"), driver);
    match &function.in_use {
        Some(why) => finding.because("in use", why.clone()).mend(format!(
            "vfnic bind {about} --force   # after making sure that nobody needs the interface"
        )),
        None => finding.mend(format!("vfnic bind {about}")),
    }
}
