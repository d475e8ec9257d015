//! The tiny guest ten thousand times, each with a number of its own that it answers.
//! `density.rs` deploys them, and knows by the answer whether the right one was called.

use std::fs;
use std::path::Path;

/// What the tiny guest answers; it stands once in its bytes, in the data that its code points to.
const ANSWER: &[u8; 3] = b"ok\n";

const DIGITS: &[u8; 36] = b"0123456789abcdefghijklmnopqrstuvwxyz";

/// As many as an answer of the same length can tell apart.
pub(super) const NUMBERS_MAX: usize = DIGITS.len().pow(ANSWER.len() as u32);

/// The tiny guest, and where its answer stands.
#[derive(Debug)]
pub(super) struct Tiny {
    wasm: Vec<u8>,
    at: usize,
}

impl Tiny {
    /// Reads the guest from its file.
    pub(super) fn read(file: &Path) -> Result<Self, String> {
        let wasm = fs::read(file).map_err(|error| format!("read {}: {error}", file.display()))?;
        Self::of(wasm).map_err(|what| format!("{}: {what}", file.display()))
    }

    fn of(wasm: Vec<u8>) -> Result<Self, String> {
        let mut places =
            wasm.windows(ANSWER.len()).enumerate().filter(|(_, bytes)| bytes == ANSWER).map(|(at, _)| at);
        match (places.next(), places.next()) {
            (Some(at), None) => Ok(Self { at, wasm }),
            _ => Err("its answer does not stand in it exactly once".to_owned()),
        }
    }

    /// The guest that answers this number: not in a section that nobody reads, but in what its code sends.
    pub(super) fn numbered(&self, number: usize) -> Vec<u8> {
        let mut wasm = self.wasm.clone();
        wasm[self.at..self.at + ANSWER.len()].copy_from_slice(&answer_of(number));
        wasm
    }
}

/// What the guest of a number answers: the number in base 36, as long as the answer was.
pub(super) fn answer_of(number: usize) -> [u8; ANSWER.len()] {
    assert!(number < NUMBERS_MAX, "{number} has too many digits");
    let base = DIGITS.len();
    [number / base / base, number / base % base, number % base].map(|digit| DIGITS[digit])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::root;

    #[test]
    fn the_tiny_guest_has_one_answer_to_replace() {
        let tiny = Tiny::read(&root().join(super::super::TINY)).unwrap();
        let (one, other) = (tiny.numbered(1), tiny.numbered(NUMBERS_MAX - 1));
        assert_eq!(one.len(), tiny.wasm.len());
        let differing = one.iter().zip(&other).filter(|(one, other)| one != other).count();
        assert_eq!(differing, ANSWER.len());
        assert!(other.windows(3).any(|bytes| bytes == b"zzz"));
    }

    #[test]
    fn a_guest_without_a_single_answer_is_refused() {
        assert!(Tiny::of(b"nothing".to_vec()).is_err());
        assert!(Tiny::of(b"ok\nok\n".to_vec()).is_err());
    }

    #[test]
    fn every_number_has_an_answer_of_its_own() {
        let answers: std::collections::HashSet<_> = (0..NUMBERS_MAX).map(answer_of).collect();
        assert_eq!(answers.len(), NUMBERS_MAX);
        assert_eq!(answer_of(36), *b"010");
    }
}
