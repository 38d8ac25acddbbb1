//! What requests mean, and the work that they begin.
//!
//! - [`checks`]: bodies and queries, before anything is looked up. - [`decide`]: what to do, given what there is. Both are pure.
//! - [`service`]: one function for each operation: check, decide, begin, wait. - [`work`]: the calls of the broker's methods.

pub(crate) mod checks;
pub(crate) mod decide;
pub(crate) mod service;
pub(crate) mod work;

#[cfg(test)]
mod tests;
