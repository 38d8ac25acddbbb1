//! Service brokers.

use crate::{
    domain::{Access, Result, SpaceRole},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::{service_brokers, service_instances, service_offerings, service_plans, spaces},
    },
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

/// Finds a broker by name; case counts.
pub fn find_named(conn: &mut Conn, name: &str) -> Result<Option<Broker>> {
    Ok(service_brokers::table.filter(service_brokers::name.eq(name)).select(Broker::as_select()).first(conn).optional()?)
}
/// Spaces that have brokers, with their organizations.
pub fn spaces(conn: &mut Conn) -> Result<Vec<(String, String)>> {
    let query = service_brokers::table
        .inner_join(spaces::table.on(service_brokers::space_guid.eq(spaces::guid.nullable())))
        .select((spaces::guid, spaces::org_guid))
        .distinct();
    Ok(query.load(conn)?)
}
/// The space-scoped brokers of a space.
pub fn of_space(conn: &mut Conn, space: &str) -> Result<Vec<Broker>> {
    let query = service_brokers::table.filter(service_brokers::space_guid.eq(space));
    Ok(query.order((service_brokers::created_at, service_brokers::guid)).select(Broker::as_select()).load(conn)?)
}
/// True when somebody has an instance of one of its plans.
pub fn in_use(conn: &mut Conn, guid: &str) -> Result<bool> {
    let count: i64 = service_instances::table
        .inner_join(service_plans::table.on(service_instances::plan_guid.eq(service_plans::guid.nullable())))
        .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .filter(service_offerings::broker_guid.eq(guid))
        .count()
        .get_result(conn)?;
    Ok(count > 0)
}

/// Roles with which the brokers of a space are seen.
pub const READERS: [SpaceRole; 2] = [SpaceRole::Developer, SpaceRole::Supporter];

/// A page of the brokers that the caller sees: all, or those of the own spaces.
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<Broker>> {
    let filtered = || -> service_brokers::BoxedQuery<'static, Db> {
        let mut query = service_brokers::table.into_boxed();
        if !who.global_reader() {
            query = query.filter(service_brokers::space_guid.assume_not_null().eq_any(who.spaces_with(&READERS)));
        }
        query::filter_common!(query, service_brokers, list, KIND);
        if let Some(names) = list.values("names") {
            query = query.filter(service_brokers::name.eq_any(names));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(service_brokers::space_guid.assume_not_null().eq_any(spaces));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, service_brokers, list, "updated_at" => service_brokers::updated_at, "name" => service_brokers::name);
    Ok(Listed { rows: query.select(Broker::as_select()).load(conn)?, total })
}
