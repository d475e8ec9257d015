//! What a topic holds, and what is asked of it: messages, how they begin, who leases them, and how they are read.
//! Made by callers of [`Database`](crate::Database) and [`Batch`](crate::Batch), answered by its implementations.

use std::time::Duration;

use bytes::Bytes;
use jiff::Timestamp;

use crate::{Group, Holder, Loss, MessageId, Position, ReadError, Topic};

/// The largest payload of a message, in bytes. Whoever has more keeps it as an artifact.
pub const PAYLOAD_BYTES_MAX: usize = (6 << 20) + (64 << 10);
/// The largest story of a message, in bytes.
pub const STORY_BYTES_MAX: usize = 256 << 10;
/// The most messages that one [`Take`], [`Read`] or [`Topics`] may ask for.
pub const MESSAGES_MAX: usize = 1000;
/// The size at which a page of messages ends early: it holds fewer bytes of payloads than this, plus one message.
pub const MESSAGES_BYTES_MAX: usize = 8 << 20;
/// The most messages that one trim removes.
pub const TRIM_MAX: usize = 1000;

/// When a message may be leased; the database's clock decides, so that all nodes mean the same moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Due {
    /// At once.
    Now,
    /// After this long.
    In(Duration),
    /// At this moment.
    At(Timestamp),
}

/// How a message begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Begin {
    /// It waits to be leased.
    Waiting(Due),
    /// It is leased to this holder in the same commit, unless an earlier one of its group is there: then it waits.
    Held(Holder),
    /// It is only kept: to be read, until it is trimmed, removed or shifted. Nobody leases it.
    Kept,
}

/// A message to append.
#[derive(Debug, Clone)]
pub struct Append {
    /// Where it goes.
    pub topic: Topic,
    /// By what it is found again.
    pub id: Option<MessageId>,
    /// Among which it keeps its turn.
    pub group: Option<Group>,
    /// How it begins.
    pub begin: Begin,
    /// What it says, at most [`PAYLOAD_BYTES_MAX`].
    pub payload: Bytes,
}

/// Leases the messages of a topic that are due, those first that were due first.
#[derive(Debug, Clone)]
pub struct Take {
    /// Whose.
    pub topic: Topic,
    /// For whom; it must be kept alive, see [`Batch::keep`](crate::Batch::keep).
    pub holder: Holder,
    /// The most messages, from 1 to [`MESSAGES_MAX`]. A page of large ones is shorter: see [`MESSAGES_BYTES_MAX`].
    pub limit: usize,
    /// With how many of them, the first ones, the holder begins at once. The others are leased ahead: until
    /// [`Batch::begin`](crate::Batch::begin) says that one has begun, it is no attempt if the holder is lost.
    pub begins: usize,
}

/// The right to end or give back one message; as long as its holder is alive nobody else has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Which message.
    pub position: Position,
    /// Who has the right.
    pub holder: Holder,
    /// The how-manieth lease of this message it is, from 1.
    pub attempt: u32,
}

/// What became of an [`Append`], a bury or a shift: a message that moves has a new position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Appended {
    /// Where it stands.
    pub position: Position,
    /// The lease, if it began as held.
    pub lease: Option<Lease>,
}

/// What a [`Take`] got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    /// Of which topic.
    pub topic: Topic,
    /// The messages, and the right to each.
    pub messages: Vec<(Lease, Message)>,
    /// How long it is until the next one that waits is due, if there is one that no other node is taking right now;
    /// zero if it is due already. A wait and no moment, for the clock of the database need not be that of the node.
    pub next_in: Option<Duration>,
}

/// A message as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Where it stands.
    pub position: Position,
    /// In which topic.
    pub topic: Topic,
    /// By what it is found again.
    pub id: Option<MessageId>,
    /// Among which it keeps its turn.
    pub group: Option<Group>,
    /// When it came into this topic.
    pub appended: Timestamp,
    /// From when on it may be leased; without meaning for one that is kept.
    pub due: Timestamp,
    /// How often it has been leased.
    pub attempt: u32,
    /// What is done with it now.
    pub state: MessageState,
    /// What its holders wrote about it.
    pub story: Bytes,
    /// The leases since then that ended with their holder, the first one first: of them the story cannot tell.
    pub losses: Vec<Loss>,
    /// What it says.
    pub payload: Bytes,
}

/// What is done with a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum MessageState {
    /// It waits until it is due, and then to be leased.
    Waiting,
    /// It waits for its turn: an earlier one of its group is there.
    Behind,
    /// Somebody has leased it ahead, and not begun with it.
    Ahead(Holder),
    /// Somebody has leased it and begun with it.
    Held(Holder),
    /// It is only kept.
    Kept,
}

/// Which messages to read, in the order of their positions or against it.
#[derive(Debug, Clone)]
pub struct Read {
    /// Of which topic.
    pub topic: Topic,
    /// From where on.
    pub from: ReadFrom,
    /// The most messages, from 1 to [`MESSAGES_MAX`].
    pub limit: usize,
}

/// Where reading begins, and whether it goes on to newer messages or to older ones.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReadFrom {
    /// With the first.
    Start,
    /// Behind this position: that of the last message of the page before.
    After(Position),
    /// With the first that came into the topic at this moment or later.
    Since(Timestamp),
    /// With the last, and from there back.
    End,
    /// Before this position, and from there back: that of the last message of the page before.
    Before(Position),
}

/// Which topics to count, in the order of their names.
#[derive(Debug, Clone)]
pub struct Topics {
    /// The bytes with which their names start; empty for all.
    pub prefix: String,
    /// Only those behind this one: the last of the page before.
    pub after: Option<Topic>,
    /// The most topics, from 1 to [`MESSAGES_MAX`].
    pub limit: usize,
}

/// How much a topic holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TopicCount {
    /// Which.
    pub topic: Topic,
    /// Messages that wait, due or not, those behind others of their group and those leased ahead included.
    pub waiting: u64,
    /// Messages that are leased and begun.
    pub held: u64,
    /// Messages that are only kept.
    pub kept: u64,
    /// When the first of those that wait for nothing else is due.
    pub oldest_due: Option<Timestamp>,
}

/// A holder that is alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Alive {
    /// Who.
    pub holder: Holder,
    /// What it said of itself when it was last kept.
    pub info: Bytes,
    /// Until when it is believed to live if it says nothing more.
    pub until: Timestamp,
}

impl Read {
    /// Checks the bounds; every implementation does this before anything else.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        check_limit(self.limit).map_err(|reason| ReadError::Invalid { reason })
    }
}

impl Topics {
    /// Checks the bounds; every implementation does this before anything else.
    pub(crate) fn check(&self) -> Result<(), ReadError> {
        check_limit(self.limit).map_err(|reason| ReadError::Invalid { reason })
    }
}

/// Why so many messages cannot be asked for, if they cannot.
pub(crate) fn check_limit(limit: usize) -> Result<(), String> {
    match limit {
        1..=MESSAGES_MAX => Ok(()),
        _ => Err(format!("its limit is {limit}, it must be from 1 to {MESSAGES_MAX}")),
    }
}
