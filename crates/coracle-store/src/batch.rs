//! What is asked of the database in one go: changes to keys and to topics that happen together or not at all.
//! Built by callers of [`Database::commit`](crate::Database::commit), checked and applied by its implementations.

use std::collections::HashSet;
use std::time::Duration;

use bytes::Bytes;

use jiff::Timestamp;

use crate::message::check_limit;
use crate::{
    Append, Begin, CommitError, Due, Holder, Key, Lease, PAYLOAD_BYTES_MAX, Position, STORY_BYTES_MAX, Take,
    Topic,
};

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most operations in one batch.
pub const OPERATIONS_MAX: usize = 1000;
/// The most bytes in one batch: all its keys, values, payloads and stories together.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// The longest information that a holder gives of itself, in bytes.
pub const INFO_BYTES_MAX: usize = 4 << 10;

/// What must be true of a key for the batch that names it to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// Nothing: whatever is there is replaced.
    Any,
    /// The key has no entry.
    Absent,
    /// The key has an entry, and it was written by the commit with this revision.
    Revision(u64),
}

impl Condition {
    /// Whether the condition holds of a key whose entry has this revision (`None`: no entry).
    pub(crate) fn holds(self, found: Option<u64>) -> bool {
        match self {
            Self::Any => true,
            Self::Absent => found.is_none(),
            Self::Revision(wanted) => found == Some(wanted),
        }
    }
}

/// Changes that become true together, or not at all.
///
/// A batch names each key and each message at most once and stays within [`OPERATIONS_MAX`], [`VALUE_BYTES_MAX`],
/// [`BATCH_BYTES_MAX`] and the bounds of a message; the commit refuses another one as [`CommitError::Invalid`].
#[derive(Debug, Clone, Default)]
pub struct Batch {
    operations: Vec<Operation>,
    steps: Vec<Step>,
}

/// One line of a batch about a key.
#[derive(Debug, Clone)]
pub(crate) struct Operation {
    pub(crate) key: Key,
    pub(crate) condition: Condition,
    pub(crate) action: Action,
}

#[derive(Debug, Clone)]
pub(crate) enum Action {
    Put(Bytes),
    Delete,
    Require,
}

/// One line of a batch about the log; they happen in their order, after those about keys.
#[derive(Debug, Clone)]
pub(crate) enum Step {
    Append(Append),
    Take(Take),
    Begin(Lease),
    Ack(Lease),
    Retry { lease: Lease, due: Due, story: Bytes },
    Release(Lease),
    Bury { lease: Lease, topic: Topic, story: Bytes },
    Remove(Position),
    Shift { position: Position, topic: Topic, due: Due },
    Keep { holder: Holder, info: Bytes, time: Duration },
    Leave(Holder),
    Reclaim,
    Trim { topic: Topic, before: Timestamp },
}

impl Step {
    /// The message that it begins, ends, gives back or moves.
    pub(crate) fn position(&self) -> Option<Position> {
        match self {
            Self::Begin(lease)
            | Self::Ack(lease)
            | Self::Release(lease)
            | Self::Retry { lease, .. }
            | Self::Bury { lease, .. } => Some(lease.position),
            Self::Remove(position) | Self::Shift { position, .. } => Some(*position),
            Self::Append(_)
            | Self::Take(_)
            | Self::Keep { .. }
            | Self::Leave(_)
            | Self::Reclaim
            | Self::Trim { .. } => None,
        }
    }

    /// The holder that must be alive for it.
    pub(crate) fn needs_holder(&self) -> Option<&Holder> {
        match self {
            Self::Append(Append { begin: Begin::Held(holder), .. }) | Self::Take(Take { holder, .. }) => {
                Some(holder)
            }
            _ => None,
        }
    }

    fn bytes(&self) -> usize {
        match self {
            Self::Append(append) => append.payload.len(),
            Self::Retry { story, .. } | Self::Bury { story, .. } => story.len(),
            Self::Keep { info, .. } => info.len(),
            _ => 0,
        }
    }

    /// Why it can never succeed, if it cannot.
    fn check(&self) -> Result<(), String> {
        let within = |what: &str, bytes: usize, max: usize| match bytes <= max {
            true => Ok(()),
            false => Err(format!("{what} has {bytes} bytes, at most {max} are allowed")),
        };
        match self {
            Self::Append(append) => within("a payload", append.payload.len(), PAYLOAD_BYTES_MAX),
            Self::Take(take) => check_limit(take.limit),
            Self::Retry { story, .. } | Self::Bury { story, .. } => {
                within("a story", story.len(), STORY_BYTES_MAX)
            }
            Self::Keep { info, .. } => within("what a holder says of itself", info.len(), INFO_BYTES_MAX),
            _ => Ok(()),
        }
    }
}

impl Batch {
    /// A batch that changes nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Writes a value under a key if the condition holds of what is there.
    #[must_use]
    pub fn put(self, key: Key, value: impl Into<Bytes>, condition: Condition) -> Self {
        self.with(key, condition, Action::Put(value.into()))
    }

    /// Removes a key if the condition holds of what is there; removing an absent key changes nothing.
    #[must_use]
    pub fn delete(self, key: Key, condition: Condition) -> Self {
        self.with(key, condition, Action::Delete)
    }

    /// Changes nothing at the key, but lets the batch happen only if the condition holds of what is there:
    /// "this function, as long as its namespace is the one I read".
    #[must_use]
    pub fn require(self, key: Key, condition: Condition) -> Self {
        self.with(key, condition, Action::Require)
    }

