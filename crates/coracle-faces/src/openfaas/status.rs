//! What is said about a function: a `FunctionStatus`, alone or in a list.
//! The gateway renders it; what was sent at the deploy is said back as it was, from the document that was kept.
//!
//! Source: faas-provider:types/function_status.go.

use std::collections::BTreeMap;

use coracle_model::{ByteSize, Code, Cores, Digest, Limits, Revision, Settings};
use jiff::Timestamp;
use serde::Serialize;
use serde_json::value::RawValue;

use super::deployment::{FACE, NAME_LABEL};
use super::name;

/// What is said about a function.
#[derive(Debug, Clone, Copy)]
pub struct Status<'a> {
    /// What calls run.
    pub revision: &'a Revision,
    /// When the function was deployed first.
    pub created: Timestamp,
    /// Instances that are wanted.
    pub replicas: u32,
    /// Instances that take calls.
    pub available: u32,
    /// Calls so far, where they are told.
    pub invocations: Option<u64>,
    /// What its instances use, where that was asked for.
    pub usage: Option<Usage>,
}

/// What the instances of a function use together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Usage {
    /// Thousandths of a core.
    pub cpu: f64,
    /// Bytes of memory.
    pub total_memory_bytes: f64,
}

/// The documents of many functions, as a list.
pub fn render_list<'a>(statuses: impl IntoIterator<Item = Status<'a>>) -> String {
    let mut out = String::from("[");
    for (index, status) in statuses.into_iter().enumerate() {
        if index > 0 {
            out.push(',');
        }
        status.render(&mut out);
    }
    out.push(']');
    out
}

/// The fields of a document that was kept, each as it was written.
type Members<'a> = BTreeMap<String, &'a RawValue>;

/// Fields of a document that are said by themselves, or that nobody may put words into.
const SAID: [&str; 11] = [
    "service",
    "name",
    "image",
    "namespace",
    "labels",
    "annotations",
    "invocationCount",
    "replicas",
    "availableReplicas",
    "createdAt",
    "usage",
];

impl Status<'_> {
    /// Writes the document of one function.
    pub fn render(&self, out: &mut String) {
        let Revision { function, settings, .. } = self.revision;
        let mut object = Object::begin(out);
        object.text("name", function.name.as_str());
        object.text("namespace", name::of_namespace(&function.namespace));
        match members_of(settings) {
            Some(kept) => self.render_kept(&kept, &mut object),
            None => self.render_settings(&mut object),
        }
        self.render_moment(&mut object);
        object.end();
    }

    /// What was sent, as it was sent.
    fn render_kept(&self, kept: &Members<'_>, object: &mut Object<'_>) {
        match kept.get("image") {
            Some(image) => object.raw("image", image.get()),
            None => object.text("image", &image_of(&self.revision.code)),
        }
        self.render_labels(kept.get("labels").map(|labels| labels.get()), object);
        object.raw("annotations", kept.get("annotations").map_or("{}", |annotations| annotations.get()));
        for (key, value) in kept.iter().filter(|(key, _)| !SAID.contains(&key.as_str())) {
            object.raw(key, value.get());
        }
    }

    /// What comes nearest to it of a function that was deployed in other words.
    fn render_settings(&self, object: &mut Object<'_>) {
        let Settings { env, secrets, limits, program, labels, annotations, .. } = &self.revision.settings;
        object.text("image", &image_of(&self.revision.code));
        self.render_labels((!labels.is_empty()).then(|| json(labels)).as_deref(), object);
        object.raw("annotations", &json(annotations));
        if !env.is_empty() {
            object.raw("envVars", &json(env));
        }
        if !secrets.is_empty() {
            object.raw("secrets", &json(secrets));
        }
        let mut amounts = BTreeMap::new();
        if limits.memory_bytes != Limits::default().memory_bytes {
            amounts.insert(
                "memory",
                ByteSize(limits.memory_bytes).to_string().replace("iB", "i").replace('B', ""),
            );
        }
        if let Some(millis) = program.cpu_millis {
            amounts.insert("cpu", Cores(millis).to_string());
        }
        if !amounts.is_empty() {
            object.raw("limits", &json(&amounts));
        }
        if program.read_only {
            object.raw("readOnlyRootFilesystem", "true");
        }
    }

    /// Labels, of which a function's own name is always one.
    fn render_labels(&self, labels: Option<&str>, object: &mut Object<'_>) {
        let name = self.revision.function.name.as_str();
        let others = labels.and_then(|labels| labels.trim().strip_prefix('{')).map_or("}", str::trim_start);
        // Names hold nothing that JSON would escape.
        let comma = if others == "}" { "" } else { "," };
        object.raw("labels", &format!("{{\"{NAME_LABEL}\":\"{name}\"{comma}{others}"));
    }

    /// How it is now. Zeros are left out, as Go's `omitempty` has it.
    fn render_moment(&self, object: &mut Object<'_>) {
        let counts = [
            ("invocationCount", self.invocations.unwrap_or(0)),
            ("replicas", self.replicas.into()),
            ("availableReplicas", self.available.into()),
        ];
        for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            object.raw(key, &count.to_string());
        }
        object.text("createdAt", &self.created.to_string());
        if let Some(usage) = &self.usage {
            object.raw("usage", &json(usage));
        }
    }
}

/// The fields that were sent through this face, if it was this face and they can be read.
fn members_of(settings: &Settings) -> Option<Members<'_>> {
    let original = settings.original.as_ref().filter(|original| original.face == FACE)?;
    // Two thousand documents are asked for at once: fields are cut out and copied, and their values never built.
    let members: Members<'_> = serde_json::from_str(&original.document).ok()?;
    let is_object = |key: &str| members.get(key).is_none_or(|value| value.get().starts_with('{'));
    let is_text = |key: &str| members.get(key).is_none_or(|value| value.get().starts_with('"'));
    (is_object("labels") && is_object("annotations") && is_text("image")).then_some(members)
}

/// What there is instead of an image where it is none: the kind of the code, and enough of its digest to know it again.
fn image_of(code: &Code) -> String {
    /// The characters of a digest that are shown.
    const DIGEST_SHOWN: usize = 12;
    let short = |digest: &Digest| digest.to_string().chars().take(DIGEST_SHOWN).collect::<String>();
    match code {
        Code::Image { reference, .. } => reference.clone(),
        Code::Wasm(digest) | Code::Bundle(digest) => format!("coracle/{}:{}", code.kind(), short(digest)),
    }
}

/// A JSON object that is being written.
struct Object<'a> {
    out: &'a mut String,
}

impl<'a> Object<'a> {
    fn begin(out: &'a mut String) -> Self {
        out.push('{');
        Self { out }
    }

    fn text(&mut self, key: &str, text: &str) {
        self.raw(key, &json(text));
    }

    /// A field whose value is JSON already.
    fn raw(&mut self, key: &str, value: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        self.out.push_str(&json(key));
        self.out.push(':');
        self.out.push_str(value);
    }

    fn end(self) {
        self.out.push('}');
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers have no way to fail")
}
