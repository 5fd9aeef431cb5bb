//! Reports: summary figures, the percentile table of HdrHistogram, its interval log, and a page with pictures.

mod chart;
mod hlog;
mod page;
mod recorder;

use std::io::Write;

use hdrhistogram::Histogram;
use serde::Serialize;

pub use chart::{Axis, Chart, Line};
pub use hlog::HistogramLog;
pub use page::{Page, PageFile};
pub use recorder::{Moment, Recorder};

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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::latency_histogram;

    pub(super) fn thousand() -> Histogram<u64> {
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
}
