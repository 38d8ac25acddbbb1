//! Service instances and their shares.

use crate::{
    domain::Result,
    store::{
        Conn,
        schema::{service_instance_shares, service_instances},
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
