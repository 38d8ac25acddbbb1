//! HTTP in, the right instance out
