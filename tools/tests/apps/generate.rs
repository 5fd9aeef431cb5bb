//! `vfnic gen` and `vfnic sink`.

use std::path::Path;

use crate::bed::{Bed, finish, interrupt, json, mac, refused, spawn, succeeds};

fn count(value: &serde_json::Value, pointer: &str) -> u64 {
    value
        .pointer(pointer)
        .and_then(serde_json::Value::as_u64)
        .unwrap_or_else(|| panic!("no {pointer} in {value}"))
}

#[test]
fn a_rate_is_kept_and_every_frame_arrives() {
    let bed = Bed::start("gen-rate", "82599", &[]);
    let hlog = bed.dir.join("gaps.hlog");
    let sink = bed.start_sink(1, &["--sent", "1000", "--latency", "--duration", "30s"]);
    bed.wait_for(1);
    let sent = bed.send(&[
        "--rate",
        "1k",
        "--count",
        "1000",
        "--hlog",
        hlog.to_str().expect("text"),
    ]);
    let received = succeeds(sink);
    assert_eq!(sent["source"], mac(0), "the VF's own address");
    assert_eq!(count(&sent, "/sent"), 1000);
    assert_eq!(count(&received, "/received"), 1000);
    assert_eq!(count(&received, "/missing"), 0);
    // 999 gaps of 1 ms: nothing is sent before it is due, and late frames catch up.
    let seconds = sent["seconds"].as_f64().expect("a time");
    assert!(seconds > 0.99, "{sent}");
    assert!(count(&sent, "/gap_ns/p50") < 5_000_000, "{sent}");
    assert!(count(&sent, "/late_ns/max") > 0, "{sent}");
    // It left before it arrived, by the same clock.
    assert!(count(&received, "/latency_ns/min") > 0, "{received}");
    assert!(
        count(&received, "/latency_ns/p50") < 10_000_000_000,
        "{received}"
    );
    let log = std::fs::read_to_string(hlog).expect("a log");
    assert!(log.lines().count() >= 4, "{log}");
}

#[test]
fn lost_frames_are_missed() {
    let bed = Bed::start(
        "gen-lost",
        "x540",
        &["--fault", "frame=swallow,vf=0,after=10,times=3"],
    );
    let sink = bed.start_sink(1, &[]);
    bed.wait_for(1);
    bed.send(&["--rate", "5k", "--count", "1000"]);
    std::thread::sleep(std::time::Duration::from_millis(300));
    interrupt(&sink);
    let output = finish(sink);
    let received = json(&output);
    assert_eq!(output.status.code(), Some(1), "{received}");
    assert_eq!(count(&received, "/received"), 997);
    assert_eq!(count(&received, "/missing"), 3);
    assert_eq!(received["ended_by"], "signal");
}

#[test]
fn what_the_ring_could_not_take_is_lost_by_name() {
    // The VFs of one family have a counter of it, those of the other one that includes it.
    for model in ["82599", "82576"] {
        let bed = Bed::start(&format!("gen-flood-{model}"), model, &[]);
        let sink = bed.start_sink(1, &["--sent", "60000", "--duration", "6s"]);
        bed.wait_for(1);
        bed.send(&["--count", "60000"]);
        let received = json(&finish(sink));
        let named: u64 = received["drops"]
            .as_object()
            .expect("reasons")
            .values()
            .filter_map(serde_json::Value::as_u64)
            .sum();
        assert_eq!(count(&received, "/missing"), named, "{model}: {received}");
        assert_eq!(
            count(&received, "/lost_elsewhere"),
            0,
            "{model}: {received}"
        );
    }
}

#[test]
fn what_was_lost_on_the_way_is_told_apart() {
    let bed = Bed::start(
        "gen-elsewhere",
        "82599",
        &["--fault", "frame=swallow,vf=0,after=10,times=3"],
    );
    let page = bed.dir.join("sink.html");
    let page = page.to_str().expect("text");
    let sink = bed.start_sink(
        1,
        &[
            "--sent",
            "500",
            "--duration",
            "3s",
            "--latency",
            "--html",
            page,
        ],
    );
    bed.wait_for(1);
    bed.send(&["--count", "500", "--rate", "5k"]);
    let received = json(&finish(sink));
    assert_eq!(count(&received, "/lost_elsewhere"), 3, "{received}");
    let page = std::fs::read_to_string(page).expect("a page");
    assert!(page.contains("without a known reason"), "{page}");
}

#[test]
fn somebody_elses_source_address_is_warned_of_and_dropped_by_the_card() {
    let bed = Bed::start("gen-spoof", "82599", &[]);
    let source = bed.vf(0);
    let output = finish(spawn(&[
        "gen",
        "--device",
        &source,
        "--to",
        &mac(1),
        "--source",
        "02:00:00:00:00:77",
        "--count",
        "100",
        "--json",
    ]));
    assert!(output.status.success());
    let warning = String::from_utf8_lossy(&output.stderr);
    assert!(warning.contains("spoof"), "{warning}");
    let shown = bed.shown();
    let drops = &shown["vfs"][0]["counters"]["drops"];
    assert!(drops.to_string().contains("spoof"), "{shown}");
}

