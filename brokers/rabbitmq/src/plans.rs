//! What is offered: the plans, their limits, and the parameters that users may give.

use osb::{
    Catalog, MaintenanceInfo, Plan, Schemas, ServiceOffering,
    catalog::{BindingSchemas, InputSchema, InstanceSchemas},
};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

/// The offering.
pub const SERVICE_ID: &str = "8d0e7a44-1b7c-4c35-8f6e-63a9b1c7d201";
/// A virtual host of ordinary size.
pub const SHARED_ID: &str = "8d0e7a44-1b7c-4c35-8f6e-63a9b1c7d202";
/// A larger one.
pub const LARGE_ID: &str = "8d0e7a44-1b7c-4c35-8f6e-63a9b1c7d203";

/// The limits of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Connections of all bindings together.
    pub connections: u32,
    /// Queues.
    pub queues: u32,
    /// Messages of one queue; a full queue refuses more.
    pub queue_mb: u32,
}

/// The parameters of an instance: limits below those of its plan; absent ones stay as they are.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct InstanceParameters {
    /// As in [`Limits`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub connections: Option<u32>,
    /// As in [`Limits`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queues: Option<u32>,
    /// As in [`Limits`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub queue_mb: Option<u32>,
}

impl InstanceParameters {
    /// The limits in force: never above those of the plan, also after a change to a smaller plan.
    pub fn within(&self, plan: Limits) -> Limits {
        Limits {
            connections: self.connections.unwrap_or(plan.connections).min(plan.connections),
            queues: self.queues.unwrap_or(plan.queues).min(plan.queues),
            queue_mb: self.queue_mb.unwrap_or(plan.queue_mb).min(plan.queue_mb),
        }
    }
}

/// What a binding may do on its virtual host.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Access {
    /// Everything.
    #[default]
    Full,
    /// Publish; declare nothing.
    Publish,
    /// Consume; declare nothing.
    Consume,
}

/// The parameters of a binding.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BindingParameters {
    /// What it may do.
    #[serde(default)]
    pub access: Access,
}

/// The limits of the plans.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plans {
    /// Of plan `shared`.
    pub shared: Limits,
    /// Of plan `shared-large`.
    pub large: Limits,
}

impl Default for Plans {
    fn default() -> Self {
        Self {
            shared: Limits { connections: 50, queues: 100, queue_mb: 64 },
            large: Limits { connections: 500, queues: 1_000, queue_mb: 512 },
        }
    }
}

impl Plans {
    /// The limits of the plan with this id.
    pub fn of(&self, plan_id: &str) -> Option<Limits> {
        match plan_id {
            SHARED_ID => Some(self.shared),
            LARGE_ID => Some(self.large),
            _ => None,
        }
    }
}

/// The catalog, for a server of `version`.
pub fn catalog(version: &str, plans: &Plans) -> Catalog {
    let metadata: Map<String, Value> = [
        ("displayName".to_owned(), json!("RabbitMQ")),
        ("longDescription".to_owned(), json!("A virtual host of a shared RabbitMQ node; a user of its own for every binding.")),
        ("providerDisplayName".to_owned(), json!("Cupola")),
        ("documentationUrl".to_owned(), json!("https://www.rabbitmq.com/docs")),
        ("shareable".to_owned(), json!(true)),
        (osb::backup::METADATA_KEY.to_owned(), json!(true)),
    ]
    .into_iter()
    .collect();
    Catalog {
        services: vec![ServiceOffering {
            id: SERVICE_ID.to_owned(),
            name: "rabbitmq".to_owned(),
            description: "RabbitMQ: queues and exchanges over AMQP with TLS".to_owned(),
            bindable: true,
            tags: vec!["rabbitmq".to_owned(), "amqp".to_owned(), "messaging".to_owned()],
            instances_retrievable: true,
            bindings_retrievable: true,
            plan_updateable: true,
            metadata: Some(metadata),
            plans: vec![
                plan(version, SHARED_ID, "shared", "Own virtual host on the shared node", plans.shared),
                plan(version, LARGE_ID, "shared-large", "Own virtual host on the shared node, with room for more", plans.large),
            ],
            ..Default::default()
        }],
    }
}

fn plan(version: &str, id: &str, name: &str, description: &str, limits: Limits) -> Plan {
    let bullets = json!([
        format!("{} connections", limits.connections),
        format!("{} queues of up to {} MB", limits.queues, limits.queue_mb),
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
        maintenance_info: Some(MaintenanceInfo { version: version.to_owned(), description: Some(format!("RabbitMQ {version}")) }),
        ..Default::default()
    }
}

fn schemas(limits: Limits) -> Schemas {
    let number =
        |most: u32, description: &str| json!({"type": "integer", "minimum": 1, "maximum": most, "description": description});
    let instance = input(json!({
        "connections": number(limits.connections, "Connections of all bindings together"),
        "queues": number(limits.queues, "Queues"),
        "queue_mb": number(limits.queue_mb, "Messages of one queue; a full queue refuses more"),
    }));
    let access = json!({"access": {
        "type": "string", "enum": ["full", "publish", "consume"], "default": "full",
        "description": "What the binding may do: all but `full` declare nothing",
    }});
    Schemas {
        service_instance: Some(InstanceSchemas { create: Some(instance.clone()), update: Some(instance) }),
        service_binding: Some(BindingSchemas { create: Some(input(access)) }),
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
        let catalog = serde_json::to_value(catalog("3.10.8", &Plans::default())).unwrap();
        osb::catalog::validate(&catalog).unwrap();
    }

    #[test]
    fn parameters_stay_below_the_plan() {
        let plans = Plans::default();
        let asked = InstanceParameters { connections: Some(100), queues: Some(5), queue_mb: None };
        let limits = asked.within(plans.shared);
        assert_eq!((limits.connections, limits.queues, limits.queue_mb), (50, 5, 64));
        assert_eq!(asked.within(plans.large).connections, 100);
    }
}
