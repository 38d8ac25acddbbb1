//! What is offered: the plans of the shared server, and the one with a server of an instance's own.

use crate::{
    Product, Schemas,
    config::{Config, LEAST_DISK_MB, LEAST_MEMORY_MB, OwnServers},
    dedicated,
};
use broker_sdk::osb::{
    Catalog, MaintenanceInfo, Plan, Schemas as PlanSchemas,
    catalog::{BindingSchemas, InputSchema, InstanceSchemas},
};
use engines::settings::Limits;
use serde_json::{Map, Value, json};

pub(crate) fn catalog(product: &dyn Product, config: &Config, version: &str) -> Catalog {
    let mut offering = product.offering();
    let shared = config.plans.iter().map(|limits| shared_plan(product, limits, version));
    offering.plans = shared.chain(config.own.iter().map(|own| own_plan(product, own, version))).collect();
    Catalog { services: vec![offering] }
}

fn shared_plan(product: &dyn Product, limits: &Limits, version: &str) -> Plan {
    let bullets = [format!("{} MB", limits.size_bytes >> 20), format!("{} connections a binding", limits.connections)];
    let schemas = schemas(product.parameters(), limits.connections);
    let restart = format!("{} {version}; the server restarts, which takes seconds", product.title());
    Plan { free: Some(limits.free), ..plan(&limits.plan, &limits.id, &limits.description, &bullets, schemas, version, restart) }
}

fn own_plan(product: &dyn Product, own: &OwnServers, version: &str) -> Plan {
    let OwnServers { memory_mb, most_memory_mb, disk_mb, most_disk_mb, .. } = own;
    let description = format!(
        "A server of its own in a container, with a disk of its own: {memory_mb} MB of memory and {disk_mb} MB of disk, or as chosen"
    );
    let bullets = [
        format!("{memory_mb} MB of memory, up to {most_memory_mb} MB"),
        format!("{disk_mb} MB of disk, up to {most_disk_mb} MB"),
        "Nobody else's data or load".to_owned(),
    ];
    let memory = json!({
        "type": "integer", "minimum": LEAST_MEMORY_MB, "maximum": most_memory_mb,
        "description": format!("Memory of the server in MB ({memory_mb} unless said otherwise); a change restarts it")
    });
    let disk = |when: &str| {
        json!({
            "type": "integer", "minimum": LEAST_DISK_MB, "maximum": most_disk_mb,
            "description": format!("Size of the disk in MB ({disk_mb} unless said otherwise); {when}")
        })
    };
    let mut parameters = product.parameters();
    for map in [&mut parameters.create, &mut parameters.update] {
        map.insert("memory_mb".into(), memory.clone());
    }
    parameters.create.insert("disk_mb".into(), disk("it never changes"));
    parameters.update.insert("disk_mb".into(), disk("only where the plan changes to this one: it never changes later"));
    let schemas = schemas(parameters, dedicated::connections(*most_memory_mb));
    let restart = format!("{} {version}; the server restarts, which takes seconds", product.title());
    Plan { free: Some(own.free), ..plan(&own.plan, &own.id, &description, &bullets, schemas, version, restart) }
}

fn plan(
    name: &str,
    id: &str,
    description: &str,
    bullets: &[String],
    schemas: PlanSchemas,
    version: &str,
    restart: String,
) -> Plan {
    Plan {
        id: id.to_owned(),
        name: name.to_owned(),
        description: description.to_owned(),
        metadata: json!({ "displayName": name, "bullets": bullets }).as_object().cloned(),
        binding_rotatable: true,
        maintenance_info: Some(MaintenanceInfo { version: version.to_owned(), description: Some(restart) }),
        schemas: Some(schemas),
        ..Plan::default()
    }
}

fn schemas(mut parameters: Schemas, most_connections: u32) -> PlanSchemas {
    let connections = json!({
        "type": "integer", "minimum": 1, "maximum": most_connections,
        "description": "Connections that a binding may have open at once"
    });
    for map in [&mut parameters.create, &mut parameters.update] {
        map.insert("connections".into(), connections.clone());
    }
    let of_binding = Map::from_iter([("connections".to_owned(), connections)]);
    PlanSchemas {
        service_instance: Some(InstanceSchemas {
            create: Some(schema(parameters.create)),
            update: Some(schema(parameters.update)),
        }),
        service_binding: Some(BindingSchemas { create: Some(schema(of_binding)) }),
    }
}

fn schema(properties: Map<String, Value>) -> InputSchema {
    let schema = json!({
        "$schema": "http://json-schema.org/draft-04/schema#",
        "type": "object", "additionalProperties": false, "properties": properties,
    });
    InputSchema { parameters: Some(schema) }
}
