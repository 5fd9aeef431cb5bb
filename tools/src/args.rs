//! Arguments that several commands take.
#![cfg_attr(
    not(test),
    deny(
        clippy::unwrap_used,
        clippy::expect_used,
        clippy::panic,
        clippy::unreachable,
        clippy::indexing_slicing
    )
)]

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};
use vfnic::PollMode;

use crate::device::Device;
use crate::report::Recorder;
use crate::traffic::{FrameSizes, Rate};

/// How a thread waits for frames.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Mode {
    /// Looks all the time: shortest latency, a whole CPU
    Poll,
    /// Sleeps whenever nothing is there
    Interrupt,
    /// Looks for a while before it sleeps
    #[default]
    Adaptive,
}

impl Mode {
    /// The word for it in options and reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Poll => "poll",
            Self::Interrupt => "interrupt",
            Self::Adaptive => "adaptive",
        }
    }
}

impl From<Mode> for PollMode {
    fn from(mode: Mode) -> Self {
        match mode {
            Mode::Poll => Self::Poll,
            Mode::Interrupt => Self::Interrupt,
            Mode::Adaptive => Self::Adaptive,
        }
    }
}

/// Reads `5s`, `250ms`, `2m`, `1.5s`; a bare number is seconds.
///
/// # Errors
///
/// When it is none of these, or not above zero and at most a week.
pub fn duration(text: &str) -> Result<Duration, String> {
    const UNITS: [(&str, f64); 5] = [
        ("us", 1e-6),
        ("ms", 1e-3),
        ("s", 1.0),
        ("m", 60.0),
        ("h", 3600.0),
    ];
    const WEEK: f64 = 7.0 * 86_400.0;
    let (digits, unit) = UNITS
        .iter()
        .find_map(|(unit, seconds)| text.strip_suffix(unit).map(|digits| (digits, *seconds)))
        .unwrap_or((text, 1.0));
    let seconds = digits.trim().parse::<f64>().map(|value| value * unit);
    // What is less than half a nanosecond is no time, either.
    match seconds.map(Duration::try_from_secs_f64) {
        Ok(Ok(time)) if !time.is_zero() && time.as_secs_f64() <= WEEK => Ok(time),
        _ => Err(format!(
            "`{text}` is not a time above zero and up to a week, such as 5s, 250ms or 2m"
        )),
    }
}

/// How a run ends, and what it prints.
#[derive(Clone, Debug, Args)]
pub struct Ending {
    /// How long to run; until SIGINT unless given
    #[arg(long, value_name = "TIME", value_parser = duration)]
    pub duration: Option<Duration>,
    /// End after so many frames
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// A command about one VF, and how it answers.
#[derive(Clone, Debug, Args)]
pub struct OneVf {
    /// The VF
    #[arg(long, value_name = "SPEC")]
    pub device: Device,
    /// Print one JSON object instead of text
    #[arg(long)]
    pub json: bool,
}

/// A run on one VF.
#[derive(Clone, Debug, Args)]
pub struct OnOneVf {
    /// The VF
    #[arg(long, value_name = "SPEC")]
    pub device: Device,
    /// When it is over.
    #[command(flatten)]
    pub ending: Ending,
}

/// What to receive, and how.
#[derive(Clone, Copy, Debug, Args)]
pub struct Receiving {
    /// Longest packet to take, in bytes
    #[arg(long, value_name = "N", default_value_t = 1500)]
    pub mtu: u16,
    /// How to wait.
    #[command(flatten)]
    pub waiting: Waiting,
}

/// How a thread waits.
#[derive(Clone, Copy, Debug, Args)]
pub struct Waiting {
    /// How to wait for frames
    #[arg(long, value_enum, default_value_t = Mode::Adaptive)]
    pub mode: Mode,
}

/// Reports besides what is printed.
#[derive(Clone, Debug, Default, Args)]
pub struct Reports {
    /// Write the values to FILE in HdrHistogram's log format, one histogram a second
    #[arg(long, value_name = "FILE")]
    pub hlog: Option<PathBuf>,
    /// Write a report with pictures to FILE, one HTML page that needs nothing else
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

impl Reports {
    /// What keeps the values for them; `comment` says what is measured, `duration` how long the run is, if that is known.
    ///
    /// # Errors
    ///
    /// When the log cannot be written.
    pub fn recorder(&self, comment: &str, duration: Option<Duration>) -> anyhow::Result<Recorder> {
        // Moments are for the page's pictures.
        let duration = duration.filter(|_| self.html.is_some());
        Recorder::new(self.hlog.as_deref(), comment, duration)
    }
}

/// What to send.
#[derive(Clone, Copy, Debug, Args)]
pub struct Traffic {
    /// Frame length in bytes, CRC included, or `imix` (7:4:1 of 64, 594 and 1518)
    #[arg(long, value_name = "64|imix|1518|9000|BYTES", default_value = "64")]
    pub frame: FrameSizes,
    /// Frames per second (250k, 1.5M), or `max`
    #[arg(long, value_name = "PPS|max", default_value = "max")]
    pub rate: Rate,
    /// Decides everything random
    #[arg(long, value_name = "N", default_value_t = 1)]
    pub seed: u64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_units() {
        let millis = |text| duration(text).map(|time| time.as_millis());
        assert_eq!(millis("5s"), Ok(5000));
        assert_eq!(millis("250ms"), Ok(250));
        assert_eq!(millis("1.5"), Ok(1500));
        assert_eq!(millis("2m"), Ok(120_000));
        assert_eq!(millis("168h"), Ok(604_800_000));
        assert_eq!(duration("1e-9"), Ok(Duration::from_nanos(1)));
        for bad in [
            "", "s", "0s", "-1s", "8000h", "NaN", "infs", "5 x", "1e-10", "1e-7ms", "1e300",
        ] {
            assert!(duration(bad).is_err(), "{bad}");
        }
    }
}
