//! Our own wire: types, OpenAPI and a typed client.
