//! Lines that several nodes wrote, as one log: those of this server, and those that the others answer with.
//! Called by the handlers of logs, of whatever dialect.

use std::collections::VecDeque;

use coracle_api::client::LogLines;
use coracle_api::{Client, ClientError, LogLine, LogQuery, LogStream};
use coracle_model::{CallId, Problem};
use coracle_observe::logs::{Line, Stream};
use futures_util::stream::{self, BoxStream, Fuse, StreamExt, select_all};

use crate::nodes::Nodes;

/// Lines in the order in which they were written, some at a time.
pub(crate) type Lines = BoxStream<'static, Result<Vec<Line>, Problem>>;

/// The lines of this server and of all others, for a query that names its namespace.
///
/// They come in the order of their times; while they are followed, in that in which they arrive.
pub(crate) async fn of_all_nodes(nodes: &Nodes, here: Lines, query: LogQuery) -> Lines {
    let asked = LogQuery { here: true, ..query };
    let others = nodes.ask(|client| answer(client, asked.clone())).await;
    if others.is_empty() {
        return here;
    }
    let all = std::iter::once(here).chain(others.into_iter().map(lines_of));
    if asked.follow {
        return select_all(all).boxed();
    }
    let sources = all.map(Source::of).collect();
    let merged = stream::unfold(Some(sources), async |sources: Option<Vec<Source>>| {
        let mut sources = sources?;
        match next(&mut sources).await {
            Ok(line) => Some((Ok(vec![line?]), Some(sources))),
            Err(problem) => Some((Err(problem), None)),
        }
    });
    match asked.tail {
        None => merged.boxed(),
        Some(tail) => stream::once(last(merged.boxed(), tail)).boxed(),
    }
}

async fn answer(client: Client, query: LogQuery) -> Result<LogLines, ClientError> {
    client.logs(&query).await
}

/// One node's lines on their way.
struct Source {
    ahead: VecDeque<Line>,
    /// It is asked again after its end, for as long as others go on.
    more: Fuse<Lines>,
}

impl Source {
    fn of(lines: Lines) -> Self {
        Self { ahead: VecDeque::new(), more: lines.fuse() }
    }
}

/// The earliest of the lines that come next; `None` when all have ended.
async fn next(sources: &mut [Source]) -> Result<Option<Line>, Problem> {
    for source in &mut *sources {
        while source.ahead.is_empty() {
            let Some(lines) = source.more.next().await else { break };
            source.ahead = lines?.into();
        }
    }
    let earliest = sources.iter_mut().filter(|source| !source.ahead.is_empty());
    let earliest = earliest.min_by_key(|source| source.ahead.front().map(|line| line.at));
    Ok(earliest.and_then(|source| source.ahead.pop_front()))
}

/// The last so many lines. Each node has sent no more than that.
async fn last(mut lines: Lines, tail: usize) -> Result<Vec<Line>, Problem> {
    let mut kept = VecDeque::new();
    while let Some(more) = lines.next().await {
        kept.extend(more?);
        while kept.len() > tail {
            kept.pop_front();
        }
    }
    Ok(kept.into())
}

/// What another node answers with; one that breaks off has no more lines, and ours go on.
fn lines_of(lines: LogLines) -> Lines {
    let lines = stream::unfold(lines, async |mut lines| match lines.next().await {
        Ok(line) => Some((Ok(vec![line_of(line?)]), lines)),
        Err(error) => {
            tracing::warn!(%error, "the lines of another node broke off");
            None
        }
    });
    lines.boxed()
}

fn line_of(line: LogLine) -> Line {
    let LogLine { time, function, revision, instance, call, stream, text } = line;
    let stream = match stream {
        LogStream::Stdout => Stream::Stdout,
        LogStream::Stderr => Stream::Stderr,
        LogStream::Platform => Stream::Platform,
    };
    let call = call.as_deref().and_then(CallId::parse);
    Line { at: time, function, revision, instance, call, stream, text }
}

#[cfg(test)]
mod tests {
    use coracle_model::FunctionRef;
    use jiff::{SignedDuration, Timestamp};

    use super::*;

    fn line(second: i64) -> Line {
        Line {
            at: Timestamp::UNIX_EPOCH + SignedDuration::from_secs(second),
            function: FunctionRef { namespace: "default".parse().unwrap(), name: "f".parse().unwrap() },
            revision: 1,
            instance: 1,
            call: None,
            stream: Stream::Stdout,
            text: second.to_string(),
        }
    }

    #[tokio::test]
    async fn lines_of_several_nodes_come_in_the_order_of_their_times() {
        let of = |pages: Vec<Vec<i64>>| {
            let pages = pages.into_iter().map(|page| Ok(page.into_iter().map(line).collect::<Vec<_>>()));
            // As a node's own lines come: a stream that must not be asked after its end.
            let more = stream::unfold(pages.collect::<VecDeque<_>>(), async |mut pages| {
                pages.pop_front().map(|page| (page, pages))
            });
            Source::of(more.boxed())
        };
        let mut sources =
            [of(vec![vec![1, 4], vec![], vec![7]]), of(vec![]), of(vec![vec![2], vec![3, 5, 6]])];
        let mut texts = Vec::new();
        while let Some(line) = next(&mut sources).await.unwrap() {
            texts.push(line.text);
        }
        assert_eq!(texts, ["1", "2", "3", "4", "5", "6", "7"]);
        let lines = stream::iter([Ok(vec![line(1)]), Ok(vec![line(2), line(3)])]).boxed();
        let kept: Vec<_> = last(lines, 2).await.unwrap().into_iter().map(|line| line.text).collect();
        assert_eq!(kept, ["2", "3"]);
    }
}
