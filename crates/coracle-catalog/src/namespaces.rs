//! Namespaces: the rooms that everything else lives in.
//! The admin API makes, lists and removes them; the others ask whether one exists.

use std::collections::BTreeMap;

use coracle_model::{NamespaceName, Problem, Reach, code};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Catalog;
use crate::records::{NamespaceRecord, Place, lies_in};
use crate::state::State;
use crate::turn::Draft;
use crate::validate::check_notes;

/// The most namespaces of a server.
pub const NAMESPACES_MAX: usize = 10_000;

/// A namespace as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamespaceInfo {
    /// Its name.
    pub name: NamespaceName,
    /// When it was made.
    pub created: Timestamp,
    /// How many functions live in it.
    pub functions: usize,
    /// What people and tools have noted about it.
    pub notes: NamespaceNotes,
}

/// What people and tools note about a namespace, and nobody here obeys; what was never said is not there.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct NamespaceNotes {
    /// To select by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// To read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Catalog {
    /// Makes a namespace.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `LIMIT_REACHED`, and those of the database.
    pub async fn create_namespace(&self, name: &NamespaceName) -> Result<NamespaceInfo, Problem> {
        self.create_namespace_with(name, NamespaceNotes::default()).await
    }

    /// Makes a namespace with notes about it.
    ///
    /// # Errors
    /// `INVALID_SETTINGS` for the notes, and those of [`create_namespace`](Self::create_namespace).
    pub async fn create_namespace_with(
        &self,
        name: &NamespaceName,
        notes: NamespaceNotes,
    ) -> Result<NamespaceInfo, Problem> {
        check_notes(name, &notes)?;
        let record = NamespaceRecord { created: self.0.clock.now(), notes };
        self.in_turn(|state| {
            if state.namespaces.contains_key(name) {
                return Err(Problem::new(&code::ALREADY_EXISTS, format!("namespace `{name}` exists")));
            }
            if state.namespaces.len() >= NAMESPACES_MAX {
                return Err(Problem::new(
                    &code::LIMIT_REACHED,
                    format!("there are {NAMESPACES_MAX} namespaces already"),
                )
                .hint("remove those that are empty"));
            }
            let mut draft = Draft::default();
            draft.put(&Place::Namespace(name.clone()), &record);
            Ok((draft, ()))
        })
        .await?;
        Ok(NamespaceInfo { name: name.clone(), created: record.created, functions: 0, notes: record.notes })
    }

    /// Replaces the notes about a namespace.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `INVALID_SETTINGS`, and those of the database.
    pub async fn note_namespace(&self, name: &NamespaceName, notes: NamespaceNotes) -> Result<(), Problem> {
        check_notes(name, &notes)?;
        self.in_turn(|state| {
            check_namespace(state, name)?;
            let created = state.namespaces.get(name).map_or(self.0.clock.now(), |known| known.created);
            let mut draft = Draft::default();
            draft.put(&Place::Namespace(name.clone()), &NamespaceRecord { created, notes: notes.clone() });
            Ok((draft, ()))
        })
        .await
    }

    /// Removes a namespace without functions and secrets, and the tokens that reach no further than it.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `NAMESPACE_NOT_EMPTY`, `CONFLICT` for `default`, and those of the database.
    pub async fn remove_namespace(&self, name: &NamespaceName) -> Result<(), Problem> {
        if *name == NamespaceName::default() {
            return Err(Problem::new(&code::CONFLICT, format!("namespace `{name}` always exists")));
        }
        self.in_turn(|state| {
            check_namespace(state, name)?;
            let (functions, secrets) =
                (state.functions_in(name), state.secrets.get(name).map_or(0, |secrets| secrets.len()));
            let unreadable = state.unreadable_keys().filter(|key| lies_in(key, name)).count();
            if functions + secrets + unreadable > 0 {
                let message = format!("namespace `{name}` has {functions} functions and {secrets} secrets");
                let hint = if functions + secrets > 0 {
                    "remove them first"
                } else {
                    "it has records that cannot be read; the log of the server names them"
                };
                return Err(Problem::new(&code::NAMESPACE_NOT_EMPTY, message).hint(hint));
            }
            let mut draft = Draft::default();
            draft.delete(&Place::Namespace(name.clone()));
            for registry in state.registries.get(name).into_iter().flat_map(|known| known.keys()) {
                draft.delete(&Place::Registry(name.clone(), registry.clone()));
            }
            // Else they would open whatever is next called so.
            for token in state.tokens.values().filter(|token| reaches_only(&token.info.reach, name)) {
                draft.delete(&Place::Token(token.info.id.clone()));
            }
            Ok((draft, ()))
        })
        .await
    }

    /// The namespaces, in the order of their names.
    pub fn namespaces(&self) -> Vec<NamespaceInfo> {
        let state = self.0.state();
        state.namespaces.iter().map(|(name, record)| NamespaceInfo::of(&state, name, record)).collect()
    }

    /// A namespace by its name.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`.
    pub fn namespace(&self, name: &NamespaceName) -> Result<NamespaceInfo, Problem> {
        let state = self.0.state();
        let record = state.namespaces.get(name).ok_or_else(|| not_found(name))?;
        Ok(NamespaceInfo::of(&state, name, record))
    }
}

impl NamespaceInfo {
    fn of(state: &State, name: &NamespaceName, record: &NamespaceRecord) -> Self {
        Self {
            name: name.clone(),
            created: record.created,
            functions: state.functions_in(name),
            notes: record.notes.clone(),
        }
    }
}

/// That a namespace exists.
pub(crate) fn check_namespace(state: &State, name: &NamespaceName) -> Result<(), Problem> {
    if state.namespaces.contains_key(name) { Ok(()) } else { Err(not_found(name)) }
}

fn not_found(name: &NamespaceName) -> Problem {
    Problem::new(&code::NAMESPACE_NOT_FOUND, format!("there is no namespace `{name}`"))
        .hint(format!("coracle namespace create {name}"))
}

/// Whether a token holds in this namespace and nowhere else.
pub(crate) fn reaches_only(reach: &Reach, namespace: &NamespaceName) -> bool {
    match reach {
        Reach::All => false,
        Reach::Namespace(own) => own == namespace,
        Reach::Function(function) => function.namespace == *namespace,
    }
}
