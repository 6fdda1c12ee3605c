//! Runs as one page that needs nothing else: charts as inline SVG, tables, and a little script
//! for values under the pointer. Runs are overlaid, each in its colour.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use super::chart::{Axis, COLOURS, Chart, Line, Stroke, escape, nines};
use super::latencies::Latencies;
use super::result::{CostPoint, Point, Run, Series};
use super::table::{self, Grid};
use super::units;

/// Steps of a line over percentiles.
const PERCENTILE_STEPS: u32 = 240;
/// Intervals shorter than this have no rate: a few operations in a moment look like many.
const RATE_MS_MIN: u64 = 250;
/// Sizes of charts, in pixels of a wide window.
const WIDE: (f64, f64) = (1080.0, 380.0);
const NARROW: (f64, f64) = (528.0, 280.0);

/// The page.
#[must_use]
pub fn page(runs: &[Run]) -> String {
    let names = table::names(runs);
    let grids = table::grids(runs);
    let scenarios: BTreeSet<&str> = runs.iter().map(|run| run.scenario.as_str()).collect();
    let title = scenarios.into_iter().collect::<Vec<&str>>().join(", ");
    let title = escape(&format!("ringbolt bench: {title}"));
    let mut out = String::new();
    let _ = write!(
        out,
        "<!doctype html>\n<html lang=\"en\">\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; \
         style-src 'unsafe-inline'; script-src 'unsafe-inline'\">\n\
         <title>{title}</title>\n<style>\n{}</style>\n<h1>{title}</h1>\n",
        include_str!("page.css"),
    );
    head(&mut out, runs, &names);
    for grid in grids.iter().filter(|grid| grid.title == table::NOTES) {
        notes(&mut out, grid, &names);
    }
    let is_server = |grid: &&Grid| [table::SERVERS, table::GENERATOR].contains(&grid.title);
    let is_first = |grid: &&Grid| grid.title != table::NOTES && !is_server(grid);
    for grid in grids.iter().filter(is_first) {
        table(&mut out, grid, &names);
    }
    for name in series_names(runs) {
        operation(&mut out, runs, &names, name);
    }
    costs(&mut out, runs, &names);
    for grid in grids.iter().filter(is_server) {
        table(&mut out, grid, &names);
    }
    let script = include_str!("page.js");
    let _ = write!(out, "<div id=\"tip\" hidden></div>\n<script>\n{script}</script>\n</html>\n");
    out
}

fn swatch(run: usize) -> String {
    format!("<span class=\"swatch c{}\"></span>", run % COLOURS)
}

fn head(out: &mut String, runs: &[Run], names: &[String]) {
    out.push_str("<ul class=\"runs\">\n");
    for (at, (run, name)) in runs.iter().zip(names).enumerate() {
        let _ = writeln!(
            out,
            "<li>{}<b>{}</b> {}<code>{}</code><details><summary>command line</summary>\
             <code>{}</code></details></li>",
            swatch(at),
            escape(name),
            escape(&table::headline(run)),
            escape(&table::parameters(run)),
            escape(&run.command.join(" ")),
        );
    }
    out.push_str("</ul>\n");
}

fn key(out: &mut String, names: &[String]) {
    out.push_str("<p class=\"key\">");
    for (at, name) in names.iter().enumerate() {
        let _ = write!(out, "<span>{}{}</span>", swatch(at), escape(name));
    }
    out.push_str("</p>\n");
}

fn notes(out: &mut String, grid: &Grid, names: &[String]) {
    out.push_str("<div class=\"notes\">");
    for (run, cells) in &grid.rows {
        let text = escape(&cells.join(" "));
        let _ = write!(out, "<p>{}<b>{}</b>: {text}</p>", swatch(*run), escape(&names[*run]));
    }
    out.push_str("</div>\n");
}

