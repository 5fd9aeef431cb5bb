//! `vfnic bench`.

use serde_json::Value;

use crate::run::{refuses, succeeds, vfnic};

#[test]
fn the_ring_bench_prints_every_row_asked_for_with_all_its_fields() {
    let out = succeeds(&[
        "bench",
        "ring",
        "--device",
        "hot,cold",
        "--burst",
        "1,13,32",
        "--ring",
        "512",
        "--simd",
        "portable",
        "--repetitions",
        "1",
        "--json",
    ]);
    let report: Value = serde_json::from_str(&out).expect("one object");
    let rows = report["rows"].as_array().expect("rows");
    let ops = [
        "rx",
        "rxdrop",
        "tx",
        "fwd",
        "fwdtouch",
        "fused",
        "fusedtouch",
        "owned",
    ];
    assert_eq!(rows.len(), 2 * 3 * ops.len());
    for row in rows {
        assert!(ops.contains(&row["op"].as_str().expect("a name")), "{row}");
        assert!(
            ["hot", "cold"].contains(&row["device"].as_str().expect("a name")),
            "{row}"
        );
        assert_eq!(row["simd"], "portable");
        assert_eq!(row["ring"], 512);
        assert!(
            [1, 13, 32].contains(&row["burst"].as_u64().expect("a number")),
            "{row}"
        );
        for field in ["cycles", "cycles_min", "cycles_max", "ns"] {
            assert!(
                row[field].as_f64().is_some_and(|value| value > 0.0),
                "{field}: {row}"
            );
        }
    }
}

#[test]
fn what_cannot_be_measured_is_refused() {
    for bad in [
        ["--burst", "0"],
        ["--burst", "257"],
        ["--ring", "511"],
        ["--ring", "516"],
        ["--simd", "sse"],
        ["--device", "warm"],
    ] {
        refuses(&["bench", "ring", bad[0], bad[1]], 2, bad[1]);
    }
}

#[test]
fn the_scale_bench_goes_through_each_list_and_loses_nothing() {
    let out = succeeds(&[
        "bench",
        "scale",
        "--queues",
        "1,4",
        "--ports",
        "1,3",
        "--frame",
        "64,1518",
        "--ring",
        "512,64",
        "--buffers",
        "2048,8192",
        "--repetitions",
        "1",
        "--json",
    ]);
    let report: Value = serde_json::from_str(&out).expect("one object");
    let rows = report["rows"].as_array().expect("rows");
    let shown: Vec<_> = rows
        .iter()
        .map(|row| {
            let number = |name| row[name].as_u64().expect("a number");
            (
                row["axis"].as_str().expect("a name"),
                number("queues"),
                number("ports"),
                number("frame"),
                number("ring"),
                number("buffers"),
            )
        })
        .collect();
    assert_eq!(
        shown,
        [
            ("queues", 1, 1, 64, 512, 2048),
            ("queues", 4, 1, 64, 512, 8192),
            ("ports", 1, 3, 64, 512, 2048),
            ("frame", 1, 1, 1518, 512, 2048),
            ("ring", 1, 1, 64, 64, 2048),
            ("buffers", 1, 1, 64, 512, 8192),
        ]
    );
    for row in rows {
        for field in ["cycles", "cycles_min", "cycles_max", "ns"] {
            assert!(
                row[field].as_f64().is_some_and(|value| value > 0.0),
                "{field}: {row}"
            );
        }
    }
    refuses(&["bench", "scale", "--ring", "516"], 2, "516");
    refuses(&["bench", "scale", "--queues", "9"], 2, "9");
}

#[test]
fn throughput_names_every_loss() {
    let out = succeeds(&[
        "bench",
        "throughput",
        "--frame",
        "64,imix",
        "--duration",
        "100ms",
        "--json",
    ]);
    let report: Value = serde_json::from_str(&out).expect("one object");
    let rows = report["rows"].as_array().expect("rows");
    assert_eq!(rows.len(), 2);
    for row in rows {
        let count = |field: &str| row[field].as_u64().expect("a count");
        assert!(count("sent") > 100, "{row}");
        assert_eq!(count("sent"), count("received") + count("lost"), "{row}");
        assert_eq!(count("damaged"), 0, "{row}");
    }
}

