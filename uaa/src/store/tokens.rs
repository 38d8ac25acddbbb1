//! Tokens that are valid. What is not here is not valid any more.

use super::{Db, codes};
use crate::domain::Result;
use diesel::prelude::*;

diesel::table! {
    tokens (id) {
        id -> Text,
        refresh -> Bool,
        session -> Text,
        client_id -> Text,
        user_id -> Nullable<Text>,
        scopes -> Text,
        grant_type -> Text,
        logged_in_at -> BigInt,
        issued_at -> BigInt,
        expires_at -> BigInt,
        rotated_at -> Nullable<BigInt>,
    }
}

/// A token: for access tokens `id` is the claim `jti`, for refresh tokens the SHA-256 of the value.
#[derive(Clone, Debug, Queryable, Insertable)]
#[diesel(table_name = tokens)]
pub(crate) struct Token {
    pub(crate) id: String,
    pub(crate) refresh: bool,
    /// All tokens that came of one login.
    pub(crate) session: String,
    pub(crate) client_id: String,
    pub(crate) user_id: Option<String>,
    pub(crate) scopes: String,
    pub(crate) grant_type: String,
    pub(crate) logged_in_at: i64,
    pub(crate) issued_at: i64,
    pub(crate) expires_at: i64,
    /// When a newer refresh token took its place.
    pub(crate) rotated_at: Option<i64>,
}

/// Adds tokens.
pub(crate) fn insert(conn: &mut Db, token: &Token) -> Result<()> {
    diesel::insert_into(tokens::table).values(token).execute(conn)?;
    Ok(())
}

/// Finds a token.
pub(crate) fn find(conn: &mut Db, id: &str) -> Result<Option<Token>> {
    Ok(tokens::table.find(id).first(conn).optional()?)
}

/// Notes that a newer refresh token took the place of this one; `false` if that had happened before.
pub(crate) fn rotate(conn: &mut Db, id: &str, now: i64) -> Result<bool> {
    let row = tokens::table.find(id).filter(tokens::rotated_at.is_null());
    Ok(diesel::update(row).set(tokens::rotated_at.eq(Some(now))).execute(conn)? == 1)
}

/// Which tokens to revoke.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Which<'a> {
    /// This one alone.
    One(&'a str),
    /// All that came of one login.
    Session(&'a str),
    /// All of a user.
    User(&'a str),
    /// All of a client.
    Client(&'a str),
    /// All of a user through a client.
    UserOfClient(&'a str, &'a str),
    /// All that ended before this moment.
    ExpiredBefore(i64),
}

/// Revokes tokens, and the codes that would bring more; says how many tokens.
pub(crate) fn revoke(conn: &mut Db, which: Which<'_>) -> Result<usize> {
    match which {
        Which::User(user) => codes::forget(conn, Some(user), None)?,
        Which::Client(client) => codes::forget(conn, None, Some(client))?,
        Which::UserOfClient(user, client) => codes::forget(conn, Some(user), Some(client))?,
        Which::One(_) | Which::Session(_) | Which::ExpiredBefore(_) => {}
    }
    Ok(match which {
        Which::One(id) => diesel::delete(tokens::table.find(id)).execute(conn)?,
        Which::Session(session) => diesel::delete(tokens::table.filter(tokens::session.eq(session))).execute(conn)?,
        Which::User(user) => diesel::delete(tokens::table.filter(tokens::user_id.eq(user))).execute(conn)?,
        Which::Client(client) => diesel::delete(tokens::table.filter(tokens::client_id.eq(client))).execute(conn)?,
        Which::UserOfClient(user, client) => {
            let rows = tokens::table.filter(tokens::user_id.eq(user)).filter(tokens::client_id.eq(client));
            diesel::delete(rows).execute(conn)?
        }
        Which::ExpiredBefore(moment) => diesel::delete(tokens::table.filter(tokens::expires_at.lt(moment))).execute(conn)?,
    })
}
