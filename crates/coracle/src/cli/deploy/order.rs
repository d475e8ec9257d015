//! The order in which the parts of a deploy are made true: all is checked first, and what is removed goes last.
//! Each namespace is deployed by itself, so nothing else keeps one that fails from costing a function of another.

use coracle_api::{AppSpec, Client, ClientError, FunctionView};
use coracle_model::{AppName, FunctionRef, Problem, code};

use super::plan::Plan;
use super::{Before, starts};
use crate::stop;

/// What was done, also if something else failed.
#[derive(Debug, Default)]
pub(super) struct Done {
    pub(super) deployed: Vec<FunctionView>,
    pub(super) removed: Vec<FunctionRef>,
}

/// What a server would refuse, as far as it can be asked before anything is deployed.
pub(super) async fn check(client: &Client, plans: &[Plan], before: &Before) -> stop::Done {
    for plan in plans {
        check_apps(plan, before)?;
        // One alone is deployed as a whole or not at all, and hears of it then.
        if plans.len() > 1 {
            check_namespace(client, plan).await?;
        }
    }
    Ok(())
}

/// Deploys all; while there are several parts, those that remove functions do so when all have been deployed.
pub(super) async fn send(
    client: &Client,
    plans: &[Plan],
    specs: &[AppSpec],
    before: &Before,
    done: &mut Done,
) -> stop::Done {
    let leaving = |plan: &Plan| {
        let of_plan = before.leaving.iter().filter(|function| function.namespace == plan.namespace);
        of_plan.cloned().collect::<Vec<_>>()
    };
    let mut removals = Vec::new();
    for (plan, spec) in plans.iter().zip(specs) {
        let leaving = leaving(plan);
        if plans.len() == 1 || leaving.is_empty() {
            done.deployed.extend(plan.send(client, spec.clone()).await?);
            done.removed.extend(leaving);
        } else {
            let part = AppSpec { part: true, ..spec.clone() };
            done.deployed.extend(plan.send(client, part).await?);
            removals.push((plan, spec, leaving));
        }
    }
    if !removals.is_empty() {
        // What replaces a function must answer before that is removed.
        done.deployed.iter().try_for_each(starts)?;
    }
    for (plan, spec, leaving) in removals {
        plan.send(client, spec.clone()).await?;
        done.removed.extend(leaving);
    }
    Ok(())
}

/// That no function belongs to another app, which only this side knows a way out of.
fn check_apps(plan: &Plan, before: &Before) -> Result<(), Problem> {
    let Some(app) = &plan.app else { return Ok(()) };
    let owner = |function: &FunctionRef| before.functions.get(function)?.app.clone();
    for function in &plan.functions {
        let function = FunctionRef { namespace: plan.namespace.clone(), name: function.name.clone() };
        if let Some(owner) = owner(&function).filter(|owner| owner != app) {
            return Err(of_another(plan, &function, &owner));
        }
    }
    Ok(())
}

fn of_another(plan: &Plan, FunctionRef { namespace, name }: &FunctionRef, owner: &AppName) -> Problem {
    let room = crate::talk::namespace_flag(namespace);
    // A part of a file leaves the rest of the app alone.
    let loses = if plan.is_part { "" } else { ", which removes what that app has and this does not" };
    Problem::new(&code::CONFLICT, format!("function `{name}` belongs to app `{owner}`")).hint(format!(
        "if this is that app: `coracle deploy --app {owner}`{loses}; else choose another name, or: coracle remove {name}{room}"
    ))
}

/// That a namespace is there, and has the secrets that its functions read.
async fn check_namespace(client: &Client, plan: &Plan) -> stop::Done {
    let Plan { namespace, .. } = plan;
    let secrets = match client.secrets(namespace).await {
        Ok(secrets) => secrets,
        // Whoever may not list them may deploy all the same.
        Err(ClientError::Problem(problem)) if problem.status == 403 => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    for function in &plan.functions {
        let is_there = |secret: &&_| secrets.iter().any(|there| there.name == **secret);
        if let Some(missing) = function.settings.secrets.iter().find(|secret| !is_there(secret)) {
            let flag = crate::talk::namespace_flag(namespace);
            let message = format!(
                "function `{}` reads the secret `{missing}`, which namespace `{namespace}` does not have",
                function.name
            );
            return Err(Problem::new(&code::MISSING_SECRET, message)
                .hint(format!("coracle secret set {missing}{flag}"))
                .into());
        }
    }
    Ok(())
}
