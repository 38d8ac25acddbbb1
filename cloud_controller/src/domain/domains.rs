//! Domains: shared ones are the administrators', private ones an organization's.

use crate::{
    domain::{Access, Error, Result, Tx, check_org, flags, metadata::MetadataChange, orgs, reserved, routes, taken},
    store::{
        self,
        domains::{Domain, KIND},
        jobs::{self, Job},
        metadata::{self, Described},
        orgs::Org,
        quotas,
    },
};

/// What a new domain is to be.
#[derive(Clone, Debug)]
pub struct NewDomain {
    pub name: String,
    pub internal: bool,
    /// The owner of a private domain.
    pub org: Option<String>,
    /// Others who may use it.
    pub shared_with: Vec<String>,
    pub metadata: MetadataChange,
}

/// A domain that the caller sees.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<Domain> {
    let who = tx.who.clone();
    store::domains::find_visible(tx.conn, &who, guid)?.ok_or(Error::NotFound("Domain"))
}

/// A domain that the caller may change: shared ones A, private ones O of the owner.
pub fn writable(tx: &mut Tx<'_>, guid: &str) -> Result<Domain> {
    let domain = readable(tx, guid)?;
    match &domain.org_guid {
        None => tx.who.require_admin()?,
        Some(owner) => {
            Access::require(tx.who.writes_org(owner))?;
            let org = orgs::readable(tx, owner)?;
            check_org(tx, &org, true)?;
        }
    }
    Ok(domain)
}

/// Makes a domain.
pub fn create(tx: &mut Tx<'_>, system_domain: &str, new: &NewDomain) -> Result<Described<Domain>> {
    let name = new.name.to_lowercase();
    let owner = match &new.org {
        None => {
            tx.who.require_admin()?;
            None
        }
        Some(org) => Some(check_owner(tx, org, new)?),
    };
    reserved::check_domain(tx, system_domain, &name, owner.as_ref().map(|org| org.guid.as_str()))?;
    let domain = Domain {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        name,
        internal: new.internal,
        org_guid: owner.as_ref().map(|org| org.guid.clone()),
    };
    let text = || Error::invalid(format!("The domain name \"{}\" is already in use", domain.name));
    taken(store::domains::insert(tx.conn, &domain), text)?;
    if owner.is_some() {
        share(tx, &domain, &new.shared_with)?;
    }
    let metadata = new.metadata.apply(tx, KIND, &domain.guid)?;
    Ok(Described { row: domain, metadata })
}

fn check_owner(tx: &mut Tx<'_>, org: &str, new: &NewDomain) -> Result<Org> {
    flags::require(tx, "private_domain_creation")?;
    let text = format!("Organization with guid '{org}' does not exist or you do not have access to it.");
    let org = orgs::referred(tx, org, &text)?;
    check_org(tx, &org, tx.who.writes_org(&org.guid))?;
    if new.internal {
        return Err(Error::invalid("Cannot associate an internal domain with an organization"));
    }
    store::orgs::lock(tx.conn, &org.guid)?;
    let quota = quotas::find_org_quota(tx.conn, &org.quota_guid)?;
    let owned = store::domains::owned_by(tx.conn, &org.guid)?.len();
    if quota.and_then(|quota| quota.total_domains).is_some_and(|most| owned as i64 >= most) {
        return Err(Error::invalid(format!("The number of private domains exceeds the quota for organization \"{}\"", org.name)));
    }
    Ok(org)
}

/// Changes the metadata.
pub fn update(tx: &mut Tx<'_>, guid: &str, change: &MetadataChange) -> Result<Described<Domain>> {
    let mut domain = writable(tx, guid)?;
    domain.updated_at = tx.micros();
    store::domains::touch(tx.conn, guid, Some(domain.updated_at))?;
    let metadata = change.apply(tx, KIND, guid)?;
    Ok(Described { row: domain, metadata })
}

