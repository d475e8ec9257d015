//! Spans of time as watchdogs read them: whole seconds, or Go's `1m30s`.
//! The settings of a watchdog and its header `X-Timeout` are of this kind.

use std::time::Duration;

/// Go's units, in nanoseconds.
const UNITS: [(&str, f64); 7] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// The longest span, in nanoseconds: more than a function may ever run.
const NANOS_MAX: f64 = 366.0 * 24.0 * 3600e9;

/// Reads seconds, or a span with units.
pub(super) fn seconds_or_span(text: &str) -> Option<Duration> {
    match text.parse::<u32>() {
        Ok(seconds) => Some(Duration::from_secs(seconds.into())),
        Err(_) => span(text),
    }
}

/// Reads a span with units: numbers and their units, one after the other; `0` alone needs none.
pub(super) fn span(text: &str) -> Option<Duration> {
    if text == "0" {
        return Some(Duration::ZERO);
    }
    let (mut rest, mut nanos) = (text, 0.0);
    while !rest.is_empty() || text.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').filter(|end| *end > 0)?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit_ends = rest[digits..].find(|c: char| c.is_ascii_digit() || c == '.');
        let unit = &rest[digits..][..unit_ends.unwrap_or(rest.len() - digits)];
        nanos += number * UNITS.iter().find(|(name, _)| *name == unit)?.1;
        rest = &rest[digits + unit.len()..];
    }
    (nanos <= NANOS_MAX).then(|| Duration::from_nanos(nanos.round() as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_and_spans_are_read_as_go_reads_them() {
        let ms = Duration::from_millis;
        let table = [
            ("30", Some(ms(30_000))),
            ("0", Some(ms(0))),
            ("0s", Some(ms(0))),
            ("1m30s", Some(ms(90_000))),
            ("1.5h", Some(ms(5_400_000))),
            ("250ms", Some(ms(250))),
            ("1s500ms", Some(ms(1_500))),
            (".5s", Some(ms(500))),
            ("", None),
            ("s", None),
            ("-1s", None),
            ("1.2.3s", None),
            ("10 s", None),
            ("5d", None),
            ("1.5", None),
            ("99999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(seconds_or_span(text), expected, "{text}");
        }
        assert_eq!((span("10"), span("10s")), (None, Some(ms(10_000))), "a header has units");
    }
}
