//! Plans of offerings, and who sees them.

use crate::{
    domain::Result,
    store::{
        Conn,
        schema::{service_brokers, service_offerings, service_plans},
        service_brokers::Broker,
        service_offerings::Offering,
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "service_plans";

/// A plan as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_plans, primary_key(guid), treat_none_as_null = true)]
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
