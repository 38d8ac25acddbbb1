//! Service instances: provision, fetch, update.

use crate::{Context, Parameters};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The version of a plan that a platform knows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceVersion {
    /// A semantic version.
    pub version: String,
}

/// Our extension: make the new instance a copy of another one of the same offering.
///
/// Source: docs/broker-backups.md, "Clone".
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CloneFrom {
    /// The instance to copy.
    pub instance_id: String,
    /// Its backup to copy; without one, the data of now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup_id: Option<String>,
}

/// Body of `PUT /v2/service_instances/:instance_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProvisionRequest {
    /// The offering.
    pub service_id: String,
    /// The plan.
    pub plan_id: String,
    /// Where it belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// The organization; deprecated, and still required.
    pub organization_guid: String,
    /// The space; deprecated, and still required.
    pub space_guid: String,
    /// What the user gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// The version of the plan that the platform knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
    /// Our extension: copy another instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cupola_clone_from: Option<CloneFrom>,
}

/// Labels and attributes that a broker gives to an instance.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceMetadata {
    /// Labels.
    #[serde(default, skip_serializing_if = "Map::is_empty", deserialize_with = "crate::catalog::null_as_default")]
    pub labels: Map<String, Value>,
    /// Attributes.
    #[serde(default, skip_serializing_if = "Map::is_empty", deserialize_with = "crate::catalog::null_as_default")]
    pub attributes: Map<String, Value>,
}

/// Answer to a provision: 200, 201, or 202 with `operation`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProvisionResponse {
    /// Where the instance can be managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard_url: Option<String>,
    /// What to send along when polling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Labels and attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<InstanceMetadata>,
}

/// Answer to an update: the same fields; an absent dashboard means that the old one stays.
pub type UpdateResponse = ProvisionResponse;

/// Body of `PATCH /v2/service_instances/:instance_id`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UpdateRequest {
    /// The offering.
    pub service_id: String,
    /// The new plan; absent: it stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Where it belongs now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// What the user wants changed; absent: nothing.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// How the platform believes it was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous_values: Option<PreviousValues>,
    /// The version to reach.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
}

/// How an instance was before an update.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct PreviousValues {
    /// Deprecated: offerings do not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Deprecated: organizations do not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_id: Option<String>,
    /// Deprecated: spaces do not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_id: Option<String>,
    /// The version of the plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
}

/// Answer to `GET /v2/service_instances/:instance_id`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchedInstance {
    /// The offering.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// The plan.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Where it can be managed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard_url: Option<String>,
    /// The parameters in force, if the broker shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// The version that it has.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceVersion>,
    /// Labels and attributes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<InstanceMetadata>,
}
