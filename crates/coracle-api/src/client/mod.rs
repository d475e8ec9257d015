//! The typed client of `/v1`, and of the functions themselves.
//! The CLI uses it for everything it does with a server.

mod admin;
mod call;
mod error;
mod queue;
mod stream;
mod transport;

use std::fmt;

use http::HeaderValue;

pub use call::{Caller, FunctionCall, FunctionReply, Timings};
pub use error::{ClientError, InvalidUrl};
pub use stream::{Chunks, Lines, LogLines};

use transport::Origin;

/// A server, and the token to speak to it with. Cheap: a connection is made for each request.
///
/// Not pooled: a command of the CLI asks a few times, and then a new connection costs less than the care for an old one.
#[derive(Clone)]
pub struct Client {
    origin: Origin,
    authorization: Option<HeaderValue>,
}

impl Client {
    /// A client of the server at this URL, as in `http://127.0.0.1:8080`. Connects to nothing yet.
    ///
    /// # Errors
    /// [`ClientError::Url`] for a URL or a token that cannot be used.
    pub fn new(url: &str, token: Option<&str>) -> Result<Self, ClientError> {
        let origin = Origin::parse(url)?;
        let authorization = token.map(|token| {
            let value = HeaderValue::from_str(&format!("Bearer {token}"));
            let mut value =
                value.map_err(|_| InvalidUrl::new(url, "the token has a character that no token has"))?;
            value.set_sensitive(true);
            Ok::<_, ClientError>(value)
        });
        Ok(Self { origin, authorization: authorization.transpose()? })
    }

    /// The URL of the server, without a slash at its end.
    pub fn url(&self) -> &str {
        self.origin.url()
    }
}

/// The token stands in no log and no error.
impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("url", &self.url()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
