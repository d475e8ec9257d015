//! The one task that commits what was settled and leases what is next, both in the same batch.
//! Started by `queue.rs`; what it starts runs in tasks of their own, and comes back through a bounded channel.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use coracle_store::{
    Arrivals, BATCH_BYTES_MAX, Batch, BoxFuture, CommitError, Committed, Holder, Lease, Take, Topics, Where,
};
use tokio::sync::mpsc;
use tokio::time::Sleep;

use crate::board::{Leased, Wish};
use crate::engine::{Engine, until};
use crate::heartbeat;
use crate::settle::Settled;
use crate::story::Story;
use crate::topics::Room;

/// What is settled and waits to be committed; when there is more, those who run calls wait.
pub(crate) const SETTLED_MAX: usize = 4_096;
/// Topics that are leased from in one batch.
const TAKES_MAX: usize = 16;
/// Lines of what is settled in one batch: whoever puts a call waits for the commit that is being made, so it is kept short.
const LINES_MAX: usize = 192;
/// Calls of which one batch says that they have begun.
const TOLD_MAX: usize = 192;
/// Bytes of one batch, so that another settled call of the largest kind fits.
const BYTES_MAX: usize = BATCH_BYTES_MAX / 2;
/// How long the worker waits after a commit that failed, the first time and at the most.
const BACKOFF_MIN: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long it sleeps when nothing is known to be due: a look at the clock, should it have been set.
const SLEEP_MAX: Duration = Duration::from_secs(60);

pub(crate) struct Worker {
    engine: Arc<Engine>,
    settled: mpsc::Receiver<Settled>,
    arrivals: Arrivals,
    /// Settled, not yet durable.
    pending: VecDeque<Settled>,
    backoff: Option<Duration>,
    /// Until when nothing is committed, after a commit that failed.
    rest: Option<Pin<Box<Sleep>>>,
    /// Whether the outcome of an earlier commit of what is pending is unknown.
    in_doubt: bool,
    /// How many of what is pending are committed each alone, because together they were refused.
    alone: usize,
    /// Under which it leased last.
    name: Holder,
}

/// One commit on its way.
struct Round {
    settled: Vec<Settled>,
    takes: Vec<Wish>,
    /// What has begun and was leased ahead.
    begun: Vec<Lease>,
    holder: Holder,
    /// Whether that was ours for sure when the round began.
    was_ours: bool,
}

impl Worker {
    pub(crate) fn new(engine: Arc<Engine>, settled: mpsc::Receiver<Settled>, arrivals: Arrivals) -> Self {
        Self {
            name: engine.sessions.current(),
            engine,
            settled,
            arrivals,
            pending: VecDeque::new(),
            backoff: None,
            rest: None,
            in_doubt: false,
            alone: 0,
        }
    }

    /// Works until the database is closed.
    pub(crate) async fn run(mut self) {
        let mut committing: Option<BoxFuture<'static, (Round, Result<Committed, CommitError>)>> = None;
        let mut news = Vec::new();
        loop {
            self.give_back_what_is_unsure();
            self.engine.start();
            if committing.is_none() && self.rest.is_none() {
                committing = self.round().map(|round| commit(Arc::clone(&self.engine), round));
            }
            let now = self.engine.now();
            let next = [self.engine.board.next_due(), self.engine.board.next_told()];
            let due = next.into_iter().flatten().min().map(|at| until(at, now));
            let sleep = due.unwrap_or(SLEEP_MAX).min(SLEEP_MAX);
            let room = SETTLED_MAX.saturating_sub(self.pending.len());
            tokio::select! {
                (round, result) = async { committing.as_mut().expect("guarded").await }, if committing.is_some() => {
                    committing = None;
                    self.committed(round, result).await;
                }
                _ = self.settled.recv_many(&mut news, room), if room > 0 => {
                    self.pending.extend(news.drain(..));
                }
                arrived = self.arrivals.next() => match arrived {
                    Some(Where::In(topics)) => {
                        let now = self.engine.now();
                        topics.iter().for_each(|(topic, wait)| self.engine.board.arrived(topic, *wait, now));
                    }
                    Some(Where::Everywhere) => look_everywhere(&self.engine).await,
                    None => return,
                },
                () = self.engine.board.nudged() => {}
                () = async { self.rest.as_mut().expect("guarded").await }, if self.rest.is_some() => self.rest = None,
                () = tokio::time::sleep(sleep), if self.rest.is_none() => {}
            }
        }
    }

