//! W3C trace context: <https://www.w3.org/TR/trace-context/>, version 00.
//! The gateway reads it, a sandbox passes it on with a span of its own.

use std::fmt;

/// Where a call stands in a distributed trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trace {
    /// The whole trace.
    pub trace: u128,
    /// The span that this call is.
    pub span: u64,
    /// The span that made the call, when the caller named one.
    pub parent: Option<u64>,
    /// The trace flags; bit 0 is `sampled`.
    pub flags: u8,
}

impl Trace {
    /// The trace of a call: a child of the caller's `traceparent`, or a new one, of random bits.
    pub fn of_call(traceparent: Option<&str>, trace: u128, span: u64) -> Self {
        // All zeroes are invalid identities.
        let span = span.max(1);
        match traceparent.and_then(Self::parse) {
            Some(caller) => Self { span, parent: Some(caller.span), ..caller },
            None => Self { trace: trace.max(1), span, parent: None, flags: 1 },
        }
    }

    fn parse(text: &str) -> Option<Self> {
        let hex = |digits: &str| {
            let ok = digits.bytes().all(|c| c.is_ascii_digit() || (b'a'..=b'f').contains(&c));
            ok.then(|| u128::from_str_radix(digits, 16).ok()).flatten()
        };
        let version = text.get(0..2)?;
        // A later version may append fields; `ff` is forbidden.
        if version == "ff" || hex(version).is_none() || (version == "00" && text.len() != 55) {
            return None;
        }
        let mut parts = text.get(..55)?.splitn(4, '-').skip(1);
        let (trace, span, flags) = (parts.next()?, parts.next()?, parts.next()?);
        if trace.len() != 32 || span.len() != 16 || flags.len() != 2 {
            return None;
        }
        if text.len() > 55 && text.as_bytes()[55] != b'-' {
            return None;
        }
        let (trace, span, flags) = (hex(trace)?, hex(span)?, hex(flags)?);
        (trace != 0 && span != 0).then_some(Self {
            trace,
            span: u64::try_from(span).ok()?,
            parent: None,
            flags: u8::try_from(flags).ok()?,
        })
    }
}

/// The `traceparent` to pass on.
impl Trace {
    /// The value of a `traceparent` header: version 00, in ASCII.
    pub fn traceparent(&self) -> [u8; 55] {
        let mut text = *b"00-00000000000000000000000000000000-0000000000000000-00";
        write_hex(&mut text[3..35], &self.trace.to_be_bytes());
        write_hex(&mut text[36..52], &self.span.to_be_bytes());
        write_hex(&mut text[53..], &[self.flags]);
        text
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(std::str::from_utf8(&self.traceparent()).unwrap_or_default())
    }
}

/// Writes two digits for each byte; both ends are as long as the shorter allows.
pub(crate) fn write_hex(text: &mut [u8], bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        pair[0] = DIGITS[usize::from(byte >> 4)];
        pair[1] = DIGITS[usize::from(byte & 15)];
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CALLER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn a_call_is_a_child_of_its_caller() {
        let trace = Trace::of_call(Some(CALLER), 7, 9);
        assert_eq!(trace.to_string(), "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000009-01");
        assert_eq!(trace.parent, Some(0x00f0_67aa_0ba9_02b7));
    }

    #[test]
    fn a_later_version_is_read_by_its_known_fields() {
        let later = format!("cc{}-what-comes", &CALLER[2..]);
        assert_eq!(Trace::of_call(Some(&later), 7, 9).parent, Some(0x00f0_67aa_0ba9_02b7));
    }

    #[test]
    fn a_broken_traceparent_begins_a_new_trace() {
        let broken = [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ];
        for text in broken {
            assert_eq!(
                Trace::of_call(Some(text), 7, 9).to_string(),
                format!("00-{:032x}-{:016x}-01", 7, 9),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = Trace::of_call(Some(&text), 1, 1);
        }
    }
}
