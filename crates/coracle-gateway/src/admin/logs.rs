//! Logs as a stream of lines: the last ones, those since a time, and those that are written from now on.
//! `coracle logs` reads them.

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use bytes::Bytes;
use coracle_api::{FUNCTIONS_SKIPPED, LogLine, LogQuery, LogStream, PAGE_ITEMS_DEFAULT};
use coracle_model::{
    BodyError, CallId, FunctionName, FunctionRef, NamespaceName, Principal, Problem, Reach, Scope, code,
};
use coracle_observe::Followed;
use coracle_observe::logs::{
    Error, Filter, Follower, Line, Lines as Page, Logs, READ_FUNCTIONS_MAX, READ_LINES_MAX, Stream,
};
use futures_util::stream::{self, StreamExt};
use http::HeaderValue;
use http::header::CONTENT_TYPE;
use http_body_util::StreamBody;
use hyper::body::Frame;
use jiff::{Timestamp, ToSpan};

use super::Shared;
use super::gathered::{Lines, of_all_nodes};
use super::rim::{Answer, Asked, Who};

/// One JSON object a line.
pub(super) const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");

pub(super) async fn read(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(query): Asked<LogQuery>,
) -> Answer<Response> {
    let (namespace, function) = asked_for(&query, &who);
    match function.clone() {
        Some(name) => {
            let function = FunctionRef { namespace: namespace.clone(), name };
            admin.authenticator.require_on(who, Scope::Deploy, &function)?
        }
        None => admin.authenticator.require_in(who, Scope::Deploy, &namespace)?,
    };
    let filter = filter_of(&query, namespace.clone(), function.clone())?;
    let since = query.since.map(|since| since.at(admin.observe.clock.now()));
    let tail = query.tail.or(since.is_none().then_some(PAGE_ITEMS_DEFAULT));
    let wanted = Wanted { filter, tail, since, follow: query.follow };
    let reading = Reading::begin(&admin.observe.logs, wanted).await?;
    let skipped = reading.functions_skipped;
    let mut lines = reading.lines();
    if !query.here {
        // The others do not see whose token it is, so all that is meant is said.
        let whole = LogQuery { namespace: Some(namespace), function, tail, ..query };
        lines = of_all_nodes(&admin.nodes, lines, whole).await;
    }
    let mut response = streamed(lines, encode);
    if skipped > 0 {
        response.headers_mut().insert(FUNCTIONS_SKIPPED, skipped.into());
    }
    Ok(response)
}

/// The lines as a response, each written by `encode` with its end; a client that goes away ends it.
pub(crate) fn streamed(lines: Lines, encode: fn(&Line, &mut Vec<u8>)) -> Response<Body> {
    let pieces = lines.map(move |lines| {
        // The client sees that the stream broke off; it has no other place for an error.
        let lines = lines.map_err(BodyError::from)?;
        let mut bytes = Vec::new();
        lines.iter().for_each(|line| encode(line, &mut bytes));
        Ok::<_, BodyError>(Frame::data(Bytes::from(bytes)))
    });
    let mut response = Response::new(Body::new(StreamBody::new(pieces)));
    response.headers_mut().insert(CONTENT_TYPE, NDJSON);
    response
}

/// What of the logs a client wants.
pub(crate) struct Wanted {
    pub(crate) filter: Filter,
    /// The last so many; without it, all since a time.
    pub(crate) tail: Option<usize>,
    pub(crate) since: Option<Timestamp>,
    /// Those that are written from now on.
    pub(crate) follow: bool,
}

/// A client's place in the logs: first what is there, then what comes.
pub(crate) struct Reading {
    logs: Logs,
    filter: Filter,
    found: Vec<Line>,
    /// From where older lines go on, if not all of them were found yet.
    more_from: Option<Timestamp>,
    follower: Option<Follower>,
    /// The newest line that the client has.
    seen: Option<Timestamp>,
    /// Whether the follower may still bring lines that were found on disk already.
    catching_up: bool,
    /// Functions whose older lines the client was told that it does not get.
    functions_skipped: usize,
}

impl Reading {
    pub(crate) async fn begin(logs: &Logs, wanted: Wanted) -> Result<Self, Problem> {
        Self::try_begin(logs, wanted).await.map_err(problem_of)
    }

    /// The lines as they come; whoever drops the stream ends it.
    pub(crate) fn lines(self) -> Lines {
        let lines = stream::unfold(Some(self), async |reading| {
            let mut reading = reading?;
            match reading.next().await {
                Ok(lines) => Some((Ok(lines?), Some(reading))),
                Err(problem) => Some((Err(problem), None)),
            }
        });
        lines.boxed()
    }

