//! For build servers: one suite for the broker, one for each plan; each case is a test.

use super::{Entry, Report, Verdict, explain};
use crate::case::Severity;
use quick_xml::{
    Writer,
    events::{BytesDecl, BytesText, Event},
};
use std::io;

/// The report as JUnit XML. Advice that does not count is a passed test with a note.
///
/// # Errors
/// None happen: it is written to memory.
pub fn junit(report: &Report) -> io::Result<String> {
    let mut suites: Vec<(String, Vec<&Entry>)> = vec![];
    for entry in &report.entries {
        let name = entry.plan.clone().unwrap_or_else(|| "broker".to_owned());
        match suites.iter_mut().find(|(other, _)| *other == name) {
            Some((_, entries)) => entries.push(entry),
            None => suites.push((name, vec![entry])),
        }
    }
    let mut writer = Writer::new_with_indent(vec![], b' ', 2);
    writer.write_event(Event::Decl(BytesDecl::new("1.0", Some("UTF-8"), None)))?;
    let all: Vec<_> = report.entries.iter().collect();
    let mut element = writer.create_element("testsuites").with_attribute(("name", "Open Service Broker API"));
    for (name, value) in counts(report, &all) {
        element = element.with_attribute((name, value.as_str()));
    }
    element = element.with_attribute(("time", format!("{:.3}", report.took.as_secs_f32()).as_str()));
    element.write_inner_content(|writer| suites.iter().try_for_each(|(name, entries)| suite(writer, report, name, entries)))?;
    String::from_utf8(writer.into_inner()).map_err(|e| io::Error::new(io::ErrorKind::InvalidData, e))
}

fn counts(report: &Report, entries: &[&Entry]) -> [(&'static str, String); 3] {
    let count = |wanted: &dyn Fn(&Entry) -> bool| entries.iter().filter(|entry| wanted(entry)).count().to_string();
    [
        ("tests", entries.len().to_string()),
        ("failures", count(&|entry| matches!(entry.verdict, Verdict::Broken(_)) && report.counts(entry))),
        ("skipped", count(&|entry| matches!(entry.verdict, Verdict::Skipped(_)))),
    ]
}

fn suite(writer: &mut Writer<Vec<u8>>, report: &Report, name: &str, entries: &[&Entry]) -> io::Result<()> {
    let mut element = writer.create_element("testsuite").with_attribute(("name", legal(name).as_str()));
    for (name, value) in counts(report, entries) {
        element = element.with_attribute((name, value.as_str()));
    }
    element.write_inner_content(|writer| entries.iter().try_for_each(|entry| test(writer, report, name, entry)))?;
    Ok(())
}

fn test(writer: &mut Writer<Vec<u8>>, report: &Report, suite: &str, entry: &Entry) -> io::Result<()> {
    let element = writer
        .create_element("testcase")
        .with_attribute(("name", format!("{}: {}", entry.case.id, entry.case.title).as_str()))
        .with_attribute(("classname", legal(suite).as_str()));
    match &entry.verdict {
        Verdict::Passed => element.write_empty()?,
        Verdict::Skipped(why) => element.write_inner_content(|writer| {
            writer.create_element("skipped").with_attribute(("message", legal(why).as_str())).write_empty().map(|_| ())
        })?,
        Verdict::Broken(finding) => element.write_inner_content(|writer| {
            let text = legal(&format!("\n  Section   {}\n{}", entry.case.section, explain(finding)));
            let text = BytesText::new(&text);
            if !report.counts(entry) {
                return writer.create_element("system-out").write_text_content(text).map(|_| ());
            }
            let message = legal(&format!("expected {}; found {}", finding.expected, finding.found.trim()));
            let kind = if entry.case.severity == Severity::Must { "must" } else { "should" };
            let element =
                writer.create_element("failure").with_attribute(("type", kind)).with_attribute(("message", message.as_str()));
            element.write_text_content(text).map(|_| ())
        })?,
    };
    Ok(())
}

/// Only characters that XML 1.0 can hold, escaped or not.
fn legal(text: &str) -> String {
    let is_legal = |c: char| matches!(c, '\t' | '\n' | '\r' | ' '..='\u{d7ff}' | '\u{e000}'..='\u{fffd}' | '\u{10000}'..);
    text.chars().map(|c| if is_legal(c) { c } else { '\u{fffd}' }).collect()
}
