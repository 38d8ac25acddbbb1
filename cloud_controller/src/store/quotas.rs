//! Quotas of organizations and of spaces.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::{
            apps, domains, org_quotas, orgs, processes, routes, service_bindings as binding_table,
            service_instances as instance_table, space_quotas, spaces,
        },
        service_bindings, service_instances,
    },
};
use diesel::prelude::*;

/// The limits of a quota; none means unlimited.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    pub total_memory_mb: Option<i64>,
    pub per_process_memory_mb: Option<i64>,
    pub total_instances: Option<i64>,
    pub per_app_tasks: Option<i64>,
    pub log_rate_limit: Option<i64>,
    pub paid_services: bool,
    pub total_service_instances: Option<i64>,
    pub total_service_keys: Option<i64>,
    pub total_routes: Option<i64>,
    pub total_reserved_ports: Option<i64>,
    /// Organizations only.
    pub total_domains: Option<i64>,
}

/// A quota as its table has it: what those of organizations and of spaces have in common, and what only one of them has.
macro_rules! quota {
    ($(#[$doc:meta])* $row:ident, $table:ident, $limits:ident, $set_limits:ident, { $($(#[$own_doc:meta])* $own:ident: $kind:ty = $new:expr,)* }, ($($given:ident: $given_kind:ty),*)) => {
        $(#[$doc])*
        #[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
        #[diesel(table_name = $table, primary_key(guid), treat_none_as_null = true)]
        pub struct $row {
            pub guid: String,
            pub created_at: i64,
            pub updated_at: i64,
            pub name: String,
            pub name_key: String,
            pub total_memory_mb: Option<i64>,
            pub per_process_memory_mb: Option<i64>,
            pub total_instances: Option<i64>,
            pub per_app_tasks: Option<i64>,
            pub log_rate_limit: Option<i64>,
            pub paid_services: bool,
            pub total_service_instances: Option<i64>,
            pub total_service_keys: Option<i64>,
            pub total_routes: Option<i64>,
            pub total_reserved_ports: Option<i64>,
            $($(#[$own_doc])* pub $own: $kind,)*
        }

        impl $row {
            /// One without limits.
            pub fn unlimited(guid: String, now: i64, name: &str, $($given: $given_kind),*) -> Self {
                Self {
                    guid,
                    created_at: now,
                    updated_at: now,
                    name: name.to_owned(),
                    name_key: query::key(name),
                    total_memory_mb: None,
                    per_process_memory_mb: None,
                    total_instances: None,
                    per_app_tasks: None,
                    log_rate_limit: None,
                    paid_services: true,
                    total_service_instances: None,
                    total_service_keys: None,
                    total_routes: None,
                    total_reserved_ports: None,
                    $($own: $new,)*
                }
            }
            /// Its limits, without that of domains.
            pub fn $limits(&self) -> Limits {
                Limits {
                    total_memory_mb: self.total_memory_mb,
                    per_process_memory_mb: self.per_process_memory_mb,
                    total_instances: self.total_instances,
                    per_app_tasks: self.per_app_tasks,
                    log_rate_limit: self.log_rate_limit,
                    paid_services: self.paid_services,
                    total_service_instances: self.total_service_instances,
                    total_service_keys: self.total_service_keys,
                    total_routes: self.total_routes,
                    total_reserved_ports: self.total_reserved_ports,
                    total_domains: None,
                }
            }
            /// Takes these limits, without that of domains.
            pub fn $set_limits(&mut self, limits: &Limits) {
                self.total_memory_mb = limits.total_memory_mb;
                self.per_process_memory_mb = limits.per_process_memory_mb;
                self.total_instances = limits.total_instances;
                self.per_app_tasks = limits.per_app_tasks;
                self.log_rate_limit = limits.log_rate_limit;
                self.paid_services = limits.paid_services;
                self.total_service_instances = limits.total_service_instances;
                self.total_service_keys = limits.total_service_keys;
                self.total_routes = limits.total_routes;
                self.total_reserved_ports = limits.total_reserved_ports;
            }
        }
    };
}
quota! {
    /// A quota of organizations as the table has it.
    OrgQuota, org_quotas, space_limits, set_space_limits, { total_domains: Option<i64> = None, }, ()
}
quota! {
    /// A quota of spaces as the table has it.
    SpaceQuota, space_quotas, limits, set_limits, { org_guid: String = org.to_owned(), }, (org: &str)
}

impl OrgQuota {
    /// Its limits.
    pub fn limits(&self) -> Limits {
        Limits { total_domains: self.total_domains, ..self.space_limits() }
    }
    /// Takes these limits.
    pub fn set_limits(&mut self, limits: &Limits) {
        self.set_space_limits(limits);
        self.total_domains = limits.total_domains;
    }
}

/// Adds a quota; the name is a unique key.
pub fn insert_org_quota(conn: &mut Conn, quota: &OrgQuota) -> QueryResult<()> {
    diesel::insert_into(org_quotas::table).values(quota).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save_org_quota(conn: &mut Conn, quota: &OrgQuota) -> QueryResult<()> {
    diesel::update(org_quotas::table.find(&quota.guid)).set(quota).execute(conn).map(drop)
}
/// Removes a quota that no organization has.
pub fn delete_org_quota(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(org_quotas::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Finds a quota.
pub fn find_org_quota(conn: &mut Conn, guid: &str) -> Result<Option<OrgQuota>> {
    Ok(org_quotas::table.find(guid).select(OrgQuota::as_select()).first(conn).optional()?)
}
/// Finds a quota by name.
pub fn find_org_quota_named(conn: &mut Conn, name: &str) -> Result<Option<OrgQuota>> {
    let query = org_quotas::table.filter(org_quotas::name_key.eq(query::key(name)));
    Ok(query.select(OrgQuota::as_select()).first(conn).optional()?)
}
/// A page of quotas: everybody sees all.
pub fn list_org_quotas(conn: &mut Conn, list: &List) -> Result<Listed<OrgQuota>> {
    let filtered = || -> org_quotas::BoxedQuery<'static, Db> {
        let mut query = org_quotas::table.into_boxed();
        query::filter_common!(query, org_quotas, list);
        if let Some(names) = list.keys("names") {
            query = query.filter(org_quotas::name_key.eq_any(names));
        }
        if let Some(guids) = list.values("organization_guids") {
            query = query.filter(org_quotas::guid.eq_any(orgs::table.select(orgs::quota_guid).filter(orgs::guid.eq_any(guids))));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, org_quotas, list, "updated_at" => org_quotas::updated_at, "name" => org_quotas::name_key);
    Ok(Listed { rows: query.select(OrgQuota::as_select()).load(conn)?, total })
}
/// Organizations that have one of these quotas: quota and organization.
pub fn orgs_with(conn: &mut Conn, quotas: &[String]) -> Result<Vec<(String, String)>> {
    let query = orgs::table.filter(orgs::quota_guid.eq_any(quotas)).order((orgs::created_at, orgs::guid));
    Ok(query.select((orgs::quota_guid, orgs::guid)).load(conn)?)
}

/// Adds a quota; organization and name are a unique key.
pub fn insert_space_quota(conn: &mut Conn, quota: &SpaceQuota) -> QueryResult<()> {
    diesel::insert_into(space_quotas::table).values(quota).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save_space_quota(conn: &mut Conn, quota: &SpaceQuota) -> QueryResult<()> {
    diesel::update(space_quotas::table.find(&quota.guid)).set(quota).execute(conn).map(drop)
}
/// Removes a quota that no space has.
pub fn delete_space_quota(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(space_quotas::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Finds a quota.
pub fn find_space_quota(conn: &mut Conn, guid: &str) -> Result<Option<SpaceQuota>> {
    Ok(space_quotas::table.find(guid).select(SpaceQuota::as_select()).first(conn).optional()?)
}
/// A page of the quotas that the caller sees: G, OM of the organization, readers of a space that has it.
pub fn list_space_quotas(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<SpaceQuota>> {
    let filtered = || -> space_quotas::BoxedQuery<'static, Db> {
        let mut query = space_quotas::table.into_boxed();
        if !who.global_reader() {
            let used = spaces::table.select(spaces::quota_guid.assume_not_null());
            let used = used.filter(spaces::quota_guid.is_not_null()).filter(spaces::guid.eq_any(who.own_spaces()));
            let managed = who.orgs_with(&[OrgRole::Manager]);
            query = query.filter(space_quotas::org_guid.eq_any(managed).or(space_quotas::guid.eq_any(used)));
        }
        query::filter_common!(query, space_quotas, list);
        if let Some(names) = list.keys("names") {
            query = query.filter(space_quotas::name_key.eq_any(names));
        }
        if let Some(guids) = list.values("organization_guids") {
            query = query.filter(space_quotas::org_guid.eq_any(guids));
        }
        if let Some(guids) = list.values("space_guids") {
            let used = spaces::table.select(spaces::quota_guid.assume_not_null());
            query = query.filter(
                space_quotas::guid.eq_any(used.filter(spaces::quota_guid.is_not_null()).filter(spaces::guid.eq_any(guids))),
            );
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, space_quotas, list, "updated_at" => space_quotas::updated_at, "name" => space_quotas::name_key);
    Ok(Listed { rows: query.select(SpaceQuota::as_select()).load(conn)?, total })
}
/// Spaces that have one of these quotas: quota, space, organization.
pub fn spaces_with(conn: &mut Conn, quotas: &[String]) -> Result<Vec<(String, String, String)>> {
    let query = spaces::table
        .filter(spaces::quota_guid.eq_any(quotas.iter().map(Some).collect::<Vec<_>>()))
        .order((spaces::created_at, spaces::guid))
        .select((spaces::quota_guid.assume_not_null(), spaces::guid, spaces::org_guid));
    Ok(query.load(conn)?)
}

/// What an organization or one of its spaces uses of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub memory_mb: i64,
    pub instances: i64,
    pub routes: i64,
    pub domains: i64,
    /// Managed ones.
    pub service_instances: i64,
    pub service_keys: i64,
}

/// What the started processes of these spaces use: memory and instances.
fn processes_of(conn: &mut Conn, of_spaces: Vec<String>) -> Result<(i64, i64)> {
    let rows: Vec<(i32, i32)> = processes::table
        .inner_join(apps::table.on(apps::guid.eq(processes::app_guid)))
        .filter(apps::state.eq("STARTED"))
        .filter(apps::space_guid.eq_any(of_spaces))
        .select((processes::memory_mb, processes::instances))
        .load(conn)?;
    let each = rows.into_iter().map(|(memory, instances)| (i64::from(memory) * i64::from(instances), i64::from(instances)));
    Ok(each.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1)))
}

/// What a space uses; its domains are those that its organization owns.
pub fn used_by_space(conn: &mut Conn, space: &str, org: &str) -> Result<Used> {
    let (memory_mb, instances) = processes_of(conn, vec![space.to_owned()])?;
    let routes = routes::table.filter(routes::space_guid.eq(space)).count().get_result(conn)?;
    let domains = domains::table.filter(domains::org_guid.eq(org)).count().get_result(conn)?;
    let service_instances = service_instances::count_managed_in_space(conn, space)?;
    let service_keys = service_bindings::keys_of_space(conn, space)?;
    Ok(Used { memory_mb, instances, routes, domains, service_instances, service_keys })
}

/// What an organization uses.
pub fn used_by_org(conn: &mut Conn, org: &str) -> Result<Used> {
    let of_org: Vec<String> = spaces::table.filter(spaces::org_guid.eq(org)).select(spaces::guid).load(conn)?;
    let (memory_mb, instances) = processes_of(conn, of_org.clone())?;
    let routes = routes::table.filter(routes::space_guid.eq_any(of_org)).count().get_result(conn)?;
    let domains = domains::table.filter(domains::org_guid.eq(org)).count().get_result(conn)?;
    let service_instances = service_instances::count_managed_in_org(conn, org)?;
    let service_keys = service_bindings::keys_of_org(conn, org)?;
    Ok(Used { memory_mb, instances, routes, domains, service_instances, service_keys })
}

/// What the whole platform uses; its domains are the private ones.
pub fn used_by_all(conn: &mut Conn) -> Result<Used> {
    let all: Vec<String> = spaces::table.select(spaces::guid).load(conn)?;
    let (memory_mb, instances) = processes_of(conn, all)?;
    let routes = routes::table.count().get_result(conn)?;
    let domains = domains::table.filter(domains::org_guid.is_not_null()).count().get_result(conn)?;
    let service_instances = instance_table::table.filter(instance_table::kind.eq("managed")).count().get_result(conn)?;
    let service_keys = binding_table::table.filter(binding_table::kind.eq("key")).count().get_result(conn)?;
    Ok(Used { memory_mb, instances, routes, domains, service_instances, service_keys })
}

/// How many routes a space has.
pub fn routes_of_space(conn: &mut Conn, space: &str) -> Result<i64> {
    Ok(routes::table.filter(routes::space_guid.eq(space)).count().get_result(conn)?)
}
/// How many routes an organization has.
pub fn routes_of_org(conn: &mut Conn, org: &str) -> Result<i64> {
    let of_org = spaces::table.select(spaces::guid).filter(spaces::org_guid.eq(org));
    Ok(routes::table.filter(routes::space_guid.eq_any(of_org)).count().get_result(conn)?)
}
