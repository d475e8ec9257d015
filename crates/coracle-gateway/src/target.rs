//! Whom a request is for: a function by its name, by a host name or by a route of its manifest, or us.
//! `data` asks for every request, before anything else is looked at.

use std::sync::Arc;

use coracle_catalog::Catalog;
use coracle_faces::openfaas;
use coracle_model::{FunctionName, FunctionRef, InvalidName, NamespaceName, Problem, Revision, code};
use http::header;
use http::uri::{Authority, PathAndQuery};
use http::{Request, Uri, Version};

/// Names under this one are functions: `NAME.NAMESPACE.localhost`.
const HOST_SUFFIX: &str = ".localhost";

/// Whom a request is for.
#[derive(Debug)]
pub(crate) enum Target {
    /// A function by its name; `/function/…` says when its call began and as what it is known, a host name does not.
    Named { function: FunctionRef, path: PathAndQuery, host: Option<Authority>, announces: bool },
    /// A function by a route of its manifest.
    Routed { revision: Arc<Revision>, path: PathAndQuery, host: Option<Authority> },
    /// Us.
    Admin,
}

impl Target {
    /// Whom this request is for.
    ///
    /// # Errors
    /// When it says so in no way, in two, or names what cannot be a function.
    pub(crate) fn of<B>(request: &Request<B>, catalog: &Catalog) -> Result<Self, Problem> {
        let host = host_of(request)?;
        let uri = request.uri();
        let path_and_query = || uri.path_and_query().cloned().unwrap_or(PathAndQuery::from_static("/"));
        if let Some(function) = function_of_host(host.as_ref().map(Authority::as_str)) {
            return Ok(Self::Named { function: function?, path: path_and_query(), host, announces: false });
        }
        let path = uri.path();
        if let Some(rest) = path.strip_prefix("/function/") {
            let name = rest.split('/').next().unwrap_or_default();
            let function = function_named(name)?;
            let path = path_after(uri, "/function/".len() + name.len());
            return Ok(Self::Named { function, path, host, announces: true });
        }
        if is_ours(path) {
            return Ok(Self::Admin);
        }
        match catalog.route(path) {
            Some(routed) => Ok(Self::Routed { revision: routed.revision, path: path_and_query(), host }),
            // Nobody's own first page: there is one of ours.
            None if path == "/" => Ok(Self::Admin),
            None => Err(Problem::new(&code::ROUTE_NOT_FOUND, format!("no function answers `{}`", shown(path)))
                .hint("functions answer at `/function/NAME`, and at the routes of their manifests: see `coracle list`")),
        }
    }
}

/// Which host is meant decides who answers, so it must be said once, and as a host: RFC 9112, section 3.2.
///
/// The host of the address comes first, and `None` is a request that may do without one.
fn host_of<B>(request: &Request<B>) -> Result<Option<Authority>, Problem> {
    let addressed = request.uri().authority();
    let mut hosts = request.headers().get_all(header::HOST).iter();
    let named = match (hosts.next(), hosts.next()) {
        (None, _) if addressed.is_some() || request.version() != Version::HTTP_11 => Some(None),
        (Some(host), None) if host.is_empty() => Some(None),
        (Some(host), None) => {
            Authority::try_from(host.as_bytes()).ok().filter(|host| !host.as_str().contains('@')).map(Some)
        }
        _ => None,
    };
    let unsound = || {
        let what = "the request has no `Host` header, several, or one that names no host";
        Problem::new(&code::BAD_REQUEST, what)
    };
    Ok(addressed.cloned().or(named.ok_or_else(unsound)?))
}

/// The function that a host name stands for: `NAME.NAMESPACE.localhost`; `None` for every other host.
fn function_of_host(host: Option<&str>) -> Option<Result<FunctionRef, Problem>> {
    let host = host?;
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).strip_suffix(HOST_SUFFIX)?;
    let (function, namespace) = name.rsplit_once('.')?;
    Some(
        FunctionName::parse(function)
            .and_then(|name| Ok(FunctionRef { namespace: NamespaceName::parse(namespace)?, name }))
            .map_err(invalid_name),
    )
}

