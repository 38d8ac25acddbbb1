//! Domains, shared and private.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::{domain_shares, domains, routes, spaces},
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "domains";

/// A domain as the table has it; its name is in lower case.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = domains)]
pub struct Domain {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    pub internal: bool,
    /// The owner; none: shared with everybody.
    pub org_guid: Option<String>,
}

/// Adds a domain; the name is a unique key.
pub fn insert(conn: &mut Conn, domain: &Domain) -> QueryResult<()> {
    diesel::insert_into(domains::table).values(domain).execute(conn).map(drop)
}
/// Notes that something about a domain changed. Locks its row until the commit, which puts writers of its routes in a line.
pub fn touch(conn: &mut Conn, guid: &str, now: Option<i64>) -> Result<()> {
    match now {
        Some(now) => diesel::update(domains::table.find(guid)).set(domains::updated_at.eq(now)).execute(conn)?,
        None => diesel::update(domains::table.find(guid)).set(domains::updated_at.eq(domains::updated_at)).execute(conn)?,
    };
    Ok(())
}
/// Removes a domain without routes.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(domains::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Finds a domain by its name.
pub fn find_named(conn: &mut Conn, name: &str) -> Result<Option<Domain>> {
    Ok(domains::table.filter(domains::name.eq(name.to_lowercase())).select(Domain::as_select()).first(conn).optional()?)
}
/// Domains with one of these names.
pub fn find_all_named(conn: &mut Conn, names: &[String]) -> Result<Vec<Domain>> {
    Ok(domains::table.filter(domains::name.eq_any(names)).select(Domain::as_select()).load(conn)?)
}
/// Domains whose names end like this.
pub fn find_below(conn: &mut Conn, name: &str) -> Result<Vec<Domain>> {
    let escaped = name.replace('\\', "\\\\").replace('%', "\\%").replace('_', "\\_");
    let query = domains::table.filter(domains::name.like(format!("%.{escaped}")).escape('\\'));
    Ok(query.select(Domain::as_select()).load(conn)?)
}
/// Domains by guid, in order of creation.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<Domain>> {
    let query = domains::table.filter(domains::guid.eq_any(guids)).order((domains::created_at, domains::guid));
    Ok(query.select(Domain::as_select()).load(conn)?)
}
/// The private domains that an organization owns.
pub fn owned_by(conn: &mut Conn, org: &str) -> Result<Vec<Domain>> {
    let query = domains::table.filter(domains::org_guid.eq(org)).order((domains::created_at, domains::guid));
    Ok(query.select(Domain::as_select()).load(conn)?)
}

/// Which domains are listed.
#[derive(Clone, Debug)]
pub enum Among {
    /// All that the caller sees.
    Visible,
    /// Those of them that this organization may use.
    UsableBy(String),
}

/// A page of domains.
pub fn list(conn: &mut Conn, who: &Access, among: &Among, list: &List) -> Result<Listed<Domain>> {
    let filtered = || {
        let mut query = visible(who);
        if let Among::UsableBy(org) = among {
            let shared_in =
                domain_shares::table.select(domain_shares::domain_guid).filter(domain_shares::org_guid.eq(org.clone()));
            let usable = domains::org_guid.is_null().or(domains::guid.eq_any(shared_in));
            query = query.filter(domains::org_guid.eq(org.clone()).or(usable));
        }
        query::filter_common!(query, domains, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(domains::name.eq_any(names));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(domains::org_guid.eq_any(orgs));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, domains, list, "updated_at" => domains::updated_at);
    Ok(Listed { rows: query.select(Domain::as_select()).load(conn)?, total })
}

/// Organizations through which the caller sees private domains: OM, OA, or any role in a space.
fn orgs_through(who: &Access) -> Vec<String> {
    let mut orgs = who.orgs_with(&[OrgRole::Manager, OrgRole::Auditor]);
    orgs.extend(who.orgs_of_own_spaces());
    orgs
}

fn visible(who: &Access) -> domains::BoxedQuery<'static, Db> {
    let query = domains::table.into_boxed();
    if who.global_reader() {
        return query;
    }
    let orgs = orgs_through(who);
    let shared_in = domain_shares::table.select(domain_shares::domain_guid).filter(domain_shares::org_guid.eq_any(orgs.clone()));
    query.filter(domains::org_guid.eq_any(orgs).or(domains::org_guid.is_null().or(domains::guid.eq_any(shared_in))))
}

/// Finds a domain that the caller sees.
pub fn find_visible(conn: &mut Conn, who: &Access, guid: &str) -> Result<Option<Domain>> {
    let query = visible(who).filter(domains::guid.eq(guid.to_owned()));
    Ok(query.select(Domain::as_select()).first(conn).optional()?)
}

/// The domain that routes get when nobody names one: first shared and not internal, else the first private one.
pub fn default_of(conn: &mut Conn, org: &str) -> Result<Option<Domain>> {
    let shared = domains::table.filter(domains::org_guid.is_null()).filter(domains::internal.eq(false));
    let shared = shared.order((domains::created_at, domains::guid)).select(Domain::as_select()).first(conn).optional()?;
    if shared.is_some() {
        return Ok(shared);
    }
    let private = domains::table.filter(domains::org_guid.eq(org)).order((domains::created_at, domains::guid));
    Ok(private.select(Domain::as_select()).first(conn).optional()?)
}

/// True when an organization may use a domain: shared, owned, or shared with it.
pub fn usable_by(conn: &mut Conn, domain: &Domain, org: &str) -> Result<bool> {
    match &domain.org_guid {
        None => Ok(true),
        Some(owner) if owner == org => Ok(true),
        Some(_) => is_shared(conn, &domain.guid, org),
    }
}

/// With whom these domains are shared: domain and organization.
pub fn shares(conn: &mut Conn, domains: &[String]) -> Result<Vec<(String, String)>> {
    let query = domain_shares::table.filter(domain_shares::domain_guid.eq_any(domains));
    Ok(query.order((domain_shares::domain_guid, domain_shares::org_guid)).load(conn)?)
}
/// True when a domain is shared with an organization.
pub fn is_shared(conn: &mut Conn, domain: &str, org: &str) -> Result<bool> {
    let found: i64 = domain_shares::table.find((domain, org)).count().get_result(conn)?;
    Ok(found > 0)
}
/// Shares a domain; doing it again changes nothing.
pub fn share(conn: &mut Conn, domain: &str, org: &str) -> Result<()> {
    if !is_shared(conn, domain, org)? {
        let row = (domain_shares::domain_guid.eq(domain), domain_shares::org_guid.eq(org));
        diesel::insert_into(domain_shares::table).values(row).execute(conn)?;
    }
    Ok(())
}
/// Ends sharing a domain.
pub fn unshare(conn: &mut Conn, domain: &str, org: &str) -> Result<()> {
    diesel::delete(domain_shares::table.find((domain, org))).execute(conn)?;
    Ok(())
}
/// True when an organization has routes in a domain.
pub fn has_routes_of(conn: &mut Conn, domain: &str, org: &str) -> Result<bool> {
    let of_org = spaces::table.select(spaces::guid).filter(spaces::org_guid.eq(org));
    let query = routes::table.filter(routes::domain_guid.eq(domain)).filter(routes::space_guid.eq_any(of_org));
    let found: i64 = query.count().get_result(conn)?;
    Ok(found > 0)
}
