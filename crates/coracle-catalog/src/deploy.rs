//! Deploying: one function, or all of an app, in one batch.
//! Called by the admin API once the artifacts are stored and the runtime has accepted them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use coracle_model::{
    AppName, Code, Contract, FunctionName, FunctionRef, NamespaceName, Problem, Revision, Settings, code,
};
use jiff::Timestamp;

use crate::Catalog;
use crate::history::draft_removal;
use crate::namespaces::check_namespace;
use crate::records::{FunctionRecord, Place};
use crate::state::{Held, State};
use crate::turn::Draft;
use crate::validate::{check_routes, check_secrets, check_settings};

/// The most functions of a server.
pub const FUNCTIONS_MAX: usize = 100_000;
/// The most functions of one deploy, and so of one app.
pub const FUNCTIONS_PER_DEPLOY_MAX: usize = 200;
/// The most revisions kept of one function; beyond it the oldest that is not current is forgotten.
pub const REVISIONS_KEPT_MAX: usize = 20;

/// What is deployed together, all of it or nothing.
#[derive(Debug, Clone)]
pub struct Deploy {
    /// Where to.
    pub namespace: NamespaceName,
    /// The app that the functions make up. Functions of it that are not named here are removed.
    pub app: Option<AppName>,
    /// The functions, in any order.
    pub functions: Vec<Deployment>,
}

/// One function of a deploy.
#[derive(Debug, Clone)]
pub struct Deployment {
    /// Its name.
    pub name: FunctionName,
    /// What is run.
    pub code: Code,
    /// How it is spoken to.
    pub contract: Contract,
    /// How it is run.
    pub settings: Settings,
}

/// What must be true of something's name before it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Presence {
    /// Nothing.
    Any,
    /// Nothing has it yet.
    New,
    /// Something has it already.
    Known,
}

impl Catalog {
    /// Makes new revisions current, in the order of the functions named.
    ///
    /// A function whose code and settings are those of its current revision keeps it.
    /// A function that belongs to no app joins the one that names it; one of another app is refused.
    /// Calls in flight go on with the revision they began with.
    ///
    /// # Errors
    /// `NAMESPACE_NOT_FOUND`, `INVALID_SETTINGS`, `MISSING_SECRET`, `ROUTE_TAKEN`, `LIMIT_REACHED`, `CONFLICT` for a function
    /// of another app, and those of the database.
    pub async fn deploy(&self, deploy: Deploy) -> Result<Vec<Arc<Revision>>, Problem> {
        self.deploy_as(deploy, Others::Leave, Presence::Any).await
    }

    /// The same for some functions of an app, if they are there or are not, as is expected: the others of it stay as they are.
    ///
    /// Of two that create the same function at once, one does.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `FUNCTION_NOT_FOUND`, and those of [`deploy`](Self::deploy).
    pub async fn deploy_part(
        &self,
        deploy: Deploy,
        presence: Presence,
    ) -> Result<Vec<Arc<Revision>>, Problem> {
        self.deploy_as(deploy, Others::Stay, presence).await
    }

    /// That a function is there, or is not, as whoever deploys it expects: heard before its code is looked at.
    ///
    /// # Errors
    /// `ALREADY_EXISTS`, `FUNCTION_NOT_FOUND`.
    pub fn expect(&self, function: &FunctionRef, presence: Presence) -> Result<(), Problem> {
        check_presence(&self.0.state(), function, presence)
    }

    async fn deploy_as(
        &self,
        deploy: Deploy,
        others: Others,
        presence: Presence,
    ) -> Result<Vec<Arc<Revision>>, Problem> {
        check_alone(&deploy)?;
        let now = self.0.clock.now();
        self.in_turn(|state| {
            for Deployment { name, .. } in &deploy.functions {
                let function = FunctionRef { namespace: deploy.namespace.clone(), name: name.clone() };
                check_presence(state, &function, presence)?;
            }
            plan(state, &deploy, others, now)
        })
        .await
    }
}

/// What becomes of functions of an app that a deploy of it does not name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    Leave,
    Stay,
}

/// What of a deploy can be told wrong without looking at anything else.
fn check_alone(deploy: &Deploy) -> Result<(), Problem> {
    if deploy.functions.len() > FUNCTIONS_PER_DEPLOY_MAX {
        let message = format!("{} functions are too many for one deploy", deploy.functions.len());
        return Err(Problem::new(&code::LIMIT_REACHED, message)
            .hint(format!("split them into apps of at most {FUNCTIONS_PER_DEPLOY_MAX}")));
    }
    let mut names = BTreeSet::new();
    for function in &deploy.functions {
        if !names.insert(&function.name) {
            let message = format!("function `{}` is named twice in one deploy", function.name);
            return Err(Problem::new(&code::INVALID_SETTINGS, message));
        }
        check_settings(&function.name, &function.code, function.contract, &function.settings)?;
    }
    Ok(())
}

fn check_presence(state: &State, function: &FunctionRef, presence: Presence) -> Result<(), Problem> {
    match (presence, state.held(function)) {
        (Presence::New, Some(_)) => {
            Err(Problem::new(&code::ALREADY_EXISTS, format!("there is a function `{function}` already")))
        }
        (Presence::Known, None) => Err(Problem::no_function(function)),
        _ => Ok(()),
    }
}

