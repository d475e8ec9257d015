//! What is asked of the database in one go: puts, deletes and requirements that happen together or not at all.
//! Built by callers of [`Database::commit`](crate::Database::commit), checked and applied by its implementations.

use std::collections::HashSet;

use bytes::Bytes;

use crate::{CommitError, Key};

/// The longest value, in bytes.
pub const VALUE_BYTES_MAX: usize = 1 << 20;
/// The most operations in one batch.
pub const OPERATIONS_MAX: usize = 1000;
/// The most bytes in one batch: all its keys and values together.
pub const BATCH_BYTES_MAX: usize = 16 << 20;

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
/// A batch names each key at most once and stays within [`OPERATIONS_MAX`], [`VALUE_BYTES_MAX`] and
/// [`BATCH_BYTES_MAX`]; the commit refuses another one as [`CommitError::Invalid`].
#[derive(Debug, Clone, Default)]
pub struct Batch {
    operations: Vec<Operation>,
}

/// One line of a batch.
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

    fn with(mut self, key: Key, condition: Condition, action: Action) -> Self {
        self.operations.push(Operation { key, condition, action });
        self
    }

    pub(crate) fn operations(&self) -> &[Operation] {
        &self.operations
    }

    /// All keys and values together, in bytes.
    pub(crate) fn bytes(&self) -> usize {
        self.operations.iter().map(|operation| operation.key.as_str().len() + operation.value_bytes()).sum()
    }

    /// Checks the bounds; every implementation does this before anything else.
    pub(crate) fn check(&self) -> Result<(), CommitError> {
        let fault = |reason| Err(CommitError::Invalid { reason });
        if self.operations.len() > OPERATIONS_MAX {
            return fault(format!(
                "it has {} operations, at most {OPERATIONS_MAX} are allowed",
                self.operations.len()
            ));
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