    async fn try_begin(logs: &Logs, wanted: Wanted) -> Result<Self, Error> {
        let Wanted { filter, tail, since, follow } = wanted;
        let mut reading = Self {
            logs: logs.clone(),
            filter,
            found: Vec::new(),
            more_from: None,
            follower: None,
            seen: None,
            catching_up: false,
            functions_skipped: 0,
        };
        match tail.map(|n| n.min(READ_LINES_MAX)) {
            Some(n) => {
                let lines = if follow {
                    let (lines, follower) = logs.tail_then_follow(&reading.filter, n).await?;
                    reading.follower = Some(follower);
                    lines
                } else {
                    logs.tail(&reading.filter, n).await?
                };
                reading.functions_skipped = lines.functions_skipped;
                let wanted =
                    lines.lines.into_iter().filter(|line| since.is_none_or(|since| line.at >= since));
                reading.take(wanted.collect());
            }
            None => {
                // The follower first, so that no line falls between the two.
                if follow {
                    reading.follower = Some(logs.follow(&reading.filter)?);
                    reading.catching_up = true;
                }
                if let Some(since) = since {
                    let page = logs.since(&reading.filter, since).await?;
                    reading.functions_skipped = page.functions_skipped;
                    reading.take_page(page);
                }
            }
        }
        Ok(reading)
    }

    /// The next lines; `None` when there are no more.
    async fn next(&mut self) -> Result<Option<Vec<Line>>, Problem> {
        loop {
            if self.found.is_empty()
                && let Some(from) = self.more_from.take()
            {
                let page = self.logs.since(&self.filter, from).await.map_err(problem_of)?;
                if page.functions_skipped > self.functions_skipped {
                    return Err(lost_place());
                }
                self.take_page(page);
            }
            if !self.found.is_empty() {
                return Ok(Some(std::mem::take(&mut self.found)));
            }
            let Some(follower) = &mut self.follower else { return Ok(None) };
            match follower.next().await {
                None => return Ok(None),
                Some(Followed::One(line)) => {
                    // Only while catching up: should the clock jump back, later lines are no less new.
                    let known = self.catching_up && self.seen.is_some_and(|seen| line.at <= seen);
                    if !known {
                        self.catching_up = false;
                        self.take(vec![line]);
                    }
                }
                // A slow client lost its place, but the lines are on disk: go on from there.
                Some(Followed::Missed(_)) => {
                    self.more_from = self.seen.map(after);
                    self.catching_up = true;
                }
            }
        }
    }

    fn take_page(&mut self, page: Page) {
        self.more_from = page.lines.last().filter(|_| page.cut).map(|line| after(line.at));
        self.take(page.lines);
    }

    fn take(&mut self, lines: Vec<Line>) {
        self.seen = lines.last().map(|line| line.at).or(self.seen);
        self.found = lines;
    }
}

/// The moment after a line's: no line before it has it.
fn after(at: Timestamp) -> Timestamp {
    at.checked_add(1.nanosecond()).unwrap_or(Timestamp::MAX)
}

fn encode(line: &Line, out: &mut Vec<u8>) {
    let view = LogLine {
        time: line.at,
        function: line.function.clone(),
        revision: line.revision,
        instance: line.instance,
        call: line.call.as_ref().map(CallId::to_string),
        stream: match line.stream {
            Stream::Stdout => LogStream::Stdout,
            Stream::Stderr => LogStream::Stderr,
            Stream::Platform => LogStream::Platform,
        },
        text: line.text.clone(),
    };
    // Texts and numbers always have a JSON.
    out.extend(serde_json::to_vec(&view).unwrap_or_default());
    out.push(b'\n');
}

fn filter_of(
    query: &LogQuery,
    namespace: NamespaceName,
    function: Option<FunctionName>,
) -> Result<Filter, Problem> {
    let call = query.call.as_deref().map(|call| {
        CallId::parse(call)
            .ok_or_else(|| Problem::new(&code::BAD_REQUEST, "`call` is not the identity of a call"))
    });
    let stream = query.stream.map(|stream| match stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
        LogStream::Platform => Stream::Platform,
    });
    Ok(Filter { namespace, function, instance: None, call: call.transpose()?, stream })
}

/// Whose lines are meant: what is not said is what the token is for.
fn asked_for(query: &LogQuery, who: &Principal) -> (NamespaceName, Option<FunctionName>) {
    match (&query.namespace, &query.function, who) {
        (None, None, Principal::Token { reach: Reach::Function(own), .. }) => {
            (own.namespace.clone(), Some(own.name.clone()))
        }
        (None, named, Principal::Token { reach: Reach::Namespace(own), .. }) => (own.clone(), named.clone()),
        (None, named, Principal::Token { reach: Reach::Function(own), .. }) => {
            (own.namespace.clone(), named.clone())
        }
        (namespace, named, _) => (namespace.clone().unwrap_or_default(), named.clone()),
    }
}

/// A client so slow that what it missed cannot be read back.
fn lost_place() -> Problem {
    Problem::new(
        &code::SERVER_BUSY,
        format!(
            "the client fell behind, and more than {READ_FUNCTIONS_MAX} functions wrote lines in the meantime"
        ),
    )
    .hint("follow one function, or read faster")
}

fn problem_of(error: Error) -> Problem {
    match error {
        Error::FollowersFull => Problem::new(&code::SERVER_BUSY, error.to_string()).retry_after(5),
        Error::Open { ref source, .. } | Error::Read { ref source, .. } => {
            Problem::new(&code::INTERNAL, format!("{error}: {source}"))
        }
    }
}
