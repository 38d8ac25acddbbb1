//! What a manifest will change, for the reader: the manifest with `+` and `-` before what is new and what goes.

use crate::{
    api::{array, text},
    ui,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// By path; what goes from a list and what comes into it may have one place.
type Operations<'a> = BTreeMap<&'a str, Vec<&'a Value>>;

/// The lines to show.
pub(super) fn lines(manifest: &Value, diff: &Value) -> Vec<String> {
    let mut operations = Operations::new();
    for operation in array(diff, "/diff") {
        operations.entry(text(operation, "/path")).or_default().push(operation);
    }
    let mut out = vec!["  ---".to_owned()];
    walk(manifest, "", 0, &operations, &mut out);
    out.into_iter()
        .map(|line| match line.as_bytes().first() {
            Some(b'+') => ui::green(&line),
            Some(b'-') => ui::red(&line),
            _ => line,
        })
        .collect()
}

fn walk(value: &Value, path: &str, depth: usize, operations: &Operations<'_>, out: &mut Vec<String>) {
    let members: Vec<(String, &Value)> = match value {
        Value::Object(fields) => {
            let mut members: Vec<_> = fields.iter().map(|(key, value)| (key.clone(), value)).collect();
            members.sort_by_key(|(key, _)| (key != "name", key.clone()));
            members
        }
        Value::Array(values) => values.iter().enumerate().map(|(at, value)| (at.to_string(), value)).collect(),
        _ => vec![],
    };
    let list = value.is_array();
    for (key, member) in &members {
        let here = format!("{path}/{}", key.replace('~', "~0").replace('/', "~1"));
        let label = if list { "-".to_owned() } else { format!("{key}:") };
        let of = |op: &str| operations.get(here.as_str()).and_then(|all| all.iter().find(|one| text(one, "/op") == op));
        if let Some(gone) = of("remove") {
            write('-', &label, &gone["was"], depth, out);
        }
        match (of("add"), of("replace")) {
            (Some(_), _) => write('+', &label, member, depth, out),
            (_, Some(operation)) => {
                write('-', &label, &operation["was"], depth, out);
                write('+', &label, member, depth, out);
            }
            _ if member.is_object() || member.is_array() => {
                out.push(format!("  {}{label}", "  ".repeat(depth)));
                walk(member, &here, depth + 1, operations, out);
            }
            _ => write(' ', &label, member, depth, out),
        }
    }
    // what goes is not in the manifest any more
    let all = operations.iter().flat_map(|(path, all)| all.iter().map(move |operation| (path, operation)));
    for (gone, operation) in all.filter(|(_, operation)| text(operation, "/op") == "remove") {
        if let Some((parent, key)) = gone.rsplit_once('/')
            && parent == path
            && !members.iter().any(|(member, _)| member == key)
        {
            let label = if list { "-".to_owned() } else { format!("{key}:") };
            write('-', &label, &operation["was"], depth, out);
        }
    }
}

fn write(mark: char, label: &str, value: &Value, depth: usize, out: &mut Vec<String>) {
    let indent = "  ".repeat(depth);
    match value {
        Value::Object(fields) if !fields.is_empty() => {
            out.push(format!("{mark} {indent}{label}"));
            fields.iter().for_each(|(key, value)| write(mark, &format!("{key}:"), value, depth + 1, out));
        }
        Value::Array(values) if !values.is_empty() => {
            out.push(format!("{mark} {indent}{label}"));
            values.iter().for_each(|value| write(mark, "-", value, depth + 1, out));
        }
        Value::String(text) => out.push(format!("{mark} {indent}{label} {}", ui::harmless(text))),
        other => out.push(format!("{mark} {indent}{label} {other}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_new_and_what_goes_is_marked() {
        let manifest = json!({ "applications": [{ "name": "a", "memory": "64M", "routes": [{ "route": "x.y" }] }] });
        let diff = json!({ "diff": [
            { "op": "replace", "path": "/applications/0/memory", "was": "1G", "value": "64M" },
            { "op": "add", "path": "/applications/0/routes", "value": [{ "route": "x.y" }] },
            { "op": "remove", "path": "/applications/0/instances", "was": 2 },
        ] });
        let expected = [
            "  ---",
            "  applications:",
            "    -",
            "      name: a",
            "-     memory: 1G",
            "+     memory: 64M",
            "+     routes:",
            "+       -",
            "+         route: x.y",
            "-     instances: 2",
        ];
        assert_eq!(lines(&manifest, &diff), expected);
    }

    #[test]
    fn a_route_that_takes_the_place_of_another_is_shown_with_it() {
        let manifest = json!({ "applications": [{ "name": "a", "routes": [{ "route": "new.y" }] }] });
        let diff = json!({ "diff": [
            { "op": "remove", "path": "/applications/0/routes/0", "was": { "route": "old.y" } },
            { "op": "add", "path": "/applications/0/routes/0", "value": { "route": "new.y" } },
        ] });
        let expected = [
            "  ---",
            "  applications:",
            "    -",
            "      name: a",
            "      routes:",
            "-       -",
            "-         route: old.y",
            "+       -",
            "+         route: new.y",
        ];
        assert_eq!(lines(&manifest, &diff), expected);
    }
}
