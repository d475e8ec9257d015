//! Small requests about one function: to remove it, and to run so many instances of it.
//! The gateway parses their bodies here.
//!
//! Sources: faas-provider:types/requests.go, faas:gateway/types/requests.go.

use coracle_model::{FunctionRef, Problem, code};

use super::document::{Document, bad};
use super::name;

/// How many instances of a function are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rescale {
    /// The function.
    pub function: FunctionRef,
    /// The number that was asked for.
    pub replicas: u32,
}

/// The function that a body `{"functionName": …, "namespace": …}` asks to remove.
///
/// `namespace` is that of the query, where older clients say it; the body outranks it.
///
/// # Errors
/// A body that cannot be understood, or a wrong name.
pub fn removal(body: &[u8], namespace: Option<&str>) -> Result<FunctionRef, Problem> {
    let mut sent = Document::parse(body)?;
    let function = sent.needed_text("functionName", "hello")?;
    let within = sent.text("namespace")?;
    function_of(&function, within.as_deref().or(namespace))
}

/// What a body `{"serviceName": …, "replicas": …, "namespace": …}` asks for.
///
/// The function is the one that the path names, whatever `serviceName` is, as it is there.
///
/// # Errors
/// A body that cannot be understood, a wrong name, or no number of replicas.
pub fn rescale(path: &str, namespace: Option<&str>, body: &[u8]) -> Result<Rescale, Problem> {
    let mut sent = Document::parse(body)?;
    let within = sent.text("namespace")?;
    let function = function_of(path, within.as_deref().or(namespace))?;
    let replicas = sent.number("replicas")?.ok_or_else(|| {
        bad("`replicas` is missing")
            .hint("add the number of instances that is wanted, as in `\"replicas\": 1`")
    })?;
    Ok(Rescale { function, replicas })
}

/// A function that is named by itself (`NAME` or `NAME.NAMESPACE`), perhaps with its namespace apart.
///
/// # Errors
/// A wrong name.
pub fn function_of(function: &str, namespace: Option<&str>) -> Result<FunctionRef, Problem> {
    let wrong = |error: coracle_model::InvalidName| Problem::new(&code::INVALID_NAME, error.to_string());
    let mut found = name::function(function).map_err(wrong)?;
    if let Some(namespace) = namespace.filter(|namespace| !namespace.is_empty()) {
        found.namespace = name::namespace(namespace).map_err(wrong)?;
    }
    Ok(found)
}
