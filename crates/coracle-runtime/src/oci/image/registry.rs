//! A registry, asked for one image: its manifest, its configuration, and its layers as they come.
//! `images.rs` pulls through it. Anonymous, basic and bearer; plain HTTP for the machine itself alone.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use coracle_model::{Digest, Problem, code};
use futures_util::TryStreamExt as _;
use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::errors::{DigestError, OciDistributionError as Error, OciErrorCode};
use oci_client::manifest::{
    IMAGE_MANIFEST_LIST_MEDIA_TYPE, IMAGE_MANIFEST_MEDIA_TYPE, OCI_IMAGE_INDEX_MEDIA_TYPE,
    OCI_IMAGE_MEDIA_TYPE, OciDescriptor,
};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, RegistryOperation};
use tokio::sync::mpsc;
use tokio::time::timeout;
use zeroize::Zeroizing;

use super::budget::{ImageBounds, too_large};
use super::fault::{invalid, shown};
use super::manifest::{DOCUMENT_BYTES_MAX, Descriptor, check_digest, digest_of, sha256_of};
use super::reference::Reference;

/// The longest time to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The manifests that are understood.
const MANIFESTS: [&str; 4] = [
    OCI_IMAGE_MEDIA_TYPE,
    OCI_IMAGE_INDEX_MEDIA_TYPE,
    IMAGE_MANIFEST_MEDIA_TYPE,
    IMAGE_MANIFEST_LIST_MEDIA_TYPE,
];

/// Who we are to a registry; shown by nothing, wiped from memory when dropped.
#[derive(Clone)]
pub struct Credentials {
    username: String,
    password: Zeroizing<String>,
}

impl Credentials {
    /// The name of a user, and their password or access token.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self { username: username.into(), password: Zeroizing::new(password.into()) }
    }
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Credentials(…)")
    }
}

/// A registry, for the length of one pull.
pub(super) struct Registry {
    client: Client,
    auth: RegistryAuth,
    reference: Reference,
    silence: Duration,
}

/// A piece of a layer; the end of it is said, so that a stream that broke off is not taken for a whole one.
pub(super) enum Piece {
    Some(Bytes),
    End,
}

impl Registry {
    /// The registry of an image. Connects to nothing yet.
    pub(super) fn of(
        reference: Reference,
        credentials: Option<&Credentials>,
        bounds: &ImageBounds,
    ) -> Result<Self, Problem> {
        // The client takes whichever the process has; a second pull finds it there.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let protocol = if reference.is_on_loopback() { ClientProtocol::Http } else { ClientProtocol::Https };
        let config = ClientConfig {
            protocol,
            read_timeout: Some(bounds.silence),
            connect_timeout: Some(CONNECT_TIMEOUT.min(bounds.silence)),
            user_agent: concat!("coracle/", env!("CARGO_PKG_VERSION")),
            ..ClientConfig::default()
        };
        let client = Client::try_from(config).map_err(|error| {
            Problem::new(&code::INTERNAL, format!("prepare to speak to registries: {error}"))
        })?;
        let auth = credentials.map_or(RegistryAuth::Anonymous, |credentials| {
            RegistryAuth::Basic(credentials.username.clone(), credentials.password.to_string())
        });
        Ok(Self { client, auth, reference, silence: bounds.silence })
    }

    /// The manifest or the index that the reference stands for, and its digest.
    pub(super) async fn manifest(&self) -> Result<(Bytes, Digest), Problem> {
        // Asked for by itself, because the client would forget why it got no token.
        self.answered(self.client.auth(self.reference.as_oci(), &self.auth, RegistryOperation::Pull)).await?;
        let named = self.reference.digest().map(sha256_of).transpose()?;
        self.document(self.reference.as_oci(), named).await
    }

    /// One of the manifests of an index.
    pub(super) async fn manifest_of(&self, entry: &Descriptor) -> Result<Bytes, Problem> {
        let digest = entry.sha256()?;
        Ok(self.document(&self.reference.with_digest(&entry.digest), Some(digest)).await?.0)
    }

    /// Something small, as the configuration is.
    pub(super) async fn blob(&self, blob: &Descriptor) -> Result<Bytes, Problem> {
        let (expected, descriptor) = (blob.sha256()?, described(blob));
        let reading = async {
            let mut stream = self.client.pull_blob_stream(self.reference.as_oci(), &descriptor).await?;
            let mut all = Vec::new();
            while let Some(piece) = stream.try_next().await? {
                all.extend_from_slice(&piece);
                if all.len() as u64 > DOCUMENT_BYTES_MAX {
                    break;
                }
            }
            Ok(Bytes::from(all))
        };
        let bytes = self.answered(reading).await?;
        check_size("the configuration", bytes.len())?;
        check_digest("the configuration", &expected, &digest_of(&bytes))?;
        Ok(bytes)
    }

    /// Sends a layer to whoever unpacks it, piece by piece; `passed` is told of the bytes of each.
    pub(super) async fn layer(
        &self,
        layer: &Descriptor,
        pieces: mpsc::Sender<Piece>,
        passed: impl Fn(u64),
    ) -> Result<(), Problem> {
        let descriptor = described(layer);
        let asked = self.client.pull_blob_stream(self.reference.as_oci(), &descriptor);
        let mut stream = self.answered(asked).await?;
        loop {
            let next = timeout(self.silence, stream.try_next()).await.map_err(|_| self.silent())?;
            let Some(bytes) = next.map_err(|error| self.problem_of(Error::IoError(error)))? else { break };
            passed(bytes.len() as u64);
            if pieces.send(Piece::Some(bytes)).await.is_err() {
                // Whoever unpacks has stopped: its own problem says why.
                return Ok(());
            }
        }
        // As above.
        let _ = pieces.send(Piece::End).await;
        Ok(())
    }

