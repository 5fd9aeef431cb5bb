//! The commands that move frames, on every model and in every mode.

use std::path::PathBuf;

use crate::run::succeeds;
use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
use serde_json::Value;

const MODELS: [&str; 5] = ["82576", "i350", "82599", "x540", "x550"];
const MODES: [&str; 3] = ["poll", "interrupt", "adaptive"];

fn json(arguments: &[&str]) -> Value {
    let out = succeeds(arguments);
    assert_eq!(out.lines().count(), 1, "one object: {out}");
    serde_json::from_str(&out).expect("JSON")
}

fn count(value: &Value, field: &str) -> u64 {
    value[field]
        .as_u64()
        .unwrap_or_else(|| panic!("no count `{field}` in {value}"))
}

#[test]
fn every_model_and_mode_delivers_everything() {
    for model in MODELS {
        for mode in MODES {
            let summary = json(&[
                "demo",
                "--json",
                "--model",
                model,
                "--mode",
                mode,
                "--duration",
                "200ms",
            ]);
            assert_eq!(summary["model"], model);
            assert_eq!(summary["mode"], mode);
            assert!(count(&summary, "sent") > 100, "{summary}");
            assert_eq!(summary["sent"], summary["received"], "{summary}");
            for field in ["lost", "duplicated", "reordered", "corrupted"] {
                assert_eq!(count(&summary, field), 0, "{field}: {summary}");
            }
            assert_eq!(summary["unaccounted"], 0);
            assert_eq!(summary["violations"], Value::Array(vec![]));
        }
    }
}

#[test]
fn every_frame_size_on_both_families() {
    for model in ["82576", "82599"] {
        for frame in ["64", "imix", "1518", "9000"] {
            let summary = json(&[
                "demo",
                "--json",
                "--model",
                model,
                "--frame",
                frame,
                "--duration",
                "200ms",
            ]);
            assert!(count(&summary, "sent") > 100, "{summary}");
            assert_eq!(summary["sent"], summary["received"], "{summary}");
        }
    }
}

#[test]
fn the_json_has_the_fields_that_scripts_rely_on() {
    let summary = json(&["demo", "--json", "--duration", "200ms", "--rate", "50k"]);
    for field in ["model", "mode"] {
        assert!(summary[field].is_string(), "{field}");
    }
    for field in [
        "sent",
        "received",
        "lost",
        "duplicated",
        "reordered",
        "corrupted",
        "wakeups",
    ] {
        assert!(summary[field].is_u64(), "{field}");
    }
    for field in ["seconds", "mpps"] {
        assert!(summary[field].is_f64(), "{field}");
    }
    assert!(summary["drops"].is_object());
    for field in ["min", "p50", "p90", "p99", "p999", "max"] {
        assert!(summary["latency_ns"][field].is_u64(), "{field}");
    }
    for field in ["driver", "sim"] {
        assert!(summary["cpu_percent"][field].is_f64(), "{field}");
    }
}

#[test]
fn a_rate_is_kept() {
    let summary = json(&["demo", "--json", "--rate", "20k", "--duration", "500ms"]);
    // The schedule does not slip: 10000 departures lie in half a second, whatever the machine does meanwhile.
    let sent = count(&summary, "sent") + count(&summary, "behind_schedule");
    assert_eq!(sent, 10_000, "{summary}");
    assert_eq!(count(&summary, "unaccounted"), 0);
}

#[test]
fn several_queues_share_the_traffic_in_order() {
    let summary = json(&[
        "demo",
        "--json",
        "--model",
        "x550",
        "--queues",
        "2",
        "--duration",
        "300ms",
    ]);
    assert_eq!(summary["queues"], 2);
    assert_eq!(summary["sent"], summary["received"], "{summary}");
    assert_eq!(count(&summary, "reordered"), 0);
}

#[test]
fn the_histogram_log_has_every_latency() {
    let path: PathBuf =
        std::env::temp_dir().join(format!("vfnic-demo-{}.hlog", std::process::id()));
    let summary = json(&[
        "demo",
        "--json",
        "--rate",
        "20k",
        "--duration",
        "1200ms",
        "--hlog",
        path.to_str().expect("UTF-8"),
    ]);
    let log = std::fs::read(&path).expect("written");
    std::fs::remove_file(&path).expect("there");
    let intervals = IntervalLogIterator::new(&log)
        .filter(|entry| matches!(entry.as_ref().expect("well-formed"), LogEntry::Interval(_)))
        .count();
    // One a second, and the rest.
    assert!(intervals >= 2, "{intervals}; {summary}");
}

