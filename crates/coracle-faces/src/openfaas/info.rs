//! Who answers: the document of `/system/info`.
//! The gateway renders it once.
//!
//! Sources: faas-provider:types/requests.go, faas:gateway/types/inforequest.go.

use serde::Serialize;

/// What clients are told runs their functions.
const PROVIDER: &str = "coracle";

/// The document, for a release such as `0.1.0` of a commit, on a kind of machine such as `x86_64`.
pub fn render(release: &str, sha: &str, arch: &str) -> String {
    #[derive(Clone, Copy, Serialize)]
    struct Version<'a> {
        sha: &'a str,
        release: &'a str,
    }
    #[derive(Serialize)]
    struct Provider<'a> {
        provider: &'a str,
        version: Version<'a>,
        orchestration: &'a str,
    }
    #[derive(Serialize)]
    struct View<'a> {
        provider: Provider<'a>,
        version: Version<'a>,
        arch: &'a str,
    }
    let version = Version { sha, release };
    let provider = Provider { provider: PROVIDER, version, orchestration: PROVIDER };
    serde_json::to_string(&View { provider, version, arch }).expect("texts have no way to fail")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_finds_what_it_shows() {
        assert_eq!(
            render("0.1.0", "abc123", "x86_64"),
            r#"{"provider":{"provider":"coracle","version":{"sha":"abc123","release":"0.1.0"},"orchestration":"coracle"},"version":{"sha":"abc123","release":"0.1.0"},"arch":"x86_64"}"#
        );
    }
}
