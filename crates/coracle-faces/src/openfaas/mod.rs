//! What OpenFaaS' clients send and expect, as `parse` and `render`.
//! The gateway's routes of that dialect and `coracle deploy` of a stack file ask here.
//!
//! Facts come from the public sources that each file names as `repo:path`, and from what the real programs do on the wire.
//!
//! | module | its words |
//! |---|---|
//! | [`name`] | functions and namespaces: `default` is `openfaas-fn` there |
//! | [`deployment`] | what is deployed: a [`Deployment`](deployment::Deployment) becomes our settings |
//! | [`stack`] | stack files, which are many deployments |
//! | [`store`] | the function store, which offers deployments |
//! | [`status`] | what is said about a function that is deployed |
//! | [`request`] | what is removed, and how many instances are wanted |
//! | [`namespace`] | documents of namespaces |
//! | [`secret`] | documents of secrets |
//! | [`logs`] | what of a log is asked for, and its lines |
//! | [`alert`] | what AlertManager says, and the number of instances that follows |
//! | [`info`] | who answers |
//! | [`metrics`] | numbers under OpenFaaS' names |
//! | [`refusal`] | the statuses of errors |
//! | [`quantity`] | memory, processors and spans of time as Kubernetes and Go write them |

pub mod alert;
pub(crate) mod callback;
pub mod deployment;
pub mod info;
pub mod logs;
pub mod metrics;
pub mod name;
pub mod namespace;
pub mod quantity;
pub mod refusal;
pub mod request;
pub mod secret;
pub mod stack;
pub mod status;
pub mod store;

mod document;
mod envsubst;
mod glob;
mod settings;
