//! What functions print, a line of JSON each: the last ones, those since a time, and those that are written from now on.
//! It reads as our own API does, and says it in other words.

use axum::extract::State;
use axum::response::Response;
use coracle_api::Since;
use coracle_faces::openfaas::logs::{LogQuery, render_line};
use coracle_faces::openfaas::refusal::Verb;
use coracle_model::{FunctionRef, Principal, Problem, Scope, code};
use coracle_observe::logs::{Filter, Line};
use jiff::Timestamp;

use super::rim::refused;
use crate::admin::gathered::of_all_nodes;
use crate::admin::logs::{Reading, Wanted, streamed};
use crate::admin::rim::{Answer, Asked, Who};
use crate::admin::{Admin, Shared};

pub(super) async fn read(
    State(admin): State<Shared>,
    Who(who): Who,
    Asked(pairs): Asked<Vec<(String, String)>>,
) -> Answer<Response> {
    let wanted = wanted(&admin, who, &pairs).map_err(refused(Verb::Logs))?;
    let (function, instance) = (wanted.filter.function.clone(), wanted.filter.instance);
    let query = coracle_api::LogQuery {
        namespace: Some(wanted.filter.namespace.clone()),
        function,
        tail: wanted.tail,
        since: wanted.since.map(Since::At),
        follow: wanted.follow,
        ..coracle_api::LogQuery::default()
    };
    let lines = Reading::begin(&admin.observe.logs, wanted).await?.lines();
    // Each node numbers its instances for itself.
    let lines = if instance.is_some() { lines } else { of_all_nodes(&admin.nodes, lines, query).await };
    Ok(streamed(lines, encode))
}

fn wanted(admin: &Admin, who: Principal, pairs: &[(String, String)]) -> Result<Wanted, Problem> {
    let pairs = pairs.iter().map(|(name, value)| (name.as_str(), value.as_str()));
    let LogQuery { function, instance, tail, follow, since } = LogQuery::parse(pairs)?;
    admin.authenticator.require_on(who, Scope::Deploy, &function)?;
    if admin.catalog.resolve(&function).is_none() {
        return Err(Problem::no_function(&function));
    }
    let instance = instance.as_deref().map(number_of).transpose()?;
    let tail = tail.map(|lines| usize::try_from(lines).unwrap_or(usize::MAX));
    Ok(Wanted {
        filter: Filter { instance, ..Filter::function(function) },
        tail,
        // Whoever names neither wants all that is kept.
        since: since.or(tail.is_none().then_some(Timestamp::UNIX_EPOCH)),
        follow,
    })
}

fn number_of(instance: &str) -> Result<u64, Problem> {
    instance.parse().map_err(|_| {
        Problem::new(&code::BAD_REQUEST, "`instance` is no instance of ours")
            .hint("each line of a log names the instance that wrote it, which is a number")
    })
}

fn encode(line: &Line, out: &mut Vec<u8>) {
    let Line { at, function, instance, text, .. } = line;
    let mut rendered = String::new();
    render_line(&FunctionRef::clone(function), &instance.to_string(), *at, text, &mut rendered);
    out.extend(rendered.into_bytes());
}