#[test]
fn a_rate_is_searched_until_it_is_close() {
    let path = std::env::temp_dir().join(format!("vfnic-rfc2544-{}.html", std::process::id()));
    let out = succeeds(&[
        "bench",
        "rfc2544",
        "--frame",
        "256",
        "--trial",
        "50ms",
        "--resolution",
        "20",
        "--loss",
        "50",
        "--json",
        "--html",
        path.to_str().expect("text"),
    ]);
    let report: Value = serde_json::from_str(&out).expect("one object");
    let row = &report["rows"][0];
    assert!(row["pps"].as_u64() > Some(0), "{row}");
    assert!(row["limit"].is_string(), "{row}");
    let trials = row["trials"].as_array().expect("trials");
    assert!(!trials.is_empty() && trials.len() < 40, "{row}");
    assert!(report["criteria"].as_str().expect("text").contains("50 %"));
    let page = std::fs::read_to_string(&path).expect("a page");
    std::fs::remove_file(&path).expect("there");
    assert!(page.contains("Rate without loss") && page.ends_with("</html>\n"));
}

#[test]
fn an_unattended_ring_takes_what_it_has_descriptors_for() {
    for model in ["82599", "i350"] {
        let out = succeeds(&[
            "bench",
            "back-to-back",
            "--device",
            &format!("sim:{model}/0"),
            "--peer",
            &format!("sim:{model}/1"),
            "--frame",
            "64",
            "--ring",
            "256",
            "--most",
            "1024",
            "--repeat",
            "1",
            "--unattended",
            "--json",
        ]);
        let report: Value = serde_json::from_str(&out).expect("one object");
        let row = &report["rows"][0];
        // One descriptor stays with the driver, and up to 32 that it has not told the card of yet.
        let burst = row["frames"].as_u64().expect("a count");
        assert!((256 - 33..256).contains(&burst), "{model}: {row}");
        let lost = &row["first_loss"];
        assert_eq!(
            lost["drops"]["card_no_descriptors"], lost["lost"],
            "{model}: {row}"
        );
    }
}

#[test]
fn everything_that_is_bounded_is_timed() {
    let output = vfnic(&[
        "bench", "bounds", "--model", "x550", "--repeat", "1", "--seed", "3", "--json",
    ]);
    let report: Value = serde_json::from_slice(&output.stdout).expect("one object");
    let rows = report["rows"].as_array().expect("rows");
    let mut good = true;
    for row in rows {
        let number = |value: &Value| value.as_u64().expect("a number");
        assert!(number(&row["times"]) > 0, "{row}");
        let took = &row["took_ns"];
        assert!(number(&took["min"]) > 0, "{row}");
        assert!(number(&took["p50"]) <= number(&took["p99"]), "{row}");
        assert!(number(&took["p99"]) <= number(&took["max"]), "{row}");
        // On a busy machine it may have been.
        let ok = number(&took["max"]) <= number(&row["bound_ns"]);
        assert_eq!(row["ok"], ok, "{row}");
        good &= ok;
    }
    assert_eq!(output.status.code(), Some(i32::from(!good)), "{report}");
    assert!(output.stderr.is_empty(), "{output:?}");
    for (bound, on, nanoseconds) in [
        ("sigterm", "sim serve", 1_000_000_000_u64),
        ("sigterm", "fwd", 1_000_000_000),
        ("removal", "x550", 10_000_000),
        ("mailbox", "x550", 1_000_000_000),
        ("open", "x550", 5_000_000_000),
        ("reset", "x550", 100_000_000),
        ("drop", "x550", 100_000_000),
    ] {
        let row = rows
            .iter()
            .find(|row| row["bound"] == bound && row["on"] == on);
        let row = row.unwrap_or_else(|| panic!("no {bound} on {on}: {report}"));
        assert_eq!(row["bound_ns"], nanoseconds);
    }
    refuses(&["bench", "bounds", "--repeat", "0"], 2, "repeat");
    refuses(&["bench", "bounds", "--bound", "patience"], 2, "patience");
}

#[test]
fn paths_that_cannot_be_are_refused() {
    refuses(
        &["bench", "throughput", "--peer", "sim:82599/0"],
        2,
        "same VF",
    );
    refuses(&["bench", "rfc2544", "--loss", "51"], 2, "51");
    refuses(&["bench", "rfc2544", "--resolution", "0"], 2, "0");
    refuses(&["bench", "back-to-back", "--most", "1"], 2, "most");
}
