//! Completions and manual pages.

use std::fs;
use std::process::{Command, Stdio};

use crate::run::{fails, refuses, succeeds};

/// Every command there is, by its full name: `vfnic`, `vfnic-bench`, `vfnic-bench-ring` …
fn commands() -> Vec<String> {
    fn below(words: &[&str], found: &mut Vec<String>) {
        found.push(words.join("-"));
        let mut arguments = words[1..].to_vec();
        arguments.push("--help");
        let help = succeeds(&arguments);
        let list = help
            .split_once("Commands:\n")
            .map_or("", |(_, list)| list.split("\n\n").next().unwrap_or(""));
        for line in list.lines() {
            // Continued descriptions are indented further.
            if let Some(name) = line
                .strip_prefix("  ")
                .filter(|rest| !rest.starts_with(' '))
                .and_then(|rest| rest.split_whitespace().next())
                .filter(|name| *name != "help")
            {
                let mut words = words.to_vec();
                words.push(name);
                below(&words, found);
            }
        }
    }
    let mut found = Vec::new();
    below(&["vfnic"], &mut found);
    found.sort();
    found
}

#[test]
fn every_command_has_a_manual_page() {
    let folder = std::env::temp_dir().join(format!("vfnic-man-{}", std::process::id()));
    succeeds(&["man", folder.to_str().expect("UTF-8")]);
    let mut pages: Vec<_> = fs::read_dir(&folder)
        .expect("a folder")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let text = fs::read_to_string(entry.path()).expect("a page");
            assert!(text.contains(".TH vfnic"), "{:?}", entry.path());
            assert!(text.contains(".SH SYNOPSIS"), "{:?}", entry.path());
            let name = entry.file_name().to_string_lossy().into_owned();
            name.strip_suffix(".1").expect("section 1").to_owned()
        })
        .collect();
    pages.sort();
    assert_eq!(pages, commands());
    assert!(pages.len() > 20, "{pages:?}");
    fs::remove_dir_all(&folder).expect("gone");
    assert!(succeeds(&["man"]).contains("Exit status"));
    fails(&["man", "/dev/null/no"], "/dev/null/no");
}

#[test]
fn every_shell_gets_completions_that_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let script = succeeds(&["completions", shell]);
        for word in ["doctor", "persist", "systemd-link", "libvirt-network"] {
            assert!(script.contains(word), "{shell}: {word}");
        }
    }
    refuses(&["completions", "tcsh"], 2, "tcsh");
}

/// Bash itself, asked what could come after `vfnic pers`.
#[test]
fn bash_completes() {
    let script = succeeds(&["completions", "bash"]);
    let ask = "\nCOMP_WORDS=(vfnic pers); COMP_CWORD=1; _vfnic vfnic pers vfnic; echo \"${COMPREPLY[@]}\"";
    let output = Command::new("bash")
        .args(["--norc", "-c", &(script + ask)])
        .stdin(Stdio::null())
        .output();
    // A machine without bash has nothing to try it on.
    let Ok(output) = output else { return };
    assert_eq!(
        String::from_utf8_lossy(&output.stdout).trim(),
        "persist",
        "{output:?}"
    );
}
