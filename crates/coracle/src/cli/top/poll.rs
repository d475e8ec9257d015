//! Asks the server again and again, whatever happens to it; keys never wait for an answer.
//! `screen.rs` starts it, and shows what it tells.

use std::time::Duration;

use coracle_api::{CallQuery, Client, ClientError, LogQuery, StatsQuery};
use coracle_model::FunctionRef;
use tokio::sync::{mpsc, watch};

use super::model::{Answer, Opened, Question, Told, function_of};
use crate::options::Common;
use crate::stop::Stop;

/// Calls and lines of a function that is looked at closely: no screen has more rows.
const CLOSE_ITEMS: usize = 100;

/// Asks until nobody listens; an answer that ends the work is the last.
pub(super) async fn poll(
    mut client: Client,
    common: Common,
    base: StatsQuery,
    interval: Duration,
    mut questions: watch::Receiver<Question>,
    answers: mpsc::Sender<Result<Told, Stop>>,
) {
    loop {
        let question = questions.borrow_and_update().clone();
        let answer = match ask(&client, &base, &question).await {
            Ok(told) => Ok(told),
            Err(error) => match reason(&error) {
                Some(why) => {
                    // One that was started anew may listen elsewhere; it says so in its data directory.
                    client = common.client().unwrap_or(client);
                    Ok(Told::Lost(why))
                }
                None => Err(error.into()),
            },
        };
        let is_last = answer.is_err();
        if answers.send(answer).await.is_err() || is_last {
            return;
        }
        tokio::select! {
            () = tokio::time::sleep(interval) => {}
            changed = questions.changed() => if changed.is_err() { return },
        }
    }
}

async fn ask(client: &Client, base: &StatsQuery, question: &Question) -> Result<Told, ClientError> {
    let query = StatsQuery {
        sort: Some(question.sort),
        contains: Some(question.contains.clone()).filter(|text| !text.is_empty()),
        ..base.clone()
    };
    let stats = client.stats(&query).await?;
    let opened = match &question.opened {
        Some(function) => Some(look(client, function).await?),
        None => None,
    };
    Ok(Told::Stats(Box::new(Answer { url: client.url().to_owned(), stats, opened })))
}

/// A closer look at a function.
async fn look(client: &Client, function: &FunctionRef) -> Result<Opened, ClientError> {
    let (namespace, name) = (Some(function.namespace.clone()), Some(function.name.clone()));
    let own = StatsQuery { namespace: namespace.clone(), function: name.clone(), ..StatsQuery::default() };
    let activity = client.stats(&own).await?.items.into_iter().find(|item| function_of(item) == *function);
    let calls = CallQuery {
        namespace: namespace.clone(),
        function: name.clone(),
        limit: Some(CLOSE_ITEMS),
        ..CallQuery::default()
    };
    let calls = client.calls(&calls).await?;
    let log = LogQuery { namespace, function: name, tail: Some(CLOSE_ITEMS), ..LogQuery::default() };
    let (mut log, mut lines) = (client.logs(&log).await?, Vec::new());
    while let Some(line) = log.next().await? {
        lines.push(line);
    }
    Ok(Opened { function: function.clone(), activity, calls, lines })
}

/// Why a server that may come back does not answer; `None` when asking again would not help.
fn reason(error: &ClientError) -> Option<String> {
    match error {
        ClientError::Unreachable { source, .. } => Some(source.to_string()),
        ClientError::Protocol { .. } => Some(error.to_string()),
        ClientError::Problem(problem) if problem.status >= 500 => Some(problem.message.clone()),
        _ => None,
    }
}
