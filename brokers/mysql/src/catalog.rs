//! What is offered.

use broker_sdk::osb::{
    Catalog, MaintenanceInfo, Plan, Schemas, ServiceOffering, backup,
    catalog::{BindingSchemas, InputSchema, InstanceSchemas},
};
use engines::settings::Limits;
use serde_json::{Value, json};

/// The first is the usual one.
const COLLATIONS: &[&str] = &[
    "utf8mb4_general_ci",
    "utf8mb4_unicode_ci",
    "utf8mb4_unicode_520_ci",
    "utf8mb4_bin",
    "utf8mb4_german2_ci",
    "utf8mb4_swedish_ci",
    "utf8mb4_spanish_ci",
    "utf8mb4_turkish_ci",
    "latin1_swedish_ci",
    "latin1_bin",
    "ascii_general_ci",
    "binary",
];

pub(crate) fn catalog(plans: &[Limits], version: &str) -> Catalog {
    let metadata = json!({
        "displayName": "MySQL (MariaDB)",
        "longDescription": "Relational databases on MariaDB, which MySQL's drivers speak to, with backup, restore and clone. Connections need TLS.",
        "documentationUrl": "https://mariadb.com/kb/en/documentation/",
        "shareable": true,
        backup::METADATA_KEY: true,
    });
    let offering = ServiceOffering {
        id: "cupola-mysql".into(),
        name: "mysql".into(),
        description: "MySQL databases, on MariaDB".into(),
        bindable: true,
        tags: ["mysql", "mariadb", "relational", "sql"].map(String::from).to_vec(),
        instances_retrievable: true,
        bindings_retrievable: true,
        plan_updateable: true,
        metadata: metadata.as_object().cloned(),
        plans: plans.iter().map(|limits| plan(limits, version)).collect(),
        ..ServiceOffering::default()
    };
    Catalog { services: vec![offering] }
}

fn plan(limits: &Limits, version: &str) -> Plan {
    let bullets = json!({
        "displayName": limits.plan,
        "bullets": [format!("{} MB", limits.size_bytes >> 20), format!("{} connections a binding", limits.connections)],
    });
    let connections = json!({
        "type": "integer", "minimum": 1, "maximum": limits.connections,
        "description": "Connections that a binding may have open at once"
    });
    let collation = json!({
        "type": "string", "enum": COLLATIONS,
        "description": "How text is encoded, compared and sorted unless a table says otherwise"
    });
    Plan {
        id: limits.id.clone(),
        name: limits.plan.clone(),
        description: limits.description.clone(),
        metadata: bullets.as_object().cloned(),
        free: Some(limits.free),
        binding_rotatable: true,
        maintenance_info: Some(MaintenanceInfo {
            version: version.to_owned(),
            description: Some(format!("MariaDB {version}; the server restarts, which takes seconds")),
        }),
        schemas: Some(Schemas {
            service_instance: Some(InstanceSchemas {
                create: Some(schema(json!({ "connections": connections, "collation": collation }))),
                update: Some(schema(json!({ "connections": connections }))),
            }),
            service_binding: Some(BindingSchemas { create: Some(schema(json!({ "connections": connections }))) }),
        }),
        ..Plan::default()
    }
}

fn schema(properties: Value) -> InputSchema {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object", "additionalProperties": false, "properties": properties,
    });
    InputSchema { parameters: Some(schema) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalog_keeps_the_rules() {
        let limits = Limits {
            plan: "shared".into(),
            id: "id".into(),
            description: "d".into(),
            size_bytes: 1 << 30,
            connections: 20,
            free: true,
        };
        let catalog = catalog(&[limits], "10.11.6");
        broker_sdk::osb::catalog::validate(&serde_json::to_value(&catalog).unwrap()).unwrap();
        assert!(catalog.services[0].has_backups() && catalog.services[0].is_shareable());
    }
}
