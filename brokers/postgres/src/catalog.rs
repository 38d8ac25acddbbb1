//! What is offered.

use broker_sdk::osb::{
    Catalog, MaintenanceInfo, Plan, Schemas, ServiceOffering, backup,
    catalog::{BindingSchemas, InputSchema, InstanceSchemas},
};
use engines::settings::Limits;
use serde_json::{Value, json};

/// Extensions that the server trusts everybody with.
pub(crate) const EXTENSIONS: &[&str] = &[
    "btree_gin",
    "btree_gist",
    "citext",
    "cube",
    "dict_int",
    "fuzzystrmatch",
    "hstore",
    "intarray",
    "isn",
    "lo",
    "ltree",
    "pg_trgm",
    "pgcrypto",
    "seg",
    "tablefunc",
    "tcn",
    "tsm_system_rows",
    "tsm_system_time",
    "unaccent",
    "uuid-ossp",
];

/// `C.UTF-8` sorts by code point; the others by the rules of a language, as ICU knows them.
const COLLATIONS: &[&str] = &[
    "C.UTF-8", "und", "ar", "cs", "da", "de", "el", "en", "en-GB", "en-US", "es", "fi", "fr", "he", "hi", "hu", "it", "ja", "ko",
    "nb", "nl", "pl", "pt", "pt-BR", "ro", "ru", "sv", "th", "tr", "uk", "vi", "zh",
];

pub(crate) fn catalog(plans: &[Limits], version: &str) -> Catalog {
    let metadata = json!({
        "displayName": "PostgreSQL",
        "longDescription": "Relational databases on PostgreSQL, with backup, restore and clone. Connections need TLS.",
        "documentationUrl": "https://www.postgresql.org/docs/",
        "shareable": true,
        backup::METADATA_KEY: true,
    });
    let offering = ServiceOffering {
        id: "cupola-postgres".into(),
        name: "postgres".into(),
        description: "PostgreSQL databases".into(),
        bindable: true,
        tags: ["postgres", "postgresql", "relational", "sql"].map(String::from).to_vec(),
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
    let extensions = json!({
        "type": "array", "uniqueItems": true, "items": { "type": "string", "enum": EXTENSIONS },
        "description": "Extensions to be there; others stay"
    });
    let collation = json!({
        "type": "string", "enum": COLLATIONS,
        "description": "How text is sorted: by code point (C.UTF-8, usual), or by the rules of a language"
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
            description: Some(format!("PostgreSQL {version}; the server restarts, which takes seconds")),
        }),
        schemas: Some(Schemas {
            service_instance: Some(InstanceSchemas {
                create: Some(schema(json!({ "extensions": extensions, "connections": connections, "collation": collation }))),
                update: Some(schema(json!({ "extensions": extensions, "connections": connections }))),
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
        let catalog = catalog(&[limits], "15.8.0");
        broker_sdk::osb::catalog::validate(&serde_json::to_value(&catalog).unwrap()).unwrap();
        assert!(catalog.services[0].has_backups() && catalog.services[0].is_shareable());
    }
}
