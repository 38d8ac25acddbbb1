//! Bindings of service instances: to apps, to routes, and keys.

use crate::{
    domain::Result,
    store::{Conn, schema::service_bindings},
};
use diesel::prelude::*;

/// The kind under which metadata of bindings to apps and of keys is kept.
pub const CREDENTIAL_KIND: &str = "service_credential_bindings";
/// The kind under which metadata of bindings to routes is kept.
pub const ROUTE_KIND: &str = "service_route_bindings";

/// A binding as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_bindings, primary_key(guid), treat_none_as_null = true)]
pub struct Binding {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// `app`, `key`, `route`
    pub kind: String,
    pub name: Option<String>,
    pub instance_guid: String,
    pub app_guid: Option<String>,
    pub route_guid: Option<String>,
    /// A sealed JSON object.
    pub credentials: Option<Vec<u8>>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    /// A JSON array, as the broker sent it.
    pub volume_mounts: Option<String>,
    /// A JSON array, as the broker sent it.
    pub endpoints: Option<String>,
    /// `create` or `delete`
    pub op_type: String,
    /// `initial`, `in progress`, `succeeded`, `failed`
    pub op_state: String,
    pub op_description: String,
    pub op_created_at: i64,
    pub op_updated_at: i64,
}

impl Binding {
    /// Where the credentials of a binding belong.
    pub fn place(guid: &str) -> String {
        format!("service_bindings.credentials:{guid}")
    }
}

/// Adds a binding; names of keys of an instance, and the service of a route, are unique keys.
pub fn insert(conn: &mut Conn, row: &Binding) -> QueryResult<()> {
    diesel::insert_into(service_bindings::table).values(row).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, row: &Binding) -> QueryResult<()> {
    diesel::update(service_bindings::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Finds a binding.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Binding>> {
    Ok(service_bindings::table.find(guid).select(Binding::as_select()).first(conn).optional()?)
}