/// Deletes a domain with its routes.
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let domain = writable(tx, guid)?;
    if !store::domains::shares(tx.conn, &[guid.to_owned()])?.is_empty() {
        return Err(Error::invalid("This domain is shared with other organizations. Unshare before deleting."));
    }
    delete_with_routes(tx, &domain)?;
    jobs::done(tx, "domain.delete", Some(("domains", guid)))
}

fn delete_with_routes(tx: &mut Tx<'_>, domain: &Domain) -> Result<()> {
    let of_domain = store::routes::of_domain(tx.conn, &domain.guid)?;
    routes::delete_all(tx, &of_domain)?;
    metadata::forget(tx.conn, KIND, std::slice::from_ref(&domain.guid))?;
    store::domains::delete(tx.conn, &domain.guid)
}

/// Deletes what an organization owns; its spaces are gone already.
pub fn delete_of_org(tx: &mut Tx<'_>, org: &Org) -> Result<()> {
    for domain in store::domains::owned_by(tx.conn, &org.guid)? {
        if !store::domains::shares(tx.conn, std::slice::from_ref(&domain.guid))?.is_empty() {
            let text = format!("Domain '{}' is shared with other organizations. Unshare before deleting.", domain.name);
            return Err(Error::invalid(text));
        }
        delete_with_routes(tx, &domain)?;
    }
    Ok(())
}

/// Lets other organizations use a private domain.
pub fn share_with(tx: &mut Tx<'_>, guid: &str, with: &[String]) -> Result<Vec<String>> {
    let domain = readable(tx, guid)?;
    let Some(owner) = domain.org_guid.clone() else {
        tx.who.require_admin()?;
        let text = "Domains cannot be shared with other organizations unless they are scoped to an organization.";
        return Err(Error::invalid(text));
    };
    Access::require(tx.who.writes_org(&owner))?;
    let org = orgs::readable(tx, &owner)?;
    check_org(tx, &org, true)?;
    share(tx, &domain, with)?;
    let shares = store::domains::shares(tx.conn, &[domain.guid])?;
    Ok(shares.into_iter().map(|(_, org)| org).collect())
}

fn share(tx: &mut Tx<'_>, domain: &Domain, with: &[String]) -> Result<()> {
    for guid in with {
        let text = format!("Organization with guid '{guid}' does not exist or you do not have access to it.");
        let org = orgs::referred(tx, guid, &text)?;
        if !tx.who.writes_org(guid) {
            let text = format!("You do not have sufficient permissions for organization '{}' to share domain.", org.name);
            return Err(Error::invalid(text));
        }
        if org.suspended && !tx.who.admin() {
            return Err(Error::invalid(format!("Organization '{}' is suspended.", org.name)));
        }
        if domain.org_guid.as_deref() == Some(guid) {
            return Err(Error::invalid("Domain cannot be shared with owning organization."));
        }
        store::domains::share(tx.conn, &domain.guid, guid)?;
    }
    Ok(())
}

/// Takes a private domain away from an organization that does not own it.
pub fn unshare(tx: &mut Tx<'_>, guid: &str, from: &str) -> Result<()> {
    let domain = readable(tx, guid)?;
    let text = format!("Organization with guid '{from}' does not exist or you do not have access to it.");
    let org = orgs::referred(tx, from, &text)?;
    let owns = domain.org_guid.as_deref().is_some_and(|owner| tx.who.writes_org(owner));
    Access::require(owns || tx.who.writes_org(from))?;
    if !store::domains::is_shared(tx.conn, guid, from)? {
        let name = &org.name;
        let text = format!(
            "Unable to unshare domain from organization with name '{name}'. Ensure the domain is shared to this organization."
        );
        return Err(Error::invalid(text));
    }
    if store::domains::has_routes_of(tx.conn, guid, from)? {
        let text = "This domain has associated routes in this organization. Delete the routes before unsharing.";
        return Err(Error::invalid(text));
    }
    store::domains::unshare(tx.conn, guid, from)
}
