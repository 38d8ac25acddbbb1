//! Users that have been here, or that somebody gave a role.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn, Db,
        query::{self, List, Listed, key},
        schema::{roles, users},
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "users";

/// A user as the table has it. Name and origin are those of the newest token or look-up; none for clients.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = users)]
pub struct User {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub username: Option<String>,
    pub username_key: Option<String>,
    pub origin: Option<String>,
}

/// Makes the row of a user, or writes its new name.
pub fn know(conn: &mut Conn, guid: &str, username: Option<&str>, origin: Option<&str>, now: i64) -> Result<()> {
    let names = (users::username.eq(username), users::username_key.eq(username.map(key)), users::origin.eq(origin));
    match find(conn, guid)? {
        Some(user) if user.username.as_deref() == username && user.origin.as_deref() == origin => {}
        Some(_) => drop(diesel::update(users::table.find(guid)).set(names).execute(conn)?),
        None => {
            let row = (users::guid.eq(guid), users::created_at.eq(now), users::updated_at.eq(now), names);
            diesel::insert_into(users::table).values(row).execute(conn)?;
        }
    }
    Ok(())
}

/// Finds a user.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<User>> {
    Ok(users::table.find(guid).select(User::as_select()).first(conn).optional()?)
}

/// Users by guid, in order of creation.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<User>> {
    let query = users::table.filter(users::guid.eq_any(guids)).order((users::created_at, users::guid));
    Ok(query.select(User::as_select()).load(conn)?)
}

/// Removes a user and its roles.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(users::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Users that the caller sees: itself, and those with a role in an organization in which it has one.
fn visible(who: &Access) -> users::BoxedQuery<'static, Db> {
    let query = users::table.into_boxed();
    if who.global_reader() {
        return query;
    }
    let all = [OrgRole::User, OrgRole::Manager, OrgRole::Auditor, OrgRole::BillingManager];
    let shared = roles::table.select(roles::user_guid).filter(roles::org_guid.eq_any(who.orgs_with(&all)));
    query.filter(users::guid.eq(who.caller.guid.clone()).or(users::guid.eq_any(shared)))
}

/// Finds a user that the caller sees.
pub fn find_visible(conn: &mut Conn, who: &Access, guid: &str) -> Result<Option<User>> {
    let query = visible(who).filter(users::guid.eq(guid.to_owned()));
    Ok(query.select(User::as_select()).first(conn).optional()?)
}

/// Whose users are listed.
#[derive(Clone, Debug)]
pub enum Among {
    /// All that the caller sees.
    Visible,
    /// Those with any role in this organization.
    Org(String),
    /// Those with any role in this space.
    Space(String),
}

/// A page of users.
pub fn list(conn: &mut Conn, who: &Access, among: &Among, list: &List) -> Result<Listed<User>> {
    let filtered = || {
        let mut query = match among {
            Among::Visible => visible(who),
            Among::Org(org) => {
                let with_role = roles::table.select(roles::user_guid).filter(roles::org_guid.eq(org.clone()));
                users::table.filter(users::guid.eq_any(with_role)).into_boxed()
            }
            Among::Space(space) => {
                let with_role = roles::table.select(roles::user_guid).filter(roles::space_guid.eq(space.clone()));
                users::table.filter(users::guid.eq_any(with_role)).into_boxed()
            }
        };
        query::filter_common!(query, users, list, KIND);
        if let Some(names) = list.keys("usernames") {
            query = query.filter(users::username_key.eq_any(names));
        }
        if let Some(part) = list.keys("partial_usernames").and_then(|parts| parts.into_iter().next()) {
            let escaped = part.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
            query = query.filter(users::username_key.like(format!("%{escaped}%")).escape('\\'));
        }
        if let Some(origins) = list.values("origins") {
            query = query.filter(users::origin.eq_any(origins));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, users, list, "updated_at" => users::updated_at);
    Ok(Listed { rows: query.select(User::as_select()).load(conn)?, total })
}
