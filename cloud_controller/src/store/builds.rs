//! Builds: stagings of packages.

use crate::{
    domain::{Access, Result},
    store::{
        Conn, apps as app_store,
        query::{List, Listed, filter_common, order_and_page},
        schema::builds,
    },
};
use diesel::prelude::*;

/// The kind under which labels and annotations of builds are kept.
pub const KIND: &str = "builds";

/// A build as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = builds, treat_none_as_null = true)]
pub struct Build {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub app_guid: String,
    pub package_guid: String,
    /// `STAGING`, `STAGED`, `FAILED`
    pub state: String,
    pub error_id: Option<String>,
    /// What went wrong, for people, without the id.
    pub error: Option<String>,
    /// The droplet that it makes: its blob may exist while the build is `STAGING`, its row only once it is `STAGED`.
    pub droplet_guid: Option<String>,
    /// A JSON array of what the user chose, or `[]`.
    pub buildpacks: String,
    pub stack: String,
    pub memory_mb: i32,
    pub disk_mb: i32,
    pub log_rate_limit: i64,
    pub user_guid: String,
    pub user_name: String,
    pub user_email: String,
    pub droplet_sha256: Option<String>,
    pub droplet_size_bytes: Option<i64>,
    /// A sealed JSON object: variables of this build alone.
    pub env: Option<Vec<u8>>,
    /// The user chose the buildpacks.
    pub skip_detect: bool,
}

impl Build {
    /// True while it is under way.
    pub fn staging(&self) -> bool {
        self.state == "STAGING"
    }
}

/// Adds a build.
pub fn insert(conn: &mut Conn, row: &Build) -> Result<()> {
    diesel::insert_into(builds::table).values(row).execute(conn)?;
    Ok(())
}

/// Writes all columns of a build that is still `STAGING`; false: it is not.
pub fn update_staging(conn: &mut Conn, row: &Build) -> Result<bool> {
    let query = builds::table.filter(builds::guid.eq(&row.guid).and(builds::state.eq("STAGING")));
    Ok(diesel::update(query).set(row).execute(conn)? > 0)
}

/// Removes builds.
pub fn delete_all(conn: &mut Conn, guids: &[String]) -> Result<()> {
    diesel::delete(builds::table.filter(builds::guid.eq_any(guids))).execute(conn)?;
    Ok(())
}

/// Finds a build.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Build>> {
    Ok(builds::table.find(guid).select(Build::as_select()).first(conn).optional()?)
}

/// Builds that are under way, of an app or of all.
pub fn staging(conn: &mut Conn, app: Option<&str>) -> Result<Vec<Build>> {
    let mut query = builds::table.filter(builds::state.eq("STAGING")).into_boxed();
    if let Some(app) = app {
        query = query.filter(builds::app_guid.eq(app.to_owned()));
    }
    Ok(query.select(Build::as_select()).load(conn)?)
}

/// All builds of an app, newest first.
pub fn of_app(conn: &mut Conn, app: &str) -> Result<Vec<Build>> {
    let query = builds::table.filter(builds::app_guid.eq(app)).order((builds::created_at.desc(), builds::guid));
    Ok(query.select(Build::as_select()).load(conn)?)
}

/// A page of the builds that the caller may see; `app`: only of this one.
pub fn list(conn: &mut Conn, who: &Access, list: &List, app: Option<&str>) -> Result<Listed<Build>> {
    let filtered = || {
        let mut query = builds::table.into_boxed();
        match app {
            Some(app) => query = query.filter(builds::app_guid.eq(app.to_owned())),
            None if who.global_reader() => {}
            None => query = query.filter(builds::app_guid.eq_any(app_store::readable(who))),
        }
        filter_common!(query, builds, list, KIND);
        if let Some(states) = list.values("states") {
            query = query.filter(builds::state.eq_any(states));
        }
        if let Some(apps) = list.values("app_guids") {
            query = query.filter(builds::app_guid.eq_any(apps));
        }
        if let Some(packages) = list.values("package_guids") {
            query = query.filter(builds::package_guid.eq_any(packages));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    order_and_page!(query, builds, list, "updated_at" => builds::updated_at);
    Ok(Listed { rows: query.select(Build::as_select()).load(conn)?, total })
}
