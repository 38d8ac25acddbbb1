//! Quotas: who may make them, whom they bind, and how many routes fit.

use crate::{
    domain::{Access, Error, Result, Scope, Tx, audit, check_org, orgs, taken},
    store::{
        self, Conn,
        jobs::{self, Job},
        query::key,
        quotas::{self as store_quotas, Limits, OrgQuota, SpaceQuota, Used},
    },
};
use serde_json::{Value, json};

/// Limits that a request names: `Some(None)` is unlimited, `None` leaves a limit as it is.
#[derive(Clone, Debug, Default)]
pub struct LimitsChange {
    pub total_memory_mb: Option<Option<i64>>,
    pub per_process_memory_mb: Option<Option<i64>>,
    pub total_instances: Option<Option<i64>>,
    pub per_app_tasks: Option<Option<i64>>,
    pub log_rate_limit: Option<Option<i64>>,
    pub paid_services: Option<bool>,
    pub total_service_instances: Option<Option<i64>>,
    pub total_service_keys: Option<Option<i64>>,
    pub total_routes: Option<Option<i64>>,
    pub total_reserved_ports: Option<Option<i64>>,
    pub total_domains: Option<Option<i64>>,
}

impl LimitsChange {
    fn apply(&self, limits: &mut Limits) -> Result<()> {
        let set = |limit: &mut Option<i64>, wanted: Option<Option<i64>>| *limit = wanted.unwrap_or(*limit);
        set(&mut limits.total_memory_mb, self.total_memory_mb);
        set(&mut limits.per_process_memory_mb, self.per_process_memory_mb);
        set(&mut limits.total_instances, self.total_instances);
        set(&mut limits.per_app_tasks, self.per_app_tasks);
        set(&mut limits.log_rate_limit, self.log_rate_limit);
        set(&mut limits.total_service_instances, self.total_service_instances);
        set(&mut limits.total_service_keys, self.total_service_keys);
        set(&mut limits.total_routes, self.total_routes);
        set(&mut limits.total_reserved_ports, self.total_reserved_ports);
        set(&mut limits.total_domains, self.total_domains);
        limits.paid_services = self.paid_services.unwrap_or(limits.paid_services);
        if let (Some(routes), Some(ports)) = (limits.total_routes, limits.total_reserved_ports)
            && ports > routes
        {
            return Err(Error::invalid("Total reserved ports must be less than or equal to total routes"));
        }
        Ok(())
    }
}

/// A quota of organizations and those that have it.
pub type OrgQuotaView = (OrgQuota, Vec<String>);
/// A quota of spaces and those that have it.
pub type SpaceQuotaView = (SpaceQuota, Vec<String>);

/// Which of the organizations that have these quotas the caller sees.
pub fn org_views(tx: &mut Tx<'_>, rows: Vec<OrgQuota>) -> Result<Vec<OrgQuotaView>> {
    let guids: Vec<String> = rows.iter().map(|row| row.guid.clone()).collect();
    let users = store_quotas::orgs_with(tx.conn, &guids)?;
    let who = tx.who.clone();
    let of = |quota: &str| users.iter().filter(|(q, org)| q == quota && who.reads_org(org)).map(|(_, org)| org.clone()).collect();
    Ok(rows.into_iter().map(|row| (row.clone(), of(&row.guid))).collect())
}

/// Which of the spaces that have these quotas the caller reads.
pub fn space_views(tx: &mut Tx<'_>, rows: Vec<SpaceQuota>) -> Result<Vec<SpaceQuotaView>> {
    let guids: Vec<String> = rows.iter().map(|row| row.guid.clone()).collect();
    let users = store_quotas::spaces_with(tx.conn, &guids)?;
    let who = tx.who.clone();
    let of = |quota: &str| {
        let seen = users.iter().filter(|(q, space, org)| q == quota && who.reads_space(space, org));
        seen.map(|(_, space, _)| space.clone()).collect()
    };
    Ok(rows.into_iter().map(|row| (row.clone(), of(&row.guid))).collect())
}

/// Makes a quota of organizations (A).
pub fn create_org_quota(
    tx: &mut Tx<'_>,
    name: &str,
    change: &LimitsChange,
    orgs: &[String],
    request: Value,
) -> Result<OrgQuotaView> {
    tx.who.require_admin()?;
    let mut quota = OrgQuota::unlimited(tx.guid(), tx.micros(), name);
    let mut limits = quota.limits();
    change.apply(&mut limits)?;
    quota.set_limits(&limits);
    taken(store_quotas::insert_org_quota(tx.conn, &quota), || {
        Error::invalid(format!("Organization Quota '{name}' already exists."))
    })?;
    apply_org_quota_to(tx, &quota, orgs)?;
    record_org(tx, "audit.organization_quota.create", &quota, None, request)?;
    one_org_view(tx, quota)
}

