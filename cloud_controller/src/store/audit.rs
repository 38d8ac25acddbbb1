//! Audit events.

use crate::{
    domain::{Access, OrgRole, Result, SpaceRole},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::audit_events,
    },
};
use diesel::prelude::*;

/// An event as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = audit_events, treat_none_as_default_value = false)]
pub struct EventRow {
    pub guid: String,
    pub created_at: i64,
    pub kind: String,
    pub actor_guid: String,
    pub actor_kind: String,
    pub actor_name: String,
    pub target_guid: String,
    pub target_kind: String,
    pub target_name: String,
    pub data: String,
    pub space_guid: Option<String>,
    pub org_guid: Option<String>,
}

/// Adds events.
pub fn insert_many(conn: &mut Conn, rows: &[EventRow]) -> Result<()> {
    query::insert_all!(conn, audit_events, rows)
}

/// Adds an event.
pub fn insert(conn: &mut Conn, row: &EventRow) -> Result<()> {
    diesel::insert_into(audit_events::table).values(row).execute(conn)?;
    Ok(())
}

fn visible(who: &Access) -> audit_events::BoxedQuery<'static, Db> {
    let query = audit_events::table.into_boxed();
    if who.global_reader() {
        return query;
    }
    let spaces = who.spaces_with(&[SpaceRole::Auditor, SpaceRole::Developer, SpaceRole::Supporter]);
    let orgs = who.orgs_with(&[OrgRole::Auditor]);
    query.filter(audit_events::space_guid.eq_any(spaces).or(audit_events::org_guid.eq_any(orgs)))
}

/// A page of the events that the caller may see.
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<EventRow>> {
    let filtered = || {
        let mut query = visible(who);
        query::filter_times!(query, audit_events, list, created_only);
        if let Some(guids) = list.values("guids") {
            query = query.filter(audit_events::guid.eq_any(guids));
        }
        if let Some(types) = list.values("types") {
            query = query.filter(audit_events::kind.eq_any(types));
        }
        if let Some(targets) = list.values("target_guids") {
            query = query.filter(audit_events::target_guid.eq_any(targets));
        }
        if let Some(targets) = list.values("target_guids[not]") {
            query = query.filter(audit_events::target_guid.ne_all(targets));
        }
        if let Some(spaces) = list.values("space_guids") {
            query = query.filter(audit_events::space_guid.eq_any(spaces));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(audit_events::org_guid.eq_any(orgs));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, audit_events, list);
    Ok(Listed { rows: query.select(EventRow::as_select()).load(conn)?, total })
}

/// Finds an event that the caller may see.
pub fn find(conn: &mut Conn, who: &Access, guid: &str) -> Result<Option<EventRow>> {
    let query = visible(who).filter(audit_events::guid.eq(guid.to_owned()));
    Ok(query.select(EventRow::as_select()).first(conn).optional()?)
}

/// Forgets events before `before` (microseconds); returns how many.
pub fn forget(conn: &mut Conn, before: i64) -> Result<usize> {
    Ok(diesel::delete(audit_events::table.filter(audit_events::created_at.lt(before))).execute(conn)?)
}
