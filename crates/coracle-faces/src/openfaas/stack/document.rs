//! The YAML of a stack file: its keys, each with its type, and what a mistake in it is called.
//! `stack.rs` makes functions of what is read here.

use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;

use coracle_model::nearest;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_saphyr::{Error, Location, Spanned};

/// Maps, lists and texts of a file, those that aliases repeat included: what says more is a trap.
const NODES_MAX: usize = 50_000;

/// The shortest beginning of a key that says which is meant, in bytes.
const SHORTENED_BYTES_MIN: usize = 3;

/// What is wrong with a file, and where it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Invalid {
    /// Line and column, from 1, of the text with its variables put in; `None` is all of it.
    pub place: Option<(usize, usize)>,
    /// That line, as it is written in the file; `None` where variables were put into it, or where nobody may see it.
    pub line: Option<String>,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub hint: Option<String>,
}

impl Invalid {
    pub(super) fn of_all(message: impl Into<String>) -> Self {
        Self { place: None, line: None, message: message.into(), hint: None }
    }

    pub(super) fn at(text: &str, location: &Location, message: impl Into<String>) -> Self {
        let place = place(location);
        let line = text.lines().nth(place.0 - 1).unwrap_or_default().to_owned();
        Self { place: Some(place), line: Some(line), ..Self::of_all(message) }
    }

    pub(super) fn at_byte(text: &str, at: usize, message: impl Into<String>) -> Self {
        let (before, after) = text.split_at(at);
        let start = before.rfind('\n').map_or(0, |newline| newline + 1);
        let end = after.find('\n').map_or(text.len(), |newline| at + newline);
        let place = (before.matches('\n').count() + 1, text[start..at].chars().count() + 1);
        Self { place: Some(place), line: Some(text[start..end].to_owned()), ..Self::of_all(message) }
    }

    /// Without anything that a variable brought into the text, as it may be a secret and errors reach logs.
    pub(super) fn quoting_only(self, text: &str) -> Self {
        /// What messages say in words of ours.
        const OURS: [&str; 4] = ["image", "KEY: VALUE", "- VALUE", "&"];
        let number = self.place.map(|(number, _)| number);
        let written = number.and_then(|number| text.lines().nth(number - 1)).unwrap_or_default();
        let mut quoted = self.message.split('`').skip(1).step_by(2);
        let is_written = self.line.as_deref().is_none_or(|line| line == written)
            && quoted.all(|quoted| OURS.contains(&quoted) || text.contains(quoted));
        if is_written {
            return self;
        }
        let message = "this is wrong once the variables are put in";
        Self { place: self.place, ..Self::of_all(message) }
            .hint("look at the values of the variables here: they are not repeated, as they may be secrets")
    }

    /// Where it stands, and no more.
    pub(super) fn place_only(self, message: &str) -> Self {
        Self { place: self.place, ..Self::of_all(message) }
    }

    pub(super) fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Line and column, from 1.
pub(super) fn place(location: &Location) -> (usize, usize) {
    let number = |number: u64| usize::try_from(number).unwrap_or(usize::MAX).max(1);
    (number(location.line()), number(location.column()))
}

/// A whole stack file.
#[derive(Debug, Default)]
pub(super) struct Document {
    pub(super) version: Option<Spanned<String>>,
    pub(super) provider: Option<ProviderText>,
    pub(super) functions: Vec<(Spanned<String>, Option<FunctionText>)>,
}

const KEYS: [&str; 4] = ["version", "provider", "functions", "configuration"];

impl Document {
    pub(super) fn parse(text: &str) -> Result<Self, Invalid> {
        let Root { document, unknown } = read(text)?;
        // A key that carries an anchor is there for others to refer to.
        let is_anchor = |location: &Location| {
            let line = text.lines().nth(place(location).0 - 1).unwrap_or_default();
            line.split_once(':').is_some_and(|(_, value)| value.trim_start().starts_with('&'))
        };
        let mut unknown = unknown.into_iter();
        match unknown.find(|key| !key.value.starts_with("x-") && !is_anchor(&key.referenced)) {
            None => Ok(document),
            Some(key) if is_of_function(&key.value) => {
                Err(Invalid::at(text, &key.referenced, format!("`{}` belongs to a function", key.value))
                    .hint("write it below `functions:` and the name of the function"))
            }
            Some(key) => {
                let invalid = unknown_key(text, &key.referenced, &key.value, &KEYS);
                // The name of a function that is not indented.
                let is_outside = document.functions.is_empty() && meant(&key.value, &KEYS).is_none();
                Err(if is_outside { invalid.hint(BELOW_FUNCTIONS) } else { invalid })
            }
        }
    }
}

const BELOW_FUNCTIONS: &str = "if it is a function, write it below `functions:`, two spaces further in";
/// The form of a map, for whoever wrote something else.
const MAP: &str = "what belongs to a key stands below it, two spaces further in: `image: NAME:TAG` on a line for each, without a dash";
/// The form of a list.
const LIST: &str = "write `- VALUE` on a line for each below the key, or `[ONE, OTHER]` beside it";
/// The form of levels.
const LEVELS: &str = "keys that belong together begin in the same column, and what belongs to a key two spaces further in, as `KEY: VALUE`";

/// What a file has at its top, and the keys that we do not know.
struct Root {
    document: Document,
    unknown: Vec<Spanned<String>>,
}

impl<'de> Deserialize<'de> for Root {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AtTop;
        impl<'de> Visitor<'de> for AtTop {
            type Value = Root;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map with `functions`")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Root, A::Error> {
                let mut root = Root { document: Document::default(), unknown: Vec::new() };
                while let Some(key) = map.next_key::<Spanned<String>>()? {
                    match key.value.as_str() {
                        "version" => root.document.version = map.next_value()?,
                        "provider" => root.document.provider = map.next_value()?,
                        "functions" => {
                            let functions: Option<Entries<_>> = map.next_value()?;
                            root.document.functions = functions.map(|entries| entries.0).unwrap_or_default();
                        }
                        // What it says is for whoever builds; that it says it rightly is seen here.
                        "configuration" => {
                            map.next_value::<Option<ConfigurationText>>()?;
                        }
                        _ => {
                            map.next_value::<IgnoredAny>()?;
                            root.unknown.push(key);
                        }
                    }
                }
                Ok(root)
            }
        }
        deserializer.deserialize_map(AtTop)
    }
}

