//! App usage events.

use crate::{
    domain::{Error, Result, Scope, Tx},
    store::{
        app_usage::{self as store, AppUsageEvent},
        apps::App,
        processes::{self, Process},
    },
};

/// Writes that all processes of an app were started, or stopped.
pub fn turned(tx: &mut Tx<'_>, app: &App, scope: &Scope, on: bool) -> Result<()> {
    let states = if on { ("STARTED", "STOPPED") } else { ("STOPPED", "STARTED") };
    let first = store::next_position(tx.conn)?;
    let all = processes::of_app(tx.conn, &app.guid)?;
    let events: Vec<AppUsageEvent> =
        (first..).zip(&all).map(|(position, process)| event(tx, position, states, (app, scope), process, process)).collect();
    Ok(store::insert(tx.conn, &events)?)
}

/// Writes that a process of a started app has other memory, or another number of instances.
pub fn scaled(tx: &mut Tx<'_>, app: &App, scope: &Scope, process: &Process, before: &Process) -> Result<()> {
    if !app.started() || (process.instances, process.memory_mb) == (before.instances, before.memory_mb) {
        return Ok(());
    }
    let position = store::next_position(tx.conn)?;
    let event = event(tx, position, ("STARTED", "STARTED"), (app, scope), process, before);
    Ok(store::insert(tx.conn, &[event])?)
}

/// Forgets all events, and writes that everything that is started was started now (A).
pub fn purge_and_reseed(tx: &mut Tx<'_>) -> Result<()> {
    tx.who.require_admin()?;
    store::purge(tx.conn)?;
    let all = store::started(tx.conn)?;
    let events: Vec<AppUsageEvent> = (1..)
        .zip(all)
        .map(|(position, (process, app, space, org))| {
            let scope = Scope { space, org };
            event(tx, position, ("STARTED", "STOPPED"), (&app, &scope), &process, &process)
        })
        .collect();
    Ok(store::insert(tx.conn, &events)?)
}

/// Finds an event (G).
///
/// # Errors
/// [`Error::NotFound`].
pub fn find(tx: &mut Tx<'_>, guid: &str) -> Result<AppUsageEvent> {
    let found = if tx.who.global_reader() { store::find(tx.conn, guid)? } else { None };
    found.ok_or(Error::NotFound("App usage event"))
}

fn event(
    tx: &mut Tx<'_>,
    position: i64,
    states: (&str, &str),
    (app, scope): (&App, &Scope),
    process: &Process,
    before: &Process,
) -> AppUsageEvent {
    AppUsageEvent {
        guid: tx.guid(),
        position,
        created_at: tx.micros(),
        state: states.0.to_owned(),
        previous_state: states.1.to_owned(),
        app_guid: app.guid.clone(),
        app_name: app.name.clone(),
        process_guid: process.guid.clone(),
        process_kind: process.kind.clone(),
        space_guid: scope.space.guid.clone(),
        space_name: scope.space.name.clone(),
        org_guid: scope.org.guid.clone(),
        memory_mb: process.memory_mb,
        previous_memory_mb: before.memory_mb,
        instances: process.instances,
        previous_instances: before.instances,
    }
}
