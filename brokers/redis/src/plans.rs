//! What is offered: the two plans, their limits, and the parameters that users may give.

use osb::{
    Catalog, MaintenanceInfo, Plan, Schemas, ServiceOffering,
    catalog::{BindingSchemas, InputSchema, InstanceSchemas},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The offering.
pub const SERVICE_ID: &str = "5f1c2b8e-6a3d-4f0e-9c57-2d41c5a0b101";
/// Memory alone.
pub const CACHE_ID: &str = "5f1c2b8e-6a3d-4f0e-9c57-2d41c5a0b102";
/// An append-only file, written out every second.
pub const PERSISTENT_ID: &str = "5f1c2b8e-6a3d-4f0e-9c57-2d41c5a0b103";

/// Least memory of an instance.
pub const LEAST_MEMORY_MB: u32 = 8;

/// What happens when the memory is full; the words are Redis's own.
pub const POLICIES: &[&str] = &[
    "noeviction",
    "allkeys-lru",
    "allkeys-lfu",
    "allkeys-random",
    "volatile-lru",
    "volatile-lfu",
    "volatile-random",
    "volatile-ttl",
];

/// A plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlanKind {
    /// Nothing survives a restart; old keys make room.
    Cache,
    /// Data survives; a full memory refuses writes.
    Persistent,
}

impl PlanKind {
    /// The plan with this id.
    pub fn of(plan_id: &str) -> Option<Self> {
        match plan_id {
            CACHE_ID => Some(Self::Cache),
            PERSISTENT_ID => Some(Self::Persistent),
            _ => None,
        }
    }
    /// Whether data survives a restart.
    pub fn keeps_data(self) -> bool {
        self == Self::Persistent
    }
    /// What happens when the memory is full, unless the user says otherwise.
    pub fn usual_policy(self) -> &'static str {
        match self {
            Self::Cache => "allkeys-lru",
            Self::Persistent => "noeviction",
        }
    }
}

/// The limits of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Memory of an instance whose user asks for none.
    pub memory_mb: u32,
    /// What a user may ask for.
    pub most_memory_mb: u32,
    /// Connections of all bindings together.
    pub connections: u32,
}

/// The limits of the plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plans {
    /// Of plan `cache`.
    pub cache: Limits,
    /// Of plan `persistent`.
    pub persistent: Limits,
}

impl Default for Plans {
    fn default() -> Self {
        Self {
            cache: Limits { memory_mb: 64, most_memory_mb: 512, connections: 200 },
            persistent: Limits { memory_mb: 128, most_memory_mb: 1_024, connections: 200 },
        }
    }
}

impl Plans {
    /// What holds for an instance of this plan.
    pub fn in_force(&self, plan: PlanKind, chosen: &InstanceParameters) -> InForce {
        let limits = self.of(plan);
        InForce {
            memory_mb: chosen.memory_mb.unwrap_or(limits.memory_mb).min(limits.most_memory_mb),
            eviction: chosen.eviction.clone().unwrap_or_else(|| plan.usual_policy().to_owned()),
            connections: limits.connections,
            keeps_data: plan.keeps_data(),
        }
    }
    /// The limits of a plan.
    pub fn of(&self, plan: PlanKind) -> Limits {
        match plan {
            PlanKind::Cache => self.cache,
            PlanKind::Persistent => self.persistent,
        }
    }
}

/// The parameters of an instance. In an update absent ones stay as they are; never chosen, they are those of the plan.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceParameters {
    /// Memory for data.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory_mb: Option<u32>,
    /// One of [`POLICIES`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub eviction: Option<String>,
}

impl InstanceParameters {
    /// These, and where they say nothing, those of before.
    pub fn over(&self, before: &Self) -> Self {
        Self {
            memory_mb: self.memory_mb.or(before.memory_mb),
            eviction: self.eviction.clone().or_else(|| before.eviction.clone()),
        }
    }
}

/// What holds for a server.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Memory for data.
    pub memory_mb: u32,
    /// One of [`POLICIES`].
    pub eviction: String,
    /// Connections of all bindings together.
    pub connections: u32,
    /// Whether data survives a restart.
    pub keeps_data: bool,
}

