//! Roles of users in organizations and spaces.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::roles,
    },
};
use diesel::prelude::*;

/// A role as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = roles)]
pub struct RoleRow {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// `organization_manager`, `space_developer`, ...
    pub kind: String,
    pub user_guid: String,
    /// Also set for roles in a space.
    pub org_guid: String,
    pub space_guid: Option<String>,
    /// The space of a role in a space, else the organization.
    pub scope_guid: String,
}

/// All roles of a user.
pub fn of_user(conn: &mut Conn, user: &str) -> Result<Vec<RoleRow>> {
    Ok(roles::table.filter(roles::user_guid.eq(user)).select(RoleRow::as_select()).load(conn)?)
}

/// Adds a role; user, scope and kind are a unique key.
pub fn insert(conn: &mut Conn, role: &RoleRow) -> QueryResult<()> {
    diesel::insert_into(roles::table).values(role).execute(conn).map(drop)
}

/// Removes a role.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(roles::table.find(guid)).execute(conn)?;
    Ok(())
}

/// True when a user has this role.
pub fn has(conn: &mut Conn, user: &str, scope: &str, kind: &str) -> Result<bool> {
    let query = roles::table.filter(roles::user_guid.eq(user).and(roles::scope_guid.eq(scope)).and(roles::kind.eq(kind)));
    let found: i64 = query.count().get_result(conn)?;
    Ok(found > 0)
}

/// True when a user has a role in a space of this organization.
pub fn in_spaces_of(conn: &mut Conn, user: &str, org: &str) -> Result<bool> {
    let query = roles::table.filter(roles::user_guid.eq(user).and(roles::org_guid.eq(org)).and(roles::space_guid.is_not_null()));
    let found: i64 = query.count().get_result(conn)?;
    Ok(found > 0)
}

/// Roles that the caller sees: of organizations that it sees, of spaces that it reads (R).
fn visible(who: &Access) -> roles::BoxedQuery<'static, Db> {
    let query = roles::table.into_boxed();
    if who.global_reader() {
        return query;
    }
    let of_orgs = roles::space_guid.is_null().and(roles::org_guid.eq_any(who.own_orgs()));
    let of_spaces = roles::scope_guid.eq_any(who.own_spaces());
    let of_managed = roles::org_guid.eq_any(who.orgs_with(&[OrgRole::Manager]));
    query.filter(of_orgs.or(of_spaces).or(of_managed))
}

/// Finds a role that the caller sees.
pub fn find(conn: &mut Conn, who: &Access, guid: &str) -> Result<Option<RoleRow>> {
    let query = visible(who).filter(roles::guid.eq(guid.to_owned()));
    Ok(query.select(RoleRow::as_select()).first(conn).optional()?)
}

/// A page of the roles that the caller sees.
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<RoleRow>> {
    let filtered = || {
        let mut query = visible(who);
        query::filter_common!(query, roles, list);
        if let Some(kinds) = list.values("types") {
            query = query.filter(roles::kind.eq_any(kinds));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(roles::scope_guid.eq_any(orgs));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(roles::scope_guid.eq_any(spaces));
        }
        if let Some(users) = list.values("user_guids") {
            query = query.filter(roles::user_guid.eq_any(users));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, roles, list, "updated_at" => roles::updated_at);
    Ok(Listed { rows: query.select(RoleRow::as_select()).load(conn)?, total })
}
