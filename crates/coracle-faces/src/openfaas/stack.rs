//! `stack.yaml`: the functions that a folder deploys, in OpenFaaS' words.
//! `coracle deploy` calls it with the text of the file and of its environment files, which it reads itself.

mod document;
#[cfg(test)]
mod tests;
mod unset;

use std::collections::BTreeMap;

use serde_saphyr::Spanned;

use self::document::{Document, EnvironmentText, FunctionText, ResourcesText, Texts};
use super::deployment::{Deployment, Resources};
use super::envsubst;
use super::glob;

pub use self::document::Invalid;

/// The only `version` there is.
const VERSION: &str = "1.0";
/// The only `provider.name` there is.
const PROVIDER: &str = "openfaas";

/// What a stack file says.
#[derive(Debug, Clone, PartialEq)]
pub struct Stack {
    /// Its functions, in the order of the file; there is one at least.
    pub functions: Vec<Function>,
}

/// One function of a stack file, in the words of the file.
#[derive(Debug, Clone, PartialEq)]
pub struct Function {
    /// Its name.
    pub name: String,
    /// The image that is its code.
    pub image: String,
    /// Where it goes; `None` leaves it to the command line.
    pub namespace: Option<String>,
    /// What is run for each call, or by the watchdog.
    pub fprocess: Option<String>,
    /// Its environment.
    pub environment: BTreeMap<String, String>,
    /// Files with more of its environment, as they are named; whoever reads them calls [`Function::add_environment`].
    pub environment_files: Vec<String>,
    /// Secrets it may read.
    pub secrets: Vec<String>,
    /// For people and tools to select by.
    pub labels: BTreeMap<String, String>,
    /// For people and tools to read.
    pub annotations: BTreeMap<String, String>,
    /// Where it may run.
    pub constraints: Vec<String>,
    /// The most that an instance may use.
    pub limits: Option<Resources>,
    /// What an instance is promised.
    pub requests: Option<Resources>,
    /// Whether its root cannot be written.
    pub read_only: Option<bool>,
    /// Whether its image is made of a folder beside the file.
    pub is_built: bool,
    /// Where its name stands: line and column, from 1.
    pub place: (usize, usize),
    /// Where values stand, by the names that what is wrong with them is told under, as `limits.memory`.
    pub places: BTreeMap<String, (usize, usize)>,
}

impl Stack {
    /// Understands the text of a stack file, once its variables are put in; one that nobody has is empty.
    ///
    /// # Errors
    /// What is wrong with it, and where.
    pub fn parse(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<Self, Invalid> {
        let read = with_variables(text, value_of)?;
        Self::of_text(&read).map_err(|invalid| unset::named(invalid.quoting_only(text), text, value_of))
    }

    fn of_text(text: &str) -> Result<Self, Invalid> {
        let document = Document::parse(text)?;
        if let Some(version) = document.version.filter(|version| version.value != VERSION) {
            let message = format!("there is no version `{}` of stack files", version.value);
            return Err(Invalid::at(text, &version.referenced, message).hint("write `version: 1.0`"));
        }
        if let Some(name) = document.provider.and_then(|provider| provider.name)
            && name.value != PROVIDER
        {
            let message = format!("there is no provider `{}`", name.value);
            return Err(Invalid::at(text, &name.referenced, message).hint("write `name: openfaas`"));
        }
        let functions = document.functions.into_iter().map(|(name, function)| {
            Function::of(&name.value, function.unwrap_or_default())
                .map_err(|(message, hint)| Invalid::at(text, &name.referenced, message).hint(hint))
                .map(|function| Function { place: document::place(&name.referenced), ..function })
        });
        let functions: Vec<_> = functions.collect::<Result<_, _>>()?;
        if functions.is_empty() {
            return Err(Invalid::of_all("it has no function")
                .hint("write below `functions:` a name, and below that a line `image: NAME:TAG`"));
        }
        Ok(Self { functions })
    }

    /// Leaves the functions whose names fit a pattern, as in `*-worker`; gives the names of all when none does.
    ///
    /// # Errors
    /// The names of all functions, if none fits.
    pub fn keep(&mut self, fits: impl Fn(&str) -> bool) -> Result<(), Vec<String>> {
        let (kept, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.functions).into_iter().partition(|function| fits(&function.name));
        self.functions = kept;
        if self.functions.is_empty() {
            return Err(others.into_iter().map(|function| function.name).collect());
        }
        Ok(())
    }
}

/// Whether a name fits a pattern of `--filter`.
pub fn fits(pattern: &str, name: &str) -> bool {
    glob::fits(pattern, name)
}

/// The variables of an environment file: a map under `environment`.
///
/// # Errors
/// Where something is wrong with it; what stands there is not repeated, as such files hold secrets.
pub fn environment(text: &str) -> Result<BTreeMap<String, String>, Invalid> {
    let file: EnvironmentText = document::read(text).map_err(|invalid| {
        invalid
            .place_only("this is not as an environment file has it")
            .hint("write `environment:`, and below that a line `  NAME: VALUE` for each variable")
    })?;
    Ok(texts(file.environment, &mut BTreeMap::new()))
}

impl Function {
    /// Adds what an environment file says, which outranks what was there.
    pub fn add_environment(&mut self, variables: BTreeMap<String, String>) {
        self.environment.extend(variables);
    }

