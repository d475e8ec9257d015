//! Sandboxes: what runs code, and what code may touch.