/// The parameters of a binding.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingParameters {
    /// Only commands that change nothing.
    #[serde(default)]
    pub read_only: bool,
}

/// The catalog, for a server of `version`.
pub fn catalog(version: &str, plans: &Plans) -> Catalog {
    let metadata: Map<String, Value> = [
        ("displayName".to_owned(), json!("Redis")),
        (
            "longDescription".to_owned(),
            json!("A Redis server of its own for every instance; a user of its own for every binding."),
        ),
        ("providerDisplayName".to_owned(), json!("Cupola")),
        ("documentationUrl".to_owned(), json!("https://redis.io/docs/")),
        ("shareable".to_owned(), json!(true)),
        (osb::backup::METADATA_KEY.to_owned(), json!(true)),
    ]
    .into_iter()
    .collect();
    Catalog {
        services: vec![ServiceOffering {
            id: SERVICE_ID.to_owned(),
            name: "redis".to_owned(),
            description: "Redis: keys and values in memory, with TLS".to_owned(),
            bindable: true,
            tags: vec!["redis".to_owned(), "key-value".to_owned(), "cache".to_owned()],
            instances_retrievable: true,
            bindings_retrievable: true,
            plan_updateable: true,
            metadata: Some(metadata),
            plans: vec![
                plan(
                    version,
                    CACHE_ID,
                    "cache",
                    "Memory alone: the least used keys make room, nothing survives a restart",
                    plans.cache,
                ),
                plan(
                    version,
                    PERSISTENT_ID,
                    "persistent",
                    "Kept on disk, at most one second behind; survives restarts",
                    plans.persistent,
                ),
            ],
            ..Default::default()
        }],
    }
}

fn plan(version: &str, id: &str, name: &str, description: &str, limits: Limits) -> Plan {
    let bullets = json!([
        format!("{} MB, up to {} MB on request", limits.memory_mb, limits.most_memory_mb),
        format!("{} connections", limits.connections),
        "TLS, own credentials for every binding",
    ]);
    Plan {
        id: id.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        metadata: Some([("bullets".to_owned(), bullets)].into_iter().collect()),
        free: Some(true),
        binding_rotatable: true,
        schemas: Some(schemas(limits)),
        maintenance_info: Some(MaintenanceInfo { version: version.to_owned(), description: Some(format!("Redis {version}")) }),
        ..Default::default()
    }
}

fn schemas(limits: Limits) -> Schemas {
    let instance = input(json!({
        "memory_mb": {
            "type": "integer", "minimum": LEAST_MEMORY_MB, "maximum": limits.most_memory_mb,
            "description": "Memory for data",
        },
        "eviction": { "type": "string", "enum": POLICIES, "description": "What happens when the memory is full" },
    }));
    let binding = input(json!({
        "read_only": { "type": "boolean", "description": "Only commands that change nothing" },
    }));
    Schemas {
        service_instance: Some(InstanceSchemas { create: Some(instance.clone()), update: Some(instance) }),
        service_binding: Some(BindingSchemas { create: Some(binding) }),
    }
}

fn input(properties: Value) -> InputSchema {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "type": "object", "additionalProperties": false, "properties": properties,
    });
    InputSchema { parameters: Some(schema) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_keeps_the_rules_of_the_platform() {
        let catalog = serde_json::to_value(catalog("7.0.15", &Plans::default())).unwrap();
        osb::catalog::validate(&catalog).unwrap();
    }

    #[test]
    fn what_the_user_chose_stays_below_the_plan_and_outlives_a_change_of_it() {
        let plans = Plans::default();
        let chosen = InstanceParameters { memory_mb: Some(1_000), eviction: None };
        let cache = plans.in_force(PlanKind::Cache, &chosen);
        assert_eq!((cache.memory_mb, cache.eviction.as_str()), (512, "allkeys-lru"));
        let later = InstanceParameters { memory_mb: None, eviction: Some("volatile-ttl".into()) }.over(&chosen);
        let persistent = plans.in_force(PlanKind::Persistent, &later);
        assert_eq!((persistent.memory_mb, persistent.eviction.as_str()), (1_000, "volatile-ttl"));
    }
}
