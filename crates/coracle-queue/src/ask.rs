//! What is asked of the queue beside the call itself: when, in which order, how often, and who is told.
//! The gateway reads these from headers; here they are checked, once.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coracle_faces::callback::Form;
use coracle_model::{Call, Problem, Span, check_url, code};
use jiff::Timestamp;

/// The longest time for which a call may be put off.
pub const DELAY_MAX: Duration = Duration::from_secs(30 * 24 * 60 * 60);
/// The longest name of a group, in bytes.
pub const GROUP_BYTES_MAX: usize = 128;
/// The longest idempotency key, in bytes.
pub const ONCE_BYTES_MAX: usize = 256;

/// A call to be kept, run later, and not lost.
#[derive(Debug)]
pub struct Submission {
    /// What is called. Its body is read to the end before it is accepted.
    pub call: Call,
    /// When it is due.
    pub delay: Delay,
    /// Calls of one group run one at a time, in the order in which they were accepted.
    pub group: Option<Group>,
    /// The same key again, within a day, is the same call.
    pub once: Option<OnceKey>,
    /// Who is told how it ended.
    pub callback: Option<Callback>,
}

impl Submission {
    /// A call that is due at once, and of which nobody is told.
    pub fn new(call: Call) -> Self {
        Self { call, delay: Delay::None, group: None, once: None, callback: None }
    }
}

/// When a call is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Delay {
    /// At once.
    #[default]
    None,
    /// After this time.
    For(Duration),
    /// At this time; one that has passed is now.
    Until(Timestamp),
}

impl Delay {
    /// Reads a span such as `30s`, or a time such as `2026-12-24T18:00:00Z`.
    ///
    /// # Errors
    /// `invalid-delay`.
    pub fn parse(text: &str, now: Timestamp) -> Result<Self, Problem> {
        let (delay, ahead) = if let Ok(Span(span)) = text.parse() {
            (Self::For(span), span)
        } else if let Ok(at) = text.parse::<Timestamp>() {
            (Self::Until(at), Duration::try_from(at.duration_since(now)).unwrap_or_default())
        } else {
            return Err(Problem::new(&code::INVALID_DELAY, format!("`{}` is not a delay", shown(text)))
                .hint("write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`"));
        };
        if ahead > DELAY_MAX {
            return Err(Problem::new(
                &code::INVALID_DELAY,
                format!("the delay `{}` is longer than {}", shown(text), Span(DELAY_MAX)),
            )
            .hint("send the call later, or have it sent by something that keeps time"));
        }
        Ok(delay)
    }
}

/// The name of a group of calls.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Group(Arc<str>);

impl Group {
    /// Reads a name of 1 to [`GROUP_BYTES_MAX`] visible ASCII characters.
    ///
    /// # Errors
    /// `invalid-group`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if is_visible(text, GROUP_BYTES_MAX) {
            return Ok(Self(text.into()));
        }
        let message = format!("`{}` does not name a group", shown(text));
        Err(Problem::new(&code::INVALID_GROUP, message)
            .hint(format!("a group has a name of 1 to {GROUP_BYTES_MAX} visible ASCII characters")))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What makes a call that is sent twice one call.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OnceKey(Arc<str>);

impl OnceKey {
    /// Reads a key of 1 to [`ONCE_BYTES_MAX`] visible ASCII characters.
    ///
    /// # Errors
    /// `invalid-idempotency-key`.
    pub fn parse(text: &str) -> Result<Self, Problem> {
        if is_visible(text, ONCE_BYTES_MAX) {
            return Ok(Self(text.into()));
        }
        let message = match text.len() {
            0 => "the idempotency key is empty".to_owned(),
            bytes if bytes > ONCE_BYTES_MAX => {
                format!("the idempotency key has {bytes} bytes, at most {ONCE_BYTES_MAX} are allowed")
            }
            _ => format!("the idempotency key `{}` has characters that are not visible ASCII", shown(text)),
        };
        Err(Problem::new(&code::INVALID_IDEMPOTENCY_KEY, message)
            .hint("send a short key that names the call, such as a UUID"))
    }

    /// The key of an event: no two of one source have the same id.
    pub fn of_event(source: &str, id: &str) -> Self {
        // Both may be long, and have characters that a key has not.
        let mut hash = blake3::Hasher::new();
        hash.update(&(source.len() as u64).to_le_bytes()).update(source.as_bytes()).update(id.as_bytes());
        Self(format!("ce:{}", hash.finalize().to_hex()).into())
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who is told how a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    /// Where the result is posted to.
    pub url: Arc<str>,
    /// In whose words it is described.
    pub form: Form,
}

impl Callback {
    /// Has the result posted to a URL, described in the words of this form.
    ///
    /// Whether its host may be reached is decided where it is put, and again where it is dialled.
    ///
    /// # Errors
    /// `invalid-callback`.
    pub fn parse(url: &str, form: Form) -> Result<Self, Problem> {
        match check_url(url) {
            Ok(_) => Ok(Self { url: url.into(), form }),
            Err(why) => {
                let message = format!("the callback `{}` {why}", shown(url));
                Err(Problem::new(&code::INVALID_CALLBACK, message)
                    .hint("name a URL such as `https://example.com/results`"))
            }
        }
    }
}

fn is_visible(text: &str, bytes_max: usize) -> bool {
    (1..=bytes_max).contains(&text.len()) && text.bytes().all(|c| c.is_ascii_graphic())
}

/// What of a text that may be anything is repeated in an error; never what stands before an `@`, as it may be a password.
fn shown(text: &str) -> impl fmt::Display + '_ {
    let text = text.rsplit_once('@').map_or(text, |(_, host)| host);
    let mut shown: String = text.chars().take(60).map(|c| if c.is_control() { '?' } else { c }).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn refused<T: fmt::Debug>(asked: impl IntoIterator<Item = Result<T, Problem>>, expected: Expect) {
        let text: String = asked
            .into_iter()
            .map(|asked| asked.unwrap_err())
            .map(|problem| format!("{problem:?}\n  hint: {}\n", problem.hint.as_deref().unwrap_or_default()))
            .collect();
        expected.assert_eq(&text);
    }

