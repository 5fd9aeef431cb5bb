//! `vfnic doctor`: the right code and mend for each tree.

use std::collections::BTreeSet;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;
use vfnic_tools::commands::doctor::CODES;

use crate::run::{error, on, output};
use crate::snapshot;
use crate::trees::{self, Tree};

fn report(tree: &Tree, spec: Option<&str>) -> (i32, Value) {
    let mut arguments = vec!["doctor", "--json"];
    arguments.extend(spec);
    let output = on(tree, &arguments);
    let value = serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)));
    (output.status.code().expect("an end"), value)
}

fn codes(report: &Value) -> BTreeSet<String> {
    report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .filter_map(|finding| finding["code"].as_str().map(str::to_owned))
        .collect()
}

fn finding<'a>(report: &'a Value, code: &str) -> &'a Value {
    report["findings"]
        .as_array()
        .expect("findings")
        .iter()
        .find(|finding| finding["code"] == code)
        .unwrap_or_else(|| panic!("no {code} in {:?}", codes(report)))
}

/// A named tree, the spec to ask about, and the exit status.
type Case = (&'static str, fn() -> Tree, Option<&'static str>, i32);

fn altered(alter: impl Fn(&Tree)) -> Tree {
    let tree = trees::i350();
    alter(&tree);
    tree
}

const VF: &str = "sys/bus/pci/devices/0000:04:10.0";

/// Every code, a tree that has it, and words of the mend.
fn ailing() -> Vec<(&'static str, Tree, &'static str)> {
    let status =
        "Uid:\t1000\t1000\t1000\t1000\nGid:\t1000\t1000\t1000\t1000\nCapEff:\t0000000000000000\n";
    vec![
        ("VF-PLACE-GUEST", trees::guest(), "on the host"),
        ("VF-PLACE-CONTAINER", trees::pod(), "on the host"),
        ("VF-IOMMU-OFF-IN-FIRMWARE", trees::no_iommu(), "VT-d"),
        ("VF-IOMMU-SWITCHED-OFF", trees::amd(), "amd_iommu=off"),
        (
            "VF-IOMMU-NOT-ON-COMMAND-LINE",
            trees::not_on_the_command_line(),
            "intel_iommu=on iommu=pt",
        ),
        (
            "VF-IOMMU-NOT-STARTED",
            altered(|tree| tree.remove("sys/class/iommu/dmar0")),
            "dmesg",
        ),
        ("VF-NOIOMMU-MODE", trees::noiommu_vfio(), "unsafe_noiommu"),
        ("VF-NO-GROUP", trees::amd(), "switch the IOMMU on"),
        (
            "VF-MODULE-MISSING",
            {
                let tree = trees::no_iommu();
                tree.remove("sys/bus/pci/drivers/vfio-pci");
                tree
            },
            "modprobe vfio-pci",
        ),
        ("VF-MEMLOCK-LOW", trees::pod(), "ulimit -l"),
        (
            "VF-HUGEPAGES-NONE",
            altered(|tree| {
                tree.write(
                    "sys/kernel/mm/hugepages/hugepages-2048kB/free_hugepages",
                    "0\n",
                );
            }),
            "nr_hugepages",
        ),
        (
            "VF-SRIOV-OFF",
            {
                let tree = Tree::empty();
                tree.intel();
                tree
            },
            "SR-IOV in the firmware",
        ),
        ("VF-NONE", trees::card_without_vfs(), "vfnic provision eno1"),
        (
            "VF-BAR-UNASSIGNED",
            altered(|tree| {
                tree.write(
                    &format!("{VF}/resource"),
                    "0x0000000000000000 0x0000000000000000 0x0000000000000000\n",
                );
            }),
            "pci=realloc",
        ),
        (
            "VF-NOT-OURS",
            altered(|tree| tree.write(&format!("{VF}/device"), "0x154c\n")),
            "vfnic list",
        ),
        ("VF-GROUP-NOT-VIABLE", trees::shared_group(), "ACS"),
        ("VF-ACS-MISSING", trees::shared_group(), "past the IOMMU"),
        (
            "VF-FIRMWARE-REGION",
            altered(|tree| {
                tree.write(
                    "sys/kernel/iommu_groups/30/reserved_regions",
                    "0x00000000bdf6f000 0x00000000bdf7efff direct\n",
                );
            }),
            "HPE",
        ),
        (
            "VF-IOVA-NARROW",
            altered(|tree| {
                tree.write("sys/class/iommu/dmar0/intel-iommu/cap", "d2008c20260686\n");
            }),
            "nothing, for vfnic",
        ),
        ("VF-NOT-BOUND", trees::i82599(), "vfnic bind 0000:31:10.2"),
        (
            "VF-NODE-MISSING",
            altered(|tree| tree.remove("dev/vfio/30")),
            "/dev/vfio/30",
        ),
        (
            "VF-NODE-PERMISSION",
            altered(|tree| {
                tree.write("proc/self/status", status);
                let node = tree.path("dev/vfio/30");
                std::fs::set_permissions(node, std::fs::Permissions::from_mode(0o600))
                    .expect("a mode");
            }),
            "a rule for udev",
        ),
        ("VF-HELD", trees::i82599(), "4242"),
        ("VF-TOKEN-NEEDED", trees::pf_on_vfio(), "UUID"),
        ("VF-PF-OUT-OF-SIGHT", trees::guest(), "ask the host"),
        (
            "VF-PF-DOWN",
            altered(|tree| tree.write("sys/class/net/eno1/flags", "0x1002\n")),
            "ip link set eno1 up",
        ),
        (
            "VF-NO-CARRIER",
            altered(|tree| tree.write("sys/class/net/eno1/carrier", "0\n")),
            "ethtool eno1",
        ),
        (
            "VF-LINK-DISABLED",
            altered(|tree| {
                let links = std::fs::read_to_string(tree.path("links.json")).expect("links");
                tree.write("links.json", links.replace("\"auto\"", "\"disable\""));
            }),
            "vfnic set eno1 vf 0 state auto",
        ),
        (
            "VF-MAC-UNSET",
            trees::i82599(),
            "vfnic set ens1f0 vf 0 mac 02:",
        ),
        ("VF-SETTINGS", trees::i350(), "spoofchk off trust on"),
    ]
}

