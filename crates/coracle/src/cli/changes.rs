//! What changed from one revision to the next in how a function is run, in words; names only, where values may be long or private.
//! `coracle deploy` says it, because a setting that is left out is given up; `coracle show` says it of each revision.

use coracle_api::SettingsView;
use serde_json::{Map, Value};

use super::words::typed;

/// One line for each setting that is not what it was.
pub(super) fn changes(before: &SettingsView, after: &SettingsView) -> Vec<String> {
    changes_of("", &fields(before), &fields(after))
}

fn changes_of(prefix: &str, before: &Map<String, Value>, after: &Map<String, Value>) -> Vec<String> {
    let names = before.keys().chain(after.keys().filter(|name| !before.contains_key(*name)));
    let change = |name: &String| {
        change(name, before.get(name), after.get(name)).map(|change| format!("{prefix}{change}"))
    };
    names.filter_map(change).collect()
}

fn fields(settings: &SettingsView) -> Map<String, Value> {
    object(serde_json::to_value(settings).ok().as_ref())
}

/// What is an object always.
fn object(value: Option<&Value>) -> Map<String, Value> {
    value.and_then(Value::as_object).cloned().unwrap_or_default()
}

/// The words of a command, whose order is a part of it.
fn command(value: Option<&Value>) -> String {
    let words = value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default();
    if words.is_empty() { "unset".to_owned() } else { typed(words.iter().filter_map(Value::as_str)) }
}

fn change(name: &str, before: Option<&Value>, after: Option<&Value>) -> Option<String> {
    if before == after {
        return None;
    }
    if matches!(name, "command" | "entrypoint") {
        return Some(format!("{name} {} → {}", command(before), command(after)));
    }
    if matches!(name, "scale" | "queue") {
        // Short values, and none of them private.
        return Some(changes_of(&format!("{name}."), &object(before), &object(after)).join(", "));
    }
    let (Some(was), Some(is)) = (before.and_then(entries), after.and_then(entries)) else {
        return Some(format!("{name} {} → {}", shown(before), shown(after)));
    };
    let named = |sign, entry: &(String, &Value)| format!("{sign}{}", entry.0);
    let gone = was.iter().filter(|old| is.iter().all(|new| new.0 != old.0)).map(|old| named('-', old));
    let new = is.iter().filter(|new| was.iter().all(|old| old.0 != new.0)).map(|new| named('+', new));
    let other = is.iter().filter(|new| was.iter().any(|old| old.0 == new.0 && old.1 != new.1));
    let all: Vec<_> = gone.chain(new).chain(other.map(|new| named('~', new))).collect();
    Some(format!("{name} {}", all.join(" ")))
}

/// The entries of a list or a map, by name; `None` for a plain value.
fn entries(value: &Value) -> Option<Vec<(String, &Value)>> {
    match value {
        Value::Array(list) => Some(list.iter().map(|one| (shown(Some(one)), one)).collect()),
        Value::Object(map) => Some(map.iter().map(|(name, value)| (name.clone(), value)).collect()),
        _ => None,
    }
}

fn shown(value: Option<&Value>) -> String {
    match value {
        None => "unset".to_owned(),
        Some(Value::String(text)) => text.clone(),
        Some(value) => value.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_api::CodeKind;
    use coracle_model::{SecretName, Settings};

    #[test]
    fn what_is_given_up_is_said_as_loud_as_what_is_new() {
        let with = |edit: fn(&mut Settings)| {
            let mut settings = Settings::default();
            edit(&mut settings);
            SettingsView::new(CodeKind::Wasm, &settings)
        };
        let before = with(|settings| {
            settings.private = true;
            settings.secrets = vec![SecretName::parse("api-key").unwrap()];
            settings.env = [("A".into(), "1".into()), ("B".into(), "hunter2".into())].into();
            settings.content_type = Some("text/plain".into());
        });
        let after = with(|settings| {
            settings.env = [("B".into(), "hunter3".into()), ("C".into(), "3".into())].into();
            settings.limits.memory_bytes = 64 << 20;
        });
        assert_eq!(
            changes(&before, &after),
            [
                "content_type text/plain → unset",
                "env -A +C ~B",
                "memory 128MiB → 64MiB",
                "private true → false",
                "secrets -api-key"
            ]
        );
        assert_eq!(changes(&before, &before), [""; 0]);
    }
    #[test]
    fn a_command_is_one_thing_and_a_scale_is_four() {
        let with = |command: &[&str], max| {
            let mut settings = Settings::default();
            settings.program.command = command.iter().map(|word| (*word).to_owned()).collect();
            settings.scale.max = max;
            SettingsView::new(CodeKind::Bundle, &settings)
        };
        assert_eq!(
            changes(&with(&["./server", "-v", "a b"], 20), &with(&["-v", "./server"], 3)),
            ["command ./server -v 'a b' → -v ./server", "scale.max 20 → 3"]
        );
        assert_eq!(changes(&with(&[], 20), &with(&["./server"], 20)), ["command unset → ./server"]);
    }

    #[test]
    fn what_happens_to_queued_calls_is_said_key_by_key() {
        let with = |edit: fn(&mut coracle_model::Queueing)| {
            let mut settings = Settings::default();
            edit(&mut settings.queue);
            SettingsView::new(CodeKind::Wasm, &settings)
        };
        let after = with(|queue| {
            queue.retry.attempts = 3;
            queue.retry.statuses.push("409".parse().unwrap());
            queue.on_failure = Some("topic:dead-orders".parse().unwrap());
        });
        assert_eq!(
            changes(&with(|_| {}), &after),
            ["queue.attempts 5 → 3, queue.retry_on +409, queue.on_failure unset → topic:dead-orders"]
        );
    }
}
