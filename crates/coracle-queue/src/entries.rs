//! What a namespace's own topics hold: the outcomes of calls that were sent there, for whoever reads them.
//! The admin API asks; nothing here changes anything.

use bytes::Bytes;
use coracle_model::{NamespaceName, Problem, TopicName};
use coracle_store::{MESSAGES_MAX, Position, Read, ReadFrom};
use jiff::Timestamp;

use crate::engine::Engine;
use crate::put::unread;
use crate::topics::Room;

/// An outcome in a topic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Where it stands: what follows is behind it.
    pub place: u64,
    /// When it came there.
    pub at: Timestamp,
    /// What it is, as JSON.
    pub body: Bytes,
}

/// The outcomes in a topic behind a place, the oldest first; none of a topic that nothing was sent to.
pub(crate) async fn entries(
    engine: &Engine,
    namespace: &NamespaceName,
    topic: &TopicName,
    after: Option<u64>,
    limit: usize,
) -> Result<Vec<Entry>, Problem> {
    let from = after.map_or(ReadFrom::Start, |place| ReadFrom::After(Position(place)));
    let topic = Room::Named(namespace.clone(), topic.clone()).topic();
    let read = Read { topic, from, limit: limit.clamp(1, MESSAGES_MAX) };
    let found = engine.database.read(read).await.map_err(unread)?;
    let entry = |message: coracle_store::Message| Entry {
        place: message.position.0,
        at: message.appended,
        body: message.payload,
    };
    Ok(found.into_iter().map(entry).collect())
}
