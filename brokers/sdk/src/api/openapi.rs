//! The API as an OpenAPI document. Tests hold it against the routes, and against real requests and answers.

use crate::api::MAX_BODY_BYTES;
use osb::ApiVersion;
use serde_json::{Map, Value, json};

/// Schemas of bodies, as `components.schemas`.
const SCHEMAS: &str = include_str!("schemas.json");

/// One operation: method, path, what it does, body, answers with their schemas.
pub(crate) struct Route {
    pub(crate) method: &'static str,
    pub(crate) path: &'static str,
    summary: &'static str,
    pub(crate) body: Option<&'static str>,
    pub(crate) answers: &'static [(u16, &'static str)],
    /// Names of query parameters; those with `*` must be there.
    query: &'static [&'static str],
}

const INSTANCE: &str = "/v2/service_instances/{instance_id}";
const BINDING: &str = "/v2/service_instances/{instance_id}/service_bindings/{binding_id}";
const ASYNC: &[&str] = &["accepts_incomplete"];
const DELETE: &[&str] = &["service_id*", "plan_id*", "accepts_incomplete"];
const HINTS: &[&str] = &["service_id", "plan_id"];
const POLL: &[&str] = &["service_id", "plan_id", "operation"];

/// All operations.
#[rustfmt::skip]
pub(crate) const ROUTES: &[Route] = &[
    Route { method: "get", path: "/v2/catalog", summary: "The catalog", body: None, answers: &[(200, "Catalog")], query: &[] },
    Route { method: "put", path: INSTANCE, summary: "Make an instance", body: Some("ProvisionRequest"),
        answers: &[(200, "InstanceResponse"), (201, "InstanceResponse"), (202, "InstanceResponse"), (400, "Error"), (409, "Error"), (422, "Error")], query: ASYNC },
    Route { method: "get", path: INSTANCE, summary: "An instance", body: None, answers: &[(200, "FetchedInstance"), (404, "Error"), (422, "Error")], query: HINTS },
    Route { method: "patch", path: INSTANCE, summary: "Change an instance", body: Some("UpdateRequest"),
        answers: &[(200, "InstanceResponse"), (202, "InstanceResponse"), (400, "Error"), (404, "Error"), (422, "Error")], query: ASYNC },
    Route { method: "delete", path: INSTANCE, summary: "Remove an instance", body: None,
        answers: &[(200, "Accepted"), (202, "Accepted"), (400, "Error"), (410, "Accepted"), (422, "Error")], query: DELETE },
    Route { method: "get", path: "/v2/service_instances/{instance_id}/last_operation", summary: "Where an instance's operation is", body: None,
        answers: &[(200, "LastOperation"), (404, "Error"), (410, "Accepted")], query: POLL },
    Route { method: "put", path: BINDING, summary: "Make a binding, or rotate one", body: Some("BindRequest"),
        answers: &[(200, "Binding"), (201, "Binding"), (202, "Accepted"), (400, "Error"), (404, "Error"), (409, "Error"), (422, "Error")], query: ASYNC },
    Route { method: "get", path: BINDING, summary: "A binding", body: None, answers: &[(200, "Binding"), (404, "Error")], query: HINTS },
    Route { method: "delete", path: BINDING, summary: "Remove a binding", body: None,
        answers: &[(200, "Accepted"), (202, "Accepted"), (400, "Error"), (410, "Accepted"), (422, "Error")], query: DELETE },
    Route { method: "get", path: "/v2/service_instances/{instance_id}/service_bindings/{binding_id}/last_operation", summary: "Where a binding's operation is", body: None,
        answers: &[(200, "LastOperation"), (404, "Error"), (410, "Accepted")], query: POLL },
    Route { method: "post", path: "/v2/service_instances/{instance_id}/backups", summary: "Make a backup", body: Some("BackupRequest"),
        answers: &[(200, "Backup"), (201, "Backup"), (202, "Backup"), (400, "Error"), (404, "Error"), (422, "Error")], query: ASYNC },
    Route { method: "get", path: "/v2/service_instances/{instance_id}/backups", summary: "The backups of an instance", body: None,
        answers: &[(200, "BackupList"), (404, "Error")], query: &[] },
    Route { method: "get", path: "/v2/service_instances/{instance_id}/backups/{backup_id}", summary: "A backup", body: None,
        answers: &[(200, "Backup"), (404, "Error")], query: &[] },
    Route { method: "delete", path: "/v2/service_instances/{instance_id}/backups/{backup_id}", summary: "Delete a backup", body: None,
        answers: &[(200, "Accepted"), (202, "Accepted"), (410, "Accepted"), (422, "Error")], query: ASYNC },
    Route { method: "post", path: "/v2/service_instances/{instance_id}/restore", summary: "Go back to a backup", body: Some("RestoreRequest"),
        answers: &[(200, "Accepted"), (202, "Accepted"), (400, "Error"), (404, "Error"), (422, "Error")], query: ASYNC },
    Route { method: "get", path: "/metrics", summary: "Counts and times, for Prometheus", body: None, answers: &[(200, "")], query: &[] },
    Route { method: "get", path: "/openapi.json", summary: "This document", body: None, answers: &[(200, "")], query: &[] },
    Route { method: "get", path: "/healthz", summary: "Whether the broker works", body: None, answers: &[(200, ""), (500, "Error")], query: &[] },
];

