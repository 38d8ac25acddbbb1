//! What applying a manifest would change, in the form of JSON patch operations with the former value.
//!
//! Only what the manifest states is compared: a key left out is not shown as removed, except inside lists that it states.

use super::{check::is_app_key, render};
use crate::domain::{environment, sizes};
use serde::Serialize;
use serde_json::{Map, Value, json};

/// One difference.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Difference {
    /// `add`, `remove` or `replace`.
    pub op: &'static str,
    /// A JSON pointer into the manifest.
    pub path: String,
    /// What there was.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub was: Option<Value>,
    /// What there will be.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub value: Option<Value>,
}

/// Compares one app of a manifest with the app as it is; `None`: it is new.
pub fn diff(index: usize, stated: &Map<String, Value>, existing: Option<&render::App>) -> Vec<Difference> {
    let existing = existing.map(existing_values).unwrap_or_default();
    let mut found = vec![];
    for (key, value) in stated.iter().filter(|(key, _)| is_app_key(key)) {
        let path = format!("/applications/{index}/{}", escape(key));
        if key == "services" {
            compare_services(&path, &existing, value, &mut found);
            continue;
        }
        let value = normal(key, value);
        compare(&path, list_id(key), existing.get(key.as_str()), &value, &mut found);
    }
    found
}

fn existing_values(app: &render::App) -> Map<String, Value> {
    let Ok(Value::Object(mut values)) = serde_json::to_value(app) else { return Map::new() };
    let web = app.processes.iter().find(|process| process.r#type == "web").and_then(|web| serde_json::to_value(web).ok());
    if let Some(Value::Object(web)) = web {
        values.extend(web.into_iter().filter(|(key, _)| key != "type"));
    }
    if let Some(disk) = values.get("disk_quota").cloned() {
        values.insert("disk-quota".into(), disk);
    }
    if let [one] = app.buildpacks.as_slice() {
        values.insert("buildpack".into(), one.clone().into());
    }
    values
}

/// Sizes in one unit, variables as text: so that `1G` and `1024M` are no difference.
fn normal(key: &str, value: &Value) -> Value {
    match (key, value) {
        ("memory" | "disk_quota" | "disk-quota", Value::String(text)) => {
            sizes::parse_megabytes(text).map_or_else(|_| value.clone(), |mb| sizes::megabytes(mb).into())
        }
        ("log-rate-limit-per-second", value) => {
            let text = environment::shown(value);
            let rate = match text.trim() {
                "-1" => Some(-1),
                "0" => Some(0),
                text => sizes::parse_bytes(text).ok().and_then(|bytes| i64::try_from(bytes).ok()),
            };
            rate.map_or_else(|| value.clone(), |rate| sizes::log_rate(rate).into())
        }
        ("env", Value::Object(vars)) => {
            vars.iter().map(|(name, value)| (name.clone(), text_of(value))).collect::<Map<_, _>>().into()
        }
        ("processes", Value::Array(list)) => list.iter().map(normal_process).collect(),
        ("health-check-type" | "readiness-health-check-type", Value::String(kind)) if kind == "none" => "process".into(),
        _ => value.clone(),
    }
}

fn normal_process(process: &Value) -> Value {
    let Some(process) = process.as_object() else { return process.clone() };
    let entries = process.iter().map(|(key, value)| {
        let key = if key == "disk-quota" { "disk_quota" } else { key.as_str() };
        (key.to_owned(), normal(key, value))
    });
    entries.collect::<Map<_, _>>().into()
}

fn text_of(value: &Value) -> Value {
    if value.is_null() { Value::Null } else { environment::shown(value).into() }
}

/// The key by which entries of a list are told apart.
fn list_id(key: &str) -> Option<&'static str> {
    match key {
        "processes" => Some("type"),
        "routes" => Some("route"),
        "sidecars" => Some("name"),
        _ => None,
    }
}

/// What is bound already stays as it is, whatever a manifest says about it; nothing is unbound.
fn compare_services(path: &str, existing: &Map<String, Value>, stated: &Value, found: &mut Vec<Difference>) {
    let name = |service: &Value| service.as_str().or_else(|| service["name"].as_str()).map(str::to_lowercase);
    let bound: Vec<_> = existing.get("services").and_then(Value::as_array).into_iter().flatten().map(name).collect();
    if bound.is_empty() && stated.as_array().is_some_and(|stated| !stated.is_empty()) {
        return found.push(Difference { op: "add", path: path.into(), was: None, value: Some(stated.clone()) });
    }
    for (index, service) in stated.as_array().into_iter().flatten().enumerate() {
        if !bound.contains(&name(service)) {
            let path = format!("{path}/{index}");
            found.push(Difference { op: "add", path, was: None, value: Some(service.clone()) });
        }
    }
}

