//! Service usage events: what was there from when to when, for who bills it.

use crate::store::{Conn, query::insert_all, schema::service_usage_events};
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
