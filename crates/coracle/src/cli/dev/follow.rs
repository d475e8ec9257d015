//! What the functions print and how their calls end, as it comes, for as long as `coracle dev` runs.
//! A stream that ends is begun again: the server may have gone away, which the loop notices by itself.

use std::collections::BTreeSet;
use std::time::Duration;

use coracle_api::{CallQuery, Client, FollowedCall, LogQuery, Since};
use coracle_model::{Clock as _, FunctionName, NamespaceName, Span};
use coracle_observe::clock::System;
use serde_json::json;
use tokio::sync::watch;

use super::event;
use crate::cli::logs::Names;
use crate::cli::{calls, logs};
use crate::stop::Done;
use crate::talk;

/// Between a stream that ended and the next.
const PAUSE: Duration = Duration::from_millis(500);

/// Whom to listen to.
#[derive(Debug, Clone)]
pub(super) struct Following {
    pub(super) client: Client,
    pub(super) namespace: NamespaceName,
    pub(super) functions: BTreeSet<FunctionName>,
}

/// Prints until nobody wants it any more; whom to listen to may change.
pub(super) async fn follow(mut following: watch::Receiver<Following>, json: bool) {
    // What is printed while no stream is there is shown by the next.
    let mut ended = System.instant();
    loop {
        let now = following.borrow_and_update().clone();
        let missed = Span(System.instant().duration_since(ended));
        let is_over = tokio::select! {
            // A stream that broke, or at its end, is begun again; so is one whose reader is gone, which the loop notices, too.
            _ = print_logs(&now, missed, json) => false,
            _ = print_calls(&now, json) => false,
            changed = following.changed() => changed.is_err(),
        };
        if is_over {
            return;
        }
        ended = System.instant();
        tokio::select! {
            () = tokio::time::sleep(PAUSE) => {}
            _ = following.changed() => following.mark_changed(),
        }
    }
}

impl Following {
    /// Whether it is the same functions of the same server.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        (self.client.url(), &self.namespace, &self.functions)
            == (other.client.url(), &other.namespace, &other.functions)
    }

    /// The function, if there is only one.
    fn one(&self) -> Option<FunctionName> {
        self.functions.first().filter(|_| self.functions.len() == 1).cloned()
    }
}

async fn print_logs(now: &Following, missed: Span, json: bool) -> Done {
    let one = now.one();
    let mut names = Names::default();
    let query = LogQuery {
        namespace: Some(now.namespace.clone()),
        function: one.clone(),
        since: Some(Since::Ago(missed)),
        follow: true,
        ..LogQuery::default()
    };
    let mut lines = now.client.logs(&query).await?;
    while let Some(line) = lines.next().await? {
        if now.functions.contains(&line.function.name) {
            let text = logs::render(&line, one.is_none().then_some(&mut names));
            event(json, text, &json!({ "event": "log", "line": line }))?;
        }
    }
    Ok(())
}

async fn print_calls(now: &Following, json: bool) -> Done {
    let mut names = Names::default();
    let query =
        CallQuery { namespace: Some(now.namespace.clone()), function: now.one(), ..CallQuery::default() };
    let mut ended = now.client.follow_calls(&query).await?;
    while let Some(next) = ended.next().await? {
        match next {
            FollowedCall::Call(call) if now.functions.contains(&call.function.name) => {
                let text = calls::line(&call, &mut names);
                event(json, text, &json!({ "event": "call", "call": call }))?;
            }
            FollowedCall::Call(_) => {}
            FollowedCall::Missed { missed } => {
                talk::say(format_args!("{missed} calls came too fast to be shown"))
            }
        }
    }
    Ok(())
}
