//! Plans of offerings, and who sees them.

use crate::{
    domain::Result,
    store::{
        Conn, Db,
        orgs::Org,
        query::{self, List, Listed, insert_all},
        schema::{orgs, service_brokers, service_instances, service_offerings, service_plan_visibilities, service_plans},
        service_brokers::Broker,
        service_instances::lower,
        service_offerings::{self as offerings, Offering},
    },
};
use diesel::{dsl::EqAny, prelude::*};
use std::collections::{BTreeMap, BTreeSet};

/// The kind under which their metadata is kept.
pub const KIND: &str = "service_plans";

/// A plan as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_plans, primary_key(guid), treat_none_as_null = true, treat_none_as_default_value = false)]
pub struct Plan {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub offering_guid: String,
    /// The broker's own id.
    pub catalog_id: String,
    pub name: String,
    pub description: String,
    pub free: bool,
    /// Still in the catalog.
    pub available: bool,
    /// Everybody sees it.
    pub public: bool,
    /// Overrides the offering.
    pub bindable: Option<bool>,
    /// Overrides the offering.
    pub plan_updateable: Option<bool>,
    pub binding_rotatable: bool,
    /// The catalog's metadata: a JSON object.
    pub extra: Option<String>,
    /// JSON objects.
    pub create_schema: Option<String>,
    pub update_schema: Option<String>,
    pub bind_schema: Option<String>,
    pub maximum_polling_s: Option<i64>,
    /// A JSON object: `version`, `description`.
    pub maintenance_info: Option<String>,
}

/// Which plans somebody sees: everything, or public ones, those of organizations, and those of the brokers of spaces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reach {
    Everything,
    Some { orgs: Vec<String>, spaces: Vec<String> },
}

/// That an organization sees a plan, as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable)]
#[diesel(table_name = service_plan_visibilities)]
pub struct Grant {
    pub plan_guid: String,
    pub org_guid: String,
}

/// A plan with its offering and broker.
#[derive(Clone, Debug)]
pub struct Offered {
    pub plan: Plan,
    pub offering: Offering,
    pub broker: Broker,
}

impl Offered {
    /// Instances may be bound.
    pub fn bindable(&self) -> bool {
        self.plan.bindable.unwrap_or(self.offering.bindable)
    }
    /// Instances may move to another plan.
    pub fn plan_updateable(&self) -> bool {
        self.plan.plan_updateable.unwrap_or(self.offering.plan_updateable)
    }
}

/// Finds a plan.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Plan>> {
    Ok(service_plans::table.find(guid).select(Plan::as_select()).first(conn).optional()?)
}

/// Finds a plan with all above it.
pub fn find_offered(conn: &mut Conn, guid: &str) -> Result<Option<Offered>> {
    let query = service_plans::table
        .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .inner_join(service_brokers::table.on(service_brokers::guid.eq(service_offerings::broker_guid)))
        .filter(service_plans::guid.eq(guid));
    let row: Option<(Plan, Offering, Broker)> =
        query.select((Plan::as_select(), Offering::as_select(), Broker::as_select())).first(conn).optional()?;
    Ok(row.map(|(plan, offering, broker)| Offered { plan, offering, broker }))
}

