//! The function store: a list of functions that anybody may deploy, in version 2 of its format.
//! `coracle store` reads one from a file or an address, which it fetches itself.
//!
//! Sources: store:functions.json, faas-cli:commands/store_deploy.go.

use std::collections::BTreeMap;

use coracle_model::{Problem, code, nearest};

use super::deployment::Deployment;
use super::document::{Document, bad, shown};

/// What each architecture is called in a store, and what else people call it.
const PLATFORMS: [(&str, &[&str]); 3] =
    [("x86_64", &["amd64"]), ("arm64", &["aarch64"]), ("armhf", &["arm", "armv7"])];

/// A function of a store.
#[derive(Debug, Clone, PartialEq)]
pub struct Offer {
    /// The name it is asked for by, and deployed under.
    pub name: String,
    /// What it is called.
    pub title: String,
    /// What it does.
    pub description: String,
    /// Who wrote it.
    pub author: Option<String>,
    /// Where its source is.
    pub source: Option<String>,
    /// Its image for each architecture.
    pub images: BTreeMap<String, String>,
    /// What of a deployment it says.
    deployment: Deployment,
}

/// Reads a store.
///
/// # Errors
/// What is no JSON, no list of functions, or a function without a name or an image.
pub fn parse(text: &[u8]) -> Result<Vec<Offer>, Problem> {
    let mut store = Document::parse(text)?;
    if let Some(version) = store.text("version")?.filter(|version| !version.starts_with("0.2")) {
        let message = format!("there is no version `{}` of function stores", shown(&version));
        return Err(
            bad(message).hint("a store has `\"version\": \"0.2.0\"`, and `images` for each architecture")
        );
    }
    let functions = store.objects("functions")?;
    let functions = functions.ok_or_else(|| {
        bad("the store has no `functions`").hint("a store is `{\"version\": \"0.2.0\", \"functions\": […]}`")
    })?;
    functions.into_iter().map(Offer::of).collect()
}

impl Offer {
    fn of(mut sent: Document) -> Result<Self, Problem> {
        let name = sent.needed_text("name", "figlet")?;
        let mut images = sent.pairs("images")?.unwrap_or_default();
        images.retain(|_, image| !image.is_empty());
        let deployment = Deployment {
            env_process: sent.text("fprocess")?.filter(|process| !process.is_empty()),
            env_vars: sent.pairs("environment")?.filter(|variables| !variables.is_empty()),
            labels: Some(sent.pairs("labels")?.unwrap_or_default()),
            annotations: Some(sent.pairs("annotations")?.unwrap_or_default()),
            read_only_root_filesystem: sent
                .flag("readOnlyRootFilesystem")?
                .filter(|is_read_only| *is_read_only),
            ..Deployment::new(&name, "")
        };
        Ok(Self {
            title: sent.text("title")?.unwrap_or_else(|| name.clone()),
            description: sent.text("description")?.unwrap_or_default(),
            author: sent.text("author")?,
            source: sent.text("repo_url")?,
            images,
            deployment,
            name,
        })
    }

    /// What is deployed on this platform, as `faas-cli store deploy` would send it.
    ///
    /// # Errors
    /// A platform that nobody knows, or one that it has no image for.
    pub fn deployment(&self, platform: &str) -> Result<Deployment, Problem> {
        let key = platform_of(platform)?;
        match self.images.get(key) {
            Some(image) => Ok(Deployment { image: image.clone(), ..self.deployment.clone() }),
            None => {
                let message = format!("the store has no image of `{}` for {key}", self.name);
                let others: Vec<_> = self.images.keys().map(String::as_str).collect();
                let problem = Problem::new(&code::IMAGE_ARCHITECTURE, message);
                Err(problem.hint(format!("it has images for: {}", others.join(", "))))
            }
        }
    }
}

