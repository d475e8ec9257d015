//! A store that was read, ours or one of OpenFaaS: what it offers, and each offer as a function to deploy.
//! `store.rs` opens one for each verb.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use coracle_faces::openfaas::{self, deployment::Deployment};
use coracle_model::{FunctionName, Problem, Settings, code, nearest};
use serde::Serialize;
use sha2::{Digest as _, Sha256};

use super::built_in;
use super::fetch::{fetch, is_address, shown};
use super::grants::{self, Asks};
use crate::cli::deploy::Flags;
use crate::manifest::{self, Function, Source, store};
use crate::options::Common;

/// The longest store, in bytes.
const STORE_BYTES_MAX: u64 = 8 << 20;
/// The most code that is fetched for one function, in bytes.
const CODE_BYTES_MAX: u64 = 256 << 20;

/// A store.
#[derive(Debug)]
pub(super) struct Shelf {
    origin: Origin,
    pub(super) offers: Vec<Offer>,
}

/// Where a store lies, and so what it names.
#[derive(Debug)]
enum Origin {
    /// In this binary.
    BuiltIn,
    /// In this folder.
    Folder(PathBuf),
    /// At this address.
    Address(String),
}

/// A function that is offered, as it is shown.
#[derive(Debug, Serialize)]
pub(super) struct Offer {
    pub(super) name: String,
    pub(super) title: String,
    pub(super) description: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) author: Option<String>,
    /// Where its source is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) source: Option<String>,
    /// How it is called.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) example: Option<String>,
    /// What is run: the file, or an image for each architecture.
    pub(super) code: Vec<String>,
    #[serde(skip)]
    wording: Wording,
}

/// In whose words it is offered.
#[derive(Debug)]
enum Wording {
    Ours(Box<store::Offer>),
    OpenFaas(Box<openfaas::store::Offer>),
}

/// What whoever deploys an offer has typed.
#[derive(Debug)]
pub(super) struct Typed<'a> {
    /// The name to deploy it under, if not its own.
    pub(super) name: Option<&'a FunctionName>,
    /// The machine that an image is for.
    pub(super) platform: &'a str,
    pub(super) flags: &'a Flags,
    /// Whether all that it asks for is granted.
    pub(super) grants_all: bool,
    pub(super) common: &'a Common,
}

impl Offer {
    /// All that it asks for, whatever the machine.
    pub(super) fn asks(&self, common: &Common) -> Result<Asks, Problem> {
        let platform = match &self.wording {
            Wording::OpenFaas(theirs) => theirs.images.keys().find(|known| theirs.deployment(known).is_ok()),
            Wording::Ours(_) => None,
        };
        let platform = platform.map_or(std::env::consts::ARCH, String::as_str);
        let flags = &Flags::default();
        let function = self.function(&Typed { name: None, platform, flags, grants_all: false, common })?;
        Ok(Asks::of(&function.settings))
    }

    /// What is deployed of it, with its code where the store names it.
    fn function(&self, typed: &Typed<'_>) -> Result<Function, Problem> {
        match &self.wording {
            Wording::Ours(ours) => {
                let offered = &ours.function;
                let name = typed.name.unwrap_or(&offered.name).clone();
                let mut function = Function::new(name, offered.source.clone());
                function.contract = offered.contract;
                function.settings = offered.settings.clone();
                typed.flags.overlay(&mut function)?;
                Ok(function)
            }
            Wording::OpenFaas(theirs) => typed.of_deployment(theirs.deployment(typed.platform)?),
        }
    }

    /// The settings that were typed, with nothing of its own.
    fn asked(&self, typed: &Typed<'_>) -> Result<Settings, Problem> {
        match &self.wording {
            Wording::Ours(ours) => {
                let Function { name, source, .. } = &ours.function;
                let mut function = Function::new(name.clone(), source.clone());
                typed.flags.overlay(&mut function)?;
                Ok(function.settings)
            }
            Wording::OpenFaas(theirs) => {
                let offered = theirs.deployment(typed.platform)?;
                let bare = Deployment::new(&offered.service, &offered.image);
                Ok(typed.of_deployment(bare)?.settings)
            }
        }
    }
}

impl Typed<'_> {
    /// What is deployed of this, with what was typed laid over it.
    fn of_deployment(&self, mut deployment: Deployment) -> Result<Function, Problem> {
        if let Some(name) = self.name {
            deployment.service = name.to_string();
        }
        deployment.namespace = self.common.namespace.as_ref().map(ToString::to_string);
        self.flags.overlay_sent(&mut deployment);
        let mut function = manifest::stack::wanted(&deployment)?.1;
        self.flags.overlay(&mut function)?;
        Ok(function)
    }
}

impl Shelf {
    /// Reads the store at a path or an address; nothing is the one that comes with the binary.
    pub(super) async fn open(from: Option<&str>) -> Result<Self, Problem> {
        let Some(from) = from else {
            return Ok(Self { origin: Origin::BuiltIn, offers: offers("the store", built_in::STORE)? });
        };
        if is_address(from) {
            let bytes = fetch(from, STORE_BYTES_MAX).await?;
            let text = String::from_utf8(bytes)
                .map_err(|_| Problem::new(&code::BAD_REQUEST, format!("{} is no text", shown(from))))?;
            return Ok(Self {
                offers: offers(&shown(from), &text)?,
                origin: Origin::Address(from.to_owned()),
            });
        }
        let text = manifest::read_text_of(Path::new(from), STORE_BYTES_MAX).map_err(|error| {
            Problem::new(&code::BAD_REQUEST, format!("cannot read {}: {error}", shown(from)))
                .hint("name a file or an address: coracle store list --from store.toml")
        })?;
        let folder = Path::new(from).parent().unwrap_or(Path::new("")).to_owned();
        Ok(Self { offers: offers(&shown(from), &text)?, origin: Origin::Folder(folder) })
    }

