//! A report as one HTML page that needs nothing else: no script, no font, no picture from anywhere.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Seek, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context;
use hdrhistogram::Histogram;

use super::chart::bars;
use super::{Axis, Chart, Latency, Line, Moment, percentile_table};
use crate::apps::per_second;
use crate::output::nanoseconds;

/// What browsers are told not to fetch: anything.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

const STYLE: &str = "\
:root{color-scheme:light}
body{font:15px/1.5 system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif;color:#22262e;background:#f4f6f9;margin:0}
main{max-width:940px;margin:0 auto;padding:28px 20px 60px}
h1{font-size:24px;margin:0;display:flex;gap:12px;align-items:center;flex-wrap:wrap}
h2{font-size:17px;margin:0 0 10px}
.sub{color:#5b6472;margin:4px 0 22px;overflow-wrap:anywhere}
.verdict{font-size:14px;font-weight:600;padding:2px 12px;border-radius:12px;color:#fff;background:#2b7a4b}
.verdict.bad{background:#b3402a}
.figures{display:grid;grid-template-columns:repeat(4,1fr);gap:12px;margin-bottom:16px}
.figures div,section{background:#fff;border:1px solid #e2e6ec;border-radius:8px}
.figures div{padding:10px 14px}
.figures b{display:block;font-size:20px;font-weight:600;white-space:nowrap}
.figures span{color:#5b6472;font-size:13px}
section{padding:16px 18px;margin-bottom:16px}
@media(max-width:640px){.figures{grid-template-columns:repeat(2,1fr)}}
svg{display:block;width:100%;height:auto}
.note{color:#5b6472;font-size:13px;margin:8px 0 0}
table{border-collapse:collapse;font-size:14px}
td{padding:3px 18px 3px 0;vertical-align:top;overflow-wrap:anywhere}
td:first-child{color:#5b6472;white-space:nowrap}
td.n{font-variant-numeric:tabular-nums;text-align:right}
pre{font:12.5px/1.45 ui-monospace,'DejaVu Sans Mono',Menlo,Consolas,monospace;overflow-x:auto;margin:10px 0 0}
summary{cursor:pointer;font-weight:600}
footer{color:#5b6472;font-size:13px}";

/// A page in the making: what is added comes below what was there.
#[derive(Clone, Debug)]
pub struct Page {
    title: String,
    about: String,
    verdict: Option<(bool, String)>,
    figures: Vec<(String, String)>,
    body: String,
}

impl Page {
    /// A page that says what was run, and on what.
    #[must_use]
    pub fn new(title: &str, about: &str) -> Self {
        Self {
            title: title.to_owned(),
            about: about.to_owned(),
            verdict: None,
            figures: Vec::new(),
            body: String::new(),
        }
    }

    /// How it ended, in a word or two.
    pub fn verdict(&mut self, good: bool, text: &str) {
        self.verdict = Some((good, text.to_owned()));
    }

    /// One of the figures at the top.
    pub fn figure(&mut self, name: &str, value: impl std::fmt::Display) {
        self.figures.push((name.to_owned(), value.to_string()));
    }

    /// The figures of a distribution.
    pub fn latency_figures(&mut self, latency: &Latency) {
        for (name, value) in [
            ("median", latency.p50),
            ("99 %", latency.p99),
            ("99.9 %", latency.p999),
            ("longest", latency.max),
        ] {
            self.figure(name, nanoseconds(value));
        }
    }

    /// A picture under a heading, with a line on how to read it. Left out when there is nothing to draw.
    ///
    /// # Errors
    ///
    /// When it cannot be drawn.
    pub fn chart(&mut self, heading: &str, note: &str, chart: &Chart) -> anyhow::Result<()> {
        let svg = chart.svg()?;
        if !svg.is_empty() {
            self.section(heading, &svg, note);
        }
        Ok(())
    }

    /// Distributions, each as a curve of what share of its values is how large at most.
    ///
    /// # Errors
    ///
    /// When they cannot be drawn.
    pub fn percentiles(
        &mut self,
        heading: &str,
        note: &str,
        all: &[(&str, &Histogram<u64>)],
    ) -> anyhow::Result<()> {
        let chart = Chart {
            x: Axis::Quantile,
            y: Axis::Time,
            lines: all
                .iter()
                .filter(|(_, histogram)| !histogram.is_empty())
                .map(|(name, histogram)| Line {
                    name: (*name).to_owned(),
                    points: curve(histogram),
                })
                .collect(),
        };
        self.chart(heading, note, &chart)
    }

    /// A distribution over the time of the run.
    ///
    /// # Errors
    ///
    /// When it cannot be drawn.
    pub fn over_time(
        &mut self,
        heading: &str,
        note: &str,
        moments: &[Moment],
    ) -> anyhow::Result<()> {
        let line = |name: &str, value: fn(&Moment) -> u64| Line {
            name: name.to_owned(),
            points: moments
                .iter()
                .filter(|moment| moment.count > 0)
                .map(|moment| (moment.until.as_secs_f64(), float(value(moment))))
                .collect(),
        };
        let chart = Chart {
            x: Axis::Seconds,
            y: Axis::Time,
            lines: vec![
                line("longest", |moment| moment.max),
                line("99 %", |moment| moment.p99),
                line("median", |moment| moment.p50),
            ],
        };
        self.chart(heading, note, &chart)
    }

    /// How many values came in each second, over the time of the run.
    ///
    /// # Errors
    ///
    /// When it cannot be drawn.
    pub fn rate_over_time(&mut self, heading: &str, moments: &[Moment]) -> anyhow::Result<()> {
        let mut before = Duration::ZERO;
        let mut points = Vec::new();
        for moment in moments {
            let length = moment.until.saturating_sub(before);
            before = moment.until;
            // What is left at the end may be too short to have a rate.
            if length >= Duration::from_millis(5) {
                points.push((moment.until.as_secs_f64(), per_second(moment.count, length)));
            }
        }
        let chart = Chart {
            x: Axis::Seconds,
            y: Axis::Linear("pps"),
            lines: vec![Line {
                name: "frames".to_owned(),
                points,
            }],
        };
        self.chart(heading, "", &chart)
    }

    /// What became of the frames that did not arrive: how many for which reason, and how many nobody owns to.
    ///
    /// # Errors
    ///
    /// When it cannot be drawn.
    pub fn losses(&mut self, named: &BTreeMap<String, u64>, unnamed: u64) -> anyhow::Result<()> {
        let mut all: Vec<(String, u64)> = named
            .iter()
            .map(|(reason, count)| (reason.clone(), *count))
            .collect();
        if unnamed > 0 {
            all.push(("without a known reason".to_owned(), unnamed));
        }
        if all.is_empty() {
            self.section("Losses by reason", "<p>No frame was lost.</p>", "");
        } else {
            let svg = bars(&all)?;
            self.section(
                "Losses by reason",
                &svg,
                "Frames, by the name of the counter that owns to them.",
            );
        }
        Ok(())
    }

    /// Names and values, such as the configuration.
    pub fn table<N: AsRef<str>, V: std::fmt::Display>(
        &mut self,
        heading: &str,
        rows: impl IntoIterator<Item = (N, V)>,
    ) {
        let rows = rows.into_iter();
        let rows: Vec<(String, String)> = rows
            .map(|(name, value)| (escape(name.as_ref()), escape(&value.to_string())))
            .collect();
        let numbers = |(_, value): &(_, String)| value.bytes().all(|byte| byte.is_ascii_digit());
        let class = if rows.iter().all(numbers) {
            " class=\"n\""
        } else {
            ""
        };
        let mut html = String::from("<table>");
        for (name, value) in rows {
            let _ = write!(html, "<tr><td>{name}</td><td{class}>{value}</td></tr>");
        }
        html.push_str("</table>");
        self.section(heading, &html, "");
    }

    /// The percentiles of a distribution as HdrHistogram's tools print them, folded up.
    ///
    /// # Errors
    ///
    /// Never; memory can be written.
    pub fn percentile_table(
        &mut self,
        heading: &str,
        histogram: &Histogram<u64>,
    ) -> anyhow::Result<()> {
        if histogram.is_empty() {
            return Ok(());
        }
        let mut table = Vec::new();
        percentile_table(&mut table, histogram)?;
        let (heading, table) = (escape(heading), escape(&String::from_utf8_lossy(&table)));
        let _ = writeln!(
            self.body,
            "<section><details><summary>{heading}</summary><pre>{table}</pre></details></section>"
        );
        Ok(())
    }

    fn section(&mut self, heading: &str, html: &str, note: &str) {
        let heading = escape(heading);
        let _ = write!(self.body, "<section><h2>{heading}</h2>\n{html}");
        if !note.is_empty() {
            let _ = write!(self.body, "<p class=\"note\">{}</p>", escape(note));
        }
        self.body.push_str("</section>\n");
    }

    /// The page.
    #[must_use]
    pub fn html(&self) -> String {
        let (title, about) = (escape(&self.title), escape(&self.about));
        let verdict = self
            .verdict
            .as_ref()
            .map_or_else(String::new, |(good, text)| {
                let class = if *good { "" } else { " bad" };
                format!(" <span class=\"verdict{class}\">{}</span>", escape(text))
            });
        let mut figures = String::new();
        for (name, value) in &self.figures {
            let (name, value) = (escape(name), escape(value));
            let _ = write!(figures, "<div><b>{value}</b><span>{name}</span></div>");
        }
        let body = &self.body;
        let version = env!("CARGO_PKG_VERSION");
        format!(
            "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
             <meta name=\"viewport\" content=\"width=device-width\">\
             <meta http-equiv=\"Content-Security-Policy\" content=\"{POLICY}\">\
             <title>{title}</title><style>{STYLE}</style></head><body><main>\n\
             <h1>{title}{verdict}</h1><p class=\"sub\">{about}</p>\n\
             <div class=\"figures\">{figures}</div>\n{body}\
             <footer>vfnic {version}</footer></main></body></html>\n"
        )
    }

    /// Writes the page, over what was in the file.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn write(&self, to: PageFile) -> anyhow::Result<()> {
        let PageFile { path, mut file } = to;
        file.write_all(self.html().as_bytes())
            .and_then(|()| {
                // What is longer from before. A pipe has nothing from before.
                let end = file.stream_position().unwrap_or(0);
                if file.metadata()?.is_file() {
                    file.set_len(end)?;
                }
                Ok(())
            })
            .with_context(|| format!("cannot write {}", path.display()))
    }
}

/// The file that a page goes to, opened before there is a page: a run that could not write its report in the end had better not
/// begin, and a confined one can open nothing.
#[derive(Debug)]
pub struct PageFile {
    path: PathBuf,
    file: File,
}

impl PageFile {
    /// The file of a report that may have been asked for.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn wanted(path: Option<&Path>) -> anyhow::Result<Option<Self>> {
        path.map(Self::open).transpose()
    }

    /// Opens `path`. What is in it stays until there is a page.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let file = File::options()
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self {
            path: path.to_owned(),
            file,
        })
    }
}

/// The steps of a distribution, each value with the share that is no larger.
fn curve(histogram: &Histogram<u64>) -> Vec<(f64, f64)> {
    let mut points = vec![(0.0, float(histogram.min()))];
    for step in histogram.iter_quantiles(8) {
        let quantile = step.quantile_iterated_to();
        let value = float(histogram.highest_equivalent(step.value_iterated_to()));
        // The largest value is where there is one value above what was passed.
        let last = 1.0 - 1.0 / float(histogram.len() + 1);
        points.push((quantile.min(last), value));
        if quantile >= last {
            break;
        }
    }
    points
}

#[expect(clippy::cast_precision_loss, reason = "a picture")]
const fn float(value: u64) -> f64 {
    value as f64
}

/// `text` where HTML may stand: in it, or in an attribute.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(c),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::latency_histogram;

    #[test]
    fn names_are_text_and_nothing_else() {
        let mut page = Page::new("<script>", "a & \"b\"");
        page.verdict(false, "<b>");
        page.figure("<i>", "'");
        page.table("<h>", [("<n>", "<v>")]);
        page.losses(&BTreeMap::from([("<reason>".to_owned(), 3)]), 0)
            .expect("drawn");
        let html = page.html();
        for tag in ["<script>", "<b>3", "<i>", "<h>", "<n>", "<v>", "<reason>"] {
            assert!(!html.contains(tag), "{tag}");
        }
        assert!(html.contains("a &amp; &quot;b&quot;"));
    }

    #[test]
    fn nothing_is_fetched_from_anywhere() {
        let mut page = Page::new("t", "a");
        let mut histogram = latency_histogram();
        for value in 1..5000 {
            histogram.saturating_record(value * value);
        }
        page.percentiles("p", "n", &[("one", &histogram)])
            .expect("drawn");
        page.percentile_table("all", &histogram).expect("memory");
        let html = page.html();
        assert_eq!(html.matches("<svg").count(), 1);
        let links = html.matches("http").count();
        // The name of the SVG format and the name of the policy's header.
        assert_eq!(links, 2, "{html}");
        assert!(!html.contains("<script") && !html.contains("url("));
    }

    #[test]
    fn a_curve_ends_at_the_largest() {
        let mut histogram = latency_histogram();
        for value in 1..=1000 {
            histogram.saturating_record(value * 1000);
        }
        let curve = curve(&histogram);
        assert!(curve.is_sorted_by(|one, two| one.0 <= two.0 && one.1 <= two.1));
        let (quantile, value) = *curve.last().expect("points");
        assert!((0.999..1.0).contains(&quantile), "{quantile}");
        assert!((999_000.0..1_001_500.0).contains(&value), "{value}");
    }
}
