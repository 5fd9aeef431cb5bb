//! What a command says: results on standard output, everything else on standard error.

use std::io::{self, Write};

use serde::Serialize;

/// An error and what caused it, on one line: causes that their error already quotes are not repeated.
#[must_use]
pub fn chain(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.contains(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Whether the reader of our output went away, which is no failure of ours.
#[must_use]
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<io::Error>())
        .any(|cause| cause.kind() == io::ErrorKind::BrokenPipe)
}

/// Prints `value` as the one JSON object of the command, on a line of its own.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn json(value: &impl Serialize) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    serde_json::to_writer(&mut out, value)?;
    writeln!(out)?;
    out.flush()?;
    Ok(())
}

/// Prints a line on standard output at once, so that whoever watches the command through a pipe sees it.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn line(text: impl std::fmt::Display) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")?;
    out.flush()?;
    Ok(())
}

/// Prints a text that has its line ends already.
///
/// # Errors
///
/// When standard output cannot be written.
pub fn text(text: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// `text` for a terminal: what other people have put into names (control characters, direction marks) cannot move the
/// cursor, change colours or hide anything.
#[must_use]
pub fn printable(text: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}')
    };
    if !text.contains(hides) {
        return text.to_owned();
    }
    text.chars()
        .map(|c| {
            if hides(c) {
                c.escape_unicode().to_string()
            } else {
                c.to_string()
            }
        })
        .collect()
}

/// `value` with three significant digits and a unit of time, from nanoseconds.
#[must_use]
pub fn nanoseconds(value: u64) -> String {
    #[expect(clippy::cast_precision_loss, reason = "three digits are printed")]
    let value = value as f64;
    for (limit, unit) in [(1e3, "ns"), (1e6, "µs"), (1e9, "ms")] {
        if value < 0.9995 * limit {
            return three_digits(value * 1e3 / limit, unit);
        }
    }
    three_digits(value / 1e9, "s")
}

/// `value` with three significant digits and an SI prefix.
#[must_use]
pub fn quantity(value: f64, unit: &str) -> String {
    for (limit, prefix) in [(1e3, ""), (1e6, "k"), (1e9, "M")] {
        if value < 0.9995 * limit {
            return three_digits(value * 1e3 / limit, &format!("{prefix}{unit}"));
        }
    }
    three_digits(value / 1e9, &format!("G{unit}"))
}

fn three_digits(value: f64, unit: &str) -> String {
    let decimals = if value >= 99.95 || value.fract() == 0.0 {
        0
    } else if value >= 9.995 {
        1
    } else {
        2
    };
    format!("{value:.decimals$} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_named_once() {
        let cause = anyhow::anyhow!("permission denied");
        let error = cause.context("cannot open x");
        assert_eq!(chain(&error), "cannot open x: permission denied");
        let quoting = anyhow::anyhow!("busy").context("cannot open x: busy");
        assert_eq!(chain(&quoting), "cannot open x: busy");
    }

    #[test]
    fn figures_have_three_digits() {
        let shown: Vec<String> = [
            0,
            7,
            999,
            1000,
            1234,
            99_990,
            123_456,
            1_500_000,
            2_340_000_000,
        ]
        .map(nanoseconds)
        .to_vec();
        assert_eq!(
            shown,
            [
                "0 ns", "7 ns", "999 ns", "1 µs", "1.23 µs", "100 µs", "123 µs", "1.50 ms",
                "2.34 s"
            ]
        );
        assert_eq!(quantity(14_880_952.0, "pps"), "14.9 Mpps");
        assert_eq!(quantity(999.9, "pps"), "1.00 kpps");
    }
}
