//! Stagings and starts with the real programs, in folders that play the container.

mod contract;
mod support;
mod system;
