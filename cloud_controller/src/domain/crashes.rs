//! Instances that ended by themselves.

use crate::{
    domain::{
        Result, Scope, Tx,
        audit::{self, Actor, Event},
    },
    store::apps::{self, App},
};
use cloud_controller_client::CrashReport;
use serde_json::{Value, json};

/// How much of the reason events keep.
const MOST_TEXT: usize = 1_000;

fn data(report: &CrashReport) -> Value {
    let description: String = report.exit_description.chars().take(MOST_TEXT).collect();
    let cell = report.dea.map_or_else(String::new, |dea| dea.to_string());
    json!({
        "instance": report.instance, "index": report.index, "cell_id": cell, "exit_status": report.exit_status,
        "exit_description": description, "reason": "CRASHED", "crash_count": report.crash_count,
        "crash_timestamp": report.at.as_secs(), "version": report.version,
    })
}

/// Writes the events of a crash; nothing for an app that is gone.
pub fn record(tx: &mut Tx<'_>, report: &CrashReport) -> Result<Option<(App, Scope)>> {
    let guid = report.app.to_string();
    let Some((app, space, org)) = apps::find_with_scope(tx.conn, &guid)? else { return Ok(None) };
    let process = report.process.to_string();
    let kind = crate::store::processes::find(tx.conn, &process)?.map_or_else(String::new, |process| process.kind);
    let event = |kind| Event {
        kind,
        target: ("app", &app.guid, &app.name),
        space: Some(&space.guid),
        org: Some(&org.guid),
        data: data(report),
    };
    audit::record_as(tx, Actor { kind: "app", guid: &app.guid, name: &app.name }, event("app.crash"))?;
    audit::record_as(tx, Actor { kind: "process", guid: &process, name: &kind }, event("audit.app.process.crash"))?;
    Ok(Some((app, Scope { space, org })))
}

/// The line of the app's log.
pub fn line(report: &CrashReport) -> String {
    format!("App instance exited with guid {} payload: {}", report.app, data(report))
}
