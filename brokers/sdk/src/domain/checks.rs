//! Requests as they come in: JSON to typed values, ids to offerings and plans.
//!
//! A refusal here leaves nothing behind and does not depend on what exists.

use crate::Failure;
use osb::{
    BackupRequest, BindRequest, Catalog, ErrorWord, Parameters, Plan, ProvisionRequest, RestoreRequest, ServiceOffering,
    UpdateRequest, catalog::Input, schema,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Longest id in a path.
const MAX_ID_CHARS: usize = 500;

/// The query of a request.
pub(crate) type Query = BTreeMap<String, String>;

/// An id from a path.
pub(crate) fn id(id: &str, what: &str) -> Result<(), Failure> {
    match id.chars().count() {
        0 => Err(Failure::invalid(format!("the id of the {what} is empty"))),
        n if n > MAX_ID_CHARS => Err(Failure::invalid(format!("the id of the {what} has more than {MAX_ID_CHARS} characters"))),
        _ if id.chars().any(char::is_control) => Err(Failure::invalid(format!("the id of the {what} has control characters"))),
        _ => Ok(()),
    }
}

/// Whether the platform polls.
pub(crate) fn accepts_incomplete(query: &Query) -> bool {
    query.get("accepts_incomplete").is_some_and(|value| value == "true")
}

/// The JSON object in a body. Nesting is bounded by the parser.
pub(crate) fn object(content_type: Option<&str>, body: &[u8]) -> Result<Map<String, Value>, Failure> {
    let essence = content_type.map(|value| value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase());
    if essence.is_some_and(|essence| essence != "application/json") {
        return Err(Failure::invalid("the Content-Type must be application/json"));
    }
    match serde_json::from_slice(body) {
        Ok(Value::Object(object)) => Ok(object),
        Ok(_) => Err(Failure::invalid("the body must be a JSON object")),
        Err(e) => Err(Failure::invalid(format!("the body is not JSON: line {} column {}", e.line(), e.column()))),
    }
}

/// A field, what it must be, and the words for that.
type Field<'a> = (&'a str, fn(&Value) -> bool, &'a str);

/// What is there must have this type; `null` is absence.
fn fields(object: &Map<String, Value>, types: &[Field<'_>]) -> Result<(), Failure> {
    for (key, fits, expected) in types {
        if object.get(*key).is_some_and(|value| !value.is_null() && !fits(value)) {
            return Err(Failure::invalid(format!("{key} must be {expected}")));
        }
    }
    Ok(())
}

/// These must be there, and not be blank.
fn required(object: &Map<String, Value>, keys: &[&str]) -> Result<(), Failure> {
    for key in keys {
        match object.get(*key) {
            None | Some(Value::Null) => return Err(Failure::invalid(format!("{key} is missing"))),
            Some(Value::String(text)) if text.trim().is_empty() => return Err(Failure::invalid(format!("{key} is empty"))),
            Some(Value::String(_)) => {}
            Some(_) => return Err(Failure::invalid(format!("{key} must be a string"))),
        }
    }
    Ok(())
}

fn typed<T: DeserializeOwned>(object: Map<String, Value>) -> Result<T, Failure> {
    // the text of the error may hold a value
    serde_json::from_value(Value::Object(object))
        .map_err(|_| Failure::invalid("a field of the body does not have the right form"))
}

/// A provision's body.
pub(crate) fn provision(object: Map<String, Value>) -> Result<ProvisionRequest, Failure> {
    required(&object, &["service_id", "plan_id", "organization_guid", "space_guid"])?;
    fields(
        &object,
        &[
            ("context", Value::is_object, "an object"),
            ("parameters", Value::is_object, "an object"),
            ("maintenance_info", Value::is_object, "an object"),
            ("cupola_clone_from", Value::is_object, "an object"),
        ],
    )?;
    typed(object)
}

/// An update's body.
pub(crate) fn update(object: Map<String, Value>) -> Result<UpdateRequest, Failure> {
    required(&object, &["service_id"])?;
    fields(
        &object,
        &[
            ("plan_id", |value| value.as_str().is_some_and(|id| !id.trim().is_empty()), "a string that is not empty"),
            ("context", Value::is_object, "an object"),
            ("parameters", Value::is_object, "an object"),
            ("previous_values", Value::is_object, "an object"),
            ("maintenance_info", Value::is_object, "an object"),
        ],
    )?;
    typed(object)
}

/// A bind's body. In a rotation only the predecessor must be there.
pub(crate) fn bind(object: Map<String, Value>) -> Result<BindRequest, Failure> {
    match object.get("predecessor_binding_id").is_some_and(|value| !value.is_null()) {
        true => required(&object, &["predecessor_binding_id"])?,
        false => required(&object, &["service_id", "plan_id"])?,
    }
    fields(
        &object,
        &[
            ("service_id", Value::is_string, "a string"),
            ("plan_id", Value::is_string, "a string"),
            ("context", Value::is_object, "an object"),
            ("app_guid", Value::is_string, "a string"),
            ("bind_resource", Value::is_object, "an object"),
            ("parameters", Value::is_object, "an object"),
        ],
    )?;
    typed(object)
}

/// The body that asks for a backup.
pub(crate) fn backup(object: Map<String, Value>) -> Result<BackupRequest, Failure> {
    required(&object, &["id"])?;
    let request: BackupRequest = typed(object)?;
    id(&request.id, "backup")?;
    Ok(request)
}

/// The body that asks for a restore.
pub(crate) fn restore(object: Map<String, Value>) -> Result<RestoreRequest, Failure> {
    required(&object, &["backup_id"])?;
    typed(object)
}

/// The ids that a delete must carry.
pub(crate) fn delete_ids(query: &Query) -> Result<(&str, &str), Failure> {
    let get = |key| match query.get(key).map(|value| value.trim()) {
        None | Some("") => Err(Failure::invalid(format!("{key} is missing"))),
        Some(value) => Ok(value),
    };
    Ok((get("service_id")?, get("plan_id")?))
}

/// The offering of this id.
pub(crate) fn service<'a>(catalog: &'a Catalog, service_id: &str) -> Result<&'a ServiceOffering, Failure> {
    catalog.service(service_id).ok_or_else(|| Failure::invalid(format!("there is no service with the id {service_id}")))
}

