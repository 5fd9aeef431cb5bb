//! `vfnic soak` from outside: short runs, on every model.

use serde_json::Value;

use crate::run::{refuses, succeeds};

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&succeeds(arguments)).expect("one JSON object")
}

#[test]
fn every_model_is_soaked_and_the_same_seed_gives_the_same_run() {
    for model in ["82576", "i350", "82599", "x540", "x550"] {
        let run = || {
            let mut summary = json(&[
                "soak",
                "--json",
                "--model",
                model,
                "--frames",
                "8000",
                "--fault-every",
                "500",
                "--seed",
                "5",
            ]);
            for field in ["duplicated", "reordered", "corrupted", "unaccounted"] {
                assert_eq!(summary[field], 0, "{field}: {summary}");
            }
            assert!(summary["sent"].as_u64() >= Some(8_000), "{summary}");
            // All that depends on the machine.
            summary["seconds"] = Value::Null;
            summary["memory_growth"] = Value::Null;
            summary
        };
        assert_eq!(run(), run());
    }
}

#[test]
fn troubles_strike_and_what_they_cost_has_a_name() {
    let summary = json(&[
        "soak",
        "--json",
        "--frames",
        "20000",
        "--fault-every",
        "400",
    ]);
    assert!(
        summary["rounds"].as_u64() >= Some(3),
        "several models: {summary}"
    );
    let troubles = summary["troubles"].as_object().expect("by name");
    assert!(troubles.len() >= 5, "{summary}");
    let lost: u64 = summary["lost"]
        .as_object()
        .expect("by name")
        .values()
        .filter_map(Value::as_u64)
        .sum();
    assert!(lost > 0, "{summary}");
    assert_eq!(
        summary["sent"].as_u64(),
        summary["received"].as_u64().map(|received| received + lost)
    );
}

#[test]
fn t10_the_ends_of_a_soaks_counts_are_defined() {
    let most = u64::MAX.to_string();
    let soak = |option: &str| json(&["soak", "--json", "--frames", "2000", option, &most]);
    // What goes wrong never does, and no longer keeps a round from ending.
    let summary = soak("--fault-every");
    let troubles = summary["troubles"].as_object().expect("by name");
    assert!(troubles.is_empty(), "{summary}");
    assert!(
        (2_000..4_000).contains(&summary["sent"].as_u64().unwrap_or(0)),
        "{summary}"
    );
    // There is none after this round.
    assert_eq!(soak("--round")["rounds"], 1);
    assert_eq!(soak("--seed")["unaccounted"], 0);
}

#[test]
fn an_overload_is_told_apart_by_name() {
    // Whether the share is good depends on the machine; that nothing is unaccounted for does not.
    let arguments = ["soak", "--overload", "--duration", "1s", "--json"];
    let output = crate::run::vfnic(&arguments);
    let summary: Value = serde_json::from_slice(&output.stdout).expect("one JSON object");
    assert_eq!(summary["accounts"]["unaccounted"], 0, "{summary}");
    assert_eq!(summary["accounts"]["corrupted"], 0, "{summary}");
    assert!(summary["control_calls"].as_u64() > Some(0), "{summary}");
    refuses(
        &["soak", "--overload", "--frames", "5"],
        2,
        "cannot be used with",
    );
}
