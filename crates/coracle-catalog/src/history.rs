//! What has been and what goes: revisions, rollback, removal.
//! Called by the admin API.

use std::sync::Arc;

use coracle_model::{AppName, FunctionRef, NamespaceName, Problem, Revision, code};

use crate::Catalog;
use crate::deploy::record_of;
use crate::records::{FunctionRecord, GoneRecord, Place, decode};
use crate::state::{Held, State};
use crate::turn::{Draft, unread};
use crate::validate::{check_routes, check_secrets};

/// How many functions of an app are removed in one batch.
const REMOVALS_PER_BATCH: usize = 32;

impl Catalog {
    /// Makes an older revision current again; it keeps its number.
    ///
    /// `None` means the newest kept one before the current. The next deploy numbers on from the highest number given.
    ///
    /// # Errors
    /// `FUNCTION_NOT_FOUND`, `REVISION_NOT_FOUND`, `ROUTE_TAKEN` or `MISSING_SECRET` if the old revision does not fit what is
    /// there today, `CONFLICT` if the function was changed meanwhile, and those of the database.
    pub async fn rollback(&self, function: &FunctionRef, to: Option<u32>) -> Result<Arc<Revision>, Problem> {
        let now = self.0.clock.now();
        let (number, seen) = {
            let state = self.0.state();
            let held = state.held(function).ok_or_else(|| Problem::no_function(function))?;
            let current = held.function.current.number;
            if to == Some(current) {
                return Ok(Arc::clone(&held.function.current));
            }
            (choose(held, to)?, held.function.clone())
        };
        let revision = Arc::new(self.revision(function, number).await?);
        self.in_turn(|state| {
            let held = state.held(function).filter(|held| held.function == seen).ok_or_else(|| {
                Problem::new(&code::CONFLICT, format!("function `{function}` was changed in the meantime"))
                    .hint(format!("look at it, then roll back again: coracle show {}", function.name))
            })?;
            check_fits(state, &revision)?;
            let mut draft = Draft::default();
            let record =
                FunctionRecord { current: Revision::clone(&revision), updated: now, ..record_of(held) };
            draft.put(&Place::Function(function.clone()), &record);
            Ok((draft, Arc::clone(&revision)))
        })
        .await
    }

    /// Removes a function and its revisions. Calls in flight finish.
    ///
    /// If it is ever deployed again its numbers go on where they stopped, so that a number never means two things.
    ///
    /// # Errors
    /// `FUNCTION_NOT_FOUND`, and those of the database.
    pub async fn remove(&self, function: &FunctionRef) -> Result<(), Problem> {
        self.in_turn(|state| {
            let mut draft = Draft::default();
            draft_removal(&mut draft, state.held(function).ok_or_else(|| Problem::no_function(function))?);
            Ok((draft, ()))
        })
        .await
    }

    /// Removes an app: all its functions, and says which.
    ///
    /// A large app goes in several batches; if one fails, what is left is still the app, and can be removed again.
    ///
    /// # Errors
    /// `APP_NOT_FOUND`, and those of the database.
    pub async fn remove_app(
        &self,
        namespace: &NamespaceName,
        app: &AppName,
    ) -> Result<Vec<FunctionRef>, Problem> {
        let mut removed = Vec::new();
        loop {
            let batch = self.in_turn(|state| Ok(draft_app_removal(state, namespace, app))).await?;
            if batch.is_empty() {
                break;
            }
            removed.extend(batch);
        }
        if removed.is_empty() {
            let message = format!("namespace `{namespace}` has no app `{app}`");
            return Err(Problem::new(&code::APP_NOT_FOUND, message).hint("coracle list"));
        }
        Ok(removed)
    }

    /// The kept revisions of a function, newest first.
    ///
    /// # Errors
    /// `FUNCTION_NOT_FOUND`, and those of the database.
    pub async fn revisions(&self, function: &FunctionRef) -> Result<Vec<Revision>, Problem> {
        let numbers: Vec<u32> = {
            let state = self.0.state();
            let held = state.held(function).ok_or_else(|| Problem::no_function(function))?;
            held.kept.keys().rev().copied().collect()
        };
        let mut revisions = Vec::with_capacity(numbers.len());
        for number in numbers {
            match self.revision(function, number).await {
                Ok(revision) => revisions.push(revision),
                // Forgotten since the numbers were read, or damaged and logged: the others are still of use.
                Err(problem) if problem.code != &code::STORE_UNAVAILABLE => {}
                Err(problem) => return Err(problem),
            }
        }
        Ok(revisions)
    }

    /// One revision, from the database.
    async fn revision(&self, function: &FunctionRef, number: u32) -> Result<Revision, Problem> {
        let key = Place::Revision(function.clone(), number).key();
        let entry =
            self.0.db.get(&key).await.map_err(unread)?.ok_or_else(|| no_revision(function, number))?;
        decode(&entry.value).map_err(|reason| {
            tracing::error!(%key, reason, "a revision cannot be read; it is skipped, and kept as it is");
            Problem::new(&code::DATA_UNUSABLE, format!("the record `{key}` cannot be read: {reason}"))
                .hint("choose another revision, or restore a backup")
        })
    }
}

/// Drafts the removal of a function: its head, its history, and a note of the numbers that were used.
pub(crate) fn draft_removal(draft: &mut Draft, held: &Held) {
    let function = &held.function.function;
    for number in held.kept.keys() {
        draft.delete(&Place::Revision(function.clone(), *number));
    }
    draft.put(&Place::Gone(function.clone()), &GoneRecord { latest: held.function.latest });
    draft.delete(&Place::Function(function.clone()));
}

fn draft_app_removal(state: &State, namespace: &NamespaceName, app: &AppName) -> (Draft, Vec<FunctionRef>) {
    let members = state.apps.get(namespace).and_then(|apps| apps.get(app)).into_iter().flatten();
    let mut draft = Draft::default();
    let mut removed = Vec::new();
    for name in members.take(REMOVALS_PER_BATCH) {
        let function = FunctionRef { namespace: namespace.clone(), name: name.clone() };
        if let Some(held) = state.held(&function) {
            draft_removal(&mut draft, held);
            removed.push(function);
        }
    }
    (draft, removed)
}

fn choose(held: &Held, to: Option<u32>) -> Result<u32, Problem> {
    let function = &held.function.function;
    let current = held.function.current.number;
    match to {
        Some(number) if held.kept.contains_key(&number) => Ok(number),
        Some(number) => Err(no_revision(function, number)),
        None => held.kept.range(..current).next_back().map(|(number, _)| *number).ok_or_else(|| {
            let message = format!("function `{function}` has no revision before {current}");
            Problem::new(&code::REVISION_NOT_FOUND, message).hint("deploy the code you want")
        }),
    }
}

/// That a revision of earlier days may be current today.
fn check_fits(state: &State, revision: &Revision) -> Result<(), Problem> {
    let (function, settings) = (&revision.function, &revision.settings);
    check_secrets(function, settings, |secret| {
        state.secrets.get(&function.namespace).is_some_and(|secrets| secrets.contains_key(secret))
    })?;
    check_routes([(function, &settings.routes[..])], |route| {
        state.routes.holder(route).filter(|target| target.function != *function)
    })
}

fn no_revision(function: &FunctionRef, number: u32) -> Problem {
    Problem::new(&code::REVISION_NOT_FOUND, format!("function `{function}` has no revision {number}"))
        .hint(format!("see the kept ones: coracle show {}", function.name))
}
