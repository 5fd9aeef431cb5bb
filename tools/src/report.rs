//! Latency reports: summary figures, the percentile table of HdrHistogram, and its interval log.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;
use serde::Serialize;

/// The figures that scripts want, in nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Latency {
    /// Shortest.
    pub min: u64,
    /// Median.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Longest.
    pub max: u64,
}

impl From<&Histogram<u64>> for Latency {
    fn from(histogram: &Histogram<u64>) -> Self {
        if histogram.is_empty() {
            return Self::default();
        }
        Self {
            min: histogram.min(),
            p50: histogram.value_at_quantile(0.5),
            p90: histogram.value_at_quantile(0.9),
            p99: histogram.value_at_quantile(0.99),
            p999: histogram.value_at_quantile(0.999),
            max: histogram.max(),
        }
    }
}

/// Writes the percentile distribution in the layout of HdrHistogram's own tools, values in microseconds.
///
/// # Errors
///
/// When `out` cannot be written.
pub fn percentile_table(out: &mut impl Write, histogram: &Histogram<u64>) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>12} {:>14} {:>10} {:>14}\n",
        "Value(µs)", "Percentile", "TotalCount", "1/(1-Percentile)"
    )?;
    // One tick per halving of the distance to 100 % keeps the table to a screen.
    for step in histogram.iter_quantiles(1) {
        let value = microseconds(histogram.highest_equivalent(step.value_iterated_to()));
        let quantile = step.quantile_iterated_to();
        let count = histogram.count_between(0, step.value_iterated_to());
        if quantile < 1.0 {
            let inverse = 1.0 / (1.0 - quantile);
            writeln!(
                out,
                "{value:12.3} {quantile:14.12} {count:10} {inverse:14.2}"
            )?;
        } else {
            writeln!(out, "{value:12.3} {quantile:14.12} {count:10}")?;
        }
    }
    writeln!(
        out,
        "#[Mean    = {:12.3}, StdDeviation   = {:12.3}]\n#[Max     = {:12.3}, Total count    = {:12}]",
        histogram.mean() / 1e3,
        histogram.stdev() / 1e3,
        microseconds(histogram.max()),
        histogram.len(),
    )?;
    writeln!(
        out,
        "#[Buckets = {:12}, SubBuckets     = {:12}]",
        histogram.buckets(),
        2 * 10u64.pow(u32::from(histogram.sigfig())).next_power_of_two(),
    )
}

#[expect(clippy::cast_precision_loss, reason = "three decimals are printed")]
fn microseconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e3
}

/// A log of histograms, one per interval, that HdrHistogram's log tools and plotters read.
#[derive(Debug)]
pub struct HistogramLog {
    path: String,
    out: BufWriter<File>,
    /// Where the next interval starts, since the start of the log.
    at: Duration,
}

impl HistogramLog {
    /// Creates `path`, replacing what was there, and writes the header; `comment` says what was measured.
    ///
    /// # Errors
    ///
    /// When the file cannot be created or written.
    pub fn create(path: &Path, comment: &str) -> anyhow::Result<Self> {
        let name = path.display().to_string();
        let file = File::create(path).with_context(|| format!("cannot create {name}"))?;
        let mut out = BufWriter::new(file);
        let now = SystemTime::now();
        IntervalLogWriterBuilder::new()
            .add_comment("[Histogram log format version 1.3]")
            .add_comment(comment)
            .add_comment("[Values in nanoseconds]")
            .with_start_time(now)
            .with_base_time(now)
            .begin_log_with(&mut out, &mut V2DeflateSerializer::new())
            .with_context(|| format!("cannot write {name}"))?;
        Ok(Self {
            path: name,
            out,
            at: Duration::ZERO,
        })
    }