/// Finds a quota of organizations; everybody sees all.
pub fn find_org_quota(tx: &mut Tx<'_>, guid: &str) -> Result<OrgQuotaView> {
    let quota = store_quotas::find_org_quota(tx.conn, guid)?.ok_or(Error::NotFound("Organization quota"))?;
    one_org_view(tx, quota)
}

fn one_org_view(tx: &mut Tx<'_>, quota: OrgQuota) -> Result<OrgQuotaView> {
    org_views(tx, vec![quota])?.pop().ok_or(Error::NotFound("Organization quota"))
}

/// Changes a quota of organizations (A).
pub fn update_org_quota(
    tx: &mut Tx<'_>,
    guid: &str,
    name: Option<&str>,
    change: &LimitsChange,
    request: Value,
) -> Result<OrgQuotaView> {
    let (mut quota, _) = find_org_quota(tx, guid)?;
    tx.who.require_admin()?;
    if let Some(name) = name {
        name.clone_into(&mut quota.name);
        quota.name_key = key(name);
    }
    let mut limits = quota.limits();
    change.apply(&mut limits)?;
    quota.set_limits(&limits);
    quota.updated_at = tx.micros();
    let text = || Error::invalid(format!("Organization Quota '{}' already exists.", quota.name));
    taken(store_quotas::save_org_quota(tx.conn, &quota), text)?;
    record_org(tx, "audit.organization_quota.update", &quota, None, request)?;
    one_org_view(tx, quota)
}

/// Deletes a quota that no organization has (A).
pub fn delete_org_quota(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let (quota, _) = find_org_quota(tx, guid)?;
    tx.who.require_admin()?;
    if !store_quotas::orgs_with(tx.conn, &[guid.to_owned()])?.is_empty() {
        let text =
            "This quota is applied to one or more organizations. Apply different quotas to those organizations before deleting.";
        return Err(Error::invalid(text));
    }
    store_quotas::delete_org_quota(tx.conn, guid)?;
    record_org(tx, "audit.organization_quota.delete", &quota, None, json!({}))?;
    jobs::done(tx, "organization_quota.delete", Some(("organization_quotas", guid)))
}

/// Gives a quota to organizations (A); all that have it come back.
pub fn apply_org_quota(tx: &mut Tx<'_>, guid: &str, orgs: &[String]) -> Result<Vec<String>> {
    let (quota, _) = find_org_quota(tx, guid)?;
    tx.who.require_admin()?;
    apply_org_quota_to(tx, &quota, orgs)?;
    Ok(one_org_view(tx, quota)?.1)
}

fn apply_org_quota_to(tx: &mut Tx<'_>, quota: &OrgQuota, orgs: &[String]) -> Result<()> {
    let known = store::orgs::find_all(tx.conn, orgs)?;
    let missing: Vec<String> = orgs.iter().filter(|g| !known.iter().any(|o| o.guid == **g)).map(|g| format!("\"{g}\"")).collect();
    if !missing.is_empty() {
        let listed = missing.join(", ");
        return Err(Error::invalid(format!(
            "Organizations with guids [{listed}] do not exist, or you do not have access to them."
        )));
    }
    for mut org in known {
        org.quota_guid.clone_from(&quota.guid);
        store::orgs::save(tx.conn, &org)?;
        record_org(tx, "audit.organization_quota.apply", quota, Some(&org.guid), json!({}))?;
    }
    Ok(())
}

fn record_org(tx: &mut Tx<'_>, kind: &str, quota: &OrgQuota, org: Option<&str>, request: Value) -> Result<()> {
    let target = ("organization_quota", quota.guid.as_str(), quota.name.as_str());
    audit::record(tx, audit::Event { kind, target, space: None, org, data: json!({ "request": request }) })
}

