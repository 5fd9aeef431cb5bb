//! `vfnic persist`: each format of each kind of host; the script is run.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Command, Output};

use crate::kernel::Kernel;
use crate::run::{error, output};
use crate::snapshot;
use crate::trees::{self, Tree};

const FORMATS: [&str; 5] = [
    "udev",
    "systemd-link",
    "networkmanager",
    "driverctl",
    "rc-local",
];

/// An I350 whose administrator has turned every knob of VF 1, and one of VF 3.
fn configured() -> Tree {
    let tree = trees::i350();
    let mut links: serde_json::Value =
        serde_json::from_slice(&fs::read(tree.path("links.json")).expect("links")).expect("JSON");
    for (number, vf) in links["eno1"].as_object_mut().expect("VFs") {
        vf["mac"] = "00:00:00:00:00:00".into();
        if number == "1" {
            *vf = serde_json::json!({
                "mac": "02:00:00:00:00:aa", "vlan": 7, "qos": 3, "spoofchk": false, "trust": true,
                "state": "enable", "query_rss": true, "min_tx_rate": 10, "max_tx_rate": 100,
            });
        } else if number == "3" {
            vf["max_tx_rate"] = 50.into();
        } else if number == "5" {
            vf["vlan"] = 200.into();
            vf["vlan_proto"] = "802.1ad".into();
        }
    }
    tree.write("links.json", links.to_string());
    tree
}

#[test]
fn every_format_of_every_kind_of_host() {
    for (name, tree, spec) in [
        ("whole_card", configured(), "eno1"),
        ("some_vfs", configured(), "eno1#1,5"),
        ("pf_alone", configured(), "0000:04:00.0"),
        ("routed_pf", trees::i82599(), "ens1f0#0-1"),
        ("guest", trees::guest(), "0000:00:05.0"),
    ] {
        for format in FORMATS {
            let text = output(&tree, &["persist", spec, "--format", format], 0);
            snapshot::check(&format!("persist/{name}.{format}"), &text);
        }
    }
    let text = output(
        &configured(),
        &["persist", "eno1#0", "--format", "udev", "--group", "vfio"],
        0,
    );
    snapshot::check("persist/group.udev", &text);
}

#[test]
fn nothing_names_a_group_by_its_number() {
    let tree = configured();
    for format in FORMATS {
        let text = output(&tree, &["persist", "eno1", "--format", format], 0);
        assert!(
            !text.contains("/dev/vfio") && !text.contains("iommu_group"),
            "{text}"
        );
    }
}

#[test]
fn what_cannot_be_kept_is_refused() {
    let empty = trees::card_without_vfs();
    for (tree, arguments, status, word) in [
        (
            &empty,
            &["persist", "0000:04:00.0", "--format", "udev"][..],
            1,
            "no VFs",
        ),
        (
            &empty,
            &["persist", "0000:04:00.0", "--format", "upstart"],
            2,
            "upstart",
        ),
        (&empty, &["persist", "0000:04:00.0"], 2, "--format"),
        (
            &empty,
            &[
                "persist",
                "0000:04:00.0",
                "--format",
                "udev",
                "--group",
                "a\" RUN+=\"reboot",
            ],
            2,
            "group's name",
        ),
        (
            &empty,
            &["persist", "sim:x540", "--format", "udev"],
            1,
            "sim:x540",
        ),
    ] {
        assert!(
            error(tree, arguments, status).contains(word),
            "{arguments:?}"
        );
    }
}

/// Runs the script with the tree's `/sys`, and commands that note how they were called.
fn start(tree: &Tree, script: &str) -> Output {
    let root = tree.root().display();
    let bin = tree.path("bin");
    for (name, body) in [
        ("modprobe", format!("echo modprobe \"$@\" >> {root}/calls")),
        ("ip", format!("echo ip \"$@\" >> {root}/calls")),
    ] {
        tree.write(&format!("bin/{name}"), format!("#!/bin/sh\n{body}\n"));
        fs::set_permissions(bin.join(name), fs::Permissions::from_mode(0o755)).expect("a mode");
    }
    tree.write(
        "script.sh",
        script.replace("/sys/", &format!("{root}/sys/")),
    );
    let path = std::env::var("PATH").expect("a path");
    Command::new("/bin/sh")
        .arg(tree.path("script.sh"))
        .env("PATH", format!("{}:{path}", bin.display()))
        .output()
        .expect("a shell")
}

#[test]
fn the_script_brings_a_host_to_where_it_was() {
    let kept = configured();
    let script = output(&kept, &["persist", "eno1#1,5", "--format", "rc-local"], 0);
    // The same host after a restart, VFs not bound: those the script names have to be, the others not.
    let tree = configured();
    tree.write("sys/bus/pci/devices/0000:04:00.0/sriov_numvfs", "0\n");
    for vf in trees::I350_VFS {
        tree.remove(&format!("{}/driver", Tree::device(vf)));
    }
    let kernel = Kernel::of(&tree, "igbvf");
    let done = start(&tree, &script);
    drop(kernel);
    assert!(done.status.success(), "{done:?}");
    let count = fs::read_to_string(tree.path("sys/bus/pci/devices/0000:04:00.0/sriov_numvfs"));
    assert_eq!(count.expect("a file").trim(), "7");
    let bound: Vec<_> = trees::I350_VFS
        .into_iter()
        .filter(|vf| trees::driver(&tree, vf).as_deref() == Some("vfio-pci"))
        .collect();
    assert_eq!(bound, [trees::I350_VFS[1], trees::I350_VFS[5]]);
    assert_eq!(
        fs::read_to_string(tree.path("calls")).expect("calls"),
        "modprobe vfio-pci\n\
         ip link set dev eno1 vf 1 mac 02:00:00:00:00:aa vlan 7 qos 3 spoofchk off trust on state enable query_rss on min_tx_rate 10 max_tx_rate 100\n\
         ip link set dev eno1 vf 5 vlan 200 proto 802.1ad\n"
    );
}

#[test]
fn the_script_leaves_a_card_alone_that_has_another_number_of_vfs() {
    let kept = configured();
    let script = output(&kept, &["persist", "eno1", "--format", "rc-local"], 0);
    kept.write("sys/bus/pci/devices/0000:04:00.0/sriov_numvfs", "2\n");
    let done = start(&kept, &script);
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    let said = String::from_utf8_lossy(&done.stderr).into_owned();
    assert!(said.contains("has 2 VFs, not 7"), "{said}");
    let count = fs::read_to_string(kept.path("sys/bus/pci/devices/0000:04:00.0/sriov_numvfs"));
    assert_eq!(count.expect("a file").trim(), "2");
}
