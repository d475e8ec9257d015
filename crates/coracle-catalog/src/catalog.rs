//! The handle that everybody holds, and everything that is answered from memory.
//! The gateway and invoke ask it on every call; the admin API pages through it.

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::fmt;
use std::ops::Bound;
use std::sync::{Arc, OnceLock, RwLock};

use coracle_model::{
    AppName, Clock, Digest, FunctionName, FunctionRef, NamespaceName, Problem, Revision, code,
};
use coracle_store::Database;
use jiff::Timestamp;
use tokio::sync::{Mutex, broadcast};

use crate::SecretKey;
use crate::namespaces::NamespaceNotes;
use crate::records::{KeyRecord, NamespaceRecord, PREFIX, Place};
use crate::state::{Held, State};
use crate::turn::{Draft, Follower, Writer, load};

/// How many changes wait for one slow receiver of [`Catalog::changes`].
pub const CHANGES_MAX: usize = 1024;

/// What is deployed. A clone is a handle to the same.
#[derive(Clone)]
pub struct Catalog(pub(crate) Arc<Inner>);

pub(crate) struct Inner {
    pub(crate) db: Arc<dyn Database>,
    pub(crate) key: SecretKey,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) state: RwLock<State>,
    /// Async lock, held over a commit: writes take turns. Reads never touch it.
    pub(crate) writer: Mutex<Writer>,
    pub(crate) changes: broadcast::Sender<FunctionRef>,
    follower: OnceLock<Follower>,
}

/// A function as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Function {
    /// Its name.
    pub function: FunctionRef,
    /// The app it belongs to.
    pub app: Option<AppName>,
    /// The revision that calls run.
    pub current: Arc<Revision>,
    /// The highest number given to a revision of it; after a rollback it is not the current one's.
    pub latest: u32,
    /// When it was first deployed.
    pub created: Timestamp,
    /// When it was last deployed or rolled back.
    pub updated: Timestamp,
}

/// Which functions to list; the default lists all.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    /// Only those in this namespace.
    pub namespace: Option<NamespaceName>,
    /// Only those of apps of this name.
    pub app: Option<AppName>,
    /// Only those whose current revision has a label with this value.
    pub label: Option<(String, String)>,
}

/// Functions that were deployed together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct App {
    /// The room it lives in.
    pub namespace: NamespaceName,
    /// Its name there.
    pub name: AppName,
    /// Its functions, in the order of their names.
    pub functions: Vec<FunctionName>,
}

/// What answers a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routed {
    /// The current revision of the function whose route fits best.
    pub revision: Arc<Revision>,
    /// The values of the route's parameters, by name, as they stand in the path.
    pub params: Vec<(String, String)>,
}

impl Catalog {
    /// Loads what is deployed into memory, and from now on follows what other nodes write.
    ///
    /// The first one on a new database creates the namespace `default` and binds the database to the key.
    /// A single record that cannot be read is logged and skipped.
    /// Must be called within a Tokio runtime; what follows the database ends with the last handle.
    ///
    /// # Errors
    /// `DATA_UNUSABLE` if the secrets of this database are sealed with another key, `STORE_UNAVAILABLE` or `DISK_FULL`
    /// if the database does not work.
    pub async fn open(db: Arc<dyn Database>, key: SecretKey, clock: Arc<dyn Clock>) -> Result<Self, Problem> {
        // Before the first read, so that no change falls between the two.
        let watch = db.watch(PREFIX);
        let state = load(&*db).await?;
        let (changes, _) = broadcast::channel(CHANGES_MAX);
        let catalog = Self(Arc::new(Inner {
            db,
            key,
            clock,
            state: RwLock::new(state),
            writer: Mutex::default(),
            changes,
            follower: OnceLock::new(),
        }));
        catalog.found().await?;
        let _ = catalog.0.follower.set(Follower::start(&catalog.0, watch)); // Nobody else has the handle yet.
        Ok(catalog)
    }

    /// The revision that a call of this function runs.
    pub fn resolve(&self, function: &FunctionRef) -> Option<Arc<Revision>> {
        self.0.state().current.get(function).cloned()
    }

    /// The function whose route fits this path best, over all namespaces. The path begins with `/` and has no query.
    pub fn route(&self, path: &str) -> Option<Routed> {
        let state = self.0.state();
        let target = state.routes.find(path)?;
        let params = target.route.matches(path)?.params;
        Some(Routed { revision: Arc::clone(state.current.get(&target.function)?), params })
    }

    /// A function as it stands.
    pub fn function(&self, function: &FunctionRef) -> Option<Function> {
        self.0.state().held(function).map(|held| held.function.clone())
    }

