//! The names under which the queue keeps things: topics of messages, and keys.
//! Every other file asks here, so that no name is put together twice.

use coracle_model::{Digest, FunctionName, FunctionRef, NamespaceName, TopicName};
use coracle_store::{InvalidKey, Key, Position, Topic};

/// What a topic of the queue holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Room {
    /// Calls that wait or run.
    Calls(FunctionRef),
    /// Results of a function's calls that are to be delivered.
    Deliveries(FunctionRef),
    /// Calls and deliveries of a function that are not tried again.
    Dead(FunctionRef),
    /// How the calls of a namespace ended.
    Ended(NamespaceName),
    /// What a namespace keeps for whoever reads it.
    Named(NamespaceName, TopicName),
}

const CALLS: &str = "calls";
const DELIVERIES: &str = "deliveries";
const DEAD: &str = "dead";
const ENDED: &str = "ended";
const NAMED: &str = "topics";

impl Room {
    pub(crate) fn topic(&self) -> Topic {
        let named = |namespace: &NamespaceName, parts: &[&str]| {
            let parts: Vec<&str> = [&[namespace.as_str()], parts].concat();
            legal(Topic::from_parts(&parts))
        };
        match self {
            Self::Calls(function) => named(&function.namespace, &[CALLS, function.name.as_str()]),
            Self::Deliveries(function) => named(&function.namespace, &[DELIVERIES, function.name.as_str()]),
            Self::Dead(function) => named(&function.namespace, &[DEAD, function.name.as_str()]),
            Self::Ended(namespace) => named(namespace, &[ENDED]),
            Self::Named(namespace, topic) => named(namespace, &[NAMED, topic.as_str()]),
        }
    }

    /// What a topic holds; `None` of one that is not the queue's.
    pub(crate) fn of(topic: &Topic) -> Option<Self> {
        let mut parts = topic.parts();
        let namespace = NamespaceName::parse(parts.next()?).ok()?;
        let (kind, name) = (parts.next()?, parts.next());
        let function = |name: &str| {
            Some(FunctionRef { namespace: namespace.clone(), name: FunctionName::parse(name).ok()? })
        };
        if parts.next().is_some() {
            return None;
        }
        match (kind, name) {
            (CALLS, Some(name)) => function(name).map(Self::Calls),
            (DELIVERIES, Some(name)) => function(name).map(Self::Deliveries),
            (DEAD, Some(name)) => function(name).map(Self::Dead),
            (ENDED, None) => Some(Self::Ended(namespace)),
            (NAMED, Some(name)) => Some(Self::Named(namespace.clone(), TopicName::parse(name).ok()?)),
            _ => None,
        }
    }

    /// The beginning of the names of all topics of a kind, in one namespace.
    pub(crate) fn prefix_of_calls(namespace: &NamespaceName) -> String {
        format!("{namespace}/{CALLS}/")
    }

    /// Whether its messages are leased, and not only kept.
    pub(crate) fn is_worked_on(&self) -> bool {
        matches!(self, Self::Calls(_) | Self::Deliveries(_))
    }
}

/// The keys of what made calls one call.
pub(crate) const ONCE_PREFIX: &str = "queue/once/";
/// The keys of calls that are to be cancelled wherever they run.
pub(crate) const CANCEL_PREFIX: &str = "queue/cancel/";
/// The keys of bodies that are artifacts, as long as a call needs them.
pub(crate) const BODY_PREFIX: &str = "queue/body/";

/// Where an idempotency key of a function is kept; its text may be anything, so it is hashed.
pub(crate) fn once_key(function: &FunctionRef, text: &str) -> Key {
    let hash = blake3::hash(text.as_bytes()).to_hex();
    legal(Key::from_parts(&["queue", "once", function.namespace.as_str(), function.name.as_str(), &hash]))
}

/// Where it is kept that a call is to be cancelled. By its position: its id may come again with another call.
pub(crate) fn cancel_key(position: Position) -> Key {
    legal(Key::from_parts(&["queue", "cancel", &position.0.to_string()]))
}

/// Which call it is that a key says is to be cancelled.
pub(crate) fn to_be_cancelled(key: &Key) -> Option<Position> {
    key.as_str().strip_prefix(CANCEL_PREFIX)?.parse().ok().map(Position)
}

/// Where it is kept that a call needs an artifact.
pub(crate) fn body_key(digest: &Digest, mark: &str) -> Key {
    legal(Key::from_parts(&["queue", "body", &digest.to_string(), mark]))
}

fn legal<T>(named: Result<T, InvalidKey>) -> T {
    named.expect("names hold neither `/` nor control characters, and are short")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_topic_says_what_it_holds() {
        let function = FunctionRef::parse("resize.shop").unwrap();
        let rooms = [
            (Room::Calls(function.clone()), "shop/calls/resize"),
            (Room::Deliveries(function.clone()), "shop/deliveries/resize"),
            (Room::Dead(function.clone()), "shop/dead/resize"),
            (Room::Ended(function.namespace.clone()), "shop/ended"),
            (
                Room::Named(function.namespace.clone(), TopicName::parse("orders").unwrap()),
                "shop/topics/orders",
            ),
        ];
        for (room, name) in rooms {
            assert_eq!(room.topic().as_str(), name);
            assert_eq!(Room::of(&room.topic()), Some(room));
        }
        for other in ["shop", "shop/calls", "shop/ended/x", "shop/calls/a/b", "SHOP/calls/a", "shop/else/x"] {
            assert_eq!(Room::of(&Topic::new(other).unwrap()), None, "{other}");
        }
    }

    #[test]
    fn a_key_holds_whatever_text_it_is_made_of() {
        let function = FunctionRef::parse("f").unwrap();
        let key = once_key(&function, "a/b ../é");
        assert!(key.as_str().starts_with("queue/once/default/f/"));
        assert_eq!(to_be_cancelled(&cancel_key(Position(7))), Some(Position(7)));
        assert_eq!(to_be_cancelled(&key), None);
        assert!(body_key(&Digest::from_bytes([7; 32]), "0f").as_str().starts_with(BODY_PREFIX));
    }
}
