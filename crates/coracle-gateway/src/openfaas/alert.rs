//! Alerts of Prometheus' AlertManager, which raise and lower the number of instances.
//! One that cannot be obeyed does not hinder the others, and is told in the answer.

use std::fmt::Write as _;

use axum::extract::State;
use coracle_faces::openfaas::alert::{self, Alert};
use coracle_faces::openfaas::name::of_function;
use coracle_faces::openfaas::refusal::Verb;
use coracle_model::{Principal, Problem, Scope};

use super::instances::Replicas;
use super::rim::refused;
use crate::admin::rim::{Answer, SentBytes, Who};
use crate::admin::{Admin, Shared};

pub(super) async fn hear(
    State(admin): State<Shared>,
    Who(who): Who,
    SentBytes(body): SentBytes,
) -> Answer<String> {
    let who = admin.authenticator.require_somewhere(who, Scope::Deploy)?;
    let mut said = String::new();
    for (index, alert) in alert::parse(&body).map_err(refused(Verb::Function))?.into_iter().enumerate() {
        let obeyed = match alert {
            Ok(alert) => obey(&admin, &who, alert).await,
            Err(problem) => Err(problem),
        };
        // Writing to a String cannot fail.
        let _ = match obeyed {
            Ok(done) => writeln!(said, "[{index}] {done}"),
            Err(problem) => writeln!(said, "[{index}] error: {problem}"),
        };
    }
    Ok(said)
}

async fn obey(admin: &Admin, who: &Principal, Alert { function, state }: Alert) -> Result<String, Problem> {
    admin.authenticator.require_on(who.clone(), Scope::Deploy, &function)?;
    let current = admin.catalog.resolve(&function).ok_or_else(|| Problem::no_function(&function))?;
    let settings = &current.settings;
    let replicas = Replicas::of(admin, &current).wanted;
    let wanted = alert::replicas_after(state, replicas, &settings.scale, alert::factor(&settings.labels));
    let name = of_function(&function);
    if wanted == replicas {
        return Ok(format!("{name}: {replicas} replicas, as before"));
    }
    let wanted = admin.invoke.scale(&function, wanted).await?;
    Ok(format!("{name}: {wanted} replicas, after {replicas}"))
}
