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
    ///
    /// # Errors
    /// `invalid-idempotency-key`, if the two together are too long.
    pub fn of_event(source: &str, id: &str) -> Result<Self, Problem> {
        Self::parse(&format!("ce:{}:{source}:{id}", source.len()))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Who is told how a call ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Callback {
    url: Arc<str>,
    form: Form,
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
                Err(Problem::new(&code::INVALID_CALLBACK, format!("the callback `{}` {why}", shown(url)))
                    .hint("name a URL such as `https://example.com/results`"))
            }
        }
    }

    /// Where it goes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// In whose words it is described.
    pub fn form(&self) -> Form {
        self.form
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
