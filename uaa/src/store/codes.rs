//! Authorization codes, and what users let clients have.

use super::{Db, join, split};
use crate::domain::Result;
use diesel::prelude::*;

diesel::table! {
    codes (id) {
        id -> Text,
        client_id -> Text,
        user_id -> Text,
        redirect_uri -> Nullable<Text>,
        challenge -> Nullable<Text>,
        nonce -> Nullable<Text>,
        scopes -> Text,
        session -> Text,
        logged_in_at -> BigInt,
        expires_at -> BigInt,
        used_at -> Nullable<BigInt>,
    }
}

diesel::table! {
    approvals (user_id, client_id) {
        user_id -> Text,
        client_id -> Text,
        scopes -> Text,
        expires_at -> BigInt,
    }
}

/// An authorization code; `id` is its SHA-256.
#[derive(Clone, Debug, Queryable, Insertable)]
#[diesel(table_name = codes)]
pub(crate) struct Code {
    pub(crate) id: String,
    pub(crate) client_id: String,
    pub(crate) user_id: String,
    /// As the request had it.
    pub(crate) redirect_uri: Option<String>,
    /// Of PKCE, S256.
    pub(crate) challenge: Option<String>,
    pub(crate) nonce: Option<String>,
    pub(crate) scopes: String,
    /// That of the tokens which come of it.
    pub(crate) session: String,
    pub(crate) logged_in_at: i64,
    pub(crate) expires_at: i64,
    pub(crate) used_at: Option<i64>,
}

/// Adds a code.
pub(crate) fn insert(conn: &mut Db, code: &Code) -> Result<()> {
    diesel::insert_into(codes::table).values(code).execute(conn)?;
    Ok(())
}

/// Finds a code, used or not.
pub(crate) fn find(conn: &mut Db, id: &str) -> Result<Option<Code>> {
    Ok(codes::table.find(id).first(conn).optional()?)
}

/// Uses a code; `false` if somebody did before, or it is gone.
pub(crate) fn use_up(conn: &mut Db, id: &str, now: i64) -> Result<bool> {
    let row = codes::table.find(id).filter(codes::used_at.is_null());
    Ok(diesel::update(row).set(codes::used_at.eq(Some(now))).execute(conn)? == 1)
}

/// Forgets the codes of a user, of a client, or of both together.
pub(crate) fn forget(conn: &mut Db, user: Option<&str>, client: Option<&str>) -> Result<()> {
    match (user, client) {
        (Some(user), Some(client)) => {
            diesel::delete(codes::table.filter(codes::user_id.eq(user)).filter(codes::client_id.eq(client))).execute(conn)?
        }
        (Some(user), None) => diesel::delete(codes::table.filter(codes::user_id.eq(user))).execute(conn)?,
        (None, Some(client)) => diesel::delete(codes::table.filter(codes::client_id.eq(client))).execute(conn)?,
        (None, None) => 0,
    };
    Ok(())
}

/// Forgets codes and approvals that ended before these moments.
pub(crate) fn purge(conn: &mut Db, codes_before: i64, now: i64) -> Result<()> {
    diesel::delete(codes::table.filter(codes::expires_at.lt(codes_before))).execute(conn)?;
    diesel::delete(approvals::table.filter(approvals::expires_at.lt(now))).execute(conn)?;
    Ok(())
}

/// The scopes that a user let a client have.
pub(crate) fn approved(conn: &mut Db, user: &str, client: &str, now: i64) -> Result<Vec<String>> {
    let row = approvals::table.find((user, client)).filter(approvals::expires_at.gt(now));
    let scopes: Option<String> = row.select(approvals::scopes).first(conn).optional()?;
    Ok(scopes.map(|scopes| split(&scopes)).unwrap_or_default())
}

/// Notes that a user lets a client have these scopes too.
pub(crate) fn approve(conn: &mut Db, user: &str, client: &str, scopes: &[String], now: i64, until: i64) -> Result<()> {
    let mut all = approved(conn, user, client, now)?;
    all.extend(scopes.iter().filter(|scope| !all.contains(scope)).cloned().collect::<Vec<_>>());
    let all = join(&all);
    let set = (approvals::scopes.eq(all.as_str()), approvals::expires_at.eq(until));
    if diesel::update(approvals::table.find((user, client))).set(set).execute(conn)? == 0 {
        let ids = (approvals::user_id.eq(user), approvals::client_id.eq(client));
        diesel::insert_into(approvals::table).values((ids, set)).execute(conn)?;
    }
    Ok(())
}
