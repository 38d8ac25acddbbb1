//! Labels and annotations: what a request may say, and applying it.

use crate::{
    domain::{Error, Result, Rule, Tx},
    store::metadata::{self as store, Metadata},
};
use serde_json::Value;
use std::collections::BTreeMap;

const MAX_LABELS: usize = 50;
const MAX_ANNOTATIONS: usize = 200;

/// A wanted change: keys to new values, `None` removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetadataChange {
    pub labels: BTreeMap<String, Option<String>>,
    pub annotations: BTreeMap<String, Option<String>>,
}

impl MetadataChange {
    /// Reads the value of `metadata` in a body; what is wrong goes to `problems`.
    pub fn parse(value: &Value, problems: &mut Vec<String>) -> Self {
        let mut change = Self::default();
        let Value::Object(map) = value else {
            problems.push("Metadata must be an object".into());
            return change;
        };
        let unknown: Vec<String> =
            map.keys().filter(|k| *k != "labels" && *k != "annotations").map(|k| format!("'{k}'")).collect();
        if !unknown.is_empty() {
            problems.push(format!("Metadata has unexpected field(s): {}", unknown.join(", ")));
        }
        for (part, target) in [("labels", &mut change.labels), ("annotations", &mut change.annotations)] {
            match map.get(part) {
                None | Some(Value::Null) => {}
                Some(Value::Object(pairs)) => {
                    for (key, value) in pairs {
                        let checked = if part == "labels" { label(key, value) } else { annotation(key, value) };
                        match checked {
                            Ok(value) => drop(target.insert(key.clone(), value)),
                            Err(problem) => problems.push(format!("Metadata {problem}")),
                        }
                    }
                }
                Some(_) => problems.push(format!("Metadata '{part}' is not an object")),
            }
        }
        change
    }

    /// Applies the change to a resource and returns what it has then.
    ///
    /// # Errors
    /// When the resource would have more than 50 labels or 200 annotations, and more than before.
    pub fn apply(&self, tx: &mut Tx<'_>, kind: &str, guid: &str) -> Result<Metadata> {
        let before = store::of(tx.conn, kind, guid)?;
        let mut after = before.clone();
        merge(&mut after.labels, &self.labels);
        merge(&mut after.annotations, &self.annotations);
        over(&before.labels, &after.labels, MAX_LABELS, Rule::LabelLimit, "labels")?;
        over(&before.annotations, &after.annotations, MAX_ANNOTATIONS, Rule::AnnotationLimit, "annotations")?;
        for (key, value) in &self.labels {
            store::set_label(tx.conn, kind, guid, key, value.as_deref())?;
        }
        for (key, value) in &self.annotations {
            store::set_annotation(tx.conn, kind, guid, key, value.as_deref())?;
        }
        Ok(after)
    }
}

fn merge(into: &mut BTreeMap<String, String>, change: &BTreeMap<String, Option<String>>) {
    for (key, value) in change {
        match value {
            Some(value) => into.insert(key.clone(), value.clone()),
            None => into.remove(key),
        };
    }
}

fn over(before: &BTreeMap<String, String>, after: &BTreeMap<String, String>, most: usize, rule: Rule, what: &str) -> Result<()> {
    if after.len() > most && after.len() > before.len() {
        let added = after.len() - before.len();
        return Err(Error::rule(rule, format!("Failed to add {added} {what} because it would exceed maximum of {most}")));
    }
    Ok(())
}

fn label(key: &str, value: &Value) -> Result<Option<String>, String> {
    check_key(key).map_err(|why| format!("label key error: {why}"))?;
    match value {
        Value::Null => Ok(None),
        Value::String(text) if text.is_empty() => Ok(Some(String::new())),
        Value::String(text) => check_word(text).map(|()| Some(text.clone())).map_err(|why| format!("label value error: {why}")),
        _ => Err("label value error: must be a string".into()),
    }
}

fn annotation(key: &str, value: &Value) -> Result<Option<String>, String> {
    match value {
        Value::Null => Ok(None),
        Value::String(text) => {
            if !text.is_empty() {
                check_key(key).map_err(|why| format!("annotation key error: {why}"))?;
            }
            if text.chars().count() > 5000 {
                return Err(format!("annotation value error: '{}...' is greater than 5000 characters", head(text)));
            }
            Ok(Some(text.clone()))
        }
        _ => Err("annotation value error: must be a string".into()),
    }
}

fn check_key(key: &str) -> Result<(), String> {
    let name = match key.split('/').collect::<Vec<_>>()[..] {
        [""] => return Err("key cannot be empty string".into()),
        [name] => name,
        [prefix, name] => {
            check_prefix(prefix)?;
            name
        }
        _ => return Err("key has more than one '/'".into()),
    };
    if name.is_empty() {
        return Err("key cannot be empty string".into());
    }
    check_word(name)
}

fn check_prefix(prefix: &str) -> Result<(), String> {
    if prefix.len() > 253 {
        return Err(format!("prefix '{}...' is greater than 253 characters", head(prefix)));
    }
    let part = |p: &str| {
        let inner = p.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
        !p.is_empty() && p.len() <= 63 && inner && !p.starts_with('-') && !p.ends_with('-')
    };
    if !prefix.contains('.') || !prefix.split('.').all(part) {
        return Err(format!("prefix '{prefix}' must be in valid dns format"));
    }
    if prefix.eq_ignore_ascii_case("cloudfoundry.org") {
        return Err("prefix 'cloudfoundry.org' is reserved".into());
    }
    Ok(())
}

fn check_word(word: &str) -> Result<(), String> {
    if word.chars().count() > 63 {
        return Err(format!("'{}...' is greater than 63 characters", head(word)));
    }
    if !word.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'.' | b'-')) {
        return Err(format!("'{word}' contains invalid characters"));
    }
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    if !edge(word.as_bytes().first()) || !edge(word.as_bytes().last()) {
        return Err(format!("'{word}' starts or ends with invalid characters"));
    }
    Ok(())
}

fn head(text: &str) -> String {
    text.chars().take(8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn problems(metadata: Value) -> Vec<String> {
        let mut problems = vec![];
        MetadataChange::parse(&metadata, &mut problems);
        problems
    }

    #[test]
    fn good_metadata_is_taken_as_it_is() {
        let wanted =
            json!({"labels": {"env": "prod", "example.com/tier": "", "gone": null}, "annotations": {"contact": "a b <c@d>"}});
        assert_eq!(problems(wanted), Vec::<String>::new());
    }

    #[test]
    fn each_bad_key_and_value_is_named() {
        assert_eq!(problems(json!({"labels": {"a/b/c": "x"}})), ["Metadata label key error: key has more than one '/'"]);
        assert_eq!(
            problems(json!({"labels": {"cloudfoundry.org/a": "x"}})),
            ["Metadata label key error: prefix 'cloudfoundry.org' is reserved"]
        );
        assert_eq!(problems(json!({"labels": {"a": "b c"}})), ["Metadata label value error: 'b c' contains invalid characters"]);
        assert_eq!(
            problems(json!({"labels": {"-a": "b"}})),
            ["Metadata label key error: '-a' starts or ends with invalid characters"]
        );
        assert_eq!(problems(json!({"other": 1})), ["Metadata has unexpected field(s): 'other'"]);
        assert_eq!(problems(json!([])), ["Metadata must be an object"]);
    }
}
