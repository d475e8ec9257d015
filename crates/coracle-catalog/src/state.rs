//! What the catalog holds in memory: everything that a call, a list or a decision needs, indexed.
//! Changed in one way only, [`State::apply`]: by the load at start, by our own writes, and by the watch.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use coracle_model::{
    AppName, Digest, FunctionName, FunctionRef, NamespaceName, Revision, SecretName, TokenId,
};
use coracle_store::Key;
use serde::de::DeserializeOwned;

use crate::catalog::Function;
use crate::records::{
    FunctionRecord, GoneRecord, KeyRecord, NamespaceRecord, Place, RegistryRecord, SecretRecord, TokenRecord,
    decode,
};
use crate::routes::Routes;
use crate::secrets::Sealed;
use crate::tokens::Token;

/// Everything that is held in memory.
///
/// Every change costs as much as what it changes, never as much as there is.
#[derive(Debug, Default)]
pub(crate) struct State {
    /// For each key under the prefix, the revision of the commit that wrote its entry: what conditions name.
    entries: HashMap<Key, u64>,
    /// Records that cannot be read, with the reason. They are left alone.
    unreadable: BTreeMap<Key, String>,
    /// All commits up to this revision are in memory; what the watch says of them is old news.
    pub(crate) seen: u64,
    pub(crate) secret_key: Option<String>,
    pub(crate) namespaces: BTreeMap<NamespaceName, NamespaceRecord>,
    pub(crate) functions: BTreeMap<NamespaceName, BTreeMap<FunctionName, Held>>,
    /// The functions once more, for calls: one hash instead of a walk down two trees.
    pub(crate) current: foldhash::HashMap<FunctionRef, Arc<Revision>>,
    pub(crate) apps: BTreeMap<NamespaceName, BTreeMap<AppName, BTreeSet<FunctionName>>>,
    pub(crate) routes: Routes,
    pub(crate) gone: BTreeMap<NamespaceName, BTreeMap<FunctionName, u32>>,
    pub(crate) secrets: BTreeMap<NamespaceName, BTreeMap<SecretName, Sealed>>,
    pub(crate) registries: BTreeMap<NamespaceName, BTreeMap<String, RegistryRecord>>,
    pub(crate) tokens: HashMap<TokenId, Token>,
}

/// A function and the history of it that is kept.
#[derive(Debug, Clone)]
pub(crate) struct Held {
    pub(crate) function: Function,
    pub(crate) kept: BTreeMap<u32, Digest>,
}

impl State {
    /// Makes one entry of the database, or its absence, true in memory; names the functions that this concerns.
    ///
    /// Older news than what is held changes nothing.
    /// A record that cannot be read is reported and skipped: whatever was known before goes on being served.
    pub(crate) fn apply(&mut self, key: &Key, value: Option<&[u8]>, revision: u64) -> Vec<FunctionRef> {
        if self.entries.get(key).is_some_and(|held| *held >= revision) {
            return Vec::new();
        }
        match value {
            Some(_) => self.entries.insert(key.clone(), revision),
            None => self.entries.remove(key),
        };
        self.unreadable.remove(key);
        let place = Place::parse(key).ok_or_else(|| "this program knows no records of this kind".to_owned());
        place.and_then(|place| self.set(place, value)).unwrap_or_else(|reason| {
            tracing::error!(%key, reason, "a record of the catalog cannot be read; it is skipped, and kept as it is");
            self.unreadable.insert(key.clone(), reason);
            Vec::new()
        })
    }

    /// The revision of the entry under a key, for a condition.
    pub(crate) fn entry(&self, key: &Key) -> Option<u64> {
        self.entries.get(key).copied()
    }

    /// Why the record under a key cannot be read, if there is one that cannot.
    pub(crate) fn unreadable(&self, key: &Key) -> Option<&str> {
        self.unreadable.get(key).map(String::as_str)
    }

    /// All records that cannot be read.
    pub(crate) fn unreadable_keys(&self) -> impl Iterator<Item = &Key> {
        self.unreadable.keys()
    }

    pub(crate) fn held(&self, function: &FunctionRef) -> Option<&Held> {
        self.functions.get(&function.namespace)?.get(&function.name)
    }

    /// How many functions live in a namespace.
    pub(crate) fn functions_in(&self, namespace: &NamespaceName) -> usize {
        self.functions.get(namespace).map_or(0, BTreeMap::len)
    }

    pub(crate) fn all(&self) -> impl Iterator<Item = &Held> {
        self.functions.values().flat_map(BTreeMap::values)
    }

