//! Roles of users in organizations and spaces.

use crate::{
    domain::Result,
    store::{Conn, schema::roles},
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
