//! The nouns of Coracle, and the pure rules that belong to them.
//! Every other crate speaks in these words; this one does no I/O, reads no clock and knows no vendor.
//!
//! | noun | meaning |
//! |---|---|
//! | [`NamespaceName`] | a tenant's room: functions, secrets and quotas live in one; the first is `default` |
//! | [`AppName`] | functions deployed, shown and removed together, from one manifest |
//! | [`FunctionRef`] | a function: a name in a namespace |
//! | [`Revision`] | one immutable pair of code and settings; calls run a revision |
//! | [`Code`] | what is run: a WebAssembly artifact, a bundle of files or an OCI image |
//! | [`Contract`] | how code is spoken to |
//! | [`Outbound`] | a capability: a host that a guest may reach |
//! | [`Call`] | one invocation of a function |
//! | [`Outcome`] | what comes back: a head and a streaming body, or a [`Problem`] |
//! | [`Problem`] | what went wrong, whose fault it is ([`Owner`]) and what to do next |
//! | [`Queueing`] | how calls that wait in the queue are run and tried again, and where their outcome goes ([`Target`]) |
//! | [`Digest`] | the name of an artifact: the SHA-256 of its bytes |
//! | [`Principal`] | who asks |

mod body;
mod call;
mod clock;
mod digest;
mod name;
mod nearest;
mod outbound;
mod principal;
mod problem;
mod quantity;
mod queueing;
mod revision;
mod route;
mod settings;
mod trace;

pub use body::{Body, BodyError};
pub use call::{Call, CallId, Outcome, Reply};
pub use clock::Clock;
pub use digest::{Digest, InvalidDigest};
pub use name::{AppName, FunctionName, FunctionRef, InvalidName, NamespaceName, SecretName, TopicName};
pub use nearest::nearest;
pub use outbound::{Destination, InvalidOutbound, Outbound};
pub use principal::{Principal, Reach, Scope, TokenId};
pub use problem::{CODES, Code as ProblemCode, Owner, Problem, ProblemAnswer, code};
pub use quantity::{ByteSize, Cores, InvalidQuantity, Span};
pub use queueing::{InvalidStatuses, InvalidTarget, Queueing, RetryPolicy, Statuses, Target, check_url};
pub use revision::{Code, Contract, InvalidContract, Revision};
pub use route::{InvalidRoute, Route, RouteMatch};
pub use settings::{InvalidNetwork, Limits, Network, Original, Program, Scale, Settings};
pub use trace::Trace;