    /// The functions whose current revision reads a secret.
    pub(crate) fn readers(&self, namespace: &NamespaceName, secret: &SecretName) -> Vec<FunctionRef> {
        let held = self.functions.get(namespace).into_iter().flat_map(BTreeMap::values);
        held.filter(|held| held.function.current.settings.secrets.contains(secret))
            .map(|held| held.function.function.clone())
            .collect()
    }

    /// The functions whose entry is not the same in another state.
    pub(crate) fn differing(&self, other: &Self) -> Vec<FunctionRef> {
        let entry =
            |state: &Self, function: &FunctionRef| state.entry(&Place::Function(function.clone()).key());
        let changed = self.current.keys().filter(|function| entry(self, function) != entry(other, function));
        let absent = other.current.keys().filter(|function| !self.current.contains_key(*function));
        changed.chain(absent).cloned().collect()
    }

    fn set(&mut self, place: Place, value: Option<&[u8]>) -> Result<Vec<FunctionRef>, String> {
        match place {
            Place::Turn | Place::Revision(..) => {}
            Place::SecretKey => self.secret_key = read::<KeyRecord>(value)?.map(|record| record.id),
            Place::Namespace(name) => match read::<NamespaceRecord>(value)? {
                Some(record) => drop(self.namespaces.insert(name, record)),
                None => drop(self.namespaces.remove(&name)),
            },
            Place::Function(function) => {
                let record = read::<FunctionRecord>(value)?;
                if record.as_ref().is_some_and(|record| record.current.function != function) {
                    return Err("it is the record of another function".into());
                }
                self.set_function(&function, record);
                return Ok(vec![function]);
            }
            Place::Gone(function) => {
                let latest = read::<GoneRecord>(value)?.map(|record| record.latest);
                set_nested(&mut self.gone, &function.namespace, function.name, latest);
            }
            Place::Secret(namespace, name) => {
                let sealed = read::<SecretRecord>(value)?.map(Sealed::try_from).transpose()?;
                set_nested(&mut self.secrets, &namespace, name.clone(), sealed);
                return Ok(self.readers(&namespace, &name));
            }
            Place::Registry(namespace, registry) => {
                set_nested(&mut self.registries, &namespace, registry, read::<RegistryRecord>(value)?);
            }
            Place::Token(id) => match read::<TokenRecord>(value)? {
                Some(record) => drop(self.tokens.insert(id.clone(), Token::read(id, record)?)),
                None => drop(self.tokens.remove(&id)),
            },
        }
        Ok(Vec::new())
    }

    fn set_function(&mut self, function: &FunctionRef, record: Option<FunctionRecord>) {
        if let Some(Held { function: before, .. }) = self.held(function).cloned() {
            for route in &before.current.settings.routes {
                self.routes.remove(function, route);
            }
            if let Some(app) = before.app
                && let Some(apps) = self.apps.get_mut(&function.namespace)
                && let Some(members) = apps.get_mut(&app)
            {
                members.remove(&function.name);
                if members.is_empty() {
                    apps.remove(&app);
                }
            }
        }
        let held = record.map(|record| Held {
            function: Function {
                function: function.clone(),
                app: record.app,
                current: Arc::new(record.current),
                latest: record.latest,
                created: record.created,
                updated: record.updated,
            },
            kept: record.kept,
        });
        match &held {
            Some(Held { function: new, .. }) => {
                for route in &new.current.settings.routes {
                    self.routes.insert(function, route);
                }
                if let Some(app) = &new.app {
                    let apps = self.apps.entry(function.namespace.clone()).or_default();
                    apps.entry(app.clone()).or_default().insert(function.name.clone());
                }
                self.current.insert(function.clone(), Arc::clone(&new.current));
            }
            None => drop(self.current.remove(function)),
        }
        set_nested(&mut self.functions, &function.namespace, function.name.clone(), held);
    }
}

fn read<T: DeserializeOwned>(value: Option<&[u8]>) -> Result<Option<T>, String> {
    value.map(decode).transpose()
}

/// Puts or removes what lies under two keys; leaves no empty tree behind.
fn set_nested<N: Ord, V>(
    tree: &mut BTreeMap<NamespaceName, BTreeMap<N, V>>,
    namespace: &NamespaceName,
    name: N,
    value: Option<V>,
) {
    match value {
        Some(value) => drop(tree.entry(namespace.clone()).or_default().insert(name, value)),
        None => {
            if let Some(branch) = tree.get_mut(namespace) {
                branch.remove(&name);
                if branch.is_empty() {
                    tree.remove(namespace);
                }
            }
        }
    }
}
