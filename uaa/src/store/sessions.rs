//! Logins in a browser, and the one-time passcodes that they bring.

use super::Db;
use crate::domain::Result;
use diesel::prelude::*;

diesel::table! {
    sessions (id) {
        id -> Text,
        user_id -> Text,
        logged_in_at -> BigInt,
        seen_at -> BigInt,
    }
}

diesel::table! {
    passcodes (user_id) {
        user_id -> Text,
        id -> Text,
        logged_in_at -> BigInt,
        expires_at -> BigInt,
    }
}

/// A login in a browser; `id` is the SHA-256 of the cookie.
#[derive(Clone, Debug, Queryable, Insertable)]
#[diesel(table_name = sessions)]
pub(crate) struct Session {
    pub(crate) id: String,
    pub(crate) user_id: String,
    pub(crate) logged_in_at: i64,
    pub(crate) seen_at: i64,
}

/// A passcode; `id` is its SHA-256. A user has one at most.
#[derive(Clone, Debug, Queryable, Insertable, AsChangeset)]
#[diesel(table_name = passcodes, primary_key(user_id))]
pub(crate) struct Passcode {
    pub(crate) user_id: String,
    pub(crate) id: String,
    pub(crate) logged_in_at: i64,
    pub(crate) expires_at: i64,
}

/// Adds a session; of those of the user that were not seen for longest, only so many stay that there are `most`.
pub(crate) fn insert(conn: &mut Db, session: &Session, most: i64) -> Result<()> {
    let old: Vec<String> = sessions::table
        .filter(sessions::user_id.eq(&session.user_id))
        .order((sessions::seen_at.desc(), sessions::id.asc()))
        .offset(most - 1)
        .limit(most)
        .select(sessions::id)
        .load(conn)?;
    diesel::delete(sessions::table.filter(sessions::id.eq_any(old))).execute(conn)?;
    diesel::insert_into(sessions::table).values(session).execute(conn)?;
    Ok(())
}

/// Finds a session.
pub(crate) fn find(conn: &mut Db, id: &str) -> Result<Option<Session>> {
    Ok(sessions::table.find(id).first(conn).optional()?)
}

/// Notes that a session was used.
pub(crate) fn seen(conn: &mut Db, id: &str, now: i64) -> Result<()> {
    diesel::update(sessions::table.find(id)).set(sessions::seen_at.eq(now)).execute(conn)?;
    Ok(())
}

/// Ends a session.
pub(crate) fn end(conn: &mut Db, id: &str) -> Result<()> {
    diesel::delete(sessions::table.find(id)).execute(conn)?;
    Ok(())
}

/// Ends all sessions of a user, and its passcode.
pub(crate) fn end_of_user(conn: &mut Db, user: &str) -> Result<()> {
    diesel::delete(sessions::table.filter(sessions::user_id.eq(user))).execute(conn)?;
    diesel::delete(passcodes::table.find(user)).execute(conn)?;
    Ok(())
}

/// Gives a user a passcode in place of the one before.
pub(crate) fn put_passcode(conn: &mut Db, passcode: &Passcode) -> Result<()> {
    if diesel::update(passcodes::table.find(&passcode.user_id)).set(passcode).execute(conn)? == 0 {
        diesel::insert_into(passcodes::table).values(passcode).execute(conn)?;
    }
    Ok(())
}

/// Takes a passcode: who comes second finds none.
pub(crate) fn take_passcode(conn: &mut Db, id: &str) -> Result<Option<Passcode>> {
    let found: Option<Passcode> = passcodes::table.filter(passcodes::id.eq(id)).first(conn).optional()?;
    let taken = diesel::delete(passcodes::table.filter(passcodes::id.eq(id))).execute(conn)?;
    Ok(found.filter(|_| taken == 1))
}

/// Forgets sessions that began or were seen before these moments, and passcodes that ended before `now`.
pub(crate) fn purge(conn: &mut Db, began: i64, seen: i64, now: i64) -> Result<()> {
    let over = sessions::table.filter(sessions::logged_in_at.lt(began).or(sessions::seen_at.lt(seen)));
    diesel::delete(over).execute(conn)?;
    diesel::delete(passcodes::table.filter(passcodes::expires_at.lt(now))).execute(conn)?;
    Ok(())
}
