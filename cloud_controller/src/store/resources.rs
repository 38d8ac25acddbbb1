//! Files known from earlier uploads, per space: nobody learns what another space has.

use crate::{
    domain::Result,
    store::{Conn, schema::resources},
};
use diesel::prelude::*;

/// A file as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = resources)]
pub struct Resource {
    pub space_guid: String,
    pub sha1: String,
    pub sha256: String,
    pub size_bytes: i64,
    pub created_at: i64,
    pub used_at: i64,
}

/// The key of its blob: by our own digest, so that two files of one sha1 in two spaces never meet.
pub fn blob(space: &str, sha256: &str) -> String {
    format!("resources/{space}/{sha256}")
}

/// Files of these spaces (`None`: of all) with one of these sums.
pub fn find(conn: &mut Conn, spaces: Option<&[String]>, sha1s: &[String]) -> Result<Vec<Resource>> {
    let mut found = vec![];
    for some in sha1s.chunks(500) {
        let mut query = resources::table.filter(resources::sha1.eq_any(some)).into_boxed();
        if let Some(spaces) = spaces {
            query = query.filter(resources::space_guid.eq_any(spaces));
        }
        found.extend(query.select(Resource::as_select()).load::<Resource>(conn)?);
    }
    Ok(found)
}

/// Notes a file; one that is known keeps its content and counts as used now.
pub fn put(conn: &mut Conn, row: &Resource) -> Result<()> {
    let query = resources::table.find((&row.space_guid, &row.sha1, row.size_bytes));
    if diesel::update(query).set(resources::used_at.eq(row.used_at)).execute(conn)? == 0 {
        diesel::insert_into(resources::table).values(row).execute(conn)?;
    }
    Ok(())
}

/// Notes that files were used.
pub fn touch(conn: &mut Conn, space: &str, sha1s: &[String], now: i64) -> Result<()> {
    for some in sha1s.chunks(500) {
        let query = resources::table.filter(resources::space_guid.eq(space).and(resources::sha1.eq_any(some)));
        diesel::update(query).set(resources::used_at.eq(now)).execute(conn)?;
    }
    Ok(())
}

/// Forgets files that nobody used since `before`.
pub fn forget(conn: &mut Conn, before: i64) -> Result<usize> {
    Ok(diesel::delete(resources::table.filter(resources::used_at.lt(before))).execute(conn)?)
}

/// Forgets a file whose blob is gone.
pub fn forget_one(conn: &mut Conn, space: &str, sha256: &str) -> Result<()> {
    let query = resources::table.filter(resources::space_guid.eq(space).and(resources::sha256.eq(sha256)));
    diesel::delete(query).execute(conn)?;
    Ok(())
}

/// Space and sum of all files.
pub fn all(conn: &mut Conn) -> Result<Vec<(String, String)>> {
    Ok(resources::table.select((resources::space_guid, resources::sha256)).load(conn)?)
}