#[test]
fn vlans_are_joined_and_tagged() {
    let bed = Bed::start("gen-vlan", "82599", &[]);
    let sink = bed.start_sink(1, &["--vlan", "100", "--count", "500", "--duration", "30s"]);
    bed.wait_for(1);
    bed.send(&["--vlan", "100:5", "--rate", "5k", "--count", "500"]);
    let received = succeeds(sink);
    assert_eq!(count(&received, "/received"), 500);
}

/// A classic capture with microseconds, of `frames` at these times.
fn write_capture(path: &Path, frames: &[(u64, &[u8])]) {
    let mut bytes = vec![0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0];
    bytes.extend([0; 8]);
    bytes.extend(65_535u32.to_le_bytes());
    bytes.extend(1u32.to_le_bytes());
    for (micros, data) in frames {
        let len = u32::try_from(data.len()).expect("short");
        let seconds = u32::try_from(1000 + micros / 1_000_000).expect("before 2106");
        let rest = u32::try_from(micros % 1_000_000).expect("below a million");
        for word in [seconds, rest, len, len] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.extend(*data);
    }
    std::fs::write(path, bytes).expect("written");
}

#[test]
fn a_capture_whose_times_go_past_the_end_of_time_is_sent_as_often_as_asked() {
    let bed = Bed::start("gen-centuries", "82599", &[]);
    let path = bed.dir.join("in.pcap");
    let century = 100 * 365 * 86_400 * 1_000_000;
    write_capture(&path, &[(0, &[0xee; 80]), (century, &[0xee; 80])]);
    let sent = succeeds(spawn(&[
        "gen",
        "--device",
        &bed.vf(0),
        "--pcap",
        path.to_str().expect("text"),
        "--to",
        &mac(1),
        "--rate",
        "10k",
        "--times",
        "10",
        "--json",
    ]));
    assert_eq!(count(&sent, "/sent"), 20);
}

#[test]
fn a_capture_is_sent_at_the_pace_it_was_captured_at() {
    let bed = Bed::start("gen-pcap", "82599", &[]);
    let source = bed.vf(0);
    let path = bed.dir.join("in.pcap");
    let frame = [0xee; 80];
    write_capture(
        &path,
        &[
            (0, &frame),
            (100_000, &frame),
            (200_000, &frame),
            (300_000, &frame[..20]),
        ],
    );
    let path = path.to_str().expect("text");
    let sent = succeeds(spawn(&[
        "gen",
        "--device",
        &source,
        "--pcap",
        path,
        "--to",
        &mac(1),
        "--times",
        "2",
        "--json",
    ]));
    assert_eq!(count(&sent, "/sent"), 8);
    assert_eq!(sent["ended_by"], "count");
    // 300 ms, 75 ms to the next round, 300 ms, from when the first was due: it may have left late itself.
    let seconds = sent["seconds"].as_f64().expect("a time");
    let late = sent["late_ns"]["max"].as_f64().expect("a time") / 1e9;
    assert!((0.67..5.0).contains(&(seconds + late)), "{sent}");
    let shown = bed.shown();
    assert_eq!(
        count(&shown, "/vfs/0/counters/gptc"),
        8,
        "own source address: {shown}"
    );
    let fast = succeeds(spawn(&[
        "gen",
        "--device",
        &source,
        "--pcap",
        path,
        "--to",
        &mac(1),
        "--rate",
        "10k",
        "--times",
        "10",
        "--json",
    ]));
    assert_eq!(count(&fast, "/sent"), 40);
    // A file that is none, and one that ends in the middle.
    let bad = bed.dir.join("bad.pcap");
    std::fs::write(&bad, "not a capture at all").expect("written");
    refused(
        &[
            "gen",
            "--device",
            &source,
            "--pcap",
            bad.to_str().expect("text"),
        ],
        1,
        "bad.pcap",
    );
    let whole = std::fs::read(path).expect("there");
    std::fs::write(&bad, &whole[..whole.len() - 5]).expect("written");
    refused(
        &[
            "gen",
            "--device",
            &source,
            "--pcap",
            bad.to_str().expect("text"),
        ],
        1,
        "bad.pcap",
    );
}

#[test]
fn nonsense_is_refused() {
    refused(&["gen", "--device", "sim:82599"], 2, "--to");
    refused(
        &[
            "gen",
            "--device",
            "sim:82599",
            "--to",
            &mac(1),
            "--vlan",
            "4095",
        ],
        2,
        "4095",
    );
    refused(
        &[
            "gen",
            "--device",
            "sim:82599",
            "--to",
            &mac(1),
            "--times",
            "3",
        ],
        2,
        "--pcap",
    );
    refused(
        &["gen", "--device", "sim:82599", "--pcap", "/nowhere.pcap"],
        1,
        "/nowhere.pcap",
    );
    refused(
        &["sink", "--device", "sim:82599", "--flows", "0"],
        2,
        "flows",
    );
    refused(
        &["sink", "--device", "sim:82599", "--hlog", "/tmp/x"],
        2,
        "--latency",
    );
}
