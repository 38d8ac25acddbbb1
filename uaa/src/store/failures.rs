//! Failed logins in a row, by name; also of names that nobody has.

use super::Db;
use crate::domain::{Result, lockout::Failures};
use diesel::prelude::*;

diesel::table! {
    login_failures (name_key) {
        name_key -> Text,
        count -> BigInt,
        last_at -> BigInt,
        locked_until -> BigInt,
    }
}

/// The failures of a name; all zero if there are none.
pub(crate) fn find(conn: &mut Db, name_key: &str) -> Result<Failures> {
    let columns = (login_failures::count, login_failures::last_at, login_failures::locked_until);
    let row: Option<(i64, i64, i64)> = login_failures::table.find(name_key).select(columns).first(conn).optional()?;
    Ok(row.map(|(count, last_at, locked_until)| Failures { count, last_at, locked_until }).unwrap_or_default())
}

/// Keeps the failures of a name.
pub(crate) fn put(conn: &mut Db, name_key: &str, failures: Failures) -> Result<()> {
    let Failures { count, last_at, locked_until } = failures;
    let set =
        (login_failures::count.eq(count), login_failures::last_at.eq(last_at), login_failures::locked_until.eq(locked_until));
    if diesel::update(login_failures::table.find(name_key)).set(set).execute(conn)? == 0 {
        diesel::insert_into(login_failures::table).values((login_failures::name_key.eq(name_key), set)).execute(conn)?;
    }
    Ok(())
}

/// Forgets the failures of a name.
pub(crate) fn clear(conn: &mut Db, name_key: &str) -> Result<()> {
    diesel::delete(login_failures::table.find(name_key)).execute(conn)?;
    Ok(())
}

/// Forgets failures that count no more.
pub(crate) fn purge(conn: &mut Db, before: i64) -> Result<usize> {
    let rows = login_failures::table.filter(login_failures::last_at.lt(before)).filter(login_failures::locked_until.lt(before));
    Ok(diesel::delete(rows).execute(conn)?)
}
