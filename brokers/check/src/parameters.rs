//! Right and wrong parameters, made from a plan's schema.

use serde_json::{Map, Value, json};

/// Parameters that keep to the schema and hold only what it demands; none if a simple attempt does not find any.
pub(crate) fn sample(schema: &Value) -> Option<Map<String, Value>> {
    let Value::Object(sample) = value(schema)? else { return None };
    keeps(schema, &Value::Object(sample.clone())).then_some(sample)
}

/// Parameters that break the schema; none if everything seems to be allowed.
pub(crate) fn breaking(schema: &Value) -> Option<Map<String, Value>> {
    let properties = schema.get("properties").and_then(Value::as_object);
    let names = properties.into_iter().flat_map(|properties| properties.keys());
    let wrong = [json!({"broker": "check"}), json!(["broker-check"]), json!("broker-check"), json!(-0.5), json!(true)];
    let mut candidates: Vec<_> = names.flat_map(|name| wrong.iter().map(move |value| (name.clone(), value.clone()))).collect();
    candidates.push(("x-broker-check".to_owned(), json!(true)));
    let base = sample(schema).unwrap_or_default();
    let with = |(name, value)| Map::from_iter(base.clone().into_iter().chain([(name, value)]));
    candidates.into_iter().map(with).chain([Map::new()]).find(|parameters| !keeps(schema, &Value::Object(parameters.clone())))
}

/// Parameters that mean something else than these, and whether the schema says that they are right.
pub(crate) fn other(schema: Option<&Value>, current: &Map<String, Value>) -> (Map<String, Value>, bool) {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    for (name, property) in properties.into_iter().flatten() {
        // the default would mean the same as nothing
        let meant = current.get(name).or_else(|| property.get("default"));
        for candidate in candidates(property).into_iter().filter(|candidate| Some(candidate) != meant) {
            let mut changed = current.clone();
            changed.insert(name.clone(), candidate);
            if schema.is_some_and(|schema| keeps(schema, &Value::Object(changed.clone()))) {
                return (changed, true);
            }
        }
    }
    let mut changed = current.clone();
    changed.insert("x-broker-check".to_owned(), json!("other"));
    (changed, false)
}

fn candidates(property: &Value) -> Vec<Value> {
    if let Some(values) = property.get("enum").and_then(Value::as_array) {
        return values.clone();
    }
    let number = |key: &str| property.get(key).and_then(Value::as_i64);
    let mut all = vec![json!("broker-check"), json!(true), json!(false)];
    all.extend(number("minimum").into_iter().flat_map(|least| [json!(least), json!(least.saturating_add(1))]));
    all.extend(number("maximum").map(|most| json!(most)));
    all.push(json!(2));
    all
}

/// Whether parameters keep to a schema.
pub(crate) fn keeps(schema: &Value, parameters: &Value) -> bool {
    osb::schema::check(schema, parameters).is_empty()
}

fn value(schema: &Value) -> Option<Value> {
    for key in ["default", "const"] {
        if let Some(value) = schema.get(key) {
            return Some(value.clone());
        }
    }
    for key in ["enum", "examples"] {
        if let Some(value) = schema.get(key).and_then(Value::as_array).and_then(|values| values.first()) {
            return Some(value.clone());
        }
    }
    let kind = match schema.get("type") {
        Some(Value::String(kind)) => kind.as_str(),
        Some(Value::Array(kinds)) => kinds.first()?.as_str()?,
        _ => "object",
    };
    Some(match kind {
        "object" => {
            let mut object = Map::new();
            for name in schema.get("required").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str) {
                object.insert(name.to_owned(), value(schema.get("properties")?.get(name)?)?);
            }
            Value::Object(object)
        }
        "array" => json!([]),
        "boolean" => json!(false),
        "null" => Value::Null,
        "integer" | "number" => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
        _ => {
            let least = schema.get("minLength").and_then(Value::as_u64).unwrap_or_default();
            json!("broker-check".chars().cycle().take(12.max(usize::try_from(least).ok()?.min(1_000))).collect::<String>())
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema(mut body: Value) -> Value {
        body["$schema"] = json!("http://json-schema.org/draft-07/schema#");
        body
    }

    #[test]
    fn samples_hold_what_the_schema_demands_and_nothing_else() {
        let schema = schema(json!({"type": "object", "required": ["size", "name", "zone"], "properties": {
            "size": {"type": "integer", "minimum": 5}, "name": {"type": "string", "minLength": 20}, "zone": {"enum": ["a", "b"]}, "other": {"type": "string"},
        }}));
        assert_eq!(Value::Object(sample(&schema).unwrap()), json!({"size": 5, "name": "broker-checkbroker-c", "zone": "a"}));
    }

    #[test]
    fn a_schema_that_is_too_hard_gives_no_sample() {
        assert_eq!(
            sample(&schema(json!({"required": ["name"], "properties": {"name": {"type": "string", "pattern": "^[0-9]{3}$"}}}))),
            None
        );
        assert_eq!(sample(&schema(json!({"required": ["name"]}))), None);
    }

    #[test]
    fn other_parameters_differ_and_are_right_if_the_schema_allows_a_choice() {
        let schema = schema(
            json!({"properties": {"size": {"type": "integer", "minimum": 1, "maximum": 2, "default": 1}}, "additionalProperties": false}),
        );
        assert_eq!(other(Some(&schema), &Map::new()), (Map::from_iter([("size".to_owned(), json!(2))]), true));
        let current = Map::from_iter([("size".to_owned(), json!(2))]);
        assert_eq!(other(Some(&schema), &current), (Map::from_iter([("size".to_owned(), json!(1))]), true));
        assert!(!other(None, &current).1);
    }

    #[test]
    fn broken_parameters_break_the_schema() {
        for body in [
            json!({"properties": {"size": {"type": "integer"}}}),
            json!({"additionalProperties": false}),
            json!({"required": ["name"], "properties": {"name": {}}}),
            json!({"properties": {"any": {}, "free": {"type": ["object", "array", "string"]}}, "required": ["free"]}),
        ] {
            let schema = schema(body);
            let broken = Value::Object(breaking(&schema).unwrap());
            assert!(!keeps(&schema, &broken), "{schema} takes {broken}");
        }
        assert_eq!(breaking(&schema(json!({}))), None);
    }
}
