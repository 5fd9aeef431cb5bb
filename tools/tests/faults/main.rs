//! Rows of the fault catalogue about files, output, signals, descriptors and privilege. A target of their own: what counts
//! frames by the second has the machine to itself then.

#[expect(dead_code, reason = "these tests need less of it")]
#[path = "../apps/bed.rs"]
mod bed;
mod captures;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use bed::{Bed, finish, json, mac, spawn, succeeds};
use captures::frames;

/// A folder that goes with the value.
struct Scratch(PathBuf);

impl Scratch {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("vfnic-{name}-{}", std::process::id()));
        fs::create_dir_all(&dir).expect("a folder");
        Self(dir)
    }

    fn file(&self, name: &str) -> String {
        self.0.join(name).to_str().expect("UTF-8").to_owned()
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Runs `vfnic ARGUMENTS` as `script` says, in which it is called `"$@"`.
fn in_shell(script: &str, arguments: &[&str]) -> Child {
    Command::new("/bin/sh")
        .args(["-c", script, "sh", env!("CARGO_BIN_EXE_vfnic")])
        .args(arguments)
        .env_remove("VFNIC_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("a shell")
}

fn error(output: &Output) -> String {
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!error.contains("panicked"), "{error}");
    error
}

fn signal(child: &Child, signal: Signal) {
    let pid = i32::try_from(child.id()).expect("a pid");
    kill_process(Pid::from_raw(pid).expect("not zero"), signal).expect("sent");
}

#[test]
fn t4_output_that_cannot_be_written_is_an_error() {
    for arguments in [
        &["probe", "--device", "sim:82599", "--json"][..],
        &[
            "gen",
            "--device",
            "sim:82599",
            "--to",
            "02:00:00:00:00:01",
            "--count",
            "5",
            "--json",
        ],
        &[
            "gen",
            "--device",
            "sim:82599",
            "--to",
            "02:00:00:00:00:01",
            "--count",
            "5",
            "--hlog",
            "/dev/full",
        ],
        &["man"],
        &["completions", "bash"],
    ] {
        let output = finish(in_shell("exec \"$@\" > /dev/full", arguments));
        let error = error(&output);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {error}");
        assert!(error.contains("No space left"), "{arguments:?}: {error}");
    }
    // A reader that has seen enough is no failure.
    let output = finish(in_shell("\"$@\" | head -n 1", &["man"]));
    assert!(
        output.status.success() && error(&output).is_empty(),
        "{output:?}"
    );
}

/// The disk is full when the ring's second file begins: the capture ends in good order, and says how far it came.
#[test]
fn t4_a_full_disk_ends_a_capture_with_its_counts() {
    let bed = Bed::start("t4", "82599", &[]);
    let file = bed.dir.join("ring.pcapng");
    std::os::unix::fs::symlink("/dev/full", bed.dir.join("ring-00001.pcapng")).expect("a link");
    let capture = spawn(&[
        // What stands for the full disk is not in the directory, and a confined capture would be kept from it.
        "--no-sandbox",
        "capture",
        "--device",
        &bed.vf(1),
        "--write",
        file.to_str().expect("UTF-8"),
        "--file-size",
        "1",
        "--files",
        "3",
        "--json",
    ]);
    bed.wait_for(1);
    // A file holds 677 of them.
    succeeds(spawn(&[
        "gen",
        "--device",
        &bed.vf(0),
        "--to",
        &mac(1),
        "--frame",
        "1518",
        "--rate",
        "2k",
        "--count",
        "1000",
        "--json",
    ]));
    let output = finish(capture);
    let said = error(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(
        said.contains("ring-00001.pcapng") && said.contains("No space left"),
        "{said}"
    );
    let report = json(&output);
    assert_eq!(report["ended_by"], "failed", "{report}");
    let captured = report["captured"].as_u64().expect("a count");
    assert!((600..700).contains(&captured), "{report}");
    let kept = frames(&bed.dir.join("ring-00000.pcapng")).expect("whole frames");
    assert!(
        kept.len() as u64 + 1 >= captured,
        "{} of {report}",
        kept.len()
    );
}

/// Starts a command that goes on for ever on VF 1, and waits until it moves frames.
fn traffic(bed: &Bed, command: &str) -> Child {
    let ours = bed.vf(1);
    let to = mac(2);
    let words: &[&str] = match command {
        "gen" => &[
            "gen", "--device", &ours, "--to", &to, "--rate", "1k", "--json",
        ],
        "fwd" => &["fwd", &ours, "--json"],
        "echo" => &["echo", "--device", &ours, "--address", "10.0.2.1", "--json"],
        "stats" => &["stats", "--device", &ours, "--metrics", "127.0.0.1:0"],
        other => &[other, "--device", &ours, "--json"],
    };
    // Whoever runs the tests may have had hang-ups ignored, and that is inherited.
    let child = in_shell("exec env --default-signal=HUP \"$@\"", words);
    bed.wait_for(1);
    child
}

#[test]
fn t5_signals_end_traffic_at_once_and_in_good_order() {
    let bed = Bed::start("t5", "82599", &[]);
    for (command, number) in [
        ("gen", Signal::INT),
        ("fwd", Signal::TERM),
        ("sink", Signal::HUP),
        ("capture", Signal::TERM),
        ("echo", Signal::HUP),
        ("stats", Signal::INT),
    ] {
        let child = traffic(&bed, command);
        let start = Instant::now();
        signal(&child, number);
        let output = finish(child);
        // A second is what is wanted; the rest is for a machine that does five other things.
        assert!(start.elapsed() < Duration::from_secs(5), "{command}");
        assert!(output.status.success(), "{command}: {output:?}");
        if command != "stats" {
            assert_eq!(json(&output)["ended_by"], "signal", "{command}");
        }
    }
}

/// These have a card of their own; there is something to wait for only when they catch signals.
#[test]
fn t5_signals_end_a_demo_and_a_watch_before_their_time() {
    let demo = "demo --mode interrupt --json --duration";
    let sending = format!("{demo} 10m");
    let idle = format!("{demo} 1ms --idle 10m");
    for (command, number) in [
        (sending.as_str(), Signal::INT),
        (idle.as_str(), Signal::TERM),
        ("watch --seconds 600 --device sim:x540", Signal::INT),
    ] {
        let words: Vec<&str> = command.split(' ').collect();
        let start = Instant::now();
        let child = spawn(&words);
        while field(child.id(), "SigCgt:") >> (number.as_raw() - 1) & 1 == 0 {
            assert!(start.elapsed() < Duration::from_secs(20), "{command}");
            std::thread::sleep(Duration::from_millis(5));
        }
        std::thread::sleep(Duration::from_millis(300));
        signal(&child, number);
        let output = finish(child);
        assert!(start.elapsed() < Duration::from_secs(60), "{command}");
        assert!(output.status.success(), "{command}: {output:?}");
        if command.starts_with("demo") {
            let report = json(&output);
            assert_eq!(report["sent"], report["received"], "{command}: {report}");
        }
    }
}

/// Both signals are pending before the process gets to run again: the second ends it there and then. The card takes that,
/// and the next user finds the VF as new.
#[test]
fn t5_a_second_signal_ends_it_without_a_report() {
    let bed = Bed::start("t5-second", "82599", &[]);
    let child = traffic(&bed, "gen");
    signal(&child, Signal::STOP);
    signal(&child, Signal::INT);
    signal(&child, Signal::TERM);
    signal(&child, Signal::CONT);
    let output = finish(child);
    assert!(output.status.signal().is_some(), "{output:?}");
    assert!(output.stdout.is_empty(), "{output:?}");
    let again = succeeds(spawn(&[
        "gen",
        "--device",
        &bed.vf(1),
        "--to",
        &mac(2),
        "--count",
        "10",
        "--json",
    ]));
    assert_eq!(again["sent"], 10, "{again}");
}

#[test]
fn t5_a_hangup_under_nohup_is_no_reason_to_end() {
    let bed = Bed::start("t5-nohup", "82599", &[]);
    let child = in_shell(
        "trap '' HUP; exec \"$@\"",
        &["sink", "--device", &bed.vf(1), "--json"],
    );
    bed.wait_for(1);
    signal(&child, Signal::HUP);
    std::thread::sleep(Duration::from_millis(300));
    signal(&child, Signal::TERM);
    assert_eq!(json(&finish(child))["ended_by"], "signal");
}

/// With no standard descriptors the first files opened would get their numbers, and what is printed would end up in them.
#[test]
fn t7_closed_standard_descriptors_confuse_nothing() {
    let scratch = Scratch::new("t7");
    let log = scratch.file("latency.hlog");
    for closed in ["<&-", ">&-", "2>&-", "<&- >&- 2>&-"] {
        let output = finish(in_shell(
            &format!("exec \"$@\" {closed}"),
            &[
                "-v",
                "demo",
                "--duration",
                "200ms",
                "--rate",
                "1k",
                "--json",
                "--hlog",
                &log,
            ],
        ));
        assert!(output.status.success(), "{closed}: {output:?}");
        let text = fs::read_to_string(&log).expect("a log");
        assert!(text.starts_with("#["), "{closed}: {text}");
        assert!(
            !text.contains('{') && !text.contains("DEBUG"),
            "{closed}: {text}"
        );
        fs::remove_file(&log).expect("there");
    }
}

fn field(pid: u32, name: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("a process");
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix(name))
        .expect(name);
    u64::from_str_radix(line.trim(), 16).expect("hexadecimal")
}

/// DAC_OVERRIDE, NET_BIND_SERVICE, IPC_LOCK.
const NEEDED: u64 = 1 << 1 | 1 << 10 | 1 << 14;

#[test]
fn t8_spare_capabilities_are_given_up_and_said() {
    let bed = Bed::start("t8", "82599", &[]);
    let child = spawn(&["-v", "sink", "--device", &bed.vf(1), "--json"]);
    bed.wait_for(1);
    let spare = field(std::process::id(), "CapPrm:") & !NEEDED;
    let permitted = field(child.id(), "CapPrm:");
    let effective = field(child.id(), "CapEff:");
    // Its threads, too: they were made after.
    for entry in fs::read_dir(format!("/proc/{}/task", child.id())).expect("threads") {
        let thread = entry.expect("a thread").file_name();
        let thread = thread
            .to_str()
            .expect("a number")
            .parse()
            .expect("a number");
        assert_eq!(field(thread, "CapEff:") & !NEEDED, 0, "thread {thread}");
    }
    signal(&child, Signal::TERM);
    let output = finish(child);
    assert!(output.status.success(), "{output:?}");
    assert_eq!((permitted | effective) & !NEEDED, 0);
    // Whoever runs this without privilege has nothing to give up.
    assert_eq!(
        error(&output).contains("given up"),
        spare != 0,
        "{output:?}"
    );
}

/// Readers that connect and do nothing, and one that goes away in the middle: frames are counted all the same.
#[test]
fn t9_slow_readers_of_the_metrics_cost_no_frame() {
    let bed = Bed::start("t9", "82599", &[]);
    let mut stats = spawn(&["stats", "--device", &bed.vf(1), "--metrics", "127.0.0.1:0"]);
    let mut out = stats.stdout.take().expect("a pipe");
    let mut first = Vec::new();
    while first.last() != Some(&b'\n') {
        let mut byte = [0];
        out.read_exact(&mut byte).expect("a line");
        first.push(byte[0]);
    }
    let first = String::from_utf8(first).expect("text");
    let address = first
        .trim()
        .strip_prefix("metrics on http://")
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .unwrap_or_else(|| panic!("{first}"));
    bed.wait_for(1);
    let idle: Vec<_> = (0..3)
        .map(|_| TcpStream::connect(address).expect("a connection"))
        .collect();
    drop(TcpStream::connect(address).expect("a connection"));
    let sent = succeeds(spawn(&[
        "gen",
        "--device",
        &bed.vf(0),
        "--to",
        &mac(1),
        "--rate",
        "2k",
        "--count",
        "2000",
        "--json",
    ]));
    assert_eq!(sent["sent"], 2000);
    // The hardware's counters are read twice a second.
    std::thread::sleep(Duration::from_millis(1500));
    signal(&stats, Signal::INT);
    assert!(stats.wait().expect("ended").success());
    let mut text = String::new();
    out.read_to_string(&mut text).expect("text");
    let received = text
        .lines()
        .filter(|line| line.contains("rx0_packets"))
        .any(|line| line.split_whitespace().any(|word| word == "2000"));
    assert!(received, "{text}");
    drop(idle);
}
