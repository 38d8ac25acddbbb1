//! Versions: what a start of a process fixed.

use crate::{
    domain::Result,
    store::{
        Conn,
        schema::{processes, versions},
    },
};
use diesel::prelude::*;

/// A version as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = versions)]
pub struct Version {
    pub process_guid: String,
    pub version: String,
    pub created_at: i64,
    pub droplet_guid: String,
    pub memory_mb: i32,
    pub disk_mb: i32,
    pub stack: String,
    /// A sealed JSON object.
    pub spec: Vec<u8>,
}

/// Puts the version of a process in the place of the one before.
pub fn put(conn: &mut Conn, row: &Version) -> Result<()> {
    diesel::delete(versions::table.find(&row.process_guid)).execute(conn)?;
    diesel::insert_into(versions::table).values(row).execute(conn)?;
    Ok(())
}

/// Forgets the version of a process; false: it had none.
pub fn remove(conn: &mut Conn, process: &str) -> Result<bool> {
    Ok(diesel::delete(versions::table.find(process)).execute(conn)? > 0)
}

/// Finds a version.
pub fn find(conn: &mut Conn, version: &str) -> Result<Option<Version>> {
    let query = versions::table.filter(versions::version.eq(version));
    Ok(query.select(Version::as_select()).first(conn).optional()?)
}

/// The version that a process runs with.
pub fn of_process(conn: &mut Conn, process: &str) -> Result<Option<Version>> {
    Ok(versions::table.find(process).select(Version::as_select()).first(conn).optional()?)
}

/// App, type and process of each of these versions that is wanted.
pub fn places(conn: &mut Conn, wanted: &[String]) -> Result<Vec<(String, String, String, String)>> {
    let query = versions::table
        .inner_join(processes::table.on(processes::guid.eq(versions::process_guid)))
        .filter(versions::version.eq_any(wanted));
    Ok(query.select((versions::version, processes::app_guid, processes::kind, processes::guid)).load(conn)?)
}
