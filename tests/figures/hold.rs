//! Figures that may not fall: `cargo run -p vfnic-suite --bin figures -- coverage LCOV` or `… mutants DIRECTORY…`.
//!
//! `coverage` sums what `tests/figures/coverage.sh` wrote, `mutants` what `cargo mutants` left in its `mutants.out`
//! directories; each figure is held against the one in `stored.txt`. The exit status is 1 when one is lower, when one
//! that is stored was not measured. A mutant that changes nothing anybody could see is in `equivalent.txt` with the reason.

use std::collections::BTreeMap;
use std::error::Error;
use std::fs;
use std::path::Path;
use std::process::ExitCode;

type Failure = Box<dyn Error>;

/// What is reached of what there is.
#[derive(Clone, Copy, Debug, Default)]
struct Share {
    reached: usize,
    all: usize,
}

impl Share {
    fn add(&mut self, reached: bool) {
        self.reached += usize::from(reached);
        self.all += 1;
    }

    /// In hundredths of a per cent, rounded down.
    fn figure(self) -> usize {
        10_000 * self.reached / self.all.max(1)
    }
}

/// The crate that a source file counts for; nothing for tests and what only they use.
fn counts_for(file: &str) -> Option<&'static str> {
    let name = file.rsplit('/').next().unwrap_or(file);
    if name.ends_with("tests.rs") || name == "fake.rs" || file.contains("/testing/") {
        return None;
    }
    // The longer paths first: two crates are inside a third one's directory.
    ["driver/hw", "driver/backend", "driver", "ring", "sim"]
        .into_iter()
        .find(|folder| {
            file.strip_prefix(folder)
                .is_some_and(|rest| rest.starts_with("/src/"))
        })
}

/// The first line of a file's own tests, which end it.
fn tests_begin(text: &str) -> usize {
    let lines: Vec<&str> = text.lines().collect();
    lines
        .windows(2)
        .position(|pair| pair[0] == "#[cfg(test)]" && pair[1].ends_with('{'))
        .map_or(usize::MAX, |index| index + 1)
}

/// `lines CRATE` and `branches CRATE`, and of all together.
fn coverage(root: &Path, lcov: &str) -> Result<BTreeMap<String, Share>, Failure> {
    let prefix = format!("{}/", root.display());
    // A line of a generic function is there once for each of its types: reached by one is reached.
    let mut reached: BTreeMap<(&str, String), bool> = BTreeMap::new();
    let mut kept: Option<(&str, &str, usize)> = None;
    for line in lcov.lines() {
        let Some((tag, rest)) = line.split_once(':') else {
            continue;
        };
        if tag == "SF" {
            kept = None;
            if let Some(file) = rest.strip_prefix(&prefix)
                && let Some(krate) = counts_for(file)
            {
                let end = tests_begin(&fs::read_to_string(root.join(file))?);
                kept = Some((file, krate, end));
            }
            continue;
        }
        let Some((file, krate, end)) = kept else {
            continue;
        };
        let kind = match tag {
            "DA" => "lines",
            "BRDA" => "branches",
            _ => continue,
        };
        let Some((place, count)) = rest.rsplit_once(',') else {
            continue;
        };
        let number: usize = place.split(',').next().unwrap_or(place).parse()?;
        if number < end {
            let name = format!("{kind} {file}:{place}");
            *reached.entry((krate, name)).or_default() |= !matches!(count, "0" | "-");
        }
    }
    let mut sums: BTreeMap<String, Share> = BTreeMap::new();
    for ((krate, name), reached) in reached {
        let kind = name.split(' ').next().unwrap_or_default();
        for of in [krate, "all"] {
            sums.entry(format!("{kind} {of}")).or_default().add(reached);
        }
    }
    Ok(sums)
}

/// A mutant's name without its line and column, which change with every edit above it.
fn lasting(name: &str) -> String {
    let (place, what) = name.split_once(": ").unwrap_or((name, ""));
    format!("{}: {what}", place.split(':').next().unwrap_or(place))
}

/// `mutants FILE`, and how many survived without a reason.
fn mutants(
    directories: &[String],
    reasons: &str,
) -> Result<(BTreeMap<String, Share>, usize), Failure> {
    let mut excused: BTreeMap<&str, usize> = BTreeMap::new();
    for line in reasons.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, _why)) = line.split_once("; ") {
            *excused.entry(name).or_default() += 1;
        }
    }
    let (mut sums, mut survivors) = (BTreeMap::<String, Share>::new(), 0);
    for directory in directories {
        for (list, caught) in [("caught", true), ("timeout", true), ("missed", false)] {
            let path = Path::new(directory).join(format!("mutants.out/{list}.txt"));
            for name in fs::read_to_string(&path)
                .map_err(|error| format!("{}: {error}", path.display()))?
                .lines()
            {
                let lasting = lasting(name);
                if !caught {
                    // One that changes nothing that anybody could see is not counted at all.
                    if let Some(left) = excused.get_mut(&*lasting).filter(|left| **left > 0) {
                        *left -= 1;
                        continue;
                    }
                    println!("survived: {name}");
                    survivors += 1;
                }
                let file = lasting.split(':').next().unwrap_or_default();
                sums.entry(format!("mutants {file}"))
                    .or_default()
                    .add(caught);
            }
        }
    }
    Ok((sums, survivors))
}

/// `92.97` in hundredths.
fn hundredths(text: &str) -> Result<usize, Failure> {
    match text.split_once('.') {
        Some((whole, part)) if part.len() == 2 => {
            Ok(whole.parse::<usize>()? * 100 + part.parse::<usize>()?)
        }
        _ => Err(format!("stored.txt: '{text}' is not like 92.97").into()),
    }
}

/// Prints each figure beside the stored one, and says whether none is lower.
fn hold(kinds: &[&str], measured: &BTreeMap<String, Share>, stored: &str) -> Result<bool, Failure> {
    let mut good = true;
    let mut floors = BTreeMap::new();
    for line in stored.lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, floor)) = line.rsplit_once(' ')
            && kinds.iter().any(|kind| name.starts_with(kind))
        {
            floors.insert(name, hundredths(floor)?);
        }
    }
    for (name, share) in measured {
        let (figure, floor) = (share.figure(), floors.remove(&**name).unwrap_or(0));
        let verdict = if figure < floor { "  FALLEN" } else { "" };
        good &= figure >= floor;
        println!(
            "{name:40} {:3}.{:02} %  ({} of {}), stored {}.{:02}{verdict}",
            figure / 100,
            figure % 100,
            share.reached,
            share.all,
            floor / 100,
            floor % 100,
        );
    }
    for name in floors.keys() {
        println!("{name:40} stored, not measured");
        good = false;
    }
    Ok(good)
}

fn run() -> Result<bool, Failure> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let stored = fs::read_to_string(root.join("tests/figures/stored.txt"))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments[..] {
        [what, lcov] if what == "coverage" => {
            let measured = coverage(root, &fs::read_to_string(lcov)?)?;
            hold(&["lines ", "branches "], &measured, &stored)
        }
        [what, directories @ ..] if what == "mutants" && !directories.is_empty() => {
            let reasons = fs::read_to_string(root.join("tests/figures/equivalent.txt"))?;
            let (measured, survivors) = mutants(directories, &reasons)?;
            println!("{survivors} survived without a reason in tests/figures/equivalent.txt");
            hold(&["mutants "], &measured, &stored)
        }
        _ => Err("usage: figures coverage LCOV | figures mutants DIRECTORY…".into()),
    }
}

fn main() -> ExitCode {
    match run() {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("figures: {error}");
            ExitCode::from(2)
        }
    }
}
