//! What was tried so far of a call, as it is kept beside it: the story that a dead call tells.
//! The worker adds an attempt each time one fails; `read.rs` shows them.

use std::time::Duration;

use bytes::Bytes;
use coracle_model::code;
use coracle_store::{Message, STORY_BYTES_MAX};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::payload::{Unreadable, decode, encode};
use crate::sessions::node_of;
use crate::{Attempt, AttemptEnd};

/// The first attempts of very many, which are kept.
const FIRST_KEPT: usize = 4;
/// The last attempts of very many, which are kept.
const LAST_KEPT: usize = 16;
/// Bytes kept of the message of an attempt that failed.
const MESSAGE_BYTES_MAX: usize = 512;

/// What was tried so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Story {
    /// Attempts that do not count, because the function never heard of them.
    pub(crate) excused: u32,
    /// Attempts before it was redriven: those that are counted since have higher numbers.
    pub(crate) before: u32,
    /// The attempts; of very many, some in the middle are left out.
    pub(crate) attempts: Vec<Attempt>,
    /// Why it is not tried again.
    pub(crate) reason: Option<String>,
}

impl Story {
    /// Adds an attempt.
    pub(crate) fn add(&mut self, mut attempt: Attempt) {
        if let AttemptEnd::Failed { message, .. } = &mut attempt.end {
            cut(message, MESSAGE_BYTES_MAX);
        }
        self.attempts.push(attempt);
        if self.attempts.len() > FIRST_KEPT + LAST_KEPT {
            self.attempts.remove(FIRST_KEPT);
        }
    }

    /// The number of the last attempt that it tells of.
    pub(crate) fn told(&self) -> u32 {
        self.attempts.last().map_or(0, |attempt| attempt.number)
    }

    /// Brings it up to the attempt that is about to be made, the how-manieth since the call was accepted or redriven.
    ///
    /// Attempts of which nothing is told were lost with the server that made them; who that was, the losses say.
    pub(crate) fn catch_up(&mut self, attempt: u32, message: &Message) {
        if self.before + attempt <= self.told() {
            // The count began anew: it was redriven.
            *self = Self {
                before: self.told().saturating_sub(attempt - 1),
                excused: 0,
                reason: None,
                ..self.clone()
            };
        }
        for number in self.told() + 1..self.before + attempt {
            let loss = message.losses.iter().find(|loss| self.before + loss.attempt == number);
            self.add(Attempt {
                number,
                node: loss.map(|loss| node_of(&loss.holder).to_owned()).unwrap_or_default(),
                started: loss.map_or(message.due, |loss| loss.since),
                took: Duration::ZERO,
                end: AttemptEnd::Failed {
                    code: code::ATTEMPT_LOST.name.to_owned(),
                    message: "the server ended while it ran".to_owned(),
                },
                log: Vec::new(),
            });
        }
    }

    /// As it is kept; a call that was never tried has none.
    pub(crate) fn encode(&self) -> Bytes {
        if *self == Self::default() {
            return Bytes::new();
        }
        let whole = encode(&self.form(), &[]);
        if whole.len() <= STORY_BYTES_MAX {
            return whole;
        }
        // Only lines full of control characters grow so much: what is left is what matters.
        let mut bare = self.clone();
        bare.attempts.iter_mut().for_each(|attempt| attempt.log.clear());
        encode(&bare.form(), &[])
    }

    pub(crate) fn decode(story: &Bytes) -> Result<Self, Unreadable> {
        if story.is_empty() {
            return Ok(Self::default());
        }
        let (StoryForm { excused, before, attempts, reason }, _) = decode(story)?;
        let attempts = attempts.into_iter().map(AttemptForm::into_attempt).collect();
        Ok(Self { excused, before, attempts, reason })
    }

