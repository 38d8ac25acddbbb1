//! Packages: the bits that users upload.

use crate::{
    domain::{Access, Result},
    store::{
        Conn, apps as app_store,
        query::{List, Listed, filter_common, order_and_page},
        schema::packages,
    },
};
use diesel::prelude::*;

/// The kind under which labels and annotations of packages are kept.
pub const KIND: &str = "packages";

/// A package as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = packages, treat_none_as_null = true)]
pub struct Package {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub app_guid: String,
    /// `bits`
    pub kind: String,
    /// `AWAITING_UPLOAD`, `PROCESSING_UPLOAD`, `READY`, `FAILED`, `COPYING`, `EXPIRED`
    pub state: String,
    pub sha1: Option<String>,
    pub sha256: Option<String>,
    pub size_bytes: Option<i64>,
    pub error: Option<String>,
}

/// The key of its blob.
pub fn blob(guid: &str) -> String {
    format!("packages/{guid}")
}

/// Adds a package.
pub fn insert(conn: &mut Conn, row: &Package) -> Result<()> {
    diesel::insert_into(packages::table).values(row).execute(conn)?;
    Ok(())
}

/// Writes all columns of a package if it still is in this state; false: it is not.
pub fn update_from(conn: &mut Conn, row: &Package, state: &str) -> Result<bool> {
    let query = packages::table.filter(packages::guid.eq(&row.guid).and(packages::state.eq(state)));
    Ok(diesel::update(query).set(row).execute(conn)? > 0)
}

/// Removes a package.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(packages::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Finds a package.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Package>> {
    Ok(packages::table.find(guid).select(Package::as_select()).first(conn).optional()?)
}

/// All packages of an app, newest first.
pub fn of_app(conn: &mut Conn, app: &str) -> Result<Vec<Package>> {
    let query = packages::table.filter(packages::app_guid.eq(app)).order((packages::created_at.desc(), packages::guid));
    Ok(query.select(Package::as_select()).load(conn)?)
}

/// Guids of all packages that have or will have a blob.
pub fn with_blob(conn: &mut Conn) -> Result<Vec<String>> {
    Ok(packages::table.filter(packages::state.ne_all(["EXPIRED", "FAILED"])).select(packages::guid).load(conn)?)
}

/// All packages in this state.
pub fn in_state(conn: &mut Conn, state: &str) -> Result<Vec<Package>> {
    Ok(packages::table.filter(packages::state.eq(state)).select(Package::as_select()).load(conn)?)
}

/// A page of the packages that the caller may see; `app`: only of this one.
pub fn list(conn: &mut Conn, who: &Access, list: &List, app: Option<&str>) -> Result<Listed<Package>> {
    let filtered = || {
        let mut query = packages::table.into_boxed();
        match app {
            Some(app) => query = query.filter(packages::app_guid.eq(app.to_owned())),
            None if who.global_reader() => {}
            None => query = query.filter(packages::app_guid.eq_any(app_store::readable(who))),
        }
        filter_common!(query, packages, list, KIND);
        if let Some(states) = list.values("states") {
            query = query.filter(packages::state.eq_any(states));
        }
        if let Some(types) = list.values("types") {
            query = query.filter(packages::kind.eq_any(types));
        }
        if let Some(apps) = list.values("app_guids") {
            query = query.filter(packages::app_guid.eq_any(apps));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(packages::app_guid.eq_any(app_store::of_spaces(spaces)));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(packages::app_guid.eq_any(app_store::of_orgs(orgs)));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    order_and_page!(query, packages, list, "updated_at" => packages::updated_at);
    Ok(Listed { rows: query.select(Package::as_select()).load(conn)?, total })
}
