//! Work at brokers that is under way.

use crate::{
    domain::Result,
    store::{Conn, schema::service_operations},
};
use diesel::prelude::*;

/// An operation as the table has it. The row is gone when the work ended.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_operations, primary_key(guid), treat_none_as_null = true)]
pub struct Operation {
    /// That of its job, when it has one; every repeat goes to the broker under it.
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// `broker.synchronize`, `broker.delete`, `instance.create`, ...
    pub kind: String,
    /// `call`, `poll` or `fetch`
    pub step: String,
    pub resource_guid: String,
    /// Whose request it was.
    pub user_guid: Option<String>,
    /// Sealed JSON: what the next call needs. Sealed for [`Operation::place`].
    pub payload: Vec<u8>,
    /// What the broker wants to be asked with.
    pub broker_operation: Option<String>,
    pub attempts: i32,
    pub next_at: i64,
    pub deadline_at: i64,
    /// A worker has it until then.
    pub lease_until: i64,
    /// Whom it asks; none: it waits for other operations.
    pub broker_guid: Option<String>,
    /// Which worker has it.
    pub lease_owner: Option<String>,
}

impl Operation {
    /// Where the payload of an operation belongs.
    pub fn place(guid: &str) -> String {
        format!("service_operations.payload:{guid}")
    }
}

/// Adds an operation; kind and resource are a unique key.
pub fn insert(conn: &mut Conn, row: &Operation) -> QueryResult<()> {
    diesel::insert_into(service_operations::table).values(row).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, row: &Operation) -> QueryResult<()> {
    diesel::update(service_operations::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Removes an operation that ended.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(service_operations::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Finds an operation.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Operation>> {
    Ok(service_operations::table.find(guid).select(Operation::as_select()).first(conn).optional()?)
}

/// Finds the operation of this kind for a resource.
pub fn find_of(conn: &mut Conn, kind: &str, resource: &str) -> Result<Option<Operation>> {
    let query = service_operations::table
        .filter(service_operations::kind.eq(kind))
        .filter(service_operations::resource_guid.eq(resource));
    Ok(query.select(Operation::as_select()).first(conn).optional()?)
}
/// Guid and broker of what is due and not leased, the longest due first; without the work of `busy` brokers.
pub fn due(conn: &mut Conn, now: i64, busy: &[String], at_most: usize) -> Result<Vec<(String, Option<String>)>> {
    let query = service_operations::table
        .filter(service_operations::next_at.le(now))
        .filter(service_operations::lease_until.le(now))
        .filter(service_operations::broker_guid.is_null().or(service_operations::broker_guid.ne_all(busy)))
        .order((service_operations::next_at, service_operations::guid))
        .limit(i64::try_from(at_most).unwrap_or(i64::MAX));
    Ok(query.select((service_operations::guid, service_operations::broker_guid)).load(conn)?)
}
/// When the next operation is due that is not yet.
pub fn next(conn: &mut Conn, now: i64) -> Result<Option<i64>> {
    let query = service_operations::table.filter(service_operations::next_at.gt(now));
    Ok(query.select(diesel::dsl::min(service_operations::next_at)).first(conn)?)
}
/// Makes the operation of this kind for a resource due; false: there is none.
pub fn wake(conn: &mut Conn, kind: &str, resource: &str, now: i64) -> Result<bool> {
    let query = service_operations::table
        .filter(service_operations::kind.eq(kind))
        .filter(service_operations::resource_guid.eq(resource));
    Ok(diesel::update(query).set(service_operations::next_at.eq(now)).execute(conn)? > 0)
}
/// Gives back what this worker has, to be taken at `at`.
pub fn postpone(conn: &mut Conn, guid: &str, owner: &str, at: i64) -> Result<()> {
    // One that could not even be taken has no owner.
    let query = service_operations::table
        .find(guid)
        .filter(service_operations::lease_owner.eq(owner).or(service_operations::lease_owner.is_null()));
    let changes = (
        service_operations::next_at.eq(at),
        service_operations::lease_until.eq(0),
        service_operations::lease_owner.eq(None::<String>),
    );
    diesel::update(query).set(changes).execute(conn)?;
    Ok(())
}
/// Keeps what this worker has until `until`.
pub fn renew(conn: &mut Conn, owner: &str, guids: &[String], until: i64) -> Result<()> {
    let query = service_operations::table
        .filter(service_operations::guid.eq_any(guids))
        .filter(service_operations::lease_owner.eq(owner));
    diesel::update(query).set(service_operations::lease_until.eq(until)).execute(conn)?;
    Ok(())
}
/// Nobody has anything.
pub fn forget_leases(conn: &mut Conn) -> Result<()> {
    let nobody = (service_operations::lease_until.eq(0), service_operations::lease_owner.eq(None::<String>));
    diesel::update(service_operations::table).set(nobody).execute(conn)?;
    Ok(())
}
