//! Values as Go's flag package reads and prints them: the contract of every flag.

/// Why a number was not read, in the words of Go's flag package.
pub(super) const PARSE_ERROR: &str = "parse error";
const OUT_OF_RANGE: &str = "value out of range";

/// Reads a boolean as `strconv.ParseBool` does.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Reads an unsigned number with an optional prefix of base, up to `max`.
pub(super) fn parse_uint(text: &str, max: u64) -> Result<u64, &'static str> {
    let (digits, radix) = match text.as_bytes() {
        [b'0', b'x' | b'X', ..] => (&text[2..], 16),
        [b'0', b'o' | b'O', ..] => (&text[2..], 8),
        [b'0', b'b' | b'B', ..] => (&text[2..], 2),
        [b'0', _, ..] => (&text[1..], 8),
        _ => (text, 10),
    };
    if digits.is_empty() || !digits.chars().all(|c| c.is_digit(radix)) {
        return Err(PARSE_ERROR);
    }
    let value = u64::from_str_radix(digits, radix).map_err(|_| OUT_OF_RANGE)?;
    if value > max { Err(OUT_OF_RANGE) } else { Ok(value) }
}

/// Reads a signed number with an optional prefix of base.
pub(super) fn parse_int(text: &str) -> Result<i64, &'static str> {
    let (negative, digits) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    let magnitude = i128::from(parse_uint(digits, u64::MAX)?);
    let value = if negative { -magnitude } else { magnitude };
    i64::try_from(value).map_err(|_| OUT_OF_RANGE)
}

const UNITS: [(&str, i128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("\u{b5}s", 1_000),
    ("\u{3bc}s", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60_000_000_000),
    ("h", 3_600_000_000_000),
];

/// Reads a duration such as `1h30m` or `-1.5s`, in nanoseconds.
pub(super) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, &text[1..]),
        Some(b'+') => (false, &text[1..]),
        _ => (false, text),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total: i128 = 0;
    while !rest.is_empty() {
        let unit_at = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at(unit_at);
        let unit_end = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(unit_end);
        let (_, scale) = UNITS.iter().find(|(name, _)| *name == unit)?;
        total = total.checked_add(scaled(number, *scale)?)?;
        rest = tail;
    }
    i64::try_from(if negative { -total } else { total }).ok()
}

/// A decimal number times `scale`, rounded down.
fn scaled(number: &str, scale: i128) -> Option<i128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && fraction.is_empty()) || fraction.contains('.') {
        return None;
    }
    let whole: i128 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    let mut total = whole.checked_mul(scale)?;
    let mut digit_scale = scale;
    for digit in fraction.bytes() {
        digit_scale /= 10;
        total += i128::from(digit - b'0') * digit_scale;
    }
    Some(total)
}

/// A duration as Go prints it: `1h0m0s`, `1.5s`, `300ms`, `0s`.
pub(super) fn print_duration(ns: i64) -> String {
    let sign = if ns < 0 { "-" } else { "" };
    let ns = ns.unsigned_abs();
    let text = match ns {
        0 => "0s".to_owned(),
        1..1_000 => format!("{ns}ns"),
        1_000..1_000_000 => format!("{}\u{b5}s", decimal(ns, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", decimal(ns, 6)),
        _ => {
            let seconds = decimal(ns % 60_000_000_000, 9);
            let minutes = ns / 60_000_000_000;
            match (minutes / 60, minutes % 60) {
                (0, 0) => format!("{seconds}s"),
                (0, minutes) => format!("{minutes}m{seconds}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{seconds}s"),
            }
        }
    };
    format!("{sign}{text}")
}

/// `value` / 10^`places` without trailing zeros.
fn decimal(value: u64, places: u32) -> String {
    let one = 10u64.pow(places);
    let (whole, fraction) = (value / one, value % one);
    if fraction == 0 {
        return whole.to_string();
    }
    let digits = format!("{fraction:0width$}", width = places as usize);
    format!("{whole}.{}", digits.trim_end_matches('0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_as_in_go() {
        let cases: [(&str, Result<u64, &str>); 9] = [
            ("0", Ok(0)),
            ("42", Ok(42)),
            ("0x10", Ok(16)),
            ("010", Ok(8)),
            ("", Err(PARSE_ERROR)),
            ("-1", Err(PARSE_ERROR)),
            ("abc", Err(PARSE_ERROR)),
            ("4294967296", Err(OUT_OF_RANGE)),
            ("99999999999999999999", Err(OUT_OF_RANGE)),
        ];
        for (text, expect) in cases {
            assert_eq!(parse_uint(text, u64::from(u32::MAX)), expect, "{text}");
        }
        assert_eq!(parse_int("-9223372036854775808"), Ok(i64::MIN));
        assert_eq!(parse_int("9223372036854775808"), Err(OUT_OF_RANGE));
        assert_eq!(parse_int("--1"), Err(PARSE_ERROR));
    }

    #[test]
    fn durations_read_and_print_as_in_go() {
        let cases = [
            ("0", Some(0), "0s"),
            ("5s", Some(5_000_000_000), "5s"),
            ("2h", Some(7_200_000_000_000), "2h0m0s"),
            ("1h30m5.5s", Some(5_405_500_000_000), "1h30m5.5s"),
            ("300ms", Some(300_000_000), "300ms"),
            ("1.5us", Some(1_500), "1.5\u{b5}s"),
            ("-1m", Some(-60_000_000_000), "-1m0s"),
            (".5s", Some(500_000_000), "500ms"),
        ];
        for (text, expect, printed) in cases {
            assert_eq!(parse_duration(text), expect, "{text}");
            assert_eq!(print_duration(expect.unwrap_or(0)), printed);
        }
        for bad in ["", "5", "s", "5x", ".s", "1..2s", "99999999999h", "5 s"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }
}