    /// What `faas-cli deploy` would send of it: labels and annotations always, anything else if there is some.
    pub fn deployment(&self) -> Deployment {
        let map = |map: &BTreeMap<_, _>| Some(map.clone()).filter(|map| !map.is_empty());
        let list = |list: &Vec<_>| Some(list.clone()).filter(|list| !list.is_empty());
        Deployment {
            namespace: self.namespace.clone(),
            env_process: self.fprocess.clone(),
            env_vars: map(&self.environment),
            constraints: list(&self.constraints),
            secrets: list(&self.secrets),
            labels: Some(self.labels.clone()),
            annotations: Some(self.annotations.clone()),
            limits: self.limits.clone(),
            requests: self.requests.clone(),
            read_only_root_filesystem: self.read_only.filter(|is_read_only| *is_read_only),
            ..Deployment::new(&self.name, &self.image)
        }
    }

    fn of(name: &str, text: FunctionText) -> Result<Self, (String, String)> {
        let image = text.image.map(|image| image.value).filter(|image| !image.is_empty());
        let Some(image) = image else {
            let message = format!("the function `{name}` has no `image`");
            return Err((
                message,
                "add a line `image: NAME:TAG`: what `faas-cli build` makes has it too".into(),
            ));
        };
        if image.ends_with([':', '/', '@']) {
            let message = format!("the `image` of the function `{name}` is `{image}`, which ends too early");
            return Err((message, "write `image: NAME:TAG`".into()));
        }
        let mut places = BTreeMap::new();
        Ok(Self {
            name: name.to_owned(),
            image,
            namespace: text.namespace.filter(|namespace| !namespace.is_empty()),
            fprocess: text.fprocess.filter(|fprocess| !fprocess.is_empty()),
            environment: texts(text.environment, &mut places),
            environment_files: text.environment_file.unwrap_or_default(),
            secrets: text.secrets.unwrap_or_default(),
            labels: texts(text.labels, &mut places),
            annotations: texts(text.annotations, &mut places),
            constraints: text.constraints.unwrap_or_default(),
            limits: resources("limits", text.limits, &mut places),
            requests: resources("requests", text.requests, &mut places),
            read_only: text.readonly_root_filesystem,
            is_built: text.handler.is_some() && text.skip_build != Some(true),
            place: (1, 1),
            places,
        })
    }

    /// Where something stands that a message names between backticks; else where the function does.
    pub fn place_of(&self, message: &str) -> (usize, usize) {
        let named = message.split('`').skip(1).step_by(2);
        named.into_iter().find_map(|name| self.places.get(name)).copied().unwrap_or(self.place)
    }
}

fn with_variables(text: &str, value_of: &dyn Fn(&str) -> Option<String>) -> Result<String, Invalid> {
    envsubst::substitute(text, value_of).map_err(|bad| {
        let line = &text[bad.at..];
        let shown: String = line.chars().take_while(|c| !c.is_control()).take(40).collect();
        Invalid::at_byte(text, bad.at, format!("`{shown}`: {}", bad.reason))
            .hint("write `${NAME}` or `${NAME:-DEFAULT}`, and `$$` for a dollar sign")
    })
}

type Places = BTreeMap<String, (usize, usize)>;

fn texts(map: Option<Texts>, places: &mut Places) -> BTreeMap<String, String> {
    let text = |(key, value): (String, Option<Spanned<String>>)| {
        // Nothing after the colon is an empty text.
        let value = value.map_or_else(String::new, |value| noted(&key, value, places));
        (key, value)
    };
    map.into_iter().flatten().map(text).collect()
}

fn resources(key: &str, text: Option<ResourcesText>, places: &mut Places) -> Option<Resources> {
    let ResourcesText { memory, cpu } = text?;
    let mut amount = |name: &str, amount: Option<Spanned<String>>| {
        amount.map(|amount| noted(&format!("{key}.{name}"), amount, places))
    };
    Some(Resources { memory: amount("memory", memory), cpu: amount("cpu", cpu), ..Resources::default() })
}

/// A value whose place is kept under a name.
fn noted(name: &str, Spanned { value, referenced, .. }: Spanned<String>, places: &mut Places) -> String {
    places.insert(name.to_owned(), document::place(&referenced));
    value
}