/// The function of `/function/NAME[.NAMESPACE]`; our first namespace may go by the name that OpenFaaS' clients know.
pub(crate) fn function_named(name: &str) -> Result<FunctionRef, Problem> {
    // A namespace alone names none either.
    if name.rsplit_once('.').map_or(name, |(name, _)| name).is_empty() {
        return Err(Problem::new(
            &code::FUNCTION_NOT_FOUND,
            "the path names no function: it is `/function/NAME`",
        )
        .hint("`coracle list` shows those that are deployed"));
    }
    openfaas::name::function(name).map_err(invalid_name)
}

fn invalid_name(error: InvalidName) -> Problem {
    Problem::new(&code::INVALID_NAME, error.to_string())
        .hint("`coracle list` shows the functions that are deployed")
}

/// What is left of a path for the guest, with the query; at least `/`.
pub(crate) fn path_after(uri: &Uri, taken: usize) -> PathAndQuery {
    let whole = uri.path_and_query().map_or("", PathAndQuery::as_str);
    let rest = whole.get(taken..).unwrap_or_default();
    if rest.is_empty() {
        return PathAndQuery::from_static("/");
    }
    let rest = if rest.starts_with('/') {
        PathAndQuery::try_from(rest)
    } else {
        PathAndQuery::try_from(format!("/{rest}"))
    };
    rest.unwrap_or(PathAndQuery::from_static("/"))
}

fn is_ours(path: &str) -> bool {
    let first = path.strip_prefix('/').and_then(|path| path.split('/').next()).unwrap_or_default();
    matches!(first, "v1" | "system" | "async-function" | "ui" | "healthz" | "metrics")
}

/// What of a path is repeated in an error.
fn shown(path: &str) -> String {
    path.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_guest_sees_its_own_path() {
        let table = [
            ("/function/hello", "/"),
            ("/function/hello/", "/"),
            ("/function/hello?x=1", "/?x=1"),
            ("/function/hello/a/b?x=1", "/a/b?x=1"),
            ("/function/hello//a", "//a"),
        ];
        for (path, seen) in table {
            let uri: Uri = path.parse().unwrap();
            assert_eq!(path_after(&uri, "/function/hello".len()).as_str(), seen, "{path}");
        }
    }

    #[test]
    fn host_names_stand_for_functions() {
        let named = |host| {
            function_of_host(Some(host)).map(|function| function.map(|function| function.to_string()).ok())
        };
        assert_eq!(named("hello.default.localhost:8080"), Some(Some("hello.default".into())));
        assert_eq!(named("hello.default.localhost"), Some(Some("hello.default".into())));
        assert_eq!(named("localhost:8080"), None);
        assert_eq!(named("example.com"), None);
        assert_eq!(named("hello.localhost"), None);
        assert_eq!(named("a.b.c.localhost"), Some(None));
    }

    #[test]
    fn a_name_that_is_not_one_is_told_from_a_function_that_is_not_there() {
        let code = |name: &str| function_named(name).unwrap_err().code.name;
        assert_eq!(code(""), "function-not-found");
        assert_eq!(code(".openfaas-fn"), "function-not-found");
        assert_eq!(code("a b"), "invalid-name");
        assert_eq!(code(".."), "invalid-name");
        assert_eq!(code(&"a".repeat(300)), "invalid-name");
    }

    #[test]
    fn the_first_namespace_goes_by_two_names() {
        let named = |name: &str| function_named(name).unwrap();
        assert_eq!(named("hello.openfaas-fn"), named("hello"));
        assert_eq!(named("hello.openfaas-fn"), named("hello.default"));
        assert_ne!(named("hello.shop"), named("hello"));
    }
}