/// A map in the order of the text, whose keys know where they stand.
struct Entries<V>(Vec<(Spanned<String>, V)>);

impl<'de, V: Deserialize<'de>> Deserialize<'de> for Entries<V> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct InOrder<V>(PhantomData<V>);
        impl<'de, V: Deserialize<'de>> Visitor<'de> for InOrder<V> {
            type Value = Entries<V>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Entries<V>, A::Error> {
                let mut entries = Vec::new();
                while let Some(entry) = map.next_entry()? {
                    entries.push(entry);
                }
                Ok(Entries(entries))
            }
        }
        deserializer.deserialize_map(InOrder(PhantomData))
    }
}

/// Texts by name, which know where they stand; nothing after the colon is `None`.
pub(super) type Texts = BTreeMap<String, Option<Spanned<String>>>;

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ProviderText {
    pub(super) name: Option<Spanned<String>>,
    /// The command line says which server is meant, as it does for every verb.
    #[serde(rename = "gateway")]
    _gateway: Option<String>,
    /// Files of years ago have it, and nobody obeys it any more.
    #[serde(rename = "network")]
    _network: Option<String>,
}

/// One function. What begins with `_` is for whoever builds its image.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct FunctionText {
    #[serde(rename = "lang")]
    _lang: Option<String>,
    pub(super) handler: Option<String>,
    pub(super) image: Option<Spanned<String>>,
    pub(super) fprocess: Option<String>,
    pub(super) environment: Option<Texts>,
    pub(super) environment_file: Option<Vec<String>>,
    pub(super) secrets: Option<Vec<String>>,
    pub(super) labels: Option<Texts>,
    pub(super) annotations: Option<Texts>,
    pub(super) constraints: Option<Vec<String>>,
    pub(super) limits: Option<ResourcesText>,
    pub(super) requests: Option<ResourcesText>,
    pub(super) readonly_root_filesystem: Option<bool>,
    pub(super) skip_build: Option<bool>,
    #[serde(rename = "build_options")]
    _build_options: Option<IgnoredAny>,
    #[serde(rename = "build_args")]
    _build_args: Option<IgnoredAny>,
    #[serde(rename = "build_secrets")]
    _build_secrets: Option<IgnoredAny>,
    #[serde(rename = "platforms")]
    _platforms: Option<IgnoredAny>,
    pub(super) namespace: Option<String>,
}

/// Keys of a function that stand at the top of a file by a likely slip.
fn is_of_function(key: &str) -> bool {
    const KEYS: [&str; 9] =
        ["image", "lang", "handler", "fprocess", "environment", "secrets", "labels", "annotations", "limits"];
    KEYS.contains(&key)
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResourcesText {
    pub(super) memory: Option<Spanned<String>>,
    pub(super) cpu: Option<Spanned<String>>,
}

/// Where `faas-cli` finds templates, and what it copies beside a handler.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigurationText {
    #[serde(rename = "templates")]
    _templates: Option<IgnoredAny>,
    #[serde(rename = "copy")]
    _copy: Option<IgnoredAny>,
}