    /// The offer of a name.
    pub(super) fn find(&self, name: &str) -> Result<&Offer, Problem> {
        self.offers.iter().find(|offer| offer.name == name).ok_or_else(|| {
            let problem =
                Problem::new(&code::FUNCTION_NOT_FOUND, format!("the store has no function `{name}`"));
            match nearest(name, self.offers.iter().map(|offer| offer.name.as_str())) {
                Some(meant) => problem.hint(format!("did you mean `{meant}`?")),
                None => problem.hint("coracle store list"),
            }
        })
    }

    /// What is deployed of an offer; code that does not lie on this machine is put into a folder.
    pub(super) async fn function(
        &self,
        offer: &Offer,
        typed: &Typed<'_>,
        folder: &Path,
    ) -> Result<Function, Problem> {
        let mut function = offer.function(typed)?;
        if !matches!(self.origin, Origin::BuiltIn) && !typed.grants_all {
            grants::check(&offer.name, &function.settings, &offer.asked(typed)?)?;
        }
        if let (Wording::Ours(ours), Source::Path(path)) = (&offer.wording, &function.source) {
            function.source = Source::Path(self.code(path, ours.sha256.as_deref(), folder).await?);
        }
        Ok(function)
    }

    /// The file with the code that a store names.
    async fn code(&self, path: &Path, sha256: Option<&str>, folder: &Path) -> Result<PathBuf, Problem> {
        let named = path.to_string_lossy();
        let cannot = |why: &dyn std::fmt::Display| {
            Problem::new(&code::BAD_REQUEST, format!("cannot get the code `{}`: {why}", shown(&named)))
        };
        let bytes = match &self.origin {
            _ if is_address(&named) => fetch(&named, CODE_BYTES_MAX).await?,
            Origin::BuiltIn => {
                built_in::file(&named).ok_or_else(|| cannot(&"it is not part of this binary"))?.to_vec()
            }
            Origin::Address(store) => fetch(&beside(store, &named)?, CODE_BYTES_MAX).await?,
            Origin::Folder(folder) => {
                let path = folder.join(path);
                let Some(sha256) = sha256 else { return Ok(path) };
                if path.is_dir() {
                    return Err(cannot(&"it is a folder, and `sha256` is of a file")
                        .hint("pack the folder into an archive and name that, or remove `sha256`"));
                }
                check(&fs::read(&path).map_err(|error| cannot(&error))?, sha256)
                    .map_err(|why| cannot(&why))?;
                return Ok(path);
            }
        };
        if let Some(sha256) = sha256 {
            check(&bytes, sha256).map_err(|why| cannot(&why))?;
        }
        let last = named.split(['?', '#']).next().and_then(|path| path.rsplit('/').next());
        let file = folder.join(last.filter(|name| !name.is_empty()).unwrap_or("code"));
        fs::write(&file, bytes).map_err(|error| cannot(&error))?;
        // It may well be a program, and no address says so.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o755)).map_err(|error| cannot(&error))?;
        Ok(file)
    }
}

/// The address of what a store names beside itself.
fn beside(store: &str, path: &str) -> Result<String, Problem> {
    let url = reqwest::Url::parse(store).and_then(|store| store.join(path));
    let url = url.map_err(|error| {
        Problem::new(&code::BAD_REQUEST, format!("`{}` beside {}: {error}", shown(path), shown(store)))
    })?;
    Ok(url.into())
}

fn check(bytes: &[u8], sha256: &str) -> Result<(), String> {
    let found: String = Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect();
    if found == sha256 { Ok(()) } else { Err(format!("its SHA-256 is {found}, and the store says {sha256}")) }
}

/// What the text of a store offers, in whichever format it is.
fn offers(file: &str, text: &str) -> Result<Vec<Offer>, Problem> {
    if openfaas::store::is_meant(text) {
        let offers = openfaas::store::parse(text.as_bytes()).map_err(|problem| {
            let message = format!("{file}: {}", problem.message);
            Problem { message, ..problem }
        })?;
        return Ok(offers.into_iter().map(Offer::from).collect());
    }
    Ok(store::parse(file, text)?.into_iter().map(Offer::from).collect())
}

impl From<store::Offer> for Offer {
    fn from(offer: store::Offer) -> Self {
        let code = match &offer.function.source {
            Source::Path(path) => path.display().to_string(),
            Source::Image(image) => image.clone(),
        };
        Self {
            name: offer.function.name.to_string(),
            title: offer.title.clone().unwrap_or_else(|| offer.function.name.to_string()),
            description: offer.description.clone().unwrap_or_default(),
            author: offer.author.clone(),
            source: None,
            example: offer.example.clone(),
            code: vec![code],
            wording: Wording::Ours(Box::new(offer)),
        }
    }
}

impl From<openfaas::store::Offer> for Offer {
    fn from(offer: openfaas::store::Offer) -> Self {
        Self {
            name: offer.name.clone(),
            title: offer.title.clone(),
            description: offer.description.clone(),
            author: offer.author.clone(),
            source: offer.source.clone(),
            example: None,
            code: offer.images.iter().map(|(platform, image)| format!("{platform}: {image}")).collect(),
            wording: Wording::OpenFaas(Box::new(offer)),
        }
    }
}
