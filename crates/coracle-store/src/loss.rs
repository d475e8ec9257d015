//! Attempts that ended with their holder: who had begun with the message, when, and in which attempt.
//! Written by each database when it gives a message back for a holder that is gone, and read with the message.

use jiff::Timestamp;

use crate::Holder;

/// The most bytes that a message keeps of its losses; of more, the first are told.
pub(crate) const LOSSES_BYTES_MAX: usize = 16 << 10;

/// An attempt whose holder went away and said nothing of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// The how-manieth lease of the message it was.
    pub attempt: u32,
    /// Who had it.
    pub holder: Holder,
    /// When it had begun.
    pub since: Timestamp,
}

/// Losses from their text: a line for each, with the attempt, the microseconds since 1970, and the holder, whose name
/// may have blanks and has no line break.
pub(crate) fn read(lines: Option<&str>) -> Vec<Loss> {
    lines.unwrap_or_default().lines().filter_map(read_line).collect()
}

/// A loss as a line of that text.
pub(crate) fn line(attempt: i32, since: i64, holder: &Holder) -> String {
    format!("{attempt} {since} {holder}\n")
}

fn read_line(line: &str) -> Option<Loss> {
    let (attempt, rest) = line.split_once(' ')?;
    let (since, holder) = rest.split_once(' ')?;
    let since = Timestamp::from_microsecond(since.parse().ok()?).ok()?;
    Some(Loss { attempt: attempt.parse().ok()?, holder: Holder::new(holder).ok()?, since })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_reads_back_and_what_is_not_ours_is_left_out() {
        let since = Timestamp::from_microsecond(1_700_000_000_000_001).unwrap();
        let loss = |attempt, holder| Loss { attempt, holder: Holder::new(holder).unwrap(), since };
        let losses = [loss(1, "ann's machine"), loss(7, "ann é 2")];
        let mut text: String = losses
            .iter()
            .map(|loss| line(loss.attempt.cast_signed(), since.as_microsecond(), &loss.holder))
            .collect();
        text.push_str("8 1 \nx y z\n9\n9223372036854775807 1 ann");
        assert_eq!(read(Some(&text)), losses);
        assert_eq!(read(None), []);
    }
}
