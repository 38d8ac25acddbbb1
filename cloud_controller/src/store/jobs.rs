//! Jobs: what an answer 202 points to.

use crate::{
    domain::{Error, Result, Tx},
    store::{
        Conn,
        schema::{jobs, service_operations},
    },
};
use diesel::prelude::*;
use serde_json::json;

/// A job as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = jobs)]
pub struct Job {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// `app.delete`, ...
    pub operation: String,
    /// `PROCESSING`, `POLLING`, `COMPLETE`, `FAILED`
    pub state: String,
    /// The collection in the API that the resource is in: `apps`.
    pub resource_kind: Option<String>,
    pub resource_guid: Option<String>,
    /// JSON array of `{code, title, detail}`.
    pub errors: String,
    /// JSON array of `{detail}`.
    pub warnings: String,
    /// What a worker needs to go on with it, as JSON.
    pub payload: Option<String>,
}

fn insert(tx: &mut Tx<'_>, operation: &str, resource: Option<(&str, &str)>, state: &str, payload: Option<String>) -> Result<Job> {
    let job = Job {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        operation: operation.to_owned(),
        state: state.to_owned(),
        resource_kind: resource.map(|(kind, _)| kind.to_owned()),
        resource_guid: resource.map(|(_, guid)| guid.to_owned()),
        errors: "[]".into(),
        warnings: "[]".into(),
        payload,
    };
    diesel::insert_into(jobs::table).values(&job).execute(tx.conn)?;
    Ok(job)
}

/// Writes a job whose work was done in this same transaction.
pub fn done(tx: &mut Tx<'_>, operation: &str, resource: Option<(&str, &str)>) -> Result<Job> {
    insert(tx, operation, resource, "COMPLETE", None)
}

/// Writes a job whose work follows.
pub fn begin(tx: &mut Tx<'_>, operation: &str, resource: Option<(&str, &str)>, payload: Option<String>) -> Result<Job> {
    insert(tx, operation, resource, "PROCESSING", payload)
}

/// Notes why the work of a job cannot be done.
pub fn fail(tx: &mut Tx<'_>, guid: &str, why: &Error) -> Result<()> {
    let entries: Vec<_> =
        why.entries().into_iter().map(|(code, title, detail)| json!({"code": code, "title": title, "detail": detail})).collect();
    let changes = (jobs::state.eq("FAILED"), jobs::errors.eq(json!(entries).to_string()), jobs::updated_at.eq(tx.micros()));
    diesel::update(jobs::table.filter(jobs::guid.eq(guid))).set(changes).execute(tx.conn)?;
    Ok(())
}

/// Notes that the work of a job goes on elsewhere, and is asked for from time to time.
pub fn poll(tx: &mut Tx<'_>, guid: &str) -> Result<()> {
    let changes = (jobs::state.eq("POLLING"), jobs::updated_at.eq(tx.micros()));
    diesel::update(jobs::table.filter(jobs::guid.eq(guid))).set(changes).execute(tx.conn)?;
    Ok(())
}

/// Notes that the work of a job is done, with what the user should know.
pub fn complete(tx: &mut Tx<'_>, guid: &str, warnings: &[String]) -> Result<()> {
    let warnings: Vec<_> = warnings.iter().map(|detail| json!({ "detail": detail })).collect();
    let changes = (jobs::state.eq("COMPLETE"), jobs::warnings.eq(json!(warnings).to_string()), jobs::updated_at.eq(tx.micros()));
    diesel::update(jobs::table.filter(jobs::guid.eq(guid))).set(changes).execute(tx.conn)?;
    Ok(())
}

/// Finds a job.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Job>> {
    Ok(jobs::table.find(guid).select(Job::as_select()).first(conn).optional()?)
}

/// Jobs whose work is not done, oldest first: those that a stop of this process interrupted. Work at brokers goes on by itself.
pub fn unfinished(conn: &mut Conn) -> Result<Vec<Job>> {
    let at_brokers = service_operations::table.select(service_operations::guid);
    let query = jobs::table.filter(jobs::state.eq("PROCESSING")).filter(jobs::guid.ne_all(at_brokers));
    let query = query.order((jobs::created_at, jobs::guid));
    Ok(query.select(Job::as_select()).load(conn)?)
}

/// Forgets jobs that ended before `before` (microseconds); returns how many.
pub fn forget(conn: &mut Conn, before: i64) -> Result<usize> {
    let old = jobs::table.filter(jobs::updated_at.lt(before)).filter(jobs::state.ne_all(["PROCESSING", "POLLING"]));
    Ok(diesel::delete(old).execute(conn)?)
}
