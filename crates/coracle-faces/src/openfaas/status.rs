//! What is said about a function: a `FunctionStatus`, alone or in a list.
//! The gateway renders it; what was sent at the deploy is said back as it was, from the document that was kept.
//!
//! Sources: faas-provider:types/model.go, faas-netes:pkg/handlers/reader.go.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write};

use coracle_model::{ByteSize, Code, Cores, Digest, Limits, Revision, Settings};
use jiff::Timestamp;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
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
    /// Thousandths of a core; `None` where nobody measures it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpu: Option<f64>,
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

impl Status<'_> {
    /// Writes the document of one function.
    pub fn render(&self, out: &mut String) {
        let Revision { function, settings, .. } = self.revision;
        let mut object = Object::begin(out);
        // Names hold nothing that JSON would escape.
        object.plain("name", function.name.as_str());
        object.plain("namespace", name::of_namespace(&function.namespace));
        let kept = settings.original.as_ref().filter(|original| original.face == FACE);
        if !kept.is_some_and(|original| self.render_kept(&original.document, &mut object)) {
            self.render_settings(&mut object);
        }
        self.render_moment(&mut object);
        object.end();
    }

    /// What was sent, as it was sent; `false`, and nothing written, if that cannot be read.
    fn render_kept(&self, document: &str, object: &mut Object<'_>) -> bool {
        let begun = object.out.len();
        let mut kept = serde_json::Deserializer::from_str(document);
        let copying = Copying { status: self, object: &mut *object };
        let is_read = kept.deserialize_map(copying).and_then(|()| kept.end()).is_ok();
        if !is_read {
            object.out.truncate(begun);
        }
        is_read
    }

    /// What comes nearest to it of a function that was deployed in other words.
    fn render_settings(&self, object: &mut Object<'_>) {
        let Settings { env, secrets, limits, program, labels, annotations, .. } = &self.revision.settings;
        self.render_image(object);
        self.render_labels(&json(labels), object);
        object.raw("annotations", &json(annotations));
        if !env.is_empty() {
            object.raw("envVars", &json(env));
        }
        if !secrets.is_empty() {
            object.raw("secrets", &json(secrets));
        }
        let mut amounts = BTreeMap::new();
        if limits.memory_bytes != Limits::default().memory_bytes {
            amounts.insert("memory", as_quantity(limits.memory_bytes));
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

    fn render_image(&self, object: &mut Object<'_>) {
        object.raw("image", &json(&image_of(&self.revision.code)));
    }

    /// Labels, of which a function's own name is always one.
    fn render_labels(&self, labels: &str, object: &mut Object<'_>) {
        let others = labels.strip_prefix('{').map_or("}", str::trim_start);
        object.raw("labels", "{");
        object.plain(NAME_LABEL, self.revision.function.name.as_str());
        object.out.push_str(if others == "}" { "" } else { "," });
        object.out.push_str(others);
    }

    /// How it is now. Zeros are left out, as Go's `omitempty` has it.
    fn render_moment(&self, object: &mut Object<'_>) {
        let counts = [
            ("invocationCount", self.invocations.unwrap_or(0)),
            ("replicas", self.replicas.into()),
            ("availableReplicas", self.available.into()),
        ];
        for (key, count) in counts.into_iter().filter(|(_, count)| *count > 0) {
            object.shown(key, format_args!("{count}"));
        }
        object.shown("createdAt", format_args!("\"{}\"", self.created));
        if let Some(usage) = &self.usage {
            object.raw("usage", &json(usage));
        }
    }
}

/// Copies the fields of a document that was kept.
///
/// Two thousand documents are asked for at once: fields are cut out and copied, and their values never built.
struct Copying<'a, 'out> {
    status: &'a Status<'a>,
    object: &'a mut Object<'out>,
}

/// A key of a document, which is seldom escaped.
#[derive(Deserialize)]
struct Key<'a>(#[serde(borrow)] Cow<'a, str>);

impl<'de> Visitor<'de> for Copying<'_, '_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the fields of a deployment")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<(), A::Error> {
        let (mut image, mut labels, mut annotations) = (false, false, false);
        while let Some((Key(key), value)) = fields.next_entry::<Key<'de>, &RawValue>()? {
            let value = value.get();
            match &*key {
                "image" if is_first(value, '"', &mut image) => self.object.raw("image", value),
                "labels" if is_first(value, '{', &mut labels) => {
                    self.status.render_labels(value, self.object)
                }
                "annotations" if is_first(value, '{', &mut annotations) => {
                    self.object.raw("annotations", value);
                }
                "image" | "labels" | "annotations" => {
                    return Err(de::Error::custom("a field of another kind, or twice"));
                }
                key if SAID.contains(&key) => {}
                key => self.object.raw(key, value),
            }
        }
        if !image {
            self.status.render_image(self.object);
        }
        if !labels {
            self.status.render_labels("{}", self.object);
        }
        if !annotations {
            self.object.raw("annotations", "{}");
        }
        Ok(())
    }
}

/// Whether a value begins as it must, and is the first under its key.
fn is_first(value: &str, begin: char, seen: &mut bool) -> bool {
    value.starts_with(begin) && !std::mem::replace(seen, true)
}

/// Fields of a document that are said by themselves, and that nobody may put words into.
const SAID: [&str; 8] = [
    "service",
    "name",
    "namespace",
    "invocationCount",
    "replicas",
    "availableReplicas",
    "createdAt",
    "usage",
];

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

/// Bytes as Kubernetes writes them: ours without the `B`.
fn as_quantity(bytes: u64) -> String {
    ByteSize(bytes).to_string().trim_end_matches('B').to_owned()
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

    /// A field whose value is a text with nothing to escape.
    fn plain(&mut self, key: &str, text: &str) {
        self.key(key);
        self.out.push('"');
        self.out.push_str(text);
        self.out.push('"');
    }

    /// A field whose value is JSON already.
    fn raw(&mut self, key: &str, value: &str) {
        self.key(key);
        self.out.push_str(value);
    }

    /// The same, of something that is shown as JSON.
    fn shown(&mut self, key: &str, value: fmt::Arguments<'_>) {
        self.key(key);
        self.out.write_fmt(value).expect("writing to a String cannot fail");
    }

    fn key(&mut self, key: &str) {
        if !self.out.ends_with('{') {
            self.out.push(',');
        }
        if key.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_') {
            self.out.push('"');
            self.out.push_str(key);
            self.out.push_str("\":");
        } else {
            self.out.push_str(&json(key));
            self.out.push(':');
        }
    }

    fn end(self) {
        self.out.push('}');
    }
}

fn json<T: Serialize + ?Sized>(value: &T) -> String {
    serde_json::to_string(value).expect("texts and numbers have no way to fail")
}

#[cfg(test)]
mod tests;
