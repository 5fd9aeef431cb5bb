//! `vfnic list`.

use serde_json::Value;

use crate::run::{error, on, output};
use crate::{snapshot, trees};

#[test]
fn tables_of_every_tree() {
    for (name, tree) in [
        ("i350", trees::i350()),
        ("82599", trees::i82599()),
        ("shared_group", trees::shared_group()),
        ("amd", trees::amd()),
        ("amd_good", trees::amd_good()),
        ("off", trees::not_on_the_command_line()),
        ("no_iommu", trees::no_iommu()),
        ("noiommu_vfio", trees::noiommu_vfio()),
        ("pf_on_vfio", trees::pf_on_vfio()),
        ("guest", trees::guest()),
        ("pod", trees::pod()),
    ] {
        snapshot::check(&format!("list/{name}.txt"), &output(&tree, &["list"], 0));
    }
}

#[test]
fn every_style() {
    let tree = trees::i82599();
    for style in ["devbind", "json", "libvirt"] {
        let text = output(&tree, &["list", "--style", style], 0);
        snapshot::check(&format!("list/82599.{style}"), &text);
    }
}

#[test]
fn json_says_everything_about_a_vf() {
    let tree = trees::i82599();
    let text = output(&tree, &["list", "ens1f0#0", "--style", "json"], 0);
    let all: Value = serde_json::from_str(&text).expect("one JSON object");
    let vf = &all["functions"][0];
    assert_eq!(all["functions"].as_array().map(Vec::len), Some(1));
    assert_eq!(vf["address"], "0000:31:10.0");
    assert_eq!(vf["holders"][0]["pid"], 4242);
    assert_eq!(vf["opens_by"], "cdev");
    assert_eq!(vf["settings"]["spoofchk"], true);
    assert_eq!(vf["group_members"][0]["driver"], "vfio-pci");
}

fn addresses(tree: &trees::Tree, arguments: &[&str]) -> Vec<String> {
    let mut all = vec!["list", "--style", "json"];
    all.extend(arguments);
    let text = output(tree, &all, 0);
    let value: Value = serde_json::from_str(&text).expect("one JSON object");
    let functions = value["functions"].as_array().expect("functions");
    functions
        .iter()
        .map(|function| function["address"].as_str().expect("text")[5..].to_owned())
        .collect()
}

#[test]
fn specs_filter() {
    let tree = trees::i82599();
    for (spec, wanted) in [
        ("31:10.2", &["31:10.2"][..]),
        ("ens1f0#0,2-3", &["31:10.0", "31:10.4"]),
        ("ens1f0", &["31:00.0", "31:10.0", "31:10.2", "31:10.4"]),
        ("*:31:10.*", &["31:10.0", "31:10.2", "31:10.4"]),
    ] {
        assert_eq!(addresses(&tree, &[spec]), wanted, "{spec}");
    }
    assert_eq!(
        addresses(&tree, &["31:10.0", "31:10.4"]),
        ["31:10.0", "31:10.4"]
    );
    assert_eq!(
        addresses(&trees::pod(), &["k8s:intel.com/sriov_vfs"]),
        ["31:10.0"]
    );
    assert!(error(&tree, &["list", "31:10.7"], 1).contains("0000:31:10.7"));
    assert!(error(&tree, &["list", "ens1f0#9"], 1).contains("has 3 VFs"));
    assert!(error(&tree, &["list", "sim:x540"], 1).contains("sim:x540"));
    assert!(error(&tree, &["list", "0000:zz:10.0"], 2).contains("0000:zz"));
}

#[test]
fn nova_filters() {
    let tree = trees::i82599();
    for (spec, wanted) in [
        (
            r#"{"vendor_id":"8086","product_id":"10ed"}"#,
            &["31:10.0", "31:10.2", "31:10.4"][..],
        ),
        (r#"{"address":":31:10.2"}"#, &["31:10.2"]),
        (
            r#"{"address":"0000:31:00.0"}"#,
            &["31:00.0", "31:10.0", "31:10.2", "31:10.4"],
        ),
        (
            r#"{"address":{"domain":".*","bus":"31","slot":"1","function":"[24]"}}"#,
            &["31:10.2", "31:10.4"],
        ),
        (
            r#"{"devname":"ens1f0","physical_network":"physnet1"}"#,
            &["31:00.0", "31:10.0", "31:10.2", "31:10.4"],
        ),
    ] {
        assert_eq!(addresses(&tree, &["--nova", spec]), wanted, "{spec}");
    }
    for bad in [
        "{",
        r#"{"address":"3*:10.0"}"#,
        r#"{"address":"31:10.0","devname":"ens1f0"}"#,
    ] {
        assert!(
            error(&tree, &["list", "--nova", bad], 2).contains("--nova"),
            "{bad}"
        );
    }
}

#[test]
fn a_pod_sees_what_it_was_given_and_what_is_missing() {
    let tree = trees::pod();
    let text = output(&tree, &["list", "--from-env"], 1);
    assert!(text.contains("INTEL_COM_SRIOV_VFS:"), "{text}");
    assert!(text.contains("/0  0000:31:10.0  /dev/vfio/40\n"), "{text}");
    assert!(
        text.contains("/1  0000:77:00.0  /dev/vfio/41  ABSENT"),
        "{text}"
    );
}

/// faults.md T6.
#[test]
fn t6_escapes_in_names_do_not_reach_the_terminal() {
    let tree = trees::i82599();
    tree.write(
        "proc/4242/comm",
        "\u{1b}[31mred\u{1b}]0;title\u{7}\u{202e}\n",
    );
    for style in ["table", "libvirt", "devbind", "json"] {
        let text = output(&tree, &["list", "--style", style], 0);
        assert!(!text.contains(['\u{1b}', '\u{7}']), "{style}: {text:?}");
        assert!(
            style == "json" || !text.contains('\u{202e}'),
            "{style}: {text:?}"
        );
    }
    assert!(output(&tree, &["list"], 0).contains("\\u{1b}[31mred"));
}

#[test]
fn a_folder_that_is_no_host_is_refused() {
    let tree = trees::i350();
    tree.remove("sys");
    assert!(error(&tree, &["list"], 1).contains("no folder `sys`"));
    assert_eq!(
        on(&tree, &["list", "--style", "fancy"]).status.code(),
        Some(2)
    );
}
