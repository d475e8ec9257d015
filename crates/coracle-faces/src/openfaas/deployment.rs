//! What is deployed: a `FunctionDeployment`, its fields as they were sent, and what they ask of us.
//! The gateway parses the body of a deploy; a stack file fills one in and asks for the same [`Wanted`].
//!
//! Source: faas-provider:types/function_deployment.go.

use std::collections::BTreeMap;

use coracle_model::{FunctionName, FunctionRef, Original, Problem, Settings, code};
use serde::Serialize;
use serde_json::{Map, Value};

use super::document::{Document, shown};
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
    /// A body that is no JSON object, a field of another type, no `service` or no `image`.
    pub fn parse(body: &[u8]) -> Result<Self, Problem> {
        let mut sent = Document::parse(body)?;
        Ok(Self {
            service: sent.needed_text("service", "hello")?,
            image: sent.needed_text("image", "ghcr.io/openfaas/figlet:latest")?,
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
    /// The field, the label or the annotation that has a value it cannot have.
    pub fn wanted(&self) -> Result<Wanted, Problem> {
        let function = self.function()?;
        let mut settings = settings::of(self)?;
        settings.original = Some(Original { face: FACE.to_owned(), document: self.kept() });
        Ok(Wanted { function, image: self.image.clone(), settings })
    }

    /// The document that is said back: all that was sent, but for what is not to be.
    fn kept(&self) -> String {
        let mut kept = self.clone();
        kept.others.remove(PASSWORD);
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
