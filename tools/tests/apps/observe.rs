//! `vfnic capture`, `stats` and `echo`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;

use crate::bed::{Bed, finish, interrupt, mac, refused, spawn, succeeds};

/// The frames of a pcapng file and their times in nanoseconds, read by nobody's library: section, interface, packets.
fn frames(path: &Path) -> Vec<(u64, Vec<u8>)> {
    let bytes = std::fs::read(path).expect("the file");
    let word = |at: usize| {
        let bytes: [u8; 4] = bytes[at..at + 4].try_into().expect("four bytes");
        u32::from_le_bytes(bytes)
    };
    let (mut at, mut kinds, mut frames) = (0, Vec::new(), Vec::new());
    while at < bytes.len() {
        let len = word(at + 4) as usize;
        assert_eq!(word(at + len - 4) as usize, len, "both lengths");
        kinds.push(word(at));
        match word(at) {
            0x0a0d_0d0a => assert_eq!(word(at + 8), 0x1a2b_3c4d),
            1 => {
                assert_eq!(word(at + 8) & 0xffff, 1, "Ethernet");
                // Option if_tsresol (9), one byte: 10^-9.
                let options = &bytes[at + 16..at + len - 4];
                assert!(
                    options.windows(5).any(|w| w == [9, 0, 1, 0, 9]),
                    "{options:?}"
                );
            }
            6 => {
                let time = u64::from(word(at + 12)) << 32 | u64::from(word(at + 16));
                let kept = word(at + 20) as usize;
                frames.push((time, bytes[at + 28..at + 28 + kept].to_vec()));
            }
            other => panic!("block {other:#x}"),
        }
        at += len;
    }
    assert_eq!(kinds[..2], [0x0a0d_0d0a, 1]);
    frames
}

#[test]
fn a_capture_has_the_exact_frames_with_their_tags() {
    let bed = Bed::start("capture", "82599", &[]);
    let (source, ours) = (bed.vf(0), bed.vf(1));
    let path = bed.dir.join("c.pcapng");
    let file = path.to_str().expect("text");
    for (vlan, expected) in [(None, 60), (Some("100:5"), 64)] {
        let mut arguments = vec![
            "capture", "--device", &ours, "--write", file, "--count", "50", "--json",
        ];
        arguments.extend(vlan.map(|_| ["--vlan", "100"]).into_iter().flatten());
        let capture = spawn(&arguments);
        // The second time the VF has been opened before.
        std::thread::sleep(std::time::Duration::from_secs(1));
        let to = mac(1);
        let mut arguments = vec![
            "gen", "--device", &source, "--to", &to, "--rate", "1k", "--count", "60", "--flows",
            "1", "--json",
        ];
        arguments.extend(vlan.map(|tag| ["--vlan", tag]).into_iter().flatten());
        succeeds(spawn(&arguments));
        let report = succeeds(capture);
        assert_eq!(report["captured"], 50, "{report}");
        assert_eq!(
            report["bytes_written"],
            std::fs::metadata(&path).expect("there").len()
        );
        let frames = frames(&path);
        assert_eq!(frames.len(), 50);
        assert!(frames.is_sorted_by_key(|(time, _)| *time));
        assert!(
            frames[0].0 > 1_600_000_000_000_000_000,
            "nanoseconds since 1970"
        );
        for (number, (_, frame)) in frames.iter().enumerate() {
            assert_eq!(frame.len(), expected);
            assert_eq!(frame[..12], [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 0]);
            let inner = if vlan.is_some() {
                assert_eq!(frame[12..16], [0x81, 0, 0xa0, 100]);
                &frame[16..]
            } else {
                &frame[12..]
            };
            assert_eq!(inner[..4], [8, 0, 0x45, 0]);
            // The generator's sequence number: bytes 8 to 13 of the payload.
            assert_eq!(usize::from(inner[2 + 28 + 12]), number, "in order");
        }
    }
}

