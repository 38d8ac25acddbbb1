//! The rules of a catalog. They look at the raw JSON, so that a wrong type can be named.
//!
//! Source: specification, "Catalog Management"; the texts are those that users of Cloud Foundry know.

use super::{Catalog, PlanProblems, Problems, Requirement, ServiceProblems};
use crate::schema;
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

const MAX_NAME_CHARS: usize = 255;
const MAX_DESCRIPTION_CHARS: usize = 10_000;
const MAX_TAGS_CHARS: usize = 2_048;
const MAX_MAINTENANCE_CHARS: usize = 2_000;
/// How much of a wrong value a message shows.
const MAX_SHOWN_CHARS: usize = 200;
const REQUIREMENTS: [&str; 3] = ["syslog_drain", "route_forwarding", "volume_mount"];

type Object = Map<String, Value>;

/// The catalog, if it keeps all rules.
///
/// # Errors
/// Everything that is wrong with it, at once.
pub fn validate(catalog: &Value) -> Result<Catalog, Problems> {
    let mut problems = Problems::default();
    let services = services(catalog, &mut problems.messages);
    for service in &services {
        problems.services.push(service_problems(service));
    }
    if !services.is_empty() {
        unique_in_broker(&services, &mut problems.messages);
    }
    if !problems.is_empty() {
        problems.services.retain(|service| !service.is_empty());
        return Err(problems);
    }
    serde_json::from_value(catalog.clone())
        .map_err(|e| Problems { messages: vec![format!("The catalog cannot be read: {e}")], services: vec![] })
}

/// What the platform lacks for this catalog, one line each.
pub fn incompatibilities(catalog: &Catalog, route_services: bool, volume_services: bool) -> Vec<String> {
    let mut missing = vec![];
    for service in &catalog.services {
        for (need, present, kind, support) in [
            (Requirement::RouteForwarding, route_services, "route service", "route services"),
            (Requirement::VolumeMount, volume_services, "volume mount service", "volume mount services"),
        ] {
            if service.requires(need) && !present {
                let name = &service.name;
                missing.push(format!("Service {name} is declared to be a {kind} but support for {support} is disabled."));
            }
        }
    }
    missing
}

fn services<'a>(catalog: &'a Value, messages: &mut Vec<String>) -> Vec<&'a Object> {
    let list = match catalog.get("services") {
        _ if !catalog.is_object() => {
            messages.push(format!("Service broker catalog must be a hash, but has value {}", shown(catalog)));
            return vec![];
        }
        None | Some(Value::Null) => &[],
        Some(Value::Array(list)) if list.iter().all(Value::is_object) => list.as_slice(),
        Some(other) => {
            messages.push(format!("Service broker services list must be an array of hashes, but has value {}", shown(other)));
            return vec![];
        }
    };
    if list.is_empty() {
        messages.push("Service broker must provide at least one service".into());
    }
    list.iter().filter_map(Value::as_object).collect()
}

fn service_problems(service: &Object) -> ServiceProblems {
    let mut found = ServiceProblems { name: name_of(service), ..ServiceProblems::default() };
    let mut check = Check { object: service, messages: &mut found.messages };
    check.string("id", "Service id", MAX_NAME_CHARS);
    check.string("name", "Service name", MAX_NAME_CHARS);
    check.string("description", "Service description", MAX_DESCRIPTION_CHARS);
    check.boolean("bindable", "Service \"bindable\" field", true);
    for key in ["plan_updateable", "bindings_retrievable", "instances_retrievable", "allow_context_updates"] {
        check.boolean(key, &format!("Service \"{key}\" field"), false);
    }
    check.tags();
    check.requires();
    if let Some(metadata) = check.object("metadata", "Service metadata") {
        Check { object: metadata, messages: check.messages }.boolean("shareable", "Service metadata shareable", false);
    }
    if let Some(client) = check.object("dashboard_client", "Service dashboard client attributes") {
        let mut check = Check { object: client, messages: check.messages };
        check.string("id", "Service dashboard client id", MAX_NAME_CHARS);
        check.secret("secret", "Service dashboard client secret");
        check.string("redirect_uri", "Service dashboard client redirect_uri", MAX_DESCRIPTION_CHARS);
    }
    for plan in check.plans() {
        found.plans.push(plan_problems(plan));
    }
    if found.plans.iter().all(PlanProblems::is_empty) {
        unique_in_service(service, &found.name, &mut found.messages);
    }
    found.plans.retain(|plan| !plan.is_empty());
    found
}

