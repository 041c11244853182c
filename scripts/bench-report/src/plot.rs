//! The plots: lines over a size that doubles or grows tenfold, as SVG.

use std::fs;
use std::ops::Range;
use std::path::Path;

use anyhow::{Context, anyhow};
use plotters::coord::ranged1d::{AsRangedCoord, ValueFormatter};
use plotters::prelude::*;

use crate::number::short;
use crate::result::{Results, Value};

const SIZE: (u32, u32) = (720, 400);
const FONT: &str = "sans-serif";
const COLOURS: [RGBColor; 4] =
    [RGBColor(31, 119, 180), RGBColor(255, 127, 14), RGBColor(44, 160, 44), RGBColor(214, 39, 40)];

/// A plot that was written.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub(crate) title: &'static str,
    /// The path of the plot, as the document beside the folder links to it.
    pub(crate) link: String,
}

/// What one plot shows.
struct Plot {
    file: &'static str,
    title: &'static str,
    over: &'static str,
    /// What was varied: a part of the names of the cases.
    varied: &'static str,
    /// The factor by which the sizes grow.
    base: f64,
    /// Each line's label and value, for servers and embedded alike.
    lines: &'static [(&'static str, Shown)],
}

/// What a line shows.
#[derive(Clone, Copy)]
enum Shown {
    Figure(&'static str),
    Answer(&'static str),
}

const PLOTS: [Plot; 4] = [
    Plot {
        file: "throughput.svg",
        title: "Commands a second over connections",
        over: "connections",
        varied: "connections",
        base: 2.0,
        lines: &[("commands/s", Shown::Figure("done_per_second"))],
    },
    Plot {
        file: "latency.svg",
        title: "Latency of commands in ms over connections",
        over: "connections",
        varied: "connections",
        base: 2.0,
        lines: &[("p50", Shown::Answer("p50")), ("p99", Shown::Answer("p99"))],
    },
    Plot {
        file: "rebuild.svg",
        title: "Seconds to replay over events in the store",
        over: "events",
        varied: "events",
        base: 10.0,
        lines: &[("replay", Shown::Figure("replayed_seconds"))],
    },
    Plot {
        file: "drain.svg",
        title: "Events drained a second over partitions",
        over: "partitions",
        varied: "partitions",
        base: 2.0,
        lines: &[("events/s", Shown::Figure("visible_events_per_second"))],
    },
];

/// A line with its points.
struct Line {
    label: String,
    points: Vec<(f64, f64)>,
}

/// Draws every plot that has points into the folder, and returns which. A plot without points is removed, so that no
/// old one stays.
pub(crate) fn draw_all(results: &Results, folder: &Path) -> anyhow::Result<Vec<Drawn>> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let mut drawn = Vec::new();
    for plot in &PLOTS {
        let lines = lines(plot, results);
        let path = folder.join(plot.file);
        if lines.is_empty() {
            drop(fs::remove_file(path));
            continue;
        }
        let svg = draw(plot, &lines).with_context(|| format!("{} cannot be drawn", plot.file))?;
        fs::write(&path, svg).with_context(|| format!("{} cannot be written", path.display()))?;
        let name = folder.file_name().unwrap_or_default().to_string_lossy();
        drawn.push(Drawn { title: plot.title, link: format!("{name}/{}", plot.file) });
    }
    Ok(drawn)
}

fn lines(plot: &Plot, results: &Results) -> Vec<Line> {
    let mut lines = Vec::new();
    for place in ["servers", "embedded"] {
        for (label, shown) in plot.lines {
            let sizes = results.sizes(&format!("{place}-{}-", plot.varied), &shown.value());
            #[expect(clippy::cast_precision_loss, reason = "sizes are far below 2^53")]
            let points: Vec<(f64, f64)> = sizes.iter().map(|(size, spread)| (*size as f64, spread.median)).collect();
            if !points.is_empty() {
                lines.push(Line {
                    label: format!("{label}, {}", if place == "servers" { "on servers" } else { place }),
                    points,
                });
            }
        }
    }
    lines
}

impl Shown {
    fn value(self) -> Value {
        match self {
            Self::Figure(name) => Value::Figure(name.to_owned()),
            Self::Answer(at) => Value::Latency { of: "answer".to_owned(), at: at.to_owned() },
        }
    }
}

/// The plot as the text of an SVG file.
fn draw(plot: &Plot, lines: &[Line]) -> anyhow::Result<String> {
    let mut svg = String::new();
    let all = || lines.iter().flat_map(|line| &line.points);
    let (across, up) = (span(all().map(|point| point.0)), span(all().map(|point| point.1)));
    // Values that span more than two powers of ten can be told apart only on a logarithmic scale.
    if up.end / up.start > 100.0 {
        let up = (up.start / 1.5..up.end * 1.5).log_scale();
        draw_into(&mut svg, plot, lines, across, up)?;
    } else {
        draw_into(&mut svg, plot, lines, across, 0.0..up.end * 1.1)?;
    }
    Ok(svg)
}

fn span(values: impl Iterator<Item = f64>) -> Range<f64> {
    values.fold(f64::MAX..f64::MIN_POSITIVE, |span, value| span.start.min(value)..span.end.max(value))
}

fn draw_into<Y>(svg: &mut String, plot: &Plot, lines: &[Line], across: Range<f64>, up: Y) -> anyhow::Result<()>
where
    Y: AsRangedCoord<Value = f64>,
    Y::CoordDescType: ValueFormatter<f64>,
{
    let broken = |failure: &dyn std::fmt::Display| anyhow!("{failure}");
    let root = SVGBackend::with_string(svg, SIZE).into_drawing_area();
    root.fill(&WHITE).map_err(|failure| broken(&failure))?;
    let across = (across.start / 1.2..across.end * 1.2).log_scale().base(plot.base);
    let mut chart = ChartBuilder::on(&root)
        .caption(plot.title, (FONT, 18))
        .margin(12)
        .margin_right(40)
        .x_label_area_size(40)
        .y_label_area_size(70)
        .build_cartesian_2d(across, up)
        .map_err(|failure| broken(&failure))?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .bold_line_style(BLACK.mix(0.15))
        .x_desc(plot.over)
        .x_label_formatter(&|value| short(*value))
        .y_label_formatter(&|value| short(*value))
        .draw()
        .map_err(|failure| broken(&failure))?;
    for (Line { label, points }, colour) in lines.iter().zip(COLOURS) {
        let line = chart.draw_series(LineSeries::new(points.iter().copied(), colour.stroke_width(2)));
        line.map_err(|failure| broken(&failure))?
            .label(label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], colour.stroke_width(2)));
        let dots = points.iter().map(|point| Circle::new(*point, 3, colour.filled()));
        chart.draw_series(dots).map_err(|failure| broken(&failure))?;
    }
    let mut legend = chart.configure_series_labels();
    let legend =
        legend.position(SeriesLabelPosition::UpperLeft).background_style(WHITE.mix(0.8)).label_font((FONT, 13));
    legend.draw().map_err(|failure| broken(&failure))?;
    root.present().map_err(|failure| broken(&failure))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether every opened element is closed, in order.
    fn is_well_formed(svg: &str) -> bool {
        let mut open = Vec::new();
        for tag in svg.split('<').skip(1) {
            let Some((tag, _)) = tag.split_once('>') else { return false };
            let name = tag.trim_start_matches('/').split([' ', '/', '\n']).next().unwrap_or_default();
            match (tag.starts_with('/'), tag.ends_with('/') || tag.starts_with('?') || tag.starts_with('!')) {
                (true, _) if open.pop() != Some(name) => return false,
                (true, _) | (_, true) => {}
                (false, false) => open.push(name),
            }
        }
        open.is_empty() && svg.contains("<svg")
    }

    fn results(cases: &[(&str, f64)]) -> Results {
        let round = |seconds: &f64| {
            let text = format!(
                r#"{{"figures":{{"replayed_seconds":{seconds},"done_per_second":{seconds}}},
                     "latencies_ms":[{{"of":"answer","count":1,"p50":{seconds},"p99":9.0}}]}}"#
            );
            serde_json::from_str(&text).unwrap()
        };
        let cases = cases.iter().map(|(case, seconds)| ((*case).to_owned(), vec![round(seconds)]));
        Results { cases: cases.collect(), ..Results::default() }
    }

    #[test]
    fn a_plot_is_well_formed_and_has_all_its_points() {
        let folder = tempfile::tempdir().unwrap();
        let folder = folder.path().join("plots");
        let measured = results(&[
            ("servers-events-10000", 0.02),
            ("servers-events-100000", 0.3),
            ("servers-events-1000000", 3.5),
            ("embedded-events-10000", 0.01),
            ("servers-connections-1", 900.0),
            ("servers-connections-128", 20_000.0),
        ]);
        let drawn = draw_all(&measured, &folder).unwrap();
        let links: Vec<&str> = drawn.iter().map(|drawn| drawn.link.as_str()).collect();
        assert_eq!(links, ["plots/throughput.svg", "plots/latency.svg", "plots/rebuild.svg"]);
        for (file, points) in [("throughput.svg", 2), ("latency.svg", 4), ("rebuild.svg", 4)] {
            let svg = fs::read_to_string(folder.join(file)).unwrap();
            assert!(is_well_formed(&svg), "{svg}");
            assert_eq!(svg.matches("<circle").count(), points, "{svg}");
        }
    }

    #[test]
    fn what_is_not_well_formed_is_noticed() {
        assert!(is_well_formed("<svg><g><circle/></g></svg>"));
        assert!(!is_well_formed("<svg><g></svg></g>") && !is_well_formed("<svg><g>") && !is_well_formed("<svg"));
    }

    #[test]
    fn a_plot_of_earlier_results_does_not_stay() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("drain.svg"), "old").unwrap();
        assert!(draw_all(&results(&[]), folder.path()).unwrap().is_empty());
        assert!(!folder.path().join("drain.svg").exists());
    }
}
