//! Users that have been here, or that somebody gave a role.

use crate::{
    domain::Result,
    store::{Conn, query::key, schema::users},
};
use diesel::prelude::*;

/// A user as the table has it. Name and origin are those of the newest token or look-up.
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
