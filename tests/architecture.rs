//! The one edge the house must not have: between the driver and the simulator, in either direction.

use std::process::Command;

/// The crates `package` is built from, development dependencies aside.
fn crates_below(package: &str) -> Vec<String> {
    let output = Command::new(env!("CARGO"))
        .args([
            "tree",
            "--offline",
            "--edges",
            "normal,build",
            "--prefix",
            "none",
            "--format",
            "{p}",
            "--package",
            package,
        ])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout)
        .lines()
        .filter_map(|line| line.split_whitespace().next())
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_simulator_does_not_know_the_driver() {
    let below = crates_below("vfnic-sim");
    // The positive control: an empty or mistyped listing must not pass for a missing edge.
    assert!(below.iter().any(|name| name == "vfnic-hw"), "{below:?}");
    assert!(!below.iter().any(|name| name == "vfnic"), "{below:?}");
}

#[test]
fn the_driver_does_not_know_the_simulator() {
    let below = crates_below("vfnic");
    assert!(below.iter().any(|name| name == "vfnic-hw"), "{below:?}");
    assert!(!below.iter().any(|name| name == "vfnic-sim"), "{below:?}");
}

#[test]
fn the_ring_knows_no_hardware_and_no_operating_system() {
    let below = crates_below("vfnic-ring");
    assert!(below.iter().any(|name| name == "vfnic-ring"), "{below:?}");
    for forbidden in ["vfnic-hw", "vfnic-backend", "rustix", "vfio-ioctls"] {
        assert!(
            !below.iter().any(|name| name == forbidden),
            "{forbidden} in {below:?}"
        );
    }
}
