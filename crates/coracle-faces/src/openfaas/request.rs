//! Small requests about one function: to remove it, and to run so many instances of it.
//! The gateway parses their bodies here.
//!
//! Sources: faas-provider:types/requests.go, faas:gateway/requests/requests.go.

use coracle_model::{FunctionRef, Problem, code};

use super::document::{Document, bad, shown};
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
/// The function is the one that the path names, and `serviceName` may be left out.
///
/// # Errors
/// A body that cannot be understood or names another function, a wrong name, or no number of replicas.
pub fn rescale(path: &str, namespace: Option<&str>, body: &[u8]) -> Result<Rescale, Problem> {
    let mut sent = Document::parse(body)?;
    let within = sent.text("namespace")?;
    let function = function_of(path, within.as_deref().or(namespace))?;
    if let Some(named) = sent.text("serviceName")?.filter(|named| !named.is_empty()) {
        let namespace = (!named.contains('.')).then(|| function.namespace.as_str());
        if function_of(&named, namespace)? != function {
            return Err(two_names("serviceName", path, &named));
        }
    }
    let replicas = sent.number("replicas")?.ok_or_else(|| {
        bad("`replicas` is missing")
            .hint("add the number of instances that is wanted, as in `\"replicas\": 1`")
    })?;
    Ok(Rescale { function, replicas })
}

/// A body that names another thing than the path: whoever sent it means one of them.
pub(super) fn two_names(key: &str, path: &str, body: &str) -> Problem {
    let (path, body) = (shown(path), shown(body));
    bad(format!("the path names `{path}`, and `{key}` in the body `{body}`"))
        .hint(format!("write the same name in both, or leave `{key}` out"))
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

#[cfg(test)]
mod tests {
    use super::*;

    fn said(result: Result<impl ToString, Problem>) -> String {
        result.map_or_else(|problem| format!("{}: {problem}", problem.code.status), |right| right.to_string())
    }

    #[test]
    fn a_function_to_remove_is_named_with_or_without_its_namespace() {
        let table = [
            (r#"{"functionName":"f"}"#, None, "f.default"),
            (r#"{"functionName":"f"}"#, Some("shop"), "f.shop"),
            (r#"{"functionName":"f","namespace":"openfaas-fn"}"#, Some("shop"), "f.default"),
            (r#"{"functionName":"f","namespace":""}"#, None, "f.default"),
            (r#"{"functionName":"f.shop"}"#, None, "f.shop"),
            (r#"{"functionName":""}"#, None, "400: `functionName` is missing"),
            (r#"{"functionName":7}"#, None, "400: `functionName` is a number, and must be a text"),
            ("bad", None, "400: the body is no JSON: expected value at line 1 column 1"),
        ];
        for (body, namespace, expected) in table {
            assert_eq!(said(removal(body.as_bytes(), namespace)), expected, "{body}");
        }
        assert_eq!(removal(br#"{"functionName":"a b"}"#, None).unwrap_err().code, &code::INVALID_NAME);
        assert_eq!(removal(br#"{"functionName":"f"}"#, Some("A")).unwrap_err().code, &code::INVALID_NAME);
    }

    #[test]
    fn so_many_instances_are_wanted_of_the_function_in_the_path() {
        let table = [
            ("f", None, r#"{"serviceName":"f","replicas":3}"#, "f.default 3"),
            ("f", None, r#"{"serviceName":"","replicas":0}"#, "f.default 0"),
            ("f.shop", None, r#"{"serviceName":"f","replicas":0}"#, "f.shop 0"),
            ("f", None, r#"{"serviceName":"f.openfaas-fn","replicas":0}"#, "f.default 0"),
            ("f", Some("shop"), r#"{"serviceName":"f.shop","replicas":0}"#, "f.shop 0"),
            (
                "f",
                None,
                r#"{"serviceName":"other","replicas":0}"#,
                "400: the path names `f`, and `serviceName` in the body `other`",
            ),
            (
                "f.shop",
                None,
                r#"{"serviceName":"f.store","replicas":0}"#,
                "400: the path names `f.shop`, and `serviceName` in the body `f.store`",
            ),
            ("f.openfaas-fn", None, r#"{"replicas":4294967295}"#, "f.default 4294967295"),
            ("f", Some("shop"), r#"{"replicas":1}"#, "f.shop 1"),
            ("f", Some("shop"), r#"{"replicas":1,"namespace":"store"}"#, "f.store 1"),
            ("f", None, "{}", "400: `replicas` is missing"),
            ("f", None, r#"{"replicas":-1}"#, "400: `replicas` is -1, and must be a whole number from 0"),
            ("f", None, r#"{"replicas":1.5}"#, "400: `replicas` is 1.5, and must be a whole number from 0"),
            (
                "f",
                None,
                r#"{"replicas":4294967296}"#,
                "400: `replicas` is 4294967296, and must be a whole number from 0",
            ),
            (
                "f",
                None,
                r#"{"replicas":"3"}"#,
                "400: `replicas` is a text, and must be a whole number from 0",
            ),
        ];
        for (path, namespace, body, expected) in table {
            let asked = rescale(path, namespace, body.as_bytes());
            assert_eq!(said(asked.map(|asked| format!("{} {}", asked.function, asked.replicas))), expected);
        }
    }
}
