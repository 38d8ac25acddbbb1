//! Environment variable groups, sealed.

use crate::{
    domain::{Result, micros},
    store::{Conn, schema::env_groups},
};
use diesel::prelude::*;
use types::Timestamp;

/// When a group was last set.
pub fn updated_at(conn: &mut Conn, name: &str) -> Result<Option<i64>> {
    Ok(env_groups::table.find(name).select(env_groups::updated_at).first(conn).optional()?)
}

/// Writes a group.
pub fn put(conn: &mut Conn, name: &str, sealed: &[u8], now: Timestamp) -> Result<()> {
    let values = (env_groups::env.eq(sealed), env_groups::updated_at.eq(micros(now)));
    if diesel::update(env_groups::table.find(name)).set(values).execute(conn)? == 0 {
        let row = (env_groups::name.eq(name), env_groups::created_at.eq(micros(now)), values);
        diesel::insert_into(env_groups::table).values(row).execute(conn)?;
    }
    Ok(())
}
