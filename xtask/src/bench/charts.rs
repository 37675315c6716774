//! The report's charts, as SVG.

use anyhow::{Result, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

/// One peer's values on a bar chart: one per group, `None` where it has none.
pub struct Bars {
    /// The peer.
    pub peer: String,
    /// Ratios to the best of each group.
    pub ratios: Vec<Option<f64>>,
}

/// One peer's curve.
pub struct Curve {
    /// The peer.
    pub peer: String,
    /// Points, in order of the first coordinate.
    pub points: Vec<(f64, f64)>,
}

/// How the horizontal axis of a line chart is laid out and labelled.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Axis {
    /// Numbers, each twice the last.
    Doubling,
    /// Sizes in bytes, each a multiple of the last.
    Bytes,
    /// Seconds or plain numbers, evenly spaced.
    Even,
}

/// How values on the vertical axis are written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Scale {
    /// Plain numbers.
    Plain,
    /// Bytes.
    Bytes,
}

/// Bars taller than this many times the best are cut, with the ratio written on them.
const TALLEST: f64 = 4.0;
const FONT: &str = "sans-serif";
const WIDTH: u32 = 1080;

/// The peers' colours: Okabe and Ito's palette, which people with any colour vision can
/// tell apart. hakmem has the strongest, the system's allocator is grey.
pub fn colour(peer: &str) -> RGBColor {
    match peer.trim_end_matches(super::peers::SLOWED) {
        "hakmem" => RGBColor(213, 94, 0),
        "mimalloc3" => RGBColor(0, 114, 178),
        "mimalloc2" => RGBColor(86, 180, 233),
        "jemalloc" => RGBColor(0, 158, 115),
        "snmalloc" => RGBColor(204, 121, 167),
        "rpmalloc" => RGBColor(230, 159, 0),
        "tcmalloc" => RGBColor(60, 60, 60),
        "stoolap" => RGBColor(190, 175, 40),
        _ => RGBColor(160, 160, 160),
    }
}

/// Groups of bars, one bar per peer in each: the ratio to the best peer of the group.
///
/// # Errors
/// Where the chart cannot be drawn.
pub fn bars(groups: &[String], peers: &[Bars]) -> Result<String> {
    let tallest = peers
        .iter()
        .flat_map(|peer| peer.ratios.iter().flatten().copied())
        .fold(1.2_f64, f64::max)
        .min(TALLEST);
    let mut text = String::new();
    {
        let area = SVGBackend::with_string(&mut text, (WIDTH, 260)).into_drawing_area();
        area.fill(&WHITE).map_err(broken)?;
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(28)
            .y_label_area_size(44)
            .build_cartesian_2d(0.0..groups.len() as f64, 0.0..tallest * 1.1)
            .map_err(broken)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .light_line_style(WHITE)
            .bold_line_style(RGBColor(225, 225, 225))
            .x_labels(0)
            .y_labels(5)
            .y_label_formatter(&|ratio| format!("{ratio:.1}x"))
            .label_style((FONT, 12))
            .draw()
            .map_err(broken)?;
        let step = 0.86 / peers.len().max(1) as f64;
        for (number, group) in groups.iter().enumerate() {
            let left = number as f64 + 0.07;
            for (place, peer) in peers.iter().enumerate() {
                let Some(ratio) = peer.ratios.get(number).copied().flatten() else {
                    continue;
                };
                let from = left + place as f64 * step;
                let height = ratio.min(TALLEST);
                let fill = colour(&peer.peer).filled();
                let corners = [(from, 0.0), (from + step * 0.9, height)];
                chart
                    .draw_series([Rectangle::new(corners, fill)])
                    .map_err(broken)?;
                if ratio > TALLEST {
                    let style = centred(10);
                    let label = format!("{ratio:.0}x");
                    let at = (from + step * 0.45, TALLEST * 1.02);
                    chart
                        .draw_series([Text::new(label, at, style)])
                        .map_err(broken)?;
                }
            }
            let (x, y) = chart.backend_coord(&(number as f64 + 0.5, 0.0));
            area.draw_text(&shortened(group, groups.len()), &below(12), (x, y + 8))
                .map_err(broken)?;
        }
        area.present().map_err(broken)?;
    }
    Ok(text)
}

