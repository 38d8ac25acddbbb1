//! Runs the contract of the Open Service Broker API 2.17 against any broker over HTTP, and says where it is broken.
//!
//! - [`Options`]: what to check, and the limits that the check stays within.
//! - [`run`]: all cases, one request after the other; whatever was made at the broker is removed again, also after a failure or when stopped.
//! - [`Report`]: one verdict for each case and plan; [`Finding`] holds request, answer and what was expected instead.
//! - [`Args`] and [`main`]: the command line around it.
//!
//! Inside: `cases` is the table of everything that is checked, `scene` holds what the cases of one plan share, `http` sends and records,
//! `watch` looks at every answer whatever the case, `ledger` knows what must be removed, `parameters` makes right and wrong parameters
//! from a schema, `report` prints.
//!
//! Answers are looked at as raw JSON on purpose: typed parsing would hide the wrong types that this crate is there to find. It knows
//! nothing of this platform; a broker that passes works with any platform.

mod case;
mod cases;
mod catalog;
mod cli;
mod http;
mod ledger;
mod options;
mod parameters;
mod report;
mod scene;
mod watch;

pub use case::{Case, Finding, Severity};
pub use cases::CASES;
pub use cli::{Args, main};
pub use http::{Answered, Asked, Exchange};
pub use options::{Credentials, Limits, OptionError, Options, Version};
pub use report::{Ending, Entry, Report, Verdict, json, junit, text};
pub use scene::run;
