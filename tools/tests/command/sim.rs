//! `vfnic sim`: a served card, changed and shown by other processes, and its end.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::run::vfnic;

/// A served card; killed and cleaned up at the end.
struct Served {
    child: Child,
    dir: PathBuf,
    said: Vec<String>,
}

fn terminate(child: &Child) {
    let pid = rustix::process::Pid::from_child(child);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("a signal");
}

impl Served {
    fn start(name: &str, more: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("vfnic-{}-{name}", std::process::id()));
        let mut child = Command::new(env!("CARGO_BIN_EXE_vfnic"))
            .args([
                "sim",
                "serve",
                "--model",
                "82599",
                "--vfs",
                "2",
                "--socket-dir",
            ])
            .arg(&dir)
            .args(more)
            .stdout(Stdio::piped())
            .spawn()
            .expect("the command starts");
        let mut lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        let mut said = Vec::new();
        while !said
            .last()
            .is_some_and(|line: &String| line.starts_with("ready"))
        {
            said.push(lines.next().expect("it gets ready").expect("text"));
        }
        Self { child, dir, said }
    }

    /// Tells it to end, in good order.
    fn end(&mut self) {
        terminate(&self.child);
        let status = self.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }

    fn ask(&self, words: &[&str]) -> std::process::Output {
        let dir = self.dir.to_str().expect("text");
        vfnic(&[&["sim", words[0], dir], &words[1..]].concat())
    }

    fn shown(&self) -> Value {
        let output = self.ask(&["show", "--json"]);
        assert!(output.status.success());
        serde_json::from_slice(&output.stdout).expect("one JSON object")
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn a_served_card_is_changed_and_shown_by_others() {
    let served = Served::start("knobs", &["--metrics", "127.0.0.1:0"]);
    assert!(served.dir.join("vf0.sock").exists() && served.dir.join("vf1.sock").exists());
    let output = served.ask(&["set", "vf", "1", "mac", "02:00:00:00:00:0a", "trust", "on"]);
    assert!(output.status.success(), "{output:?}");
    assert!(served.ask(&["set", "pf", "reset", "10"]).status.success());
    let card = served.shown();
    assert_eq!(card["model"], "82599");
    assert_eq!(card["vfs"][1]["mac"], "02:00:00:00:00:0a");
    assert_eq!(card["vfs"][0]["sessions"]["sessions"], 0);
    let text = served.ask(&["show"]).stdout;
    assert!(
        String::from_utf8_lossy(&text)
            .contains("vf 1  mac 02:00:00:00:00:0a  spoofchk on  trust on")
    );
    // Words that make no sense end with 2, knobs that do not turn with 1.
    assert_eq!(
        served
            .ask(&["set", "vf", "1", "colour", "red"])
            .status
            .code(),
        Some(2)
    );
    assert_eq!(
        served.ask(&["set", "vf", "7", "trust", "on"]).status.code(),
        Some(1)
    );
    let address = served.said[0]
        .split('/')
        .nth(2)
        .expect("an address")
        .to_owned();
    let mut metrics = TcpStream::connect(address).expect("a connection");
    metrics
        .write_all(b"GET /metrics HTTP/1.0\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    metrics.read_to_string(&mut answer).expect("an answer");
    assert!(
        answer.contains("vfnic_sim_client_events_total{vf=\"0\",event=\"sessions\"} 0"),
        "{answer}"
    );
}

/// Looks at VF 0 of a served card as a second process would: over vfio-user.
fn probe(served: &Served) -> std::process::Output {
    let socket = format!("vfio-user:{}", served.dir.join("vf0.sock").display());
    vfnic(&["probe", "--device", &socket])
}

#[test]
fn two_served_cards_share_a_wire() {
    let wire = std::env::temp_dir().join(format!("vfnic-{}-wire", std::process::id()));
    let uplink = format!("peer:{}", wire.display());
    // Whoever comes first waits for the other.
    let other = uplink.clone();
    let first = std::thread::spawn(move || Served::start("wire-a", &["--uplink", &other]));
    let second = Served::start("wire-b", &["--uplink", &uplink]);
    let first = first.join().expect("both get ready");
    let vf = |served: &Served| format!("vfio-user:{}", served.dir.join("vf0.sock").display());
    let (here, there) = (vf(&first), vf(&second));
    let output = vfnic(&[
        "check", "--device", &here, "--peer", &there, "--frames", "500",
    ]);
    assert!(output.status.success(), "{output:?}");
    for served in [&first, &second] {
        assert!(served.shown()["wire"]["sent"].as_u64() >= Some(500));
    }
    drop((first, second));
    let _ = std::fs::remove_dir_all(&wire);
}

#[test]
fn sigterm_ends_it_while_it_waits_for_the_other_end() {
    let dir = std::env::temp_dir().join(format!("vfnic-{}-lonely", std::process::id()));
    let mut child = Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(["sim", "serve", "--model", "x540", "--socket-dir"])
        .arg(dir.join("card"))
        .arg("--uplink")
        .arg(format!("peer:{}", dir.join("wire").display()))
        .stdout(Stdio::null())
        .spawn()
        .expect("the command starts");
    let name = dir.join("wire/wire.sock");
    let until = |what: &dyn Fn() -> bool| {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !what() {
            assert!(Instant::now() < deadline, "not within 20 s");
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    until(&|| name.exists());
    terminate(&child);
    until(&|| !name.exists());
    assert!(child.wait().expect("it ends").success());
    let _ = std::fs::remove_dir_all(&dir);
}

#[test]
fn what_leaves_by_the_wire_is_captured() {
    let file = std::env::temp_dir().join(format!("vfnic-{}-left.pcap", std::process::id()));
    let mut served = Served::start("pcap", &["--uplink", &format!("pcap:,{}", file.display())]);
    let device = format!("vfio-user:{}", served.dir.join("vf0.sock").display());
    let output = vfnic(&[
        "gen",
        "--device",
        &device,
        "--to",
        "02:00:00:00:09:09",
        "--count",
        "50",
        "--frame",
        "100",
    ]);
    assert!(output.status.success(), "{output:?}");
    served.end();
    let capture = std::fs::read(&file).expect("a capture");
    std::fs::remove_file(&file).expect("ours");
    // 24 bytes of file header, 16 of each frame's, and frames of 96 bytes without their CRC.
    assert_eq!(capture.len(), 24 + 50 * (16 + 96));
}

#[test]
fn what_clients_do_is_traced() {
    let file = std::env::temp_dir().join(format!("vfnic-{}-trace.txt", std::process::id()));
    let mut served = Served::start("trace", &["--trace", file.to_str().expect("text")]);
    let output = probe(&served);
    assert!(output.status.success(), "{output:?}");
    served.end();
    let trace = std::fs::read_to_string(&file).expect("a trace");
    std::fs::remove_file(&file).expect("ours");
    // Which VF, and registers by name: the reset that begins every life of a VF, and the mailbox.
    for wanted in [" vf0 ", "VFCTRL", "VFMAILBOX", "VFMBMEM"] {
        assert!(trace.contains(wanted), "no {wanted} in {trace}");
    }
    assert!(!trace.contains(" vf1 "), "nobody was there: {trace}");
}

#[test]
fn planned_faults_strike_and_are_counted() {
    let struck = |served: &Served| served.shown()["faults_struck"].clone();
    // A mailbox whose lock nobody gets, from the start.
    let served = Served::start(
        "fault",
        &["--fault", "mailbox-lock=drop,vf=0,times=1000000"],
    );
    assert_eq!(struck(&served), serde_json::json!([0]));
    let output = probe(&served);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    assert!(struck(&served)[0].as_u64() > Some(0));
    // Taken back while it runs, and another put in.
    assert!(served.ask(&["set", "fault", "clear"]).status.success());
    assert!(probe(&served).status.success());
    let plan = "mailbox-request=delay:1ms,times=1";
    assert!(served.ask(&["set", "fault", plan]).status.success());
    assert!(probe(&served).status.success());
    assert_eq!(struck(&served), serde_json::json!([1]));
}

#[test]
fn sigterm_ends_it_cleanly_with_a_client_on_it() {
    let mut served = Served::start("term", &[]);
    let mut client =
        std::os::unix::net::UnixStream::connect(served.dir.join("vf0.sock")).expect("a client");
    // VERSION 0.0 without capabilities.
    client
        .write_all(&[1, 0, 1, 0, 20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])
        .expect("written");
    let mut reply = [0; 16];
    client.read_exact(&mut reply).expect("a reply");
    assert_eq!(reply[8], 1, "a reply without an error");
    let start = Instant::now();
    served.end();
    assert!(
        start.elapsed() < Duration::from_secs(1),
        "{:?}",
        start.elapsed()
    );
    assert_eq!(
        std::fs::read_dir(&served.dir)
            .expect("the directory")
            .count(),
        0,
        "sockets are left"
    );
}

#[test]
fn an_idle_server_costs_nothing() {
    let served = Served::start("idle", &[]);
    let used = || {
        let stat =
            std::fs::read_to_string(format!("/proc/{}/stat", served.child.id())).expect("stat");
        let fields: Vec<&str> = stat
            .rsplit(')')
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let ticks = |at: usize| fields[at].parse::<u64>().expect("a number");
        ticks(11) + ticks(12)
    };
    let before = used();
    std::thread::sleep(Duration::from_secs(2));
    // Hundredths of a second: at most 1 % of the two seconds.
    assert!(used() - before <= 2, "{} ticks in 2 s", used() - before);
}

#[test]
fn it_says_what_is_in_the_way() {
    let served = Served::start("taken", &[]);
    let dir = served.dir.to_str().expect("text");
    let again = vfnic(&["sim", "serve", "--model", "82599", "--socket-dir", dir]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&again.stderr).contains("another server is listening there"));
    let nobody = vfnic(&["sim", "show", "/nonexistent"]);
    assert_eq!(nobody.status.code(), Some(1));
    assert!(
        String::from_utf8_lossy(&nobody.stderr)
            .contains("vfnic sim serve --socket-dir /nonexistent")
    );
    for bad in [
        &["sim", "serve", "--model", "82598", "--socket-dir", "x"][..],
        &[
            "sim",
            "serve",
            "--model",
            "82599",
            "--socket-dir",
            "x",
            "--fault",
            "nowhere=drop",
        ],
        &[
            "sim",
            "serve",
            "--model",
            "82599",
            "--socket-dir",
            "x",
            "--uplink",
            "carrier-pigeon",
        ],
        &["sim", "set", dir],
    ] {
        assert_eq!(vfnic(bad).status.code(), Some(2), "{bad:?}");
    }
    let too_many = vfnic(&[
        "sim",
        "serve",
        "--model",
        "82576",
        "--vfs",
        "9",
        "--socket-dir",
        "x",
    ]);
    assert_eq!(too_many.status.code(), Some(1));
    assert!(!std::path::Path::new("x").exists());
}
