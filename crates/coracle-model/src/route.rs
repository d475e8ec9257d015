//! Routes of a manifest: `/exact`, `/prefix/*`, `/users/:id`.
//! The catalog checks and keeps them; the gateway asks which function a path belongs to.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// First segments of paths that are ours; a route may not begin with one.
pub(crate) const RESERVED: [&str; 8] =
    ["function", "async-function", "v1", "system", "ui", "healthz", "metrics", "2015-03-31"];

const ROUTE_BYTES_MAX: usize = 512;

/// A pattern of paths that a function answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Route {
    text: String,
    segments: Vec<Segment>,
    /// Whether it ends with `/*`: everything below, and the prefix itself.
    open: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Segment {
    Exact(String),
    Param(String),
}

/// How a path fits a route.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RouteMatch {
    /// The values of its parameters, by name, as they stand in the path.
    pub params: Vec<(String, String)>,
    /// How exact the fit is, a number a segment: 2 exact, 1 parameter. Of two routes that fit, the greater one wins.
    pub rank: Vec<u8>,
}

impl Route {
    /// The pattern as it was written.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether this path, which begins with `/`, belongs to the route.
    pub fn matches(&self, path: &str) -> Option<RouteMatch> {
        let mut parts = path.strip_prefix('/')?.split('/');
        let mut found = RouteMatch { params: Vec::new(), rank: Vec::new() };
        for segment in &self.segments {
            let part = parts.next()?;
            match segment {
                Segment::Exact(text) if text == part => found.rank.push(2),
                Segment::Param(name) if !part.is_empty() => {
                    found.params.push((name.clone(), part.to_owned()));
                    found.rank.push(1);
                }
                _ => return None,
            }
        }
        if self.open {
            return Some(found);
        }
        // An exact route outranks the open one of the same prefix.
        found.rank.push(1);
        parts.next().is_none().then_some(found)
    }

    /// Whether some path fits both routes equally well, so that neither could be preferred.
    pub fn clashes_with(&self, other: &Self) -> bool {
        let same = |(a, b): (&Segment, &Segment)| match (a, b) {
            (Segment::Exact(a), Segment::Exact(b)) => a == b,
            (Segment::Param(_), Segment::Param(_)) => true,
            _ => false,
        };
        self.open == other.open
            && self.segments.len() == other.segments.len()
            && self.segments.iter().zip(&other.segments).all(same)
    }
}

/// A text that is not a route, or one that is ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("route `{text}`: {reason}")]
pub struct InvalidRoute {
    text: String,
    reason: &'static str,
}

impl FromStr for Route {
    type Err = InvalidRoute;

    fn from_str(text: &str) -> Result<Self, InvalidRoute> {
        let invalid = |reason| InvalidRoute { text: text.chars().take(80).collect(), reason };
        if text.len() > ROUTE_BYTES_MAX {
            return Err(invalid("it is longer than 512 bytes"));
        }
        let path = text.strip_prefix('/').ok_or_else(|| invalid("it must begin with `/`"))?;
        let (path, open) = match path.strip_suffix('*') {
            Some("") => ("", true),
            Some(prefix) => (
                prefix.strip_suffix('/').ok_or_else(|| invalid("a `*` stands alone, after the last `/`"))?,
                true,
            ),
            None => (path, false),
        };
        let mut segments = Vec::new();
        let is_root = path.is_empty() && open;
        for part in path.split('/').filter(|_| !is_root) {
            segments.push(parse_segment(part).map_err(invalid)?);
        }
        if segments.iter().rev().skip(1).any(|segment| *segment == Segment::Exact(String::new())) {
            return Err(invalid("it has an empty segment, `//`"));
        }
        if let Some(Segment::Exact(first)) = segments.first()
            && RESERVED.contains(&first.as_str())
        {
            return Err(invalid("this path is Coracle's own: choose another first segment"));
        }
        Ok(Self { text: text.into(), segments, open })
    }
}

fn parse_segment(part: &str) -> Result<Segment, &'static str> {
    if let Some(name) = part.strip_prefix(':') {
        let ok = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || c == b'_');
        return if ok {
            Ok(Segment::Param(name.into()))
        } else {
            Err("a parameter is `:` and letters, digits or `_`")
        };
    }
    if part == "." || part == ".." {
        return Err("`.` and `..` are not segments");
    }
    // The unreserved and sub-delimiter characters of RFC 3986, `@` and an escape.
    let ok = part.bytes().all(|c| c.is_ascii_alphanumeric() || b"-._~!$&'()+,;=@%".contains(&c));
    if ok { Ok(Segment::Exact(part.into())) } else { Err("it has a character that does not stand in a path") }
}

impl fmt::Display for Route {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.text)
    }
}

impl From<Route> for String {
    fn from(route: Route) -> Self {
        route.text
    }
}

impl TryFrom<String> for Route {
    type Error = InvalidRoute;

    fn try_from(text: String) -> Result<Self, InvalidRoute> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn route(text: &str) -> Route {
        text.parse().unwrap()
    }

    #[test]
    fn a_route_fits_the_paths_it_says() {
        let table = [
            ("/", "/", true),
            ("/", "/x", false),
            ("/resize", "/resize", true),
            ("/resize", "/resize/", false),
            ("/resize/*", "/resize", true),
            ("/resize/*", "/resize/", true),
            ("/resize/*", "/resize/a/b", true),
            ("/resize/*", "/resized", false),
            ("/*", "/", true),
            ("/*", "/a/b", true),
            ("/users/:id", "/users/7", true),
            ("/users/:id", "/users/", false),
            ("/users/:id/*", "/users/7/posts/9", true),
        ];
        for (pattern, path, fits) in table {
            assert_eq!(route(pattern).matches(path).is_some(), fits, "{pattern} {path}");
        }
    }

    #[test]
    fn the_more_exact_route_wins() {
        let rank = |pattern: &str, path: &str| route(pattern).matches(path).unwrap().rank;
        assert!(rank("/a/b", "/a/b") > rank("/a/:x", "/a/b"));
        assert!(rank("/a/:x", "/a/b") > rank("/a/*", "/a/b"));
        assert!(rank("/a", "/a") > rank("/a/*", "/a"));
        assert!(rank("/a/*", "/a/b") > rank("/*", "/a/b"));
    }

    #[test]
    fn parameters_are_read() {
        let found = route("/users/:id/posts/:post").matches("/users/7/posts/9").unwrap();
        assert_eq!(found.params, [("id".into(), "7".into()), ("post".into(), "9".into())]);
    }

    #[test]
    fn routes_that_nothing_tells_apart_clash() {
        assert!(route("/a/:x").clashes_with(&route("/a/:y")));
        assert!(!route("/a/:x").clashes_with(&route("/a/b")));
        assert!(!route("/a/*").clashes_with(&route("/a")));
    }

    #[test]
    fn our_own_paths_and_nonsense_are_refused() {
        for bad in [
            "",
            "x",
            "/function/x",
            "/v1",
            "/metrics/*",
            "/healthz",
            "/a*",
            "/a//b",
            "/a/../b",
            "/:",
            "/a b",
            "/a?b",
            "/é",
        ] {
            assert!(bad.parse::<Route>().is_err(), "{bad:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_a_route_or_an_error(text: String, path: String) {
            if let Ok(route) = text.parse::<Route>() {
                let _ = route.matches(&path);
            }
        }
    }
}