    /// Appends the latencies of the time from the last call, or the start, to `until` after the start.
    ///
    /// # Errors
    ///
    /// When the file cannot be written.
    pub fn interval(&mut self, histogram: &Histogram<u64>, until: Duration) -> anyhow::Result<()> {
        let mut serializer = V2DeflateSerializer::new();
        // Without headers, the builder writes nothing of its own.
        IntervalLogWriterBuilder::new()
            .begin_log_with(&mut self.out, &mut serializer)
            .map_err(anyhow::Error::new)
            .and_then(|mut log| {
                log.write_histogram(histogram, self.at, until.saturating_sub(self.at), None)
                    .map_err(|error| anyhow::anyhow!("{error}"))
            })
            .and_then(|()| Ok(self.out.flush()?))
            .with_context(|| format!("cannot write {}", self.path))?;
        self.at = until;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use hdrhistogram::serialization::Deserializer;
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};

    use super::*;
    use crate::traffic::latency_histogram;

    fn thousand() -> Histogram<u64> {
        let mut histogram = latency_histogram();
        for value in 1..=1000 {
            histogram.record(value * 1000).expect("in bounds");
        }
        histogram
    }

    #[test]
    fn figures_are_percentiles() {
        let latency = Latency::from(&thousand());
        let about = |value: u64, right: u64| value.abs_diff(right) * 1000 <= right;
        assert!(about(latency.min, 1000) && about(latency.max, 1_000_000));
        assert!(about(latency.p50, 500_000) && about(latency.p99, 990_000));
        assert_eq!(Latency::from(&latency_histogram()), Latency::default());
    }

    #[test]
    fn the_table_ends_with_everything() {
        let mut table = Vec::new();
        percentile_table(&mut table, &thousand()).expect("memory");
        let table = String::from_utf8(table).expect("text");
        let last = table
            .lines()
            .rfind(|line| !line.starts_with('#'))
            .expect("rows");
        let fields: Vec<&str> = last.split_whitespace().collect();
        assert_eq!(fields[1..], ["1.000000000000", "1000"], "{table}");
        assert!(table.contains("Total count    =         1000]"), "{table}");
    }

    #[test]
    fn a_log_can_be_read_back() {
        let path = std::env::temp_dir().join(format!("vfnic-hlog-{}", std::process::id()));
        let mut log = HistogramLog::create(&path, "a test").expect("created");
        log.interval(&thousand(), Duration::from_secs(1))
            .expect("written");
        log.interval(&thousand(), Duration::from_secs(3))
            .expect("written");
        drop(log);
        let bytes = std::fs::read(&path).expect("there");
        std::fs::remove_file(&path).expect("there");
        let mut intervals = Vec::new();
        for entry in IntervalLogIterator::new(&bytes) {
            if let LogEntry::Interval(interval) = entry.expect("well-formed") {
                let packed = base64(interval.encoded_histogram());
                let histogram: Histogram<u64> = Deserializer::new()
                    .deserialize(&mut packed.as_slice())
                    .expect("a histogram");
                assert_eq!(histogram.len(), 1000);
                intervals.push((interval.start_timestamp(), interval.duration()));
            }
        }
        let seconds = Duration::from_secs;
        assert_eq!(
            intervals,
            [(seconds(0), seconds(1)), (seconds(1), seconds(2))]
        );
    }

    fn base64(text: &str) -> Vec<u8> {
        let value = |c: u8| match c {
            b'A'..=b'Z' => c - b'A',
            b'a'..=b'z' => c - b'a' + 26,
            b'0'..=b'9' => c - b'0' + 52,
            b'+' => 62,
            _ => 63,
        };
        let mut bytes = Vec::new();
        let (mut bits, mut held) = (0u32, 0);
        for c in text.bytes().filter(|&c| c != b'=') {
            bits = (bits << 6) | u32::from(value(c));
            held += 6;
            if held >= 8 {
                held -= 8;
                bytes.push(u8::try_from((bits >> held) & 0xFF).expect("masked"));
            }
        }
        bytes
    }
}
