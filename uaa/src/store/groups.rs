//! Groups, and who is in them. The groups that everybody is in are not rows: see `domain::scopes`.

use super::{Db, is_taken, users::users};
use crate::domain::{Error, Result};
use diesel::prelude::*;

diesel::table! {
    groups (id) {
        id -> Text,
        display_name -> Text,
        description -> Text,
        version -> BigInt,
        created_at -> BigInt,
        updated_at -> BigInt,
    }
}

diesel::table! {
    group_members (group_id, user_id) {
        group_id -> Text,
        user_id -> Text,
    }
}

diesel::joinable!(group_members -> groups (group_id));
diesel::joinable!(group_members -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(groups, group_members, users);

/// A group: its name is a scope.
#[derive(Clone, Debug, Queryable, Insertable)]
#[diesel(table_name = groups)]
pub(crate) struct Group {
    pub(crate) id: String,
    pub(crate) display_name: String,
    pub(crate) description: String,
    pub(crate) version: i64,
    pub(crate) created_at: i64,
    pub(crate) updated_at: i64,
}

/// Adds a group. Fails with `GroupTaken` if there is one of that name.
pub(crate) fn insert(conn: &mut Db, group: &Group) -> Result<()> {
    match diesel::insert_into(groups::table).values(group).execute(conn) {
        Err(e) if is_taken(&e) => Err(Error::GroupTaken(group.display_name.clone())),
        other => Ok(other.map(|_| ())?),
    }
}

/// Finds a group.
pub(crate) fn find(conn: &mut Db, id: &str) -> Result<Option<Group>> {
    Ok(groups::table.find(id).first(conn).optional()?)
}

/// Finds a group by name.
pub(crate) fn find_by_name(conn: &mut Db, name: &str) -> Result<Option<Group>> {
    Ok(groups::table.filter(groups::display_name.eq(name)).first(conn).optional()?)
}

/// All groups by name, or the one of that name.
pub(crate) fn list(conn: &mut Db, name: Option<&str>) -> Result<Vec<Group>> {
    Ok(match name {
        Some(name) => groups::table.filter(groups::display_name.eq(name)).load(conn)?,
        None => groups::table.order(groups::display_name.asc()).load(conn)?,
    })
}

/// Removes a group; `false` if there is none.
pub(crate) fn delete(conn: &mut Db, id: &str) -> Result<bool> {
    Ok(diesel::delete(groups::table.find(id)).execute(conn)? == 1)
}

/// Names of the groups that a user was put into.
pub(crate) fn of_user(conn: &mut Db, user: &str) -> Result<Vec<String>> {
    let rows = group_members::table.inner_join(groups::table).filter(group_members::user_id.eq(user));
    Ok(rows.select(groups::display_name).order(groups::display_name.asc()).load(conn)?)
}

/// The groups that these users were put into: user, group id, group name.
pub(crate) fn of_users(conn: &mut Db, users: &[String]) -> Result<Vec<(String, String, String)>> {
    let rows = group_members::table.inner_join(groups::table).filter(group_members::user_id.eq_any(users));
    let columns = (group_members::user_id, groups::id, groups::display_name);
    Ok(rows.select(columns).order(groups::display_name.asc()).load(conn)?)
}

/// Ids and origins of the users that were put into a group.
pub(crate) fn members(conn: &mut Db, group: &str) -> Result<Vec<(String, String)>> {
    let rows = group_members::table.inner_join(users::table).filter(group_members::group_id.eq(group));
    Ok(rows.select((users::id, users::origin)).order(users::id.asc()).load(conn)?)
}

/// Puts a user into a group. Fails with `AlreadyMember` if it is in it.
pub(crate) fn add(conn: &mut Db, group: &str, user: &str) -> Result<()> {
    let row = (group_members::group_id.eq(group), group_members::user_id.eq(user));
    match diesel::insert_into(group_members::table).values(row).execute(conn) {
        Err(e) if is_taken(&e) => Err(Error::AlreadyMember),
        other => Ok(other.map(|_| ())?),
    }
}

/// Takes a user out of a group; `false` if it was not in it.
pub(crate) fn remove(conn: &mut Db, group: &str, user: &str) -> Result<bool> {
    Ok(diesel::delete(group_members::table.find((group, user))).execute(conn)? == 1)
}
