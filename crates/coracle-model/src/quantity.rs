//! Sizes, spans of time and shares of processors as people write them: `128MiB`, `30s`, `500m`.
//! Manifests, the API and the CLI read them; settings hold plain numbers.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A text that is not a quantity of the kind asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {wanted}")]
pub struct InvalidQuantity {
    text: String,
    wanted: &'static str,
}

/// A number of bytes.
///
/// Written `128MiB`, `64KiB`, `1GiB`, or in powers of ten `5MB`; a bare number is bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct ByteSize(pub u64);

const BYTE_UNITS: [(&str, u64); 11] = [
    ("GiB", 1 << 30),
    ("MiB", 1 << 20),
    ("KiB", 1 << 10),
    ("Gi", 1 << 30),
    ("Mi", 1 << 20),
    ("Ki", 1 << 10),
    ("GB", 1_000_000_000),
    ("MB", 1_000_000),
    ("KB", 1_000),
    ("kB", 1_000),
    ("B", 1),
];

impl FromStr for ByteSize {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity {
            text: text.into(),
            wanted: "a size: write `128MiB`, `64KiB` or a number of bytes",
        };
        let (digits, unit) = BYTE_UNITS
            .iter()
            .find_map(|(name, unit)| Some((text.strip_suffix(name)?.trim_end(), *unit)))
            .unwrap_or((text, 1));
        let number: u64 = digits.parse().map_err(|_| invalid())?;
        number.checked_mul(unit).map(Self).ok_or_else(invalid)
    }
}

/// The largest binary unit that loses nothing.
impl fmt::Display for ByteSize {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let exact =
            BYTE_UNITS.iter().take(3).find(|(_, unit)| self.0 >= *unit && self.0.is_multiple_of(*unit));
        match exact {
            Some((name, unit)) => f.pad(&format!("{}{name}", self.0 / unit)),
            None => f.pad(&format!("{}B", self.0)),
        }
    }
}

/// A span of time.
///
/// Written `250ms`, `30s`, `5m`, `2h`; also in parts, `1m30s`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Span(pub Duration);

const SPAN_UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

impl FromStr for Span {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity {
            text: text.into(),
            wanted: "a span of time: write `250ms`, `30s`, `5m` or `1m30s`",
        };
        let mut rest = text;
        let mut total_ms: u64 = 0;
        while !rest.is_empty() {
            let digits = rest.find(|c: char| !c.is_ascii_digit()).ok_or_else(invalid)?;
            let number: u64 = rest[..digits].parse().map_err(|_| invalid())?;
            rest = &rest[digits..];
            let letters = rest.find(|c: char| c.is_ascii_digit()).unwrap_or(rest.len());
            let (_, unit) =
                SPAN_UNITS.iter().find(|(name, _)| *name == &rest[..letters]).ok_or_else(invalid)?;
            total_ms =
                number.checked_mul(*unit).and_then(|ms| total_ms.checked_add(ms)).ok_or_else(invalid)?;
            rest = &rest[letters..];
        }
        if text.is_empty() { Err(invalid()) } else { Ok(Self(Duration::from_millis(total_ms))) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut ms = u64::try_from(self.0.as_millis()).unwrap_or(u64::MAX);
        if ms == 0 {
            return f.pad("0s");
        }
        let mut text = String::new();
        for (name, unit) in SPAN_UNITS.iter().rev() {
            if ms >= *unit {
                text += &format!("{}{name}", ms / unit);
                ms %= unit;
            }
        }
        f.pad(&text)
    }
}

macro_rules! as_text {
    ($($quantity:ty),*) => {$(
        impl From<$quantity> for String {
            fn from(quantity: $quantity) -> Self {
                quantity.to_string()
            }
        }

        impl TryFrom<String> for $quantity {
            type Error = InvalidQuantity;

            fn try_from(text: String) -> Result<Self, InvalidQuantity> {
                text.parse()
            }
        }
    )*};
}
as_text!(ByteSize, Span, Cores);

/// Processor time, in thousandths of one core.
///
/// Written `500m`, or in cores `1`, `1.5`, `0.25`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Cores(pub u32);

impl FromStr for Cores {
    type Err = InvalidQuantity;

    fn from_str(text: &str) -> Result<Self, InvalidQuantity> {
        let invalid = || InvalidQuantity {
            text: text.into(),
            wanted: "a share of processors: write `500m` for half a core, `1` or `1.5`",
        };
        let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|c| c.is_ascii_digit());
        // A number of thousandths, of which the last three may be behind a point.
        let (whole, part) = match text.strip_suffix('m') {
            Some(millis) => (millis, "".to_owned()),
            None => {
                let (whole, part) = text.split_once('.').unwrap_or((text, "0"));
                if !is_number(part) || part.len() > 3 {
                    return Err(invalid());
                }
                (whole, format!("{part:0<3}"))
            }
        };
        // Asked, because a number would take a sign.
        if !is_number(whole) {
            return Err(invalid());
        }
        format!("{whole}{part}").parse().map(Self).map_err(|_| invalid())
    }
}

/// Whole cores as a number, everything else in thousandths.
impl fmt::Display for Cores {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_multiple_of(1_000) {
            f.pad(&format!("{}", self.0 / 1_000))
        } else {
            f.pad(&format!("{}m", self.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_people_write_them() {
        let table = [
            ("128MiB", 128 << 20),
            ("64 KiB", 64 << 10),
            ("1GiB", 1 << 30),
            ("5MB", 5_000_000),
            ("17", 17),
            ("9B", 9),
            ("256Mi", 256 << 20),
        ];
        for (text, bytes) in table {
            assert_eq!(text.parse(), Ok(ByteSize(bytes)), "{text}");
        }
        for bad in ["", "MiB", "-1MiB", "1.5MiB", "128 XiB", "99999999999GiB"] {
            assert!(bad.parse::<ByteSize>().is_err(), "{bad}");
        }
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        let table = [
            ("250ms", 250),
            ("30s", 30_000),
            ("5m", 300_000),
            ("1m30s", 90_000),
            ("2h", 7_200_000),
            ("1d", 86_400_000),
        ];
        for (text, ms) in table {
            assert_eq!(text.parse(), Ok(Span(Duration::from_millis(ms))), "{text}");
        }
        for bad in ["", "30", "s", "-1s", "1.5s", "1w", "99999999999999999d"] {
            assert!(bad.parse::<Span>().is_err(), "{bad}");
        }
    }

    #[test]
    fn shares_of_processors_are_read_as_people_write_them() {
        let table =
            [("500m", 500), ("1", 1_000), ("1.5", 1_500), ("0.25", 250), ("0.125", 125), ("2000m", 2_000)];
        for (text, millis) in table {
            assert_eq!(text.parse(), Ok(Cores(millis)), "{text}");
        }
        for bad in ["", "m", "-1", "+1", "1.", ".5", "1.+5", "1.5m", "0.1234", "2 cores", "99999999999"] {
            assert!(bad.parse::<Cores>().is_err(), "{bad}");
        }
    }

    proptest::proptest! {
        #[test]
        fn quantities_read_back_as_they_were_shown(bytes: u64, ms in 0u64..u64::MAX / 2, millis: u32) {
            assert_eq!(Cores(millis).to_string().parse(), Ok(Cores(millis)));
            assert_eq!(ByteSize(bytes).to_string().parse(), Ok(ByteSize(bytes)));
            let span = Span(Duration::from_millis(ms));
            assert_eq!(span.to_string().parse(), Ok(span));
        }
    }
}
