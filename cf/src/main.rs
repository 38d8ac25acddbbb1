//! cf
fn main() {}
