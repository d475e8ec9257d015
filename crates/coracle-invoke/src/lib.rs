//! The one door to running code: resolve, admit, run, record.
