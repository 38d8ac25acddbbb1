//! The check against brokers that are wrong on purpose, one way each, and against one that is right.

#![expect(clippy::unwrap_used, reason = "a test that cannot be made has failed")]

mod broker;
mod command;
mod flaws;
mod network;
mod reports;

use broker::Flaw;
use broker_check::{Credentials, Limits, Options, Report, Verdict, run};
use foundation::Secret;
use std::{collections::BTreeSet, time::Duration};

/// Options for a broker of these tests, with limits that keep tests short.
fn options(url: &str) -> Options {
    foundation::tls::install_crypto();
    let mut options = Options::new(url).unwrap();
    options.credentials = Some(Credentials { user: broker::USER.into(), password: Secret::new(broker::PASSWORD) });
    options.strict = true;
    options.limits = Limits {
        request: Duration::from_millis(1_500),
        polling: Duration::from_secs(2),
        total: Duration::from_secs(50),
        ..Limits::default()
    };
    options
}

async fn check(options: Options) -> Report {
    run(options, Box::new(foundation::rng()), std::future::pending(), |_| {}).await.unwrap()
}

/// Ids of all broken rules.
fn broken(report: &Report) -> BTreeSet<&'static str> {
    report.broken().map(|(entry, _)| entry.case.id).collect()
}

fn passed(report: &Report, id: &str) -> bool {
    report.entries.iter().any(|entry| entry.case.id == id && matches!(entry.verdict, Verdict::Passed))
}
