//! The dialects of other systems, as pure functions: text in, our nouns out, and back again.
//! The gateway and the command line ask here; nothing in it does I/O, and it knows the model alone.

pub mod callback;
pub mod cloudevents;
pub mod openfaas;
