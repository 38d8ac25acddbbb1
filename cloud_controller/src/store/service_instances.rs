//! Service instances and their shares.

use crate::{
    domain::{Access, OrgRole, Result},
    store::{
        Conn, Db,
        query::{self, List, Listed},
        schema::{
            apps, service_bindings, service_brokers, service_instance_shares, service_instances, service_offerings,
            service_plans, spaces,
        },
        service_bindings::Binding,
        service_brokers::Broker,
        service_offerings::Offering,
        service_plans::{Offered, Plan},
        spaces::Space,
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "service_instances";

/// An instance as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_instances, primary_key(guid), treat_none_as_null = true)]
pub struct Instance {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub name: String,
    /// `managed` or `user-provided`
    pub kind: String,
    pub space_guid: String,
    /// Of a managed one.
    pub plan_guid: Option<String>,
    /// A JSON array.
    pub tags: String,
    pub dashboard_url: Option<String>,
    /// A JSON object: `version`, `description`.
    pub maintenance_info: Option<String>,
    /// A JSON object: `labels`, `attributes`.
    pub broker_metadata: Option<String>,
    /// Of a user-provided one: a sealed JSON object.
    pub credentials: Option<Vec<u8>>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    /// The broker said so after a failed update or deletion.
    pub unusable: bool,
    /// `create`, `update`, `delete`
    pub op_type: String,
    /// `initial`, `in progress`, `succeeded`, `failed`
    pub op_state: String,
    pub op_description: String,
    pub op_created_at: i64,
    pub op_updated_at: i64,
}

impl Instance {
    /// Where the credentials of a user-provided instance belong.
    pub fn place(guid: &str) -> String {
        format!("service_instances.credentials:{guid}")
    }
}

/// An instance that is shared to a space, as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = service_instance_shares)]
pub struct Share {
    pub instance_guid: String,
    pub space_guid: String,
    pub created_at: i64,
}

/// Adds an instance; space and name are a unique key.
pub fn insert(conn: &mut Conn, row: &Instance) -> QueryResult<()> {
    diesel::insert_into(service_instances::table).values(row).execute(conn).map(drop)
}
/// Writes all columns; space and name are a unique key.
pub fn save(conn: &mut Conn, row: &Instance) -> QueryResult<()> {
    diesel::update(service_instances::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Finds an instance.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Instance>> {
    Ok(service_instances::table.find(guid).select(Instance::as_select()).first(conn).optional()?)
}

/// Removes an instance with its shares; its bindings must be gone.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(service_instances::table.find(guid)).execute(conn)?;
    Ok(())
}
/// Instances by guid, in order of creation.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<Instance>> {
    let query = service_instances::table
        .filter(service_instances::guid.eq_any(guids))
        .order((service_instances::created_at, service_instances::guid));
    Ok(query.select(Instance::as_select()).load(conn)?)
}
/// The instances that were made in a space.
pub fn of_space(conn: &mut Conn, space: &str) -> Result<Vec<Instance>> {
    let query = service_instances::table
        .filter(service_instances::space_guid.eq(space))
        .order((service_instances::created_at, service_instances::guid));
    Ok(query.select(Instance::as_select()).load(conn)?)
}
/// The instances of a plan.
pub fn of_plan(conn: &mut Conn, plan: &str) -> Result<Vec<Instance>> {
    let query = service_instances::table
        .filter(service_instances::plan_guid.eq(plan))
        .order((service_instances::created_at, service_instances::guid));
    Ok(query.select(Instance::as_select()).load(conn)?)
}

diesel::define_sql_function! {
    /// A text in lower case; of letters beyond ASCII, what the database knows.
    fn lower(text: diesel::sql_types::Text) -> diesel::sql_types::Text;
}

/// The instance of this name that was made in a space or shared to it; case does not count.
pub fn named(conn: &mut Conn, space: &str, name: &str) -> Result<Option<Instance>> {
    let shared = service_instance_shares::table
        .select(service_instance_shares::instance_guid)
        .filter(service_instance_shares::space_guid.eq(space));
    let query = service_instances::table
        .filter(lower(service_instances::name).eq(query::key(name)))
        .filter(service_instances::space_guid.eq(space).or(service_instances::guid.eq_any(shared)))
        .order((service_instances::created_at, service_instances::guid));
    Ok(query.select(Instance::as_select()).first(conn).optional()?)
}

/// How many managed instances there are in a space.
pub fn count_managed_in_space(conn: &mut Conn, space: &str) -> Result<i64> {
    let query =
        service_instances::table.filter(service_instances::kind.eq("managed")).filter(service_instances::space_guid.eq(space));
    Ok(query.count().get_result(conn)?)
}
/// How many managed instances there are in an organization.
pub fn count_managed_in_org(conn: &mut Conn, org: &str) -> Result<i64> {
    let within = spaces::table.select(spaces::guid).filter(spaces::org_guid.eq(org));
    let query = service_instances::table
        .filter(service_instances::kind.eq("managed"))
        .filter(service_instances::space_guid.eq_any(within));
    Ok(query.count().get_result(conn)?)
}

/// How many bindings of these kinds an instance has.
pub fn count_bindings(conn: &mut Conn, instance: &str) -> Result<i64> {
    Ok(service_bindings::table.filter(service_bindings::instance_guid.eq(instance)).count().get_result(conn)?)
}

/// Plans with all above them.
pub fn offered(conn: &mut Conn, plans: &[String]) -> Result<Vec<Offered>> {
    let query = service_plans::table
        .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .inner_join(service_brokers::table.on(service_brokers::guid.eq(service_offerings::broker_guid)))
        .filter(service_plans::guid.eq_any(plans))
        .order((service_plans::created_at, service_plans::guid));
    let rows: Vec<(Plan, Offering, Broker)> =
        query.select((Plan::as_select(), Offering::as_select(), Broker::as_select())).load(conn)?;
    Ok(rows.into_iter().map(|(plan, offering, broker)| Offered { plan, offering, broker }).collect())
}

/// Shares an instance to a space; once more changes nothing.
pub fn share(conn: &mut Conn, row: &Share) -> Result<()> {
    if shared_to(conn, &row.instance_guid, &row.space_guid)? {
        return Ok(());
    }
    diesel::insert_into(service_instance_shares::table).values(row).execute(conn)?;
    Ok(())
}
/// Takes a share back.
pub fn unshare(conn: &mut Conn, instance: &str, space: &str) -> Result<()> {
    diesel::delete(service_instance_shares::table.find((instance, space))).execute(conn)?;
    Ok(())
}
/// Takes all shares of an instance back.
pub fn unshare_all(conn: &mut Conn, instance: &str) -> Result<()> {
    let query = service_instance_shares::table.filter(service_instance_shares::instance_guid.eq(instance));
    diesel::delete(query).execute(conn)?;
    Ok(())
}
/// True when the instance is shared to the space.
pub fn shared_to(conn: &mut Conn, instance: &str, space: &str) -> Result<bool> {
    let found: i64 = service_instance_shares::table.find((instance, space)).count().get_result(conn)?;
    Ok(found > 0)
}
/// The spaces that an instance is shared to, in order of sharing.
pub fn shared_spaces(conn: &mut Conn, instance: &str) -> Result<Vec<Space>> {
    let query = service_instance_shares::table
        .inner_join(spaces::table.on(spaces::guid.eq(service_instance_shares::space_guid)))
        .filter(service_instance_shares::instance_guid.eq(instance))
        .order((service_instance_shares::created_at, service_instance_shares::space_guid));
    Ok(query.select(Space::as_select()).load(conn)?)
}
/// The bindings of an instance to apps of a space.
pub fn bindings_in_space(conn: &mut Conn, instance: &str, space: &str) -> Result<Vec<Binding>> {
    let query = service_bindings::table
        .inner_join(apps::table.on(service_bindings::app_guid.eq(apps::guid.nullable())))
        .filter(service_bindings::instance_guid.eq(instance))
        .filter(apps::space_guid.eq(space))
        .order((service_bindings::created_at, service_bindings::guid));
    Ok(query.select(Binding::as_select()).load(conn)?)
}
/// The bindings of a space's apps to instances that were made elsewhere.
pub fn foreign_bindings(conn: &mut Conn, space: &str) -> Result<Vec<Binding>> {
    let query = service_bindings::table
        .inner_join(apps::table.on(service_bindings::app_guid.eq(apps::guid.nullable())))
        .inner_join(service_instances::table.on(service_instances::guid.eq(service_bindings::instance_guid)))
        .filter(service_instances::space_guid.ne(space))
        .filter(apps::space_guid.eq(space))
        .order((service_bindings::created_at, service_bindings::guid));
    Ok(query.select(Binding::as_select()).load(conn)?)
}
/// How many apps of each space are bound to an instance.
pub fn bound_apps(conn: &mut Conn, instance: &str) -> Result<Vec<(String, i64)>> {
    let query = service_bindings::table
        .inner_join(apps::table.on(service_bindings::app_guid.eq(apps::guid.nullable())))
        .filter(service_bindings::instance_guid.eq(instance))
        .filter(service_bindings::kind.eq("app"))
        .select((apps::space_guid, apps::guid))
        .distinct();
    let rows: Vec<(String, String)> = query.load(conn)?;
    let mut counts = std::collections::BTreeMap::new();
    for (space, _) in rows {
        *counts.entry(space).or_insert(0) += 1;
    }
    Ok(counts.into_iter().collect())
}

/// Guids of the spaces that the caller reads (R); none: it reads all.
pub fn readable_spaces(conn: &mut Conn, who: &Access) -> Result<Option<Vec<String>>> {
    if who.global_reader() {
        return Ok(None);
    }
    let managed = who.orgs_with(&[OrgRole::Manager]);
    let query = spaces::table.filter(spaces::guid.eq_any(who.own_spaces()).or(spaces::org_guid.eq_any(managed)));
    Ok(Some(query.select(spaces::guid).load(conn)?))
}

/// A page of the instances that the caller reads: those made in a space that it reads, and those shared to one.
pub fn list(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<Instance>> {
    let readable = readable_spaces(conn, who)?;
    let shared = |spaces: Vec<String>| {
        service_instance_shares::table
            .select(service_instance_shares::instance_guid)
            .filter(service_instance_shares::space_guid.eq_any(spaces))
    };
    let of_orgs: Option<Vec<String>> = match list.values("organization_guids") {
        Some(orgs) => Some(spaces::table.filter(spaces::org_guid.eq_any(orgs)).select(spaces::guid).load(conn)?),
        None => None,
    };
    let filtered = || -> service_instances::BoxedQuery<'static, Db> {
        let mut query = service_instances::table.into_boxed();
        for within in [readable.clone(), list.values("space_guids"), of_orgs.clone()].into_iter().flatten() {
            let there = service_instances::space_guid.eq_any(within.clone());
            query = query.filter(there.or(service_instances::guid.eq_any(shared(within))));
        }
        query::filter_common!(query, service_instances, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(lower(service_instances::name).eq_any(names));
        }
        if let Some(kinds) = list.values("type") {
            query = query.filter(service_instances::kind.eq_any(kinds));
        }
        if let Some(plans) = list.values("service_plan_guids") {
            query = query.filter(service_instances::plan_guid.eq_any(plans));
        }
        if let Some(names) = list.keys("service_plan_names") {
            let named =
                service_plans::table.select(service_plans::guid.nullable()).filter(lower(service_plans::name).eq_any(names));
            query = query.filter(service_instances::plan_guid.eq_any(named));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, service_instances, list, "updated_at" => service_instances::updated_at,
        "name" => service_instances::name);
    Ok(Listed { rows: query.select(Instance::as_select()).load(conn)?, total })
}