/// The offering and plan of these ids.
pub(crate) fn plan<'a>(
    catalog: &'a Catalog,
    service_id: &str,
    plan_id: &str,
) -> Result<(&'a ServiceOffering, &'a Plan), Failure> {
    let service = service(catalog, service_id)?;
    let plan = service
        .plan(plan_id)
        .ok_or_else(|| Failure::invalid(format!("the service {} has no plan with the id {plan_id}", service.name)))?;
    Ok((service, plan))
}

/// A platform that knows another version of the plan must fetch the catalog.
pub(crate) fn maintenance(plan: &Plan, version: Option<&str>) -> Result<(), Failure> {
    let own = plan.maintenance_info.as_ref().map(|info| info.version.as_str());
    match version {
        None => Ok(()),
        Some(version) if Some(version) == own => Ok(()),
        Some(version) => Err(Failure::known(
            ErrorWord::MaintenanceInfoConflict,
            match own {
                Some(own) => format!("the plan {} has the version {own}, not {version}: fetch the catalog", plan.name),
                None => format!("the plan {} has no versions: fetch the catalog", plan.name),
            },
        )),
    }
}

/// Parameters must keep to the plan's schema.
pub(crate) fn parameters(plan: &Plan, input: Input, parameters: Option<&Parameters>) -> Result<(), Failure> {
    let Some(schema) = plan.schema(input) else { return Ok(()) };
    // a schema may require something: no parameters are an empty object
    let problems = schema::check(schema, &parameters.cloned().unwrap_or_default().to_value());
    match problems.is_empty() {
        true => Ok(()),
        false => {
            Err(Failure::invalid(format!("the parameters are not valid for the plan {}: {}", plan.name, problems.join("; "))))
        }
    }
}
