//! Pictures as SVG.

use std::ops::Range;

use anyhow::anyhow;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::prelude::{
    ChartBuilder, IntoDrawingArea, LineSeries, RGBColor, Rectangle, SVGBackend, WHITE,
};
use plotters::style::{Color, IntoTextStyle};

use crate::output::{nanoseconds, quantity};

/// Size in the picture's own units; a page scales it.
const WIDTH: u32 = 860;
const HEIGHT: u32 = 340;
/// Colours that those who see fewer of them tell apart as well (Okabe and Ito's palette, its first ones on white).
const COLOURS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(213, 94, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
];
const INK: RGBColor = RGBColor(60, 66, 77);
const GRID: RGBColor = RGBColor(226, 230, 236);
/// Most points of a line; more make a larger file and no better picture.
const POINTS: usize = 1500;

/// How an axis is divided and lettered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Axis {
    /// Nanoseconds, each decade as long as the next.
    Time,
    /// Quantiles from 0 to 1, each nine as long as the next.
    Quantile,
    /// Seconds of a run.
    Seconds,
    /// A quantity with this unit, from 0.
    Linear(&'static str),
}

/// Points to be joined.
#[derive(Clone, Debug)]
pub struct Line {
    /// What it is.
    pub name: String,
    /// Where it goes, as the axes have it.
    pub points: Vec<(f64, f64)>,
}

/// Lines over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// The axis to the right.
    pub x: Axis,
    /// The axis upwards.
    pub y: Axis,
    /// What is drawn.
    pub lines: Vec<Line>,
}

/// Nines at most: a quantile of 1 has no end.
const NINES: f64 = 7.0;

impl Axis {
    /// Where on the axis a value is.
    fn place(self, value: f64) -> f64 {
        match self {
            Self::Time => value.max(1.0).log10(),
            Self::Quantile => (-(1.0 - value).max(0.0).log10()).min(NINES),
            Self::Seconds | Self::Linear(_) => value,
        }
    }

    /// The axis for places from `low` to `high`.
    fn scale(self, low: f64, high: f64) -> Scale {
        let (low, high, marks) = match self {
            Self::Quantile => {
                let last = high.ceil().clamp(1.0, NINES);
                let mut marks: Vec<f64> = vec![0.0, self.place(0.5)];
                let mut mark = 1.0;
                while mark <= last {
                    marks.push(mark);
                    mark += 1.0;
                }
                (0.0, last, marks)
            }
            Self::Time => {
                // Whole decades look empty around values that hardly differ.
                let (low, high) = ((low - 0.05).max(0.0), high + 0.05);
                let digits: &[f64] = if high - low > 3.0 {
                    &[1.0]
                } else {
                    &[1.0, 2.0, 5.0]
                };
                let mut marks = Vec::new();
                let mut decade = low.floor();
                while decade <= high {
                    let values = digits.iter().map(|digit| decade + digit.log10());
                    marks.extend(values.filter(|mark| (low..=high).contains(mark)));
                    decade += 1.0;
                }
                (low, high, marks)
            }
            Self::Seconds | Self::Linear(_) => {
                let high = if high > 0.0 { high } else { 1.0 };
                let rough = high / 6.0;
                let decade = 10f64.powf(rough.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0]
                    .into_iter()
                    .map(|digit| digit * decade)
                    .find(|step| *step >= rough)
                    .unwrap_or(rough);
                let end = if self == Self::Seconds {
                    high
                } else {
                    high * 1.08
                };
                let mut marks = Vec::new();
                let mut mark = 0.0;
                while mark <= end {
                    marks.push(mark);
                    mark += step;
                }
                (0.0, end, marks)
            }
        };
        Scale {
            axis: self,
            low,
            high,
            marks,
        }
    }

