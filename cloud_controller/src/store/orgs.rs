//! Organizations.

use crate::{
    domain::Result,
    store::{Conn, schema::orgs},
};
use diesel::prelude::*;

/// An organization as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = orgs)]
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

/// Finds an organization.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Org>> {
    Ok(orgs::table.find(guid).select(Org::as_select()).first(conn).optional()?)
}

/// Organizations by guid.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<Org>> {
    let query = orgs::table.filter(orgs::guid.eq_any(guids)).order((orgs::created_at, orgs::guid));
    Ok(query.select(Org::as_select()).load(conn)?)
}
