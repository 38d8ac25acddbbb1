//! Droplets: what stagings make.

use crate::{
    domain::{Access, Result},
    store::{
        Conn, apps as app_store,
        query::{List, Listed, filter_common, order_and_page},
        schema::{apps, droplets, versions},
    },
};
use diesel::prelude::*;
use std::collections::BTreeMap;

/// The kind under which labels and annotations of droplets are kept.
pub const KIND: &str = "droplets";

/// A droplet as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = droplets, treat_none_as_null = true)]
pub struct Droplet {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub app_guid: String,
    pub package_guid: Option<String>,
    pub build_guid: Option<String>,
    /// `STAGED`, `AWAITING_UPLOAD`, `PROCESSING_UPLOAD`, `COPYING`, `FAILED`, `EXPIRED`
    pub state: String,
    pub error: Option<String>,
    pub stack: Option<String>,
    pub sha256: Option<String>,
    pub size_bytes: Option<i64>,
    /// A JSON object: type to command.
    pub process_types: String,
    /// A JSON array of what took part.
    pub buildpacks: String,
    pub execution_metadata: String,
}

impl Droplet {
    /// Types and commands.
    pub fn commands(&self) -> BTreeMap<String, String> {
        serde_json::from_str(&self.process_types).unwrap_or_default()
    }
}

/// The key of its blob.
pub fn blob(guid: &str) -> String {
    format!("droplets/{guid}")
}

/// Adds a droplet.
pub fn insert(conn: &mut Conn, row: &Droplet) -> Result<()> {
    diesel::insert_into(droplets::table).values(row).execute(conn)?;
    Ok(())
}

/// Writes all columns of a droplet if it still is in this state; false: it is not.
pub fn update_from(conn: &mut Conn, row: &Droplet, state: &str) -> Result<bool> {
    let query = droplets::table.filter(droplets::guid.eq(&row.guid).and(droplets::state.eq(state)));
    Ok(diesel::update(query).set(row).execute(conn)? > 0)
}

/// Removes a droplet.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(droplets::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Finds a droplet.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Droplet>> {
    Ok(droplets::table.find(guid).select(Droplet::as_select()).first(conn).optional()?)
}

/// All droplets of an app, newest first.
pub fn of_app(conn: &mut Conn, app: &str) -> Result<Vec<Droplet>> {
    let query = droplets::table.filter(droplets::app_guid.eq(app)).order((droplets::created_at.desc(), droplets::guid));
    Ok(query.select(Droplet::as_select()).load(conn)?)
}

/// All droplets in this state.
pub fn in_state(conn: &mut Conn, state: &str) -> Result<Vec<Droplet>> {
    Ok(droplets::table.filter(droplets::state.eq(state)).select(Droplet::as_select()).load(conn)?)
}

/// Guids of all droplets that have or will have a blob: kept ones, and those that a version still runs with.
pub fn with_blob(conn: &mut Conn) -> Result<Vec<String>> {
    let mut guids: Vec<String> =
        droplets::table.filter(droplets::state.ne_all(["EXPIRED", "FAILED"])).select(droplets::guid).load(conn)?;
    guids.extend(versions::table.select(versions::droplet_guid).load::<String>(conn)?);
    Ok(guids)
}

/// The app that this droplet is current for, if any.
pub fn current_of(conn: &mut Conn, guid: &str) -> Result<Option<String>> {
    let query = apps::table.filter(apps::droplet_guid.eq(guid)).select(apps::guid);
    Ok(query.first(conn).optional()?)
}

/// A page of the droplets that the caller may see.
pub fn list(conn: &mut Conn, who: &Access, list: &List, app: Option<&str>, package: Option<&str>) -> Result<Listed<Droplet>> {
    let filtered = || {
        let mut query = droplets::table.into_boxed();
        match app {
            Some(app) => query = query.filter(droplets::app_guid.eq(app.to_owned())),
            None if who.global_reader() => {}
            None => query = query.filter(droplets::app_guid.eq_any(app_store::readable(who))),
        }
        if let Some(package) = package {
            query = query.filter(droplets::package_guid.eq(package.to_owned()));
        }
        filter_common!(query, droplets, list, KIND);
        if let Some(states) = list.values("states") {
            query = query.filter(droplets::state.eq_any(states));
        }
        if let Some(apps) = list.values("app_guids") {
            query = query.filter(droplets::app_guid.eq_any(apps));
        }
        if list.values("current").is_some() {
            let current = apps::table.filter(apps::droplet_guid.is_not_null()).select(apps::droplet_guid.assume_not_null());
            query = query.filter(droplets::guid.eq_any(current));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(droplets::app_guid.eq_any(app_store::of_spaces(spaces)));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(droplets::app_guid.eq_any(app_store::of_orgs(orgs)));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    order_and_page!(query, droplets, list, "updated_at" => droplets::updated_at);
    Ok(Listed { rows: query.select(Droplet::as_select()).load(conn)?, total })
}
