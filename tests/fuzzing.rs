//! Every fuzz target on its saved corpus, and on random bytes: a little of it every day, and as much as one likes with
//! `tests/run fuzz SECONDS`, or `VFNIC_FUZZ_SECONDS=60 cargo test --profile fuzz --test fuzzing TARGET -- --nocapture`.
//!
//! A find is saved as `tests/fuzz/corpus/TARGET/NAME` and runs here from then on. `tests/fuzz` has the same targets for
//! libFuzzer, which finds its way by coverage.
#![forbid(unsafe_code)]

#[path = "fuzz/bodies/mod.rs"]
#[allow(
    clippy::allow_attributes,
    unreachable_pub,
    dead_code,
    reason = "libFuzzer's crate uses the rest of it"
)]
mod bodies;
#[path = "../sim/tests/dice/mod.rs"]
mod dice;
#[path = "fuzz/limits.rs"]
mod limits;

use std::io::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::time::{Duration, Instant};

use dice::Dice;
use limits::{SLOW, STUCK, Watch};

/// Pieces that texts are made of.
const WORDS: [&str; 40] = [
    "sim:",
    "vfio-user:",
    "k8s:",
    "0000:31:10.1",
    "31:10.1",
    "eth0",
    "#",
    "0,2-7",
    "*",
    ":",
    ".",
    "/",
    "?",
    "&",
    "=",
    "x540",
    "82599",
    "i350",
    "vf",
    "vfs",
    "seed",
    "mac",
    "02:00:00:00:00:01",
    "trust",
    "on",
    "mtu",
    "9000",
    "4294967296",
    "-1",
    "interrupt",
    "drop",
    ",",
    ";",
    "ppm",
    "mailbox-reply",
    "delay",
    "1ms",
    "\n",
    "é",
    "\0",
];

impl Dice {
    /// Bytes of all sorts, at most `longest`; now and then something saved with a few bytes changed.
    fn bytes(&mut self, saved: &[Vec<u8>], longest: usize, into: &mut Vec<u8>) {
        into.clear();
        let kind = self.roll() & 7;
        if kind < 3 && !saved.is_empty() {
            into.extend_from_slice(&saved[self.index(saved.len())]);
            for _ in 0..self.index(6) {
                let (at, to) = (self.index(into.len() + 1), self.roll().to_le_bytes()[0]);
                match self.index(3) {
                    0 if at < into.len() => into[at] = to,
                    1 => into.insert(at, to),
                    _ => into.truncate(at.max(1)),
                }
            }
        } else if kind == 3 {
            for _ in 0..self.index(12) {
                into.extend_from_slice(self.pick(&WORDS).as_bytes());
            }
        } else {
            // Short ones are the most: half of all have no more than an eighth of the length.
            let most = longest >> (self.roll() & 3);
            let len = self.index(most + 1);
            while into.len() < len {
                let (bytes, mut choice) = (self.roll().to_le_bytes(), self.roll());
                into.extend(bytes.map(|byte| {
                    choice >>= 3;
                    // Zeros, ones and small numbers mean something more often than others.
                    match choice & 7 {
                        0 => 0,
                        1 => 0xff,
                        2 => byte & 0x0f,
                        _ => byte,
                    }
                }));
            }
            into.truncate(len);
        }
    }
}

/// What is saved for a target.
fn corpus(name: &str) -> Vec<Vec<u8>> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fuzz/corpus")
        .join(name);
    let Ok(entries) = std::fs::read_dir(&dir) else {
        return Vec::new();
    };
    let mut files: Vec<_> = entries
        .filter_map(|entry| Some(entry.ok()?.path()))
        .collect();
    files.sort();
    files
        .iter()
        .map(|path| {
            std::fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        })
        .collect()
}

/// Runs `data`, and says how long that takes; what makes it fail is printed in full.
fn execute(target: &bodies::Target, data: &[u8]) -> Duration {
    let took = catch_unwind(AssertUnwindSafe(|| {
        let took = limits::time(SLOW, || (target.body)(data));
        assert!(took < SLOW, "{} hangs: {took:?}", target.name);
        took
    }));
    took.unwrap_or_else(|panic| {
        tell(target, "fails", data);
        resume_unwind(panic)
    })
}

fn tell(target: &bodies::Target, what: &str, data: &[u8]) {
    let hex: String = data.iter().map(|byte| format!("{byte:02x}")).collect();
    let name = target.name;
    // Past what the test's harness keeps until the end: there may be none.
    let _ = writeln!(
        std::io::stderr(),
        "{name} {what} on {} bytes, to be saved in tests/fuzz/corpus/{name}: {hex}",
        data.len()
    );
}

/// A number from the environment.
fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable}={text}")))
}

/// Most memory this process has had, in KiB.
fn peak_kib() -> Option<u64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Runs one on what is saved, then on random bytes: a fixed few, or for as long as `VFNIC_FUZZ_SECONDS` says.
fn fuzz(name: &str) {
    let target = bodies::TARGETS.iter().find(|target| target.name == name);
    let target = target.expect("in the list");
    // The thread that waits cannot be ended, but its process can.
    let watch = Watch::new(STUCK, |data| {
        tell(target, "does not come to an end", data);
        std::process::exit(101);
    });
    let saved = corpus(name);
    for data in &saved {
        watch.next(|next| next.clone_from(data), |data| execute(target, data));
    }
    let seconds = number("VFNIC_FUZZ_SECONDS");
    let seed = number("VFNIC_FUZZ_SEED").unwrap_or(1);
    let mut dice = Dice::new(seed);
    let few = if target.stateful { 60 } else { 1500 };
    let begin = Instant::now();
    let mut slowest = Duration::ZERO;
    let mut executions = 0u64;
    while seconds.map_or(executions < few, |limit| begin.elapsed().as_secs() < limit) {
        let took = watch.next(
            |data| dice.bytes(&saved, target.longest, data),
            |data| execute(target, data),
        );
        executions += 1;
        slowest = slowest.max(took);
    }
    let peak = peak_kib().unwrap_or(0);
    println!(
        "{name}: {} saved, {executions} executions in {:.1?}, slowest {slowest:.1?}, memory {peak} KiB, seed {seed}",
        saved.len(),
        begin.elapsed()
    );
    // All targets of this process together.
    assert!(peak < 512 << 10, "{name}: {peak} KiB");
}

macro_rules! targets {
    ($($name:ident),*) => {
        $(#[test] fn $name() { fuzz(stringify!($name)); })*

        #[test]
        fn every_target_runs_here_and_under_libfuzzer() {
            let here = [$(stringify!($name)),*];
            let known: Vec<_> = bodies::TARGETS.iter().map(|target| target.name).collect();
            assert_eq!(here, known.as_slice());
            let manifest = include_str!("fuzz/Cargo.toml");
            for name in here {
                assert!(manifest.contains(&format!("name = \"{name}\"\n")), "{name}");
            }
        }
    };
}

targets!(
    rx_desc,
    rx_ring,
    tx_complete,
    mailbox_vf,
    mailbox_pf,
    device_regs,
    driver_vs_device,
    guest_driver,
    switch_frames,
    config_space,
    vfio_user_stream,
    vfio_user_session,
    pcap,
    cli_bdf,
    fault_plan,
    soak_frame
);
