//! `vfnic bind`, `unbind`, `provision` and `set`, with a thread for the kernel.

use std::fs;

use crate::kernel::Kernel;
use crate::run::{error, output};
use crate::trees::{self, Tree, driver};

const FREE: &str = "0000:31:10.2";

#[test]
fn a_vf_is_bound_and_given_back() {
    let tree = trees::i82599();
    let _kernel = Kernel::of(&tree, "ixgbevf");
    let text = output(&tree, &["bind", FREE], 0);
    assert_eq!(text, format!("{FREE}: bound to vfio-pci\n"));
    assert_eq!(driver(&tree, FREE).as_deref(), Some("vfio-pci"));
    assert!(output(&tree, &["bind", FREE], 0).contains("nothing to do"));
    output(&tree, &["unbind", FREE], 0);
    assert_eq!(driver(&tree, FREE).as_deref(), Some("ixgbevf"));
}

#[test]
fn what_does_not_bind_is_given_back() {
    let tree = trees::i82599();
    // Nobody answers the probe: the driver stays, and the override must not.
    let text = error(&tree, &["bind", FREE], 1);
    assert!(text.contains("nothing is changed"), "{text}");
    let left = fs::read_to_string(tree.path(&format!("{}/driver_override", Tree::device(FREE))));
    assert_eq!(left.expect("a file").lines().next(), Some(""));
    assert_eq!(driver(&tree, FREE).as_deref(), Some("ixgbevf"));
}

#[test]
fn what_somebody_needs_is_refused_and_left_alone() {
    let tree = trees::i82599();
    for (arguments, word) in [
        (&["unbind", "31:10.0"][..], "qemu-system-x86 (pid 4242)"),
        (&["bind", "31:00.0"], "3 VFs"),
        (&["provision", "ens1f0", "5"], "held by qemu-system-x86"),
        (&["provision", "ens1f0", "64"], "can have 63"),
        (&["provision", "ens9", "1"], "no PF"),
        (&["bind", "31:10.7"], "31:10.7"),
    ] {
        let text = error(&tree, arguments, 1);
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
    tree.write(
        "proc/net/route",
        "Iface\tDestination\nens1f0v1\t0002000A\t00000000\n",
    );
    assert!(error(&tree, &["bind", FREE], 1).contains("a route through it"));
    let override_file = tree.path(&format!("{}/driver_override", Tree::device(FREE)));
    assert_eq!(
        fs::read_to_string(override_file).expect("a file"),
        "(null)\n"
    );
    assert!(error(&trees::amd(), &["bind", "41:10.0"], 1).contains("no IOMMU group"));
}

#[test]
fn a_dry_run_prints_the_writes() {
    let tree = trees::i82599();
    assert_eq!(
        output(&tree, &["bind", FREE, "--dry-run"], 0),
        "echo 'vfio-pci' > /sys/bus/pci/devices/0000:31:10.2/driver_override\n\
         echo '0000:31:10.2' > /sys/bus/pci/devices/0000:31:10.2/driver/unbind\n\
         echo '0000:31:10.2' > /sys/bus/pci/drivers_probe\n"
    );
    assert_eq!(
        output(
            &trees::card_without_vfs(),
            &["provision", "eno1", "2", "--dry-run"],
            0
        ),
        "echo '2' > /sys/bus/pci/devices/0000:04:00.0/sriov_numvfs\n"
    );
    assert_eq!(driver(&tree, FREE).as_deref(), Some("ixgbevf"));
}

#[test]
fn vfs_that_do_not_come_are_taken_back() {
    let tree = trees::card_without_vfs();
    let text = error(&tree, &["provision", "eno1", "2"], 1);
    assert!(text.contains("0 of 2 VFs came"), "{text}");
    let count = fs::read_to_string(tree.path("sys/bus/pci/devices/0000:04:00.0/sriov_numvfs"));
    assert_eq!(count.expect("a file").trim(), "0");
}

#[test]
fn knobs_turn_and_words_that_make_no_sense_do_not() {
    let tree = trees::i350();
    output(
        &tree,
        &[
            "set",
            "eno1",
            "vf",
            "1",
            "mac",
            "02:00:00:00:00:aa",
            "vlan",
            "7",
            "qos",
            "3",
            "trust",
            "on",
            "max_tx_rate",
            "100",
        ],
        0,
    );
    let text = output(&tree, &["list", "eno1#1", "--style", "json"], 0);
    for word in [
        "02:00:00:00:00:aa",
        "\"vlan\":7",
        "\"qos\":3",
        "\"trust\":true",
        "\"max_tx_rate\":100",
    ] {
        assert!(text.contains(word), "{word}: {text}");
    }
    assert_eq!(
        output(
            &tree,
            &[
                "set",
                "eno1",
                "vf",
                "0",
                "vlan",
                "9",
                "proto",
                "802.1ad",
                "--dry-run"
            ],
            0
        ),
        "ip link set eno1 vf 0 vlan 9 proto 802.1ad\n"
    );
    for (words, status, word) in [
        (&["vf", "9", "trust", "on"][..], 1, "no VF 9"),
        (&["vf", "-1", "trust", "on"], 2, "-1"),
        (
            &["vf", "18446744073709551616", "trust", "on"],
            2,
            "no VF's number",
        ),
        (&["vf", "0", "vlan", "4095"], 2, "4094"),
        (&["vf", "0", "vlan", "5x"], 2, "5x"),
        (&["vf", "0", "colour", "red"], 2, "colour"),
        (&["vf", "0", "trust", "on", "mac"], 2, "no value"),
        (&["vf", "0", "trust", "yes"], 2, "neither"),
        (&["vf", "0", "mac", "1:2:3"], 2, "mac"),
    ] {
        let mut arguments = vec!["set", "eno1"];
        arguments.extend(words);
        assert!(error(&tree, &arguments, status).contains(word), "{words:?}");
    }
}