    /// Gives back what was leased under an earlier name and has not begun.
    fn give_back_what_is_unsure(&mut self) {
        let current = self.engine.sessions.current();
        if current == self.name {
            return;
        }
        for Leased { lease, message } in self.engine.board.take_unsure(&current) {
            self.pending.push_back(crate::drain::released(lease, &message));
        }
        self.name = current;
    }

    /// What is committed next, if there is anything to commit.
    fn round(&mut self) -> Option<Round> {
        let (board, now) = (&self.engine.board, self.engine.now());
        // What is committed alone is to be refused for nobody else's fault.
        let (takes, begun) = match self.alone {
            0 => (board.wishes(now, TAKES_MAX), board.to_tell(now, TOLD_MAX)),
            _ => (Vec::new(), Vec::new()),
        };
        if takes.is_empty() && begun.is_empty() && self.pending.is_empty() {
            return None;
        }
        let (mut settled, mut lines, mut bytes) = (Vec::new(), 0, 0);
        // A call whose first lease was lost may have come here a second time: one batch names it once.
        let mut named = HashSet::new();
        while let Some(next) = self.pending.front() {
            (lines, bytes) = (lines + next.batch.len(), bytes + next.batch.bytes());
            let is_full = !settled.is_empty() && (lines > LINES_MAX || bytes > BYTES_MAX || self.alone > 0);
            if is_full || !named.insert(next.lease.position) {
                break;
            }
            settled.extend(self.pending.pop_front());
        }
        let (later, begun): (Vec<_>, _) = begun.into_iter().partition(|lease| !named.insert(lease.position));
        self.engine.board.not_told(later, now);
        let holder = self.engine.sessions.begin();
        let was_ours = self.engine.is_ours(&holder);
        Some(Round { settled, takes, begun, holder, was_ours })
    }

    async fn committed(&mut self, round: Round, result: Result<Committed, CommitError>) {
        match result {
            Ok(committed) => {
                self.in_doubt = false;
                self.backoff = None;
                self.done(round, committed);
            }
            Err(error) => self.failed(round, error).await,
        }
    }

    fn done(&mut self, round: Round, committed: Committed) {
        let (engine, now) = (&self.engine, self.engine.now());
        self.alone = self.alone.saturating_sub(round.settled.len());
        for settled in round.settled {
            engine.sessions.over(&settled.lease.holder);
            if settled.state.is_ended() {
                engine.endings.ended(&settled.id);
            }
        }
        engine.board.told(&round.begun);
        for (taken, wish) in committed.taken.into_iter().zip(round.takes) {
            engine.sessions.more(&round.holder, taken.messages.len() as u64);
            let limit = Room::of(&taken.topic).map_or(1, |room| engine.limit(&room));
            for Leased { lease, message } in engine.board.taken(taken, wish.limit, limit, now) {
                self.pending.push_back(crate::drain::released(lease, &message));
            }
        }
        engine.sessions.over(&round.holder);
    }

    /// Keeps what was settled, to be committed again; what was leased anew, nobody knows.
    async fn failed(&mut self, mut round: Round, error: CommitError) {
        let engine = Arc::clone(&self.engine);
        for wish in &round.takes {
            engine.board.not_taken(&wish.topic);
        }
        if let CommitError::Lost { position } = error {
            round.begun.retain(|lease| lease.position != position);
        }
        engine.board.not_told(std::mem::take(&mut round.begun), engine.now());
        match error {
            CommitError::Lost { position } => {
                let lost = round.settled.iter().position(|settled| settled.lease.position == position);
                if let Some(lost) = lost.map(|at| round.settled.remove(at)) {
                    self.alone = self.alone.saturating_sub(1);
                    self.lost(&lost);
                }
            }
            CommitError::Lapsed { .. } => {
                if round.was_ours {
                    tracing::warn!("this server was believed to be gone; it goes on under a new name");
                    engine.sessions.renew(&round.holder);
                }
                if let Err(error) = heartbeat::beat(&engine).await {
                    self.back_off(&round, &error);
                }
            }
            CommitError::Full | CommitError::Unavailable(_) => {
                self.in_doubt |= matches!(error, CommitError::Unavailable(_));
                if !round.takes.is_empty() && matches!(error, CommitError::Unavailable(_)) {
                    engine.sessions.renew(&round.holder);
                    // Its first lease needs it to be alive.
                    let _ = heartbeat::beat(&engine).await;
                }
                self.back_off(&round, &error);
            }
            CommitError::Conflict { .. } | CommitError::Invalid { .. } => self.refused(&mut round, &error),
        }
        engine.sessions.over(&round.holder);
        for settled in round.settled.into_iter().rev() {
            self.pending.push_front(settled);
        }
    }

