//! Coracle: serverless functions made simple, in one binary.

fn main() {}
