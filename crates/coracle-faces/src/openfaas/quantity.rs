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
    let mut rest = text.strip_prefix('+').unwrap_or(text);
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
