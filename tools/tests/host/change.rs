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

fn reset_file(address: &str) -> String {
    format!("{}/reset", Tree::device(address))
}

fn was_reset(tree: &Tree, address: &str) -> bool {
    fs::read_to_string(tree.path(&reset_file(address))).expect("a file") == "1\n"
}

#[test]
fn a_vf_is_reset_by_the_kernel() {
    let tree = trees::i82599();
    let dry = output(&tree, &["reset", FREE, "--dry-run"], 0);
    assert_eq!(dry, format!("echo '1' > /{}\n", reset_file(FREE)));
    assert!(!was_reset(&tree, FREE));
    let text = output(&tree, &["reset", FREE], 0);
    assert_eq!(text, format!("{FREE}: reset, by the kernel (flr)\n"));
    assert!(was_reset(&tree, FREE));
    // Bound to nothing, it can be reset as well.
    output(&tree, &["reset", "0000:31:00.0#2"], 0);
    assert!(was_reset(&tree, "0000:31:10.4"));
}

#[test]
fn a_vf_that_somebody_needs_is_not_reset_nor_are_its_neighbours() {
    let tree = trees::i82599();
    tree.write(
        "proc/net/route",
        "Iface\tDestination\nens1f0v1\t0002000A\t00000000\n",
    );
    tree.remove(&reset_file("0000:31:10.4"));
    let before = contents(&tree);
    for (spec, word) in [
        ("31:10.0", "qemu-system-x86 (pid 4242)"),
        ("ens1f0", "qemu-system-x86 (pid 4242)"),
        ("31:00.0", "no VF"),
        (FREE, "a route through it"),
        ("31:10.4", "/sys/bus/pci/devices/0000:31:10.4/reset"),
        ("31:10.7", "31:10.7"),
    ] {
        let text = error(&tree, &["reset", spec], 1);
        assert!(text.contains(word), "{spec}: {text}");
    }
    assert!(contents(&tree) == before, "something was written");
    output(&tree, &["reset", FREE, "--force"], 0);
    assert!(was_reset(&tree, FREE));
}

#[test]
fn a_vf_that_does_not_come_back_is_told() {
    let tree = trees::i82599();
    let config = format!("{}/config", Tree::device(FREE));
    // A VF has no ids of its own, there.
    tree.write(&config, [0xff, 0xff, 0xff, 0xff, 0, 4, 0x10, 0]);
    output(&tree, &["reset", FREE], 0);
    tree.write(&config, [0xff; 64]);
    assert!(error(&tree, &["reset", FREE], 1).contains("all ones"));
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

/// A record of VFs that is not there, too large, binary, or has keys nobody knows.
#[test]
fn t2_a_record_that_cannot_be_read_is_said_with_its_line() {
    for (content, words) in [
        (None, &["no links.json"][..]),
        (
            Some(b"\x7fELF\x02\x01\x01".to_vec()),
            &["links.json", "line 1"],
        ),
        (
            Some(b"{\n  \"eno1\": {\n    \"0\": {\"colour\": \"red\"}\n  }\n}".to_vec()),
            &["links.json", "`colour`", "line 3"],
        ),
        (
            Some(b"{\"eno1\": {\"zero\": {}}}".to_vec()),
            &["links.json", "line 1"],
        ),
        (Some(b"{\"eno1\": {".to_vec()), &["links.json", "line 1"]),
    ] {
        let tree = trees::i350();
        match content {
            None => tree.remove("links.json"),
            Some(content) => tree.write("links.json", content),
        }
        let text = error(&tree, &["set", "eno1", "vf", "0", "trust", "on"], 1);
        for word in words {
            assert!(text.contains(word), "no `{word}` in {text}");
        }
    }
    // 1 GiB, of which nothing but the size is looked at.
    let tree = trees::i350();
    let file = fs::OpenOptions::new()
        .write(true)
        .open(tree.path("links.json"));
    file.expect("a file").set_len(1 << 30).expect("a hole");
    let text = error(&tree, &["set", "eno1", "vf", "0", "trust", "on"], 1);
    assert!(text.contains("1073741824 bytes are too many"), "{text}");
}

/// Every file and link of a tree: what a refusal or a dry run must leave as it was.
fn contents(tree: &Tree) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    fn below(folder: &std::path::Path, all: &mut Vec<(std::path::PathBuf, Vec<u8>)>) {
        for entry in fs::read_dir(folder).expect("a folder").flatten() {
            let path = entry.path();
            if let Ok(target) = fs::read_link(&path) {
                all.push((path, target.into_os_string().into_encoded_bytes()));
            } else if path.is_dir() {
                below(&path, all);
            } else {
                let bytes = fs::read(&path).expect("a file");
                all.push((path, bytes));
            }
        }
    }
    let mut all = Vec::new();
    below(tree.root(), &mut all);
    all.sort();
    all
}