    /// Appends a message; its position comes back in [`Committed::appended`](crate::Committed::appended), in order.
    #[must_use]
    pub fn append(self, append: Append) -> Self {
        self.then(Step::Append(append))
    }

    /// Leases what is due; it comes back in [`Committed::taken`](crate::Committed::taken), in order.
    #[must_use]
    pub fn take(self, take: Take) -> Self {
        self.then(Step::Take(take))
    }

    /// Says that the holder has begun with what it leased ahead: from now on it is an attempt, also if the holder is lost.
    #[must_use]
    pub fn begin(self, lease: Lease) -> Self {
        self.then(Step::Begin(lease))
    }

    /// Ends a leased message: it is gone.
    #[must_use]
    pub fn ack(self, lease: Lease) -> Self {
        self.then(Step::Ack(lease))
    }

    /// Gives a leased message back, to be leased again when it is due. It keeps its place in its group.
    #[must_use]
    pub fn retry(self, lease: Lease, due: Due, story: impl Into<Bytes>) -> Self {
        self.then(Step::Retry { lease, due, story: story.into() })
    }

    /// Gives a leased message back as if it had never been leased: nothing was done with it.
    #[must_use]
    pub fn release(self, lease: Lease) -> Self {
        self.then(Step::Release(lease))
    }

    /// Moves a leased message to another topic, where it is only kept. Its new position is among
    /// [`Committed::appended`](crate::Committed::appended).
    #[must_use]
    pub fn bury(self, lease: Lease, topic: Topic, story: impl Into<Bytes>) -> Self {
        self.then(Step::Bury { lease, topic, story: story.into() })
    }

    /// Removes a message that nobody has leased.
    #[must_use]
    pub fn remove(self, position: Position) -> Self {
        self.then(Step::Remove(position))
    }

    /// Moves a message that nobody has leased to a topic where it waits, as if it had just been appended there; its
    /// story stays. Its new position is among [`Committed::appended`](crate::Committed::appended).
    #[must_use]
    pub fn shift(self, position: Position, topic: Topic, due: Due) -> Self {
        self.then(Step::Shift { position, topic, due })
    }

    /// Says that a holder is alive, and will be for this long; all its leases last with it.
    #[must_use]
    pub fn keep(self, holder: Holder, info: impl Into<Bytes>, time: Duration) -> Self {
        self.then(Step::Keep { holder, info: info.into(), time })
    }

    /// Says that a holder ends: what it still holds waits again, at once.
    #[must_use]
    pub fn leave(self, holder: Holder) -> Self {
        self.then(Step::Leave(holder))
    }

    /// Gives back what holders held whose time is over; [`Committed::reclaimed`](crate::Committed::reclaimed) counts.
    #[must_use]
    pub fn reclaim(self) -> Self {
        self.then(Step::Reclaim)
    }

    /// Removes the first messages of a topic that came into it before this moment and are not leased, at most
    /// [`TRIM_MAX`](crate::TRIM_MAX); [`Committed::trimmed`](crate::Committed::trimmed) counts.
    #[must_use]
    pub fn trim(self, topic: Topic, before: Timestamp) -> Self {
        self.then(Step::Trim { topic, before })
    }

    /// Adds all that another batch says, behind what this one says.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        self.operations.extend(other.operations);
        self.steps.extend(other.steps);
        self
    }

    /// How many lines it has; [`OPERATIONS_MAX`] may be committed at once.
    #[must_use]
    pub fn len(&self) -> usize {
        self.operations.len() + self.steps.len()
    }

    /// Whether it says nothing.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn then(mut self, step: Step) -> Self {
        self.steps.push(step);
        self
    }

    fn with(mut self, key: Key, condition: Condition, action: Action) -> Self {
        self.operations.push(Operation { key, condition, action });
        self
    }

    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// All keys, values, payloads and stories together, in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let of_keys =
            self.operations.iter().map(|operation| operation.key.as_str().len() + operation.value_bytes());
        of_keys.chain(self.steps.iter().map(Step::bytes)).sum()
    }

    /// Checks the bounds; every implementation does this before anything else.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        let fault = |reason| Err(CommitError::Invalid { reason });
        if self.len() > OPERATIONS_MAX {
            return fault(format!("it has {} operations, at most {OPERATIONS_MAX} are allowed", self.len()));
        }
        if self.bytes() > BATCH_BYTES_MAX {
            return fault(format!("it has {} bytes, at most {BATCH_BYTES_MAX} are allowed", self.bytes()));
        }
        let mut seen = HashSet::with_capacity(self.operations.len());
        for operation in &self.operations {
            let key = &operation.key;
            if operation.value_bytes() > VALUE_BYTES_MAX {
                let bytes = operation.value_bytes();
                return fault(format!(
                    "the value of `{key}` has {bytes} bytes, at most {VALUE_BYTES_MAX} are allowed"
                ));
            }
            if !seen.insert(key) {
                return fault(format!("it names `{key}` twice"));
            }
        }
        let mut seen = HashSet::with_capacity(self.steps.len());
        for step in &self.steps {
            step.check().map_err(|reason| CommitError::Invalid { reason })?;
            if let Some(position) = step.position()
                && !seen.insert(position)
            {
                return fault(format!("it names the message at {position} twice"));
            }
        }
        Ok(())
    }
}

impl Operation {
    fn value_bytes(&self) -> usize {
        match &self.action {
            Action::Put(value) => value.len(),
            Action::Delete | Action::Require => 0,
        }
    }
}
