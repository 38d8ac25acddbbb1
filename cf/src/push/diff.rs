//! What a manifest will change, for the reader: the manifest with `+` and `-` before what is new and what goes.

use crate::{
    api::{array, text},
    ui,
};
use serde_json::Value;
use std::collections::BTreeMap;

/// The lines to show.
pub(super) fn lines(manifest: &Value, diff: &Value) -> Vec<String> {
    let operations: BTreeMap<&str, &Value> =
        array(diff, "/diff").map(|operation| (text(operation, "/path"), operation)).collect();
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

fn walk(value: &Value, path: &str, depth: usize, operations: &BTreeMap<&str, &Value>, out: &mut Vec<String>) {
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
        match operations.get(here.as_str()).map(|operation| (text(operation, "/op"), *operation)) {
            Some(("add", _)) => write('+', &label, member, depth, out),
            Some(("replace", operation)) => {
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
    for (gone, operation) in operations.iter().filter(|(_, operation)| text(operation, "/op") == "remove") {
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
}
