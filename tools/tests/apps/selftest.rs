//! `vfnic selftest`.

use serde_json::Value;

use crate::bed::{Bed, finish, json, refused, spawn, succeeds};

fn verdict<'a>(report: &'a Value, step: &str) -> &'a Value {
    report["steps"]
        .as_array()
        .and_then(|steps| steps.iter().find(|known| known["name"] == step))
        .map_or_else(
            || panic!("no step {step} in {report}"),
            |step| &step["verdict"],
        )
}

#[test]
fn every_model_passes_and_the_report_says_what_it_was() {
    for model in ["82576", "i350", "82599", "x540", "x550"] {
        let (one, two) = (format!("sim:{model}/0"), format!("sim:{model}/1"));
        let path =
            std::env::temp_dir().join(format!("vfnic-selftest-{}-{model}", std::process::id()));
        let file = path.to_str().expect("text");
        let printed = succeeds(spawn(&[
            "selftest", "--device", &one, "--peer", &two, "--report", file, "--json",
        ]));
        let written: Value =
            serde_json::from_slice(&std::fs::read(&path).expect("a report")).expect("JSON");
        std::fs::remove_file(&path).expect("there");
        assert_eq!(written, printed);
        assert_eq!(printed["model"], model);
        assert_eq!(printed["failed"], 0, "{printed}");
        for step in [
            "open",
            "link",
            "transmit",
            "vlan",
            "restart",
            "reopen",
            "frames-64",
            "frames-1518",
            "interrupt",
        ] {
            assert_eq!(
                *verdict(&printed, step),
                "pass",
                "{step} of {model}: {printed}"
            );
        }
        assert_eq!(
            printed["mac_prefix"].as_str().map(str::len),
            Some(8),
            "half an address"
        );
    }
}

#[test]
fn what_fails_is_told_and_the_rest_is_tried_all_the_same() {
    let bed = Bed::start("selftest", "82599", &[]);
    bed.set("pf link off");
    let vf = bed.vf(0);
    let output = finish(spawn(&["selftest", "--device", &vf, "--json"]));
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    assert_eq!(*verdict(&report, "link"), "fail");
    assert_eq!(*verdict(&report, "transmit"), "skip");
    assert_eq!(*verdict(&report, "restart"), "pass");
}

#[test]
fn nonsense_is_refused() {
    refused(
        &["selftest", "--device", "sim:x540", "--peer", "sim:x540/0"],
        2,
        "same VF",
    );
    refused(&["selftest"], 2, "--device");
}
