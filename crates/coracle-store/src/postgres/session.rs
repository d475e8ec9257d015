//! A connection that is set up: what every query of ours relies on, whatever the server's defaults are.
//! Opened by the writer, the readers and the follower, each for itself.

use std::collections::HashMap;
use std::future::poll_fn;

use futures_util::future::try_join_all;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_postgres::types::ToSql;
use tokio_postgres::{AsyncMessage, Client, Notification, Row, Statement};

use super::target::{ConnectError, Line, Target};

/// How many notifications wait for the follower; it drains them all at once, so that they do not stand long.
const NOTIFICATIONS_WAITING_MAX: usize = 1024;

/// What a session of ours is like.
///
/// An acknowledgement is a promise, so that a server which does not sync is told to. A node that is stopped in the
/// middle of a transaction must not keep its locks for long. Every query is made for an index: a plan that was chosen
/// while a table was small must not read the whole of it once it has grown.
const SETTINGS: &str = "
    SELECT set_config('synchronous_commit', 'on', false) WHERE current_setting('synchronous_commit') = 'off';
    SET statement_timeout = 0;
    SET lock_timeout = 0;
    SET idle_in_transaction_session_timeout = '10s';
    SET client_min_messages = warning;
    SET jit = off;
    SET enable_seqscan = off;
    SET enable_bitmapscan = off;
    SET enable_hashjoin = off;
    SET enable_mergejoin = off;
";

/// What a query is given.
pub(super) type Parameters<'a> = &'a [&'a (dyn ToSql + Sync)];

/// A connection, the statements it knows, and the task that drives it.
#[derive(Debug)]
pub(super) struct Session {
    client: Client,
    statements: HashMap<&'static str, Statement>,
    driver: JoinHandle<()>,
}

impl Session {
    /// Connects and sets up.
    pub(super) async fn open(target: &Target) -> Result<Self, ConnectError> {
        let (client, line) = target.connect().await?;
        Self::over(client, line, None, target).await
    }

    /// The same, with a place where notifications arrive; it is closed when the connection ends.
    pub(super) async fn listening(
        target: &Target,
    ) -> Result<(Self, mpsc::Receiver<Notification>), ConnectError> {
        let (client, line) = target.connect().await?;
        let (notify, notified) = mpsc::channel(NOTIFICATIONS_WAITING_MAX);
        Ok((Self::over(client, line, Some(notify), target).await?, notified))
    }

    async fn over(
        client: Client,
        line: Line,
        notify: Option<mpsc::Sender<Notification>>,
        target: &Target,
    ) -> Result<Self, ConnectError> {
        let driver = tokio::spawn(drive(line, notify));
        let session = Self { client, statements: HashMap::new(), driver };
        session.client.batch_execute(SETTINGS).await.map_err(|source| target.refused(source))?;
        Ok(session)
    }

    /// Makes these statements known, so that they cost no parsing and no round trip of their own later.
    pub(super) async fn prepare(&mut self, statements: &[&'static str]) -> Result<(), tokio_postgres::Error> {
        let prepared = try_join_all(statements.iter().map(|sql| self.client.prepare(sql))).await?;
        self.statements.extend(statements.iter().copied().zip(prepared));
        Ok(())
    }

    /// Runs a statement that was [prepared](Self::prepare). It is sent when the future is first polled, so that
    /// futures that are polled in order are one round trip, and happen in that order.
    pub(super) async fn query(
        &self,
        sql: &'static str,
        parameters: Parameters<'_>,
    ) -> Result<Vec<Row>, tokio_postgres::Error> {
        let statement = self.statements.get(sql).expect("every statement is prepared with its session");
        self.client.query(statement, parameters).await
    }

    /// Runs statements that have no parameters.
    pub(super) async fn execute(&self, sql: &str) -> Result<(), tokio_postgres::Error> {
        self.client.batch_execute(sql).await
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn is_closed(&self) -> bool {
        self.client.is_closed()
    }

    /// Waits until the connection is gone; asked once.
    pub(super) async fn ended(&mut self) {
        let _ = (&mut self.driver).await; // A panic of the driver is an end as well.
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        // A connection that hangs would otherwise wait for its answers for ever.
        self.driver.abort();
    }
}

async fn drive(mut line: Line, notify: Option<mpsc::Sender<Notification>>) {
    loop {
        match poll_fn(|context| line.poll_message(context)).await {
            Some(Ok(AsyncMessage::Notification(notification))) => {
                if let Some(notify) = &notify
                    && notify.send(notification).await.is_err()
                {
                    return;
                }
            }
            Some(Ok(AsyncMessage::Notice(notice))) => tracing::debug!(%notice, "PostgreSQL remarks"),
            Some(Ok(_)) => {}
            Some(Err(error)) => {
                tracing::debug!(%error, "a connection to PostgreSQL ended");
                return;
            }
            None => return,
        }
    }
}