/// The plans of a broker.
pub fn of_broker(conn: &mut Conn, broker: &str) -> Result<Vec<Plan>> {
    let query = service_plans::table
        .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .filter(service_offerings::broker_guid.eq(broker))
        .order((service_plans::created_at, service_plans::guid));
    Ok(query.select(Plan::as_select()).load(conn)?)
}
/// The plans of an offering.
pub fn of_offering(conn: &mut Conn, offering: &str) -> Result<Vec<Plan>> {
    let query = service_plans::table.filter(service_plans::offering_guid.eq(offering));
    Ok(query.order((service_plans::created_at, service_plans::guid)).select(Plan::as_select()).load(conn)?)
}
/// Adds plans; offering and catalog id are a unique key.
pub fn insert(conn: &mut Conn, rows: &[Plan]) -> QueryResult<()> {
    insert_all!(conn, service_plans, rows)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, row: &Plan) -> QueryResult<()> {
    diesel::update(service_plans::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Removes plans with their visibilities; nobody may have an instance.
pub fn delete(conn: &mut Conn, guids: &[String]) -> Result<()> {
    super::metadata::forget(conn, KIND, guids)?;
    diesel::delete(service_plans::table.filter(service_plans::guid.eq_any(guids))).execute(conn)?;
    Ok(())
}
/// Of these plans, those with instances.
pub fn in_use(conn: &mut Conn, guids: &[String]) -> Result<BTreeSet<String>> {
    let plan = service_instances::plan_guid.assume_not_null();
    let used: Vec<String> = service_instances::table.filter(plan.eq_any(guids)).select(plan).distinct().load(conn)?;
    Ok(used.into_iter().collect())
}
/// All plans with instances, by guid.
pub fn all_in_use(conn: &mut Conn) -> Result<BTreeMap<String, Offered>> {
    let used = service_instances::table.filter(service_instances::plan_guid.is_not_null());
    let query = service_plans::table
        .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .inner_join(service_brokers::table.on(service_brokers::guid.eq(service_offerings::broker_guid)))
        .filter(service_plans::guid.eq_any(used.select(service_instances::plan_guid.assume_not_null())));
    let rows: Vec<(Plan, Offering, Broker)> =
        query.select((Plan::as_select(), Offering::as_select(), Broker::as_select())).load(conn)?;
    Ok(rows.into_iter().map(|(plan, offering, broker)| (plan.guid.clone(), Offered { plan, offering, broker })).collect())
}

/// Of these plans, those that organizations are named for.
pub fn granted(conn: &mut Conn, guids: &[String]) -> Result<BTreeSet<String>> {
    let query = service_plan_visibilities::table.filter(service_plan_visibilities::plan_guid.eq_any(guids));
    let plans: Vec<String> = query.select(service_plan_visibilities::plan_guid).distinct().load(conn)?;
    Ok(plans.into_iter().collect())
}
/// The organizations that a plan is open to, in order of creation.
pub fn orgs_of(conn: &mut Conn, plan: &str) -> Result<Vec<Org>> {
    let query = service_plan_visibilities::table
        .inner_join(orgs::table.on(orgs::guid.eq(service_plan_visibilities::org_guid)))
        .filter(service_plan_visibilities::plan_guid.eq(plan))
        .order((orgs::created_at, orgs::guid));
    Ok(query.select(Org::as_select()).load(conn)?)
}
/// True when one of these organizations sees the plan because it is named for it.
pub fn is_granted(conn: &mut Conn, plan: &str, orgs: &[String]) -> Result<bool> {
    let query = service_plan_visibilities::table
        .filter(service_plan_visibilities::plan_guid.eq(plan))
        .filter(service_plan_visibilities::org_guid.eq_any(orgs));
    let count: i64 = query.count().get_result(conn)?;
    Ok(count > 0)
}
/// Opens a plan to organizations that it is not open to.
pub fn grant(conn: &mut Conn, rows: &[Grant]) -> QueryResult<()> {
    insert_all!(conn, service_plan_visibilities, rows)
}
/// Closes a plan to an organization, or to all; returns how many it was open to.
pub fn revoke(conn: &mut Conn, plan: &str, org: Option<&str>) -> Result<usize> {
    let all = service_plan_visibilities::table.filter(service_plan_visibilities::plan_guid.eq(plan));
    Ok(match org {
        Some(org) => diesel::delete(all.filter(service_plan_visibilities::org_guid.eq(org))).execute(conn)?,
        None => diesel::delete(all).execute(conn)?,
    })
}

/// A page of the plans that are seen.
pub fn list(conn: &mut Conn, reach: &Reach, list: &List) -> Result<Listed<Plan>> {
    let filtered = || -> service_plans::BoxedQuery<'static, Db> {
        let mut query = service_plans::table.into_boxed();
        if let Reach::Some { orgs, spaces } = reach {
            let named = service_plans::guid.eq_any(of_orgs(orgs.clone()));
            let scoped = service_plans::offering_guid.eq_any(offerings::of_spaces(spaces.clone()));
            query = query.filter(service_plans::public.eq(true).or(named).or(scoped));
        }
        query::filter_common!(query, service_plans, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(lower(service_plans::name).eq_any(names));
        }
        if let Some(available) = list.first("available") {
            query = query.filter(service_plans::available.eq(available == "true"));
        }
        if let Some(ids) = list.values("broker_catalog_ids") {
            query = query.filter(service_plans::catalog_id.eq_any(ids));
        }
        if let Some(guids) = list.values("service_offering_guids") {
            query = query.filter(service_plans::offering_guid.eq_any(guids));
        }
        if let Some(names) = list.keys("service_offering_names") {
            let named = service_offerings::table.filter(lower(service_offerings::name).eq_any(names));
            query = query.filter(service_plans::offering_guid.eq_any(named.select(service_offerings::guid)));
        }
        if let Some(brokers) = list.values("service_broker_guids") {
            let of_brokers = service_offerings::table.filter(service_offerings::broker_guid.eq_any(brokers));
            query = query.filter(service_plans::offering_guid.eq_any(of_brokers.select(service_offerings::guid)));
        }
        if let Some(names) = list.values("service_broker_names") {
            let of_brokers = service_offerings::table.filter(service_offerings::broker_guid.eq_any(brokers_named(names)));
            query = query.filter(service_plans::offering_guid.eq_any(of_brokers.select(service_offerings::guid)));
        }
        if let Some(instances) = list.values("service_instance_guids") {
            let of_instances = service_instances::table
                .filter(service_instances::plan_guid.is_not_null())
                .filter(service_instances::guid.eq_any(instances));
            let plans = of_instances.select(service_instances::plan_guid.assume_not_null());
            query = query.filter(service_plans::guid.eq_any(plans));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, service_plans, list,
        "updated_at" => service_plans::updated_at, "name" => service_plans::name);
    Ok(Listed { rows: query.select(Plan::as_select()).load(conn)?, total })
}

/// A sub-query: guids of the plans that these organizations are named for.
#[diesel::dsl::auto_type]
fn of_orgs(orgs: Vec<String>) -> _ {
    let in_orgs: EqAny<service_plan_visibilities::org_guid, Vec<String>> = service_plan_visibilities::org_guid.eq_any(orgs);
    service_plan_visibilities::table.filter(in_orgs).select(service_plan_visibilities::plan_guid)
}

/// A sub-query: guids of the brokers with these names.
#[diesel::dsl::auto_type]
pub fn brokers_named(names: Vec<String>) -> _ {
    let named: EqAny<service_brokers::name, Vec<String>> = service_brokers::name.eq_any(names);
    service_brokers::table.filter(named).select(service_brokers::guid)
}
