//! What survives a restart: the database behind one trait, and artifacts as files named by their digest.
