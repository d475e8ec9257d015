//! How a verb finds its server: the flags, else the environment, else what the server left in its data directory.
//! `options.rs` calls it.

use std::path::{Path, PathBuf};

use coracle_api::Client;
use coracle_model::{Problem, code};
use serde::Deserialize;

use crate::serve;
use crate::stop::Done;

/// What a server leaves in its data directory.
#[derive(Debug, Deserialize)]
struct Left {
    url: String,
}

/// A client of the server that is meant.
///
/// `named` is the data directory that somebody named, `data` the one that is used.
pub(crate) fn client(
    url: Option<&str>,
    token: Option<&str>,
    named: Option<&Path>,
    data: Result<PathBuf, Problem>,
) -> Done<Client> {
    let Some(url) = url else {
        let data = data?;
        let left = left_in(&data)?;
        let own = token.is_none().then(|| token_in(&data)).flatten();
        return Ok(Client::new(&left.url, token.or(own.as_deref()))?);
    };
    let own =
        data.ok().filter(|data| token.is_none() && is_own(url, named, data)).and_then(|data| token_in(&data));
    Ok(Client::new(url, token.or(own.as_deref()))?)
}

/// Whether the token of a data directory may be shown to a server at `url`.
///
/// Only to its own server, or when both were named together: an admin token is not sent to whoever happens to be asked.
fn is_own(url: &str, named: Option<&Path>, data: &Path) -> bool {
    named.is_some() || left_in(data).is_ok_and(|left| left.url == url.trim_end_matches('/'))
}

fn left_in(data: &Path) -> Result<Left, Problem> {
    let nobody = || {
        let message = format!("no server runs on the data directory {}", data.display());
        Problem::new(&code::SERVER_UNREACHABLE, message)
            .hint("start one with `coracle up`, or name another with `--url` or `--data`")
    };
    let text = std::fs::read_to_string(serve::server_file(data)).map_err(|_| nobody())?;
    serde_json::from_str(&text).map_err(|_| nobody())
}

fn token_in(data: &Path) -> Option<String> {
    let text = std::fs::read_to_string(admin_token_file(data)).ok()?;
    Some(text.trim().to_owned()).filter(|token| !token.is_empty())
}

/// The file of a data directory that has the token which may do everything.
pub(crate) fn admin_token_file(data: &Path) -> PathBuf {
    data.join("admin.token")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_of_a_data_directory_goes_to_its_own_server_alone() {
        let folder = tempfile::tempdir().unwrap();
        let data = folder.path();
        std::fs::write(data.join("server.json"), r#"{"url": "http://127.0.0.1:8080", "pid": 1}"#).unwrap();
        assert!(is_own("http://127.0.0.1:8080/", None, data));
        assert!(!is_own("http://127.0.0.1:9090", None, data));
        assert!(!is_own("http://example.com", None, data));
        assert!(is_own("http://127.0.0.1:9090", Some(data), data), "both were named");
    }
}