    /// What stands at a mark.
    fn letter(self, place: f64) -> String {
        match self {
            Self::Time => {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "a mark within the histogram's bounds"
                )]
                let value = 10f64.powf(place).round() as u64;
                if value <= 1 {
                    // Nothing is shorter on an axis like this.
                    return "≤ 1 ns".to_owned();
                }
                // Marks are round numbers: `10 µs` and not `10.0 µs`.
                nanoseconds(value).replace(".00 ", " ").replace(".0 ", " ")
            }
            Self::Quantile => {
                let percent = 100.0 * (1.0 - 10f64.powf(-place));
                let decimals = if place > 2.0 { place.ceil() } else { 0.0 };
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "seven at most"
                )]
                let decimals = (decimals as usize).saturating_sub(2);
                format!("{percent:.decimals$} %")
            }
            Self::Seconds => format!("{} s", tidy(place)),
            Self::Linear("") => tidy(place),
            Self::Linear("%") => format!("{} %", tidy(place)),
            Self::Linear(unit) => quantity(place, unit)
                .replace(".00 ", " ")
                .replace(".0 ", " "),
        }
    }
}

/// An axis with its ends, and the marks at which it is lettered.
#[derive(Clone, Debug)]
struct Scale {
    axis: Axis,
    low: f64,
    high: f64,
    marks: Vec<f64>,
}

impl Ranged for Scale {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, limit: (i32, i32)) -> i32 {
        let share = (place - self.low) / (self.high - self.low);
        let length = f64::from(limit.1 - limit.0);
        #[expect(clippy::cast_possible_truncation, reason = "pixels")]
        {
            limit.0 + (share * length).round() as i32
        }
    }

    fn key_points<Hint: KeyPointHint>(&self, _hint: Hint) -> Vec<f64> {
        self.marks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.low..self.high
    }
}

impl ValueFormatter<f64> for Scale {
    fn format_ext(&self, place: &f64) -> String {
        self.axis.letter(*place)
    }
}

/// Three decimals at most.
fn tidy(value: f64) -> String {
    let text = format!("{value:.3}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    text.to_owned()
}

impl Chart {
    /// Draws it; nothing is drawn of no points at all, and then the text is empty.
    ///
    /// # Errors
    ///
    /// What the drawing library says.
    pub fn svg(&self) -> anyhow::Result<String> {
        let places: Vec<(String, Vec<(f64, f64)>)> = self
            .lines
            .iter()
            .map(|line| {
                let every = line.points.len().div_ceil(POINTS).max(1);
                let points = line.points.iter().step_by(every);
                let points = points.map(|&(x, y)| (self.x.place(x), self.y.place(y)));
                (line.name.clone(), points.collect())
            })
            .collect();
        let all = || places.iter().flat_map(|(_, points)| points);
        if all().next().is_none() {
            return Ok(String::new());
        }
        let ends = |pick: fn(&(f64, f64)) -> f64| {
            all()
                .map(pick)
                .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                    (low.min(value), high.max(value))
                })
        };
        let (x, y) = (ends(|point| point.0), ends(|point| point.1));
        let mut svg = String::new();
        {
            let root = SVGBackend::with_string(&mut svg, (WIDTH, HEIGHT)).into_drawing_area();
            root.fill(&WHITE).map_err(drawing)?;
            // Above the picture, where no line runs behind it.
            let mut left = 90;
            for ((name, _), colour) in places.iter().zip(COLOURS.iter().cycle()) {
                if places.len() > 1 {
                    root.draw(&Rectangle::new(
                        [(left, 13), (left + 16, 17)],
                        colour.filled(),
                    ))
                    .map_err(drawing)?;
                    let style = ("sans-serif", 14, &INK).into_text_style(&root);
                    root.draw_text(name, &style, (left + 22, 8))
                        .map_err(drawing)?;
                    left += 50 + 8 * i32::try_from(name.chars().count()).unwrap_or(0);
                }
            }
            let mut chart = ChartBuilder::on(&root)
                .margin(10)
                .margin_top(if places.len() > 1 { 34 } else { 10 })
                .margin_right(34)
                .x_label_area_size(34)
                .y_label_area_size(86)
                .build_cartesian_2d(self.x.scale(x.0, x.1), self.y.scale(y.0, y.1))
                .map_err(drawing)?;
            chart
                .configure_mesh()
                .light_line_style(WHITE.mix(0.0))
                .bold_line_style(GRID)
                .axis_style(INK.mix(0.5))
                .label_style(("sans-serif", 14, &INK))
                .draw()
                .map_err(drawing)?;
            for ((_, points), colour) in places.into_iter().zip(COLOURS.iter().cycle()) {
                // A single point has no line; a dot shows it.
                let dot = if points.len() == 1 { 4 } else { 0 };
                chart
                    .draw_series(LineSeries::new(points, colour.stroke_width(2)).point_size(dot))
                    .map_err(drawing)?;
            }
            root.present().map_err(drawing)?;
        }
        Ok(svg)
    }
}

