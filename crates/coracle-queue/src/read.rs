//! Looking at the queue: how full it is, which calls it has, one call with all that is known of it, and waiting for its end.
//! The admin API and the command line ask; nothing here changes anything.

use std::collections::BTreeMap;
use std::time::Duration;

use coracle_model::{CallId, FunctionRef, Problem, code};
use coracle_store::{
    MESSAGES_MAX, Message, MessageState, Position, Read, ReadFrom, Topic, TopicCount, Topics,
};

use crate::ended::decode_ended;
use crate::engine::Engine;
use crate::payload::Kept;
use crate::put::unread;
use crate::settle::{describe, message_id};
use crate::status::{Counts, List, Page, Status};
use crate::story::Story;
use crate::topics::Room;
use crate::{Filter, Kind, QueuedCall, State};

/// How often the database is asked whether a call has ended, beside the bell that rings when it ended here: each time
/// all of the call is read.
const LOOK_AGAIN_MIN: Duration = Duration::from_millis(125);
const LOOK_AGAIN_MAX: Duration = Duration::from_secs(4);
/// The most messages that one list looks through: few of a million may stand where they were asked for.
const LOOKED_THROUGH_MAX: usize = 10_000;
/// The most calls of one list.
pub(crate) const LIST_MAX: usize = MESSAGES_MAX;

/// How full the queue is.
pub(crate) async fn status(engine: &Engine, filter: &Filter) -> Result<Status, Problem> {
    let mut functions: BTreeMap<FunctionRef, Counts> = BTreeMap::new();
    for count in topics(engine, filter).await? {
        let Some(room) = Room::of(&count.topic) else { continue };
        let TopicCount { waiting, held, kept, oldest_due, .. } = count;
        match room {
            Room::Calls(function) if filter.matches(&function) => {
                let counts = functions.entry(function).or_default();
                let untold = engine.board.untold_in(&count.topic).min(waiting);
                (counts.waiting, counts.running, counts.oldest) =
                    (waiting - untold, held + untold, oldest_due);
            }
            Room::Deliveries(function) if filter.matches(&function) => {
                functions.entry(function).or_default().deliveries = waiting + held;
            }
            Room::Dead(function) if filter.matches(&function) => {
                functions.entry(function).or_default().dead = kept;
            }
            _ => {}
        }
    }
    let mut totals = Counts::default();
    for counts in functions.values() {
        totals.waiting += counts.waiting;
        totals.running += counts.running;
        totals.dead += counts.dead;
        totals.deliveries += counts.deliveries;
        totals.oldest = [totals.oldest, counts.oldest].into_iter().flatten().min();
    }
    let functions = functions.into_iter().collect();
    Ok(Status { totals, functions, depth_max: engine.options.depth_max })
}

/// Some of the calls of a state.
pub(crate) async fn list(engine: &Engine, list: &List) -> Result<Page, Problem> {
    let limit = list.limit.clamp(1, LIST_MAX);
    let mut place = list.after.as_deref().map(Cursor::parse).transpose()?;
    let mut rooms: Vec<Topic> = match list.state {
        State::Succeeded | State::Failed | State::Cancelled => ended_topics(engine, &list.filter).await?,
        _ => topics(engine, &list.filter)
            .await?
            .into_iter()
            .map(|count| count.topic)
            .filter(|topic| Room::of(topic).is_some_and(|room| room_has(&room, list)))
            .collect(),
    };
    if let Some(cursor) = &place {
        rooms.retain(|topic| *topic >= cursor.topic);
    }
    let (mut calls, mut looked_through) = (Vec::new(), 0);
    for topic in rooms {
        // What waits or runs is looked at in its order; of what ended, the last is what somebody looks for.
        let (begin, go_on): (_, fn(Position) -> _) = match list.state.is_ended() {
            false => (ReadFrom::Start, ReadFrom::After),
            true => (ReadFrom::End, ReadFrom::Before),
        };
        let mut from = match place.take() {
            Some(cursor) if cursor.topic == topic => go_on(cursor.position),
            _ => begin,
        };
        loop {
            let read = Read { topic: topic.clone(), from, limit: MESSAGES_MAX };
            let page = engine.database.read(read).await.map_err(unread)?;
            let Some(last) = page.last() else { break };
            from = go_on(last.position);
            for message in page {
                looked_through += 1;
                let position = message.position;
                let call = read_message(engine, message);
                if call.state == list.state && list.filter.matches(&call.function) {
                    calls.push(without_body(call));
                }
                if calls.len() == limit || looked_through == LOOKED_THROUGH_MAX {
                    let next = Cursor { topic, position }.to_string();
                    return Ok(Page { calls, next: Some(next) });
                }
            }
        }
    }
    Ok(Page { calls, next: None })
}

