//! What is deployed: a `FunctionDeployment`, its fields as they were sent, and what they ask of us.
//! The gateway parses the body of a deploy; a stack file fills one in and asks for the same [`Wanted`].
//!
//! Sources: faas-provider:types/model.go, faas:api-docs/spec.openapi.yml.

use std::collections::BTreeMap;

use coracle_model::{FunctionName, FunctionRef, Original, Problem, Settings, code};
use serde::Serialize;
use serde_json::{Map, Value};

use super::document::{Document, bad, shown};
use super::{name, settings};

/// The name of this face in [`Original`].
pub const FACE: &str = "openfaas";
/// The label that every function has there: its name.
pub const NAME_LABEL: &str = "faas_function";
/// The longest name that may be deployed, in bytes: it becomes a label of a host name there.
const NAME_BYTES_MAX: usize = 63;
/// What clients of old sent to let a registry be asked: a password, so it is neither kept nor said back.
const PASSWORD: &str = "registryAuth";

/// A deploy, with the fields that were sent and no others.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Deployment {
    /// The name of the function, within its namespace.
    pub service: String,
    /// The reference of its image.
    pub image: String,
    /// The namespace in OpenFaaS' words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// The command that a watchdog runs.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_process: Option<String>,
    /// The environment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub env_vars: Option<BTreeMap<String, String>>,
    /// Where it may run in a cluster: kept and said back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub constraints: Option<Vec<String>>,
    /// Names of secrets.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub secrets: Option<Vec<String>>,
    /// Labels, some of which are settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<BTreeMap<String, String>>,
    /// Annotations, some of which are settings.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub annotations: Option<BTreeMap<String, String>>,
    /// What an instance may use.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limits: Option<Resources>,
    /// What an instance should find in a cluster: kept and said back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub requests: Option<Resources>,
    /// Whether its root cannot be written.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read_only_root_filesystem: Option<bool>,
    /// Fields that we do not know: kept and said back.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// Amounts, as Kubernetes writes them; an empty text is none.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Resources {
    /// Memory, as in `64Mi`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory: Option<String>,
    /// Processor time, as in `500m`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<String>,
    /// What else is counted, such as `nvidia.com/gpu`: kept and said back.
    #[serde(flatten)]
    pub others: Map<String, Value>,
}

/// What a deployment asks for, in our nouns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// The function.
    pub function: FunctionRef,
    /// The reference of its image.
    pub image: String,
    /// How it is run, with what was sent as its [`Original`].
    pub settings: Settings,
}

impl Deployment {
    /// A deployment of an image, with nothing else said.
    pub fn new(service: impl Into<String>, image: impl Into<String>) -> Self {
        Self { service: service.into(), image: image.into(), ..Self::default() }
    }

