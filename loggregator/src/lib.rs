//! Logs and metrics: agent and log cache
