//! What is heard and told on the bus.

mod actual;
mod register;

pub use actual::{Actual, InstanceView, follow};
pub use register::register;
