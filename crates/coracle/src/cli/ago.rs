//! Times and quantities as people read them in a table: `3m ago`, `1.2 ms`, `4.0 MiB`.
//! The verbs that list things use it.

use coracle_model::Clock as _;
use coracle_observe::clock::System;
use jiff::Timestamp;

/// How long ago something was, in its largest unit.
pub(super) fn ago(then: Timestamp) -> String {
    match System.now().duration_since(then).as_secs() {
        ..1 => "now".to_owned(),
        seconds => format!("{} ago", span(seconds.unsigned_abs())),
    }
}

/// Seconds, in their largest unit.
pub(super) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m", seconds / 60),
        3_600..86_400 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Milliseconds with as many digits as matter.
pub(super) fn millis(ms: f64) -> String {
    match ms {
        ..10.0 => format!("{ms:.2} ms"),
        10.0..1_000.0 => format!("{ms:.0} ms"),
        _ => format!("{:.1} s", ms / 1_000.0),
    }
}

/// Microseconds, as [`millis`].
#[expect(clippy::cast_precision_loss, reason = "for people; nobody reads the sixteenth digit")]
pub(super) fn micros(us: u64) -> String {
    millis(us as f64 / 1_000.0)
}

/// Bytes in their largest unit, rounded.
#[expect(clippy::cast_precision_loss, reason = "for people; nobody reads the sixteenth digit")]
pub(super) fn bytes(bytes: u64) -> String {
    let scaled = |shift: u32| bytes as f64 / (1_u64 << shift) as f64;
    match bytes {
        0..1_024 => format!("{bytes} B"),
        1_024..1_048_576 => format!("{:.1} KiB", scaled(10)),
        1_048_576..1_073_741_824 => format!("{:.1} MiB", scaled(20)),
        _ => format!("{:.1} GiB", scaled(30)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantities_are_short_enough_for_a_table() {
        assert_eq!([span(59), span(61), span(7_200), span(200_000)], ["59s", "1m", "2h", "2d"]);
        assert_eq!([micros(120), micros(42_000), micros(1_500_000)], ["0.12 ms", "42 ms", "1.5 s"]);
        assert_eq!([bytes(9), bytes(1_536), bytes(64 << 20)], ["9 B", "1.5 KiB", "64.0 MiB"]);
    }
}
