//! A line chart as inline SVG. What a pointer shows is in the chart's own attribute; `page.js`
//! reads it.

use std::fmt::Write as _;

use serde::Serialize;

use super::units;

/// Room around the plot, for labels.
const LEFT: f64 = 84.0;
const RIGHT: f64 = 32.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 50.0;
/// Colours that `page.css` names.
pub(super) const COLOURS: usize = 8;

/// An axis: where a value stands, and what is written beside it.
#[derive(Debug)]
pub(super) struct Axis {
    title: String,
    /// Places with a line; those with a text are labelled.
    ticks: Vec<(f64, Option<String>)>,
    low: f64,
    high: f64,
    is_log: bool,
    show: fn(f64) -> String,
}

/// How a line is drawn: for what it shows, where the colour is for whose it is.
#[derive(Clone, Copy, Debug)]
pub(super) enum Stroke {
    Solid,
    Dashed,
    Dotted,
}

#[derive(Debug)]
pub(super) struct Line {
    pub(super) name: String,
    /// The position of its run.
    pub(super) run: usize,
    pub(super) stroke: Stroke,
    pub(super) points: Vec<(f64, f64)>,
}

#[derive(Debug)]
pub(super) struct Chart {
    /// What it shows, for those who cannot see it.
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line>,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// What the pointer shows of one line: its points with their texts.
#[derive(Serialize)]
struct Hover<'a> {
    name: &'a str,
    colour: usize,
    points: Vec<(f64, f64, String, String)>,
}

impl Axis {
    /// From nothing to `highest`, in even steps.
    pub(super) fn linear(title: &str, highest: f64, show: fn(f64) -> String) -> Axis {
        Axis::steps(title, highest, 1.0, show)
    }

    /// The same for bytes, where steps are even in KiB, MiB and so on.
    pub(super) fn bytes(title: &str, highest: f64) -> Axis {
        let power = highest.max(1.0).log(1024.0).floor();
        Axis::steps(title, highest, 1024_f64.powf(power), units::bytes)
    }

    fn steps(title: &str, highest: f64, unit: f64, show: fn(f64) -> String) -> Axis {
        let highest = if highest > 0.0 { highest } else { 1.0 };
        let step = round_up(highest / unit / 6.0) * unit;
        let steps = (highest / step).ceil();
        // Six or fewer.
        let ticks = (0..=steps as u32).map(|at| f64::from(at) * step);
        let ticks = ticks.map(|at| (at, Some(label(at, show)))).collect();
        Axis { title: title.to_owned(), ticks, low: 0.0, high: steps * step, is_log: false, show }
    }

    /// Of time since the window opened. It ends where the data does.
    pub(super) fn seconds(highest: f64) -> Axis {
        let show = |seconds: f64| format!("{}", (seconds * 10.0).round() / 10.0);
        let title = "seconds since the warm-up ended";
        let mut axis = Axis::linear(title, highest, show);
        axis.high = if highest > 0.0 { highest } else { 1.0 };
        axis.ticks.retain(|(at, _)| *at <= axis.high);
        axis
    }

    /// From the lowest to the highest of `values`, by powers of ten. Only values above 0 have a
    /// place on it.
    pub(super) fn log(
        title: &str,
        values: impl Iterator<Item = f64>,
        show: fn(f64) -> String,
    ) -> Axis {
        let positive = values.filter(|value| *value > 0.0 && value.is_finite());
        let bounds = positive.fold(None, |bounds: Option<(f64, f64)>, value| {
            let (low, high) = bounds.unwrap_or((value, value));
            Some((low.min(value), high.max(value)))
        });
        let (lowest, highest) = bounds.unwrap_or((1.0, 10.0));
        let high = round_up(highest * 1.000_001);
        let low = (1.0 / round_up(1.0 / lowest)).min(high / 2.0);
        let is_narrow = high / low <= 300.0;
        let mut ticks = Vec::new();
        let (first, last) = (low.log10().floor(), high.log10().ceil());
        // A float has some 600 powers of ten.
        for power in first as i32..=last as i32 {
            for factor in [1.0, 2.0, 5.0] {
                let at = factor * 10_f64.powi(power);
                if at >= low * 0.999 && at <= high * 1.001 {
                    let is_labelled = is_narrow || factor == 1.0;
                    ticks.push((at, is_labelled.then(|| label(at, show))));
                }
            }
        }
        Axis { title: title.to_owned(), ticks, low, high, is_log: true, show }
    }

    /// Of percentiles: a place is minus the logarithm of the share above it, so that 90 %, 99 %
    /// and 99.9 % are equally far from each other. `most` is the number of samples.
    pub(super) fn nines(title: &str, most: u64) -> Axis {
        let high = (most.max(10) as f64).log10();
        let mut ticks = vec![(0.0, Some("0%".to_owned())), (nines(0.5), Some("50%".to_owned()))];
        // Twenty digits hold every count.
        for power in 1..=high as u32 {
            ticks.push((f64::from(power), Some(show_nines(f64::from(power)))));
        }
        Axis { title: title.to_owned(), ticks, low: 0.0, high, is_log: false, show: show_nines }
    }

