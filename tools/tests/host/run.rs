//! Runs the command on a tree.

use std::process::{Command, Output};

use crate::trees::Tree;

/// Runs `vfnic ARGUMENTS --root TREE`.
pub(crate) fn on(tree: &Tree, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_vfnic"))
        .args(arguments)
        .arg("--root")
        .arg(tree.root())
        .env_remove("VFNIC_LOG")
        .output()
        .expect("the command runs")
}

/// Its standard output, when it ends with `status`.
pub(crate) fn output(tree: &Tree, arguments: &[&str], status: i32) -> String {
    let output = on(tree, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(
        output.status.code(),
        Some(status),
        "{arguments:?}: {error}{}",
        String::from_utf8_lossy(&output.stdout)
    );
    assert!(!error.contains("panicked"), "{error}");
    String::from_utf8(output.stdout).expect("UTF-8")
}

/// Its standard error, when it ends with `status`.
pub(crate) fn error(tree: &Tree, arguments: &[&str], status: i32) -> String {
    let output = on(tree, arguments);
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(status), "{arguments:?}: {error}");
    assert!(!error.contains("panicked"), "{error}");
    error
}
