//! What lies at an address: fetched whole, within bounds of size and time.
//! `shelf.rs` asks for stores, and for the code that they name.

use std::borrow::Cow;
use std::time::Duration;

use coracle_model::{ByteSize, Problem, code};
use reqwest::redirect::{Attempt, Policy};
use reqwest::{Client, Url};

/// How long to try to connect.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may come.
const SILENCE_MAX: Duration = Duration::from_secs(30);
/// How long all of it may take.
const TIME_MAX: Duration = Duration::from_secs(10 * 60);
/// How often an answer may say that it is elsewhere.
const REDIRECTS_MAX: usize = 5;

/// Whether a text is an address and no path.
pub(super) fn is_address(text: &str) -> bool {
    text.starts_with("https://") || text.starts_with("http://")
}

/// An address as it may be said: without the user and the password that it may have.
pub(super) fn shown(address: &str) -> Cow<'_, str> {
    match Url::parse(address) {
        Ok(mut url) if !url.username().is_empty() || url.password().is_some() => {
            // Neither has a way to fail where there was a user.
            let _ = (url.set_username(""), url.set_password(None));
            Cow::Owned(url.into())
        }
        Ok(_) => Cow::Borrowed(address),
        // What is almost an address has its password before an `@` all the same.
        Err(_) => match (address.split_once("://"), address.rsplit_once('@')) {
            (Some((scheme, _)), Some((_, rest))) => Cow::Owned(format!("{scheme}://{rest}")),
            _ => Cow::Borrowed(address),
        },
    }
}

/// What lies at an address.
pub(super) async fn fetch(address: &str, bytes_max: u64) -> Result<Vec<u8>, Problem> {
    let cannot =
        |why: &str| Problem::new(&code::BAD_REQUEST, format!("cannot fetch {}: {why}", shown(address)));
    let url: Url = address.parse().map_err(|_| cannot("it is not a URL"))?;
    if !may_be_asked(&url) {
        return Err(cannot("without TLS, nobody vouches for what comes")
            .hint("write it with https://; http:// is for this machine alone"));
    }
    let client = client().map_err(|error| cannot(&cause(&error)))?;
    let answer = client.get(url).send().await.map_err(|error| cannot(&cause(&error)))?;
    if !answer.status().is_success() {
        return Err(cannot(&format!("the answer is {}", answer.status())));
    }
    let too_long = || cannot(&format!("it has more than {}", ByteSize(bytes_max)));
    if answer.content_length().is_some_and(|length| length > bytes_max) {
        return Err(too_long());
    }
    let mut answer = answer;
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await.map_err(|error| cannot(&cause(&error)))? {
        if (bytes.len() + chunk.len()) as u64 > bytes_max {
            return Err(too_long());
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}

fn client() -> reqwest::Result<Client> {
    // Somebody may have installed one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let follow = |attempt: Attempt<'_>| match attempt.previous().len() {
        0..=REDIRECTS_MAX if may_be_asked(attempt.url()) => attempt.follow(),
        0..=REDIRECTS_MAX => attempt.error("it leads to where nobody vouches for what comes"),
        _ => attempt.error("it leads from one address to the next"),
    };
    Client::builder()
        .user_agent(concat!("coracle/", env!("CARGO_PKG_VERSION")))
        .redirect(Policy::custom(follow))
        .connect_timeout(CONNECT_TIMEOUT)
        .read_timeout(SILENCE_MAX)
        .timeout(TIME_MAX)
        .build()
}

/// What comes is run: it comes from this machine, or from whom a certificate names.
fn may_be_asked(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_here = host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback());
    url.scheme() == "https" || url.scheme() == "http" && is_here
}

/// The innermost reason, which is the one that says something.
fn cause(error: &dyn std::error::Error) -> String {
    let mut innermost = error;
    while let Some(source) = innermost.source() {
        innermost = source;
    }
    innermost.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_password_of_an_address_is_said() {
        let table = [
            ("https://example.com/store.toml", "https://example.com/store.toml"),
            ("https://ada:PW@example.com/store.toml", "https://example.com/store.toml"),
            ("https://PW@example.com/store.toml", "https://example.com/store.toml"),
            ("https:///ada:PW@example.com/s", "https://example.com/s"),
            ("HTTP://ada:P@W@example.com/s", "http://example.com/s"),
            ("https://ada:P/W@example.com:x/s", "https://example.com:x/s"),
            ("https://ada:PW@", "https://"),
            ("my@folder/store.toml", "my@folder/store.toml"),
        ];
        for (address, expected) in table {
            assert_eq!(shown(address), expected, "{address}");
        }
    }

    #[test]
    fn code_comes_from_this_machine_or_with_tls() {
        let table = [
            ("https://example.com/store.toml", true),
            ("http://127.0.0.1:8080/s", true),
            ("http://[::1]:8080/s", true),
            ("http://localhost/s", true),
            ("http://example.com/s", false),
            ("http://127.0.0.1.example.com/s", false),
            ("ftp://127.0.0.1/s", false),
        ];
        for (url, expected) in table {
            assert_eq!(may_be_asked(&url.parse().unwrap()), expected, "{url}");
        }
    }
}