fn table(out: &mut String, grid: &Grid, names: &[String]) {
    let class = |column: usize| if column >= grid.figures_from { "figure" } else { "text" };
    let _ = write!(out, "<h3>{}</h3>\n<div class=\"scroll\"><table>\n<tr>", escape(grid.title));
    for (column, name) in grid.head.iter().enumerate() {
        let _ = write!(out, "<th class=\"{}\">{}</th>", class(column), escape(name));
    }
    out.push_str("</tr>\n");
    for (run, cells) in &grid.rows {
        let _ = write!(out, "<tr><td>{}{}</td>", swatch(*run), escape(&names[*run]));
        for (column, cell) in cells.iter().enumerate() {
            let _ = write!(out, "<td class=\"{}\">{}</td>", class(column + 1), escape(cell));
        }
        out.push_str("</tr>\n");
    }
    out.push_str("</table></div>\n");
}

fn figure(out: &mut String, caption: &str, strokes: &str, chart: &Chart) {
    let _ = writeln!(
        out,
        "<figure><figcaption>{}<span>{}</span></figcaption>{}</figure>",
        escape(caption),
        escape(strokes),
        chart.svg()
    );
}

/// The names of all series, in the order in which they first appear.
fn series_names(runs: &[Run]) -> Vec<&str> {
    let mut names = Vec::new();
    for series in runs.iter().flat_map(|run| &run.series) {
        let is_idle = series.latency.is_empty() && series.errors.is_empty();
        if !is_idle && !names.contains(&series.name.as_str()) {
            names.push(series.name.as_str());
        }
    }
    names
}

/// Everything about one kind of operation.
fn operation(out: &mut String, runs: &[Run], names: &[String], name: &str) {
    let found: Vec<(usize, &Series)> = runs
        .iter()
        .enumerate()
        .flat_map(|(at, run)| run.series.iter().map(move |series| (at, series)))
        .filter(|(_, series)| series.name == name)
        .collect();
    let _ = writeln!(out, "<h2>{}</h2>", escape(name));
    key(out, names);
    let has_service = found.iter().any(|(_, series)| series.service != series.latency);
    let strokes = if has_service { "solid: from when due, dashed: from sending" } else { "" };
    figure(out, "Latency by percentile", strokes, &percentiles(&found, names));
    out.push_str("<div class=\"pair\">\n");
    let strokes = "solid: p50, dashed: p99, dotted: max";
    figure(out, "Latency over time", strokes, &latency_over_time(&found, names));
    let rate = |point: &Point| per_second(point.done, point.length_ms);
    let rates = over_time(&found, names, "answers per second", rate);
    figure(out, "Rate over time", "", &rates);
    out.push_str("</div>\n");
    if found.iter().all(|(_, series)| series.errors.is_empty()) {
        out.push_str("<p class=\"key\">No errors.</p>\n");
        return;
    }
    let rate = |point: &Point| per_second(point.errors, point.length_ms);
    let errors = over_time(&found, names, "errors per second", rate);
    out.push_str("<div class=\"pair\">\n");
    figure(out, "Errors over time", "", &errors);
    out.push_str("</div>\n");
}

fn percentiles(found: &[(usize, &Series)], names: &[String]) -> Chart {
    let mut lines = Vec::new();
    let mut most = 0;
    for (run, series) in found.iter().filter(|(_, series)| !series.latency.is_empty()) {
        most = most.max(series.latency.count());
        lines.push(Line {
            name: names[*run].clone(),
            run: *run,
            stroke: Stroke::Solid,
            points: percentile_points(&series.latency),
        });
        if series.service != series.latency {
            lines.push(Line {
                name: format!("{} from sending", names[*run]),
                run: *run,
                stroke: Stroke::Dashed,
                points: percentile_points(&series.service),
            });
        }
    }
    let values = lines.iter().flat_map(|line| line.points.iter().map(|(_, ns)| *ns));
    let y = Axis::log("latency (logarithmic)", values, units::time);
    let x = Axis::nines("percentile", most);
    let (width, height) = WIDE;
    Chart { title: "Latency by percentile".to_owned(), x, y, lines, width, height }
}

/// The latency at even steps between no nines and as many as there are samples for; the last is
/// the longest of all.
fn percentile_points(latencies: &Latencies) -> Vec<(f64, f64)> {
    let end = (latencies.count() as f64).log10();
    let step = |at: u32| {
        let place = end * f64::from(at) / f64::from(PERCENTILE_STEPS);
        (place, latencies.quantile_ns(1.0 - 10_f64.powf(-place)) as f64)
    };
    let mut points: Vec<(f64, f64)> = (0..PERCENTILE_STEPS).map(step).collect();
    // One sample has no nines.
    points.push((end.max(nines(0.0)), latencies.max_ns() as f64));
    points
}

