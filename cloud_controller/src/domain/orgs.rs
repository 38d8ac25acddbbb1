//! Organizations.

use crate::{
    domain::{
        Access, Error, OrgRole, Result, Rule, Tx, audit, check_org, domains, flags, metadata::MetadataChange, roles,
        services::teardown, spaces, taken, workloads,
    },
    store::{
        self,
        jobs::Job,
        metadata::{self, Described},
        orgs::{KIND, Org},
        query::key,
        quotas,
    },
};
use serde_json::{Value, json};

/// The name of the quota that new organizations get.
pub const DEFAULT_QUOTA: &str = "default";

/// What a new organization is to be.
#[derive(Clone, Debug)]
pub struct NewOrg {
    pub name: String,
    pub suspended: bool,
    pub metadata: MetadataChange,
    /// The request, for the event.
    pub request: Value,
}

/// What an organization is to become.
#[derive(Clone, Debug)]
pub struct OrgChange {
    pub name: Option<String>,
    pub suspended: Option<bool>,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// An organization that the caller sees.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<Org> {
    store::orgs::find(tx.conn, guid)?.filter(|org| tx.who.reads_org(&org.guid)).ok_or(Error::NotFound("Organization"))
}

/// An organization that a body refers to.
///
/// # Errors
/// [`Error::Invalid`] with `text` when the caller does not see it.
pub fn referred(tx: &mut Tx<'_>, guid: &str, text: &str) -> Result<Org> {
    match readable(tx, guid) {
        Err(Error::NotFound(_)) => Err(Error::invalid(text)),
        other => other,
    }
}

/// An organization that the caller may change (O).
///
/// # Errors
/// [`Error::NotFound`], [`Error::Forbidden`], or the rule of its state.
pub fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<Org> {
    let org = readable(tx, guid)?;
    check_org(tx, &org, tx.who.writes_org(&org.guid))?;
    Ok(org)
}

/// Makes an organization. Its maker becomes user and manager, unless an administrator.
pub fn create(tx: &mut Tx<'_>, new: &NewOrg) -> Result<Described<Org>> {
    if !tx.who.admin() {
        Access::require(tx.who.caller.writes && flags::enabled(tx, "user_org_creation")? && !new.suspended)?;
    }
    let quota = quotas::find_org_quota_named(tx.conn, DEFAULT_QUOTA)?;
    let quota = quota.ok_or_else(|| Error::internal("making an organization", "there is no default quota"))?;
    let org = Org {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name: new.name.clone(),
        name_key: key(&new.name),
        suspended: new.suspended,
        deleting: false,
        quota_guid: quota.guid,
    };
    taken(store::orgs::insert(tx.conn, &org), || Error::invalid(format!("Organization '{}' already exists.", new.name)))?;
    let metadata = new.metadata.apply(tx, KIND, &org.guid)?;
    record(tx, "audit.organization.create", &org, new.request.clone())?;
    if !tx.who.admin() {
        let user = tx.who.caller.guid.clone();
        roles::grant_org(tx, OrgRole::User, &user, &org)?;
        roles::grant_org(tx, OrgRole::Manager, &user, &org)?;
    }
    Ok(Described { row: org, metadata })
}

/// Renames, suspends, describes.
pub fn update(tx: &mut Tx<'_>, guid: &str, change: &OrgChange) -> Result<Described<Org>> {
    let mut org = readable(tx, guid)?;
    Access::require(tx.who.writes_org(&org.guid))?;
    if change.suspended.is_some_and(|suspended| suspended != org.suspended) {
        tx.who.require_admin()?;
    }
    check_org(tx, &org, true)?;
    if let Some(name) = &change.name {
        org.name.clone_from(name);
        org.name_key = key(name);
    }
    org.suspended = change.suspended.unwrap_or(org.suspended);
    org.updated_at = tx.micros();
    taken(store::orgs::save(tx.conn, &org), || Error::invalid(format!("Organization name '{}' is already taken.", org.name)))?;
    let metadata = change.metadata.apply(tx, KIND, &org.guid)?;
    record(tx, "audit.organization.update", &org, change.request.clone())?;
    Ok(Described { row: org, metadata })
}

/// Deletes an organization with all that is in it.
///
/// # Errors
/// A broken rule of one part stops it; then nothing was deleted.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let org = readable(tx, guid)?;
    tx.who.require_admin()?;
    workloads::check_foreign_org(tx, &org)?;
    teardown::delete_org(tx, &org)
}

/// Deletes an organization: its spaces, its domains, the row.
pub fn delete_with_all(tx: &mut Tx<'_>, org: &Org) -> Result<()> {
    let failed = |name: &str, why: Error| match why {
        why @ (Error::Internal(..) | Error::Contention(_) | Error::Unavailable(..)) => why,
        why => {
            let lead =
                format!("Deletion of organization {name} failed because one or more resources within could not be deleted.");
            Error::rule(Rule::OrgDeletionFailed, format!("{lead}\n\n{why}"))
        }
    };
    for space in store::spaces::of_org(tx.conn, &org.guid)? {
        spaces::delete_with_all(tx, &space, org).map_err(|e| failed(&org.name, e))?;
    }
    domains::delete_of_org(tx, org).map_err(|e| failed(&org.name, e))?;
    metadata::forget(tx.conn, KIND, std::slice::from_ref(&org.guid))?;
    store::orgs::delete(tx.conn, &org.guid)?;
    record(tx, "audit.organization.delete-request", org, json!({ "recursive": true }))
}

fn record(tx: &mut Tx<'_>, kind: &str, org: &Org, request: Value) -> Result<()> {
    let target = ("organization", org.guid.as_str(), org.name.as_str());
    audit::record(tx, audit::Event { kind, target, space: None, org: Some(&org.guid), data: json!({ "request": request }) })
}