/// Makes a quota of spaces (O).
pub fn create_space_quota(
    tx: &mut Tx<'_>,
    name: &str,
    org: &str,
    change: &LimitsChange,
    spaces: &[String],
    request: Value,
) -> Result<SpaceQuotaView> {
    let org = orgs::referred(tx, org, "Invalid organization. Ensure the organization exists and you have access to it.")?;
    check_org(tx, &org, tx.who.writes_org(&org.guid))?;
    let mut quota = SpaceQuota::unlimited(tx.guid(), tx.micros(), name, &org.guid);
    let mut limits = quota.limits();
    change.apply(&mut limits)?;
    quota.set_limits(&limits);
    taken(store_quotas::insert_space_quota(tx.conn, &quota), || Error::invalid(format!("Space Quota '{name}' already exists.")))?;
    let lead = "do not exist within the organization specified, or you do not have access to them.";
    apply_space_quota_to(tx, &quota, spaces, lead)?;
    record_space(tx, "audit.space_quota.create", &quota, None, request)?;
    one_space_view(tx, quota)
}

/// A quota of spaces that the caller sees: G, OM, readers of a space that has it.
pub fn find_space_quota(tx: &mut Tx<'_>, guid: &str) -> Result<SpaceQuotaView> {
    let missing = || Error::NotFound("Space quota");
    let quota = store_quotas::find_space_quota(tx.conn, guid)?.ok_or_else(missing)?;
    let view = one_space_view(tx, quota)?;
    let manages = tx.who.global_reader() || tx.who.writes_org(&view.0.org_guid);
    if manages || !view.1.is_empty() { Ok(view) } else { Err(missing()) }
}

fn one_space_view(tx: &mut Tx<'_>, quota: SpaceQuota) -> Result<SpaceQuotaView> {
    space_views(tx, vec![quota])?.pop().ok_or(Error::NotFound("Space quota"))
}

fn writable_space_quota(tx: &mut Tx<'_>, guid: &str) -> Result<SpaceQuota> {
    let (quota, _) = find_space_quota(tx, guid)?;
    Access::require(tx.who.writes_org(&quota.org_guid))?;
    let org = orgs::readable(tx, &quota.org_guid)?;
    check_org(tx, &org, true)?;
    Ok(quota)
}

/// Changes a quota of spaces (O).
pub fn update_space_quota(
    tx: &mut Tx<'_>,
    guid: &str,
    name: Option<&str>,
    change: &LimitsChange,
    request: Value,
) -> Result<SpaceQuotaView> {
    let mut quota = writable_space_quota(tx, guid)?;
    if let Some(name) = name {
        name.clone_into(&mut quota.name);
        quota.name_key = key(name);
    }
    let mut limits = quota.limits();
    change.apply(&mut limits)?;
    quota.set_limits(&limits);
    quota.updated_at = tx.micros();
    let text = || Error::invalid(format!("Space Quota '{}' already exists.", quota.name));
    taken(store_quotas::save_space_quota(tx.conn, &quota), text)?;
    record_space(tx, "audit.space_quota.update", &quota, None, request)?;
    one_space_view(tx, quota)
}

/// Deletes a quota that no space has (O).
pub fn delete_space_quota(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let quota = writable_space_quota(tx, guid)?;
    if !store_quotas::spaces_with(tx.conn, &[guid.to_owned()])?.is_empty() {
        return Err(Error::invalid(
            "This quota is applied to one or more spaces. Remove this quota from all spaces before deleting.",
        ));
    }
    store_quotas::delete_space_quota(tx.conn, guid)?;
    record_space(tx, "audit.space_quota.delete", &quota, None, json!({}))?;
    jobs::done(tx, "space_quota.delete", Some(("space_quotas", guid)))
}

/// Gives a quota to spaces of its organization (O); all that have it come back.
pub fn apply_space_quota(tx: &mut Tx<'_>, guid: &str, spaces: &[String]) -> Result<Vec<String>> {
    let quota = writable_space_quota(tx, guid)?;
    apply_space_quota_to(tx, &quota, spaces, "do not exist, or you do not have access to them.")?;
    Ok(one_space_view(tx, quota)?.1)
}

fn apply_space_quota_to(tx: &mut Tx<'_>, quota: &SpaceQuota, spaces: &[String], lead: &str) -> Result<()> {
    let who = tx.who.clone();
    let mut known = store::spaces::find_all(tx.conn, spaces)?;
    known.retain(|space| who.reads_space(&space.guid, &space.org_guid));
    let missing: Vec<String> =
        spaces.iter().filter(|g| !known.iter().any(|s| s.guid == **g)).map(|g| format!("\"{g}\"")).collect();
    if !missing.is_empty() {
        return Err(Error::invalid(format!("Spaces with guids [{}] {lead}", missing.join(", "))));
    }
    if known.iter().any(|space| space.org_guid != quota.org_guid) {
        return Err(Error::invalid("Space quotas cannot be applied outside of their owning organization."));
    }
    for mut space in known {
        space.quota_guid = Some(quota.guid.clone());
        store::spaces::save(tx.conn, &space)?;
        record_space(tx, "audit.space_quota.apply", quota, Some(&space.guid), json!({}))?;
    }
    Ok(())
}