fn end_seconds(at_ms: u64, length_ms: u64) -> f64 {
    at_ms.saturating_add(length_ms) as f64 / 1000.0
}

fn per_second(count: u64, length_ms: u64) -> Option<f64> {
    (length_ms >= RATE_MS_MIN).then(|| count as f64 * 1000.0 / length_ms as f64)
}

fn highest(lines: &[Line], of: fn(&(f64, f64)) -> f64) -> f64 {
    lines.iter().flat_map(|line| line.points.iter().map(of)).fold(0.0, f64::max)
}

fn latency_over_time(found: &[(usize, &Series)], names: &[String]) -> Chart {
    let mut lines = Vec::new();
    type Shown = (&'static str, Stroke, fn(&Point) -> u64);
    let shown: [Shown; 3] = [
        ("p50", Stroke::Solid, |point| point.p50_ns),
        ("p99", Stroke::Dashed, |point| point.p99_ns),
        ("max", Stroke::Dotted, |point| point.max_ns),
    ];
    for (run, series) in found {
        for (name, stroke, value) in &shown {
            let place =
                |point: &Point| (end_seconds(point.at_ms, point.length_ms), value(point) as f64);
            lines.push(Line {
                name: format!("{} {name}", names[*run]),
                run: *run,
                stroke: *stroke,
                points: series.points.iter().map(place).collect(),
            });
        }
    }
    let values = lines.iter().flat_map(|line| line.points.iter().map(|(_, ns)| *ns));
    let y = Axis::log("latency (logarithmic)", values, units::time);
    let x = Axis::seconds(highest(&lines, |(x, _)| *x));
    let (width, height) = NARROW;
    Chart { title: "Latency over time".to_owned(), x, y, lines, width, height }
}

fn over_time(
    found: &[(usize, &Series)],
    names: &[String],
    title: &str,
    value: impl Fn(&Point) -> Option<f64>,
) -> Chart {
    let line = |(run, series): &(usize, &Series)| {
        let place =
            |point: &Point| Some((end_seconds(point.at_ms, point.length_ms), value(point)?));
        Line {
            name: names[*run].clone(),
            run: *run,
            stroke: Stroke::Solid,
            points: series.points.iter().filter_map(place).collect(),
        }
    };
    let axis = |highest| Axis::linear(title, highest, units::short);
    timed(title, found.iter().map(line).collect(), axis)
}

fn timed(title: &str, lines: Vec<Line>, axis: impl Fn(f64) -> Axis) -> Chart {
    let y = axis(highest(&lines, |(_, y)| *y));
    let x = Axis::seconds(highest(&lines, |(x, _)| *x));
    let (width, height) = NARROW;
    Chart { title: format!("{title} over time"), x, y, lines, width, height }
}

/// What the servers cost over time.
fn costs(out: &mut String, runs: &[Run], names: &[String]) {
    out.push_str("<h2>Costs</h2>\n");
    if runs.iter().all(|run| run.servers.iter().all(|server| server.points.is_empty())) {
        out.push_str("<p class=\"key\">No server could be looked at from here.</p>\n");
        return;
    }
    key(out, names);
    let chart = |title: &str, value: fn(&CostPoint) -> Option<f64>, axis: fn(&str, f64) -> Axis| {
        let mut lines = Vec::new();
        for (run, server) in
            runs.iter().enumerate().flat_map(|(at, run)| run.servers.iter().map(move |s| (at, s)))
        {
            let is_alone = runs[run].servers.len() == 1;
            let place = |point: &CostPoint| {
                Some((end_seconds(point.at_ms, point.length_ms), value(point)?))
            };
            let name = &names[run];
            lines.push(Line {
                name: if is_alone { name.clone() } else { format!("{name} {}", server.endpoint) },
                run,
                stroke: Stroke::Solid,
                points: server.points.iter().filter_map(place).collect(),
            });
        }
        timed(title, lines, |highest| axis(title, highest))
    };
    let cores = chart(
        "cores busy",
        |point| per_second(point.cpu_us, point.length_ms).map(|us| us / 1e6),
        |title, highest| Axis::linear(title, highest, units::digits),
    );
    let memory = chart("resident memory", |point| Some(point.rss_bytes as f64), Axis::bytes);
    let written = chart(
        "written to devices per second",
        |point| per_second(point.written_bytes, point.length_ms),
        Axis::bytes,
    );
    out.push_str("<div class=\"pair\">\n");
    figure(out, "CPU of the server", "", &cores);
    figure(out, "Memory of the server", "", &memory);
    figure(out, "Bytes written by the server", "", &written);
    out.push_str("</div>\n");
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::bench::samples;

    #[test]
    fn a_page_stands_alone_and_is_well_formed() {
        let page = page(&[samples::run("ringbolt", 1), samples::run("etcd", 3)]);
        for outside in ["http://", "https://", "src=", "href=", "url(", "@import", "//cdn"] {
            assert!(!page.contains(outside), "{outside}");
        }
        for element in ["svg", "table", "figure", "ul", "li", "tr", "td", "h2", "div", "script"] {
            let opened = page.matches(&format!("<{element}>")).count()
                + page.matches(&format!("<{element} ")).count();
            assert_eq!(opened, page.matches(&format!("</{element}>")).count(), "{element}");
        }
        for shown in ["Latency by percentile", "Rate over time", "Errors over time", "99.9%"] {
            assert!(page.contains(shown), "{shown}");
        }
        assert!(!page.contains("NaN") && !page.contains("inf"));
    }

    #[test]
    fn runs_are_overlaid_in_their_colours() {
        let found = page(&[samples::run("a", 1), samples::run("b", 3)]);
        // By percentile; p50, p99 and max; rate; errors; CPU, memory, bytes.
        for colour in ["c0", "c1"] {
            let lines = ["solid", "dashed", "dotted"]
                .map(|stroke| found.matches(&format!("\"line {stroke} {colour}\"")).count());
            assert_eq!(lines, [7, 1, 1], "{colour}");
        }
        assert!(!found.contains("range</h2>"), "nothing happened to it");
    }

    #[test]
    fn hostile_text_is_text() {
        let evil = "</script><script>alert(1)</script>\" onload=\"x' <img src=x>";
        let mut run = samples::run(evil, 1);
        run.scenario = evil.to_owned();
        run.endpoints = vec![evil.to_owned()];
        run.parameters[0].value = evil.to_owned();
        run.series[0].name = evil.to_owned();
        run.series[0].errors.insert(evil.to_owned(), 1);
        run.servers[0].endpoint = evil.to_owned();
        run.figures[0].unit = evil.to_owned();
        run.notes = vec![evil.to_owned()];
        let found = page(&[run.clone(), run]);
        assert_eq!(found.matches("<script").count(), 1);
        assert_eq!(found.matches("</script").count(), 1);
        assert!(!found.contains("<img") && !found.contains("onload=\""));
        assert!(found.contains("&lt;img"));
    }

    #[test]
    fn percentiles_end_at_the_longest() {
        let mut latencies = Latencies::default();
        for ns in 1..=1000 {
            latencies.record(ns * 1000);
        }
        let points = percentile_points(&latencies);
        assert_eq!(points.first(), Some(&(0.0, 1000.0)));
        assert_eq!(points.last(), Some(&(3.0, latencies.max_ns() as f64)));
        let median = points.iter().find(|(place, _)| *place >= nines(0.5)).expect("a median");
        assert!((median.1 / 500_000.0 - 1.0).abs() < 0.03, "{median:?}");
        assert!(points.windows(2).all(|pair| pair[0].1 <= pair[1].1));
    }

    #[test]
    fn extremes_have_a_page() {
        let mut run = samples::run("a", 1);
        run.series[0].latency.clear();
        run.series[0].latency.record(0);
        run.series[0].points.truncate(1);
        run.series[0].points[0].length_ms = 0;
        run.servers.clear();
        run.measured_seconds = 0.0;
        for runs in [vec![], vec![Run::default()], vec![run]] {
            let found = page(&runs);
            assert!(found.ends_with("</html>\n"));
            assert!(!found.contains("NaN") && !found.contains("inf"), "{found}");
        }
    }
}