/// The document.
pub(crate) fn document() -> Value {
    let mut paths = Map::new();
    for route in ROUTES {
        let place = paths.entry(route.path).or_insert_with(|| json!({}));
        place[route.method] = operation(route);
    }
    let schemas: Value = serde_json::from_str(SCHEMAS).unwrap_or_default();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Open Service Broker API",
            "version": ApiVersion::CURRENT.to_string(),
            "description": format!("With an extension for backups. Bodies have at most {MAX_BODY_BYTES} bytes."),
        },
        "security": [{ "basic": [] }],
        "paths": paths,
        "components": { "securitySchemes": { "basic": { "type": "http", "scheme": "basic" } }, "schemas": schemas },
    })
}

fn operation(route: &Route) -> Value {
    let mut parameters = vec![];
    for name in route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}')) {
        parameters
            .push(json!({ "name": name, "in": "path", "required": true, "schema": { "type": "string", "maxLength": 500 } }));
    }
    for name in route.query {
        let (name, required) = (name.trim_end_matches('*'), name.ends_with('*'));
        let kind = if name == "accepts_incomplete" { "boolean" } else { "string" };
        parameters.push(json!({ "name": name, "in": "query", "required": required, "schema": { "type": kind } }));
    }
    if route.path.starts_with("/v2/") {
        let version = json!({ "type": "string", "pattern": r"^2\.[0-9]+$" });
        parameters.push(json!({ "name": osb::VERSION_HEADER, "in": "header", "required": true, "schema": version }));
        for name in [osb::REQUEST_IDENTITY_HEADER, osb::ORIGINATING_IDENTITY_HEADER] {
            parameters.push(json!({ "name": name, "in": "header", "required": false, "schema": { "type": "string" } }));
        }
    }
    let mut responses = Map::new();
    for (status, schema) in route.answers {
        responses.insert(status.to_string(), answer(schema));
    }
    if route.path != "/healthz" {
        responses.insert("401".into(), answer("Error"));
    }
    if route.path.starts_with("/v2/") {
        responses.insert("412".into(), answer("Error"));
    }
    let mut operation = json!({ "summary": route.summary, "parameters": parameters, "responses": responses });
    if let Some(body) = route.body {
        operation["requestBody"] = json!({ "required": true, "content": content(body) });
    }
    if route.path == "/healthz" {
        operation["security"] = json!([]);
    }
    operation
}

fn answer(schema: &str) -> Value {
    match schema {
        "" => json!({ "description": "As it says" }),
        schema => json!({ "description": schema, "content": content(schema) }),
    }
}

fn content(schema: &str) -> Value {
    json!({ "application/json": { "schema": { "$ref": format!("#/components/schemas/{schema}") } } })
}
