//! Options that make no sense, for every option of every command there is.

use std::time::{Duration, Instant};

use clap::{ArgAction, Command, CommandFactory};
use vfnic_tools::cli::Cli;

use crate::run::{refuses, succeeds, vfnic};

/// Every command that does something, with the words that lead to it.
fn commands() -> Vec<(Vec<String>, Command)> {
    fn below(words: &[String], command: &Command, found: &mut Vec<(Vec<String>, Command)>) {
        if !command.is_subcommand_required_set() {
            found.push((words.to_vec(), command.clone()));
        }
        for sub in command.get_subcommands() {
            let mut words = words.to_vec();
            words.push(sub.get_name().to_owned());
            below(&words, sub, found);
        }
    }
    let mut found = Vec::new();
    below(&["vfnic".to_owned()], &Cli::command(), &mut found);
    found
}

/// What the parser says of `words` and an option with a value: the error's kind and text. What is missing besides is
/// only looked at when all that is there can be read.
fn parse(words: &[String], more: &[&str]) -> Result<(), clap::Error> {
    let all = words.iter().map(String::as_str).chain(more.iter().copied());
    Cli::command().try_get_matches_from(all).map(|_| ())
}

fn is_refused(error: &clap::Error) -> bool {
    use clap::error::ErrorKind::{InvalidValue, UnknownArgument, ValueValidation};
    error.exit_code() == 2
        && matches!(
            error.kind(),
            InvalidValue | ValueValidation | UnknownArgument
        )
}

/// Options that take a number, by trying: `7` (or another that is in range) is read, `zebra` is not.
#[test]
fn t1_numbers_that_are_none_are_refused_by_every_option() {
    let mut tried = 0;
    for (words, command) in commands() {
        for option in command.get_arguments() {
            let Some(name) = option
                .get_long()
                .filter(|_| option.get_action().takes_values())
            else {
                continue;
            };
            let name = format!("--{name}");
            let reads = |value: &str| match parse(&words, &[&format!("{name}={value}")]) {
                Ok(()) => true,
                Err(error) => !is_refused(&error),
            };
            if reads("zebra") || !["7", "1500"].iter().any(|number| reads(number)) {
                continue;
            }
            tried += 1;
            for bad in [
                "",
                " ",
                "-1",
                "18446744073709551616",
                "340282366920938463463374607431768211456",
                "7x",
                "7 7",
                "0x",
                "x7",
                "7.7.7",
                "\u{667}",
                "7\u{0}",
                "+-7",
                "NaN",
                "inf",
                "1e400",
                "--",
            ] {
                assert!(!reads(bad), "{words:?} {name} takes {bad:?}");
            }
        }
    }
    assert!(tried > 40, "{tried} options take numbers");
}

#[test]
fn t1_an_option_given_twice_is_refused_by_every_command() {
    let mut tried = 0;
    for (words, command) in commands() {
        for option in command.get_arguments() {
            let Some(name) = option.get_long() else {
                continue;
            };
            if !matches!(option.get_action(), ArgAction::Set | ArgAction::SetTrue) {
                continue;
            }
            let name = format!("--{name}");
            let values = option.get_possible_values();
            let value = [
                "7",
                "1500",
                "64:7",
                "02:00:00:00:00:07",
                "10.0.0.7",
                "sim:x540",
                "127.0.0.1:9",
                "a",
            ]
            .into_iter()
            .chain(values.iter().map(|value| value.get_name()))
            .map(|value| {
                if option.get_action().takes_values() {
                    format!("{name}={value}")
                } else {
                    name.clone()
                }
            })
            .find(|once| match parse(&words, &[once]) {
                Ok(()) => true,
                Err(error) => !is_refused(&error),
            });
            let Some(once) = value else {
                continue;
            };
            tried += 1;
            let error = parse(&words, &[&once, &once]).expect_err(&name);
            assert_eq!(error.exit_code(), 2, "{words:?} {once}: {error}");
            assert!(
                error.to_string().contains("cannot be used multiple times"),
                "{words:?} {once}: {error}"
            );
        }
    }
    assert!(tried > 80, "{tried} options");
}

#[test]
fn t1_what_is_missing_is_named_and_nothing_is_opened() {
    for (words, command) in commands() {
        for option in command
            .get_arguments()
            .filter(|option| option.is_required_set())
        {
            let error = parse(&words, &[]).expect_err("something is missing");
            let named = match option.get_long() {
                Some(name) => format!("--{name}"),
                None => option.get_id().as_str().to_uppercase(),
            };
            let text = error.to_string();
            assert_eq!(error.exit_code(), 2);
            let names = option.get_value_names().unwrap_or_default();
            assert!(
                text.contains(&named) || names.iter().any(|name| text.contains(name.as_str())),
                "{words:?} {named}: {text}"
            );
        }
    }
    // The device does not exist, and nobody looks for it.
    refuses(
        &[
            "gen",
            "--device",
            "ffff:5a:00.7",
            "--to",
            "02:00:00:00:00:01",
            "--count",
            "5x",
        ],
        2,
        "5x",
    );
}

/// Counts, times and rates at the ends of what can be written: each either runs or is refused with the range.
#[test]
fn t10_the_ends_of_counts_times_and_rates_are_defined() {
    let to = "02:00:00:00:00:01";
    for (option, value) in [
        ("--count", "0"),
        ("--duration", "0s"),
        ("--duration", "0"),
        ("--rate", "0"),
        ("--rate", "-0"),
        ("--count", "18446744073709551616"),
        ("--duration", "169h"),
        ("--duration", "1e300"),
        ("--duration", "1e-10"),
        ("--rate", "1001M"),
        ("--rate", "1e300"),
        ("--rate", "0.0001"),
        ("--flows", "0"),
        ("--flows", "65536"),
    ] {
        let pair = format!("{option}={value}");
        refuses(
            &["gen", "--device", "sim:82599", "--to", to, &pair],
            2,
            option,
        );
    }
    // The greatest of each; time ends them, and the sums are right.
    for (option, value) in [
        ("--count", "18446744073709551615"),
        ("--rate", "1000M"),
        ("--rate", "1"),
        ("--flows", "65535"),
    ] {
        let pair = format!("{option}={value}");
        let start = Instant::now();
        let output = vfnic(&[
            "gen",
            "--device",
            "sim:82599",
            "--to",
            to,
            "--duration",
            "100ms",
            "--json",
            &pair,
        ]);
        assert!(output.status.success(), "{pair}: {output:?}");
        assert!(start.elapsed() < Duration::from_secs(30), "{pair}");
        let report: serde_json::Value = serde_json::from_slice(&output.stdout).expect("JSON");
        assert_eq!(report["ended_by"], "duration", "{pair}");
    }
    let report = succeeds(&[
        "gen",
        "--device",
        "sim:82599",
        "--to",
        to,
        "--count",
        "1",
        "--duration",
        "168h",
        "--json",
    ]);
    assert!(report.contains("\"ended_by\":\"count\""), "{report}");
}
