//! Audit events: written in the transaction of the change that they tell.

use crate::{
    domain::{Result, Tx},
    store::audit::{self, EventRow},
};
use serde_json::Value;

/// Shown instead of a value that must not be seen.
pub const HIDDEN: &str = "[PRIVATE DATA HIDDEN]";

/// What happened to what.
#[derive(Clone, Debug)]
pub struct Event<'a> {
    /// `audit.app.create`
    pub kind: &'a str,
    /// Kind, guid and name of what it happened to; the app for everything below an app.
    pub target: (&'a str, &'a str, &'a str),
    /// The space, if there is one; then the organization must be named too.
    pub space: Option<&'a str>,
    /// The organization, if there is one.
    pub org: Option<&'a str>,
    /// Details; `{}` where there are none.
    pub data: Value,
}

/// Who did it, when it was not the caller.
#[derive(Clone, Debug)]
pub struct Actor<'a> {
    /// `user`, `system`, `process`, `app`, `service_broker`
    pub kind: &'a str,
    /// Its guid.
    pub guid: &'a str,
    /// Its name.
    pub name: &'a str,
}

/// Writes an event of the caller.
pub fn record(tx: &mut Tx<'_>, event: Event<'_>) -> Result<()> {
    let caller = tx.who.caller.clone();
    let name = caller.email.as_deref().unwrap_or(&caller.name);
    let kind = if caller.is_system() { "system" } else { "user" };
    record_as(tx, Actor { kind, guid: &caller.guid, name }, event)
}

/// Writes an event of somebody else (a crashed process, ...).
pub fn record_as(tx: &mut Tx<'_>, actor: Actor<'_>, event: Event<'_>) -> Result<()> {
    let (target_kind, target_guid, target_name) = event.target;
    let row = EventRow {
        guid: tx.guid(),
        created_at: tx.micros(),
        kind: event.kind.to_owned(),
        actor_guid: actor.guid.to_owned(),
        actor_kind: actor.kind.to_owned(),
        actor_name: actor.name.to_owned(),
        target_guid: target_guid.to_owned(),
        target_kind: target_kind.to_owned(),
        target_name: target_name.to_owned(),
        data: event.data.to_string(),
        space_guid: event.space.map(str::to_owned),
        org_guid: event.org.map(str::to_owned),
    };
    audit::insert(tx.conn, &row)
}
