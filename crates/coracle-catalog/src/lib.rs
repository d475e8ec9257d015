//! What is deployed: namespaces, apps, functions, revisions, secrets, tokens.
