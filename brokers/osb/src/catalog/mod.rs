//! The catalog: offerings and plans, and the rules that they keep.

mod rules;
#[cfg(test)]
mod tests;
mod tree;

pub use rules::{incompatibilities, validate};
pub use tree::{PlanProblems, Problems, ServiceProblems};

use foundation::Secret;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Map, Value};

/// Answer to `GET /v2/catalog`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Catalog {
    /// What is offered.
    pub services: Vec<ServiceOffering>,
}

/// What an offering needs of the platform.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Requirement {
    /// Bindings name a place for logs.
    SyslogDrain,
    /// Bindings of routes name a service that sees the requests first.
    RouteForwarding,
    /// Bindings name volumes to mount.
    VolumeMount,
}

/// A service offering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ServiceOffering {
    /// Globally unique; never changes.
    pub id: String,
    /// Unique in the catalog.
    pub name: String,
    /// For users.
    pub description: String,
    /// Whether instances can be bound; a plan may say otherwise.
    pub bindable: bool,
    /// Kinds and other words.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub tags: Vec<String>,
    /// What it needs of the platform.
    #[serde(default, skip_serializing_if = "Vec::is_empty", deserialize_with = "null_as_default")]
    pub requires: Vec<Requirement>,
    /// Whether instances can be fetched.
    #[serde(default, deserialize_with = "null_as_default")]
    pub instances_retrievable: bool,
    /// Whether bindings can be fetched: needed for asynchronous ones.
    #[serde(default, deserialize_with = "null_as_default")]
    pub bindings_retrievable: bool,
    /// Whether an update may carry nothing but a new context.
    #[serde(default, deserialize_with = "null_as_default")]
    pub allow_context_updates: bool,
    /// Whether instances can change their plan; a plan may say otherwise. The spelling is official.
    #[serde(default, deserialize_with = "null_as_default")]
    pub plan_updateable: bool,
    /// For marketplaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// The client of the dashboards, for single sign-on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dashboard_client: Option<DashboardClient>,
    /// At least one.
    pub plans: Vec<Plan>,
}

/// An OAuth client of dashboards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DashboardClient {
    /// Unique on the platform.
    pub id: String,
    /// Its password.
    pub secret: Secret,
    /// Where users come back to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redirect_uri: Option<String>,
}

/// A plan of an offering.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// Globally unique; never changes.
    pub id: String,
    /// Unique in the offering.
    pub name: String,
    /// For users.
    pub description: String,
    /// For marketplaces.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<Map<String, Value>>,
    /// Without costs (if absent: yes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub free: Option<bool>,
    /// Instead of what the offering says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bindable: Option<bool>,
    /// Whether bindings may follow one another.
    #[serde(default, skip_serializing_if = "is_false", deserialize_with = "null_as_default")]
    pub binding_rotatable: bool,
    /// Instead of what the offering says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_updateable: Option<bool>,
    /// What parameters look like.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schemas: Option<Schemas>,
    /// Seconds after which the platform gives up polling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maximum_polling_duration: Option<u64>,
    /// The version that new instances get.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub maintenance_info: Option<MaintenanceInfo>,
}

/// The version of a plan.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MaintenanceInfo {
    /// A semantic version 2.0.
    pub version: String,
    /// What an update to it brings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
}

/// JSON schemas of a plan's parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Schemas {
    /// For instances.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_instance: Option<InstanceSchemas>,
    /// For bindings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_binding: Option<BindingSchemas>,
}

/// Schemas for instances.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InstanceSchemas {
    /// When they are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<InputSchema>,
    /// When they are updated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub update: Option<InputSchema>,
}

/// Schemas for bindings.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BindingSchemas {
    /// When they are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub create: Option<InputSchema>,
}

/// The schema of one operation's parameters.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct InputSchema {
    /// A JSON Schema.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Value>,
}

/// Which operation parameters are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// Making an instance.
    CreateInstance,
    /// Updating one.
    UpdateInstance,
    /// Making a binding.
    CreateBinding,
}

impl Catalog {
    /// An offering by its id.
    pub fn service(&self, id: &str) -> Option<&ServiceOffering> {
        self.services.iter().find(|service| service.id == id)
    }
}

impl ServiceOffering {
    /// A plan by its id.
    pub fn plan(&self, id: &str) -> Option<&Plan> {
        self.plans.iter().find(|plan| plan.id == id)
    }
    /// Whether instances of this plan can be bound.
    pub fn is_bindable(&self, plan: &Plan) -> bool {
        plan.bindable.unwrap_or(self.bindable)
    }
    /// Whether instances of this plan can change to another.
    pub fn is_plan_updateable(&self, plan: &Plan) -> bool {
        plan.plan_updateable.unwrap_or(self.plan_updateable)
    }
    /// Whether it declares this need.
    pub fn requires(&self, requirement: Requirement) -> bool {
        self.requires.contains(&requirement)
    }
    /// Whether instances may be shared with other spaces.
    pub fn is_shareable(&self) -> bool {
        self.flag("shareable")
    }
    /// Our extension: whether instances can be backed up, restored and cloned.
    pub fn has_backups(&self) -> bool {
        self.flag(crate::backup::METADATA_KEY)
    }
    fn flag(&self, key: &str) -> bool {
        self.metadata.as_ref().and_then(|metadata| metadata.get(key)).and_then(Value::as_bool).unwrap_or(false)
    }
}

impl Plan {
    /// Whether it costs nothing.
    pub fn is_free(&self) -> bool {
        self.free.unwrap_or(true)
    }
    /// The schema of these parameters, if there is one.
    pub fn schema(&self, input: Input) -> Option<&Value> {
        let schemas = self.schemas.as_ref()?;
        let input = match input {
            Input::CreateInstance => schemas.service_instance.as_ref()?.create.as_ref(),
            Input::UpdateInstance => schemas.service_instance.as_ref()?.update.as_ref(),
            Input::CreateBinding => schemas.service_binding.as_ref()?.create.as_ref(),
        };
        input?.parameters.as_ref()
    }
}

/// Reads `null` like absence.
pub(crate) fn null_as_default<'de, D, T>(deserializer: D) -> Result<T, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de> + Default,
{
    Ok(Option::deserialize(deserializer)?.unwrap_or_default())
}

fn is_false(value: &bool) -> bool {
    !value
}
