//! `vfnic fwd`.

use serde_json::Value;

use crate::bed::{Bed, finish, interrupt, json, mac, refused, spawn, succeeds};

const FRAMES: &str = "2000";

/// Generator on VF 0, forwarder with `forward`, sink on VF 3: what the three report.
fn through(bed: &Bed, to: &str, forward: &[&str]) -> (Value, Value, Value) {
    let source = bed.vf(0);
    let sink = bed.start_sink(
        3,
        &["--sent", FRAMES, "--duration", "40s", "--frame", "imix"],
    );
    let forwarder = spawn(forward);
    for vf in [1, 3] {
        bed.wait_for(vf);
    }
    let generator = succeeds(spawn(&[
        "gen", "--device", &source, "--to", to, "--count", FRAMES, "--rate", "2k", "--frame",
        "imix", "--json",
    ]));
    let sink = succeeds(sink);
    interrupt(&forwarder);
    (generator, succeeds(forwarder), sink)
}

#[test]
fn two_ports_forward_everything_without_a_copy_in_every_mode() {
    for (model, mode) in [
        ("82599", "poll"),
        ("82576", "interrupt"),
        ("x550", "adaptive"),
    ] {
        let bed = Bed::start(&format!("fwd-{mode}"), model, &[]);
        let (a, b) = (bed.vf(1), bed.vf(2));
        let (sent, forwarded, received) = through(
            &bed,
            &mac(1),
            &["fwd", &a, &b, "--to", &mac(3), "--mode", mode, "--json"],
        );
        assert_eq!(sent["sent"], 2000, "{sent}");
        assert_eq!(forwarded["zero_copy"], true);
        assert_eq!(forwarded["ended_by"], "signal");
        assert_eq!(forwarded["mode"], mode);
        assert_eq!(forwarded["ways"][0]["forwarded"], 2000, "{forwarded}");
        assert_eq!(forwarded["ways"][1]["forwarded"], 0, "{forwarded}");
        assert_eq!(forwarded["drops"], serde_json::json!({}));
        assert_eq!(received["received"], 2000, "{received}");
        for field in ["missing", "duplicated", "reordered", "corrupted", "foreign"] {
            assert_eq!(received[field], 0, "{field}: {received}");
        }
    }
}

#[test]
fn one_port_sends_back_out() {
    let bed = Bed::start("fwd-one", "x540", &[]);
    let port = bed.vf(1);
    let (_, forwarded, received) =
        through(&bed, &mac(1), &["fwd", &port, "--to", &mac(3), "--json"]);
    assert_eq!(forwarded["forwarded"], 2000, "{forwarded}");
    assert_eq!(received["received"], 2000, "{received}");
}

#[test]
fn without_a_destination_frames_go_back_to_their_sender() {
    let bed = Bed::start("fwd-back", "82599", &[]);
    let forwarder = bed.vf(1);
    let forwarder = spawn(&["fwd", &forwarder, "--count", "1000", "--json"]);
    bed.wait_for(1);
    bed.send(&["--count", "1000", "--rate", "5k"]);
    let forwarded = succeeds(forwarder);
    assert_eq!(forwarded["ended_by"], "count");
    assert_eq!(forwarded["forwarded"], 1000);
    // Back at the generator's VF, which had received nothing before.
    let counters = &bed.shown()["vfs"][0]["counters"];
    let back = counters["gprc"].as_u64().unwrap_or(0)
        + counters["drops"]
            .as_object()
            .map_or(0, |drops| drops.values().filter_map(Value::as_u64).sum());
    assert!(back >= 900, "{counters}");
}

#[test]
fn it_ends_by_time_and_says_so_in_words() {
    let output = finish(spawn(&[
        "fwd",
        "sim:82599/0",
        "sim:82599/1",
        "--duration",
        "100ms",
    ]));
    assert!(output.status.success());
    let text = String::from_utf8(output.stdout).expect("text");
    assert!(text.contains("0 frames in 0.1"), "{text}");
    assert!(text.contains("time was up"), "{text}");
    // Ports of two kinds share no memory; that works as well, and is said.
    let bed = Bed::start("fwd-copy", "82599", &[]);
    let port = bed.vf(1);
    let report = json(&finish(spawn(&[
        "fwd",
        &port,
        "sim:82599",
        "--duration",
        "100ms",
        "--json",
    ])));
    assert_eq!(report["zero_copy"], false);
}

#[test]
fn nonsense_is_refused() {
    refused(&["fwd"], 2, "required");
    refused(&["fwd", "sim:82599", "sim:82599/0"], 2, "same port");
    refused(&["fwd", "sim:82599", "--back-to", &mac(1)], 2, "--back-to");
    refused(&["fwd", "sim:82599", "--to", "nobody"], 2, "nobody");
    refused(&["fwd", "sim:82599", "--ring", "13"], 1, "ring");
    refused(
        &["fwd", "vfio-user:/nowhere/vf0.sock"],
        1,
        "/nowhere/vf0.sock",
    );
}
