//! Memory and processors as Kubernetes writes them (`64Mi`, `0.5`, `500m`), and spans of time as Go does (`1m30s`).
//! Limits of a deployment, labels and the environment of a watchdog are read here.
//!
//! Sources: kubernetes:staging/src/k8s.io/apimachinery/pkg/api/resource/quantity.go, go:src/time/format.go.

use std::time::Duration;

/// The most digits of a quantity that count: more could not be told apart from rounding.
const DIGITS_MAX: usize = 30;

const BINARY: [(&str, u32); 6] = [("Ki", 10), ("Mi", 20), ("Gi", 30), ("Ti", 40), ("Pi", 50), ("Ei", 60)];
const DECIMAL: [(&str, i32); 9] =
    [("n", -9), ("u", -6), ("m", -3), ("k", 3), ("M", 6), ("G", 9), ("T", 12), ("P", 15), ("E", 18)];

/// A size in bytes, rounded up to a whole one: `64Mi`, `128M`, `1.5G`, `1e9`.
pub fn bytes(text: &str) -> Option<u64> {
    Quantity::parse(text)?.times_ten_to(0)
}

/// Processor time in thousandths of a core, rounded up: `0.5`, `500m`, `2`.
pub fn millicores(text: &str) -> Option<u32> {
    Quantity::parse(text)?.times_ten_to(3)?.try_into().ok()
}

/// A span of time: a whole number of seconds, or Go's `1h30m`, `1.5s`, `250ms`.
pub fn span(text: &str) -> Option<Duration> {
    if let Ok(seconds) = text.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let text = text.strip_prefix('+').unwrap_or(text);
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(end);
        let unit_end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(unit_end);
        total = total.checked_add(in_unit(number, unit)?)?;
        rest = after;
    }
    (!text.is_empty()).then_some(total)
}

fn in_unit(number: &str, unit: &str) -> Option<Duration> {
    let unit_ns: u64 = match unit {
        "ns" => 1,
        "us" | "µs" | "μs" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
    // Digits beyond the twelfth are far below a nanosecond of any unit.
    let fraction = &fraction[..fraction.len().min(12)];
    let part: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let part_ns = u128::from(part) * u128::from(unit_ns) / 10u128.pow(fraction.len() as u32);
    let nanos = whole.checked_mul(unit_ns)?.checked_add(u64::try_from(part_ns).ok()?)?;
    Some(Duration::from_nanos(nanos))
}

/// `digits` × 10^`tens` × 2^`twos`.
struct Quantity {
    digits: u128,
    tens: i32,
    twos: u32,
}

impl Quantity {
    /// Reads a number that is not negative, with one of the suffixes or an exponent.
    fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix('+').unwrap_or(text);
        let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, suffix) = text.split_at(end);
        let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
        if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
            return None;
        }
        let fraction = fraction.trim_end_matches('0');
        let digits = format!("{whole}{fraction}");
        let digits = match digits.trim_start_matches('0') {
            "" => 0,
            digits if digits.len() > DIGITS_MAX => return None,
            digits => digits.parse().ok()?,
        };
        let (exponent, twos) = suffix_of(suffix)?;
        let tens = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
        Some(Self { digits, tens, twos })
    }

    /// The number times a power of ten, rounded up; `None` where it does not fit.
    fn times_ten_to(&self, power: i32) -> Option<u64> {
        if self.digits == 0 {
            return Some(0);
        }
        let tens = self.tens.checked_add(power)?;
        let factor = 10u128.checked_pow(tens.unsigned_abs());
        let scaled = self.digits.checked_mul(1 << self.twos)?;
        let rounded = match (tens < 0, factor) {
            (true, Some(factor)) => scaled.div_ceil(factor),
            // So small that it rounds up to the least there is.
            (true, None) => 1,
            (false, factor) => scaled.checked_mul(factor?)?,
        };
        rounded.try_into().ok()
    }
}

