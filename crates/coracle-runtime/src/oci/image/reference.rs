//! The name of an image, as Docker reads it: `nginx` is `docker.io/library/nginx:latest`.
//! Parsed where it comes in; what is kept and compared is the whole of it.

use std::fmt;
use std::net::IpAddr;

use coracle_model::{Problem, code};

use super::fault::shown;

/// The longest reference, in bytes.
const REFERENCE_BYTES_MAX: usize = 512;

/// A reference that is right.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Reference(oci_client::Reference);

impl Reference {
    /// Reads a reference.
    ///
    /// # Errors
    /// `INVALID_NAME`.
    pub(super) fn parse(text: &str) -> Result<Self, Problem> {
        let refused = |why: String| {
            let message = format!("`{}` is not the name of an image: {why}", shown(text.as_bytes()));
            Problem::new(&code::INVALID_NAME, message)
                .hint("write it as in `nginx`, `nginx:1.27` or `registry.example.com/team/app:2`")
        };
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(refused(format!("it is longer than {REFERENCE_BYTES_MAX} bytes")));
        }
        text.parse().map(Self).map_err(|error: oci_client::ParseError| refused(error.to_string()))
    }

    /// The registry, as it is written.
    pub(super) fn registry(&self) -> &str {
        self.0.registry()
    }

    /// The registry that is asked: where it differs from what is written.
    pub(super) fn host(&self) -> &str {
        self.0.resolve_registry()
    }

    /// The digest, if it is named by one: with its algorithm.
    pub(super) fn digest(&self) -> Option<&str> {
        self.0.digest()
    }

    /// The same image by the digest of one of its manifests.
    pub(super) fn with_digest(&self, digest: &str) -> oci_client::Reference {
        self.0.clone_with_digest(digest.to_owned())
    }

    pub(super) fn as_oci(&self) -> &oci_client::Reference {
        &self.0
    }

    /// Whether its registry is on this machine, where plain HTTP gives nothing away.
    pub(super) fn is_on_loopback(&self) -> bool {
        let host = self.host();
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
            _ => host,
        };
        let address = host.trim_start_matches('[').trim_end_matches(']');
        host == "localhost" || address.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.whole())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_short_name_is_read_as_docker_reads_it() {
        let table = [
            ("nginx", "docker.io/library/nginx:latest"),
            ("nginx:1.27", "docker.io/library/nginx:1.27"),
            ("team/app", "docker.io/team/app:latest"),
            ("localhost:5000/app", "localhost:5000/app:latest"),
            ("ghcr.io/team/app:2", "ghcr.io/team/app:2"),
        ];
        for (text, whole) in table {
            assert_eq!(Reference::parse(text).unwrap().to_string(), whole);
        }
        for text in ["", "UPPER", "a b", "nginx:", "a@sha256:12", &"a".repeat(600)] {
            assert_eq!(Reference::parse(text).unwrap_err().code, &code::INVALID_NAME, "{text}");
        }
    }

    #[test]
    fn plain_http_is_for_the_machine_itself() {
        for (text, is_loopback) in [
            ("localhost:5000/a", true),
            ("127.0.0.1:5000/a", true),
            ("127.1.2.3/a", true),
            ("example.com/a", false),
            ("10.0.0.1:5000/a", false),
            ("localhost.example.com/a", false),
            ("nginx", false),
        ] {
            assert_eq!(Reference::parse(text).unwrap().is_on_loopback(), is_loopback, "{text}");
        }
    }
}
