//! New and changed messages, column by column: hundreds of them are one statement.
//! Made of a plan by `messages.rs`, and written on the session of the writer.

use tokio_postgres::Error;

use super::statements::{INSERT, UPDATE};
use crate::loss::LOSSES_BYTES_MAX;
use crate::postgres::plan::{Origin, Plan};
use crate::postgres::session::{Parameters, Session};
use crate::{Group, Holder, MessageId};

/// New rows, column by column.
#[derive(Debug, Default)]
pub(super) struct Inserts<'p> {
    positions: Vec<i64>,
    topics: Vec<&'p str>,
    ids: Vec<Option<&'p str>>,
    groups: Vec<Option<&'p str>>,
    appended: Vec<i64>,
    due: Vec<i64>,
    attempts: Vec<i32>,
    states: Vec<i16>,
    holders: Vec<Option<&'p str>>,
    begun: Vec<Option<i64>>,
    payloads: Vec<&'p [u8]>,
    losses: Vec<Option<&'p str>>,
}

impl<'p> Inserts<'p> {
    pub(super) fn of(plan: &'p Plan<'_>) -> Self {
        let mut inserts = Self::default();
        for (position, stored) in &plan.messages {
            let Origin::Batch(append) = stored.origin else { continue };
            inserts.positions.push(*position);
            inserts.topics.push(stored.topic.as_str());
            inserts.ids.push(append.id.as_ref().map(MessageId::as_str));
            inserts.groups.push(stored.group.as_ref().map(Group::as_str));
            inserts.appended.push(stored.appended);
            inserts.due.push(stored.due);
            inserts.attempts.push(stored.attempt);
            inserts.states.push(stored.state);
            inserts.holders.push(stored.holder.as_ref().map(Holder::as_str));
            inserts.begun.push(stored.begun);
            inserts.payloads.push(&append.payload);
            inserts.losses.push(stored.loss.as_deref());
        }
        inserts
    }

    pub(super) async fn write(&self, session: &Session) -> Result<(), Error> {
        if self.positions.is_empty() {
            return Ok(());
        }
        let parameters: Parameters<'_> = &[
            &self.positions,
            &self.topics,
            &self.ids,
            &self.groups,
            &self.appended,
            &self.due,
            &self.attempts,
            &self.states,
            &self.holders,
            &self.begun,
            &self.payloads,
            &self.losses,
        ];
        session.query(INSERT, parameters).await.map(drop)
    }
}

/// Rows that are changed and not held, column by column.
#[derive(Debug, Default)]
pub(super) struct Updates<'p> {
    rows: Vec<i64>,
    positions: Vec<i64>,
    topics: Vec<&'p str>,
    appended: Vec<i64>,
    due: Vec<i64>,
    attempts: Vec<i32>,
    states: Vec<i16>,
    stories: Vec<Option<&'p [u8]>>,
    losses: Vec<Option<&'p str>>,
}

impl<'p> Updates<'p> {
    pub(super) fn of(plan: &'p Plan<'_>) -> Self {
        let mut updates = Self::default();
        for (position, stored) in &plan.messages {
            let (Origin::Row(row), true) = (stored.origin, stored.changed) else { continue };
            updates.rows.push(row);
            updates.positions.push(*position);
            updates.topics.push(stored.topic.as_str());
            updates.appended.push(stored.appended);
            updates.due.push(stored.due);
            updates.attempts.push(stored.attempt);
            updates.states.push(stored.state);
            updates.stories.push(stored.story.as_deref());
            updates.losses.push(stored.loss.as_deref());
        }
        updates
    }

    pub(super) async fn write(&self, session: &Session) -> Result<(), Error> {
        if self.rows.is_empty() {
            return Ok(());
        }
        let bytes_max = i32::try_from(LOSSES_BYTES_MAX).unwrap_or(i32::MAX);
        let parameters: Parameters<'_> = &[
            &self.rows,
            &self.positions,
            &self.topics,
            &self.appended,
            &self.due,
            &self.attempts,
            &self.states,
            &self.stories,
            &self.losses,
            &bytes_max,
        ];
        session.query(UPDATE, parameters).await.map(drop)
    }
}