/// Checks a deploy against what is there, and drafts what it changes.
fn plan(
    state: &State,
    deploy: &Deploy,
    others: Others,
    now: Timestamp,
) -> Result<(Draft, Vec<Arc<Revision>>), Problem> {
    let Deploy { namespace, app, functions } = deploy;
    check_namespace(state, namespace)?;
    for function in functions {
        check_app(state, deploy, &function.name)?;
        let reference = FunctionRef { namespace: namespace.clone(), name: function.name.clone() };
        check_secrets(&reference, &function.settings, |secret| {
            state.secrets.get(namespace).is_some_and(|secrets| secrets.contains_key(secret))
        })?;
    }
    let named: BTreeSet<_> = functions.iter().map(|function| &function.name).collect();
    let members = app.as_ref().filter(|_| others == Others::Leave);
    let members = members.and_then(|app| state.apps.get(namespace)?.get(app));
    let leaving: Vec<_> = members.into_iter().flatten().filter(|name| !named.contains(name)).collect();
    // Whoever is deployed or removed here gives its routes up first.
    let yields = |holder: &FunctionRef| {
        holder.namespace == *namespace && (named.contains(&holder.name) || leaving.contains(&&holder.name))
    };
    let reference =
        |function: &Deployment| FunctionRef { namespace: namespace.clone(), name: function.name.clone() };
    let references: Vec<_> = functions.iter().map(reference).collect();
    let routes = functions.iter().map(|function| &function.settings.routes[..]);
    check_routes(references.iter().zip(routes), |route| {
        state.routes.holder(route).filter(|target| !yields(&target.function))
    })?;

    let mut draft = Draft::default();
    let mut deployed = Vec::with_capacity(functions.len());
    for (function, reference) in functions.iter().zip(references) {
        deployed.push(draft_function(&mut draft, state, reference, app.as_ref(), function, now));
    }
    let new = functions.iter().filter(|function| held(state, namespace, &function.name).is_none()).count();
    if new > 0 && state.current.len() + new > FUNCTIONS_MAX + leaving.len() {
        return Err(Problem::new(
            &code::LIMIT_REACHED,
            format!("there may be {FUNCTIONS_MAX} functions on a server"),
        )
        .hint("remove some first"));
    }
    for name in leaving {
        if let Some(held) = held(state, namespace, name) {
            draft_removal(&mut draft, held);
        }
    }
    Ok((draft, deployed))
}

/// That a function belongs to this deploy's app, or to none that this deploy would take it from.
fn check_app(state: &State, deploy: &Deploy, name: &FunctionName) -> Result<(), Problem> {
    let owner = held(state, &deploy.namespace, name).and_then(|held| held.function.app.as_ref());
    match owner {
        Some(owner) if Some(owner) != deploy.app.as_ref() => {
            Err(Problem::new(&code::CONFLICT, format!("function `{name}` belongs to app `{owner}`"))
                .hint(format!("deploy it with that app, choose another name, or: coracle remove {name}")))
        }
        _ => Ok(()),
    }
}

/// Drafts the next revision of a function, unless the current one is the same already.
fn draft_function(
    draft: &mut Draft,
    state: &State,
    function: FunctionRef,
    app: Option<&AppName>,
    deployment: &Deployment,
    now: Timestamp,
) -> Arc<Revision> {
    let held = state.held(&function);
    let same = held.map(|held| &held.function.current).filter(|current| {
        current.code == deployment.code
            && current.contract == deployment.contract
            && current.settings == deployment.settings
    });
    if let (Some(held), Some(current)) = (held, same) {
        if held.function.app.as_ref() != app {
            let record = FunctionRecord { app: app.cloned(), updated: now, ..record_of(held) };
            draft.put(&Place::Function(function), &record);
        }
        return Arc::clone(current);
    }
    let gone = state.gone.get(&function.namespace).and_then(|gone| gone.get(&function.name));
    let number = held.map(|held| held.function.latest).or(gone.copied()).unwrap_or(0) + 1;
    let revision = Revision {
        function: function.clone(),
        number,
        code: deployment.code.clone(),
        contract: deployment.contract,
        settings: deployment.settings.clone(),
        created: now,
    };
    let mut kept = held.map_or_else(BTreeMap::new, |held| held.kept.clone());
    kept.insert(number, revision.code.digest());
    while kept.len() > REVISIONS_KEPT_MAX
        && let Some((oldest, _)) = kept.pop_first()
    {
        draft.delete(&Place::Revision(function.clone(), oldest));
    }
    if gone.is_some() {
        draft.delete(&Place::Gone(function.clone()));
    }
    let record = FunctionRecord {
        app: app.cloned(),
        current: revision.clone(),
        latest: number,
        kept,
        created: held.map_or(now, |held| held.function.created),
        updated: now,
    };
    draft.put(&Place::Revision(function.clone(), number), &revision);
    draft.put(&Place::Function(function), &record);
    Arc::new(revision)
}

/// The record that a function has now.
pub(crate) fn record_of(held: &Held) -> FunctionRecord {
    FunctionRecord {
        app: held.function.app.clone(),
        current: Revision::clone(&held.function.current),
        latest: held.function.latest,
        kept: held.kept.clone(),
        created: held.function.created,
        updated: held.function.updated,
    }
}

fn held<'a>(state: &'a State, namespace: &NamespaceName, name: &FunctionName) -> Option<&'a Held> {
    state.functions.get(namespace)?.get(name)
}
