//! The examples in every command's help: all are read, and those that need no card of silicon are run.

use std::process::{Command, Stdio};

use clap::CommandFactory;
use vfnic_tools::cli::Cli;

use crate::kernel::Kernel;
use crate::run::on;
use crate::trees::{self, Tree};

/// Every example, split into words as a shell would; what is behind `>` or `|` is the shell's.
fn examples() -> Vec<(String, Vec<String>)> {
    fn below(name: &str, command: &clap::Command, found: &mut Vec<(String, Vec<String>)>) {
        let help = command.clone().render_long_help().to_string();
        let own: Vec<_> = help
            .lines()
            .filter_map(|line| line.strip_prefix("  vfnic "))
            .map(|line| (name.to_owned(), split(line)))
            .collect();
        let leaf = !command.is_subcommand_required_set() && name != "vfnic";
        assert!(!leaf || !own.is_empty(), "{name} has no example");
        found.extend(own);
        for sub in command.get_subcommands() {
            below(&format!("{name} {}", sub.get_name()), sub, found);
        }
    }
    let mut found = Vec::new();
    below("vfnic", &Cli::command(), &mut found);
    found
}

fn split(line: &str) -> Vec<String> {
    let mut words = vec![String::new()];
    let mut quoted = false;
    for c in line.chars() {
        match c {
            '\'' => quoted = !quoted,
            '>' | '|' | '#' if !quoted && words.last().is_some_and(String::is_empty) => break,
            ' ' if !quoted => words.push(String::new()),
            c => words.last_mut().expect("one").push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    words
}

#[test]
fn every_example_is_a_command_line() {
    let examples = examples();
    for (name, words) in &examples {
        let line = std::iter::once("vfnic").chain(words.iter().map(String::as_str));
        if let Err(error) = Cli::command().try_get_matches_from(line) {
            panic!("{name}: {words:?}: {error}");
        }
    }
    assert!(examples.len() > 60, "{}", examples.len());
}

/// A host on which `eth0` has the VFs of the examples.
fn host() -> Tree {
    let tree = trees::example();
    tree.write("sys/bus/pci/drivers/ixgbevf/unbind", "");
    tree
}

#[test]
fn examples_about_hosts_run_on_one_made_of_files() {
    let mut run = 0;
    for (_, words) in examples() {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        if !matches!(
            words[0],
            "list"
                | "doctor"
                | "provision"
                | "bind"
                | "unbind"
                | "reset"
                | "set"
                | "persist"
                | "export"
        ) {
            continue;
        }
        let tree = host();
        if words.contains(&"--from-env") {
            tree.write("environ", "PCIDEVICE_INTEL_COM_VFS=0000:31:10.1\n");
        }
        let _kernel = Kernel::of(&tree, "ixgbevf");
        let output = on(&tree, &words);
        // Which warnings there are is not the examples' matter.
        assert!(
            matches!(output.status.code(), Some(0 | 3)) && !output.stdout.is_empty(),
            "{words:?}: {output:?}"
        );
        run += 1;
    }
    assert!(run > 20, "{run} examples");
}

/// Times are cut short, and files go to a folder that is removed.
#[test]
fn examples_on_the_simulator_run() {
    let scratch = Tree::empty();
    let mut run = 0;
    for (name, words) in examples() {
        let simulated = words.iter().any(|word| word.starts_with("sim:"));
        if !(simulated
            || matches!(
                name.as_str(),
                "vfnic demo" | "vfnic man" | "vfnic completions"
            ))
        {
            continue;
        }
        let mut words = words.clone();
        let at = words.iter().position(|word| word == "--duration");
        match at {
            Some(at) => words[at + 1] = "200ms".into(),
            None if name == "vfnic demo" => words.extend(["--duration".into(), "200ms".into()]),
            None if name == "vfnic check" => words.extend(["--frames".into(), "50".into()]),
            None => {}
        }
        for word in &mut words {
            if word == "5s" {
                *word = "200ms".into();
            } else if word.starts_with("/usr/") {
                *word = scratch.path("man").to_str().expect("UTF-8").to_owned();
            }
        }
        let output = Command::new(env!("CARGO_BIN_EXE_vfnic"))
            .args(&words)
            .current_dir(scratch.root())
            .env_remove("VFNIC_LOG")
            .stdin(Stdio::null())
            .output()
            .expect("it runs");
        assert!(output.status.success(), "{words:?}: {output:?}");
        run += 1;
    }
    assert!(run > 12, "{run} examples");
}
