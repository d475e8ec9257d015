//! One invocation of a function, and what comes back.
//! The gateway makes calls, invoke runs them, a sandbox answers them.

use std::fmt;
use std::net::IpAddr;

use crate::trace::write_hex;
use crate::{Body, FunctionRef, Principal, Problem, Trace};

/// One invocation: a function and what it is asked.
///
/// Method, path (the function's own, without `/function/NAME`), headers and body are those of an HTTP request, whatever the trigger was.
#[derive(Debug)]
pub struct Call {
    /// Its identity, in logs and in `X-Call-Id`.
    pub id: CallId,
    /// What is called.
    pub function: FunctionRef,
    /// What the guest sees; in a box, because it passes through many hands.
    pub request: Box<http::Request<Body>>,
    /// Who calls.
    pub principal: Principal,
    /// Where in a distributed trace it stands.
    pub trace: Trace,
    /// The address of the client, when there is one.
    pub client: Option<IpAddr>,
}

/// What a function answers with: a head, and a body that may still be on its way.
pub type Reply = http::Response<Body>;

/// What comes back from a call.
///
/// The end of an outcome is the end of its body: a reply whose body ends with an error ended in the [`Problem`] named there.
pub type Outcome = Result<Reply, Box<Problem>>;

/// The identity of a call: what the caller sent as `X-Call-Id`, or 32 hexadecimal digits of ours.
///
/// Two are equal when their texts are: one of ours that comes back from a log or a URL is still itself.
#[derive(Clone)]
pub struct CallId(Identity);

#[derive(Clone)]
enum Identity {
    Ours([u8; 32]),
    Theirs(Box<str>),
}

/// The longest identity taken from a caller, in bytes.
const CALL_ID_BYTES_MAX: usize = 128;

impl CallId {
    /// An identity of ours, from 128 bits that nobody else has.
    pub fn from_bits(bits: u128) -> Self {
        let mut text = [0; 32];
        write_hex(&mut text, &bits.to_be_bytes());
        Self(Identity::Ours(text))
    }

    /// An identity that a caller chose: 1 to 128 visible ASCII characters, else `None`.
    pub fn parse(text: &str) -> Option<Self> {
        let fits = (1..=CALL_ID_BYTES_MAX).contains(&text.len());
        (fits && text.bytes().all(|c| c.is_ascii_graphic())).then(|| Self(Identity::Theirs(text.into())))
    }

    /// The identity as text; always valid in a header.
    pub fn as_str(&self) -> &str {
        match &self.0 {
            // The digits are ASCII by construction.
            Identity::Ours(text) => std::str::from_utf8(text).unwrap_or_default(),
            Identity::Theirs(text) => text,
        }
    }
}

impl PartialEq for CallId {
    fn eq(&self, other: &Self) -> bool {
        self.as_str() == other.as_str()
    }
}

impl Eq for CallId {}

impl std::hash::Hash for CallId {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        self.as_str().hash(state);
    }
}

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_identity_of_ours_is_32_digits() {
        assert_eq!(CallId::from_bits(0xab).as_str(), "000000000000000000000000000000ab");
    }

    #[test]
    fn an_identity_of_ours_that_was_read_back_is_the_same() {
        let ours = CallId::from_bits(0xab);
        assert_eq!(CallId::parse(ours.as_str()), Some(ours));
    }

    #[test]
    fn an_identity_that_could_break_a_header_or_a_log_is_not_taken() {
        assert_eq!(CallId::parse("order-17").map(|id| id.to_string()).as_deref(), Some("order-17"));
        let long = "x".repeat(CALL_ID_BYTES_MAX + 1);
        for bad in ["", "a b", "a\r\nb", "é", &long] {
            assert_eq!(CallId::parse(bad), None, "{bad:?}");
        }
    }
}
