//! Periodic jobs: take no input, look at the world, repair it.

pub mod blobs;
pub mod operations;
pub mod own_brokers;
pub mod retention;
pub mod workloads;
