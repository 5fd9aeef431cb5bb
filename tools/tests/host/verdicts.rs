//! What the doctor has to get right beyond a code: whose fault it is, who can mend it, and at what price.

use std::collections::BTreeSet;

use serde_json::Value;
use vfnic_tools::commands::doctor::CODES;

use crate::run::on;
use crate::trees::{self, Tree};

fn report(tree: &Tree) -> Value {
    let output = on(tree, &["doctor", "--json"]);
    serde_json::from_slice(&output.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&output.stderr)))
}

fn findings(report: &Value) -> &[Value] {
    report["findings"].as_array().expect("findings")
}

/// Every tree there is.
fn all() -> Vec<(&'static str, Tree)> {
    vec![
        ("i350", trees::i350()),
        ("82599", trees::i82599()),
        ("shared group", trees::shared_group()),
        ("amd", trees::amd()),
        ("amd in order", trees::amd_good()),
        ("no iommu", trees::no_iommu()),
        ("not on the command line", trees::not_on_the_command_line()),
        ("no-iommu vfio", trees::noiommu_vfio()),
        ("pf on vfio", trees::pf_on_vfio()),
        ("guest", trees::guest()),
        ("pod", trees::pod()),
        ("without vfs", trees::card_without_vfs()),
        ("two ports", trees::two_ports()),
    ]
}

/// The firmware's table and the kernel's command line decide between them, for both vendors.
#[test]
fn off_in_firmware_is_told_from_off_in_the_kernel() {
    for (vendor, command_line, table, code, mend) in [
        (
            "GenuineIntel",
            "quiet",
            None,
            "VF-IOMMU-OFF-IN-FIRMWARE",
            "VT-d",
        ),
        (
            "GenuineIntel",
            "intel_iommu=on",
            None,
            "VF-IOMMU-OFF-IN-FIRMWARE",
            "VT-d",
        ),
        (
            "GenuineIntel",
            "quiet",
            Some("DMAR"),
            "VF-IOMMU-NOT-ON-COMMAND-LINE",
            "intel_iommu=on iommu=pt",
        ),
        (
            "GenuineIntel",
            "iommu=pt",
            Some("DMAR"),
            "VF-IOMMU-NOT-ON-COMMAND-LINE",
            "intel_iommu=on",
        ),
        (
            "GenuineIntel",
            "intel_iommu=off",
            Some("DMAR"),
            "VF-IOMMU-SWITCHED-OFF",
            "intel_iommu=off",
        ),
        (
            "GenuineIntel",
            "intel_iommu=on iommu=off",
            Some("DMAR"),
            "VF-IOMMU-SWITCHED-OFF",
            "iommu=off",
        ),
        // The last one counts, and `noforce` is not `off`.
        (
            "GenuineIntel",
            "intel_iommu=off intel_iommu=on",
            Some("DMAR"),
            "VF-IOMMU-NOT-STARTED",
            "dmesg",
        ),
        (
            "GenuineIntel",
            "intel_iommu=on iommu=noforce",
            Some("DMAR"),
            "VF-IOMMU-NOT-STARTED",
            "dmesg",
        ),
        (
            "GenuineIntel",
            "intel_iommu=sm_on,on",
            Some("DMAR"),
            "VF-IOMMU-NOT-STARTED",
            "dmesg",
        ),
        (
            "AuthenticAMD",
            "quiet",
            None,
            "VF-IOMMU-OFF-IN-FIRMWARE",
            "AMD-Vi",
        ),
        (
            "AuthenticAMD",
            "intel_iommu=on",
            None,
            "VF-IOMMU-OFF-IN-FIRMWARE",
            "AMD-Vi",
        ),
        (
            "AuthenticAMD",
            "amd_iommu=off",
            Some("IVRS"),
            "VF-IOMMU-SWITCHED-OFF",
            "amd_iommu=off",
        ),
        // AMD's needs no word on the command line: that one is missing is not the reason.
        (
            "AuthenticAMD",
            "quiet",
            Some("IVRS"),
            "VF-IOMMU-NOT-STARTED",
            "dmesg",
        ),
        (
            "HygonGenuine",
            "quiet",
            Some("IVRS"),
            "VF-IOMMU-NOT-STARTED",
            "dmesg",
        ),
    ] {
        let tree = trees::no_iommu();
        tree.machine(vendor, command_line, "");
        if let Some(table) = table {
            tree.write(&format!("sys/firmware/acpi/tables/{table}"), table);
        }
        let report = report(&tree);
        let found: Vec<_> = findings(&report)
            .iter()
            .filter(|finding| {
                finding["code"]
                    .as_str()
                    .is_some_and(|code| code.starts_with("VF-IOMMU"))
            })
            .collect();
        assert_eq!(
            found.len(),
            1,
            "{vendor} {command_line} {table:?}: {found:?}"
        );
        assert_eq!(found[0]["code"], code, "{vendor} {command_line} {table:?}");
        let said = found[0]["mend"].to_string();
        assert!(said.contains(mend), "{vendor} {command_line}: {said}");
        assert!(
            found[0]["evidence"].to_string().contains("/sys/"),
            "{found:?}"
        );
    }
}

