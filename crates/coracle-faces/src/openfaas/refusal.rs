//! The statuses of errors: what is answered where a client of OpenFaaS looks for another than ours.
//! The gateway asks for the status of each problem that a route of this dialect ends with; the body is ours.
//!
//! Sources: faas-netes:pkg/handlers/*.go, faasd:pkg/provider/handlers/*.go, faas-provider:logs/handler.go.

use coracle_model::{Owner, Problem, code};

/// What was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// A deploy, new or not.
    Deploy,
    /// Anything else about a function.
    Function,
    /// Anything about secrets.
    Secret,
    /// Anything about namespaces.
    Namespace,
    /// Lines of a log.
    Logs,
}

/// The status of a problem.
pub fn status(verb: Verb, problem: &Problem) -> u16 {
    let ours = problem.code;
    // Who may not, and what is broken here, is answered alike everywhere.
    if ours.owner == Owner::Host || *ours == code::UNAUTHENTICATED || *ours == code::FORBIDDEN {
        return ours.status;
    }
    match verb {
        Verb::Logs if *ours == code::BAD_REQUEST => 422,
        // To a deploy 404 says one thing only: that there is nothing to update, so that the client creates it.
        Verb::Deploy if *ours == code::FUNCTION_NOT_FOUND => 404,
        Verb::Deploy if *ours == code::CONFLICT => ours.status,
        Verb::Deploy => 400,
        // A namespace that is not there is part of a wrong question, unless it is what was asked about.
        Verb::Function | Verb::Secret | Verb::Logs if *ours == code::NAMESPACE_NOT_FOUND => 400,
        _ if ours.status == 422 => 400,
        _ => ours.status,
    }
}
