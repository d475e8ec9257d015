//! What happened: logs, the last calls, metrics.
