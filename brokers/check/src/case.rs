//! What a case is, and how one ends.

use crate::{http::Exchange, scene::Scene};
use futures::future::BoxFuture;

/// How binding the rule behind a case is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// A broker that breaks it does not work with every platform: a finding.
    Must,
    /// The specification advises it: a piece of advice, and a finding only in strict runs.
    Should,
}

/// When a case runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scope {
    /// Once for the broker.
    Broker,
    /// Once for each plan, in the order of the table: later cases use what earlier ones made.
    Plan,
}

/// The work of a case.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Check {
    /// Sends requests of its own.
    Active(Scope, for<'a> fn(&'a mut Scene) -> BoxFuture<'a, Outcome>),
    /// Looks at every answer of the whole run; see `watch`.
    Watching,
}

/// One row of the table of everything that is checked.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Stable name: for `--skip`, reports and tests.
    pub id: &'static str,
    /// How binding it is.
    pub severity: Severity,
    /// The section of the specification behind it.
    pub section: &'static str,
    /// The rule in one sentence.
    pub title: &'static str,
    /// First minor version of the API that has it.
    pub since: u32,
    /// Only with `--strict-legacy`: older checkers want it although the specification does not.
    pub legacy: bool,
    pub(crate) check: Check,
}

/// A broken rule: what was asked, what was answered, what was expected.
#[derive(Clone, Debug)]
pub struct Finding {
    /// What the rule wants.
    pub expected: String,
    /// What was there instead.
    pub found: String,
    /// The request that shows it; none if no single one does.
    pub exchange: Option<Exchange>,
    /// How many further times the same rule was broken; these are not shown.
    pub repeats: usize,
}

/// Why a case did not pass.
#[derive(Debug)]
pub(crate) enum Miss {
    /// It could not be looked at, for this reason.
    Skip(String),
    /// The rule is broken.
    Fail(Box<Finding>),
}

pub(crate) type Outcome = Result<(), Miss>;

impl Miss {
    pub(crate) fn fail(expected: impl Into<String>, found: impl Into<String>, exchange: Option<&Exchange>) -> Self {
        Self::Fail(Box::new(Finding { expected: expected.into(), found: found.into(), exchange: exchange.cloned(), repeats: 0 }))
    }
}

/// Ends a case that does not apply.
pub(crate) fn skip<T>(why: impl Into<String>) -> Result<T, Miss> {
    Err(Miss::Skip(why.into()))
}
