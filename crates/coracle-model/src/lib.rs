//! The nouns of Coracle, and the pure rules that belong to them. No I/O, no clock, no vendor names.