fn compare(path: &str, id: Option<&str>, was: Option<&Value>, value: &Value, found: &mut Vec<Difference>) {
    match (was, value) {
        (None | Some(Value::Null), Value::Null) => {}
        (None | Some(Value::Null), value) => {
            found.push(Difference { op: "add", path: path.into(), was: None, value: Some(value.clone()) });
        }
        (Some(was), Value::Null) => {
            found.push(Difference { op: "remove", path: path.into(), was: Some(was.clone()), value: None });
        }
        (Some(was), value) if was == value => {}
        (Some(Value::Object(was)), Value::Object(values)) => {
            for (key, value) in values {
                compare(&format!("{path}/{}", escape(key)), None, was.get(key), value, found);
            }
        }
        (Some(Value::Array(was)), Value::Array(values)) => compare_lists(path, id, was, values, found),
        (Some(was), value) => {
            found.push(Difference { op: "replace", path: path.into(), was: Some(was.clone()), value: Some(value.clone()) });
        }
    }
}

fn compare_lists(path: &str, id: Option<&str>, was: &[Value], values: &[Value], found: &mut Vec<Difference>) {
    let Some(id) = id else {
        found.push(Difference { op: "replace", path: path.into(), was: Some(json!(was)), value: Some(json!(values)) });
        return;
    };
    let same = |a: &Value, b: &Value| a.get(id).unwrap_or(a) == b.get(id).unwrap_or(b);
    for (index, value) in values.iter().enumerate() {
        let former = was.iter().find(|former| same(former, value));
        compare(&format!("{path}/{index}"), None, former, value, found);
    }
    if id == "type" || id == "name" {
        return; // a process or service left out stays
    }
    for (index, former) in was.iter().enumerate().filter(|(_, former)| !values.iter().any(|value| same(former, value))) {
        found.push(Difference { op: "remove", path: format!("{path}/{index}"), was: Some(former.clone()), value: None });
    }
}

fn escape(key: &str) -> String {
    key.replace('~', "~0").replace('/', "~1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::manifest::{
        parse::parse,
        render::{App, Process, Route},
    };
    use std::collections::BTreeMap;

    fn existing() -> App {
        let web = Process {
            r#type: "web".into(),
            health_check_type: "port".into(),
            readiness_health_check_type: "process".into(),
            ..Process::default()
        };
        App {
            name: "dora".into(),
            env: BTreeMap::from([("A".into(), "1".into()), ("B".into(), "2".into())]),
            lifecycle: "buildpack".into(),
            stack: "cflinuxfs4".into(),
            buildpacks: vec!["ruby_buildpack".into()],
            routes: vec![Route { route: "old.app.localhost".into(), protocol: Some("http1".into()), options: None }],
            processes: vec![web.scaled(1, 1024, 1024, -1)],
            ..App::default()
        }
    }
    #[test]
    fn only_services_that_are_not_bound_yet_are_a_difference() {
        let bound = App {
            services: vec![
                render::Service::Plain("mydb".into()),
                render::Service::Named { name: "cache".into(), binding_name: "c".into() },
            ],
            ..existing()
        };
        let lines = "  services: [mydb, {name: cache, parameters: {a: 1}}, {name: queue, binding_name: q}]\n";
        assert_eq!(told(lines, Some(&bound)), [r#"add /applications/0/services/2 null->{"binding_name":"q","name":"queue"}"#]);
        assert_eq!(told("  services: [mydb]\n", None).len(), 2, "of a new app, with its name");
    }

    fn told(lines: &str, existing: Option<&App>) -> Vec<String> {
        let apps = parse(format!("applications:\n- name: dora\n{lines}").as_bytes()).unwrap();
        let told = |d: Difference| format!("{} {} {}->{}", d.op, d.path, d.was.unwrap_or_default(), d.value.unwrap_or_default());
        diff(0, &apps[0], existing).into_iter().map(told).collect()
    }

    #[test]
    fn the_same_said_in_other_units_is_no_difference() {
        let lines = "  memory: 1G\n  disk_quota: 1024MB\n  instances: 1\n  env: {A: 1}\n  log-rate-limit-per-second: '-1'\n  processes:\n  - type: web\n    memory: 1G\n";
        assert_eq!(told(lines, Some(&existing())), Vec::<String>::new());
    }

    #[test]
    fn changes_are_told_with_what_was() {
        assert_eq!(told("  memory: 2G\n", Some(&existing())), [r#"replace /applications/0/memory "1024M"->"2048M""#]);
        assert_eq!(
            told("  env: {A: x, C: 3}\n", Some(&existing())),
            [r#"replace /applications/0/env/A "1"->"x""#, r#"add /applications/0/env/C null->"3""#]
        );
        assert_eq!(
            told("  processes: [{type: web, instances: 3}, {type: worker, instances: 1}]\n", Some(&existing())),
            [
                r#"replace /applications/0/processes/0/instances 1->3"#,
                r#"add /applications/0/processes/1 null->{"instances":1,"type":"worker"}"#
            ]
        );
    }

    #[test]
    fn routes_left_out_of_a_stated_list_are_shown_as_removed() {
        assert_eq!(
            told("  routes: [{route: new.app.localhost}]\n", Some(&existing())),
            [
                r#"add /applications/0/routes/0 null->{"route":"new.app.localhost"}"#,
                r#"remove /applications/0/routes/0 {"protocol":"http1","route":"old.app.localhost"}->null"#
            ]
        );
    }

    #[test]
    fn everything_of_a_new_app_is_added_and_unknown_keys_are_skipped() {
        assert_eq!(
            told("  memory: 1G\n  path: /x\n", None),
            [r#"add /applications/0/memory null->"1024M""#, r#"add /applications/0/name null->"dora""#]
        );
    }
}
