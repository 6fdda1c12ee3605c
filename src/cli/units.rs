//! Figures as people read them: three digits and a unit.

use std::time::Duration;

use crate::runtime::log;

/// Three significant digits, without an exponent: `0.0123`, `1.23`, `12.3`, `1230`.
pub(super) fn digits(value: f64) -> String {
    let size = value.abs();
    if size == 0.0 || !size.is_finite() {
        return format!("{value:.0}");
    }
    // What rounds up to the next power of ten has its digits.
    let power = (size * 1.0005).log10().floor();
    // Between 0 and 9, whatever the value is.
    let decimals = (2.0 - power).clamp(0.0, 9.0) as usize;
    format!("{value:.decimals$}")
}

fn scaled(value: f64, step: f64, units: &[&str]) -> String {
    let (mut value, mut unit) = (value, 0);
    // What would be shown as a whole step belongs to the next unit.
    while value.abs() >= step * 0.9995 && unit + 1 < units.len() {
        value /= step;
        unit += 1;
    }
    if unit == 0 && value.fract() == 0.0 {
        return format!("{value:.0}{}", units[0]);
    }
    format!("{}{}", digits(value), units[unit])
}

/// `850 ns`, `1.23 ms`, `75.0 s`.
pub(super) fn time(ns: f64) -> String {
    scaled(ns, 1000.0, &[" ns", " us", " ms", " s"])
}

/// `512 B`, `1.50 KiB`.
pub(super) fn bytes(bytes: f64) -> String {
    scaled(bytes, 1024.0, &[" B", " KiB", " MiB", " GiB", " TiB"])
}

/// `950`, `12.3k`, `1.20M`: for axes.
pub(super) fn short(count: f64) -> String {
    scaled(count, 1000.0, &["", "k", "M", "G"])
}

/// `1,234,567`.
pub(super) fn count(count: u64) -> String {
    let plain = count.to_string();
    let mut text = String::with_capacity(plain.len() + plain.len() / 3);
    for (at, digit) in plain.chars().enumerate() {
        if at > 0 && (plain.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A rate: whole with separators from 100 on, else with three digits.
pub(super) fn rate(per_second: f64) -> String {
    // A rate is far from where a float loses whole numbers, and never negative.
    if per_second >= 99.95 { count(per_second.round() as u64) } else { digits(per_second) }
}

/// `2026-11-28 01:02:03 UTC`.
pub(super) fn date(unix_ms: u64) -> String {
    let mut text = String::new();
    // Beyond the year 9999 nothing was measured.
    log::put_time(&mut text, Duration::from_millis(unix_ms.min(253_402_300_799_999)));
    text.truncate("2026-11-28T01:02:03".len());
    text.replace('T', " ") + " UTC"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let cases = [
            (time(0.0), "0 ns"),
            (time(999.0), "999 ns"),
            (time(1_230.0), "1.23 us"),
            (time(999_600.0), "1.00 ms"),
            (time(99_960_000.0), "100 ms"),
            (time(75e9), "75.0 s"),
            (time(4_000e9), "4000 s"),
            (bytes(512.0), "512 B"),
            (bytes(1536.0), "1.50 KiB"),
            (bytes(0.25), "0.250 B"),
            (bytes(3.0 * 1024.0 * 1024.0 * 1024.0), "3.00 GiB"),
            (short(950.0), "950"),
            (short(12_345.0), "12.3k"),
            (short(2.5), "2.50"),
            (count(0), "0"),
            (count(123), "123"),
            (count(1_234_567), "1,234,567"),
            (rate(12_345.6), "12,346"),
            (rate(0.0213), "0.0213"),
            (digits(0.000_081_26), "0.0000813"),
            (digits(9.996), "10.0"),
            (date(0), "1970-01-01 00:00:00 UTC"),
            (date(1_795_827_723_999), "2026-11-28 01:02:03 UTC"),
            (date(u64::MAX), "9999-12-31 23:59:59 UTC"),
        ];
        for (found, expect) in cases {
            assert_eq!(found, expect);
        }
    }
}
