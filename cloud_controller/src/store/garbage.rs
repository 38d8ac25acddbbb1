//! Blobs that nobody needs any more: noted in the transaction that lets go of them, removed afterwards.

use crate::{
    domain::{Result, Tx},
    store::{Conn, schema::blob_garbage},
};
use diesel::prelude::*;

/// Notes a blob that nobody needs any more.
pub fn add(tx: &mut Tx<'_>, key: &str) -> Result<()> {
    let now = tx.micros();
    let known: i64 = blob_garbage::table.find(key).count().get_result(tx.conn)?;
    if known == 0 {
        diesel::insert_into(blob_garbage::table)
            .values((blob_garbage::key.eq(key), blob_garbage::created_at.eq(now)))
            .execute(tx.conn)?;
    }
    Ok(())
}

/// Some of the blobs to remove, oldest first.
pub fn some(conn: &mut Conn, limit: i64) -> Result<Vec<String>> {
    let query = blob_garbage::table.order(blob_garbage::created_at).limit(limit).select(blob_garbage::key);
    Ok(query.load(conn)?)
}

/// Notes that a blob is gone.
pub fn done(conn: &mut Conn, key: &str) -> Result<()> {
    diesel::delete(blob_garbage::table.find(key)).execute(conn)?;
    Ok(())
}
