//! Parameters and the JSON schemas of a plan.
//!
//! Nothing is fetched: a schema that points outside of itself is refused. Messages never hold a value of the parameters,
//! which may be a password.

use jsonschema::{Draft, PatternOptions, ValidationError, Validator, error::ValidationErrorKind};
use serde_json::Value;

/// Longest schema, as JSON.
pub const MAX_SCHEMA_CHARS: usize = 65_536;
/// How many problems of one document are named.
const MAX_PROBLEMS: usize = 20;
/// How hard a pattern of a broker may make us work on a text of a user.
const BACKTRACK_LIMIT: usize = 100_000;
/// How large a pattern may become.
const PATTERN_BYTES: usize = 1 << 20;

/// What is wrong with a schema; nothing if it can be used.
pub fn problems(schema: &Value) -> Vec<String> {
    if schema.to_string().chars().count() > MAX_SCHEMA_CHARS {
        return vec!["Must not be larger than 64KB".into()];
    }
    match schema.get("$schema") {
        None | Some(Value::Null) => return vec!["Schema must have $schema key but was not present".into()],
        Some(Value::String(_)) => {}
        Some(_) => return vec!["Schema $schema must be a string".into()],
    }
    let (draft, errors) = match Draft::default().detect(schema) {
        draft @ Draft::Draft4 => (draft, first(jsonschema::draft4::meta::validator().iter_errors(schema))),
        draft @ Draft::Draft6 => (draft, first(jsonschema::draft6::meta::validator().iter_errors(schema))),
        draft @ Draft::Draft7 => (draft, first(jsonschema::draft7::meta::validator().iter_errors(schema))),
        draft @ Draft::Draft201909 => (draft, first(jsonschema::draft201909::meta::validator().iter_errors(schema))),
        draft @ Draft::Draft202012 => (draft, first(jsonschema::draft202012::meta::validator().iter_errors(schema))),
        _ => return vec!["Custom meta schemas are not supported.".into()],
    };
    if !errors.is_empty() {
        let conform = |why| format!("Must conform to JSON Schema {}: {why}", name(draft));
        return errors.into_iter().map(conform).collect();
    }
    match compile(schema) {
        Ok(_) => vec![],
        Err(e) if matches!(e.kind(), ValidationErrorKind::Referencing(_)) => {
            vec![format!("No external references are allowed: {e}")]
        }
        Err(e) => vec![format!("It cannot be used: {e}")],
    }
}

/// What is wrong with parameters; nothing if they keep to the schema. A schema that cannot be used is itself a problem.
pub fn check(schema: &Value, parameters: &Value) -> Vec<String> {
    match compile(schema) {
        Ok(validator) => first(validator.iter_errors(parameters)),
        Err(e) => vec![format!("the schema of the plan cannot be used: {e}")],
    }
}

fn compile(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::fancy_regex().backtrack_limit(BACKTRACK_LIMIT).size_limit(PATTERN_BYTES);
    jsonschema::options().offline().with_pattern_options(patterns).build(schema)
}

fn first<'a>(errors: impl Iterator<Item = ValidationError<'a>>) -> Vec<String> {
    errors.take(MAX_PROBLEMS).map(|error| describe(&error)).collect()
}

/// The problem and its place, without the value.
fn describe(error: &ValidationError<'_>) -> String {
    let place = error.instance_path().as_str();
    match place.is_empty() {
        true => error.masked().to_string(),
        false => format!("{place}: {}", error.masked()),
    }
}

fn name(draft: Draft) -> &'static str {
    match draft {
        Draft::Draft4 => "Draft 04",
        Draft::Draft6 => "Draft 06",
        Draft::Draft7 => "Draft 07",
        Draft::Draft201909 => "2019-09",
        _ => "2020-12",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn schema() -> Value {
        json!({
            "$schema": "http://json-schema.org/draft-06/schema#", "type": "object", "additionalProperties": false,
            "properties": { "size": { "type": "integer", "minimum": 1 }, "password": { "type": "string", "minLength": 12 } }
        })
    }

    #[test]
    fn parameters_are_held_against_the_schema_and_never_shown() {
        assert_eq!(check(&schema(), &json!({ "size": 3 })), Vec::<String>::new());
        let found = check(&schema(), &json!({ "size": 0, "password": "hunter2" })).join("; ");
        assert!(found.contains("/size") && found.contains("/password"), "{found}");
        assert!(!found.contains("hunter2"), "{found}");
        let found = check(&schema(), &json!({ "hunter2": 1 })).join("; ");
        assert!(!found.is_empty(), "{found}");
    }

    #[test]
    fn a_pattern_cannot_keep_us_busy() {
        let schema = json!({
            "$schema": "http://json-schema.org/draft-07/schema#", "properties": { "a": { "type": "string", "pattern": "^(a+)+(?=b)$" } }
        });
        assert_eq!(problems(&schema), Vec::<String>::new());
        let started = std::time::Instant::now();
        let _ = check(&schema, &json!({ "a": "a".repeat(5_000) }));
        assert!(started.elapsed().as_secs() < 5, "{:?}", started.elapsed());
    }

    proptest::proptest! {
        #[test]
        fn no_text_as_schema_panics(text in "\\PC{0,40}", pattern in "\\PC{0,20}") {
            let schema = json!({ "$schema": text, "$ref": pattern });
            let _ = (problems(&schema), check(&schema, &json!({})));
            let schema = json!({ "$schema": "http://json-schema.org/draft-04/schema#", "pattern": pattern });
            let _ = (problems(&schema), check(&schema, &json!(text)));
        }
    }
}
