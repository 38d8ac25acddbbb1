//! Organizations.

use crate::{
    domain::{Access, Result},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::orgs,
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "orgs";

/// An organization as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = orgs, primary_key(guid))]
pub struct Org {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub name_key: String,
    pub suspended: bool,
    pub deleting: bool,
    pub quota_guid: String,
}

/// Adds an organization; the name is a unique key.
pub fn insert(conn: &mut Conn, org: &Org) -> QueryResult<()> {
    diesel::insert_into(orgs::table).values(org).execute(conn).map(drop)
}

/// Writes all columns; the name is a unique key.
pub fn save(conn: &mut Conn, org: &Org) -> QueryResult<()> {
    diesel::update(orgs::table.find(&org.guid)).set(org).execute(conn).map(drop)
}

/// Removes an organization and its roles.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(orgs::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Finds an organization.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Org>> {
    Ok(orgs::table.find(guid).select(Org::as_select()).first(conn).optional()?)
}

/// True when an organization has this name, without regard to case.
pub fn has_name(conn: &mut Conn, name: &str) -> Result<bool> {
    let query = orgs::table.filter(orgs::name_key.eq(query::key(name))).select(orgs::guid);
    Ok(query.first::<String>(conn).optional()?.is_some())
}

/// Organizations by guid.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<Org>> {
    let query = orgs::table.filter(orgs::guid.eq_any(guids)).order((orgs::created_at, orgs::guid));
    Ok(query.select(Org::as_select()).load(conn)?)
}

/// A page of the organizations that the caller sees.
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<Org>> {
    let filtered = || -> orgs::BoxedQuery<'static, Db> {
        let mut query = orgs::table.into_boxed();
        if !who.global_reader() {
            query = query.filter(orgs::guid.eq_any(who.own_orgs()));
        }
        query::filter_common!(query, orgs, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(orgs::name_key.eq_any(names));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, orgs, list, "updated_at" => orgs::updated_at, "name" => orgs::name_key);
    Ok(Listed { rows: query.select(Org::as_select()).load(conn)?, total })
}

/// Locks the row until the commit, which puts those who count against its quota in a line.
pub fn lock(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::update(orgs::table.find(guid)).set(orgs::updated_at.eq(orgs::updated_at)).execute(conn)?;
    Ok(())
}
