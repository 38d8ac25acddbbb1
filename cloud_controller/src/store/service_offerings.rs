//! What brokers offer.

use crate::{
    domain::Result,
    store::{
        Conn, Db,
        query::{self, List, Listed, insert_all},
        schema::{service_brokers, service_offerings, service_plan_visibilities, service_plans},
        service_brokers::Broker,
        service_instances::lower,
        service_plans::{self as plans, Reach},
    },
};
use diesel::{
    dsl::{AssumeNotNull, Eq, EqAny},
    prelude::*,
};

/// The kind under which their metadata is kept.
pub const KIND: &str = "service_offerings";

/// An offering as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_offerings, primary_key(guid), treat_none_as_null = true, treat_none_as_default_value = false)]
pub struct Offering {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub broker_guid: String,
    /// The broker's own id.
    pub catalog_id: String,
    pub name: String,
    pub description: String,
    /// Still in the catalog.
    pub available: bool,
    pub bindable: bool,
    pub plan_updateable: bool,
    pub instances_retrievable: bool,
    pub bindings_retrievable: bool,
    pub allow_context_updates: bool,
    /// A JSON array.
    pub tags: String,
    /// A JSON array.
    pub requires: String,
    /// The catalog's metadata: a JSON object.
    pub extra: Option<String>,
    pub dashboard_client_id: Option<String>,
}

impl Offering {
    /// Tags as the catalog has them.
    pub fn tag_list(&self) -> Vec<String> {
        serde_json::from_str(&self.tags).unwrap_or_default()
    }
    /// `syslog_drain`, `route_forwarding`, `volume_mount`
    pub fn required(&self) -> Vec<String> {
        serde_json::from_str(&self.requires).unwrap_or_default()
    }
    /// The catalog's metadata.
    pub fn metadata(&self) -> serde_json::Value {
        self.extra.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_else(|| serde_json::json!({}))
    }
    /// Its instances may be shared between spaces.
    pub fn shareable(&self) -> bool {
        self.metadata()["shareable"].as_bool().unwrap_or(false)
    }
}

