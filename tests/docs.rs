//! The documentation keeps its word: links lead somewhere, command lines can be said, tests that are named exist.
//! (What is Rust in it is compiled with the doctests of vfnic-tools.)
#![forbid(unsafe_code)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use vfnic_tools::cli;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every page that somebody might read: at the top, in docs/ and beside each crate's manifest.
fn pages() -> Vec<PathBuf> {
    let folders = [
        "",
        "docs",
        "deploy",
        "ring",
        "driver",
        "driver/hw",
        "driver/backend",
        "sim",
        "tools",
        "tests/vm",
    ];
    let mut pages = Vec::new();
    for folder in folders {
        let Ok(entries) = fs::read_dir(root().join(folder)) else {
            continue;
        };
        let files = entries.map(|entry| entry.expect("an entry").path());
        pages.extend(files.filter(|path| path.extension().is_some_and(|name| name == "md")));
    }
    pages.sort();
    pages
}

/// The lines of a page that are not in fences, and the fenced blocks with what stands behind the opening fence.
fn parts(text: &str) -> (Vec<&str>, Vec<(&str, Vec<&str>)>) {
    let (mut prose, mut blocks) = (Vec::new(), Vec::<(&str, Vec<&str>)>::new());
    let mut inside = false;
    for line in text.lines() {
        if let Some(kind) = line.trim_start().strip_prefix("```") {
            if !inside {
                blocks.push((kind, Vec::new()));
            }
            inside = !inside;
        } else if inside {
            blocks.last_mut().expect("a block").1.push(line);
        } else {
            prose.push(line);
        }
    }
    assert!(!inside, "a fence without an end");
    (prose, blocks)
}

/// The targets of the links in a line.
fn links(line: &str) -> Vec<&str> {
    let targets = line.split("](").skip(1);
    targets
        .filter_map(|rest| rest.split_once(')').map(|(target, _)| target))
        .collect()
}

/// What GitHub makes of a heading.
fn anchor(heading: &str) -> String {
    heading
        .trim_start_matches('#')
        .trim()
        .to_lowercase()
        .chars()
        .filter(|c| c.is_alphanumeric() || matches!(c, ' ' | '-' | '_'))
        .map(|c| if c == ' ' { '-' } else { c })
        .collect()
}

fn anchors(text: &str) -> BTreeSet<String> {
    let (prose, _) = parts(text);
    let headings = prose.into_iter().filter(|line| line.starts_with('#'));
    headings.map(anchor).collect()
}

