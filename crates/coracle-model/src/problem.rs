//! What went wrong, whose fault it is, and what to do next.
//! Every error that a person or a program sees is a [`Problem`]; its code stands in the table here, and has a page in `docs/errors/`.

use std::fmt;

use http::{HeaderName, HeaderValue};

use crate::FunctionRef;

/// Whose fault a problem is. Retries read the owner, not the text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    /// The code that was deployed.
    Guest,
    /// Coracle, or the machine it runs on.
    Host,
    /// Whoever asked: a limit, a right, a wrong name, a wrong input.
    Caller,
}

impl Owner {
    /// The owner in a word, as metrics show it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Guest => "guest",
            Self::Host => "host",
            Self::Caller => "caller",
        }
    }
}

/// A kind of problem.
#[derive(Debug)]
pub struct Code {
    /// Its name, as in `x-coracle-error` and `coracle explain NAME`.
    pub name: &'static str,
    /// The HTTP status it is answered with.
    pub status: u16,
    /// Whose fault it is.
    pub owner: Owner,
    /// What it is, in one line.
    pub title: &'static str,
    /// Its page of `docs/errors/`, in Markdown.
    pub page: &'static str,
}

macro_rules! codes {
    ($($name:ident = $text:literal $status:literal $owner:ident $title:literal;)*) => {
        /// Every kind of problem, by name.
        pub mod code {
            use super::{Code, Owner};
            $(
                #[doc = $title]
                pub static $name: Code = Code {
                    name: $text,
                    status: $status,
                    owner: Owner::$owner,
                    title: $title,
                    page: include_str!(concat!("../../../docs/errors/", $text, ".md")),
                };
            )*
        }

        /// All kinds of problems, in the order of their page.
        pub static CODES: &[&Code] = &[$(&code::$name),*];
    };
}

