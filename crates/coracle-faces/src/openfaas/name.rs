//! Names: our namespace `default` is called `openfaas-fn` there, both ways.
//! Everything that names a function or a namespace in OpenFaaS' words passes through here.

use coracle_model::{FunctionRef, InvalidName, NamespaceName, Problem, code};

/// What OpenFaaS calls the namespace that is `default` here.
pub const DEFAULT: &str = "openfaas-fn";

/// The namespace that OpenFaaS' clients mean; nothing is the default one.
///
/// # Errors
/// What is no name of a namespace.
pub fn namespace(theirs: &str) -> Result<NamespaceName, InvalidName> {
    match theirs {
        "" | DEFAULT => Ok(NamespaceName::default()),
        other => NamespaceName::parse(other),
    }
}

/// That a namespace may be made under this name: none of ours is called as the first one is there, whose functions would answer for it.
///
/// # Errors
/// `invalid-name`, with the reason.
pub fn check_new(ours: &NamespaceName) -> Result<(), Problem> {
    if ours.as_str() != DEFAULT {
        return Ok(());
    }
    let first = NamespaceName::DEFAULT;
    let message = format!("`{DEFAULT}` is what OpenFaaS' clients call the namespace `{first}`");
    Err(Problem::new(&code::INVALID_NAME, message).hint(format!("choose another name, or use `{first}`")))
}

/// What OpenFaaS' clients call a namespace.
pub fn of_namespace(ours: &NamespaceName) -> &str {
    if ours.as_str() == NamespaceName::DEFAULT { DEFAULT } else { ours.as_str() }
}

/// The function of `NAME` or `NAME.NAMESPACE`, split at the last dot.
///
/// # Errors
/// What is no name of a function.
pub fn function(theirs: &str) -> Result<FunctionRef, InvalidName> {
    let mut function = FunctionRef::parse(theirs)?;
    if function.namespace.as_str() == DEFAULT {
        function.namespace = NamespaceName::default();
    }
    Ok(function)
}

/// What a function is called in metrics and callbacks: `NAME.NAMESPACE`, always with both.
pub fn of_function(ours: &FunctionRef) -> String {
    format!("{}.{}", ours.name, of_namespace(&ours.namespace))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_namespace_has_another_name_there_both_ways() {
        let table = [
            ("hello", "hello", "hello.openfaas-fn"),
            ("hello.openfaas-fn", "hello", "hello.openfaas-fn"),
            ("hello.default", "hello", "hello.openfaas-fn"),
            ("hello.shop", "hello.shop", "hello.shop"),
        ];
        for (theirs, ours, back) in table {
            let parsed = function(theirs).unwrap();
            assert_eq!(parsed, FunctionRef::parse(ours).unwrap(), "{theirs}");
            assert_eq!(of_function(&parsed), back, "{theirs}");
        }
        assert_eq!(namespace("").unwrap(), NamespaceName::default());
        assert!(namespace("A b").is_err() && function("").is_err());
        let may_be_made = |name: &str| check_new(&NamespaceName::parse(name).unwrap()).is_ok();
        assert!(may_be_made("shop") && !may_be_made(DEFAULT));
    }
}