#[test]
fn every_code_has_a_tree_that_has_it_with_its_mend() {
    let mut seen = BTreeSet::from(["VF-NOT-A-VF"]);
    for (code, tree, mend) in ailing() {
        let (_, report) = report(&tree, None);
        let finding = finding(&report, code);
        assert!(
            finding["mend"].to_string().contains(mend),
            "{code}: {}",
            finding["mend"]
        );
        assert!(finding["check"] != "other", "{code}");
        seen.insert(code);
    }
    let all: BTreeSet<_> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(seen, all);
    let (status, report) = report(&trees::i350(), Some("04:00.0"));
    assert_eq!(status, 1);
    finding(&report, "VF-NOT-A-VF");
}

#[test]
fn snapshots_of_every_tree() {
    let cases: [Case; 12] = [
        ("i350", trees::i350, Some("eno1#0"), 0),
        ("82599", trees::i82599, None, 1),
        ("shared_group", trees::shared_group, Some("eno1#0"), 1),
        ("amd", trees::amd, Some("0000:41:10.0"), 1),
        ("amd_good", trees::amd_good, Some("0000:41:10.0"), 0),
        ("no_iommu", trees::no_iommu, None, 1),
        (
            "not_on_the_command_line",
            trees::not_on_the_command_line,
            None,
            1,
        ),
        ("noiommu_vfio", trees::noiommu_vfio, None, 1),
        ("pf_on_vfio", trees::pf_on_vfio, Some("0000:31:10.2"), 3),
        ("guest", trees::guest, None, 0),
        ("pod", trees::pod, None, 1),
        ("card_without_vfs", trees::card_without_vfs, None, 1),
    ];
    for (name, tree, spec, wanted) in cases {
        let tree = tree();
        let (status, report) = report(&tree, spec);
        assert_eq!(status, wanted, "{name}: {:?}", codes(&report));
        let text = serde_json::to_string_pretty(&report).expect("JSON") + "\n";
        snapshot::check(&format!("doctor/{name}.json"), &text);
        let mut arguments = vec!["doctor"];
        arguments.extend(spec);
        snapshot::check(
            &format!("doctor/{name}.txt"),
            &output(&tree, &arguments, wanted),
        );
    }
}

#[test]
fn what_only_the_host_can_do_is_said() {
    let (_, report) = report(&trees::guest(), None);
    assert_eq!(finding(&report, "VF-PF-OUT-OF-SIGHT")["on_host"], true);
}

#[test]
fn what_is_no_function_of_a_host_is_a_usage_error() {
    let tree = trees::i350();
    assert!(error(&tree, &["doctor", "sim:x540"], 2).contains("vfnic probe"));
    assert!(error(&tree, &["doctor", "0000:zz:00.0"], 2).contains("zz"));
    assert!(error(&tree, &["doctor", "0000:05:00.0"], 1).contains("0000:05:00.0"));
}