#[test]
fn a_filter_leaves_the_rest_out_and_lines_tell_the_frames() {
    let bed = Bed::start("filter", "x550", &[]);
    let ours = bed.vf(1);
    let capture = spawn(&[
        "capture",
        "--device",
        &ours,
        "--proto",
        "udp",
        "--port",
        "49153",
        "--host",
        "198.19.0.1",
        "--count",
        "5",
    ]);
    bed.wait_for(1);
    bed.send(&["--rate", "1k", "--count", "40", "--flows", "4"]);
    let output = finish(capture);
    let text = String::from_utf8(output.stdout).expect("text");
    let wanted = "UDP 198.18.0.1 port 49153 > 198.19.0.1 port 9, 60 bytes";
    assert_eq!(
        text.lines().filter(|line| line.ends_with(wanted)).count(),
        5,
        "{text}"
    );
    assert!(text.contains("5 captured of"), "{text}");
}

#[test]
fn pings_and_datagrams_are_answered() {
    let bed = Bed::start("echo", "82576", &[]);
    let (station, ours) = (bed.vf(0), bed.vf(1));
    let echo = spawn(&[
        "echo",
        "--device",
        &station,
        "--address",
        "10.0.2.1",
        "--json",
    ]);
    bed.wait_for(0);
    let ping = finish(spawn(&[
        "ping",
        "--device",
        &ours,
        "10.0.2.1",
        "--count",
        "3",
        "--interval",
        "10ms",
    ]));
    let text = String::from_utf8_lossy(&ping.stdout);
    assert!(text.contains("3 sent, 3 answered"), "{text}");
    interrupt(&echo);
    let report = succeeds(echo);
    assert_eq!(report["icmp"], 3, "{report}");
    assert_eq!(report["ended_by"], "signal");
    assert!(report["arp"].as_u64() >= Some(1), "{report}");
}

#[test]
fn counters_are_shown_and_served() {
    let bed = Bed::start("stats", "82599", &[]);
    let ours = bed.vf(1);
    let mut stats = spawn(&["stats", "--device", &ours, "--metrics", "127.0.0.1:0"]);
    let mut lines = BufReader::new(stats.stdout.take().expect("a pipe")).lines();
    let first = lines.next().expect("a line").expect("text");
    let address = first
        .strip_prefix("metrics on http://")
        .and_then(|rest| rest.strip_suffix("/metrics"))
        .unwrap_or_else(|| panic!("{first}"))
        .to_owned();
    bed.wait_for(1);
    bed.send(&["--rate", "1k", "--count", "200"]);
    // The hardware's counters are read twice a second.
    std::thread::sleep(std::time::Duration::from_millis(1500));
    let mut stream = TcpStream::connect(&address).expect("a connection");
    stream
        .write_all(b"GET /metrics HTTP/1.1\r\n\r\n")
        .expect("written");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("read");
    let device = format!("device=\"{ours}\"");
    assert!(
        answer.contains(&format!("vfnic_port_link_up{{{device}}} 1")),
        "{answer}"
    );
    let counter = format!("vfnic_port_counter_total{{{device},name=\"rx_packets\"}} 200\n");
    assert!(answer.contains(&counter), "{answer}");
    interrupt(&stats);
    assert!(stats.wait().expect("ended").success());
    let text: String = lines.map_while(Result::ok).collect::<Vec<_>>().join("\n");
    assert!(text.contains("rx0_packets"), "{text}");
}

#[test]
fn nonsense_is_refused() {
    refused(
        &["capture", "--device", "sim:82599", "--files", "3"],
        2,
        "--file-size",
    );
    refused(
        &["capture", "--device", "sim:82599", "--write", "/nowhere/x"],
        1,
        "/nowhere/x",
    );
    refused(
        &["capture", "--device", "sim:82599", "--host", "nobody"],
        2,
        "nobody",
    );
    refused(
        &["capture", "--device", "sim:x550", "--promiscuous"],
        1,
        "trust",
    );
    refused(
        &["echo", "--device", "sim:82599", "--udp-port", "0"],
        2,
        "udp-port",
    );
    refused(
        &["stats", "--device", "sim:82599", "--metrics", "nowhere"],
        2,
        "nowhere",
    );
    refused(
        &["stats", "--device", "sim:82599", "--watch", "1s", "--json"],
        2,
        "--json",
    );
}
