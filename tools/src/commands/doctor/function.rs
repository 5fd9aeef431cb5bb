//! Checks of one function.

use std::os::unix::fs::MetadataExt;

use super::{Finding, Verdict};
use crate::host::Host;
use crate::host::function::{Function, GroupMember, Role};
use crate::host::machine::Machine;

/// Reads capability registers of the port above a function.
mod acs;

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
        findings.push(node(host, function));
        findings.push(holder(host, function));
    }
    findings.push(token(host, function));
    let pf = pf(host, function);
    let seen = pf.code != Some("VF-PF-OUT-OF-SIGHT");
    findings.push(pf);
    if seen {
        findings.push(link(host, function));
        findings.extend(settings(host, function));
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

/// CAP_DAC_OVERRIDE: file modes do not apply.
const DAC_OVERRIDE: u32 = 1;

fn node(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let Some(node) = function.nodes.first() else {
        return Finding::pass("node", about, "in no group: no node to look for");
    };
    let meta = match std::fs::metadata(host.path(node)) {
        Ok(meta) => meta,
        Err(error) => {
            return Finding::new(
                Verdict::Fail,
                "VF-NODE-MISSING",
                about,
                format!("{node} is not there"),
            )
            .because_of(node, &error)
            .mend(format!("in a container: --device /dev/vfio/vfio --device {node}, or the SR-IOV device plugin"))
            .mend("on a host: vfnic unbind and bind again; udev makes the node");
        }
    };
    let status = host.read("/proc/self/status").unwrap_or_default();
    let field = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default()
    };
    let numbers = |text: &str| -> Vec<u32> {
        text.split_whitespace()
            .filter_map(|number| number.parse().ok())
            .collect()
    };
    let uid = numbers(field("Uid:")).get(1).copied().unwrap_or(0);
    let mut groups = numbers(field("Groups:"));
    groups.extend(numbers(field("Gid:")).get(1));
    let capabilities = u64::from_str_radix(field("CapEff:").trim(), 16).unwrap_or(0);
    let shift = if meta.uid() == uid {
        6
    } else if groups.contains(&meta.gid()) {
        3
    } else {
        0
    };
    let exempt = uid == 0 || capabilities >> DAC_OVERRIDE & 1 == 1;
    if exempt || meta.mode() >> shift & 0o6 == 0o6 {
        return Finding::pass("node", about, format!("{node} can be opened"));
    }
    Finding::new(
        Verdict::Fail,
        "VF-NODE-PERMISSION",
        about,
        format!("user {uid} may not open {node}"),
    )
    .because(
        node,
        format!(
            "owner {}:{}, mode {:o}",
            meta.uid(),
            meta.gid(),
            meta.mode() & 0o7777
        ),
    )
    .mend("a rule for udev lasts: SUBSYSTEM==\"vfio\", GROUP=\"vfio\", MODE=\"0660\"")
    .mend(format!("chown {uid} {node}   # until the next restart"))
}

fn holder(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let Some(first) = function.holders.first() else {
        return Finding::pass(
            "holder",
            about,
            "nobody holds it, as far as this user may see",
        );
    };
    let mut finding = Finding::new(
        Verdict::Warn,
        "VF-HELD",
        about,
        format!("{} (pid {}) has it open", first.name, first.pid),
    );
    for holder in &function.holders {
        finding = finding.because(format!("/proc/{}/fd", holder.pid), holder.name.clone());
    }
    let _ = host;
    finding.mend(format!(
        "end that process, or take another VF; kill {}",
        first.pid
    ))
}

fn token(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let on_vfio = function
        .pf
        .and_then(|pf| host.sysfs().driver(pf))
        .filter(|driver| vfnic::backend::sysfs::is_vfio(driver));
    match (on_vfio, &function.pf_text) {
        (Some(driver), Some(pf)) => Finding::new(
            Verdict::Warn,
            "VF-TOKEN-NEEDED",
            about,
            "its PF is in the hands of a VFIO user: opening the VF takes the token that user has set, and its process has to be alive",
        )
        .because(format!("/sys/bus/pci/devices/{pf}/driver"), driver)
        .mend("ask whoever runs the PF for its token (a UUID), and give it as VFNIC_VF_TOKEN or in the library's OpenOptions"),
        _ => Finding::pass("token", about, "no token is wanted"),
    }
}