    /// Reads the body of a deploy; what its values mean is asked of [`function`](Self::function) and [`wanted`](Self::wanted).
    ///
    /// # Errors
    /// A body that is no JSON object, a field of another type, or no `service`.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut sent = Document::parse(body)?;
        sent.forget(PASSWORD);
        Ok(Self {
            service: sent.needed_text("service", "hello")?,
            image: sent.text("image")?.unwrap_or_default(),
            namespace: sent.text("namespace")?,
            env_process: sent.text("envProcess")?,
            env_vars: sent.pairs("envVars")?,
            constraints: sent.texts("constraints")?,
            secrets: sent.texts("secrets")?,
            labels: sent.pairs("labels")?,
            annotations: sent.pairs("annotations")?,
            limits: Resources::parse(&mut sent, "limits")?,
            requests: Resources::parse(&mut sent, "requests")?,
            read_only_root_filesystem: sent.flag("readOnlyRootFilesystem")?,
            others: sent.rest(),
        })
    }

    /// The function that it is about, which is judged before anything else: an update of one that is not there is a 404 whatever else it says.
    ///
    /// # Errors
    /// A name that may not be deployed through this face, or one of a namespace that cannot be.
    pub fn function(&self) -> Result<FunctionRef, Problem> {
        let namespace = name::namespace(self.namespace.as_deref().unwrap_or_default()).map_err(|error| {
            Problem::new(&code::INVALID_NAME, error.to_string())
                .hint("`namespace` is optional, as in `\"namespace\": \"shop\"`")
        })?;
        match FunctionName::parse(&self.service) {
            Ok(name) if may_be_deployed(&self.service) => Ok(FunctionRef { namespace, name }),
            _ => Err(Problem::new(
                &code::INVALID_NAME,
                format!("`service` is `{}`, which is not a name of a function", shown(&self.service)),
            )
            .hint(format!(
                "use 1 to {NAME_BYTES_MAX} of a-z 0-9 -, and begin and end with a letter or a digit, as in `resize-2`"
            ))),
        }
    }

    /// What it asks for.
    ///
    /// # Errors
    /// No image, or the field, the label or the annotation that has a value it cannot have.
    pub fn wanted(&self) -> Result<Wanted, Problem> {
        let function = self.function()?;
        if self.image.is_empty() {
            return Err(bad("`image` is missing")
                .hint("add it, as in `\"image\": \"ghcr.io/openfaas/figlet:latest\"`"));
        }
        let mut settings = settings::of(self)?;
        settings.original = Some(Original { face: FACE.to_owned(), document: self.kept() });
        Ok(Wanted { function, image: self.image.clone(), settings })
    }

    /// The document that is said back: all that was sent.
    fn kept(&self) -> String {
        let mut kept = self.clone();
        if let Some(labels) = &mut kept.labels {
            // Everyone is told the function's own name under it, whatever was sent.
            labels.remove(NAME_LABEL);
        }
        serde_json::to_string(&kept).expect("texts, lists and objects of texts have no way to fail")
    }
}

impl Resources {
    fn parse(sent: &mut Document, key: &str) -> Result<Option<Self>, Problem> {
        let Some(mut amounts) = sent.object(key)? else { return Ok(None) };
        Ok(Some(Self { memory: amounts.text("memory")?, cpu: amounts.text("cpu")?, others: amounts.rest() }))
    }
}

/// Whether a name is `[a-z0-9]([-a-z0-9]*[a-z0-9])?`, and no longer than it may be (faas-netes:pkg/handlers/validate.go).
fn may_be_deployed(name: &str) -> bool {
    let is_plain = |c: u8| c.is_ascii_lowercase() || c.is_ascii_digit();
    let ends = [name.bytes().next(), name.bytes().next_back()];
    name.len() <= NAME_BYTES_MAX
        && ends.into_iter().all(|end| end.is_some_and(is_plain))
        && name.bytes().all(|c| is_plain(c) || c == b'-')
}

#[cfg(test)]
mod tests {
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    use super::*;

