//! What is heard and told on the bus.

mod actual;

pub use actual::{Actual, InstanceView, follow};