    fn form(&self) -> StoryForm {
        StoryForm {
            excused: self.excused,
            before: self.before,
            attempts: self.attempts.iter().map(AttemptForm::of).collect(),
            reason: self.reason.clone(),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct StoryForm {
    #[serde(default)]
    excused: u32,
    #[serde(default)]
    before: u32,
    attempts: Vec<AttemptForm>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// An attempt, as it is kept.
#[derive(Serialize, Deserialize)]
pub(crate) struct AttemptForm {
    number: u32,
    node: String,
    started: Timestamp,
    took_us: u64,
    #[serde(flatten)]
    end: EndForm,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    log: Vec<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(untagged)]
enum EndForm {
    Answered { status: u16 },
    Failed { code: String, message: String },
}

impl AttemptForm {
    pub(crate) fn of(attempt: &Attempt) -> Self {
        Self {
            number: attempt.number,
            node: attempt.node.clone(),
            started: attempt.started,
            took_us: u64::try_from(attempt.took.as_micros()).unwrap_or(u64::MAX),
            end: match &attempt.end {
                AttemptEnd::Answered(status) => EndForm::Answered { status: *status },
                AttemptEnd::Failed { code, message } => {
                    EndForm::Failed { code: code.clone(), message: message.clone() }
                }
            },
            log: attempt.log.clone(),
        }
    }

    pub(crate) fn into_attempt(self) -> Attempt {
        Attempt {
            number: self.number,
            node: self.node,
            started: self.started,
            took: Duration::from_micros(self.took_us),
            end: match self.end {
                EndForm::Answered { status } => AttemptEnd::Answered(status),
                EndForm::Failed { code, message } => AttemptEnd::Failed { code, message },
            },
            log: self.log,
        }
    }
}

/// Cuts a text at a bound, between two characters.
pub(crate) fn cut(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        text.truncate(text.floor_char_boundary(bytes_max));
        text.push('…');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_store::{Holder, Loss, MessageState, Position, Topic};
    use proptest::prelude::*;

    /// A message that was due at the beginning of time.
    fn message(losses: impl Into<Vec<Loss>>) -> Message {
        let (appended, due) = (Timestamp::UNIX_EPOCH, Timestamp::UNIX_EPOCH);
        Message {
            position: Position(1),
            topic: Topic::new("default/calls/f").unwrap(),
            id: None,
            group: None,
            appended,
            due,
            attempt: 1,
            state: MessageState::Waiting,
            story: Bytes::new(),
            losses: losses.into(),
            payload: Bytes::new(),
        }
    }

    fn attempt(number: u32, log: &str) -> Attempt {
        let end = match number % 2 {
            0 => AttemptEnd::Answered(503),
            _ => AttemptEnd::Failed { code: "guest-trapped".into(), message: "it crashed".into() },
        };
        let (node, started) = ("a".to_owned(), Timestamp::UNIX_EPOCH);
        Attempt { number, node, started, took: Duration::from_micros(1_500), end, log: vec![log.to_owned()] }
    }

    #[test]
    fn a_story_reads_back_as_it_was_told() {
        let mut story = Story { excused: 1, reason: Some("enough".into()), ..Story::default() };
        story.add(attempt(1, "boom"));
        story.add(attempt(2, "…"));
        assert_eq!(Story::decode(&story.encode()), Ok(story));
        assert_eq!(Story::default().encode(), Bytes::new());
        assert_eq!(Story::decode(&Bytes::new()), Ok(Story::default()));
    }

    #[test]
    fn an_attempt_of_which_nothing_is_told_was_lost() {
        let mut story = Story::default();
        story.add(attempt(1, ""));
        story.catch_up(3, &message([]));
        let lost = AttemptEnd::Failed {
            code: "attempt-lost".into(),
            message: "the server ended while it ran".into(),
        };
        assert_eq!(story.attempts[1].end, lost);
        assert_eq!((story.told(), story.attempts.len()), (2, 2));
        story.catch_up(3, &message([]));
        assert_eq!(story.told(), 2, "it is told once");
    }

    #[test]
    fn a_lost_attempt_tells_where_it_was_and_since_when() {
        let since = Timestamp::from_second(60).unwrap();
        let loss = |attempt| Loss { attempt, holder: Holder::new("web-2-00c0ffee00c0ffee").unwrap(), since };
        let mut story = Story { before: 5, ..Story::default() };
        story.add(attempt(6, ""));
        story.catch_up(4, &message([loss(3)]));
        let told: Vec<_> =
            story.attempts[1..].iter().map(|lost| (lost.number, lost.node.as_str(), lost.started)).collect();
        assert_eq!(told, [(7, "", Timestamp::UNIX_EPOCH), (8, "web-2", since)]);
    }

    #[test]
    fn a_call_that_was_redriven_counts_anew_and_keeps_what_it_told() {
        let mut story = Story { excused: 2, reason: Some("enough".into()), ..Story::default() };
        (1..=5).for_each(|number| story.add(attempt(number, "")));
        story.catch_up(1, &message([]));
        assert_eq!((story.before, story.excused, &story.reason, story.attempts.len()), (5, 0, &None, 5));
        story.add(attempt(6, ""));
        story.catch_up(2, &message([]));
        assert_eq!((story.before, story.told()), (5, 6));
    }

    #[test]
    fn of_very_many_attempts_the_first_and_the_last_are_told() {
        let mut story = Story::default();
        (1..=100).for_each(|number| story.add(attempt(number, "")));
        let told: Vec<u32> = story.attempts.iter().map(|attempt| attempt.number).collect();
        assert_eq!(told, (1..=4).chain(85..=100).collect::<Vec<_>>());
        assert_eq!(story.told(), 100);
    }

    #[test]
    fn the_longest_story_fits() {
        let mut story = Story::default();
        let worst = "\u{1}".repeat(4_000);
        for number in 1..=100 {
            let mut attempt = attempt(number, &worst);
            attempt.end = AttemptEnd::Failed { code: "internal".into(), message: worst.clone() };
            story.add(attempt);
        }
        assert!(story.encode().len() <= STORY_BYTES_MAX);
        assert_eq!(Story::decode(&story.encode()).unwrap().attempts.len(), FIRST_KEPT + LAST_KEPT);
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_without_a_panic(bytes: Vec<u8>) {
            let _ = Story::decode(&bytes.into());
        }

        #[test]
        fn a_text_is_cut_between_two_characters(mut text: String, bytes_max in 0usize..20) {
            let before = text.clone();
            cut(&mut text, bytes_max);
            prop_assert!(text == before || text.len() <= bytes_max + '…'.len_utf8());
        }
    }
}
