//! Which test shows which row of the fault catalogue: `cargo run --bin faults [-- --missing-at-most N]`.
//!
//! Reads `rows.txt` and the source tree, nothing else: it needs no build of the tests. A line a row, then the sums; the
//! exit status is 1 when more rows than allowed (none, unless said otherwise) have neither a test nor a reason.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Where tests and beds are, below the root.
const PLACES: [&str; 6] = ["ring", "driver", "sim", "tools", "tests", "fuzz"];

/// One row.
#[derive(Debug)]
struct Row<'text> {
    id: &'text str,
    struck: Option<&'text str>,
}

fn rows(text: &str) -> Vec<Row<'_>> {
    text.lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once(char::is_whitespace))
        .map(|(id, what)| Row {
            id,
            struck: what.split_once("; struck: ").map(|(_, reason)| reason),
        })
        .collect()
}

/// The ids that a name begins with: `g2_g3_rings_…` is for G2 and G3, `v07_…` for V7.
fn ids(name: &str) -> Vec<String> {
    name.split(['_', '-'])
        .map_while(|word| {
            let digits = word.strip_prefix(|first: char| "drnmlhgvt".contains(first))?;
            let number: u8 = digits.parse().ok()?;
            Some(format!("{}{number}", word[..1].to_uppercase()))
        })
        .collect()
}

/// Names of test functions: those with the attribute, and those that `for_every_model!` gives it to.
fn tests_in_rust(text: &str) -> Vec<&str> {
    let mut attribute = false;
    let mut names = Vec::new();
    for line in text.lines().map(str::trim) {
        if line.contains("#[test]") {
            attribute = true;
        }
        let function = line.split_once("fn ").filter(|(before, _)| {
            before.is_empty() || before.ends_with(' ') && before.starts_with("#[")
        });
        if let Some((_, rest)) = function {
            let end = rest.find(['(', '<']).unwrap_or(rest.len());
            if attribute || rest[end..].starts_with("(model)") {
                names.push(&rest[..end]);
            }
            attribute = false;
        }
    }
    names
}

/// First arguments of a bed's commands, which is where the names of its checks are.
fn checks_in_shell(text: &str) -> Vec<&str> {
    text.lines()
        .flat_map(|line| line.split([';', '&', '{']))
        .filter_map(|command| command.split_whitespace().nth(1))
        .map(|word| word.trim_matches(['"', '\'']))
        .collect()
}

fn files(below: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in fs::read_dir(below)? {
        let entry = entry?;
        let path = entry.path();
        if entry.file_type()?.is_dir() {
            if entry.file_name() != "target" {
                files(&path, found)?;
            }
        } else {
            found.push(path);
        }
    }
    Ok(())
}

/// Row to the tests that show it.
fn shown(root: &Path) -> std::io::Result<BTreeMap<String, Vec<String>>> {
    let mut found = Vec::new();
    for place in PLACES.map(|place| root.join(place)) {
        if place.is_dir() {
            files(&place, &mut found)?;
        }
    }
    found.sort();
    let mut shown: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for path in found {
        let names: fn(&str) -> Vec<&str> = match path.extension().and_then(|ext| ext.to_str()) {
            Some("rs") => tests_in_rust,
            Some("sh") => checks_in_shell,
            _ => continue,
        };
        let text = fs::read_to_string(&path)?;
        let place = path.strip_prefix(root).unwrap_or(&path).display();
        for name in names(&text) {
            for id in ids(name) {
                shown
                    .entry(id)
                    .or_default()
                    .push(format!("{place}::{name}"));
            }
        }
    }
    Ok(shown)
}

fn list(allowed: usize) -> Result<bool, Box<dyn Error>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let text = fs::read_to_string(root.join("tests/faults/rows.txt"))?;
    let rows = rows(&text);
    let shown = shown(root)?;
    let (mut ok, mut struck, mut missing) = (0, 0, 0);
    for row in &rows {
        match (shown.get(row.id).map(Vec::as_slice), row.struck) {
            (Some([first, more @ ..]), _) => {
                ok += 1;
                let more = if more.is_empty() {
                    String::new()
                } else {
                    format!(" and {} more", more.len())
                };
                println!("{} ok {first}{more}", row.id);
            }
            (_, Some(reason)) => {
                struck += 1;
                println!("{} struck {reason}", row.id);
            }
            _ => {
                missing += 1;
                println!("{} missing", row.id);
            }
        }
    }
    println!(
        "{} rows: {ok} ok, {struck} struck, {missing} missing",
        rows.len()
    );
    let strays: Vec<_> = shown
        .iter()
        .filter(|(id, _)| !rows.iter().any(|row| row.id == *id))
        .collect();
    for (id, tests) in &strays {
        println!("{id} is no row, and yet the name of {tests:?}");
    }
    Ok(missing <= allowed && strays.is_empty())
}

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let allowed = match arguments.as_slice() {
        [] => Some(0),
        [option, number] if option == "--missing-at-most" => number.parse().ok(),
        _ => None,
    };
    let Some(allowed) = allowed else {
        eprintln!("usage: faults [--missing-at-most N]");
        return ExitCode::from(2);
    };
    match list(allowed) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("faults: {error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_is_whole() {
        let rows = rows(include_str!("rows.txt"));
        let ids: Vec<&str> = rows.iter().map(|row| row.id).collect();
        let ranges: [(char, &[std::ops::RangeInclusive<u8>]); 9] = [
            ('D', &[1..=22, 30..=43, 50..=67]),
            ('N', &[1..=10]),
            ('M', &[1..=24]),
            ('L', &[1..=8]),
            ('H', &[1..=29]),
            ('R', &[1..=18]),
            ('G', &[1..=23]),
            ('V', &[1..=23]),
            ('T', &[1..=10]),
        ];
        let expected: Vec<String> = ranges
            .into_iter()
            .flat_map(|(letter, ranges)| {
                ranges
                    .iter()
                    .cloned()
                    .flatten()
                    .map(move |number| format!("{letter}{number}"))
            })
            .collect();
        assert_eq!(ids, expected);
        assert_eq!(ids.len(), 199);
    }

    #[test]
    fn names_begin_with_the_rows_they_are_for() {
        assert_eq!(ids("d1_a_long_one"), ["D1"]);
        assert_eq!(ids("g2_g3_rings"), ["G2", "G3"]);
        assert_eq!(ids("v07-descriptors"), ["V7"]);
        assert!(ids("removal_d1").is_empty());
        assert!(ids("d_1").is_empty());
    }

    #[test]
    fn only_tests_count() {
        let text = "#[test]\nfn d1_x() {\nfn d2_helper() {\n  fn d3_y(model) {\n#[cfg(x)] #[test] fn d4_z() {}\n";
        assert_eq!(tests_in_rust(text), ["d1_x", "d3_y", "d4_z"]);
        assert_eq!(
            checks_in_shell("  check h1-node 3 x && pass 'h2-y'; fail z"),
            ["h1-node", "h2-y", "z"]
        );
    }
}
