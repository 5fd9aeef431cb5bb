//! Rows of the fault catalogue about files, output, signals, descriptors and privilege. A target of their own: what counts
//! frames by the second has the machine to itself then.

#[expect(dead_code, reason = "these tests need less of it")]
#[path = "../apps/bed.rs"]
mod bed;

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use vfnic_tools::apps::capture_file::read;

use bed::{Bed, finish, json, mac, spawn, succeeds};

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

/// A capture of one frame: header and record from these words, then `data`.
fn classic(magic: [u8; 4], snap: u32, captured: u32, original: u32, data: &[u8]) -> Vec<u8> {
    let big = magic[0] == 0xa1;
    let word = |value: u32| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let half = |value: u16| {
        if big {
            value.to_be_bytes()
        } else {
            value.to_le_bytes()
        }
    };
    let mut bytes = magic.to_vec();
    bytes.extend(half(2));
    bytes.extend(half(4));
    for value in [0, 0, snap, 1, 7, 5, captured, original] {
        bytes.extend(word(value));
    }
    bytes.extend(data);
    bytes
}

const MICROS: [u8; 4] = [0xd4, 0xc3, 0xb2, 0xa1];

/// A pcapng of one frame.
fn ng(captured: u32, data: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut block = |kind: u32, body: &[u8]| {
        let len = 12 + u32::try_from(body.len()).expect("short");
        for part in [
            &kind.to_le_bytes()[..],
            &len.to_le_bytes(),
            body,
            &len.to_le_bytes(),
        ] {
            bytes.extend(part);
        }
    };
    block(
        0x0a0d_0d0a,
        &[
            0x4d, 0x3c, 0x2b, 0x1a, 1, 0, 0, 0, 255, 255, 255, 255, 255, 255, 255, 255,
        ],
    );
    block(1, &[1, 0, 0, 0, 0, 0, 0, 0]);
    let mut packet = Vec::new();
    for word in [0, 0, 5_000_000, captured, captured] {
        packet.extend(u32::to_le_bytes(word));
    }
    packet.extend(data);
    block(6, &packet);
    bytes
}

/// Nanoseconds and bytes of each frame, or the error in full.
fn frames(path: &Path) -> Result<Vec<(u64, usize)>, String> {
    let mut all = Vec::new();
    read(path, |record| {
        all.push((record.nanoseconds, record.data.len()));
        Ok(())
    })
    .map_err(|error| format!("{error:#}"))?;
    Ok(all)
}

#[test]
fn t3_captures_of_every_sort_are_read_or_refused_with_the_place() {
    let scratch = Scratch::new("t3");
    let path = PathBuf::from(scratch.file("capture"));
    let whole = [0x5a; 64];
    let check = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        frames(&path)
    };
    // What can be read: both orders of bytes, both units, none at all, pcapng.
    assert_eq!(
        check(&classic(MICROS, 65_535, 64, 64, &whole)),
        Ok(vec![(7_000_005_000, 64)])
    );
    let swapped = classic([0xa1, 0xb2, 0xc3, 0xd4], 65_535, 64, 64, &whole);
    assert_eq!(check(&swapped), Ok(vec![(7_000_005_000, 64)]));
    let nanos = classic([0x4d, 0x3c, 0xb2, 0xa1], 65_535, 64, 64, &whole);
    assert_eq!(check(&nanos), Ok(vec![(7_000_000_005, 64)]));
    assert_eq!(check(&nanos[..24]), Ok(vec![]));
    assert_eq!(check(&ng(64, &whole)), Ok(vec![(5_000_000_000, 64)]));
    // What cannot: the place is in the error. A second record begins at 24 + 16 + 64.
    let two = [&classic(MICROS, 65_535, 64, 64, &whole)[..], &[7, 0, 0]].concat();
    for (bytes, words) in [
        (b"not a capture".to_vec(), &["neither pcapng nor pcap"][..]),
        (
            classic([1, 2, 3, 4], 65_535, 64, 64, &whole),
            &["neither pcapng nor pcap"],
        ),
        (nanos[..20].to_vec(), &["capture"]),
        (nanos[..30].to_vec(), &["frame 1", "byte 24"]),
        (nanos[..60].to_vec(), &["frame 1", "byte 24"]),
        (two, &["frame 2", "byte 104"]),
        (classic(MICROS, 32, 64, 64, &whole), &["frame 1", "byte 24"]),
        (
            classic(MICROS, u32::MAX, u32::MAX, u32::MAX, &whole),
            &["frame 1", "byte 24"],
        ),
        (ng(u32::MAX, &whole), &["block 2", "byte 48"]),
        (ng(64, &whole)[..100].to_vec(), &["block 2", "byte 48"]),
        (ng(64, &whole)[..30].to_vec(), &["block 1", "byte 28"]),
    ] {
        let error = check(&bytes).expect_err("damaged");
        for word in words {
            assert!(error.contains(word), "no `{word}` in: {error}");
        }
    }
}

/// Every byte of a capture turned round, every length cut: an error or other frames, and no panic or endless loop.
#[test]
fn t3_damage_anywhere_in_a_capture_is_survived() {
    let scratch = Scratch::new("t3-damage");
    let path = PathBuf::from(scratch.file("capture"));
    for bytes in [classic(MICROS, 65_535, 64, 64, &[0; 64]), ng(64, &[0; 64])] {
        for at in 0..bytes.len() {
            for value in [0, 0xff, bytes[at] ^ 0x80] {
                let mut damaged = bytes.clone();
                damaged[at] = value;
                fs::write(&path, &damaged).expect("written");
                if let Ok(frames) = frames(&path) {
                    // A length of nothing makes more records of the same bytes, of 16 at least each.
                    assert!(frames.len() <= bytes.len() / 16, "byte {at}: {frames:?}");
                }
            }
            fs::write(&path, &bytes[..at]).expect("written");
            let _ = frames(&path);
        }
    }
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
