//! The feed of the desired state: the newest change of each process and each build, ordered by one counter.

use crate::{
    domain::{Error, Hint, Result, Tx},
    store::{
        Conn,
        schema::{change_counter, desired_changes},
    },
};
use cloud_controller_client::{Desired, DesiredChange, DesiredPage};
use diesel::prelude::*;

/// Writes the newest state of a process or build; the hint to look goes out after the commit.
///
/// The counter's row stays locked until then, so changes become visible in the order of their numbers: a reader that has
/// seen a number has seen all below it.
pub fn put(tx: &mut Tx<'_>, what: &Desired) -> Result<u64> {
    let (kind, guid, gone) = match what {
        Desired::Process(process) => ("process", process.process.to_string(), false),
        Desired::NoProcess { process } => ("process", process.to_string(), true),
        Desired::Build(build) => ("build", build.build.to_string(), false),
        Desired::NoBuild { build } => ("build", build.to_string(), true),
    };
    diesel::update(change_counter::table).set(change_counter::newest.eq(change_counter::newest + 1)).execute(tx.conn)?;
    let change: i64 = change_counter::table.select(change_counter::newest).first(tx.conn)?;
    let payload = serde_json::to_string(what).map_err(|e| Error::internal("writing the feed", e))?;
    let row = (
        desired_changes::change.eq(change),
        desired_changes::gone.eq(gone),
        desired_changes::changed_at.eq(tx.micros()),
        desired_changes::payload.eq(payload),
    );
    let of_object = desired_changes::table.filter(desired_changes::kind.eq(kind).and(desired_changes::object_guid.eq(&guid)));
    if diesel::update(of_object).set(row.clone()).execute(tx.conn)? == 0 {
        let key = (desired_changes::kind.eq(kind), desired_changes::object_guid.eq(&guid));
        diesel::insert_into(desired_changes::table).values((key, row)).execute(tx.conn)?;
    }
    let change = change.unsigned_abs();
    tx.hints.retain(|hint| !matches!(hint, Hint::Desired(_)));
    tx.hint(Hint::Desired(change));
    Ok(change)
}

/// Changes after `after`, oldest first, at most `limit`.
pub fn page(conn: &mut Conn, after: u64, limit: u32) -> Result<DesiredPage> {
    let after_key = i64::try_from(after).unwrap_or(i64::MAX);
    let query = desired_changes::table
        .filter(desired_changes::change.gt(after_key))
        .order(desired_changes::change)
        .limit(i64::from(limit) + 1)
        .select((desired_changes::change, desired_changes::payload));
    let mut rows: Vec<(i64, String)> = query.load(conn)?;
    let complete = rows.len() <= limit as usize;
    rows.truncate(limit as usize);
    let next = rows.last().map_or(after, |(change, _)| change.unsigned_abs());
    let read = |(change, payload): (i64, String)| {
        let what: Desired = serde_json::from_str(&payload).map_err(|e| Error::internal("reading the feed", e))?;
        Ok(DesiredChange { change: change.unsigned_abs(), what })
    };
    Ok(DesiredPage { changes: rows.into_iter().map(read).collect::<Result<_>>()?, next, complete })
}

/// Forgets what went away before `before` (microseconds); returns how many.
///
/// A reader that was away for longer than that starts from zero.
pub fn forget_gone(conn: &mut Conn, before: i64) -> Result<usize> {
    let old = desired_changes::table.filter(desired_changes::gone.eq(true).and(desired_changes::changed_at.lt(before)));
    Ok(diesel::delete(old).execute(conn)?)
}
