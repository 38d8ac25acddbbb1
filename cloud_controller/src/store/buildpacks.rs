//! Admin buildpacks.

use crate::{
    domain::Result,
    store::{
        Conn,
        query::{List, Listed, filter_common},
        schema::buildpacks,
    },
};
use diesel::prelude::*;

/// The kind under which labels and annotations of buildpacks are kept.
pub const KIND: &str = "buildpacks";

/// A buildpack as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = buildpacks, treat_none_as_null = true)]
pub struct Buildpack {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub stack: Option<String>,
    /// The stack, or empty.
    pub stack_key: String,
    pub lifecycle: String,
    pub position: i32,
    pub enabled: bool,
    pub locked: bool,
    /// `AWAITING_UPLOAD` or `READY`
    pub state: String,
    pub filename: Option<String>,
    pub sha256: Option<String>,
    pub size_bytes: Option<i64>,
}

/// The key of its blob: another one for each content, so that a DEA never gets half of two.
pub fn blob(guid: &str) -> String {
    format!("buildpacks/{guid}")
}

/// Adds a buildpack; a taken name shows as a broken unique key.
pub fn insert(conn: &mut Conn, row: &Buildpack) -> QueryResult<usize> {
    diesel::insert_into(buildpacks::table).values(row).execute(conn)
}

/// Writes all columns of a buildpack; a taken name shows as a broken unique key.
pub fn update(conn: &mut Conn, row: &Buildpack) -> QueryResult<usize> {
    diesel::update(buildpacks::table.find(&row.guid)).set(row).execute(conn)
}

/// Removes a buildpack.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(buildpacks::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Finds a buildpack.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Buildpack>> {
    Ok(buildpacks::table.find(guid).select(Buildpack::as_select()).first(conn).optional()?)
}

/// All buildpacks of a lifecycle, by position.
pub fn all(conn: &mut Conn, lifecycle: &str) -> Result<Vec<Buildpack>> {
    let query = buildpacks::table.filter(buildpacks::lifecycle.eq(lifecycle)).order((buildpacks::position, buildpacks::guid));
    Ok(query.select(Buildpack::as_select()).load(conn)?)
}

/// Sets only the position.
pub fn set_position(conn: &mut Conn, guid: &str, position: i32) -> Result<()> {
    diesel::update(buildpacks::table.find(guid)).set(buildpacks::position.eq(position)).execute(conn)?;
    Ok(())
}

/// A page of all buildpacks, by position unless asked for otherwise.
pub fn list(conn: &mut Conn, list: &List) -> Result<Listed<Buildpack>> {
    let filtered = || {
        let mut query = buildpacks::table.into_boxed();
        filter_common!(query, buildpacks, list, KIND);
        if let Some(names) = list.values("names") {
            query = query.filter(buildpacks::name.eq_any(names));
        }
        if let Some(stacks) = list.values("stacks") {
            query = query.filter(buildpacks::stack_key.eq_any(stacks));
        }
        if let Some(lifecycles) = list.values("lifecycle") {
            query = query.filter(buildpacks::lifecycle.eq_any(lifecycles));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let query = match list.order() {
        ("created_at", false) => filtered().order(buildpacks::created_at.asc()),
        ("created_at", true) => filtered().order(buildpacks::created_at.desc()),
        ("updated_at", false) => filtered().order(buildpacks::updated_at.asc()),
        ("updated_at", true) => filtered().order(buildpacks::updated_at.desc()),
        ("position", true) => filtered().order((buildpacks::lifecycle.asc(), buildpacks::position.desc())),
        ("lifecycle", true) => filtered().order((buildpacks::lifecycle.desc(), buildpacks::position.asc())),
        _ => filtered().order((buildpacks::lifecycle.asc(), buildpacks::position.asc())),
    };
    let query = query.then_order_by(buildpacks::guid.asc()).limit(i64::from(list.per_page)).offset(list.offset());
    Ok(Listed { rows: query.select(Buildpack::as_select()).load(conn)?, total })
}
