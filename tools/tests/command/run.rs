//! Runs the command.

use std::process::{Command, Output};

/// Runs it to its end.
pub(crate) fn vfnic(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(arguments)
        .env_remove("VFNIC_LOG")
        .output()
        .expect("the command runs")
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Runs it, expects status 0 and nothing on standard error; gives standard output.
pub(crate) fn succeeds(arguments: &[&str]) -> String {
    let output = vfnic(arguments);
    let out = String::from_utf8(output.stdout.clone()).expect("UTF-8");
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{arguments:?}: {}\n{out}{}",
        output.status,
        stderr(&output)
    );
    out
}

/// Expects `status`, and an error that contains `word`.
pub(crate) fn refuses(arguments: &[&str], status: i32, word: &str) {
    let output = vfnic(arguments);
    let error = stderr(&output);
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
    assert!(
        error.starts_with("vfnic: ") || error.starts_with("error: "),
        "{arguments:?}: {error}"
    );
    assert!(
        error.contains(word),
        "{arguments:?}: no `{word}` in: {error}"
    );
    assert!(!error.contains("panicked"), "{arguments:?}: {error}");
}

/// Expects status 1, and an error that contains `word`.
pub(crate) fn fails(arguments: &[&str], word: &str) {
    refuses(arguments, 1, word);
}
