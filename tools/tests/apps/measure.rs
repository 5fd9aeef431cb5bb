//! `vfnic bench` between VFs of a card that another process serves.

use serde_json::Value;

use crate::bed::{Bed, spawn, succeeds};

/// Runs a bench from VF 0 to VF 1; its rows.
fn rows(bed: &Bed, bench: &str, more: &[&str]) -> Vec<Value> {
    let (device, peer) = (bed.vf(0), bed.vf(1));
    let mut arguments = vec!["bench", bench, "--device", &device, "--peer", &peer];
    arguments.extend(more);
    arguments.push("--json");
    let report = succeeds(spawn(&arguments));
    assert_eq!(report["device"], device);
    report["rows"].as_array().expect("rows").clone()
}

#[test]
fn what_passes_over_sockets_is_measured_frame_by_frame() {
    for model in ["82599", "i350"] {
        let bed = Bed::start(&format!("measure-{model}"), model, &[]);
        let more = ["--frame", "64,1518", "--rate", "2k", "--duration", "300ms"];
        for row in rows(&bed, "throughput", &more) {
            let count = |field: &str| row[field].as_u64().expect("a count");
            assert!(count("sent") > 100 && count("received") > 100, "{row}");
            // Both processes' counters together own to every one that is missing: else the command fails.
            assert_eq!(count("sent"), count("received") + count("lost"), "{row}");
            assert_eq!(count("damaged"), 0, "{row}");
        }
    }
}

/// The search ends, and a burst that a whole ring has room for arrives.
#[test]
fn searches_over_sockets_end() {
    let bed = Bed::start("searches", "x550", &[]);
    let more = [
        "--frame",
        "256",
        "--trial",
        "50ms",
        "--resolution",
        "50",
        "--loss",
        "50",
    ];
    let found = rows(&bed, "rfc2544", &more);
    assert!(found[0]["pps"].as_u64() > Some(0), "{found:?}");
    let more = ["--frame", "64", "--most", "64", "--repeat", "1"];
    let found = rows(&bed, "back-to-back", &more);
    assert_eq!(found[0]["frames"], 64, "{found:?}");
    assert_eq!(found[0]["at_least"], true, "{found:?}");
}
