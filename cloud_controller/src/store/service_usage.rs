//! Service usage events: what was there from when to when, for who bills it.

use crate::{
    domain::Result,
    store::{
        Conn, Db,
        orgs::Org,
        query::{self, List, Listed, insert_all},
        schema::{orgs, service_instances, service_usage_events, spaces},
        service_instances::Instance,
        service_plans::{self, Offered},
        spaces::Space,
    },
};
use diesel::{dsl::max, prelude::*};

/// An event as the table has it: names as they were then.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = service_usage_events, treat_none_as_default_value = false)]
pub struct UsageEvent {
    pub guid: String,
    /// Grows in the order of commits.
    pub position: i64,
    pub created_at: i64,
    /// `CREATED`, `UPDATED`, `DELETED`
    pub state: String,
    pub space_guid: String,
    pub space_name: String,
    pub org_guid: String,
    pub instance_guid: String,
    pub instance_name: String,
    /// `managed_service_instance` or `user_provided_service_instance`
    pub instance_kind: String,
    pub plan_guid: Option<String>,
    pub plan_name: Option<String>,
    pub offering_guid: Option<String>,
    pub offering_name: Option<String>,
    pub broker_guid: Option<String>,
    pub broker_name: Option<String>,
}

/// The next free position; writing transactions run one after the other, so nobody else takes it.
pub fn next_position(conn: &mut Conn) -> QueryResult<i64> {
    let last: Option<i64> = service_usage_events::table.select(max(service_usage_events::position)).first(conn)?;
    Ok(last.unwrap_or(0) + 1)
}

/// Adds events.
pub fn insert(conn: &mut Conn, rows: &[UsageEvent]) -> QueryResult<()> {
    insert_all!(conn, service_usage_events, rows)
}

/// Finds an event.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<UsageEvent>> {
    Ok(service_usage_events::table.find(guid).select(UsageEvent::as_select()).first(conn).optional()?)
}
/// Removes all events.
pub fn purge(conn: &mut Conn) -> Result<()> {
    diesel::delete(service_usage_events::table).execute(conn)?;
    Ok(())
}
/// Forgets events before `before` (microseconds), but never the newest; returns how many.
pub fn forget(conn: &mut Conn, before: i64) -> Result<usize> {
    let newest = next_position(conn)? - 1;
    let old = service_usage_events::table
        .filter(service_usage_events::created_at.lt(before))
        .filter(service_usage_events::position.ne(newest));
    Ok(diesel::delete(old).execute(conn)?)
}

/// A page of events behind a position, in the order of commits.
pub fn list(conn: &mut Conn, after: i64, list: &List) -> Result<Listed<UsageEvent>> {
    let filtered = || -> service_usage_events::BoxedQuery<'static, Db> {
        let mut query = service_usage_events::table.into_boxed().filter(service_usage_events::position.gt(after));
        query::filter_times!(query, service_usage_events, list, created_only);
        if let Some(guids) = list.values("guids") {
            query = query.filter(service_usage_events::guid.eq_any(guids));
        }
        if let Some(kinds) = list.values("service_instance_types") {
            query = query.filter(service_usage_events::instance_kind.eq_any(kinds));
        }
        if let Some(offerings) = list.values("service_offering_guids") {
            query = query.filter(service_usage_events::offering_guid.assume_not_null().eq_any(offerings));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let ordered = match list.order() {
        (_, true) => filtered().order(service_usage_events::position.desc()),
        (_, false) => filtered().order(service_usage_events::position.asc()),
    };
    let query = ordered.limit(i64::from(list.per_page)).offset(list.offset());
    Ok(Listed { rows: query.select(UsageEvent::as_select()).load(conn)?, total })
}

/// An instance with what events tell of it; user-provided ones have no plan.
pub struct InUse {
    pub instance: Instance,
    pub space: Space,
    pub org: Org,
    pub offered: Option<Offered>,
}

/// All instances, in order of creation.
pub fn instances(conn: &mut Conn) -> Result<Vec<InUse>> {
    let query = service_instances::table
        .inner_join(spaces::table.on(spaces::guid.eq(service_instances::space_guid)))
        .inner_join(orgs::table.on(orgs::guid.eq(spaces::org_guid)))
        .order((service_instances::created_at, service_instances::guid));
    let rows: Vec<(Instance, Space, Org)> =
        query.select((Instance::as_select(), Space::as_select(), Org::as_select())).load(conn)?;
    let plans = service_plans::all_in_use(conn)?;
    let with_plan = |(instance, space, org): (Instance, Space, Org)| {
        let offered = instance.plan_guid.as_ref().and_then(|plan| plans.get(plan)).cloned();
        InUse { instance, space, org, offered }
    };
    Ok(rows.into_iter().map(with_plan).collect())
}
