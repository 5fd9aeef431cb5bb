//! A VF's PF: its link, and what it has set for the VF.

use super::access;
use crate::commands::doctor::{Finding, Verdict};
use crate::host::Host;
use crate::host::function::Function;

pub(super) fn up(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let Some(interface) = &function.pf_interface else {
        return Finding::new(
            Verdict::Note,
            "VF-PF-OUT-OF-SIGHT",
            about,
            "its PF has no interface here: link, address, spoof check, trust and VLAN cannot be looked at",
        )
        .mend(match &function.pf_text {
            // It is here, in the hands of a VFIO user.
            Some(pf) if access::pf_on_vfio(host, function).is_some() => {
                format!("ask whoever runs the PF {pf}: it decides over link, address and settings")
            }
            _ => "ask the host: vfnic doctor there, or ip link show PF".to_owned(),
        });
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

pub(super) fn link(host: &Host, function: &Function) -> Finding {
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

pub(super) fn settings(host: &Host, function: &Function) -> Vec<Finding> {
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
