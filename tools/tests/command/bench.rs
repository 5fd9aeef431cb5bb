//! `vfnic bench`.

use serde_json::Value;

use crate::run::{refuses, succeeds};

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