/// An environment file.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EnvironmentText {
    pub(super) environment: Option<Texts>,
}

/// Reads YAML, within bounds.
pub(super) fn read<'de, T: Deserialize<'de>>(text: &'de str) -> Result<T, Invalid> {
    let options = serde_saphyr::options! {
        budget: serde_saphyr::budget! {
            max_nodes: NODES_MAX,
            // A hundred functions may well share what one anchor names.
            enforce_alias_anchor_ratio: false,
        },
        // Ours shows the line.
        with_snippet: false,
    };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| invalid(text, &error))
}

/// An error of the YAML reader, in our words.
fn invalid(text: &str, error: &Error) -> Invalid {
    let error = error.without_snippet();
    let at = error.location().unwrap_or(Location::UNKNOWN);
    if let Error::AliasError { error, .. } = error {
        return invalid(text, error);
    }
    let wrong = |message: &str| Invalid::at(text, &at, message);
    match error {
        Error::SerdeUnknownField { field, expected, .. } => unknown_key(text, &at, field, expected),
        Error::DuplicateMappingKey { key, .. } => {
            let key = key.as_deref().unwrap_or("this key");
            wrong(&format!("`{key}` is there twice")).hint("keep one of them")
        }
        Error::Eof { .. } => wrong("it ends in the middle"),
        Error::MultipleDocuments { .. } => {
            wrong("a second document begins here").hint("a file has one: remove the line `---`")
        }
        Error::UnknownAnchor { .. } => wrong("no `&` before this gives that name to anything"),
        Error::RecursiveReferencesRequireWeakTypes { .. } => wrong("it refers to what it is a part of"),
        Error::Budget { .. }
        | Error::AliasReplayLimitExceeded { .. }
        | Error::AliasReplayStackDepthExceeded { .. } => {
            wrong("it says too much: lists and maps are too many, or too deep within each other")
        }
        Error::InvalidBooleanStrict { .. } | Error::InvalidScalar { .. } => wrong("it must be true or false"),
        Error::Unexpected { expected: "mapping start", .. } => {
            wrong("here must be keys with values, as `KEY: VALUE`").hint(MAP)
        }
        Error::Unexpected { expected: "sequence start", .. } => wrong("here must be a list").hint(LIST),
        Error::Unexpected { expected: "string scalar", .. } => wrong("here must be a text"),
        Error::Unexpected { .. } => wrong("this is not what must be here"),
        Error::NullIntoString { .. } => wrong("here must be a text, and nothing is here"),
        _ => {
            let said = said(error);
            tab(text, place(&at).0, said.contains("found a tab")).unwrap_or_else(|| wrong(&said).hint(LEVELS))
        }
    }
}

/// A tab in the indentation of this line, or of one before it: the reader may stumble later.
///
/// One that it stumbled over itself may stand behind the place that it names, where what the tab broke begins.
fn tab(text: &str, line: usize, is_behind: bool) -> Option<Invalid> {
    let indented = |line: &str| line.len() - line.trim_start_matches([' ', '\t']).len();
    let has_tab = |(_, line): &(usize, &str)| line[..indented(line)].contains('\t');
    let lines = || text.lines().enumerate();
    let behind = lines().skip(line.saturating_sub(1)).find(has_tab).filter(|_| is_behind);
    let (number, line) = behind.or_else(|| lines().take(line).find(has_tab))?;
    let column = line.chars().position(|c| c == '\t').unwrap_or_default() + 1;
    let found = Invalid {
        place: Some((number + 1, column)),
        line: Some(line.to_owned()),
        ..Invalid::of_all("a tab is in the indentation, which YAML wants to be of spaces")
    };
    Some(found.hint("write spaces in its place, two for each level"))
}

/// What the reader says itself, without the place.
fn said(error: &Error) -> String {
    let said = error.to_string();
    said.rsplit_once(" at line ").map_or(said.as_str(), |(what, _)| what).to_owned()
}

fn unknown_key(text: &str, at: &Location, key: &str, known: &[&str]) -> Invalid {
    let invalid = Invalid::at(text, at, format!("unknown key `{key}`"));
    match meant(key, known) {
        Some(meant) => invalid.hint(format!("did you mean `{meant}`?")),
        None => invalid.hint(format!("known here: {}", known.join(", "))),
    }
}

/// The key that somebody meant: one that is written almost so, or that begins so, as `env` does.
fn meant<'k>(key: &str, known: &[&'k str]) -> Option<&'k str> {
    let is_shortened = |known: &&&str| key.len() >= SHORTENED_BYTES_MIN && known.starts_with(key);
    nearest(key, known.iter().copied()).or_else(|| known.iter().find(is_shortened).copied())
}