    /// 0 to 1 from one end of the axis to the other.
    fn share(&self, value: f64) -> f64 {
        let share = if self.is_log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        };
        share.clamp(0.0, 1.0)
    }

    fn has(&self, value: f64) -> bool {
        value.is_finite() && (!self.is_log || value > 0.0)
    }
}

/// A round figure without the zeros behind its point.
fn label(value: f64, show: fn(f64) -> String) -> String {
    let text = show(value);
    let end = text.find(|c: char| c != '.' && !c.is_ascii_digit()).unwrap_or(text.len());
    let (figure, unit) = text.split_at(end);
    if !figure.contains('.') {
        return text;
    }
    format!("{}{unit}", figure.trim_end_matches('0').trim_end_matches('.'))
}

/// The place of a quantile on `Axis::nines`.
pub(super) fn nines(quantile: f64) -> f64 {
    -(1.0 - quantile).log10()
}

fn show_nines(place: f64) -> String {
    let percent = 100.0 * (1.0 - 10_f64.powf(-place));
    // A place is below 20.
    let decimals = (place.ceil() as usize).saturating_sub(2);
    let is_round = (place - place.round()).abs() < 1e-9;
    let decimals = if is_round { decimals } else { decimals + 2 };
    format!("{percent:.decimals$}%")
}

/// The next of 1, 2 and 5 by a power of ten.
fn round_up(value: f64) -> f64 {
    let power = 10_f64.powf(value.log10().floor());
    let digit = value / power;
    // A hair above is where rounding put it.
    let rounded = [1.0, 2.0, 5.0].into_iter().find(|step| digit <= step * 1.000_000_1);
    rounded.unwrap_or(10.0) * power
}

/// Text of any origin inside of HTML, as content or in a quoted attribute.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out
}

impl Chart {
    fn place(&self, (x, y): (f64, f64)) -> (f64, f64) {
        let across = self.x.share(x) * (self.width - LEFT - RIGHT);
        let up = self.y.share(y) * (self.height - TOP - BOTTOM);
        let tenth = |value: f64| (value * 10.0).round() / 10.0;
        (tenth(LEFT + across), tenth(self.height - BOTTOM - up))
    }

    /// The chart as an SVG element.
    pub(super) fn svg(&self) -> String {
        let Chart { width, height, .. } = self;
        let mut out = String::new();
        let _ = write!(
            out,
            "<svg viewBox=\"0 0 {width} {height}\" role=\"img\" aria-label=\"{}\" \
             data-lines=\"{}\">",
            escape(&self.title),
            escape(&self.hover()),
        );
        self.grid(&mut out);
        for line in &self.lines {
            self.line(&mut out, line);
        }
        let (top, bottom) = (TOP, height - BOTTOM);
        let _ = write!(
            out,
            "<line class=\"ruler\" y1=\"{top}\" y2=\"{bottom}\" visibility=\"hidden\"/></svg>"
        );
        out
    }