/// Finds an offering with its broker.
pub fn find_with_broker(conn: &mut Conn, guid: &str) -> Result<Option<(Offering, Broker)>> {
    let query = service_offerings::table
        .inner_join(service_brokers::table.on(service_brokers::guid.eq(service_offerings::broker_guid)))
        .filter(service_offerings::guid.eq(guid));
    Ok(query.select((Offering::as_select(), Broker::as_select())).first(conn).optional()?)
}
/// Offerings with their brokers, by guid, in order of creation.
pub fn with_brokers(conn: &mut Conn, guids: &[String]) -> Result<Vec<(Offering, Broker)>> {
    let query = service_offerings::table
        .inner_join(service_brokers::table.on(service_brokers::guid.eq(service_offerings::broker_guid)))
        .filter(service_offerings::guid.eq_any(guids))
        .order((service_offerings::created_at, service_offerings::guid));
    Ok(query.select((Offering::as_select(), Broker::as_select())).load(conn)?)
}
/// The offerings of a broker.
pub fn of_broker(conn: &mut Conn, broker: &str) -> Result<Vec<Offering>> {
    let query = service_offerings::table.filter(service_offerings::broker_guid.eq(broker));
    Ok(query.order((service_offerings::created_at, service_offerings::guid)).select(Offering::as_select()).load(conn)?)
}
/// Of these dashboard clients, those that another broker's offering has.
pub fn clients_of_others(conn: &mut Conn, broker: &str, clients: &[String]) -> Result<Vec<String>> {
    let query = service_offerings::table
        .filter(service_offerings::dashboard_client_id.assume_not_null().eq_any(clients))
        .filter(service_offerings::broker_guid.ne(broker));
    Ok(query.select(service_offerings::dashboard_client_id.assume_not_null()).load(conn)?)
}
/// These offerings have no dashboard client any more.
pub fn let_go_of_clients(conn: &mut Conn, guids: &[String]) -> Result<()> {
    let query = service_offerings::table.filter(service_offerings::guid.eq_any(guids));
    diesel::update(query).set(service_offerings::dashboard_client_id.eq(None::<String>)).execute(conn)?;
    Ok(())
}
/// Adds offerings; broker and catalog id are a unique key.
pub fn insert(conn: &mut Conn, rows: &[Offering]) -> QueryResult<()> {
    insert_all!(conn, service_offerings, rows)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, row: &Offering) -> QueryResult<()> {
    diesel::update(service_offerings::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Removes offerings; their plans must be gone.
pub fn delete(conn: &mut Conn, guids: &[String]) -> Result<()> {
    super::metadata::forget(conn, KIND, guids)?;
    diesel::delete(service_offerings::table.filter(service_offerings::guid.eq_any(guids))).execute(conn)?;
    Ok(())
}

/// A page of the offerings that are seen.
pub fn list(conn: &mut Conn, reach: &Reach, list: &List) -> Result<Listed<Offering>> {
    let filtered = || -> service_offerings::BoxedQuery<'static, Db> {
        let mut query = service_offerings::table.into_boxed();
        if let Reach::Some { orgs, spaces } = reach {
            let by_plan = service_offerings::guid.eq_any(with_plans_seen(orgs.clone()));
            let by_space = service_offerings::broker_guid.eq_any(brokers_of_spaces(spaces.clone()));
            query = query.filter(by_plan.or(by_space));
        }
        query::filter_common!(query, service_offerings, list, KIND);
        if let Some(names) = list.keys("names") {
            query = query.filter(lower(service_offerings::name).eq_any(names));
        }
        if let Some(available) = list.first("available") {
            query = query.filter(service_offerings::available.eq(available == "true"));
        }
        if let Some(ids) = list.values("broker_catalog_ids") {
            query = query.filter(service_offerings::catalog_id.eq_any(ids));
        }
        if let Some(brokers) = list.values("service_broker_guids") {
            query = query.filter(service_offerings::broker_guid.eq_any(brokers));
        }
        if let Some(names) = list.values("service_broker_names") {
            query = query.filter(service_offerings::broker_guid.eq_any(plans::brokers_named(names)));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, service_offerings, list,
        "updated_at" => service_offerings::updated_at, "name" => service_offerings::name);
    Ok(Listed { rows: query.select(Offering::as_select()).load(conn)?, total })
}

/// A sub-query: guids of the offerings of the brokers of these spaces.
#[diesel::dsl::auto_type]
pub fn of_spaces(spaces: Vec<String>) -> _ {
    let brokers: brokers_of_spaces = brokers_of_spaces(spaces);
    let of_brokers: EqAny<service_offerings::broker_guid, brokers_of_spaces> = service_offerings::broker_guid.eq_any(brokers);
    service_offerings::table.filter(of_brokers).select(service_offerings::guid)
}

/// A sub-query: guids of the brokers of these spaces.
#[diesel::dsl::auto_type]
fn brokers_of_spaces(spaces: Vec<String>) -> _ {
    let in_spaces: EqAny<AssumeNotNull<service_brokers::space_guid>, Vec<String>> =
        service_brokers::space_guid.assume_not_null().eq_any(spaces);
    service_brokers::table.filter(in_spaces).select(service_brokers::guid)
}

/// A sub-query: guids of the offerings of which these organizations see a plan.
#[diesel::dsl::auto_type]
fn with_plans_seen(orgs: Vec<String>) -> _ {
    let in_orgs: EqAny<service_plan_visibilities::org_guid, Vec<String>> = service_plan_visibilities::org_guid.eq_any(orgs);
    let granted = service_plan_visibilities::table.filter(in_orgs).select(service_plan_visibilities::plan_guid);
    let public: Eq<service_plans::public, bool> = service_plans::public.eq(true);
    let one_of = service_plans::guid.eq_any(granted);
    service_plans::table.filter(public.or(one_of)).select(service_plans::offering_guid)
}
