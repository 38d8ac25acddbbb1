//! Parameters that users give: checked against the plan's schema before the broker is asked.

use crate::{
    domain::{Error, Result},
    store::service_plans::Offered,
};
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// How much work a check may be, in [`Cost`]'s measure: well under a second.
const MOST_WORK: u64 = 1_000_000;
/// What a pattern costs that can go back and forth in a text; how often it may do so is bounded too.
const FANCY_PATTERN: u64 = 2_000;

/// Checks parameters (absent ones count as `{}`) against a schema of the plan, if it has one.
///
/// The schema comes from a broker, which may be anybody's: its size was bounded when the catalog was read, nothing is fetched for
/// it, its patterns are given up when they take too long, and how long all of it may take together is estimated beforehand.
///
/// # Errors
/// [`Error::Invalid`], naming place and rule of each problem, never a value: it may be a password.
pub fn check(schema: Option<&str>, parameters: Option<&Map<String, Value>>, offered: &Offered) -> Result<()> {
    let Some(schema) = schema else { return Ok(()) };
    let schema: Value = serde_json::from_str(schema).map_err(|e| Error::internal("the schema of a plan", e))?;
    let given = Value::Object(parameters.cloned().unwrap_or_default());
    let problems = match work(&schema, &given) {
        Some(work) if work <= MOST_WORK => osb::schema::check(&schema, &given),
        _ => vec!["it would take too long to check them against it".to_owned()],
    };
    if problems.is_empty() {
        return Ok(());
    }
    Err(Error::invalid(format!(
        "The parameters do not match the schema of plan '{}' of service offering '{}': {}",
        offered.plan.name,
        offered.offering.name,
        problems.join(", ")
    )))
}

/// How much work it is at most to check this value against this schema; none: nobody knows.
fn work(schema: &Value, value: &Value) -> Option<u64> {
    let (places, depth) = extent(value);
    let mut cost = Cost { root: schema, known: BTreeMap::new() };
    Some(cost.of(schema, depth)?.saturating_mul(places))
}

/// How many values there are in a value, and how deep they lie.
fn extent(value: &Value) -> (u64, u32) {
    let of_all = |all: &mut dyn Iterator<Item = &Value>| {
        all.map(extent).fold((1, 1), |(places, depth), (more, deeper)| (places + more, depth.max(deeper + 1)))
    };
    match value {
        Value::Object(map) => of_all(&mut map.values()),
        Value::Array(all) => of_all(&mut all.iter()),
        _ => (1, 1),
    }
}

/// Counts how often parts of a schema can be looked at for one value: references multiply, and may run in circles.
struct Cost<'a> {
    root: &'a Value,
    /// What a reference costs at a depth of the value; none while that is being found out.
    known: BTreeMap<(String, u32), Option<u64>>,
}

impl<'a> Cost<'a> {
    /// The cost of a schema for a value that is so deep. Parts of the value are less deep, so circles through them end.
    fn of(&mut self, schema: &'a Value, depth: u32) -> Option<u64> {
        if depth == 0 {
            return Some(0);
        }
        let map = match schema {
            Value::Object(map) => map,
            Value::Array(all) => return self.sum(all.iter(), depth),
            _ => return Some(1),
        };
        let mut total: u64 = 1;
        for (keyword, part) in map {
            let more = match keyword.as_str() {
                // Looked at only where something refers to them.
                "$defs" | "definitions" => 0,
                "$dynamicRef" | "$recursiveRef" => return None,
                "$ref" => self.reference(part.as_str()?, depth)?,
                // They compare, and look no further.
                "enum" | "const" | "default" | "examples" | "required" | "title" | "description" | "$comment" => 1,
                "pattern" => pattern(part.as_str().unwrap_or_default()),
                "patternProperties" => {
                    let patterns = part.as_object()?.keys().map(|key| pattern(key)).fold(0, u64::saturating_add);
                    self.sum(part.as_object()?.values(), depth - 1)?.saturating_add(patterns)
                }
                "properties" => self.sum(part.as_object()?.values(), depth - 1)?,
                "items"
                | "prefixItems"
                | "additionalItems"
                | "unevaluatedItems"
                | "contains"
                | "additionalProperties"
                | "unevaluatedProperties" => self.of(part, depth - 1)?,
                // Names to schemas for the value itself.
                "dependentSchemas" | "dependencies" => match part {
                    Value::Object(map) => self.sum(map.values(), depth)?,
                    _ => 1,
                },
                _ => self.of(part, depth)?,
            };
            total = total.saturating_add(more);
        }
        Some(total)
    }

