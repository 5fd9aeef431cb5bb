//! The interval log of HdrHistogram.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::IntervalLogWriterBuilder;

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

    use super::super::tests::thousand;
    use super::*;

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
