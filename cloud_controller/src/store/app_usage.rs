//! App usage events: what ran from when to when, for who bills it.

use crate::{
    domain::Result,
    store::{
        Conn, Db,
        apps::App,
        orgs::Org,
        processes::Process,
        query::{self, List, Listed, insert_all},
        schema::{app_usage_events, apps, orgs, processes, spaces},
        spaces::Space,
    },
};
use diesel::{dsl::max, prelude::*};

/// An event as the table has it: names as they were then.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = app_usage_events, treat_none_as_default_value = false)]
pub struct AppUsageEvent {
    pub guid: String,
    /// Grows in the order of commits.
    pub position: i64,
    pub created_at: i64,
    /// `STARTED` or `STOPPED`
    pub state: String,
    pub previous_state: String,
    pub app_guid: String,
    pub app_name: String,
    pub process_guid: String,
    pub process_kind: String,
    pub space_guid: String,
    pub space_name: String,
    pub org_guid: String,
    pub memory_mb: i32,
    pub previous_memory_mb: i32,
    pub instances: i32,
    pub previous_instances: i32,
}

/// The next free position; writing transactions run one after the other, so nobody else takes it.
pub fn next_position(conn: &mut Conn) -> QueryResult<i64> {
    let last: Option<i64> = app_usage_events::table.select(max(app_usage_events::position)).first(conn)?;
    Ok(last.unwrap_or(0) + 1)
}
/// Adds events.
pub fn insert(conn: &mut Conn, rows: &[AppUsageEvent]) -> QueryResult<()> {
    insert_all!(conn, app_usage_events, rows)
}
/// Finds an event.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<AppUsageEvent>> {
    Ok(app_usage_events::table.find(guid).select(AppUsageEvent::as_select()).first(conn).optional()?)
}
/// Removes all events.
pub fn purge(conn: &mut Conn) -> Result<()> {
    diesel::delete(app_usage_events::table).execute(conn)?;
    Ok(())
}
/// Forgets events before `before` (microseconds), but never the newest; returns how many.
pub fn forget(conn: &mut Conn, before: i64) -> Result<usize> {
    let newest = next_position(conn)? - 1;
    let old =
        app_usage_events::table.filter(app_usage_events::created_at.lt(before)).filter(app_usage_events::position.ne(newest));
    Ok(diesel::delete(old).execute(conn)?)
}

/// A page of events behind a position, in the order of commits.
pub fn list(conn: &mut Conn, after: i64, list: &List) -> Result<Listed<AppUsageEvent>> {
    let filtered = || -> app_usage_events::BoxedQuery<'static, Db> {
        let mut query = app_usage_events::table.into_boxed().filter(app_usage_events::position.gt(after));
        query::filter_times!(query, app_usage_events, list, created_only);
        if let Some(guids) = list.values("guids") {
            query = query.filter(app_usage_events::guid.eq_any(guids));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let ordered = match list.order() {
        (_, true) => filtered().order(app_usage_events::position.desc()),
        (_, false) => filtered().order(app_usage_events::position.asc()),
    };
    let query = ordered.limit(i64::from(list.per_page)).offset(list.offset());
    Ok(Listed { rows: query.select(AppUsageEvent::as_select()).load(conn)?, total })
}

/// All processes of started apps, in order of creation.
pub fn started(conn: &mut Conn) -> Result<Vec<(Process, App, Space, Org)>> {
    let query = processes::table
        .inner_join(apps::table.on(apps::guid.eq(processes::app_guid)))
        .inner_join(spaces::table.on(spaces::guid.eq(apps::space_guid)))
        .inner_join(orgs::table.on(orgs::guid.eq(spaces::org_guid)))
        .filter(apps::state.eq("STARTED"))
        .order((processes::created_at, processes::guid));
    Ok(query.select((Process::as_select(), App::as_select(), Space::as_select(), Org::as_select())).load(conn)?)
}