/// A call of one of these functions, with all that is known of it.
pub(crate) async fn show(
    engine: &Engine,
    id: &CallId,
    of: impl Fn(&FunctionRef) -> bool,
) -> Result<QueuedCall, Problem> {
    let found = find(engine, id).await?;
    // The newest, should an id of a caller's have come twice; its own results may be newer messages of the same id.
    let call = found
        .into_iter()
        .map(|message| read_message(engine, message))
        .find(|call| matches!(call.kind, Kind::Call { .. }) && of(&call.function));
    call.ok_or_else(|| no_call(id))
}

/// The deliveries that a call caused.
pub(crate) async fn deliveries(
    engine: &Engine,
    id: &CallId,
    of: &Filter,
) -> Result<Vec<QueuedCall>, Problem> {
    let found = find(engine, id).await?;
    let calls = found.into_iter().map(|message| read_message(engine, message));
    Ok(calls
        .filter(|call| matches!(call.kind, Kind::Delivery { .. }) && of.matches(&call.function))
        .collect())
}

/// A call once it has ended, or as it is when the time is over.
pub(crate) async fn wait(
    engine: &Engine,
    id: &CallId,
    of: &Filter,
    at_most: Duration,
) -> Result<QueuedCall, Problem> {
    let mut pause = LOOK_AGAIN_MIN;
    let over = tokio::time::sleep(at_most);
    tokio::pin!(over);
    let bell = engine.endings.bell(id);
    loop {
        let rung = bell.notified();
        tokio::pin!(rung);
        // Before the look, so that an end between the two is heard.
        rung.as_mut().enable();
        let call = show(engine, id, |function| of.matches(function)).await?;
        if call.state.is_ended() {
            return Ok(call);
        }
        tokio::select! {
            () = rung => {}
            // A pace: it may run on another server, whose bell is not heard here.
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LOOK_AGAIN_MAX),
            () = &mut over => return Ok(call),
        }
    }
}

/// The messages of a call, the newest first.
pub(crate) async fn find(engine: &Engine, id: &CallId) -> Result<Vec<Message>, Problem> {
    let Some(id) = message_id(id) else { return Ok(Vec::new()) };
    let found = engine.database.find(&id).await.map_err(unread)?;
    // What a namespace keeps for its readers is not the queue's any more.
    let is_ours =
        |message: &Message| Room::of(&message.topic).is_some_and(|room| !matches!(room, Room::Named(..)));
    Ok(found.into_iter().filter(is_ours).collect())
}

/// The same, of the functions that are asked for; at least one.
pub(crate) async fn find_of(engine: &Engine, id: &CallId, of: &Filter) -> Result<Vec<Message>, Problem> {
    let mut found = find(engine, id).await?;
    found.retain(|message| of.matches(&read_message(engine, message.clone()).function));
    if found.is_empty() { Err(no_call(id)) } else { Ok(found) }
}

/// What a message says of its call.
pub(crate) fn read_message(engine: &Engine, message: Message) -> QueuedCall {
    let room = Room::of(&message.topic);
    let (function, state) = match room {
        Some(Room::Dead(function)) => (function, State::Dead),
        Some(Room::Calls(function) | Room::Deliveries(function)) => match message.state {
            MessageState::Held(_) if !engine.board.is_ahead(&message.topic, message.position) => {
                (function, State::Running)
            }
            MessageState::Ahead(_) if engine.board.is_running(message.position) => (function, State::Running),
            _ => (function, State::Waiting),
        },
        _ => {
            return decode_ended(&message.payload)
                .unwrap_or_else(|error| unreadable(&message, None, &error.to_string()));
        }
    };
    match (Kept::decode(&message.payload), Story::decode(&message.story)) {
        (Ok(kept), Ok(mut story)) => {
            match message.state {
                // One that runs is not lost; all before it are told of, or were.
                MessageState::Held(_) | MessageState::Ahead(_) => story.catch_up(message.attempt, &message),
                MessageState::Waiting | MessageState::Behind => story.catch_up(message.attempt + 1, &message),
                MessageState::Kept => {}
            }
            let mut call = describe(&message, &function, &kept, &story, state);
            match state {
                State::Dead => call.ended = Some(message.appended),
                _ => call.due = message.due.max(kept.due),
            }
            call
        }
        (Err(error), _) | (_, Err(error)) => {
            unreadable(&message, Some((function, state)), &error.to_string())
        }
    }
}

