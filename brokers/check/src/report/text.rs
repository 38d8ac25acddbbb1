//! For people.

use super::{Ending, Entry, Report, Verdict};
use crate::{
    case::Finding,
    http::{Answered, Exchange},
};
use anstyle::{AnsiColor, Style};
use std::fmt::Write;

const BAD: Style = AnsiColor::Red.on_default().bold();
const MILD: Style = AnsiColor::Yellow.on_default().bold();
const GOOD: Style = AnsiColor::Green.on_default().bold();
const DIM: Style = Style::new().dimmed();

/// Answered headers that say something about the contract.
const HEADERS: [&str; 6] =
    ["content-type", "retry-after", "location", "etag", "www-authenticate", "x-broker-api-request-identity"];
/// How much of a body is shown.
const SHOWN_CHARS: usize = 1_000;

/// All findings and a summary, with colours as terminal sequences: to be printed through something that takes them out again
/// where they do not belong. Nothing of the broker's own text can be such a sequence.
pub fn text(report: &Report) -> String {
    let mut out = String::new();
    for (entry, finding) in report.broken() {
        let (style, word) = if report.counts(entry) { (BAD, "FINDING") } else { (MILD, "ADVICE") };
        let plan = entry.plan.as_deref().map_or(String::new(), |plan| format!(" in plan {}", clean(plan)));
        let _ = writeln!(out, "{style}{word}{style:#} {} {DIM}(section \"{}\"){DIM:#}{plan}", entry.case.id, entry.case.section);
        let _ = writeln!(out, "  Rule      {}", entry.case.title);
        out += &explain(finding);
        out.push('\n');
    }
    out += &summary(report);
    out
}

/// A finding without its heading, in plain text.
pub(crate) fn explain(finding: &Finding) -> String {
    let mut out = String::new();
    if let Some(exchange) = &finding.exchange {
        asked(&mut out, exchange);
        answered(&mut out, &exchange.answered);
    }
    part(&mut out, "Expected", &finding.expected);
    part(&mut out, "Found", finding.found.trim_matches('\n'));
    if finding.repeats > 0 {
        part(&mut out, "", &format!("({} more times)", finding.repeats));
    }
    out
}

fn asked(out: &mut String, exchange: &Exchange) {
    let asked = &exchange.asked;
    part(out, "Asked", &format!("{} {}", asked.method, asked.path));
    for (name, value) in &asked.headers {
        part(out, "", &format!("{name}: {value}"));
    }
    if let Some(body) = &asked.body {
        part(out, "", &cut(body));
    }
}

fn answered(out: &mut String, answered: &Answered) {
    let Some(status) = answered.status else {
        return part(out, "Answered", &format!("nothing, after {} ms", answered.took.as_millis()));
    };
    part(out, "Answered", &format!("{status}, after {} ms", answered.took.as_millis()));
    for (name, value) in answered.headers.iter().filter(|(name, _)| HEADERS.contains(&name.as_str())) {
        part(out, "", &format!("{name}: {value}"));
    }
    part(out, "", if answered.body.is_empty() { "(no body)".to_owned() } else { cut(&answered.body) }.as_str());
}

/// A label and text that may have several lines.
fn part(out: &mut String, label: &str, text: &str) {
    for (index, line) in text.lines().enumerate() {
        let label = if index == 0 { label } else { "" };
        let _ = writeln!(out, "  {label:<9} {}", clean(line));
    }
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(SHOWN_CHARS) {
        Some((end, _)) => format!("{}… ({} bytes)", &text[..end], text.len()),
        None => text.to_owned(),
    }
}

/// Without control characters, which could fool a terminal.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

fn summary(report: &Report) -> String {
    let mut out = String::new();
    let passed = report.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Passed)).count();
    let skipped = report.entries.iter().filter(|entry| matches!(entry.verdict, Verdict::Skipped(_))).count();
    let (findings, advice) = report.totals();
    match &report.ending {
        Ending::Complete => {}
        Ending::TimeLimit => out += "The time limit came before the end; what follows was not looked at.\n",
        Ending::Stopped => out += "Stopped before the end.\n",
        Ending::Unreachable(why) => {
            let _ = writeln!(out, "{BAD}Nobody answers{BAD:#} at {}: {}", clean(&report.broker), clean(why));
        }
        Ending::NoPlan => {
            let _ = writeln!(out, "{BAD}No plan{BAD:#} of the catalog fits --service and --plan.");
        }
    }
    let (style, word) = match report.exit_code() {
        0 => (GOOD, "PASSED"),
        1 => (BAD, "FAILED"),
        _ => (BAD, "INCOMPLETE"),
    };
    let _ = writeln!(
        out,
        "{style}{word}{style:#}: {}, {}, {passed} passed, {skipped} not applicable; version {} of the API, {:.1} s",
        number(findings, "finding", "findings"),
        number(advice, "piece of advice", "pieces of advice"),
        report.version,
        report.took.as_secs_f32()
    );
    out
}

fn number(count: usize, one: &str, many: &str) -> String {
    if count == 1 { format!("1 {one}") } else { format!("{count} {many}") }
}

/// One line for a verdict, as it is reached.
pub(crate) fn line(entry: &Entry) -> String {
    let plan = clean(entry.plan.as_deref().unwrap_or("(broker)"));
    let id = entry.case.id;
    match &entry.verdict {
        Verdict::Passed => format!("{GOOD}ok{GOOD:#}      {plan}  {id}"),
        Verdict::Skipped(why) => format!("{DIM}skipped {plan}  {id}: {}{DIM:#}", clean(why)),
        Verdict::Broken(finding) => format!("{BAD}broken{BAD:#}  {plan}  {id}: {}", clean(&finding.found)),
    }
}
