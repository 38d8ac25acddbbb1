//! For programs.

use super::{Ending, Report, Verdict};
use crate::{
    case::{Finding, Severity},
    http::Exchange,
};
use serde_json::{Map, Value, json};

/// The whole report as one JSON object.
pub fn json(report: &Report) -> Value {
    let (findings, advice) = report.totals();
    let ending = match &report.ending {
        Ending::Complete => "complete",
        Ending::TimeLimit => "time limit",
        Ending::Stopped => "stopped",
        Ending::Unreachable(_) => "unreachable",
        Ending::NoPlan => "no plan",
    };
    let cases: Vec<_> = report
        .entries
        .iter()
        .map(|entry| {
            let mut case = json!({
                "id": entry.case.id,
                "section": entry.case.section,
                "rule": entry.case.title,
                "severity": match entry.case.severity { Severity::Must => "must", Severity::Should => "should" },
                "plan": entry.plan,
            });
            match &entry.verdict {
                Verdict::Passed => case["verdict"] = json!("passed"),
                Verdict::Skipped(why) => {
                    case["verdict"] = json!("skipped");
                    case["why"] = json!(why);
                }
                Verdict::Broken(finding) => {
                    case["verdict"] = json!(if report.counts(entry) { "finding" } else { "advice" });
                    case["finding"] = finding_json(finding);
                }
            }
            case
        })
        .collect();
    json!({
        "broker": report.broker,
        "version": report.version.to_string(),
        "ending": ending,
        "exit_code": report.exit_code(),
        "findings": findings,
        "advice": advice,
        "took_ms": u64::try_from(report.took.as_millis()).unwrap_or(u64::MAX),
        "cases": cases,
    })
}

fn finding_json(finding: &Finding) -> Value {
    json!({
        "expected": finding.expected,
        "found": finding.found,
        "repeats": finding.repeats,
        "exchange": finding.exchange.as_ref().map(exchange_json),
    })
}

fn exchange_json(exchange: &Exchange) -> Value {
    let headers = |all: &[(String, String)]| {
        Value::Object(all.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>())
    };
    let (asked, answered) = (&exchange.asked, &exchange.answered);
    json!({
        "asked": {"method": asked.method, "path": asked.path, "headers": headers(&asked.headers), "body": asked.body},
        "answered": {
            "status": answered.status, "failure": answered.failure, "headers": headers(&answered.headers), "body": answered.body,
            "took_ms": u64::try_from(answered.took.as_millis()).unwrap_or(u64::MAX),
        },
    })
}
