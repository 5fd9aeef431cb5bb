//! System calls of the driver's thread, counted by strace.
//!
//! The card is in the same process, and its doorbell wakes the card's thread by a write to an eventfd when that sleeps; a card
//! made of silicon does not. So those writes are counted apart.

use std::collections::BTreeMap;
use std::fs;
use std::process::Command;

use serde_json::Value;

/// What `vfnic demo` reports, and what its driver's thread asked of the kernel, by name.
fn traced(name: &str, arguments: &[&str]) -> Option<(Value, BTreeMap<String, u64>)> {
    let trace = std::env::temp_dir().join(format!("vfnic-{name}-{}.strace", std::process::id()));
    let output = Command::new("strace")
        .args(["-f", "-qq", "-o"])
        .arg(&trace)
        .arg(env!("CARGO_BIN_EXE_vfnic"))
        .args(["demo", "--json"])
        .args(arguments)
        .env_remove("VFNIC_LOG")
        .output();
    let Ok(output) = output else {
        eprintln!("skipped: strace is not installed");
        return None;
    };
    let text = fs::read_to_string(&trace).unwrap_or_default();
    let _ = fs::remove_file(&trace);
    let Ok(report) = serde_json::from_slice(&output.stdout) else {
        let error = String::from_utf8_lossy(&output.stderr);
        assert!(
            error.contains("ptrace") || error.contains("PTRACE"),
            "{error}"
        );
        eprintln!("skipped: this machine lets nobody be traced");
        return None;
    };
    let named = text
        .lines()
        .find(|line| line.contains("PR_SET_NAME, \"vfnic-demo\""))
        .expect("the driver's thread names itself");
    let thread = format!("{} ", named.split(' ').next().expect("a thread id"));
    let mut calls = BTreeMap::new();
    for line in text.lines() {
        let call = line
            .strip_prefix(&thread)
            .map(str::trim_start)
            // The second half of a call that somebody else's line came between.
            .filter(|call| !call.starts_with('<'));
        if let Some((name, rest)) = call.and_then(|call| call.split_once('(')) {
            let kick = name == "write" && rest.contains(r#""\1\0\0\0\0\0\0\0", 8"#);
            let name = if kick { "doorbell" } else { name };
            *calls.entry(name.to_owned()).or_insert(0) += 1;
        }
    }
    Some((report, calls))
}

fn number(report: &Value, name: &str) -> u64 {
    report[name].as_u64().expect("a number")
}

#[test]
fn polling_asks_nothing_of_the_kernel() {
    let run = |time| traced(time, &["--mode", "poll", "--duration", time]);
    let (Some((short, few)), Some((long, many))) = (run("500ms"), run("2s")) else {
        return;
    };
    let frames = number(&long, "received").saturating_sub(number(&short, "received"));
    // Five times a second the thread says how it is doing, and the histogram it sends comes from the kernel.
    let sum = |calls: &BTreeMap<String, u64>| -> u64 {
        let own = calls.iter().filter(|(name, _)| *name != "doorbell");
        own.map(|(_, count)| count).sum()
    };
    let more = sum(&many).saturating_sub(sum(&few));
    println!("{more} system calls and {frames} frames in 1.5 s: {few:?}, {many:?}");
    assert!(frames > 1000, "{short} {long}");
    assert!(more < 150, "{few:?} {many:?}");
}

#[test]
fn a_wake_up_is_one_system_call() {
    let Some((report, calls)) = traced(
        "interrupt",
        &["--mode", "interrupt", "--rate", "500", "--duration", "1s"],
    ) else {
        return;
    };
    let (wakeups, count) = (number(&report, "wakeups"), |name| {
        calls.get(name).copied().unwrap_or(0)
    });
    let waits = count("epoll_pwait2");
    println!("{wakeups} wake-ups: {calls:?}");
    assert!(wakeups > 100, "{report}");
    assert!(waits <= wakeups + 10, "{waits} waits, {wakeups} wake-ups");
    // Nothing is read, nothing rearmed: the rest is the simulated card's lock and doorbell.
    for name in ["read", "epoll_ctl", "ioctl", "pread64", "pwrite64"] {
        assert!(count(name) < 20, "{name}: {calls:?}");
    }
}