codes! {
    // Finding what was asked for.
    FUNCTION_NOT_FOUND = "function-not-found" 404 Caller "there is no function of this name";
    ROUTE_NOT_FOUND = "route-not-found" 404 Caller "no function answers this path";
    NAMESPACE_NOT_FOUND = "namespace-not-found" 404 Caller "there is no namespace of this name";
    APP_NOT_FOUND = "app-not-found" 404 Caller "there is no app of this name";
    REVISION_NOT_FOUND = "revision-not-found" 404 Caller "the function has no revision of this number";
    SECRET_NOT_FOUND = "secret-not-found" 404 Caller "there is no secret of this name";
    TOKEN_NOT_FOUND = "token-not-found" 404 Caller "there is no token of this name";
    ARTIFACT_NOT_FOUND = "artifact-not-found" 404 Caller "no code of this digest was uploaded";
    CALL_NOT_FOUND = "call-not-found" 404 Caller "this call is neither queued nor among the last ones";
    IMAGE_NOT_FOUND = "image-not-found" 404 Caller "there is no image of this name";
    // Asking in the right way.
    BAD_REQUEST = "bad-request" 400 Caller "the request could not be understood";
    METHOD_NOT_ALLOWED = "method-not-allowed" 405 Caller "this path does not take this method";
    NOT_IMPLEMENTED = "not-implemented" 501 Host "this part of the API is still to come";
    INVALID_NAME = "invalid-name" 400 Caller "a name has a character or a length that is not allowed";
    UNAUTHENTICATED = "unauthenticated" 401 Caller "a token is needed, and none that is valid came";
    FORBIDDEN = "forbidden" 403 Caller "the token does not reach this far";
    CONFLICT = "conflict" 409 Caller "somebody else changed this in the meantime";
    HEAD_TOO_LARGE = "head-too-large" 431 Caller "the head of the request has too many bytes or headers";
    REQUEST_TOO_LARGE = "request-too-large" 413 Caller "the body of the request is over its bound";
    REQUEST_TIMEOUT = "request-timeout" 408 Caller "the body of the request did not come in time";
    CLIENT_GONE = "client-gone" 499 Caller "the client went away before the answer was complete";
    // Too much at once.
    FUNCTION_BUSY = "function-busy" 429 Caller "the function has as many calls in flight and waiting as it may";
    SERVER_BUSY = "server-busy" 503 Host "the server runs as many instances as it may";
    SERVER_STOPPING = "server-stopping" 503 Host "the server is about to stop and takes no new calls";
    // The queue.
    QUEUE_FULL = "queue-full" 429 Caller "as many calls of the namespace wait in the queue as may";
    INVALID_DELAY = "invalid-delay" 400 Caller "the delay of the call is none, or too long";
    INVALID_GROUP = "invalid-group" 400 Caller "the group of the call has a name that is not allowed";
    INVALID_IDEMPOTENCY_KEY = "invalid-idempotency-key" 400 Caller "the idempotency key is empty, too long, or has characters that are not allowed";
    IDEMPOTENCY_KEY_REUSED = "idempotency-key-reused" 422 Caller "the idempotency key came with another call before";
    INVALID_CALLBACK = "invalid-callback" 400 Caller "the callback is not a URL that can be posted to";
    CALLBACK_DENIED = "callback-denied" 403 Caller "the callback leads to a private address that was not allowed";
    CALL_ENDED = "call-ended" 409 Caller "the call has ended already";
    CALL_CANCELLED = "call-cancelled" 409 Caller "the call was cancelled";
    CALL_UNREADABLE = "call-unreadable" 500 Host "the queued call cannot be read by this version";
    ATTEMPT_LOST = "attempt-lost" 503 Host "the server ended while the call ran";
    DELIVERY_REDIRECTED = "delivery-redirected" 502 Caller "the receiver of a result answered with a redirect, which is not followed";
    DELIVERY_FAILED = "delivery-failed" 502 Caller "the result could not be delivered";
    // What the guest did.
    GUEST_TRAPPED = "guest-trapped" 502 Guest "the function crashed";
    GUEST_EXITED = "guest-exited" 502 Guest "the function ended with an exit code that says it failed";
    GUEST_NO_RESPONSE = "guest-no-response" 502 Guest "the function returned without a response";
    GUEST_INVALID_RESPONSE = "guest-invalid-response" 502 Guest "the function's response is not valid HTTP";
    GUEST_OUT_OF_MEMORY = "guest-out-of-memory" 502 Guest "the function needed more memory than it may have";
    GUEST_TIMEOUT = "guest-timeout" 504 Guest "the function did not respond in time";
    GUEST_STREAM_TIMEOUT = "guest-stream-timeout" 504 Guest "the body of the response paused for too long";
    RESPONSE_TOO_LARGE = "response-too-large" 502 Guest "the body of the response is over its bound";
    GUEST_NOT_READY = "guest-not-ready" 504 Guest "the program was not ready for calls in time";
    PROGRAM_NOT_STARTED = "program-not-started" 502 Guest "the program cannot be run";
    OUTBOUND_DENIED = "outbound-denied" 403 Guest "the function tried to reach a host that it was not granted";
    // Deploying.
    INVALID_WASM = "invalid-wasm" 422 Caller "the file is not valid WebAssembly";
    PRECOMPILED_WASM = "precompiled-wasm" 422 Caller "compiled code is never taken from outside";
    UNSUPPORTED_CONTRACT = "unsupported-contract" 422 Caller "the code exports nothing that Coracle can call";
    UNKNOWN_IMPORT = "unknown-import" 422 Caller "the code imports something that nothing provides";
    COMPILE_FAILED = "compile-failed" 422 Caller "the code could not be compiled";
    COMPILE_LIMIT = "compile-limit" 422 Caller "compiling the code needs more memory or time than it may have";
    INVALID_SETTINGS = "invalid-settings" 422 Caller "a setting has a value that it cannot have";
    ROUTE_TAKEN = "route-taken" 409 Caller "another function answers this route";
    MISSING_SECRET = "missing-secret" 422 Caller "the function names a secret that does not exist";
    NAMESPACE_NOT_EMPTY = "namespace-not-empty" 409 Caller "the namespace still has functions or secrets";
    ALREADY_EXISTS = "already-exists" 409 Caller "something of this name exists";
    LIMIT_REACHED = "limit-reached" 422 Caller "there are as many of these as there may be";
    // Images.
    IMAGE_INVALID = "image-invalid" 422 Caller "the image or the archive is damaged, or breaks a rule";
    IMAGE_ARCHITECTURE = "image-architecture" 422 Caller "the image is built for another kind of machine";
    IMAGE_TOO_LARGE = "image-too-large" 422 Caller "the image or the archive unpacks to more than it may";
    REGISTRY_DENIED = "registry-denied" 403 Caller "the registry does not give this image to us";
    REGISTRY_UNAVAILABLE = "registry-unavailable" 502 Host "the registry does not answer as a registry does";
    UNPACK_DENIED = "unpack-denied" 500 Host "the system does not let the server unpack images";
    // The machine.
    DISK_FULL = "disk-full" 507 Host "the disk is full";
    STORE_UNAVAILABLE = "store-unavailable" 503 Host "the database does not answer";
    ARTIFACT_DAMAGED = "artifact-damaged" 500 Host "the function's code is missing or damaged on disk";
    SANDBOX_UNAVAILABLE = "sandbox-unavailable" 503 Host "this server cannot run programs in sandboxes";
    SANDBOX_FAILED = "sandbox-failed" 500 Host "a sandbox could not be made";
    INTERNAL = "internal" 500 Host "Coracle itself failed";
    // The command line.
    INVALID_MANIFEST = "invalid-manifest" 400 Caller "coracle.toml could not be understood";
    BUILD_FAILED = "build-failed" 400 Caller "the build command failed";
    SERVER_UNREACHABLE = "server-unreachable" 503 Caller "no Coracle server answers there";
    DATA_LOCKED = "data-locked" 409 Caller "another server uses this data directory";
    DATA_UNUSABLE = "data-unusable" 500 Host "the data directory cannot be used";
    ADDRESS_IN_USE = "address-in-use" 409 Caller "another program listens on this address";
}