fn plan_problems(plan: &Object) -> PlanProblems {
    let mut found = PlanProblems { name: name_of(plan), ..PlanProblems::default() };
    let mut check = Check { object: plan, messages: &mut found.messages };
    check.string("id", "Plan id", MAX_NAME_CHARS);
    check.string("name", "Plan name", MAX_NAME_CHARS);
    check.string("description", "Plan description", MAX_DESCRIPTION_CHARS);
    check.object("metadata", "Plan metadata");
    for key in ["free", "bindable", "plan_updateable", "binding_rotatable"] {
        check.boolean(key, &format!("Plan {key}"), false);
    }
    check.natural("maximum_polling_duration", "Maximum polling duration");
    check.maintenance_info();
    if let Some(schemas) = check.object("schemas", "Plan schemas") {
        schema_problems(schemas, &mut found.schemas);
    }
    found
}

fn schema_problems(schemas: &Object, messages: &mut Vec<String>) {
    for (group, operation) in [("service_instance", "create"), ("service_instance", "update"), ("service_binding", "create")] {
        let path = [group, operation, "parameters"];
        let mut place = schemas;
        for (depth, key) in path.into_iter().enumerate() {
            match place.get(key) {
                None | Some(Value::Null) => break,
                Some(Value::Object(schema)) if depth == 2 => {
                    let found = schema::problems(&Value::Object(schema.clone()));
                    messages.extend(found.into_iter().map(|why| format!("Schema {} is not valid. {why}", path.join("."))));
                }
                Some(Value::Object(inner)) => place = inner,
                Some(other) => {
                    let message = format!("Schemas {} must be a hash, but has value {}", path[..=depth].join("."), shown(other));
                    // both operations of an instance pass its first step
                    if !messages.contains(&message) {
                        messages.push(message);
                    }
                    break;
                }
            }
        }
    }
}

fn unique_in_service(service: &Object, name: &str, messages: &mut Vec<String>) {
    for id in duplicates(plans_of(service).filter_map(|plan| text(plan, "id"))) {
        messages.push(format!("Plan ids must be unique. Service {name} already has a plan with id '{id}'"));
    }
    for plan in duplicates(plans_of(service).filter_map(|plan| text(plan, "name"))) {
        messages.push(format!("Plan names must be unique within a service. Service {name} already has a plan named {plan}"));
    }
}

fn unique_in_broker(services: &[&Object], messages: &mut Vec<String>) {
    let all = |key| services.iter().filter_map(move |service| text(service, key));
    if !duplicates(all("id")).is_empty() {
        messages.push("Service ids must be unique".into());
    }
    if !duplicates(all("name")).is_empty() {
        messages.push("Service names must be unique within a broker".into());
    }
    let mut plans: BTreeMap<&str, (String, String)> = BTreeMap::new();
    for (index, service) in services.iter().enumerate() {
        let mut own = BTreeSet::new();
        for plan in plans_of(service) {
            let Some(id) = text(plan, "id") else { continue };
            let here = (name_of(plan), name_of(service));
            // within one service the service itself says it
            if let Some((plan_name, service_name)) = plans.get(id)
                && !own.contains(&(index, id))
            {
                messages.push(format!(
                    "Plan ids must be unique. Unable to register plan with id '{id}' (plan name '{}', service name '{}') because it \
                     uses the same id as another plan in the catalog (plan name '{plan_name}', service name '{service_name}')",
                    here.0, here.1
                ));
            }
            own.insert((index, id));
            plans.insert(id, here);
        }
    }
    let clients = services.iter().filter_map(|service| service.get("dashboard_client")?.get("id")?.as_str());
    if !duplicates(clients).is_empty() {
        messages.push("Service dashboard_client id must be unique".into());
    }
}

fn duplicates<'a>(words: impl Iterator<Item = &'a str>) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    words.filter(|word| !seen.insert(*word)).collect()
}

fn plans_of(service: &Object) -> impl Iterator<Item = &Object> {
    service.get("plans").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_object)
}

fn text<'a>(object: &'a Object, key: &str) -> Option<&'a str> {
    object.get(key).and_then(Value::as_str)
}

fn name_of(object: &Object) -> String {
    text(object, "name").unwrap_or_default().chars().take(MAX_NAME_CHARS).collect()
}