/// The power of ten and the power of two that a suffix stands for.
fn suffix_of(suffix: &str) -> Option<(i32, u32)> {
    if suffix.is_empty() {
        return Some((0, 0));
    }
    if let Some((_, twos)) = BINARY.iter().find(|(name, _)| *name == suffix) {
        return Some((0, *twos));
    }
    if let Some((_, tens)) = DECIMAL.iter().find(|(name, _)| *name == suffix) {
        return Some((*tens, 0));
    }
    let exponent = suffix.strip_prefix(['e', 'E'])?;
    Some((exponent.parse().ok()?, 0))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn memory_is_read_as_kubernetes_does() {
        let table = [
            ("0", Some(0)),
            ("64Mi", Some(64 << 20)),
            ("128M", Some(128_000_000)),
            ("1Gi", Some(1 << 30)),
            ("1G", Some(1_000_000_000)),
            ("1k", Some(1_000)),
            ("1Ki", Some(1_024)),
            ("1.5Gi", Some(3 << 29)),
            (".5Gi", Some(1 << 29)),
            ("5.Mi", Some(5 << 20)),
            ("1e9", Some(1_000_000_000)),
            ("1E9", Some(1_000_000_000)),
            ("1e+3", Some(1_000)),
            ("15e-1", Some(2)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("128m", Some(1)),
            ("1n", Some(1)),
            ("0.0000000000000000000000000000000000000000000001", Some(1)),
            ("+7", Some(7)),
            ("007.0", Some(7)),
            ("15Ei", Some(15 << 60)),
            ("16Ei", None),
            ("1e2000000000", None),
            ("1e99999999999", None),
            ("", None),
            (".", None),
            ("1.2.3", None),
            ("-1", None),
            ("64MB", None),
            ("64MiB", None),
            ("64 Mi", None),
            ("1K", None),
            ("1ki", None),
            ("lots", None),
            ("Mi", None),
            ("１", None),
        ];
        for (text, expected) in table {
            assert_eq!(bytes(text), expected, "{text}");
        }
    }

    #[test]
    fn processors_are_read_as_kubernetes_does() {
        let table = [
            ("500m", Some(500)),
            ("0.5", Some(500)),
            ("2", Some(2_000)),
            ("1.2345", Some(1_235)),
            ("100u", Some(1)),
            ("0", Some(0)),
            ("1k", Some(1_000_000)),
            ("1G", None),
            ("half", None),
            ("-1", None),
        ];
        for (text, expected) in table {
            assert_eq!(millicores(text), expected, "{text}");
        }
    }

    #[test]
    fn spans_are_read_as_go_does_and_as_seconds() {
        let table = [
            ("30", Some(30_000)),
            ("0", Some(0)),
            ("15m", Some(900_000)),
            ("1h30m", Some(5_400_000)),
            ("1.5s", Some(1_500)),
            (".5s", Some(500)),
            ("250ms", Some(250)),
            ("1m0.5s", Some(60_500)),
            ("+5s", Some(5_000)),
            ("", None),
            ("+", None),
            ("-5s", None),
            ("5", Some(5_000)),
            ("5x", None),
            ("s", None),
            ("1h30", None),
            ("1 h", None),
            ("1d", None),
            ("99999999999h", None),
        ];
        for (text, expected) in table {
            assert_eq!(span(text), expected.map(Duration::from_millis), "{text}");
        }
    }

    proptest! {
        #[test]
        fn no_text_is_too_strange_to_be_read(text in "\\PC{0,40}", number in "[0-9.]{0,40}[a-zA-Z]{0,2}[-+0-9]{0,12}") {
            for text in [text, number] {
                let _ = (bytes(&text), millicores(&text), span(&text));
            }
        }

        #[test]
        fn a_whole_number_of_any_unit_is_exact(count in 0u64..1_000_000) {
            for (name, twos) in BINARY.iter().take(4) {
                prop_assert_eq!(bytes(&format!("{count}{name}")), Some(count << twos));
            }
            prop_assert_eq!(bytes(&count.to_string()), Some(count));
            prop_assert_eq!(millicores(&format!("{count}m")), Some(count as u32));
            prop_assert_eq!(span(&format!("{count}s")), span(&count.to_string()));
        }
    }
}
