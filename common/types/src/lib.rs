//! Ids, units and time: the values that every part shares.
//!
//! - [`ids`]: one newtype for each kind of id; parse at the edge, so that swapping two arguments does not compile.
//! - [`units`]: sizes that carry their unit.
//! - [`time`]: [`Timestamp`] and the [`Clock`] that hands it out.
//!
//! No I/O and no async here: moments come from a passed-in [`Clock`], ids from a passed-in random generator.

pub mod ids;
pub mod time;
pub mod units;

pub use ids::*;
pub use time::{Clock, ManualClock, Timestamp};
pub use units::{DiskMb, MemoryMb};