/// A wrong value, as much of it as helps.
fn shown(value: &Value) -> String {
    let text = value.to_string();
    match text.char_indices().nth(MAX_SHOWN_CHARS) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// One object and where its problems go.
struct Check<'a, 'm> {
    object: &'a Object,
    messages: &'m mut Vec<String>,
}

impl<'a> Check<'a, '_> {
    /// The value of a key; `null` is absence.
    fn get(&self, key: &str) -> Option<&'a Value> {
        self.object.get(key).filter(|value| !value.is_null())
    }

    fn say(&mut self, message: String) {
        self.messages.push(message);
    }

    fn wrong(&mut self, label: &str, kind: &str, value: &Value) {
        self.say(format!("{label} must be {kind}, but has value {}", shown(value)));
    }

    /// A text that must be there.
    fn string(&mut self, key: &str, label: &str, max_chars: usize) {
        match self.get(key) {
            Some(Value::String(text)) if text.trim().is_empty() => self.say(format!("{label} is required")),
            Some(Value::String(text)) if text.chars().count() > max_chars => {
                self.say(format!("{label} may not have more than {max_chars} characters"));
            }
            Some(Value::String(_)) => {}
            Some(other) => self.wrong(label, "a string", other),
            None => self.say(format!("{label} is required")),
        }
    }

    /// Like [`Check::string`], and the value never shows.
    fn secret(&mut self, key: &str, label: &str) {
        match self.get(key) {
            Some(Value::String(text)) if !text.trim().is_empty() => {}
            Some(Value::String(_)) | None => self.say(format!("{label} is required")),
            Some(_) => self.say(format!("{label} must be a string")),
        }
    }

    fn boolean(&mut self, key: &str, label: &str, required: bool) {
        match self.get(key) {
            Some(Value::Bool(_)) => {}
            Some(other) => self.wrong(label, "a boolean", other),
            None if required => self.say(format!("{label} is required")),
            None => {}
        }
    }

    fn natural(&mut self, key: &str, label: &str) {
        match self.get(key) {
            Some(value) if value.as_u64().is_none() => self.wrong(label, "an integer", value),
            _ => {}
        }
    }

    fn object(&mut self, key: &str, label: &str) -> Option<&'a Object> {
        match self.get(key)? {
            Value::Object(object) => Some(object),
            other => {
                self.wrong(label, "a hash", other);
                None
            }
        }
    }

    fn strings(&mut self, key: &str, label: &str) -> Vec<&'a str> {
        match self.get(key) {
            None => vec![],
            Some(Value::Array(list)) if list.iter().all(Value::is_string) => list.iter().filter_map(Value::as_str).collect(),
            Some(other) => {
                self.wrong(label, "an array of strings", other);
                vec![]
            }
        }
    }

    fn tags(&mut self) {
        let tags = self.strings("tags", "Service tags");
        if tags.iter().map(|tag| tag.chars().count()).sum::<usize>() > MAX_TAGS_CHARS {
            let name = name_of(self.object);
            self.say(format!("Tags for the service {name} must be {MAX_TAGS_CHARS} characters or less."));
        }
    }

    fn requires(&mut self) {
        for word in self.strings("requires", "Service \"requires\" field") {
            if !REQUIREMENTS.contains(&word) {
                self.say(format!("Service \"requires\" field contains unsupported value \"{word}\""));
            }
        }
    }

    fn plans(&mut self) -> Vec<&'a Object> {
        match self.get("plans") {
            Some(Value::Array(list)) if list.iter().all(Value::is_object) => {
                if list.is_empty() {
                    self.say("At least one plan is required".into());
                }
                list.iter().filter_map(Value::as_object).collect()
            }
            Some(other) => {
                self.wrong("Service plans list", "an array of hashes", other);
                vec![]
            }
            None => {
                self.say("At least one plan is required".into());
                vec![]
            }
        }
    }

    fn maintenance_info(&mut self) {
        let Some(info) = self.object("maintenance_info", "Maintenance info") else { return };
        let length = Value::Object(info.clone()).to_string().chars().count();
        if length > MAX_MAINTENANCE_CHARS {
            self.say(format!(
                "Maintenance info must serialize to {MAX_MAINTENANCE_CHARS} characters or fewer in JSON, but serializes to {length} \
                 characters"
            ));
            return;
        }
        if info.keys().any(|key| !matches!(key.as_str(), "version" | "description")) {
            self.say("Maintenance info contains invalid keys. Only version and description are allowed".into());
        }
        match info.get("version") {
            None | Some(Value::Null) => self.say("Maintenance info version is required".into()),
            Some(Value::String(version)) if semver::Version::parse(version).is_ok() => {}
            Some(other) => self.wrong("Maintenance info version", "a Semantic Version", other),
        }
        match info.get("description") {
            None | Some(Value::Null | Value::String(_)) => {}
            Some(other) => self.wrong("Maintenance info description", "a string", other),
        }
    }
}
