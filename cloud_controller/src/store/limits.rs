//! Quotas as far as running and staging apps is concerned.

use crate::{
    domain::Result,
    store::{
        Conn,
        orgs::Org,
        schema::{org_quotas, orgs, space_quotas},
        spaces::Space,
    },
};
use diesel::prelude::*;

/// Bounds of what may run in an organization or space; `None`: no bound.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Queryable)]
pub struct Limits {
    /// All instances together.
    pub memory_mb: Option<i64>,
    /// One instance.
    pub instance_memory_mb: Option<i64>,
    /// Number of instances.
    pub instances: Option<i64>,
    /// Log bytes a second of all instances together.
    pub log_rate: Option<i64>,
}

/// The bounds of a space's organization. Locks the organization's row, so that two changes at once cannot both fit.
pub fn of_org(conn: &mut Conn, org: &Org) -> Result<Limits> {
    diesel::update(orgs::table.find(&org.guid)).set(orgs::updated_at.eq(orgs::updated_at)).execute(conn)?;
    let columns =
        (org_quotas::total_memory_mb, org_quotas::per_process_memory_mb, org_quotas::total_instances, org_quotas::log_rate_limit);
    Ok(org_quotas::table.find(&org.quota_guid).select(columns).first(conn).optional()?.unwrap_or_default())
}

/// The bounds of a space.
pub fn of_space(conn: &mut Conn, space: &Space) -> Result<Limits> {
    let Some(quota) = &space.quota_guid else { return Ok(Limits::default()) };
    let columns = (
        space_quotas::total_memory_mb,
        space_quotas::per_process_memory_mb,
        space_quotas::total_instances,
        space_quotas::log_rate_limit,
    );
    Ok(space_quotas::table.find(quota).select(columns).first(conn).optional()?.unwrap_or_default())
}
