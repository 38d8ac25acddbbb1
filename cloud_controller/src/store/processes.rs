//! Processes of apps.

use crate::{
    domain::{Access, Result, process::Check},
    store::{
        Conn, apps as app_store,
        query::{List, Listed, filter_common, order_and_page},
        schema::{apps, processes, spaces},
    },
};
use diesel::prelude::*;

/// The kind under which labels and annotations of processes are kept.
pub const KIND: &str = "processes";

/// A process as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = processes, treat_none_as_null = true)]
pub struct Process {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub app_guid: String,
    /// `web`, `worker`, ...
    pub kind: String,
    /// The newest start.
    pub version: String,
    /// The user's own command.
    pub command: Option<String>,
    pub process_user: Option<String>,
    pub instances: i32,
    pub memory_mb: i32,
    pub disk_mb: i32,
    /// -1: no limit.
    pub log_rate_limit: i64,
    pub health_type: String,
    pub health_timeout_s: Option<i32>,
    pub health_invocation_timeout_s: Option<i32>,
    pub health_interval_s: Option<i32>,
    pub health_endpoint: Option<String>,
    pub readiness_type: String,
    pub readiness_invocation_timeout_s: Option<i32>,
    pub readiness_interval_s: Option<i32>,
    pub readiness_endpoint: Option<String>,
}

fn seconds(value: Option<i32>) -> Option<u32> {
    value.and_then(|value| u32::try_from(value).ok())
}
fn column(value: Option<u32>) -> Option<i32> {
    value.and_then(|value| i32::try_from(value).ok())
}

impl Process {
    /// Its health check.
    pub fn health(&self) -> Check {
        Check {
            kind: self.health_type.clone(),
            timeout_s: seconds(self.health_timeout_s),
            invocation_timeout_s: seconds(self.health_invocation_timeout_s),
            interval_s: seconds(self.health_interval_s),
            endpoint: self.health_endpoint.clone(),
        }
    }
    /// Sets its health check.
    pub fn set_health(&mut self, check: Check) {
        self.health_type = check.kind;
        self.health_timeout_s = column(check.timeout_s);
        self.health_invocation_timeout_s = column(check.invocation_timeout_s);
        self.health_interval_s = column(check.interval_s);
        self.health_endpoint = check.endpoint;
    }
    /// Its readiness check.
    pub fn readiness(&self) -> Check {
        Check {
            kind: self.readiness_type.clone(),
            timeout_s: None,
            invocation_timeout_s: seconds(self.readiness_invocation_timeout_s),
            interval_s: seconds(self.readiness_interval_s),
            endpoint: self.readiness_endpoint.clone(),
        }
    }
    /// Sets its readiness check.
    pub fn set_readiness(&mut self, check: Check) {
        self.readiness_type = check.kind;
        self.readiness_invocation_timeout_s = column(check.invocation_timeout_s);
        self.readiness_interval_s = column(check.interval_s);
        self.readiness_endpoint = check.endpoint;
    }
    /// How many instances are wanted while the app is started.
    pub fn count(&self) -> u32 {
        u32::try_from(self.instances).unwrap_or(0)
    }
    /// Memory of an instance, of the next start.
    pub fn memory(&self) -> u32 {
        u32::try_from(self.memory_mb).unwrap_or(0)
    }
    /// Disk of an instance, of the next start.
    pub fn disk(&self) -> u32 {
        u32::try_from(self.disk_mb).unwrap_or(0)
    }
}

/// Adds a process.
pub fn insert(conn: &mut Conn, row: &Process) -> Result<()> {
    diesel::insert_into(processes::table).values(row).execute(conn)?;
    Ok(())
}

/// Writes all columns of a process.
pub fn update(conn: &mut Conn, row: &Process) -> Result<()> {
    diesel::update(processes::table.find(&row.guid)).set(row).execute(conn)?;
    Ok(())
}

/// Finds a process.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Process>> {
    Ok(processes::table.find(guid).select(Process::as_select()).first(conn).optional()?)
}

/// Finds the process of an app and a type.
pub fn find_of_app(conn: &mut Conn, app: &str, kind: &str) -> Result<Option<Process>> {
    let query = processes::table.filter(processes::app_guid.eq(app).and(processes::kind.eq(kind)));
    Ok(query.select(Process::as_select()).first(conn).optional()?)
}

/// All processes of these apps, in order of creation.
pub fn of_apps(conn: &mut Conn, apps: &[String]) -> Result<Vec<Process>> {
    let query = processes::table.filter(processes::app_guid.eq_any(apps)).order((processes::created_at, processes::guid));
    Ok(query.select(Process::as_select()).load(conn)?)
}

/// All processes of an app, in order of creation.
pub fn of_app(conn: &mut Conn, app: &str) -> Result<Vec<Process>> {
    of_apps(conn, &[app.to_owned()])
}

/// Instances and memory of all processes that should run in a space, each as (instances, memory of one, log rate of one).
pub fn started_in_space(conn: &mut Conn, space: &str) -> Result<Vec<(String, i32, i32, i64)>> {
    let query = processes::table
        .inner_join(apps::table.on(apps::guid.eq(processes::app_guid)))
        .filter(apps::state.eq("STARTED").and(apps::space_guid.eq(space)));
    Ok(query.select((processes::guid, processes::instances, processes::memory_mb, processes::log_rate_limit)).load(conn)?)
}

/// The same for an organization.
pub fn started_in_org(conn: &mut Conn, org: &str) -> Result<Vec<(String, i32, i32, i64)>> {
    let query = processes::table
        .inner_join(apps::table.on(apps::guid.eq(processes::app_guid)))
        .inner_join(spaces::table.on(spaces::guid.eq(apps::space_guid)))
        .filter(apps::state.eq("STARTED").and(spaces::org_guid.eq(org)));
    Ok(query.select((processes::guid, processes::instances, processes::memory_mb, processes::log_rate_limit)).load(conn)?)
}

/// A page of the processes that the caller may see; `app`: only of this one.
pub fn list(conn: &mut Conn, who: &Access, list: &List, app: Option<&str>) -> Result<Listed<Process>> {
    let filtered = || {
        let mut query = processes::table.into_boxed();
        match app {
            Some(app) => query = query.filter(processes::app_guid.eq(app.to_owned())),
            None if who.global_reader() => {}
            None => query = query.filter(processes::app_guid.eq_any(app_store::readable(who))),
        }
        filter_common!(query, processes, list, KIND);
        if let Some(kinds) = list.values("types") {
            query = query.filter(processes::kind.eq_any(kinds));
        }
        if let Some(apps) = list.values("app_guids") {
            query = query.filter(processes::app_guid.eq_any(apps));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(processes::app_guid.eq_any(app_store::of_spaces(spaces)));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(processes::app_guid.eq_any(app_store::of_orgs(orgs)));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    order_and_page!(query, processes, list, "updated_at" => processes::updated_at);
    Ok(Listed { rows: query.select(Process::as_select()).load(conn)?, total })
}
