//! What an image is made of: its manifest, or an index of the manifests for several kinds of machines.
//! The registry and the archives read both here.

use std::collections::BTreeMap;

use coracle_model::{Digest, Problem, code};
use serde::Deserialize;
use sha2::{Digest as _, Sha256};

use super::budget::too_large;
use super::fault::{invalid, shown};

/// The largest manifest, index or configuration, in bytes.
pub(super) const DOCUMENT_BYTES_MAX: u64 = 4 << 20;
/// The most layers of an image.
const LAYERS_MAX: usize = 128;
/// How many kinds of machines an error names.
const NAMED_MAX: usize = 12;

/// Something that is named by its digest.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Descriptor {
    pub(super) digest: String,
    #[serde(default)]
    pub(super) size: u64,
    #[serde(default)]
    pub(super) annotations: BTreeMap<String, String>,
    #[serde(default)]
    platform: Option<Platform>,
}

#[derive(Debug, Clone, Deserialize)]
struct Platform {
    #[serde(default)]
    architecture: String,
    #[serde(default)]
    os: String,
}

/// One image.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Manifest {
    pub(super) config: Descriptor,
    pub(super) layers: Vec<Descriptor>,
}

/// What a name stands for.
#[derive(Debug, Clone)]
pub(super) enum Document {
    Image(Manifest),
    Index(Vec<Descriptor>),
}

impl Document {
    /// Reads a manifest or an index.
    ///
    /// # Errors
    /// `IMAGE_INVALID`, `IMAGE_TOO_LARGE`.
    pub(super) fn parse(bytes: &[u8]) -> Result<Self, Problem> {
        #[derive(Deserialize)]
        struct Either {
            manifests: Option<Vec<Descriptor>>,
            config: Option<Descriptor>,
            layers: Option<Vec<Descriptor>>,
        }
        let either: Either = serde_json::from_slice(bytes)
            .map_err(|error| invalid(format!("the manifest cannot be read: {error}")))?;
        match either {
            Either { manifests: Some(manifests), .. } => Ok(Self::Index(manifests)),
            Either { config: Some(config), layers: Some(layers), .. } => {
                if layers.len() > LAYERS_MAX {
                    return Err(too_large(format!(
                        "it has {} layers, at most {LAYERS_MAX} are possible",
                        layers.len()
                    )));
                }
                Ok(Self::Image(Manifest { config, layers }))
            }
            _ => Err(invalid("the manifest names no configuration and no layers")),
        }
    }
}

impl Descriptor {
    /// Its SHA-256.
    pub(super) fn sha256(&self) -> Result<Digest, Problem> {
        sha256_of(&self.digest)
    }

    fn is_for(&self, architecture: &str) -> bool {
        self.platform
            .as_ref()
            .is_none_or(|platform| platform.os == "linux" && platform.architecture == architecture)
    }
}

/// The manifest of an index that is for this machine.
///
/// # Errors
/// `IMAGE_ARCHITECTURE`, with those there are.
pub(super) fn for_this_machine(manifests: &[Descriptor]) -> Result<&Descriptor, Problem> {
    let exact = |descriptor: &&Descriptor| descriptor.platform.is_some() && descriptor.is_for(architecture());
    let found =
        manifests.iter().find(exact).or_else(|| manifests.iter().find(|any| any.is_for(architecture())));
    found.ok_or_else(|| {
        let platforms = manifests.iter().filter_map(|descriptor| descriptor.platform.as_ref());
        // Attestations stand in an index as images for `unknown/unknown`.
        let named = platforms.filter(|platform| platform.os != "unknown").take(NAMED_MAX);
        let named: Vec<String> = named
            .map(|Platform { os, architecture }| shown(format!("{os}/{architecture}").as_bytes()))
            .collect();
        other_machine(&named.join(", "))
    })
}