    async fn document(
        &self,
        reference: &oci_client::Reference,
        expected: Option<Digest>,
    ) -> Result<(Bytes, Digest), Problem> {
        // The client holds a manifest whole before its size is known: the time it has bounds that.
        let (bytes, _) =
            self.answered(self.client.pull_manifest_raw(reference, &self.auth, &MANIFESTS)).await?;
        check_size("the manifest", bytes.len())?;
        let found = digest_of(&bytes);
        if let Some(expected) = expected {
            check_digest("the manifest", &expected, &found)?;
        }
        Ok((bytes, found))
    }

    /// What the registry answers within the time it has.
    async fn answered<T>(&self, asked: impl Future<Output = Result<T, Error>>) -> Result<T, Problem> {
        let answer = timeout(self.silence, Box::pin(asked)).await.map_err(|_| self.silent())?;
        answer.map_err(|error| self.problem_of(error))
    }

    fn silent(&self) -> Problem {
        self.unavailable(&format!("nothing came for {} s", self.silence.as_secs_f32()))
    }

    fn unavailable(&self, why: &str) -> Problem {
        let host = self.reference.host();
        Problem::new(
            &code::REGISTRY_UNAVAILABLE,
            format!("cannot get `{}` from {host}: {why}", self.reference),
        )
        .hint(format!("see whether it answers: curl -i {}://{host}/v2/", self.scheme()))
        .retry_after(5)
    }

    fn scheme(&self) -> &'static str {
        if self.reference.is_on_loopback() { "http" } else { "https" }
    }

    /// What the registry said, in our words. Its own are not repeated: they may be of any length, and of anybody.
    fn problem_of(&self, error: Error) -> Problem {
        match error {
            Error::UnauthorizedError { .. } | Error::AuthenticationFailure(_) => self.denied(),
            Error::ServerError { code: 401 | 403, .. } => self.denied(),
            Error::ServerError { code: 404, .. } | Error::ImageManifestNotFoundError(_) => self.not_found(),
            Error::ServerError { code, .. } => self.unavailable(&format!("it answered {code}")),
            Error::RegistryError { envelope, .. } => {
                let is = |wanted: &[OciErrorCode]| {
                    envelope.errors.iter().any(|error| wanted.contains(&error.code))
                };
                if is(&[OciErrorCode::Unauthorized, OciErrorCode::Denied]) {
                    self.denied()
                } else if is(&[
                    OciErrorCode::ManifestUnknown,
                    OciErrorCode::NameUnknown,
                    OciErrorCode::NotFound,
                ]) {
                    self.not_found()
                } else if is(&[OciErrorCode::BlobUnknown, OciErrorCode::ManifestBlobUnknown]) {
                    invalid(format!("{} lacks a part of `{}`", self.reference.host(), self.reference))
                } else {
                    self.unavailable(&format!("it said: {}", shown(envelope.to_string().as_bytes())))
                }
            }
            Error::DigestError(error) => self.wrong(&error),
            Error::RequestError(error) => self.unavailable(&chain(&error)),
            Error::IoError(error) => {
                match error.get_ref().and_then(|inner| inner.downcast_ref::<DigestError>()) {
                    Some(error) => self.wrong(error),
                    None => self.unavailable(&chain(&error)),
                }
            }
            error => self.unavailable(&shown(error.to_string().as_bytes())),
        }
    }

    fn wrong(&self, error: &DigestError) -> Problem {
        let (host, image) = (self.reference.host(), &self.reference);
        invalid(format!(
            "what {host} sent of `{image}` is not what its digest says: {}",
            shown(error.to_string().as_bytes())
        ))
    }

    fn denied(&self) -> Problem {
        let (registry, with) = (
            self.reference.registry(),
            match self.auth {
                RegistryAuth::Anonymous => "without a password",
                _ => "with the password that is kept for it",
            },
        );
        Problem::new(&code::REGISTRY_DENIED, format!("{registry} does not give `{}` {with}", self.reference))
            .hint(format!("coracle image login {registry} --username USER"))
    }

    fn not_found(&self) -> Problem {
        let (registry, image) = (self.reference.registry(), &self.reference);
        Problem::new(&code::IMAGE_NOT_FOUND, format!("{registry} has no image `{image}`"))
            .hint("look for a typing error in its name or its tag")
    }
}

fn described(descriptor: &Descriptor) -> OciDescriptor {
    OciDescriptor { digest: descriptor.digest.clone(), ..OciDescriptor::default() }
}

fn check_size(what: &str, bytes: usize) -> Result<(), Problem> {
    if bytes as u64 > DOCUMENT_BYTES_MAX {
        return Err(too_large(format!("{what} has more than {} MiB", DOCUMENT_BYTES_MAX >> 20)));
    }
    Ok(())
}

/// The last reason of an error: those before it say little more than that there was one.
fn chain(error: &dyn std::error::Error) -> String {
    let mut last = error;
    while let Some(source) = last.source() {
        last = source;
    }
    shown(last.to_string().as_bytes())
}
