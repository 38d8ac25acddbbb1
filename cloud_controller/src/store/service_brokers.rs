//! Service brokers.

use crate::{
    domain::Result,
    store::{Conn, schema::service_brokers},
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "service_brokers";

/// A broker as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_brokers, primary_key(guid), treat_none_as_null = true)]
pub struct Broker {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub url: String,
    pub username: String,
    /// Sealed for [`Broker::place`].
    pub password: Vec<u8>,
    /// Set for a space-scoped broker.
    pub space_guid: Option<String>,
    /// `SYNCHRONIZING`, `AVAILABLE`, `SYNCHRONIZATION_FAILED`, `DELETE_IN_PROGRESS`, `DELETE_FAILED`
    pub state: String,
}

impl Broker {
    /// Where the password of a broker belongs.
    pub fn place(guid: &str) -> String {
        format!("service_brokers.password:{guid}")
    }
}

/// Adds a broker; the name is a unique key.
pub fn insert(conn: &mut Conn, row: &Broker) -> QueryResult<()> {
    diesel::insert_into(service_brokers::table).values(row).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, row: &Broker) -> QueryResult<()> {
    diesel::update(service_brokers::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Removes a broker; its offerings must be gone.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(service_brokers::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Finds a broker.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Broker>> {
    Ok(service_brokers::table.find(guid).select(Broker::as_select()).first(conn).optional()?)
}