#[test]
fn a_dry_run_of_every_change_changes_nothing() {
    let tree = trees::i350();
    let before = contents(&tree);
    for (arguments, wanted) in [
        (
            &["unbind", "eno1#0"][..],
            "echo '' > /sys/bus/pci/devices/0000:04:10.0/driver_override\n\
             echo '0000:04:10.0' > /sys/bus/pci/devices/0000:04:10.0/driver/unbind\n\
             echo '0000:04:10.0' > /sys/bus/pci/drivers_probe\n",
        ),
        (
            // Another number is only to be had by way of none.
            &["provision", "eno1", "3"],
            "echo '0' > /sys/bus/pci/devices/0000:04:00.0/sriov_numvfs\n\
             echo '3' > /sys/bus/pci/devices/0000:04:00.0/sriov_numvfs\n",
        ),
        (
            &["set", "eno1", "vf", "2", "trust", "on", "vlan", "7"],
            "ip link set eno1 vf 2 trust on\nip link set eno1 vf 2 vlan 7\n",
        ),
    ] {
        let mut arguments = arguments.to_vec();
        arguments.push("--dry-run");
        assert_eq!(output(&tree, &arguments, 0), wanted, "{arguments:?}");
    }
    assert!(contents(&tree) == before, "something was written");
}

/// Routes of both families, a bridge: each refuses, and nothing is written; `--force` does it all the same.
#[test]
fn an_interface_that_carries_something_is_refused() {
    let route = "Iface\tDestination\nens1f0v1\t0002000A\t00000000\n";
    let ipv6 = "20010db8000000000000000000000000 40 00000000000000000000000000000000 00 \
                00000000000000000000000000000000 00000100 00000001 00000000 00000001 ens1f0v1\n";
    let link_local = "fe800000000000000000000000000000 40 00000000000000000000000000000000 00 \
                      00000000000000000000000000000000 00000100 00000001 00000000 00000001 ens1f0v1\n";
    for (file, text, word) in [
        ("proc/net/route", route, "10.0.2.0"),
        ("proc/net/ipv6_route", ipv6, "20010db8"),
    ] {
        let tree = trees::i82599();
        tree.write(file, text);
        let before = contents(&tree);
        let said = error(&tree, &["bind", FREE], 1);
        assert!(said.contains(word) && said.contains("--force"), "{said}");
        let said = error(&tree, &["provision", "ens1f0", "0"], 1);
        assert!(said.contains("would go"), "{said}");
        assert!(contents(&tree) == before, "{file}: something was written");
        let _kernel = Kernel::of(&tree, "ixgbevf");
        output(&tree, &["bind", FREE, "--force"], 0);
        assert_eq!(driver(&tree, FREE).as_deref(), Some("vfio-pci"));
    }
    let tree = trees::i82599();
    tree.link("sys/class/net/ens1f0v1/master", "sys/class/net/br0");
    assert!(error(&tree, &["bind", FREE], 1).contains("part of `br0`"));
    // What every interface has is no use of it.
    let tree = trees::i82599();
    tree.write("proc/net/ipv6_route", link_local);
    let _kernel = Kernel::of(&tree, "ixgbevf");
    output(&tree, &["bind", FREE], 0);
}

/// VFs appear a while after the number was written; the command returns when they are there.
#[test]
fn provision_waits_until_the_vfs_are_there() {
    let tree = trees::card_without_vfs();
    let pf = tree.path("sys/bus/pci/devices/0000:04:00.0");
    let kernel = std::thread::spawn(move || {
        while fs::read_to_string(pf.join("sriov_numvfs"))
            .expect("a file")
            .trim()
            != "2"
        {
            std::thread::sleep(std::time::Duration::from_millis(5));
        }
        for number in 0..2 {
            std::thread::sleep(std::time::Duration::from_millis(150));
            let vf = pf.with_file_name(format!("0000:04:10.{}", 4 * number));
            fs::create_dir(&vf).expect("a function");
            std::os::unix::fs::symlink(&vf, pf.join(format!("virtfn{number}"))).expect("a link");
        }
    });
    let text = output(&tree, &["provision", "eno1", "2"], 0);
    kernel.join().expect("VFs");
    assert_eq!(text, "VF 0: 0000:04:10.0\nVF 1: 0000:04:10.4\n");
}

/// A driver that has one knob and not the other: the first is turned back.
#[test]
fn knobs_are_turned_back_when_a_later_one_is_refused() {
    let tree = trees::i350();
    let said = error(
        &tree,
        &[
            "set",
            "eno1",
            "vf",
            "1",
            "trust",
            "on",
            "mac",
            "02:00:00:00:00:aa",
            "query_rss",
            "on",
        ],
        1,
    );
    assert!(
        said.contains("query_rss on failed; nothing is changed"),
        "{said}"
    );
    let text = output(&tree, &["list", "eno1#1", "--style", "json"], 0);
    assert!(
        text.contains("\"trust\":false") && text.contains("02:00:00:00:00:01"),
        "{text}"
    );
}

/// One of several cannot be had: it is said before another is touched. One that is there already is still somebody's.
#[test]
fn what_is_refused_among_several_is_refused_before_the_first_is_touched() {
    let tree = trees::i82599();
    tree.write(
        "proc/net/route",
        "Iface\tDestination\nens1f0v1\t0002000A\t00000000\n",
    );
    let before = contents(&tree);
    assert!(error(&tree, &["unbind", "ens1f0#0-2"], 1).contains("pid 4242"));
    assert!(error(&tree, &["bind", "ens1f0#1-2"], 1).contains("a route through it"));
    assert!(error(&tree, &["bind", "ens1f0#0,2"], 1).contains("pid 4242"));
    assert!(contents(&tree) == before, "something was written");
    let _kernel = Kernel::of(&tree, "ixgbevf");
    let text = output(&tree, &["bind", "ens1f0#2"], 0);
    assert_eq!(text, "0000:31:10.4: bound to vfio-pci\n");
}