    #[test]
    fn a_delay_is_a_span_or_a_time() {
        let now: Timestamp = "2026-11-22T00:00:00Z".parse().unwrap();
        let later = "2026-11-23T00:00:00Z";
        assert_eq!(Delay::parse("30s", now).unwrap(), Delay::For(Duration::from_secs(30)));
        assert_eq!(Delay::parse(later, now).unwrap(), Delay::Until(later.parse().unwrap()));
        assert_eq!(Delay::parse("30d", now).unwrap(), Delay::For(DELAY_MAX));
        let past = "2020-01-01T00:00:00+01:00";
        assert_eq!(Delay::parse(past, now).unwrap(), Delay::Until(past.parse().unwrap()));
        let bad =
            ["soon", "-1", "-1s", "30", "365d", "2027-11-22T00:00:00Z", "99999999999999999999d", "\u{1b}[2J"];
        refused(
            bad.map(|text| Delay::parse(text, now)),
            expect![[r#"
            invalid-delay: `soon` is not a delay
              hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            invalid-delay: `-1` is not a delay
              hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            invalid-delay: `-1s` is not a delay
              hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            invalid-delay: `30` is not a delay
              hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            invalid-delay: the delay `365d` is longer than 30d
              hint: send the call later, or have it sent by something that keeps time
            invalid-delay: the delay `2027-11-22T00:00:00Z` is longer than 30d
              hint: send the call later, or have it sent by something that keeps time
            invalid-delay: `99999999999999999999d` is not a delay
              hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
            invalid-delay: `?[2J` is not a delay
              hint: write a span such as `30s` or `2h`, or a time such as `2026-12-24T18:00:00Z`
        "#]],
        );
    }

    #[test]
    fn a_group_is_a_short_name() {
        assert_eq!(Group::parse("order-17/é".trim_end_matches("/é")).unwrap().as_str(), "order-17");
        let long = "x".repeat(GROUP_BYTES_MAX + 1);
        refused(
            ["", "a b", "é", &long].map(Group::parse),
            expect![[r#"
            invalid-group: `` does not name a group
              hint: a group has a name of 1 to 128 visible ASCII characters
            invalid-group: `a b` does not name a group
              hint: a group has a name of 1 to 128 visible ASCII characters
            invalid-group: `é` does not name a group
              hint: a group has a name of 1 to 128 visible ASCII characters
            invalid-group: `xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx…` does not name a group
              hint: a group has a name of 1 to 128 visible ASCII characters
        "#]],
        );
    }

    #[test]
    fn an_idempotency_key_is_short() {
        let long = "x".repeat(10 << 10);
        assert_eq!(OnceKey::parse(&long[..ONCE_BYTES_MAX]).unwrap().as_str().len(), ONCE_BYTES_MAX);
        refused(
            ["", "a b", "a\nb", &long].map(OnceKey::parse),
            expect![[r#"
            invalid-idempotency-key: the idempotency key is empty
              hint: send a short key that names the call, such as a UUID
            invalid-idempotency-key: the idempotency key `a b` has characters that are not visible ASCII
              hint: send a short key that names the call, such as a UUID
            invalid-idempotency-key: the idempotency key `a?b` has characters that are not visible ASCII
              hint: send a short key that names the call, such as a UUID
            invalid-idempotency-key: the idempotency key has 10240 bytes, at most 256 are allowed
              hint: send a short key that names the call, such as a UUID
        "#]],
        );
    }

    #[test]
    fn two_events_share_a_key_only_if_they_are_one() {
        let key = OnceKey::of_event;
        assert_eq!(key("/a", "1"), key("/a", "1"));
        assert_ne!(key("/a:1", "2"), key("/a", "1:2"));
    }

    #[test]
    fn a_callback_is_a_url_and_its_password_is_not_repeated() {
        let callback = Callback::parse("https://example.com/done?id=1", Form::Plain).unwrap();
        assert_eq!(&*callback.url, "https://example.com/done?id=1");
        let bad = ["", "example.com", "ftp://example.com", "https://me:hush@example.com/"];
        refused(
            bad.map(|url| Callback::parse(url, Form::Plain)),
            expect![[r#"
                invalid-callback: the callback `` is not valid
                  hint: name a URL such as `https://example.com/results`
                invalid-callback: the callback `example.com` begins with neither `http://` nor `https://`
                  hint: name a URL such as `https://example.com/results`
                invalid-callback: the callback `ftp://example.com` begins with neither `http://` nor `https://`
                  hint: name a URL such as `https://example.com/results`
                invalid-callback: the callback `example.com/` holds a user or a password, which would be kept in the open
                  hint: name a URL such as `https://example.com/results`
            "#]],
        );
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_without_a_panic(text: String) {
            let _ = (Delay::parse(&text, Timestamp::UNIX_EPOCH), Group::parse(&text), OnceKey::parse(&text));
            let _ = Callback::parse(&text, Form::Plain);
        }
    }
}