#[test]
fn the_page_has_the_run_in_pictures() {
    let path = std::env::temp_dir().join(format!("vfnic-demo-{}.html", std::process::id()));
    let file = path.to_str().expect("UTF-8");
    for arguments in [
        &["demo", "--rate", "20k", "--duration", "300ms"][..],
        &["bench", "latency", "--rate", "2k", "--duration", "200ms"],
    ] {
        let mut arguments = arguments.to_vec();
        arguments.extend(["--html", file]);
        succeeds(&arguments);
        let page = std::fs::read_to_string(&path).expect("a page");
        std::fs::remove_file(&path).expect("there");
        for words in [
            "every frame accounted for",
            "<svg",
            "Losses by reason",
            "Total count",
        ] {
            assert!(page.contains(words), "{arguments:?}: no `{words}`");
        }
        assert!(page.ends_with("</html>\n"), "{arguments:?}");
    }
}

#[test]
fn the_text_tells_the_same_and_ends_with_the_percentiles() {
    let out = succeeds(&["demo", "--duration", "200ms", "--rate", "50k"]);
    for words in ["unaccounted", "latency: min", "Percentile", "Total count"] {
        assert!(out.contains(words), "no `{words}` in:\n{out}");
    }
}

#[test]
fn checked_frames_pass_both_ways_with_every_offload() {
    for model in MODELS {
        for extra in [
            &["--frame", "imix"][..],
            &["--vlan", "100"],
            &["--offload", "vlan", "--vlan", "4094"],
            &["--offload", "csum"],
            &["--offload", "tso", "--vlan", "7"],
            &["--frame", "9000"],
        ] {
            let (device, peer) = (format!("sim:{model}/0?mtu=9000"), format!("sim:{model}/1"));
            let mut arguments = vec!["check", "--json", "--frames", "200"];
            arguments.extend(["--device", &device, "--peer", &peer]);
            arguments.extend_from_slice(extra);
            let summary = json(&arguments);
            for way in ["to_peer", "to_device"] {
                let way = &summary[way];
                assert!(count(way, "received") >= 200, "{extra:?}: {summary}");
                assert_eq!(way["sent"], way["received"], "{extra:?}: {summary}");
            }
        }
    }
}

#[test]
fn what_a_stopped_demo_had_under_way_is_waited_for() {
    let run = |arguments: &[&str]| {
        std::process::Command::new("kill")
            .args(arguments)
            .status()
            .expect("kill runs")
    };
    let demo = std::process::Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(["demo", "--json", "--duration", "1s", "--rate", "20k"])
        .stdout(std::process::Stdio::piped())
        .spawn()
        .expect("the command runs");
    let id = demo.id().to_string();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert!(run(&["-STOP", &id]).success());
    // Longer than the demo waits for a frame that does not come.
    std::thread::sleep(std::time::Duration::from_millis(2500));
    assert!(run(&["-CONT", &id]).success());
    let out = demo.wait_with_output().expect("it ends");
    let summary: Value = serde_json::from_slice(&out.stdout).expect("JSON");
    assert!(out.status.success(), "{summary}");
    assert_eq!(summary["unaccounted"], 0, "{summary}");
    assert_eq!(summary["still_queued"], serde_json::json!({}), "{summary}");
}

#[test]
fn an_idle_demo_says_what_it_cost_and_wakes_up() {
    for mode in MODES {
        let summary = json(&[
            "demo",
            "--json",
            "--mode",
            mode,
            "--duration",
            "100ms",
            "--idle",
            "300ms",
        ]);
        assert_eq!(summary["sent"], summary["received"], "{summary}");
        for field in [
            "idle_cpu_percent",
            "first_packet_after_idle_us",
            "open_to_first_packet_ms",
        ] {
            assert!(summary[field].as_f64().is_some(), "{field}: {summary}");
        }
        assert!(summary["idle_seconds"].as_f64() >= Some(0.3), "{summary}");
    }
}

#[test]
fn latency_is_measured_in_every_mode_and_every_frame_accounted_for() {
    for mode in MODES {
        let summary = json(&[
            "bench",
            "latency",
            "--json",
            "--mode",
            mode,
            "--rate",
            "2k",
            "--duration",
            "200ms",
        ]);
        for part in ["delivery", "round_trip"] {
            let accounts = &summary[part];
            assert!(count(accounts, "received") > 0, "{part}: {summary}");
            assert_eq!(accounts["sent"], accounts["received"], "{part}: {summary}");
        }
        for part in ["delivery_ns", "round_trip_ns", "eventfd_ns"] {
            let latency = &summary[part];
            assert!(count(latency, "min") > 0, "{part}: {summary}");
            assert!(
                count(latency, "p50") <= count(latency, "p99"),
                "{part}: {summary}"
            );
        }
    }
}
