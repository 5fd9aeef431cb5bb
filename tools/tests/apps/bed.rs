//! A served card, and commands on its VFs.

use std::io::{BufRead, BufReader, Read};
use std::path::PathBuf;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

/// A served card whose VF `n` has the address 02:00:00:00:00:0n; it ends with this value.
pub(crate) struct Bed {
    card: Child,
    pub(crate) dir: PathBuf,
}

impl Bed {
    pub(crate) fn start(name: &str, model: &str, more: &[&str]) -> Self {
        let dir = std::env::temp_dir().join(format!("vfnic-apps-{}-{name}", std::process::id()));
        let path = dir.to_str().expect("text").to_owned();
        let mut arguments = vec![
            "sim",
            "serve",
            "--model",
            model,
            "--vfs",
            "4",
            "--socket-dir",
            &path,
        ];
        arguments.extend(more);
        let mut card = spawn(&arguments);
        let mut lines = BufReader::new(card.stdout.take().expect("a pipe")).lines();
        while !lines
            .next()
            .expect("it gets ready")
            .expect("text")
            .starts_with("ready")
        {}
        let bed = Self { card, dir };
        for vf in 0..4 {
            bed.set(&format!("vf {vf} mac {}", mac(vf)));
        }
        bed
    }

    /// Turns knobs of the card.
    pub(crate) fn set(&self, knobs: &str) {
        let mut arguments = vec!["sim", "set", self.dir.to_str().expect("text")];
        arguments.extend(knobs.split(' '));
        let output = finish(spawn(&arguments));
        assert!(output.status.success(), "{knobs}: {output:?}");
    }

    /// The spec of a VF.
    pub(crate) fn vf(&self, number: u8) -> String {
        format!("vfio-user:{}/vf{number}.sock", self.dir.display())
    }

    /// Sends frames from VF 0 to VF 1 with `vfnic gen`, to its end; what it reports.
    pub(crate) fn send(&self, more: &[&str]) -> Value {
        let (from, to) = (self.vf(0), mac(1));
        let mut arguments = vec!["gen", "--device", &from, "--to", &to, "--json"];
        arguments.extend(more);
        succeeds(spawn(&arguments))
    }

    /// Starts `vfnic sink` on a VF.
    pub(crate) fn start_sink(&self, vf: u8, more: &[&str]) -> Child {
        let device = self.vf(vf);
        let mut arguments = vec!["sink", "--device", &device, "--json"];
        arguments.extend(more);
        spawn(&arguments)
    }

    /// What the card says of itself.
    pub(crate) fn shown(&self) -> Value {
        let dir = self.dir.to_str().expect("text");
        json(&finish(spawn(&["sim", "show", dir, "--json"])))
    }

    /// Waits until somebody has VF `number`, and its link is up.
    pub(crate) fn wait_for(&self, number: usize) {
        let start = Instant::now();
        while self.shown()["vfs"][number]["sessions"]["sessions"].as_u64() == Some(0) {
            assert!(start.elapsed() < Duration::from_secs(20), "VF {number}");
            std::thread::sleep(Duration::from_millis(20));
        }
        // From the connection to the queues it is milliseconds.
        std::thread::sleep(Duration::from_millis(500));
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        let shown = self.shown();
        let _ = self.card.kill();
        let _ = self.card.wait();
        let _ = std::fs::remove_dir_all(&self.dir);
        if !std::thread::panicking() {
            assert_eq!(shown["violations"], Value::Array(vec![]));
        }
    }
}

/// The address of a VF.
pub(crate) fn mac(vf: u8) -> String {
    format!("02:00:00:00:00:{vf:02x}")
}

/// Starts a command.
pub(crate) fn spawn(arguments: &[&str]) -> Child {
    Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(arguments)
        .env_remove("VFNIC_LOG")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the command starts")
}

/// Waits for the end of a command, a minute at most.
pub(crate) fn finish(mut child: Child) -> Output {
    let start = Instant::now();
    while child.try_wait().expect("a child").is_none() {
        if start.elapsed() > Duration::from_secs(60) {
            let _ = child.kill();
            let mut error = String::new();
            if let Some(mut stderr) = child.stderr.take() {
                let _ = stderr.read_to_string(&mut error);
            }
            panic!("no end within a minute: {error}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    child.wait_with_output().expect("its output")
}

/// Ends a command as a user at the keyboard would.
pub(crate) fn interrupt(child: &Child) {
    let pid = i32::try_from(child.id()).expect("a pid");
    let pid = rustix::process::Pid::from_raw(pid).expect("not zero");
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("sent");
}

/// The one object on standard output.
pub(crate) fn json(output: &Output) -> Value {
    let out = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&out).unwrap_or_else(|error| {
        let stderr = String::from_utf8_lossy(&output.stderr);
        panic!("{error}: {out}{stderr}")
    })
}

/// The object of a command that succeeds.
pub(crate) fn succeeds(child: Child) -> Value {
    let output = finish(child);
    assert!(
        output.status.success(),
        "{}: {}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    json(&output)
}

/// Expects that a command line is refused with `status`, and a word that tells why.
pub(crate) fn refused(arguments: &[&str], status: i32, word: &str) {
    let output = finish(spawn(arguments));
    let error = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
    assert!(
        error.contains(word),
        "{arguments:?}: no `{word}` in {error}"
    );
    assert!(!error.contains("panicked"), "{error}");
}
