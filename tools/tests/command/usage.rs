//! The command line from outside: exit statuses, where output goes, and what it says.

use crate::run::{fails, refuses, succeeds, vfnic};

#[test]
fn help_is_no_error_and_goes_to_stdout() {
    for arguments in [
        &["--help"][..],
        &["demo", "--help"],
        &["probe", "--help"],
        &["ping", "--help"],
        &["check", "--help"],
        &["watch", "--help"],
    ] {
        let out = succeeds(arguments);
        assert!(out.contains("Usage: vfnic"), "{out}");
    }
}

#[test]
fn a_command_line_that_makes_no_sense_exits_2_and_says_what() {
    for (arguments, word) in [
        (&["frobnicate"][..], "frobnicate"),
        (&["probe"], "--device"),
        (&["probe", "--device", "0000:zz:10"], "0000:zz:10"),
        (&["probe", "--device", "sim:e810"], "e810"),
        (&["probe", "--device", "sim:x540?speed=9"], "speed"),
        (
            &["probe", "--device", "sim:x540", "--mac", "1:2:3"],
            "1:2:3",
        ),
        (
            &["probe", "--device", "sim:x540", "--mtu", "70000"],
            "--mtu",
        ),
        (&["ping", "--device", "sim:x540", "10.0.2"], "10.0.2"),
        (
            &[
                "ping",
                "--device",
                "sim:x540",
                "--mode",
                "sometimes",
                "10.0.2.2",
            ],
            "sometimes",
        ),
        (
            &[
                "ping",
                "--device",
                "sim:x540",
                "--address",
                "10.0.2.15",
                "10.0.2.2",
            ],
            "--address",
        ),
        (&["check", "--device", "sim:x540/0"], "--peer"),
        (
            &["check", "--device", "sim:x540", "--peer", "sim:x540"],
            "--peer",
        ),
        (
            &[
                "check",
                "--device",
                "sim:x540",
                "--peer",
                "sim:x540/1",
                "--frame",
                "63",
            ],
            "--frame",
        ),
        (
            &[
                "check",
                "--device",
                "sim:x540",
                "--peer",
                "sim:x540/1",
                "--vlan",
                "4095",
            ],
            "--vlan",
        ),
        (
            &[
                "check",
                "--device",
                "sim:x540",
                "--peer",
                "sim:x540/1",
                "--offload",
                "vlan",
            ],
            "--vlan",
        ),
        (
            &["watch", "--device", "sim:x540", "--seconds", "soon"],
            "soon",
        ),
        (&["demo", "--model", "e810"], "e810"),
        (&["demo", "--duration", "0s"], "0s"),
        (&["demo", "--rate", "fast"], "fast"),
        (&["demo", "--queues", "0"], "--queues"),
        (&["demo", "--mode"], "--mode"),
    ] {
        refuses(arguments, 2, word);
    }
}

#[test]
fn what_cannot_be_done_exits_1_and_says_what_was_asked() {
    for (arguments, word) in [
        // No such device on any machine that runs this.
        (&["probe", "--device", "ffff:5a:00.7"][..], "ffff:5a:00.7"),
        (&["probe", "--device", "sim:x540/7?vfs=2"], "VF"),
        (&["probe", "--device", "sim:i350?vfs=100"], "100"),
        (&["probe", "--device", "sim:x540", "--mtu", "67"], "67"),
        (
            &[
                "probe",
                "--device",
                "sim:x540",
                "--mac",
                "01:00:5e:00:00:01",
            ],
            "01:00:5e:00:00:01",
        ),
        (
            &["demo", "--model", "i350", "--queues", "2"],
            "2 queue pairs",
        ),
        (
            &["demo", "--duration", "100ms", "--hlog", "/nonexistent/file"],
            "/nonexistent/file",
        ),
        (&["ping", "--device", "sim:x540", "192.0.2.1"], "192.0.2.1"),
        (
            &[
                "ping",
                "--device",
                "sim:x540",
                "--count",
                "1",
                "--timeout",
                "100ms",
                "10.0.2.77",
            ],
            "10.0.2.77",
        ),
    ] {
        fails(arguments, word);
    }
}

#[test]
fn two_specs_of_one_card_must_agree_on_it() {
    fails(
        &[
            "check",
            "--device",
            "sim:x540/0?vfs=2",
            "--peer",
            "sim:x540/1?vfs=3",
        ],
        "vfs",
    );
}

#[test]
fn probe_tells_a_requested_address_from_a_random_and_an_administered_one() {
    let probe = |device: &str, extra: &[&str]| {
        let mut arguments = vec!["probe", "--json", "--device", device];
        arguments.extend_from_slice(extra);
        let out: serde_json::Value = serde_json::from_str(&succeeds(&arguments)).expect("JSON");
        (out["mac"].clone(), out["mac_origin"].clone())
    };
    assert_eq!(probe("sim:82599", &[]).1, "random");
    let administered = probe("sim:82599?mac=02:00:00:00:00:07", &[]);
    assert_eq!(
        administered,
        ("02:00:00:00:00:07".into(), "administered".into())
    );
    let requested = probe("sim:82599", &["--mac", "02:00:00:00:00:08"]);
    assert_eq!(requested, ("02:00:00:00:00:08".into(), "requested".into()));
}

#[test]
fn probe_says_why_not() {
    let out = succeeds(&["probe", "--device", "sim:i350"]);
    for words in ["8086:1520", "link", "up, 1000 Mb/s", "promiscuous", "no: "] {
        assert!(out.contains(words), "no `{words}` in:\n{out}");
    }
}

#[test]
fn watch_tells_that_the_link_is_up() {
    let out = succeeds(&["watch", "--device", "sim:82599", "--seconds", "1"]);
    assert_eq!(out, "LinkUp 10000\n");
}

#[test]
fn errors_leave_stdout_alone_and_have_no_panic() {
    let output = vfnic(&["demo", "--json", "--model", "i350", "--queues", "9"]);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stdout.is_empty());
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(
        error.starts_with("vfnic: ") && !error.contains("panicked"),
        "{error}"
    );
}