    /// Commits nothing for a while.
    fn back_off(&mut self, round: &Round, error: &CommitError) {
        let backoff = self.backoff.map_or(BACKOFF_MIN, |before| (before * 2).min(BACKOFF_MAX));
        self.backoff = Some(backoff);
        // A pace: nobody tells when the disk has room again, or the database is back.
        self.rest = Some(Box::pin(tokio::time::sleep(backoff)));
        let waiting = round.settled.len() + self.pending.len();
        tracing::warn!(%error, waiting, ?backoff, "what calls ended in is kept until it can be written");
    }

    /// A lease that is no longer ours: somebody else has the call, so what it ended in here counts for nothing.
    fn lost(&self, settled: &Settled) {
        self.engine.sessions.over(&settled.lease.holder);
        if self.in_doubt {
            // An earlier commit of the same went through after all.
            self.engine.endings.ended(&settled.id);
            return;
        }
        let Settled { id, topic, state, .. } = settled;
        tracing::warn!(%id, %topic, state = state.as_str(), "the lease of a call was lost: its outcome here is dropped");
    }

    /// A batch that can never succeed: each call alone, so that one does not hold up the others.
    fn refused(&mut self, round: &mut Round, error: &CommitError) {
        if self.alone == 0 && !round.settled.is_empty() {
            // Whose fault it is, shows when each is committed with nothing beside it.
            self.alone = round.settled.len();
            return;
        }
        if let Some(settled) = round.settled.pop() {
            tracing::error!(%error, id = %settled.id, "the end of a call cannot be written: it waits for its next attempt");
            let story = Story::default().encode();
            let batch = Batch::new().retry(
                settled.lease.clone(),
                coracle_store::Due::In(Duration::from_secs(60)),
                story,
            );
            round.settled.push(Settled { batch, state: crate::State::Waiting, ..settled });
        }
        self.back_off(round, error);
    }
}

fn commit(engine: Arc<Engine>, round: Round) -> BoxFuture<'static, (Round, Result<Committed, CommitError>)> {
    Box::pin(async move {
        let mut batch = Batch::new();
        for settled in &round.settled {
            batch = batch.and(settled.batch.clone());
        }
        for lease in &round.begun {
            batch = batch.begin(lease.clone());
        }
        for Wish { topic, limit, begins } in &round.takes {
            let (topic, holder) = (topic.clone(), round.holder.clone());
            batch = batch.take(Take { topic, holder, limit: *limit, begins: *begins });
        }
        let result = engine.database.commit(batch).await;
        (round, result)
    })
}

/// Looks which topics have something that waits.
pub(crate) async fn look_everywhere(engine: &Engine) {
    let mut after = None;
    loop {
        let topics =
            Topics { prefix: String::new(), after: after.take(), limit: coracle_store::MESSAGES_MAX };
        let page = match engine.database.topics(topics).await {
            Ok(page) => page,
            Err(error) => {
                // What waits is heard of at its next arrival, or when the worker looks again.
                tracing::warn!(%error, "cannot look which calls wait");
                return;
            }
        };
        let now = engine.now();
        for count in &page {
            if let Some(at) = count.oldest_due
                && Room::of(&count.topic).is_some_and(|room| room.is_worked_on())
            {
                engine.board.arrived(&count.topic, until(at, now), now);
            }
        }
        let Some(last) = page.last() else { return };
        after = Some(last.topic.clone());
    }
}