/// What a platform is called in a store.
fn platform_of(text: &str) -> Result<&'static str, Problem> {
    let plain = text.strip_prefix("linux/").unwrap_or(text).to_lowercase();
    let known = PLATFORMS.iter().find(|(name, others)| *name == plain || others.contains(&plain.as_str()));
    known.map(|(name, _)| *name).ok_or_else(|| {
        let meant = nearest(&plain, PLATFORMS.iter().map(|(name, _)| *name));
        let hint = meant.map_or_else(
            || "it may be x86_64, arm64 or armhf".to_owned(),
            |meant| format!("did you mean `{meant}`?"),
        );
        bad(format!("`{}` is no platform of a store", shown(text))).hint(hint)
    })
}

/// Whether a text is meant to be a store of this format, which is JSON.
pub fn is_meant(text: &str) -> bool {
    text.trim_start().starts_with('{')
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    const STORE: &str = r#"{
        "version": "0.2.1",
        "functions": [
            {
                "icon": "https://example.com/i.png", "author": "ada", "title": "Figlet", "name": "figlet",
                "description": "Writes large letters", "fprocess": "figlet", "repo_url": "https://example.com/figlet",
                "readOnlyRootFilesystem": true, "environment": {"write_timeout": "10s"},
                "labels": {"com.openfaas.ui.ext": "txt"}, "annotations": null,
                "images": {"x86_64": "ghcr.io/x/figlet:1", "arm64": "ghcr.io/x/figlet:1-arm64", "armhf": ""}
            },
            {"name": "plain", "images": {"arm64": "plain"}}
        ]
    }"#;

    fn sent(name: &str, platform: &str) -> String {
        let offers = parse(STORE.as_bytes()).unwrap();
        let offer = offers.iter().find(|offer| offer.name == name).unwrap();
        match offer.deployment(platform) {
            Ok(deployment) => serde_json::to_string(&deployment).unwrap(),
            Err(problem) => format!("{problem} | {}", problem.hint.as_deref().unwrap_or_default()),
        }
    }

    #[test]
    fn a_function_of_the_store_is_what_faas_cli_would_send() {
        expect![[r#"{"service":"figlet","image":"ghcr.io/x/figlet:1","envProcess":"figlet","envVars":{"write_timeout":"10s"},"labels":{"com.openfaas.ui.ext":"txt"},"annotations":{},"readOnlyRootFilesystem":true}"#]].assert_eq(&sent("figlet", "x86_64"));
        expect![[r#"{"service":"plain","image":"plain","labels":{},"annotations":{}}"#]]
            .assert_eq(&sent("plain", "linux/arm64"));
        assert_eq!(sent("figlet", "amd64"), sent("figlet", "X86_64"));
        assert_eq!(sent("figlet", "aarch64"), sent("figlet", "arm64"));
    }

    #[test]
    fn a_platform_without_an_image_says_which_there_are() {
        expect!["the store has no image of `plain` for x86_64 | it has images for: arm64"]
            .assert_eq(&sent("plain", "x86_64"));
        expect!["the store has no image of `figlet` for armhf | it has images for: arm64, x86_64"]
            .assert_eq(&sent("figlet", "armhf"));
        expect!["`arm46` is no platform of a store | did you mean `arm64`?"]
            .assert_eq(&sent("figlet", "arm46"));
        expect!["`riscv64` is no platform of a store | it may be x86_64, arm64 or armhf"]
            .assert_eq(&sent("figlet", "riscv64"));
    }

    #[test]
    fn what_is_no_store_says_why() {
        let said = |text: &str| parse(text.as_bytes()).unwrap_err().to_string();
        expect!["the body is a list, and must be an object"].assert_eq(&said("[]"));
        expect!["the store has no `functions`"].assert_eq(&said("{}"));
        expect!["there is no version `0.1` of function stores"]
            .assert_eq(&said(r#"{"version": "0.1", "functions": []}"#));
        expect!["`functions[0].name` is missing"].assert_eq(&said(r#"{"functions": [{"title": "x"}]}"#));
        expect!["`functions[0].images` is a list, and must be an object of texts"]
            .assert_eq(&said(r#"{"functions": [{"name": "x", "images": ["y"]}]}"#));
        assert_eq!(parse(br#"{"functions": []}"#).unwrap(), []);
        assert!(is_meant(" {\"functions\"") && !is_meant("[function.a]"));
    }
}
