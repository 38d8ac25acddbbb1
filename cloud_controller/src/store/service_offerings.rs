//! What brokers offer.

use crate::{
    domain::Result,
    store::{Conn, schema::service_offerings},
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "service_offerings";

/// An offering as the table has it.
#[derive(Clone, Debug, PartialEq, Eq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_offerings, primary_key(guid), treat_none_as_null = true)]
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

/// Finds an offering.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Offering>> {
    Ok(service_offerings::table.find(guid).select(Offering::as_select()).first(conn).optional()?)
}