/// Draws counts as bars, the longest first.
///
/// # Errors
///
/// What the drawing library says.
pub(super) fn bars(counts: &[(String, u64)]) -> anyhow::Result<String> {
    const BAR: u32 = 30;
    let mut counts = counts.to_vec();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rows = u32::try_from(counts.len()).unwrap_or(u32::MAX).min(40);
    let mut svg = String::new();
    {
        let height = rows * BAR + 10;
        let root = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE).map_err(drawing)?;
        let longest = counts.first().map_or(1, |(_, count)| (*count).max(1));
        let (names, room) = (250, i32::try_from(WIDTH).unwrap_or(0) - 250 - 130);
        for (row, (name, count)) in (0..).zip(counts.iter().take(40)) {
            let top = 5 + row * i32::try_from(BAR).unwrap_or(30);
            #[expect(
                clippy::cast_possible_truncation,
                clippy::cast_precision_loss,
                reason = "pixels"
            )]
            let length = (f64::from(room) * (*count as f64 / longest as f64)).ceil() as i32;
            let style = ("sans-serif", 14, &INK).into_text_style(&root);
            root.draw_text(name, &style, (4, top + 6))
                .map_err(drawing)?;
            root.draw(&Rectangle::new(
                [(names, top + 4), (names + length.max(2), top + 24)],
                COLOURS[2].filled(),
            ))
            .map_err(drawing)?;
            root.draw_text(&count.to_string(), &style, (names + length + 8, top + 6))
                .map_err(drawing)?;
        }
        root.present().map_err(drawing)?;
    }
    Ok(svg)
}

fn drawing<E: std::error::Error + Send + Sync>(
    error: plotters::drawing::DrawingAreaErrorKind<E>,
) -> anyhow::Error {
    anyhow!("cannot draw: {error}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn marks_are_round() {
        let letters = |axis: Axis, low, high| {
            let scale = axis.scale(axis.place(low), axis.place(high));
            let letters = scale.marks.into_iter().map(|mark| axis.letter(mark));
            letters.collect::<Vec<_>>()
        };
        assert_eq!(
            letters(Axis::Time, 900.0, 40_000.0),
            ["1 µs", "2 µs", "5 µs", "10 µs", "20 µs"]
        );
        assert_eq!(
            letters(Axis::Quantile, 0.0, 0.9995),
            ["0 %", "50 %", "90 %", "99 %", "99.9 %", "99.99 %"]
        );
        assert_eq!(
            letters(Axis::Seconds, 0.0, 2.5),
            ["0 s", "0.5 s", "1 s", "1.5 s", "2 s", "2.5 s"]
        );
        assert_eq!(
            letters(Axis::Linear("pps"), 0.0, 14_000_000.0),
            ["0 pps", "5 Mpps", "10 Mpps", "15 Mpps"]
        );
    }

    #[test]
    fn nothing_makes_no_picture_and_one_point_does() {
        let chart = |points: Vec<(f64, f64)>| Chart {
            x: Axis::Seconds,
            y: Axis::Time,
            lines: vec![Line {
                name: "one".into(),
                points,
            }],
        };
        assert_eq!(chart(Vec::new()).svg().expect("drawn"), "");
        let one = chart(vec![(1.0, 500.0)]).svg().expect("drawn");
        assert!(one.starts_with("<svg") && one.contains("circle"), "{one}");
        let many: Vec<(f64, f64)> = (1..100_000).map(|n| (f64::from(n), f64::from(n))).collect();
        assert!(chart(many).svg().expect("drawn").len() < 100_000);
    }
}
