//! What an answer looks like: fields and their types, so that a wrong one can be named without showing its value.

use crate::{
    AcceptedResponse, Backup, BackupList, Binding, Endpoint, FetchedBinding, FetchedInstance, LastOperation, MAX_OPERATION_CHARS,
    ProvisionResponse, VolumeMount,
};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

/// A field that has this form if it is there and not `null`.
pub(crate) struct Field(&'static str, fn(&Value) -> bool, &'static str);

/// An answer that is read from JSON.
pub(crate) trait Shaped: DeserializeOwned {
    /// Its fields that are looked at.
    const FIELDS: &'static [Field];

    /// Reads it.
    ///
    /// # Errors
    /// What was expected; never what was there.
    fn read(object: Map<String, Value>) -> Result<Self, String> {
        for Field(name, fits, expected) in Self::FIELDS {
            if object.get(*name).is_some_and(|value| !value.is_null() && !fits(value)) {
                return Err(format!("expected `{name}` to be {expected}"));
            }
        }
        // all that is left are fields that are missing, and types deeper inside
        serde_json::from_value(Value::Object(object)).map_err(|_| "expected fields are missing or have another form".into())
    }
}

const DASHBOARD: Field = Field("dashboard_url", Value::is_string, "a string");
const OPERATION: Field = Field("operation", operation, "a string of at most 10000 characters");
const METADATA: Field = Field("metadata", Value::is_object, "an object");
const PARAMETERS: Field = Field("parameters", Value::is_object, "an object");

fn operation(value: &Value) -> bool {
    value.as_str().is_some_and(|text| text.chars().count() <= MAX_OPERATION_CHARS)
}
fn is<T: DeserializeOwned>(value: &Value) -> bool {
    serde_json::from_value::<T>(value.clone()).is_ok()
}
fn state(value: &Value) -> bool {
    matches!(value.as_str(), Some("in progress" | "succeeded" | "failed"))
}

impl Shaped for ProvisionResponse {
    const FIELDS: &'static [Field] = &[DASHBOARD, OPERATION, METADATA];
}
impl Shaped for AcceptedResponse {
    // a description is no part of the specification: one of another type is left out rather than refused
    const FIELDS: &'static [Field] = &[OPERATION];
}
impl Shaped for FetchedInstance {
    const FIELDS: &'static [Field] = &[
        Field("service_id", Value::is_string, "a string"),
        Field("plan_id", Value::is_string, "a string"),
        DASHBOARD,
        PARAMETERS,
        METADATA,
    ];
}
const BINDING: [Field; 7] = [
    OPERATION,
    Field("credentials", Value::is_object, "an object"),
    Field("syslog_drain_url", Value::is_string, "a string"),
    Field("route_service_url", Value::is_string, "a string"),
    Field(
        "volume_mounts",
        is::<Vec<VolumeMount>>,
        "a list of objects with driver, container_dir, mode, device_type and device with volume_id",
    ),
    Field("endpoints", is::<Vec<Endpoint>>, "a list of objects with host and ports"),
    METADATA,
];
impl Shaped for Binding {
    const FIELDS: &'static [Field] = &BINDING;
}
impl Shaped for FetchedBinding {
    const FIELDS: &'static [Field] = {
        let [a, b, c, d, e, f, g] = BINDING;
        &[a, b, c, d, e, f, g, PARAMETERS]
    };
}
impl Shaped for LastOperation {
    const FIELDS: &'static [Field] = &[
        Field("state", state, "one of `in progress`, `succeeded`, `failed`"),
        Field("description", Value::is_string, "a string"),
        Field("instance_usable", Value::is_boolean, "a boolean"),
        Field("update_repeatable", Value::is_boolean, "a boolean"),
    ];
}
impl Shaped for Backup {
    const FIELDS: &'static [Field] = &[OPERATION];
}
impl Shaped for BackupList {
    const FIELDS: &'static [Field] = &[Field("backups", Value::is_array, "a list")];
}
impl Shaped for Value {
    const FIELDS: &'static [Field] = &[];
}
