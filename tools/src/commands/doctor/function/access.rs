//! Whether a function can be opened: its node, who holds it, the token.

use std::os::unix::fs::MetadataExt;

use crate::commands::doctor::{Finding, Verdict};
use crate::host::function::Function;
use crate::host::{Host, select};
use crate::output;

/// CAP_DAC_OVERRIDE: file modes do not apply.
const DAC_OVERRIDE: u32 = 1;

pub(super) fn node(host: &Host, function: &Function) -> Finding {
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

pub(super) fn holder(function: &Function) -> Finding {
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
    finding.mend(format!(
        "end that process, or take another VF; kill {}",
        first.pid
    ))
}

pub(super) fn token(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    let (Some(driver), Some(pf)) = (pf_on_vfio(host, function), &function.pf_text) else {
        return Finding::pass("token", about, "no token is wanted");
    };
    let given = match select::token(host, function) {
        Ok(Some(_)) => return Finding::pass("token", about, "a token is given"),
        Ok(None) => "none is given".to_owned(),
        Err(error) => output::chain(&error),
    };
    Finding::new(
        Verdict::Warn,
        "VF-TOKEN-NEEDED",
        about,
        "its PF is in the hands of a VFIO user: opening the VF takes the token that user has set, and its process has to be alive",
    )
    .because(format!("/sys/bus/pci/devices/{pf}/driver"), driver)
    .because("VFNIC_VF_TOKEN", given)
    .mend("ask whoever runs the PF for its token (a UUID), and give it in the variable VFNIC_VF_TOKEN, or as extraInfo.token of the device plugin's; a program of your own gives it in OpenOptions")
}

/// The driver of a VF's PF, when it is one of VFIO's.
pub(super) fn pf_on_vfio(host: &Host, function: &Function) -> Option<String> {
    let driver = host.sysfs().driver(function.pf?)?;
    vfnic::backend::sysfs::is_vfio(&driver).then_some(driver)
}