/// One line per peer.
///
/// # Errors
/// Where the chart cannot be drawn.
pub fn lines(
    curves: &[Curve],
    x_title: &str,
    y_title: &str,
    axis: Axis,
    scale: Scale,
) -> Result<String> {
    let all = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let (mut first, mut last, mut top) = (f64::INFINITY, 0.0_f64, 0.0_f64);
    for (x, y) in all() {
        first = first.min(x);
        last = last.max(x);
        top = top.max(y);
    }
    if !first.is_finite() {
        return Err(anyhow!("a chart has no points"));
    }
    let top = if top > 0.0 { top * 1.08 } else { 1.0 };
    let frame = Frame {
        x_title,
        y_title,
        axis,
        scale,
    };
    if axis == Axis::Even {
        let last = if last > first { last } else { first + 1.0 };
        return frame.draw(curves, first..last, 0.0..top);
    }
    let (first, last) = (
        first.max(0.5),
        if last > first { last } else { first * 2.0 },
    );
    frame.draw(curves, (first..last).log_scale().base(2.0), 0.0..top)
}

struct Frame<'a> {
    x_title: &'a str,
    y_title: &'a str,
    axis: Axis,
    scale: Scale,
}

impl Frame<'_> {
    fn draw<X, Y>(&self, curves: &[Curve], x: X, y: Y) -> Result<String>
    where
        X: AsRangedCoord<Value = f64>,
        X::CoordDescType: ValueFormatter<f64>,
        Y: AsRangedCoord<Value = f64>,
        Y::CoordDescType: ValueFormatter<f64>,
    {
        let mut text = String::new();
        {
            let area = SVGBackend::with_string(&mut text, (WIDTH / 2, 280)).into_drawing_area();
            area.fill(&WHITE).map_err(broken)?;
            let mut chart = ChartBuilder::on(&area)
                .margin(10)
                .margin_right(24)
                .x_label_area_size(40)
                .y_label_area_size(64)
                .build_cartesian_2d(x, y)
                .map_err(broken)?;
            chart
                .configure_mesh()
                .light_line_style(WHITE)
                .bold_line_style(RGBColor(225, 225, 225))
                .x_labels(6)
                .y_labels(5)
                .x_label_formatter(&|value| match self.axis {
                    Axis::Bytes => super::table::number(*value, "bytes"),
                    Axis::Doubling => format!("{value:.0}"),
                    Axis::Even => format!("{value:.1}"),
                })
                .y_label_formatter(&|value| match self.scale {
                    Scale::Bytes => super::table::number(*value, "bytes"),
                    Scale::Plain => super::table::number(*value, ""),
                })
                .x_desc(self.x_title)
                .y_desc(self.y_title)
                .label_style((FONT, 12))
                .axis_desc_style((FONT, 12))
                .draw()
                .map_err(broken)?;
            for curve in curves {
                let width = if curve.peer == "hakmem" { 3 } else { 2 };
                let style = colour(&curve.peer).stroke_width(width);
                chart
                    .draw_series(LineSeries::new(curve.points.iter().copied(), style))
                    .map_err(broken)?;
                let dots = curve
                    .points
                    .iter()
                    .map(|point| Circle::new(*point, width, colour(&curve.peer).filled()));
                chart.draw_series(dots).map_err(broken)?;
            }
            area.present().map_err(broken)?;
        }
        Ok(text)
    }
}

fn centred(size: u32) -> TextStyle<'static> {
    (FONT, size)
        .into_text_style(&(u32::MAX, u32::MAX))
        .color(&BLACK)
        .pos(Pos::new(HPos::Center, VPos::Bottom))
}

fn below(size: u32) -> TextStyle<'static> {
    centred(size).pos(Pos::new(HPos::Center, VPos::Top))
}

/// A group's name, cut to the room it has.
fn shortened(name: &str, groups: usize) -> String {
    let room = (WIDTH as usize / groups.max(1) / 7).max(4);
    if name.chars().count() <= room {
        return name.to_owned();
    }
    name.chars().take(room - 1).chain(['…']).collect()
}

fn broken(error: impl std::fmt::Display) -> anyhow::Error {
    anyhow!("a chart cannot be drawn: {error}")
}