/// What is known of a message that this version cannot read.
fn unreadable(message: &Message, known: Option<(FunctionRef, State)>, why: &str) -> QueuedCall {
    let id = message.id.as_ref().and_then(|id| CallId::parse(id.as_str()));
    let (function, state) = known.unwrap_or_else(|| {
        let function = FunctionRef::parse("unknown").expect("a name");
        (function, State::Dead)
    });
    QueuedCall {
        id: id.unwrap_or_else(|| CallId::from_bits(message.position.0.into())),
        function,
        kind: Kind::Call { method: http::Method::POST, path: "?".to_owned() },
        state,
        group: message.group.as_ref().map(|group| group.as_str().to_owned()),
        accepted: message.appended,
        due: message.due,
        ended: None,
        callback: None,
        body_bytes: message.payload.len() as u64,
        attempts_made: message.attempt,
        attempts: Vec::new(),
        reason: Some(why.to_owned()),
        result: None,
    }
}

pub(crate) fn no_call(id: &CallId) -> Problem {
    Problem::new(&code::CALL_NOT_FOUND, format!("the queue has no call `{id}`, nor remembers one"))
        .hint("how a call ended is kept for a day; `coracle queue list` shows what is there")
}

/// The topics that hold something, with how much.
pub(crate) async fn topics(engine: &Engine, filter: &Filter) -> Result<Vec<TopicCount>, Problem> {
    let prefix = match filter {
        Filter::All => String::new(),
        Filter::Namespace(namespace) => format!("{namespace}/"),
        Filter::Function(function) => format!("{}/", function.namespace),
    };
    let (mut all, mut after) = (Vec::new(), None);
    loop {
        let page = Topics { prefix: prefix.clone(), after, limit: MESSAGES_MAX };
        let page = engine.database.topics(page).await.map_err(unread)?;
        let Some(last) = page.last() else { return Ok(all) };
        after = Some(last.topic.clone());
        all.extend(page);
    }
}

async fn ended_topics(engine: &Engine, filter: &Filter) -> Result<Vec<Topic>, Problem> {
    let of = |namespace| vec![Room::Ended(namespace).topic()];
    Ok(match filter {
        Filter::Namespace(namespace) => of(namespace.clone()),
        Filter::Function(function) => of(function.namespace.clone()),
        Filter::All => {
            let all = topics(engine, filter).await?.into_iter().map(|count| count.topic);
            all.filter(|topic| matches!(Room::of(topic), Some(Room::Ended(_)))).collect()
        }
    })
}

/// Whether a topic may hold what a list asks for.
fn room_has(room: &Room, list: &List) -> bool {
    match (room, list.state) {
        (Room::Calls(function) | Room::Deliveries(function), State::Waiting | State::Running)
        | (Room::Dead(function), State::Dead) => list.filter.matches(function),
        _ => false,
    }
}

fn without_body(mut call: QueuedCall) -> QueuedCall {
    if let Some(result) = &mut call.result {
        result.body = bytes::Bytes::new();
    }
    call
}

/// Where a page ended.
struct Cursor {
    topic: Topic,
    position: Position,
}

impl Cursor {
    fn parse(text: &str) -> Result<Self, Problem> {
        let parsed = text.rsplit_once('@').and_then(|(topic, position)| {
            Some(Self { topic: Topic::new(topic).ok()?, position: Position(position.parse().ok()?) })
        });
        parsed.ok_or_else(|| {
            let text: String = text.chars().filter(|c| !c.is_control()).take(60).collect();
            Problem::new(&code::BAD_REQUEST, format!("`{text}` is no place in a list of calls"))
                .hint("send `next` of the page before")
        })
    }
}

impl std::fmt::Display for Cursor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}@{}", self.topic, self.position)
    }
}
