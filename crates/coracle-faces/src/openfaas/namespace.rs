//! Documents of namespaces: a name, labels and annotations.
//! The gateway parses what is created or changed, and renders what there is.
//!
//! Sources: faas:api-docs/spec.openapi.yml, docs:reference/namespaces.md, faasd:pkg/provider/handlers/*.go.

use std::collections::BTreeMap;

use coracle_model::{NamespaceName, Problem, code};
use serde::Serialize;

use super::document::Document;
use super::name;
use super::request::two_names;

/// A namespace, as it is sent and said back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Namespace {
    /// Its name, in our words.
    pub name: NamespaceName,
    /// Its labels, if some were sent.
    pub labels: Option<BTreeMap<String, String>>,
    /// Its annotations, if some were sent.
    pub annotations: Option<BTreeMap<String, String>>,
}

impl Namespace {
    /// Reads the body of a request to `/system/namespace/TAIL`; a tail that is empty leaves the name to the body.
    ///
    /// # Errors
    /// A body that cannot be understood or names another, or a wrong name.
    pub fn parse(tail: &str, body: &[u8]) -> Result<Self, Problem> {
        let mut sent = Document::parse(body)?;
        let name = match tail {
            "" => parse_name(&sent.needed_text("name", "shop")?)?,
            tail => {
                let name = parse_name(tail)?;
                if let Some(named) = sent.text("name")?.filter(|named| !named.is_empty())
                    && parse_name(&named)? != name
                {
                    return Err(two_names("name", tail, &named));
                }
                name
            }
        };
        Ok(Self { name, labels: sent.pairs("labels")?, annotations: sent.pairs("annotations")? })
    }

    /// The document of one namespace.
    pub fn render(&self) -> String {
        #[derive(Serialize)]
        struct View<'a> {
            name: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            annotations: Option<&'a BTreeMap<String, String>>,
            #[serde(skip_serializing_if = "Option::is_none")]
            labels: Option<&'a BTreeMap<String, String>>,
        }
        let view = View {
            name: name::of_namespace(&self.name),
            annotations: self.annotations.as_ref(),
            labels: self.labels.as_ref(),
        };
        serde_json::to_string(&view).expect("texts have no way to fail")
    }
}

/// The namespace that a path or a query names; nothing is the default one.
///
/// # Errors
/// A wrong name.
pub fn parse_name(theirs: &str) -> Result<NamespaceName, Problem> {
    name::namespace(theirs).map_err(|error| Problem::new(&code::INVALID_NAME, error.to_string()))
}

/// The list of all namespaces.
pub fn render_list<'a>(namespaces: impl IntoIterator<Item = &'a NamespaceName>) -> String {
    let names: Vec<&str> = namespaces.into_iter().map(name::of_namespace).collect();
    serde_json::to_string(&names).expect("texts have no way to fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_is_in_the_path_or_in_the_body() {
        let parse = |tail: &str, body: &str| Namespace::parse(tail, body.as_bytes());
        let name = |tail: &str, body: &str| parse(tail, body).unwrap().name.to_string();
        assert_eq!(name("", r#"{"name":"shop"}"#), "shop");
        assert_eq!(name("shop", r#"{"name":"shop"}"#), "shop");
        assert_eq!(name("shop", r#"{"name":""}"#), "shop");
        assert_eq!(name("default", r#"{"name":"openfaas-fn"}"#), "default");
        assert_eq!(name("openfaas-fn", "{}"), "default");
        let table = [
            ("", "{}", "`name` is missing"),
            ("shop", r#"{"name":"other"}"#, "the path names `shop`, and `name` in the body `other`"),
            ("shop", "", "the body is no JSON: EOF while parsing a value at line 1 column 0"),
            ("shop", r#"{"labels":{"a":null}}"#, "`labels.a` is null, and must be a text"),
        ];
        for (tail, body, expected) in table {
            assert_eq!(parse(tail, body).unwrap_err().message, expected);
        }
        assert_eq!(parse("A b", "{}").unwrap_err().code, &code::INVALID_NAME);
    }

    #[test]
    fn what_was_sent_is_said_back() {
        for (sent, said) in [
            (r#"{"name":"openfaas-fn"}"#, r#"{"name":"openfaas-fn"}"#),
            (
                r#"{"labels":{"openfaas":"1"},"annotations":{},"name":"shop","more":1}"#,
                r#"{"name":"shop","annotations":{},"labels":{"openfaas":"1"}}"#,
            ),
        ] {
            assert_eq!(Namespace::parse("", sent.as_bytes()).unwrap().render(), said);
        }
        let names = ["default", "shop"].map(|name| NamespaceName::parse(name).unwrap());
        assert_eq!(render_list(&names), r#"["openfaas-fn","shop"]"#);
    }
}
