//! What the functions print, as it comes, for as long as `coracle dev` runs.
//! A stream that ends is begun again: the server may have gone away, which the loop notices by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_api::{Client, ClientError, LogLine, LogQuery};
use coracle_model::{FunctionName, NamespaceName};
use serde_json::json;
use tokio::sync::watch;

use super::event;
use crate::cli::logs;
use crate::stop::Done;

/// Between a stream that ended and the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Whom to listen to.
#[derive(Debug, Clone)]
pub(super) struct Following {
    pub(super) client: Client,
    pub(super) namespace: NamespaceName,
    pub(super) functions: BTreeSet<FunctionName>,
}

/// Prints lines of logs until nobody reads them; whom to listen to may change.
pub(super) async fn lines(mut following: watch::Receiver<Following>, json: bool) -> Done {
    loop {
        let now = following.borrow_and_update().clone();
        tokio::select! {
            // Broken or at its end, it is begun again.
            printed = print_lines(&now, json) => if let Ok(Err(stop)) = printed { return Err(stop) },
            changed = following.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                continue;
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn print_lines(now: &Following, json: bool) -> Result<Done, ClientError> {
    let one = now.functions.first().filter(|_| now.functions.len() == 1);
    let query = LogQuery {
        namespace: Some(now.namespace.clone()),
        function: one.cloned(),
        tail: Some(0),
        follow: true,
        ..LogQuery::default()
    };
    let mut lines = now.client.logs(&query).await?;
    while let Some(line) = lines.next().await? {
        if now.functions.contains(&line.function.name)
            && let Err(stop) = print(&line, one.is_some(), json)
        {
            return Ok(Err(stop));
        }
    }
    Ok(Ok(()))
}

fn print(line: &LogLine, is_one: bool, json: bool) -> Done {
    event(json, logs::render(line, is_one), &json!({ "event": "log", "line": line }))
}
