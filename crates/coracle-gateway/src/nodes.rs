//! The servers that share our database: who is alive, and how the others are asked for what only they know.
//! `serve.rs` makes it; the handlers of logs, calls and the status ask it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use coracle_api::{Client, ClientError, NodeInfo, NodeView};
use coracle_store::{Alive, Database, ReadError};
use futures_util::future::join_all;

/// How long another node may take to begin its answer; a client of ours waits for the slowest.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);

/// This server among those that share its database.
#[derive(Clone)]
pub struct Nodes(Arc<Inner>);

struct Inner {
    database: Arc<dyn Database>,
    /// Where the others reach this one; no two of them share it.
    own: String,
    /// The token that all nodes of a cluster have in common; `None` where there are no others.
    token: Option<String>,
}

impl Nodes {
    /// A node of a cluster, which the others reach at this URL, and which speaks to them with a token that may do
    /// everything.
    pub fn clustered(database: Arc<dyn Database>, own: &str, token: String) -> Self {
        Self(Arc::new(Inner { database, own: own.to_owned(), token: Some(token) }))
    }

    /// A server that has its database for itself.
    pub fn alone(database: Arc<dyn Database>, own: &str) -> Self {
        Self(Arc::new(Inner { database, own: own.to_owned(), token: None }))
    }

    /// Where the others reach this one.
    pub fn own(&self) -> &str {
        &self.0.own
    }

    /// All that are alive, in the order of their names; none, if nobody can say.
    pub(crate) async fn all(&self) -> Vec<NodeView> {
        self.alive().await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cannot ask who is alive");
            Vec::new()
        })
    }

    /// All that are alive, in the order of their names.
    ///
    /// # Errors
    /// Why the database cannot say.
    pub async fn alive(&self) -> Result<Vec<NodeView>, ReadError> {
        let alive = self.0.database.alive().await?;
        let view = |alive: Alive| {
            let info: NodeInfo = serde_json::from_slice(&alive.info).ok()?;
            Some(NodeView { here: info.url == self.0.own, info })
        };
        let mut nodes: Vec<_> = alive.into_iter().filter_map(view).collect();
        nodes.sort_by(|one, other| (&one.info.name, &one.info.url).cmp(&(&other.info.name, &other.info.url)));
        // A server may hold leases under several names.
        nodes.dedup_by(|one, other| one.info.url == other.info.url);
        Ok(nodes)
    }

    /// Asks every other node at once, and returns what answered: one that is ill must not keep the others' answers.
    pub(crate) async fn ask<T, A>(&self, question: impl Fn(Client) -> A) -> Vec<T>
    where
        A: Future<Output = Result<T, ClientError>>,
    {
        let Some(token) = &self.0.token else { return Vec::new() };
        let mut asked = Vec::new();
        for NodeView { info, .. } in self.all().await.into_iter().filter(|node| !node.here) {
            match Client::new(&info.url, Some(token)) {
                Ok(client) => asked.push(in_time(info.name, question(client))),
                Err(error) => tracing::warn!(node = info.name, %error, "another node cannot be asked"),
            }
        }
        join_all(asked).await.into_iter().flatten().collect()
    }
}

/// What a node answers, if it does.
async fn in_time<T>(node: String, answer: impl Future<Output = Result<T, ClientError>>) -> Option<T> {
    match tokio::time::timeout(ASK_TIMEOUT, answer).await {
        Ok(Ok(answer)) => Some(answer),
        // It is there, and does not have what was asked for.
        Ok(Err(ClientError::Problem(_))) => None,
        Ok(Err(error)) => {
            tracing::warn!(node, %error, "another node does not answer");
            None
        }
        Err(_) => {
            tracing::warn!(node, "another node does not answer in time");
            None
        }
    }
}

/// The token stands in no log.
impl fmt::Debug for Nodes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Nodes").field("own", &self.0.own).finish_non_exhaustive()
    }
}
