//! Services: brokers and their catalogs, instances, bindings, and the work at brokers that goes with them.

pub mod mitigation;
pub mod operations;
