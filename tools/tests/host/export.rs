//! `vfnic export`: each format of each kind of host, and what our own readers of those formats make of it.

use std::collections::BTreeSet;

use serde_json::Value;
use vfnic_tools::host::Host;
use vfnic_tools::host::function::Function;
use vfnic_tools::host::nova::NovaSpec;

use crate::run::{error, output};
use crate::{snapshot, trees};

const FORMATS: [&str; 6] = ["nova", "libvirt", "libvirt-network", "k8s", "xen", "qemu"];

#[test]
fn every_format_of_every_kind_of_host() {
    for (name, tree, spec) in [
        ("whole_card", trees::i350(), "eno1"),
        ("some_vfs", trees::i350(), "eno1#0,2-4"),
        ("cdev", trees::i82599(), "ens1f0#0"),
        ("guest", trees::guest(), "0000:00:05.0"),
        ("pf_on_vfio", trees::pf_on_vfio(), "0000:31:10.2"),
    ] {
        for format in FORMATS {
            let text = output(&tree, &["export", spec, "--format", format], 0);
            snapshot::check(&format!("export/{name}.{format}"), &text);
        }
    }
}

/// Nova, reading what we wrote for it, offers the chosen VFs and nothing else.
#[test]
fn nova_finds_the_chosen_vfs_and_no_others() {
    let tree = trees::i350();
    let all = Function::all(&Host::at(tree.root())).expect("functions");
    for (spec, numbers) in [
        ("eno1", &[0, 1, 2, 3, 4, 5, 6][..]),
        ("eno1#0,2-4", &[0, 2, 3, 4]),
        ("0000:04:13.0", &[6]),
    ] {
        let text = output(&tree, &["export", spec, "--format", "nova"], 0);
        let specs: Vec<NovaSpec> = text
            .lines()
            .filter_map(|line| line.strip_prefix("device_spec = "))
            .map(|json| json.parse().expect("a device_spec"))
            .collect();
        let offered: BTreeSet<_> = all
            .iter()
            .filter(|function| specs.iter().any(|spec| spec.matches(function)))
            .map(|function| function.address.as_str())
            .collect();
        let wanted: BTreeSet<_> = numbers.iter().map(|&vf| trees::I350_VFS[vf]).collect();
        assert_eq!(offered, wanted, "{spec}");
    }
}

/// The ConfigMap of an export: its JSON.
fn config(text: &str) -> Value {
    let (_, config) = text.split_once("config.json: |\n").expect("a ConfigMap");
    let (config, _) = config.split_once("---\n").expect("a pod behind it");
    serde_json::from_str(config).expect("JSON")
}

#[test]
fn the_plugins_ranges_are_our_specs() {
    let tree = trees::i350();
    for (spec, name, wanted) in [
        ("eno1", "eno1", 7),
        ("eno1#0,2-4", "eno1#0,2-4", 4),
        ("eno1#1-1,0", "eno1#0-1", 2),
        ("04:00.0#0,2-4", "0000:04:00.0#0,2-4", 4),
    ] {
        let text = output(&tree, &["export", spec, "--format", "k8s"], 0);
        let config = config(&text);
        let selector = &config["resourceList"][0]["selectors"][0];
        let (key, other) = match name.contains(':') {
            true => ("rootDevices", "pfNames"),
            false => ("pfNames", "rootDevices"),
        };
        assert_eq!(selector[key][0], name);
        assert!(selector.get(other).is_none(), "{selector}");
        assert_eq!(selector["devices"][0], "1520");
        let again = output(&tree, &["list", name, "--style", "json"], 0);
        let again: Value = serde_json::from_str(&again).expect("JSON");
        let vfs = again["functions"].as_array().expect("functions");
        let vfs = vfs.iter().filter(|function| function["role"] == "vf");
        assert_eq!(vfs.count(), wanted, "{name}");
    }
}

/// An interface's name may hold whatever its administrator likes, short of a slash and blanks.
#[test]
fn odd_names_of_interfaces_do_not_reach_other_peoples_files() {
    let tree = trees::i350();
    tree.remove("sys/class/net/eno1");
    tree.remove("sys/bus/pci/devices/0000:04:00.0/net");
    let name = "'><x&$(id)\"";
    tree.interface(name, "0000:04:00.0", "a0:36:9f:00:00:01");
    for format in FORMATS {
        let text = output(&tree, &["export", "0000:04:10.0", "--format", format], 0);
        assert!(!text.contains("<x"), "{text}");
    }
}

#[test]
fn what_cannot_be_handed_on_is_refused() {
    let tree = trees::i350();
    for (arguments, status, word) in [
        (
            &["export", "0000:04:00.0", "--format", "qemu"][..],
            1,
            "is a PF",
        ),
        (&["export", "eno1#0", "--format", "vmware"], 2, "vmware"),
        (&["export", "eno1#0"], 2, "--format"),
        (
            &["export", "eno1#0", "--format", "k8s", "--name", "a-b"],
            2,
            "--name",
        ),
        (
            &["export", "eno1#0", "--format", "nova", "--name", "a\"b"],
            2,
            "--name",
        ),
        (&["export", "eno1#9", "--format", "nova"], 1, "has 7 VFs"),
    ] {
        assert!(
            error(&tree, arguments, status).contains(word),
            "{arguments:?}"
        );
    }
}
