//! `tenure bench curve`: what one step, and one run, cost against how much work there is, as a drawing.
//!
//! A flat line is what is wanted: work that costs more a piece the more of it there is has something
//! in it that grows.

use std::fmt::Write as _;
use std::path::PathBuf;

use super::figure::{Measured, median};
use super::load::{Bench, Workload};

/// Each size is this much more work than the one before.
const FACTOR: f64 = 4.0;
/// How many sizes there are; the last is that of the workload itself.
const SIZES: i32 = 5;
/// The drawing, in its own units, and the room for its words.
const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const BELOW: f64 = 50.0;
/// A colour for each line; they differ in lightness, too.
const COLOURS: [&str; 2] = ["#1b5e9e", "#d9822b"];

/// Where the drawing goes.
#[derive(Debug, clap::Args)]
pub struct CurveArgs {
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    svg: PathBuf,
    /// Repetitions of each size; the median is drawn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..=100))]
    runs: u32,
    /// Grows or shrinks the work of the largest size.
    #[arg(long, default_value_t = 1.0)]
    scale: f64,
    /// The most visits in flight.
    #[arg(long, default_value_t = 512)]
    pub(super) in_flight: usize,
}

/// A line of the drawing: its name, and for each size the pieces of work and the microseconds each.
struct Line {
    name: &'static str,
    points: Vec<(f64, f64)>,
}

/// Measures and draws.
pub(super) async fn run(args: &CurveArgs, bench: &mut Bench) -> anyhow::Result<()> {
    let mut lines = Vec::new();
    for (name, workload, metric, whole) in [
        (
            "a run of one step",
            Workload::OneStep,
            "complete_runs_per_s",
            20_000.0,
        ),
        ("a step of ten", Workload::TenSteps, "steps_per_s", 50_000.0),
    ] {
        let mut points = Vec::new();
        for size in (0..SIZES).rev() {
            let scale = args.scale / FACTOR.powi(size);
            bench.set_scale(scale);
            let mut costs = Vec::new();
            for _ in 0..args.runs {
                let measured = workload.measure(bench).await?;
                costs.push(1e6 / rate(&measured, metric)?);
            }
            let pieces = (whole * scale).max(1.0);
            outln!("{name}: {pieces:.0} pieces, {:.1} µs each", median(&costs));
            points.push((pieces, median(&costs)));
        }
        lines.push(Line { name, points });
    }
    std::fs::write(&args.svg, draw(&lines))?;
    outln!("wrote {}", args.svg.display());
    Ok(())
}

fn rate(measured: &Measured, metric: &str) -> anyhow::Result<f64> {
    let found = measured.iter().find(|(name, _)| name == metric);
    let rate = found.map(|(_, rate)| *rate).filter(|rate| *rate > 0.0);
    rate.ok_or_else(|| anyhow::anyhow!("nothing was done in a round"))
}

/// Draws the lines: the work from left to right, each size as far from the one before; the cost from
/// zero up.
fn draw(lines: &[Line]) -> String {
    let all = || lines.iter().flat_map(|line| &line.points);
    let works = |pick: fn(f64, f64) -> f64, begin: f64| all().map(|(x, _)| *x).fold(begin, pick);
    let (least, most) = (works(f64::min, f64::MAX), works(f64::max, 1.0));
    let top = all().map(|(_, y)| *y).fold(0.0, f64::max) * 1.1;
    let span = (most / least).ln().max(f64::EPSILON);
    let x = |work: f64| LEFT + (work / least).ln() / span * (WIDTH - LEFT - 20.0);
    let y = |cost: f64| HEIGHT - BELOW - cost / top.max(f64::EPSILON) * (HEIGHT - BELOW - 30.0);
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" \
         font-family=\"sans-serif\" font-size=\"12\">\n\
         <title>Cost of a piece of work against how much there is</title>\n\
         <rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    let (floor, right) = (y(0.0), WIDTH - 20.0);
    for part in 0..=4 {
        let cost = top * f64::from(part) / 4.0;
        let at = y(cost);
        let _ = writeln!(
            svg,
            "<line x1=\"{LEFT}\" y1=\"{at:.1}\" x2=\"{right}\" y2=\"{at:.1}\" stroke=\"#ddd\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{cost:.0} µs</text>",
            LEFT - 6.0,
            at + 4.0
        );
    }
    for (nth, line) in lines.iter().enumerate() {
        let colour = COLOURS[nth % COLOURS.len()];
        let points = line.points.iter();
        let path: Vec<_> = points
            .map(|(work, cost)| format!("{:.1},{:.1}", x(*work), y(*cost)))
            .collect();
        let _ = writeln!(
            svg,
            "<polyline fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\" points=\"{}\"/>\
             <text x=\"{:.1}\" y=\"{:.1}\" fill=\"{colour}\">{}</text>",
            path.join(" "),
            LEFT + 10.0,
            20.0 + 16.0 * nth as f64,
            line.name
        );
        for (work, cost) in &line.points {
            let (x, y) = (x(*work), y(*cost));
            let _ = writeln!(
                svg,
                "<circle cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"3\" fill=\"{colour}\"/>\
                 <text x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\" fill=\"{colour}\">{work:.0}</text>",
                floor + 16.0 + 14.0 * nth as f64
            );
        }
    }
    svg.push_str("</svg>\n");
    svg
}

#[cfg(test)]
mod tests {
    use super::{Line, draw};

    #[test]
    fn every_point_is_inside_and_more_cost_is_higher_up() {
        let points = vec![(10.0, 50.0), (100.0, 25.0), (1000.0, 100.0)];
        let svg = draw(&[Line {
            name: "a step",
            points,
        }]);
        let centres = svg.split("cy=\"").skip(1);
        let heights: Vec<f64> = centres
            .filter_map(|rest| rest.split('"').next()?.parse().ok())
            .collect();
        assert_eq!(heights.len(), 3);
        assert!(heights[1] > heights[0] && heights[0] > heights[2], "{svg}");
        assert!(heights.iter().all(|y| (0.0..400.0).contains(y)), "{svg}");
        assert!(svg.ends_with("</svg>\n"));
    }
}