/// What went wrong: the kind, this case of it, and what to do next.
#[derive(Clone)]
pub struct Problem {
    /// The kind.
    pub code: &'static Code,
    /// What failed, on what: lower case, without a full stop.
    pub message: String,
    /// What to do next, if more can be said than the page of the code does.
    pub hint: Option<String>,
    /// After how many seconds asking again may help.
    pub retry_after_s: Option<u32>,
    /// How a contract has it answered; `None` is as its code says.
    pub answer: Option<Box<ProblemAnswer>>,
}

/// The head of the answer that a contract wants for a problem, where it has statuses and headers of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProblemAnswer {
    /// The HTTP status.
    pub status: u16,
    /// Headers beside those that every problem has.
    pub headers: Vec<(HeaderName, HeaderValue)>,
}

impl Problem {
    /// A problem of this kind.
    pub fn new(code: &'static Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None, retry_after_s: None, answer: None }
    }

    /// That there is no such function.
    pub fn no_function(function: &FunctionRef) -> Self {
        let FunctionRef { name, namespace } = function;
        let message = format!("there is no function `{name}` in the namespace `{namespace}`");
        Self::new(&code::FUNCTION_NOT_FOUND, message)
            .hint(format!("`coracle list{}` shows those that are deployed", namespace.flag()))
    }

    /// The same, with what to do next.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// The same, with the time after which asking again may help.
    #[must_use]
    pub fn retry_after(mut self, seconds: u32) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The same, answered as a contract has it.
    #[must_use]
    pub fn answered(mut self, status: u16, headers: Vec<(HeaderName, HeaderValue)>) -> Self {
        self.answer = Some(Box::new(ProblemAnswer { status, headers }));
        self
    }

    /// The HTTP status that it is answered with.
    pub fn status(&self) -> u16 {
        self.answer.as_ref().map_or(self.code.status, |answer| answer.status)
    }

    /// The kind of this name.
    pub fn code_named(name: &str) -> Option<&'static Code> {
        CODES.iter().copied().find(|code| code.name == name)
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl fmt::Debug for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code.name, self.message)
    }
}

impl PartialEq for Code {
    fn eq(&self, other: &Self) -> bool {
        self.name == other.name
    }
}

impl std::error::Error for Problem {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_has_a_name_of_its_own_a_page_and_a_fitting_status() {
        for (index, code) in CODES.iter().enumerate() {
            assert!(CODES[..index].iter().all(|other| other.name != code.name), "{} twice", code.name);
            assert!(code.page.starts_with(&format!("# {}", code.name)), "{}", code.name);
            assert!(code.page.contains("## What to do"), "{}", code.name);
            let is_server_error = code.status >= 500;
            assert!(
                code.owner != Owner::Guest || is_server_error || code == &&code::OUTBOUND_DENIED,
                "{}",
                code.name
            );
        }
    }

    #[test]
    fn every_page_belongs_to_a_code() {
        let pages = std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/errors")).unwrap();
        for page in pages {
            let file = page.unwrap().file_name().into_string().unwrap();
            let name = file.strip_suffix(".md").unwrap();
            assert!(name == "README" || Problem::code_named(name).is_some(), "{file} explains no code");
        }
    }
}
