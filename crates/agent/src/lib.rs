//! What every daemon shares: config, logs, HTTP server, signals, readiness, backoff, metrics.
