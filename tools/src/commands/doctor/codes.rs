//! Every code the doctor knows. Codes are for scripts and for looking up in docs/troubleshooting.md: they stay.

/// (code, check that gives it).
pub const CODES: [(&str, &str); 31] = [
    ("VF-PLACE-GUEST", "place"),
    ("VF-PLACE-CONTAINER", "place"),
    ("VF-IOMMU-OFF-IN-FIRMWARE", "firmware"),
    ("VF-IOMMU-SWITCHED-OFF", "kernel"),
    ("VF-IOMMU-NOT-ON-COMMAND-LINE", "kernel"),
    ("VF-IOMMU-NOT-STARTED", "kernel"),
    ("VF-NOIOMMU-MODE", "iommu"),
    ("VF-NO-GROUP", "iommu"),
    ("VF-MODULE-MISSING", "module"),
    ("VF-MEMLOCK-LOW", "memlock"),
    ("VF-HUGEPAGES-NONE", "hugepages"),
    ("VF-SRIOV-OFF", "vf"),
    ("VF-NONE", "vf"),
    ("VF-NOT-A-VF", "vf"),
    ("VF-NOT-OURS", "vf"),
    ("VF-BAR-UNASSIGNED", "vf"),
    ("VF-GROUP-NOT-VIABLE", "group"),
    ("VF-ACS-MISSING", "acs"),
    ("VF-FIRMWARE-REGION", "iova"),
    ("VF-IOVA-NARROW", "iova"),
    ("VF-NOT-BOUND", "binding"),
    ("VF-NODE-MISSING", "node"),
    ("VF-NODE-PERMISSION", "node"),
    ("VF-HELD", "holder"),
    ("VF-TOKEN-NEEDED", "token"),
    ("VF-PF-OUT-OF-SIGHT", "pf"),
    ("VF-PF-DOWN", "pf"),
    ("VF-NO-CARRIER", "link"),
    ("VF-LINK-DISABLED", "link"),
    ("VF-MAC-UNSET", "mac"),
    ("VF-SETTINGS", "settings"),
];

#[cfg(test)]
mod tests {
    use super::CODES;

    #[test]
    fn every_code_is_in_the_documentation() {
        let page = include_str!("../../../../docs/troubleshooting.md");
        for (code, _) in CODES {
            assert!(page.contains(&format!("### {code}\n")), "{code}");
        }
    }
}
