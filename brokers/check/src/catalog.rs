//! What is taken from a catalog to check the rest: leniently, because a wrong catalog should not hide other findings.

use serde_json::Value;
use std::time::Duration;

/// A plan and what its offering says of it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Plan {
    pub(crate) service_id: String,
    pub(crate) service_name: String,
    pub(crate) id: String,
    pub(crate) name: String,
    pub(crate) bindable: bool,
    pub(crate) instances_retrievable: bool,
    pub(crate) bindings_retrievable: bool,
    pub(crate) allow_context_updates: bool,
    pub(crate) plan_updateable: bool,
    pub(crate) binding_rotatable: bool,
    pub(crate) requires: Vec<String>,
    pub(crate) maximum_polling: Option<Duration>,
    pub(crate) maintenance_version: Option<String>,
    pub(crate) create_schema: Option<Value>,
    pub(crate) update_schema: Option<Value>,
    pub(crate) bind_schema: Option<Value>,
    /// Another plan of the same offering.
    pub(crate) sibling: Option<String>,
    /// Its maintenance version.
    pub(crate) sibling_maintenance: Option<String>,
    /// A plan of another offering.
    pub(crate) stranger: Option<String>,
}

impl Plan {
    /// `offering/plan`: how reports name it.
    pub(crate) fn label(&self) -> String {
        format!("{}/{}", self.service_name, self.name)
    }
}

/// All plans that have an id.
pub(crate) fn plans(catalog: &Value) -> Vec<Plan> {
    let mut plans = vec![];
    for service in list(catalog, "services") {
        let all: Vec<_> = list(service, "plans").iter().filter(|plan| plan.get("id").is_some_and(Value::is_string)).collect();
        for plan in &all {
            let sibling = all.iter().find(|other| other["id"] != plan["id"]);
            let schema = |pointer: &str| plan.pointer(pointer).filter(|schema| schema.is_object()).cloned();
            plans.push(Plan {
                service_id: text(service, "id"),
                service_name: text(service, "name"),
                id: text(plan, "id"),
                name: text(plan, "name"),
                bindable: flag(plan, "bindable").or(flag(service, "bindable")).unwrap_or_default(),
                instances_retrievable: flag(service, "instances_retrievable").unwrap_or_default(),
                bindings_retrievable: flag(service, "bindings_retrievable").unwrap_or_default(),
                allow_context_updates: flag(service, "allow_context_updates").unwrap_or_default(),
                plan_updateable: flag(plan, "plan_updateable").or(flag(service, "plan_updateable")).unwrap_or_default(),
                binding_rotatable: flag(plan, "binding_rotatable").unwrap_or_default(),
                requires: list(service, "requires").iter().filter_map(|need| Some(need.as_str()?.to_owned())).collect(),
                maximum_polling: plan.get("maximum_polling_duration").and_then(Value::as_u64).map(Duration::from_secs),
                maintenance_version: maintenance_version(plan),
                create_schema: schema("/schemas/service_instance/create/parameters"),
                update_schema: schema("/schemas/service_instance/update/parameters"),
                bind_schema: schema("/schemas/service_binding/create/parameters"),
                sibling: sibling.map(|plan| text(plan, "id")),
                sibling_maintenance: sibling.and_then(|plan| maintenance_version(plan)),
                stranger: list(catalog, "services")
                    .iter()
                    .filter(|other| other.get("id") != service.get("id"))
                    .flat_map(|other| list(other, "plans"))
                    .map(|plan| text(plan, "id"))
                    .find(|id| !id.is_empty() && all.iter().all(|own| own["id"] != id.as_str())),
            });
        }
    }
    plans
}

fn maintenance_version(plan: &Value) -> Option<String> {
    Some(plan.pointer("/maintenance_info/version")?.as_str()?.to_owned())
}

pub(crate) fn list<'a>(value: &'a Value, key: &str) -> &'a [Value] {
    value.get(key).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

fn text(value: &Value, key: &str) -> String {
    value.get(key).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn flag(value: &Value, key: &str) -> Option<bool> {
    value.get(key)?.as_bool()
}
