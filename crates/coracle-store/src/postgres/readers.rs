//! Reading: a few sessions that never wait for the writer.
//! Called by [`Postgres`](super::Postgres) alone.

use std::ops::Deref;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio_postgres::Error;

use super::session::Session;
use super::target::Target;
use super::{artifacts, closed, entries, log_reads};
use crate::{Cause, ReadError};

/// How many reads run at once; more of them wait.
const READERS_MAX: usize = 4;

#[derive(Debug)]
pub(super) struct Readers {
    target: Arc<Target>,
    running: Semaphore,
    // Std mutex: held to push or pop, never over `.await`. At most `READERS_MAX` sessions, opened when needed.
    idle: Mutex<Vec<Session>>,
}

/// A session for one reader at a time; kept for the next one when it is dropped.
#[derive(Debug)]
pub(super) struct Reader<'a> {
    session: Option<Session>,
    readers: &'a Readers,
    _permit: SemaphorePermit<'a>,
}

impl Readers {
    pub(super) fn new(target: Arc<Target>) -> Self {
        Self { target, running: Semaphore::new(READERS_MAX), idle: Mutex::default() }
    }

    /// A session that is connected, as far as one can know.
    pub(super) async fn reader(&self) -> Result<Reader<'_>, ReadError> {
        let permit = self.running.acquire().await.map_err(|_| ReadError::Unavailable(closed()))?;
        let session = match self.idle() {
            Some(session) => session,
            None => self.open().await?,
        };
        Ok(Reader { session: Some(session), readers: self, _permit: permit })
    }

    pub(super) fn close(&self) {
        self.running.close();
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    async fn open(&self) -> Result<Session, ReadError> {
        let session = Session::open(&self.target).await;
        let mut session = session.map_err(|error| ReadError::Unavailable(Arc::new(error)))?;
        session
            .prepare(&[&entries::READS[..], &log_reads::READS, &artifacts::READS].concat())
            .await
            .map_err(unavailable)?;
        Ok(session)
    }

    fn idle(&self) -> Option<Session> {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        // Those that a restart of PostgreSQL has ended go.
        idle.retain(|session| !session.is_closed());
        idle.pop()
    }
}

impl Deref for Reader<'_> {
    type Target = Session;

    fn deref(&self) -> &Session {
        self.session.as_ref().expect("taken when it is dropped, and not before")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        if let Some(session) = self.session.take()
            && !self.readers.running.is_closed()
        {
            self.readers.idle.lock().unwrap_or_else(PoisonError::into_inner).push(session);
        }
    }
}

pub(super) fn unavailable(error: Error) -> ReadError {
    let cause: Cause = Arc::new(error);
    ReadError::Unavailable(cause)
}