    fn sum(&mut self, all: impl Iterator<Item = &'a Value>, depth: u32) -> Option<u64> {
        let mut total: u64 = 0;
        for part in all {
            total = total.saturating_add(self.of(part, depth)?);
        }
        Some(total)
    }

    fn reference(&mut self, to: &str, depth: u32) -> Option<u64> {
        let key = (to.to_owned(), depth);
        match self.known.get(&key) {
            Some(known) => return *known,
            // A circle that stays at one value never ends: whoever comes back here finds nothing.
            None => drop(self.known.insert(key.clone(), None)),
        }
        let pointer = to.strip_prefix('#')?;
        let decoded = percent_encoding::percent_decode_str(pointer).decode_utf8().ok()?;
        let target = if decoded.is_empty() { Some(self.root) } else { self.root.pointer(&decoded) };
        let cost = self.of(target?, depth)?;
        self.known.insert(key, Some(cost));
        Some(cost)
    }
}

fn pattern(text: &str) -> u64 {
    let bytes = text.as_bytes();
    let back_reference = bytes.windows(2).any(|two| matches!(two, [b'\\', b'1'..=b'9' | b'k' | b'g']));
    if text.contains("(?") || back_reference { FANCY_PATTERN } else { 10 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn usual_schemas_are_little_work() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "properties": {
                "size": { "type": "integer", "minimum": 1, "maximum": 10 },
                "users": { "type": "array", "items": { "$ref": "#/definitions/user" } },
            },
            "definitions": { "user": { "type": "object", "properties": { "name": { "pattern": "^[a-z]+$" } } } },
        });
        let users: Vec<Value> = (0..100).map(|n| json!({ "name": format!("u{n}") })).collect();
        assert!(work(&schema, &json!({ "size": 3, "users": users })).unwrap() < MOST_WORK / 10);
    }

    #[test]
    fn references_that_multiply_are_seen_beforehand() {
        let mut definitions = Map::new();
        for n in 0..100 {
            let next = json!({ "$ref": format!("#/definitions/d{}", n + 1) });
            definitions.insert(format!("d{n}"), json!({ "allOf": [next, next] }));
        }
        definitions.insert("d100".into(), json!({}));
        let schema = json!({ "$ref": "#/definitions/d0", "definitions": definitions });
        assert!(work(&schema, &json!({})).unwrap() > MOST_WORK);
    }

    #[test]
    fn a_circle_through_parts_of_the_value_ends_and_one_at_the_same_value_is_refused() {
        let tree = json!({ "properties": { "left": { "$ref": "#" }, "right": { "$ref": "#" } } });
        assert!(work(&tree, &json!({ "left": { "left": {} } })).unwrap() < MOST_WORK);
        let mut deep = json!({});
        for _ in 0..60 {
            deep = json!({ "left": deep });
        }
        assert!(work(&tree, &deep).unwrap() > MOST_WORK);
        assert_eq!(work(&json!({ "allOf": [{ "$ref": "#" }] }), &json!({})), None);
        assert_eq!(work(&json!({ "$ref": "https://elsewhere.test/schema" }), &json!({})), None);
        assert_eq!(work(&json!({ "$dynamicRef": "#x" }), &json!({})), None);
    }

    #[test]
    fn many_patterns_that_go_back_and_forth_are_refused() {
        let patterns: Map<String, Value> = (0..100).map(|n| (format!("(?=x)(x+x+)+y{n}"), json!({}))).collect();
        let schema = json!({ "patternProperties": patterns });
        let value: Map<String, Value> = (0..100).map(|n| (format!("xxxxxxxxxxxxxxxxxxxx{n}"), json!(1))).collect();
        assert!(work(&schema, &Value::Object(value)).unwrap() > MOST_WORK);
    }
}
