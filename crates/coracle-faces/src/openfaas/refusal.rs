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
    if ours.owner == Owner::Host || [&code::UNAUTHENTICATED, &code::FORBIDDEN].contains(&ours) {
        return ours.status;
    }
    match verb {
        Verb::Logs if *ours == code::BAD_REQUEST => 422,
        // To a deploy 404 says one thing only: that there is nothing to update, so that the client creates it.
        Verb::Deploy if *ours == code::FUNCTION_NOT_FOUND => 404,
        // Somebody was faster: the same may be sent again.
        Verb::Deploy if *ours == code::CONFLICT => 409,
        Verb::Deploy if matches!(ours.status, 403 | 404 | 409) => 400,
        // A namespace that is not there is part of a wrong question, unless it is what was asked about.
        Verb::Function | Verb::Secret | Verb::Logs if *ours == code::NAMESPACE_NOT_FOUND => 400,
        _ if ours.status == 422 => 400,
        _ => ours.status,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_those_that_clients_look_for() {
        let table = [
            (Verb::Deploy, &code::FUNCTION_NOT_FOUND, 404),
            (Verb::Deploy, &code::IMAGE_NOT_FOUND, 400),
            (Verb::Deploy, &code::NAMESPACE_NOT_FOUND, 400),
            (Verb::Deploy, &code::MISSING_SECRET, 400),
            (Verb::Deploy, &code::INVALID_SETTINGS, 400),
            (Verb::Deploy, &code::INVALID_NAME, 400),
            (Verb::Deploy, &code::REGISTRY_DENIED, 400),
            (Verb::Deploy, &code::ALREADY_EXISTS, 400),
            (Verb::Deploy, &code::CONFLICT, 409),
            (Verb::Deploy, &code::REQUEST_TOO_LARGE, 413),
            (Verb::Deploy, &code::REGISTRY_UNAVAILABLE, 502),
            (Verb::Deploy, &code::STORE_UNAVAILABLE, 503),
            (Verb::Deploy, &code::FORBIDDEN, 403),
            (Verb::Function, &code::FUNCTION_NOT_FOUND, 404),
            (Verb::Function, &code::NAMESPACE_NOT_FOUND, 400),
            (Verb::Function, &code::UNAUTHENTICATED, 401),
            (Verb::Function, &code::METHOD_NOT_ALLOWED, 405),
            (Verb::Secret, &code::SECRET_NOT_FOUND, 404),
            (Verb::Secret, &code::ALREADY_EXISTS, 409),
            (Verb::Secret, &code::LIMIT_REACHED, 400),
            (Verb::Namespace, &code::NAMESPACE_NOT_FOUND, 404),
            (Verb::Namespace, &code::ALREADY_EXISTS, 409),
            (Verb::Namespace, &code::NAMESPACE_NOT_EMPTY, 409),
            (Verb::Logs, &code::BAD_REQUEST, 422),
            (Verb::Logs, &code::FUNCTION_NOT_FOUND, 404),
        ];
        for (verb, code, expected) in table {
            assert_eq!(status(verb, &Problem::new(code, "x")), expected, "{verb:?} {}", code.name);
        }
    }
}
