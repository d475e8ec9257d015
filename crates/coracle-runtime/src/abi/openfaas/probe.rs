//! The questions after a watchdog itself: whether it is well, and whether it is ready for a call.
//! They take no place from calls; where no instance runs, they start one, as a call does.

use coracle_model::{Body, Outcome, Problem, Reply, code};
use http::{HeaderValue, Method, Request, Uri};

use super::line::INTERNAL;
use super::settings::{Mode, Watchdog};

/// Where it says whether it is well.
const HEALTH: &str = "/_/health";
/// Where it says whether it is ready for a call.
const READY: &str = "/_/ready";

/// What a call is told that is beyond what a function takes at once.
pub(crate) fn full(max_inflight: u32) -> Problem {
    let what = format!("Concurrent request limit exceeded. Max concurrent requests: {max_inflight}");
    let headers = vec![(INTERNAL, HeaderValue::from_static("faas-middleware"))];
    Problem::new(&code::FUNCTION_BUSY, what)
        .hint("try again later, or raise `max_inflight` in its environment or `min` and `max` of its `scale`")
        .retry_after(1)
        .answered(code::FUNCTION_BUSY.status, headers)
}

/// How the instances of a function stand.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// None takes calls.
    Down,
    /// One takes calls.
    Up,
    /// All have as many as they take, and a call would be refused.
    Full,
}

impl Watchdog {
    /// What the platform answers for the instances; `None` where one of them is to be asked.
    pub(crate) fn probed<B>(
        &self,
        request: &Request<B>,
        standing: impl FnOnce() -> Standing,
        full: impl FnOnce() -> Problem,
    ) -> Option<Outcome> {
        let path = request.uri().path();
        if path != HEALTH && path != READY {
            return None;
        }
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let what = format!("`{path}` is asked with GET, and this was {}", request.method());
            return Some(Err(Box::new(Problem::new(&code::METHOD_NOT_ALLOWED, what))));
        }
        if self.is_never_well {
            let what = "the function says that it is never well: `suppress_lock` is set";
            return Some(Err(Box::new(Problem::new(&code::GUEST_NOT_READY, what).answered(503, Vec::new()))));
        }
        match (path, standing()) {
            (_, Standing::Down) => None,
            (HEALTH, _) => Some(Ok(well())),
            (_, Standing::Full) => Some(Err(Box::new(full()))),
            (_, Standing::Up) if self.asks_function() => None,
            (_, Standing::Up) => Some(Ok(well())),
        }
    }

    /// What an instance that was started for it answers, or where the function itself is asked.
    pub(super) fn probed_within<B>(&self, request: &mut Request<B>) -> Option<Reply> {
        match (request.uri().path(), &self.ready_path) {
            (READY, Some(path)) if self.asks_function() => {
                *request.uri_mut() = at(request.uri(), path);
                None
            }
            (HEALTH | READY, _) => Some(well()),
            _ => None,
        }
    }

    /// The path that is asked of a program that listens, to see whether it is ready.
    pub(crate) fn health(&self, own: Option<&str>) -> Option<String> {
        match own {
            // These are answered for it.
            Some(HEALTH | READY) | None => self.ready_path.clone(),
            Some(own) => Some(own.to_owned()),
        }
    }

    fn asks_function(&self) -> bool {
        self.ready_path.is_some() && matches!(self.mode, Mode::Http(_))
    }
}

fn well() -> Reply {
    Reply::new(Body::once("OK"))
}

/// The same address with another path.
fn at(uri: &Uri, path: &str) -> Uri {
    let mut parts = uri.clone().into_parts();
    parts.path_and_query = path.parse().ok();
    // It was checked when it was read.
    Uri::from_parts(parts).unwrap_or_else(|_| uri.clone())
}

#[cfg(test)]
mod tests {
    use super::*;
    use coracle_model::Settings;

    fn watchdog(env: &[(&str, &str)]) -> Watchdog {
        let mut settings = Settings::default();
        settings.env.insert("fprocess".into(), "x".into());
        settings.env.extend(env.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        Watchdog::parse(None, &settings).unwrap()
    }

    /// The status of what the platform answers; 0 where an instance is asked.
    fn status(watchdog: &Watchdog, method: &str, path: &str, standing: Standing) -> u16 {
        let request = Request::builder().method(method).uri(path).body(()).unwrap();
        match watchdog.probed(&request, || standing, || full(1)) {
            None => 0,
            Some(Ok(reply)) => reply.status().as_u16(),
            Some(Err(problem)) => problem.status(),
        }
    }

    #[test]
    fn what_is_asked_after_the_watchdog_is_answered_by_how_its_instances_stand() {
        let (fork, never_well) = (watchdog(&[]), watchdog(&[("suppress_lock", "true")]));
        let http =
            [("mode", "http"), ("http_upstream_url", "http://localhost:5000"), ("ready_path", "/fit?deep=1")];
        let http = watchdog(&http);
        let table = [
            (&fork, "GET", "/_/health", [0, 200, 200]),
            (&fork, "GET", "/_/ready", [0, 200, 429]),
            (&fork, "POST", "/_/health", [405; 3]),
            (&fork, "GET", "/_/other", [0; 3]),
            (&fork, "GET", "/", [0; 3]),
            (&http, "GET", "/_/health", [0, 200, 200]),
            (&http, "GET", "/_/ready", [0, 0, 429]),
            (&never_well, "GET", "/_/health", [503; 3]),
            (&never_well, "GET", "/_/ready", [503; 3]),
            (&never_well, "GET", "/", [0; 3]),
        ];
        for (watchdog, method, path, expected) in table {
            let statuses = [Standing::Down, Standing::Up, Standing::Full]
                .map(|standing| status(watchdog, method, path, standing));
            assert_eq!(statuses, expected, "{method} {path}");
        }
        let mut request = Request::get("http://f.test/_/ready").body(()).unwrap();
        assert!(http.probed_within(&mut request).is_none());
        assert_eq!(request.uri(), "http://f.test/fit?deep=1");
        assert!(fork.probed_within(&mut Request::get("/_/ready").body(()).unwrap()).is_some());
    }

    #[test]
    fn a_start_is_not_waited_for_with_questions_that_are_answered_for_it() {
        let fits = watchdog(&[("ready_path", "/fit")]);
        for (own, asked) in
            [(None, "/fit"), (Some("/_/health"), "/fit"), (Some("/_/ready"), "/fit"), (Some("/a"), "/a")]
        {
            assert_eq!(fits.health(own).as_deref(), Some(asked), "{own:?}");
        }
        assert_eq!(watchdog(&[]).health(Some("/_/ready")), None);
    }
}
