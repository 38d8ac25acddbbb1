//! One small process beside every container.
fn main() {}