    const FULL: &str = r#"{
        "service": "resize", "image": "ghcr.io/acme/resize:1.2", "namespace": "shop", "envProcess": "./resize -q",
        "envVars": {"level": "info"}, "constraints": ["node.platform.os == linux"], "secrets": ["api-key"],
        "labels": {"team": "media", "com.openfaas.scale.max": "3"}, "annotations": {"topic": "images"},
        "limits": {"memory": "64Mi", "cpu": "500m", "nvidia.com/gpu": "1"}, "requests": {"memory": "32Mi"},
        "readOnlyRootFilesystem": true, "network": "func_functions", "registryAuth": "aHVzaA=="
    }"#;

    fn wanted(body: &str) -> Result<Wanted, Problem> {
        Deployment::parse(body.as_bytes())?.wanted()
    }

    fn refused(bodies: &[&str], expected: Expect) {
        let mut said = String::new();
        for body in bodies {
            let problem = wanted(body).unwrap_err();
            assert_eq!(problem.code.status, 400);
            let hint = problem.hint.as_deref().unwrap_or("-");
            said += &format!("{body}\n    {}: {}\n    hint: {hint}\n", problem.code.name, problem.message);
        }
        expected.assert_eq(&said);
    }

    #[test]
    fn all_that_was_sent_is_kept_but_a_password() {
        let Wanted { function, image, settings } = wanted(FULL).unwrap();
        assert_eq!(
            (function.to_string().as_str(), image.as_str()),
            ("resize.shop", "ghcr.io/acme/resize:1.2")
        );
        let original = settings.original.unwrap();
        assert_eq!(original.face, FACE);
        let mut sent: Value = serde_json::from_str(FULL).unwrap();
        sent.as_object_mut().unwrap().remove(PASSWORD);
        assert_eq!(serde_json::from_str::<Value>(&original.document).unwrap(), sent);
    }

    #[test]
    fn what_is_absent_or_null_is_not_kept_and_what_is_empty_is() {
        let sparse = r#"{"service":"f","image":"i","labels":{},"annotations":null,"envVars":null,"limits":{"cpu":null}}"#;
        let original = wanted(sparse).unwrap().settings.original.unwrap();
        assert_eq!(original.document, r#"{"service":"f","image":"i","labels":{},"limits":{}}"#);
    }

    #[test]
    fn a_deployment_that_is_made_here_asks_for_the_same_as_one_that_was_sent() {
        let made = Deployment {
            env_process: Some("cat".into()),
            limits: Some(Resources { memory: Some("64Mi".into()), ..Resources::default() }),
            ..Deployment::new("f", "i")
        };
        let sent = serde_json::to_string(&made).unwrap();
        assert_eq!(sent, r#"{"service":"f","image":"i","envProcess":"cat","limits":{"memory":"64Mi"}}"#);
        assert_eq!(made.wanted().unwrap(), wanted(&sent).unwrap());
    }

    #[test]
    fn whom_it_is_about_is_known_before_what_is_wrong_with_it() {
        let body = r#"{"service":"f","labels":{"com.openfaas.scale.min":"two"}}"#;
        let deployment = Deployment::parse(body.as_bytes()).unwrap();
        assert_eq!(deployment.function().unwrap(), FunctionRef::parse("f").unwrap());
        assert!(deployment.wanted().is_err());
    }

    #[test]
    fn names_are_those_of_kubernetes() {
        let long = "a".repeat(NAME_BYTES_MAX);
        for right in ["a", "0", "resize-2", "a--b", &long] {
            let function = Deployment::new(right, "i").function().unwrap();
            assert_eq!(function, FunctionRef::parse(right).unwrap());
        }
        let too_long = "a".repeat(NAME_BYTES_MAX + 1);
        for wrong in ["Bad_Name!", "A", "a_b", "-a", "a-", "a.b", "é", "a b", "a\n", &too_long] {
            assert_eq!(
                Deployment::new(wrong, "i").function().unwrap_err().code,
                &code::INVALID_NAME,
                "{wrong:?}"
            );
        }
        for (namespace, ours) in [("openfaas-fn", "f.default"), ("", "f.default"), ("shop", "f.shop")] {
            let deployment = Deployment { namespace: Some(namespace.into()), ..Deployment::new("f", "i") };
            assert_eq!(deployment.function().unwrap().to_string(), ours);
        }
    }

    #[test]
    fn what_is_no_deployment_is_told_by_its_field() {
        refused(
            &[
                "",
                "{\"service\":",
                "[1]",
                "{}",
                r#"{"service":"f","image":""}"#,
                r#"{"service":["f"],"image":"i"}"#,
                r#"{"service":"f","image":"i","envVars":["a=b"]}"#,
                r#"{"service":"f","image":"i","envVars":{"a":1}}"#,
                r#"{"service":"f","image":"i","labels":{"com.openfaas.scale.min":2}}"#,
                r#"{"service":"f","image":"i","secrets":"key"}"#,
                r#"{"service":"f","image":"i","secrets":["a","b/c"]}"#,
                r#"{"service":"f","image":"i","secrets":[{}]}"#,
                r#"{"service":"f","image":"i","limits":"64Mi"}"#,
                r#"{"service":"f","image":"i","limits":{"memory":64}}"#,
                r#"{"service":"f","image":"i","readOnlyRootFilesystem":"yes"}"#,
                r#"{"service":"Bad_Name!","image":"i"}"#,
                r#"{"service":"f","image":"i","namespace":"No Such"}"#,
            ],
            expect![[r#"

                    bad-request: the body is no JSON: EOF while parsing a value at line 1 column 0
                    hint: send a JSON object, with `Content-Type: application/json`
                {"service":
                    bad-request: the body is no JSON: EOF while parsing a value at line 1 column 11
                    hint: send a JSON object, with `Content-Type: application/json`
                [1]
                    bad-request: the body is a list, and must be an object
                    hint: send JSON such as `{"name": …}`
                {}
                    bad-request: `service` is missing
                    hint: add it, as in `"service": "hello"`
                {"service":"f","image":""}
                    bad-request: `image` is missing
                    hint: add it, as in `"image": "ghcr.io/openfaas/figlet:latest"`
                {"service":["f"],"image":"i"}
                    bad-request: `service` is a list, and must be a text
                    hint: write for example `"1"`
                {"service":"f","image":"i","envVars":["a=b"]}
                    bad-request: `envVars` is a list, and must be an object of texts
                    hint: write for example `{"a": "b"}`
                {"service":"f","image":"i","envVars":{"a":1}}
                    bad-request: `envVars.a` is a number, and must be a text
                    hint: write for example `"1"`
                {"service":"f","image":"i","labels":{"com.openfaas.scale.min":2}}
                    bad-request: `labels.com.openfaas.scale.min` is a number, and must be a text
                    hint: write for example `"1"`
                {"service":"f","image":"i","secrets":"key"}
                    bad-request: `secrets` is a text, and must be a list of texts
                    hint: write for example `["a", "b"]`
                {"service":"f","image":"i","secrets":["a","b/c"]}
                    invalid-name: `secrets[1]`: `b/c` is not a name of a secret: a name is 1 to 64 of the characters A-Z a-z 0-9 _ - .
                    hint: name a secret that exists, as in `"secrets": ["api-key"]`
                {"service":"f","image":"i","secrets":[{}]}
                    bad-request: `secrets[0]` is an object, and must be a text
                    hint: write for example `"1"`
                {"service":"f","image":"i","limits":"64Mi"}
                    bad-request: `limits` is a text, and must be an object of texts
                    hint: write for example `{"a": "b"}`
                {"service":"f","image":"i","limits":{"memory":64}}
                    bad-request: `limits.memory` is a number, and must be a text
                    hint: write for example `"1"`
                {"service":"f","image":"i","readOnlyRootFilesystem":"yes"}
                    bad-request: `readOnlyRootFilesystem` is a text, and must be `true` or `false`
                    hint: write for example `true`
                {"service":"Bad_Name!","image":"i"}
                    invalid-name: `service` is `Bad_Name!`, which is not a name of a function
                    hint: use 1 to 63 of a-z 0-9 -, and begin and end with a letter or a digit, as in `resize-2`
                {"service":"f","image":"i","namespace":"No Such"}
                    invalid-name: `No Such` is not a name of a namespace: a name is 1 to 64 of the characters a-z 0-9 -
                    hint: `namespace` is optional, as in `"namespace": "shop"`
            "#]],
        );
    }

    proptest! {
        #[test]
        fn no_body_is_too_strange_to_be_read(
            key in "service|image|namespace|envProcess|envVars|constraints|secrets|labels|annotations|limits|requests|readOnlyRootFilesystem|more",
            value in "null|true|-1|1e400|\"\"|\"\\\\u0000\"|\\[\\]|\\[1\\]|\\[\"a\"\\]|\\{\\}|\\{\"a\":1\\}|\\{\"a\":\"b\"\\}|\\{\"memory\":\"x\"\\}",
            cut in 0usize..80,
        ) {
            let body = format!(r#"{{"service":"f","image":"i","{key}":{value}}}"#);
            let _ = wanted(&body);
            let _ = wanted(&body[..cut.min(body.len())]);
        }
    }
}