fn pf(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let Some(interface) = &function.pf_interface else {
        return Finding::new(
            Verdict::Note,
            "VF-PF-OUT-OF-SIGHT",
            about,
            "its PF has no interface here: link, address, spoof check, trust and VLAN cannot be looked at",
        )
        .mend("ask the host: vfnic doctor there, or ip link show PF");
    };
    let path = format!("/sys/class/net/{interface}/flags");
    let flags = host
        .read(&path)
        .and_then(|text| u32::from_str_radix(text.trim_start_matches("0x"), 16).ok());
    match flags {
        // IFF_UP
        Some(flags) if flags & 1 == 0 => Finding::new(
            Verdict::Fail,
            "VF-PF-DOWN",
            about,
            format!("its PF {interface} is down: VFs get no link and no answer"),
        )
        .because(path, format!("{flags:#x}"))
        .mend(format!("ip link set {interface} up")),
        _ => Finding::pass("pf", about, format!("its PF {interface} is up")),
    }
}

fn link(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let (Some(interface), state) = (
        &function.pf_interface,
        function
            .settings
            .as_ref()
            .and_then(|all| all.state.as_deref()),
    ) else {
        return Finding::pass("link", about, "not to be seen");
    };
    if state == Some("disable") {
        let vf = function.vf.unwrap_or_default();
        return Finding::new(
            Verdict::Fail,
            "VF-LINK-DISABLED",
            about,
            "the administrator holds its link down",
        )
        .because(
            format!("netlink: {interface} vf {vf}"),
            "link-state disable",
        )
        .mend(format!("vfnic set {interface} vf {vf} state auto"));
    }
    let path = format!("/sys/class/net/{interface}/carrier");
    match host.try_read(&path) {
        Ok(carrier) if carrier == "0" => Finding::new(
            Verdict::Warn,
            "VF-NO-CARRIER",
            about,
            format!("no cable or no partner on {interface}; VFs of one card reach each other even so where the card switches without a link"),
        )
        .because(path, carrier)
        .mend(format!("ethtool {interface}   # cable, module, the switch's port")),
        // The file cannot be read while the interface is down, which has been said.
        _ => Finding::pass("link", about, format!("{interface} has a link")),
    }
}

fn settings(host: &Host, function: &Function) -> Vec<Finding> {
    let about = &function.address;
    let (Some(interface), Some(vf)) = (&function.pf_interface, function.vf) else {
        return Vec::new();
    };
    let path = format!("netlink: {interface} vf {vf}");
    let Some(settings) = &function.settings else {
        let error = host.links().read(interface).err();
        let finding = Finding::new(
            Verdict::Note,
            "VF-SETTINGS",
            about,
            format!("{interface} does not say how this VF is set up"),
        )
        .mend(format!("ip -d link show {interface}"));
        return vec![match error {
            Some(error) => finding.because_of(path, &error),
            None => finding.because(path, "says nothing of this VF"),
        }];
    };
    let mut findings = Vec::new();
    if settings.mac.as_deref() == Some("00:00:00:00:00:00") {
        findings.push(
            Finding::new(
                Verdict::Warn,
                "VF-MAC-UNSET",
                about,
                "it has no address: every start makes up another",
            )
            .because(path.clone(), "mac 00:00:00:00:00:00")
            .mend(format!(
                "vfnic set {interface} vf {vf} mac 02:{:02x}:{:02x}:{:02x}:{:02x}:{:02x}",
                function.at.domain & 0xff,
                function.at.bus,
                function.at.device,
                function.at.function,
                vf & 0xff
            )),
        );
    } else {
        findings.push(Finding::pass("mac", about, "it has an address"));
    }
    let mut notes = Vec::new();
    if settings.spoofchk == Some(true) {
        notes.push("frames with another source address are dropped (spoofchk on)");
    }
    if settings.trust == Some(false) {
        notes
            .push("no promiscuous mode, and no other address than the administrator's (trust off)");
    }
    if settings.vlan.is_some_and(|vlan| vlan != 0) {
        notes.push("the card tags and untags every frame: the program must not (port VLAN)");
    }
    if notes.is_empty() {
        findings.push(Finding::pass("settings", about, "nothing is restricted"));
        return findings;
    }
    let mut finding = Finding::new(Verdict::Note, "VF-SETTINGS", about, notes.join("; "));
    let shown = serde_json::to_string(settings).unwrap_or_default();
    finding = finding.because(path, shown);
    if settings.spoofchk == Some(true) || settings.trust == Some(false) {
        finding = finding.mend(format!(
            "vfnic set {interface} vf {vf} spoofchk off trust on   # only for a program that has to forge or to listen"
        ));
    }
    if settings.vlan.is_some_and(|vlan| vlan != 0) {
        finding = finding.mend(format!(
            "vfnic set {interface} vf {vf} vlan 0   # for a trunk"
        ));
    }
    findings.push(finding);
    findings
}
