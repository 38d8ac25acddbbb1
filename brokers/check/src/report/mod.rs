//! What came out, and the forms it is shown in.

mod json;
mod junit;
mod text;

pub use json::json;
pub use junit::junit;
pub use text::text;
pub(crate) use text::{explain, line};

use crate::{
    case::{Case, Finding, Severity},
    options::Version,
};
use std::{process::ExitCode, time::Duration};

/// The outcome of a case.
#[derive(Clone, Debug)]
pub enum Verdict {
    /// The broker keeps the rule.
    Passed,
    /// It could not be looked at, or does not apply, for this reason.
    Skipped(String),
    /// The broker breaks the rule.
    Broken(Box<Finding>),
}

/// The outcome of one case for one plan.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Which case.
    pub case: &'static Case,
    /// `offering/plan`; none for the broker as a whole.
    pub plan: Option<String>,
    /// How it went.
    pub verdict: Verdict,
}

/// How the run as a whole ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// All cases had their turn.
    Complete,
    /// The limit of the total time came first.
    TimeLimit,
    /// Somebody stopped it.
    Stopped,
    /// Nobody answers at that address.
    Unreachable(String),
    /// No plan fits the choice.
    NoPlan,
}

/// The outcome of a run.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its address.
    pub broker: String,
    /// The version that was announced to it.
    pub version: Version,
    /// Advice counts as findings.
    pub strict: bool,
    /// All verdicts in the order they were reached; rules about every answer come last.
    pub entries: Vec<Entry>,
    /// How it ended.
    pub ending: Ending,
    /// How long it took.
    pub took: Duration,
}

impl Report {
    /// All broken rules.
    pub fn broken(&self) -> impl Iterator<Item = (&Entry, &Finding)> {
        self.entries.iter().filter_map(|entry| match &entry.verdict {
            Verdict::Broken(finding) => Some((entry, &**finding)),
            _ => None,
        })
    }

    /// Whether a broken rule fails the run; otherwise it is advice.
    pub fn counts(&self, entry: &Entry) -> bool {
        self.strict || entry.case.severity == Severity::Must
    }

    /// Findings and pieces of advice.
    pub fn totals(&self) -> (usize, usize) {
        let findings = self.broken().filter(|(entry, _)| self.counts(entry)).count();
        (findings, self.broken().count() - findings)
    }

    /// 0: passed; 1: findings; 2: the check could not be made, or not to its end.
    pub fn exit_code(&self) -> u8 {
        match (&self.ending, self.totals().0) {
            (Ending::Unreachable(_) | Ending::NoPlan, _) => 2,
            (_, 1..) => 1,
            (Ending::Complete, 0) => 0,
            (Ending::TimeLimit | Ending::Stopped, 0) => 2,
        }
    }
}

impl From<&Report> for ExitCode {
    fn from(report: &Report) -> Self {
        Self::from(report.exit_code())
    }
}