    fn grid(&self, out: &mut String) {
        let (right, bottom) = (self.width - RIGHT, self.height - BOTTOM);
        for (at, label) in &self.y.ticks {
            let (_, y) = self.place((self.x.low, *at));
            let class = if label.is_some() { "grid" } else { "grid fine" };
            let _ = write!(out, "<path class=\"{class}\" d=\"M{LEFT} {y}H{right}\"/>");
            if let Some(label) = label {
                let (x, y, label) = (LEFT - 8.0, y + 4.0, escape(label));
                let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" class=\"end\">{label}</text>");
            }
        }
        for (at, label) in &self.x.ticks {
            let (x, _) = self.place((*at, self.y.low));
            let _ = write!(out, "<path class=\"grid\" d=\"M{x} {TOP}V{bottom}\"/>");
            let (y, label) = (bottom + 19.0, escape(label.as_deref().unwrap_or("")));
            let _ = write!(out, "<text x=\"{x}\" y=\"{y}\" class=\"middle\">{label}</text>");
        }
        let (middle, low) = (f64::midpoint(LEFT, right), self.height - 8.0);
        let title = escape(&self.x.title);
        let _ = write!(out, "<text x=\"{middle}\" y=\"{low}\" class=\"middle\">{title}</text>");
        let (middle, title) = (f64::midpoint(TOP, bottom), escape(&self.y.title));
        let _ = write!(
            out,
            "<text transform=\"translate(14 {middle}) rotate(-90)\" class=\"middle\">{title}</text>"
        );
    }

    fn line(&self, out: &mut String, line: &Line) {
        let mut path = String::new();
        let mut is_drawing = false;
        for point in &line.points {
            if !self.y.has(point.1) {
                is_drawing = false;
                continue;
            }
            let (x, y) = self.place(*point);
            let _ = write!(path, "{}{x} {y}", if is_drawing { 'L' } else { 'M' });
            is_drawing = true;
        }
        if line.points.len() == 1 {
            // A lone point is a short stroke, since a path of one point is invisible.
            path.push_str("h3");
        }
        let stroke = match line.stroke {
            Stroke::Solid => "solid",
            Stroke::Dashed => "dashed",
            Stroke::Dotted => "dotted",
        };
        let colour = line.run % COLOURS;
        let _ = write!(out, "<path class=\"line {stroke} c{colour}\" d=\"{path}\"/>");
    }

    fn hover(&self) -> String {
        let points = |line: &Line| {
            let seen = line.points.iter().filter(|(_, y)| self.y.has(*y));
            let shown = seen.map(|point| {
                let (x, y) = self.place(*point);
                (x, y, (self.x.show)(point.0), (self.y.show)(point.1))
            });
            shown.collect()
        };
        let lines = self.lines.iter().map(|line| Hover {
            name: &line.name,
            colour: line.run % COLOURS,
            points: points(line),
        });
        let lines: Vec<Hover<'_>> = lines.collect();
        serde_json::to_string(&lines).expect("texts and finite numbers are JSON")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(axis: &Axis) -> Vec<&str> {
        axis.ticks.iter().filter_map(|(_, label)| label.as_deref()).collect()
    }

    #[test]
    fn axes_have_round_ends() {
        let linear = Axis::linear("a", 4_321.0, units::short);
        assert_eq!(labels(&linear), ["0", "1k", "2k", "3k", "4k", "5k"]);
        assert_eq!((linear.low, linear.high), (0.0, 5000.0));
        assert_eq!(labels(&Axis::linear("a", 0.0, units::short)).len(), 6);
        let bytes = Axis::bytes("a", 150.0 * 1024.0 * 1024.0);
        assert_eq!(labels(&bytes), ["0 B", "50 MiB", "100 MiB", "150 MiB"]);
        let log = Axis::log("a", [1.3e6, 0.0, 0.37e6].into_iter(), units::time);
        assert_eq!(labels(&log), ["200 us", "500 us", "1 ms", "2 ms"]);
        let wide = Axis::log("a", [100.0, 2e9].into_iter(), units::time);
        assert_eq!(labels(&wide)[..3], ["100 ns", "1 us", "10 us"]);
        assert!(wide.ticks.len() > labels(&wide).len(), "lines between labels");
        let flat = Axis::log("a", [100.0].into_iter(), units::time);
        assert!(flat.high > flat.low && flat.share(100.0) <= 1.0);
        assert!(!labels(&Axis::log("a", std::iter::empty(), units::time)).is_empty());
    }

    #[test]
    fn nines_are_equally_far_from_each_other() {
        let axis = Axis::nines("a", 100_000);
        assert_eq!(labels(&axis), ["0%", "50%", "90%", "99%", "99.9%", "99.99%", "99.999%"]);
        assert!((axis.share(nines(0.99)) - 0.4).abs() < 1e-9);
        assert_eq!(show_nines(2.5), "99.684%");
    }

    #[test]
    fn texts_are_escaped() {
        assert_eq!(escape("<a b='c'>\"&\u{1b}"), "&lt;a b=&#39;c&#39;&gt;&quot;&amp; ");
    }

    #[test]
    fn a_line_is_drawn_where_its_values_are() {
        let line = |points: Vec<(f64, f64)>| Line {
            name: "x".to_owned(),
            run: 9,
            stroke: Stroke::Dashed,
            points,
        };
        let chart = Chart {
            title: "t".to_owned(),
            x: Axis::linear("x", 10.0, units::short),
            y: Axis::log("y", [1.0, 100.0].into_iter(), units::short),
            // Nothing is drawn where there is no logarithm.
            lines: vec![
                line(vec![(0.0, 1.0), (5.0, 10.0), (6.0, 0.0), (10.0, 100.0)]),
                line(vec![(5.0, 10.0)]),
            ],
            width: 100.0 + LEFT + RIGHT,
            height: 100.0 + TOP + BOTTOM,
        };
        let svg = chart.svg();
        let high = chart.y.high;
        assert!(high >= 100.0, "{high}");
        assert!(svg.contains("class=\"line dashed c1\" d=\"M84 114L134"), "{svg}");
        assert_eq!(svg.matches('M').count(), 1 + 1 + 1 + chart.y.ticks.len() + chart.x.ticks.len());
        assert!(svg.contains("h3\"/>"), "a lone point is visible");
        assert!(svg.contains("[134.0,"), "the pointer finds points: {svg}");
    }
}