/// Takes a quota from a space (O).
pub fn remove_space_quota(tx: &mut Tx<'_>, guid: &str, space: &str) -> Result<()> {
    let quota = writable_space_quota(tx, guid)?;
    let found = store::spaces::find(tx.conn, space)?.filter(|found| found.quota_guid.as_deref() == Some(guid));
    let text = format!("Unable to remove quota from space with guid '{space}'. Ensure the space quota is applied to this space.");
    let mut found = found.ok_or_else(|| Error::invalid(text))?;
    found.quota_guid = None;
    store::spaces::save(tx.conn, &found)?;
    record_space(tx, "audit.space_quota.remove", &quota, Some(space), json!({}))
}

fn record_space(tx: &mut Tx<'_>, kind: &str, quota: &SpaceQuota, space: Option<&str>, request: Value) -> Result<()> {
    let target = ("space_quota", quota.guid.as_str(), quota.name.as_str());
    let event = audit::Event { kind, target, space, org: Some(&quota.org_guid), data: json!({ "request": request }) };
    audit::record(tx, event)
}

/// Whose quota has no room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Full {
    Space,
    Org,
}

/// Counts what a space, or an organization, has.
type Count = fn(&mut Conn, &str) -> Result<i64>;

/// Whether there is no room for one more of something: the quota of the space is asked before that of the organization.
pub fn full(
    tx: &mut Tx<'_>,
    scope: &Scope,
    limit: fn(&Limits) -> Option<i64>,
    (in_space, in_org): (Count, Count),
) -> Result<Option<Full>> {
    // Of two requests at the same moment, the second counts what the first has made.
    store::orgs::lock(tx.conn, &scope.org.guid)?;
    let (of_space, of_org) = limits_of(tx, scope)?;
    if let Some(most) = of_space.as_ref().and_then(limit)
        && in_space(tx.conn, &scope.space.guid)? >= most
    {
        return Ok(Some(Full::Space));
    }
    match of_org.as_ref().and_then(limit) {
        Some(most) if in_org(tx.conn, &scope.org.guid)? >= most => Ok(Some(Full::Org)),
        _ => Ok(None),
    }
}

/// The limits of a space and of its organization; none: it has no quota.
pub fn limits_of(tx: &mut Tx<'_>, scope: &Scope) -> Result<(Option<Limits>, Option<Limits>)> {
    let of_space = match &scope.space.quota_guid {
        Some(quota) => store_quotas::find_space_quota(tx.conn, quota)?.map(|quota| quota.limits()),
        None => None,
    };
    let of_org = store_quotas::find_org_quota(tx.conn, &scope.org.quota_guid)?.map(|quota| quota.limits());
    Ok((of_space, of_org))
}

/// Checks that one more route fits.
///
/// # Errors
/// [`Error::Invalid`] with the quota's words.
pub fn check_routes(tx: &mut Tx<'_>, scope: &Scope) -> Result<()> {
    let count: (Count, Count) = (store_quotas::routes_of_space, store_quotas::routes_of_org);
    match full(tx, scope, |limits| limits.total_routes, count)? {
        Some(Full::Space) => Err(Error::invalid(format!("Routes quota exceeded for space '{}'.", scope.space.name))),
        Some(Full::Org) => Err(Error::invalid(format!("Routes quota exceeded for organization '{}'.", scope.org.name))),
        None => Ok(()),
    }
}

/// What an organization uses.
pub fn used_by_org(tx: &mut Tx<'_>, guid: &str) -> Result<Used> {
    let org = orgs::readable(tx, guid)?;
    store_quotas::used_by_org(tx.conn, &org.guid)
}

/// What a space uses.
pub fn used_by_space(tx: &mut Tx<'_>, guid: &str) -> Result<Used> {
    let scope = Scope::readable(tx, guid, "Space")?;
    store_quotas::used_by_space(tx.conn, guid, &scope.org.guid)
}

/// What the platform uses (G).
///
/// # Errors
/// [`Error::UnknownRequest`] for others.
pub fn used_by_all(tx: &mut Tx<'_>) -> Result<Used> {
    if tx.who.global_reader() { store_quotas::used_by_all(tx.conn) } else { Err(Error::UnknownRequest) }
}