/// In a guest and in a pod: firmware, groups and the PF are the host's, binding and this process's own affairs are not.
#[test]
fn what_only_the_host_can_mend_is_marked_there_and_nowhere_else() {
    for (name, tree) in all() {
        let report = report(&tree);
        let text = String::from_utf8(on(&tree, &["doctor"]).stdout).expect("UTF-8");
        let inside = matches!(name, "guest" | "pod");
        let marked: BTreeSet<_> = findings(&report)
            .iter()
            .filter(|finding| finding["on_host"] == true)
            .map(|finding| finding["check"].as_str().expect("text"))
            .collect();
        assert_eq!(!marked.is_empty(), inside, "{name}: {marked:?}");
        assert_eq!(
            text.contains("mend, on the host:"),
            inside,
            "{name}: {text}"
        );
        for own in ["binding", "holder", "place", "module"] {
            assert!(!marked.contains(own), "{name}: {own}");
        }
    }
    let pod = report(&trees::pod());
    let of = |code: &str| {
        findings(&pod)
            .iter()
            .find(|finding| finding["code"] == code)
    };
    assert_eq!(of("VF-PF-OUT-OF-SIGHT").expect("a pod")["on_host"], true);
    // A limit on locked memory is set by whoever starts the container.
    assert_eq!(of("VF-MEMLOCK-LOW").expect("a pod")["on_host"], true);
}

/// The override splits groups on paper: it is never a command to run, and what it costs stands beside it.
#[test]
fn acs_override_is_never_advised_without_its_price() {
    let mut named = 0;
    for (name, tree) in all() {
        for finding in findings(&report(&tree)) {
            for mend in finding["mend"].as_array().expect("mends") {
                let mend = mend.as_str().expect("text");
                if !mend.to_lowercase().contains("override") || mend.contains("driver_override") {
                    continue;
                }
                named += 1;
                assert!(mend.starts_with("not advised"), "{name}: {mend}");
                assert!(
                    mend.contains("each other's memory past the IOMMU"),
                    "{name}: {mend}"
                );
                assert!(!mend.contains("pcie_acs_override="), "{name}: {mend}");
            }
        }
    }
    assert!(named > 0, "the shared group names it");
}

/// The page has every code, and no other; each with a verdict and what mends it.
#[test]
fn the_page_has_every_code_and_no_other() {
    let page = include_str!("../../../docs/troubleshooting.md");
    let sections: Vec<_> = page.split("\n### ").skip(1).collect();
    let documented: Vec<_> = sections
        .iter()
        .map(|section| section.lines().next().expect("a code"))
        .collect();
    let known: Vec<_> = CODES.iter().map(|(code, _)| *code).collect();
    assert_eq!(documented, known, "in the order of the checks");
    for section in sections {
        assert!(
            ["*note.*", "*warn.*", "*fail.*"]
                .iter()
                .any(|verdict| section.contains(verdict)),
            "{section}"
        );
        assert!(section.contains("**Mend:** "), "{section}");
    }
    // The verdict on the page is the one that is given.
    for (_, tree) in all() {
        for finding in findings(&report(&tree)) {
            let Some(code) = finding["code"].as_str() else {
                continue;
            };
            let section = page
                .split_once(&format!("### {code}\n"))
                .expect("a section")
                .1;
            let verdict = format!("\n*{}.*", finding["verdict"].as_str().expect("text"));
            assert!(section.starts_with(&verdict), "{code}: {verdict}");
        }
    }
}

/// Every check that can find something passes somewhere, and there finds nothing.
#[test]
fn every_code_has_a_tree_that_is_free_of_it() {
    let reports: Vec<_> = all().into_iter().map(|(_, tree)| report(&tree)).collect();
    let unrestricted = {
        let tree = trees::i350();
        let links = std::fs::read_to_string(tree.path("links.json")).expect("links");
        let links = links
            .replace("\"spoofchk\":true", "\"spoofchk\":false")
            .replace("\"trust\":false", "\"trust\":true");
        tree.write("links.json", links);
        report(&tree)
    };
    for (code, check) in CODES {
        let free = reports.iter().chain([&unrestricted]).any(|report| {
            let passes =
                |finding: &&Value| finding["check"] == check && finding["verdict"] == "pass";
            findings(report).iter().any(|finding| passes(&finding))
                && !findings(report)
                    .iter()
                    .any(|finding| finding["code"] == code)
        });
        assert!(free, "{code}: no tree in which `{check}` passes without it");
    }
}

/// A token given in the variable, or by the plugin, is as good as none wanted; one that is none is said.
#[test]
fn a_token_that_is_given_is_seen() {
    let tree = trees::pf_on_vfio();
    let token = |tree: &Tree| {
        let report = report(tree);
        let of = |finding: &&Value| finding["check"] == "token";
        findings(&report).iter().find(of).expect("a check").clone()
    };
    assert_eq!(token(&tree)["code"], "VF-TOKEN-NEEDED");
    tree.write(
        "environ",
        "VFNIC_VF_TOKEN=14d63f20-8445-11ea-8900-1f9ce7d5650d\n",
    );
    assert_eq!(token(&tree)["verdict"], "pass");
    tree.write("environ", "VFNIC_VF_TOKEN=secret\n");
    let finding = token(&tree);
    assert_eq!(finding["code"], "VF-TOKEN-NEEDED");
    assert!(
        finding["evidence"].to_string().contains("UUID"),
        "{finding}"
    );
    assert!(!finding.to_string().contains("secret"), "{finding}");
    let plugin = |token: &str| {
        format!(
            "PCIDEVICE_A_VFS=0000:31:10.0\n\
             PCIDEVICE_A_VFS_INFO={{\"0000:31:10.0\":{{\"extraInfo\":{{\"token\":\"{token}\"}}}}}}\n"
        )
    };
    tree.write("environ", plugin("14d63f20-8445-11ea-8900-1f9ce7d5650d"));
    assert_eq!(token(&tree)["verdict"], "pass");
}