#[test]
fn every_link_leads_somewhere() {
    let mut seen = 0;
    let mut broken = Vec::new();
    for page in pages() {
        let text = read(&page);
        for link in parts(&text).0.iter().flat_map(|line| links(line)) {
            if link.contains("://") {
                continue;
            }
            seen += 1;
            let (path, anchor) = link.split_once('#').unwrap_or((link, ""));
            let target = if path.is_empty() {
                page.clone()
            } else {
                page.parent().expect("a folder").join(path)
            };
            let leads = target.exists()
                && (anchor.is_empty()
                    || target.is_file() && anchors(&read(&target)).contains(anchor));
            if !leads {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(seen > 30, "{seen} links found: is this looking at all?");
    assert!(broken.is_empty(), "{broken:#?}");
}

/// A command line's words, as a shell takes them apart; `None` when it is more than one plain command.
fn words(line: &str) -> Option<Vec<String>> {
    let mut words = vec![String::new()];
    let mut quote = None;
    for c in line.chars() {
        match (quote, c) {
            (Some(open), _) if c == open => quote = None,
            (None, '\'' | '"') => quote = Some(c),
            (None, '#') if words.last().is_some_and(String::is_empty) => break,
            (None, '|' | '>' | '<' | '&' | ';') => break,
            (None, ' ') if words.last().is_some_and(|word| !word.is_empty()) => {
                words.push(String::new());
            }
            (None, ' ') => {}
            _ => words.last_mut()?.push(c),
        }
    }
    words.retain(|word| !word.is_empty());
    quote.is_none().then_some(words)
}

/// The `vfnic …` command lines in a block of shell.
fn commands<'a>(lines: &[&'a str]) -> Vec<(&'a str, Vec<String>)> {
    let mut found = Vec::new();
    for line in lines {
        let plain = line
            .trim()
            .trim_start_matches("$ ")
            .trim_start_matches("sudo ");
        let arguments = plain
            .strip_prefix("cargo run --release -- ")
            .or_else(|| plain.strip_prefix("target/release/vfnic "))
            .or_else(|| plain.strip_prefix("vfnic "));
        if let Some(arguments) = arguments {
            let words = words(arguments).unwrap_or_else(|| panic!("{line}: an open quote"));
            found.push((*line, words));
        }
    }
    found
}

#[test]
fn every_command_line_can_be_said() {
    let mut seen = 0;
    let mut wrong = Vec::new();
    for page in pages() {
        let text = read(&page);
        let blocks = parts(&text).1.into_iter();
        for (_, lines) in blocks.filter(|(kind, _)| *kind == "sh") {
            for (line, words) in commands(&lines) {
                seen += 1;
                if let Err(error) = cli::understand(&words) {
                    wrong.push(format!("{}: {line}\n{error}", page.display()));
                }
            }
        }
    }
    assert!(
        seen > 40,
        "{seen} command lines found: is this looking at all?"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn what_nobody_can_say_is_found_out() {
    for (line, good) in [
        ("vfnic list --style libvirt | head # all", true),
        ("vfnic list --nova '{\"vendor_id\": \"8086\"}'", true),
        ("vfnic frobnicate", false),
        ("vfnic list --style baroque", false),
        ("vfnic probe --device 0000:zz:10", false),
    ] {
        let [(_, words)] = commands(&[line]).try_into().expect("one command");
        let understood = cli::understand(&words);
        assert_eq!(understood.is_ok(), good, "{line}");
    }
    assert!(commands(&["cargo run --example poll_loop", "ip link set eth0 up"]).is_empty());
}

#[test]
fn all_twenty_pains_are_answered_by_tests_that_exist() {
    let text = read(&root().join("docs/pains.md"));
    let rows: Vec<Vec<&str>> = text
        .lines()
        .filter(|line| line.starts_with("| ") && line.chars().nth(2).is_some_and(char::is_numeric))
        .map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect())
        .collect();
    let numbers: Vec<_> = rows.iter().map(|row| row[0].to_owned()).collect();
    let wanted: Vec<_> = (1..=20).map(|number: u32| number.to_string()).collect();
    assert_eq!(numbers, wanted);
    let mut missing = Vec::new();
    for row in rows {
        let [number, _, answer, shown] = row.as_slice() else {
            panic!("{row:?}: four columns");
        };
        assert!(!answer.is_empty(), "{number}");
        let (mut source, mut tests) = (String::new(), 0);
        for name in shown.split('`').skip(1).step_by(2) {
            if name.contains('/') {
                source = read(&root().join(name));
                continue;
            }
            tests += 1;
            // A Rust test, which may have got ids of the fault catalogue before its name, or a check of a guest's scenario.
            let exists = source
                .lines()
                .any(|line| line.contains("fn ") && line.contains(&format!("{name}(")))
                || ["check", "says", "refused"]
                    .iter()
                    .any(|verb| source.contains(&format!("\n{verb} {name} ")));
            if !exists {
                missing.push(format!("{number}: {name}"));
            }
        }
        assert!(tests > 0, "{number} has no test");
    }
    assert!(missing.is_empty(), "{missing:?}");
}

/// In README and ARCHITECTURE, and the same.
#[test]
fn the_promise_is_kept_word_for_word() {
    let promise = "*Once a device is open, no value that a device, PF, guest, client or file can produce makes the process \
        panic, hang past a stated bound, touch memory outside its DMA pool, or deliver a frame twice, out of order or \
        altered; every frame not delivered is counted under a named reason.*";
    for page in ["README.md", "ARCHITECTURE.md"] {
        let words: Vec<String> = read(&root().join(page))
            .split_whitespace()
            .map(str::to_owned)
            .collect();
        assert!(words.join(" ").contains(promise), "{page}");
    }
}

/// What a page of the registry would show of each crate that can be published.
#[test]
fn every_crate_has_what_a_registry_shows() {
    let output = std::process::Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--no-deps",
            "--offline",
            "--format-version",
            "1",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    let text = String::from_utf8(output.stdout).expect("text");
    let all: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let packages = all["packages"].as_array().expect("packages");
    let mut published = 0;
    for package in packages
        .iter()
        .filter(|package| package["publish"].is_null())
    {
        published += 1;
        let name = package["name"].as_str().expect("a name");
        for field in [
            "description",
            "license",
            "repository",
            "documentation",
            "rust_version",
        ] {
            let value = package[field].as_str().unwrap_or_default();
            assert!(!value.is_empty(), "{name}: {field}");
        }
        assert!(
            package["documentation"].as_str() == Some(&format!("https://docs.rs/{name}")),
            "{name}"
        );
        for (field, most) in [("keywords", 5), ("categories", 5)] {
            let count = package[field].as_array().map_or(0, Vec::len);
            assert!((1..=most).contains(&count), "{name}: {count} {field}");
        }
        let manifest = Path::new(package["manifest_path"].as_str().expect("a path"));
        let folder = manifest.parent().expect("a folder");
        for file in [
            package["readme"].as_str().unwrap_or("?"),
            "LICENSE-MIT",
            "LICENSE-APACHE",
        ] {
            assert!(read(&folder.join(file)).len() > 300, "{name}: {file}");
        }
        for dependency in package["dependencies"].as_array().expect("dependencies") {
            // Without a version a path cannot be published.
            assert_ne!(dependency["req"], "*", "{name}: {}", dependency["name"]);
        }
    }
    assert_eq!(published, 6);
}