    /// A page of functions in the order of namespace and name: at most `limit` of those behind `after`.
    pub fn list(&self, filter: &Filter, after: Option<&FunctionRef>, limit: usize) -> Vec<Function> {
        let state = self.0.state();
        let first = filter.namespace.as_ref().max(after.map(|after| &after.namespace));
        let namespaces = state.functions.range::<NamespaceName, _>((
            first.map_or(Bound::Unbounded, Bound::Included),
            filter
                .namespace
                .as_ref()
                .filter(|only| first <= Some(*only))
                .map_or(Bound::Unbounded, Bound::Included),
        ));
        namespaces
            .filter(|(namespace, _)| filter.namespace.as_ref().is_none_or(|only| only == *namespace))
            .flat_map(|(namespace, functions)| {
                behind(functions, after.filter(|after| after.namespace == *namespace))
            })
            .map(|held| &held.function)
            .filter(|function| filter.takes(function))
            .take(limit)
            .cloned()
            .collect()
    }

    /// How many functions there are.
    pub fn count(&self) -> usize {
        self.0.state().current.len()
    }

    /// How many functions there are in a namespace.
    pub fn count_in(&self, namespace: &NamespaceName) -> usize {
        self.0.state().functions_in(namespace)
    }

    /// The apps, of one namespace or of all, in order.
    pub fn apps(&self, namespace: Option<&NamespaceName>) -> Vec<App> {
        let state = self.0.state();
        let rooms = state.apps.iter().filter(|(room, _)| namespace.is_none_or(|only| only == *room));
        rooms
            .flat_map(|(room, apps)| apps.iter().map(move |(name, functions)| App::of(room, name, functions)))
            .collect()
    }

    /// An app by its name.
    pub fn app(&self, namespace: &NamespaceName, name: &AppName) -> Option<App> {
        let state = self.0.state();
        let functions = state.apps.get(namespace)?.get(name)?;
        Some(App::of(namespace, name, functions))
    }

    /// What names the code of every kept revision: artifacts, and the manifests of images.
    ///
    /// An artifact that was just uploaded is not among them until its deploy has returned: whoever clears up must
    /// spare young files.
    pub fn artifacts(&self) -> HashSet<Digest> {
        self.0.state().all().flat_map(|held| held.kept.values().copied()).collect()
    }

    /// The current revisions of all functions.
    pub fn current(&self) -> Vec<Arc<Revision>> {
        self.0.state().all().map(|held| Arc::clone(&held.function.current)).collect()
    }

    /// The functions that change from now on: deployed, rolled back or removed, here or on another node, or with a
    /// new value of a secret that they read.
    ///
    /// A name may come more than once, and memory may be further than it says: ask [`resolve`](Self::resolve).
    /// A receiver that falls [`CHANGES_MAX`] behind gets `RecvError::Lagged` and must look at everything again.
    pub fn changes(&self) -> broadcast::Receiver<FunctionRef> {
        self.0.changes.subscribe()
    }

    /// Checks the key of the secrets, and writes what every catalog has.
    async fn found(&self) -> Result<(), Problem> {
        let (default, now) = (NamespaceName::default(), self.0.clock.now());
        self.in_turn(|state| {
            let mut draft = Draft::default();
            match &state.secret_key {
                Some(id) if *id != self.0.key.id() => {
                    return Err(Problem::new(
                        &code::DATA_UNUSABLE,
                        "the secrets in this database are sealed with another key",
                    )
                    .hint("point CORACLE_KEY_FILE at the key file that belongs to this database"));
                }
                Some(_) => {}
                None => draft.put(&Place::SecretKey, &KeyRecord { id: self.0.key.id() }),
            }
            if !state.namespaces.contains_key(&default) {
                draft.put(
                    &Place::Namespace(default.clone()),
                    &NamespaceRecord { created: now, notes: NamespaceNotes::default() },
                );
            }
            Ok((draft, ()))
        })
        .await
    }
}

impl App {
    fn of(namespace: &NamespaceName, name: &AppName, functions: &BTreeSet<FunctionName>) -> Self {
        Self {
            namespace: namespace.clone(),
            name: name.clone(),
            functions: functions.iter().cloned().collect(),
        }
    }
}

impl Filter {
    fn takes(&self, function: &Function) -> bool {
        let label =
            |(name, value): &(String, String)| function.current.settings.labels.get(name) == Some(value);
        self.app.as_ref().is_none_or(|app| function.app.as_ref() == Some(app))
            && self.label.as_ref().is_none_or(label)
    }
}

/// The functions of one namespace that come behind this one.
fn behind<'a>(
    functions: &'a BTreeMap<FunctionName, Held>,
    after: Option<&FunctionRef>,
) -> impl Iterator<Item = &'a Held> + use<'a> {
    let from = after.map_or(Bound::Unbounded, |after| Bound::Excluded(&after.name));
    functions.range::<FunctionName, _>((from, Bound::Unbounded)).map(|(_, held)| held)
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Inner").field("functions", &self.state().current.len()).finish_non_exhaustive()
    }
}

impl fmt::Debug for Catalog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Catalog").field("functions", &self.count()).finish_non_exhaustive()
    }
}