/// An image that is built for these kinds of machines, and not for this one.
pub(super) fn other_machine(platforms: &str) -> Problem {
    let own = architecture();
    let message = if platforms.is_empty() {
        format!("the image is for no machine at all, and this one is linux/{own}")
    } else {
        format!("the image is built for {platforms}, and this machine is linux/{own}")
    };
    Problem::new(&code::IMAGE_ARCHITECTURE, message).hint(format!("build it with `--platform linux/{own}`"))
}

/// This machine's architecture, in the words of images.
pub(super) fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        other => other,
    }
}

/// A digest as manifests write it: `sha256:` and its digits.
pub(super) fn sha256_of(text: &str) -> Result<Digest, Problem> {
    let digits = text.strip_prefix("sha256:");
    digits.and_then(|digits| digits.parse().ok()).ok_or_else(|| {
        invalid(format!("`{}` is not a SHA-256 digest, and others are not supported", shown(text.as_bytes())))
    })
}

/// The digest of bytes that are in memory.
pub(super) fn digest_of(bytes: &[u8]) -> Digest {
    Digest::from_bytes(Sha256::digest(bytes).into())
}

/// That something has the digest by which it is named.
pub(super) fn check_digest(what: &str, expected: &Digest, found: &Digest) -> Result<(), Problem> {
    if expected == found {
        return Ok(());
    }
    Err(invalid(format!("{what} has the digest sha256:{found}, not sha256:{expected} as it should")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_manifest_is_read_and_what_is_none_is_refused() {
        let digest = format!("sha256:{}", "0".repeat(64));
        let layer = format!(r#"{{"digest":"{digest}","size":7}}"#);
        let image = format!(r#"{{"config":{layer},"layers":[{layer},{layer}]}}"#);
        let Document::Image(manifest) = Document::parse(image.as_bytes()).unwrap() else { panic!("{image}") };
        assert_eq!((manifest.layers.len(), manifest.layers[0].size), (2, 7));
        for wrong in ["", "{}", "[]", r#"{"config":7,"layers":[]}"#, r#"{"layers":[]}"#] {
            assert_eq!(Document::parse(wrong.as_bytes()).unwrap_err().code, &code::IMAGE_INVALID, "{wrong}");
        }
        let many = vec![layer.clone(); LAYERS_MAX + 1].join(",");
        let many = format!(r#"{{"config":{layer},"layers":[{many}]}}"#);
        assert_eq!(Document::parse(many.as_bytes()).unwrap_err().code, &code::IMAGE_TOO_LARGE);
    }

    #[test]
    fn of_an_index_this_machines_manifest_is_taken_or_all_are_named() {
        let index = |platforms: &[(&str, &str)]| {
            let entries = platforms.iter().map(|(os, architecture)| {
                format!(r#"{{"digest":"{architecture}","platform":{{"os":"{os}","architecture":"{architecture}"}}}}"#)
            });
            let text = format!(r#"{{"manifests":[{}]}}"#, entries.collect::<Vec<_>>().join(","));
            match Document::parse(text.as_bytes()).unwrap() {
                Document::Index(manifests) => manifests,
                Document::Image(_) => panic!("{text}"),
            }
        };
        let own = architecture();
        let some = index(&[("linux", "s390x"), ("windows", own), ("linux", own)]);
        assert_eq!(for_this_machine(&some).unwrap().digest, own);
        let none = index(&[("linux", "s390x"), ("windows", own), ("unknown", "unknown")]);
        let problem = for_this_machine(&none).unwrap_err();
        assert_eq!(problem.code, &code::IMAGE_ARCHITECTURE);
        let wanted =
            format!("the image is built for linux/s390x, windows/{own}, and this machine is linux/{own}");
        assert_eq!(problem.message, wanted);
    }

    #[test]
    fn other_digests_than_sha256_are_refused() {
        assert!(sha256_of(&format!("sha256:{}", "a".repeat(64))).is_ok());
        for text in ["", "sha256:", "sha512:00", &"a".repeat(64), "sha256:../../etc/passwd"] {
            assert_eq!(sha256_of(text).unwrap_err().code, &code::IMAGE_INVALID, "{text}");
        }
    }
}
