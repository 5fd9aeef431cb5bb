//! Access Control Services: what lets the IOMMU tell functions below one port apart (PCIe base specification 7.7.8).

use crate::commands::doctor::{Finding, Verdict};
use crate::host::Host;
use crate::host::function::Function;

const EXTENDED: usize = 0x100;
const ACS: u32 = 0x000d;
/// Source validation, request and completion redirection, upstream forwarding: what Linux wants before it makes groups of one.
const WANTED: u16 = 1 | 1 << 2 | 1 << 3 | 1 << 4;

const PRICE: &str = "not advised: the patch `pcie_acs_override` would split the group on paper alone; devices in it could then still reach each other's memory past the IOMMU, a VM's or a program's VF the host's";

pub(super) fn check(host: &Host, function: &Function) -> Finding {
    let about = &function.address;
    if function.group_members.len() <= 1 {
        return Finding::pass("acs", about, "alone in its group");
    }
    let Some(port) = port_above(host, function) else {
        return Finding::pass("acs", about, "no port above it");
    };
    let path = format!("/sys/bus/pci/devices/{port}/config");
    let config = std::fs::read(host.path(&path)).unwrap_or_default();
    let finding = Finding::new(
        Verdict::Warn,
        "VF-ACS-MISSING",
        about,
        format!(
            "the port {port} above it does not keep functions apart, so {} share a group",
            function.group_members.len()
        ),
    );
    let evidence = match control(&config) {
        _ if config.len() <= EXTENDED => {
            return Finding::pass(
                "acs",
                about,
                "the port's capabilities take privilege to read",
            );
        }
        Some(control) if control & WANTED == WANTED => {
            return Finding::pass("acs", about, format!("{port} has ACS on"));
        }
        Some(control) => format!("ACS is there, control {control:#06x}"),
        None => "no ACS among the extended capabilities".to_owned(),
    };
    finding
        .because(path, evidence)
        .mend("put the card into a slot whose port has ACS (those of the processor mostly do, the chipset's less so), or update the firmware and switch ACS on in its setup")
        .mend(PRICE)
}

/// The bridge a function is below: the folder around its own. A VF's is its PF's.
fn port_above(host: &Host, function: &Function) -> Option<String> {
    let path = host.path(&host.function_path(function.pf.unwrap_or(function.at)));
    let real = std::fs::canonicalize(path).ok()?;
    let name = real.parent()?.file_name()?.to_str()?;
    name.parse::<vfnic::backend::PciAddress>()
        .ok()
        .map(|port| port.to_string())
}

/// The ACS control register, if there is one. The chain of capabilities is the device's word: it may run in circles.
fn control(config: &[u8]) -> Option<u16> {
    let word = |at: usize| {
        let bytes = config.get(at..at + 4)?;
        Some(u32::from_le_bytes(bytes.try_into().ok()?))
    };
    let mut at = EXTENDED;
    for _ in 0..(4096 - EXTENDED) / 8 {
        let header = word(at)?;
        if header & 0xffff == ACS {
            return u16::try_from(word(at + 4)? >> 16).ok();
        }
        at = (header >> 20) as usize & !3;
        if at < EXTENDED {
            return None;
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn d63_the_chain_is_followed_to_its_end_and_no_further() {
        let mut config = vec![0; 4096];
        config[0x100..0x104].copy_from_slice(&0x1401_0001_u32.to_le_bytes());
        config[0x140..0x144].copy_from_slice(&0x0001_000d_u32.to_le_bytes());
        config[0x146] = 0x1d;
        assert_eq!(control(&config), Some(0x1d));
        // A circle, and an end outside.
        config[0x140..0x144].copy_from_slice(&0x1001_0002_u32.to_le_bytes());
        assert_eq!(control(&config), None);
        config[0x140..0x144].copy_from_slice(&0xffc1_0002_u32.to_le_bytes());
        assert_eq!(control(&config), None);
        assert_eq!(control(&[0; 64]), None);
    }
}
