//! What brokers hand over with a binding, checked.
//!
//! Source: cloud_controller_ng, `lib/services/service_brokers/v2/response_parser.rb`; the Open Service Broker API specification,
//! "Binding".

use crate::brokers::Object;
use serde_json::Value;

/// Source: cloud_controller_ng, `app/models/services/service_binding.rb`.
const MAX_DRAIN: usize = 10_000;
const MAX_MOUNTS: usize = 65_535;
/// What a broker may hand over in one binding.
const MAX_CREDENTIALS: usize = 1 << 20;

/// What a broker hands over with a binding.
#[derive(Debug, Default, PartialEq)]
pub struct Handed {
    pub credentials: Option<Value>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    pub volume_mounts: Option<Value>,
    pub endpoints: Option<Value>,
}

impl Handed {
    /// Reads an answer to a bind.
    ///
    /// # Errors
    /// What breaks the contract, in words for the user.
    pub fn read(body: &Object, kind: &str, required: &[String]) -> Result<Self, String> {
        let declares = |what: &str| required.iter().any(|declared| declared == what);
        let given = |name: &str| body.get(name).filter(|value| !value.is_null());
        let mut handed = Self::default();
        match given("credentials") {
            Some(credentials @ Value::Object(_)) if credentials.to_string().len() <= MAX_CREDENTIALS => {
                handed.credentials = Some(credentials.clone());
            }
            Some(Value::Object(_)) => return Err("The service broker returned credentials that are too large.".into()),
            Some(_) => {
                return Err("The service broker returned an invalid response: 'credentials' must be a JSON object.".into());
            }
            None => {}
        }
        handed.syslog_drain_url = text(given("syslog_drain_url"), "syslog_drain_url", MAX_DRAIN)?;
        if handed.syslog_drain_url.is_some() && !declares("syslog_drain") {
            return Err("The service is attempting to stream logs from your application, but is not registered as a logging service. Please contact the service provider.".into());
        }
        if let Some(mounts) = given("volume_mounts") {
            check_mounts(mounts)?;
            if mounts.as_array().is_some_and(|mounts| !mounts.is_empty()) {
                if !declares("volume_mount") {
                    return Err("The service is attempting to supply volume mounts from your application, but is not registered as a volume mount service. Please contact the service provider.".into());
                }
                handed.volume_mounts = Some(mounts.clone());
            }
        }
        if kind == "route" {
            handed.route_service_url = text(given("route_service_url"), "route_service_url", MAX_DRAIN)?;
            if let Some(url) = &handed.route_service_url
                && !is_route_service(url)
            {
                return Err(format!(
                    "The service broker returned an invalid response: the route service URL '{url}' must be an https URL with a host."
                ));
            }
        }
        handed.endpoints = given("endpoints").filter(|endpoints| endpoints.is_array()).cloned();
        Ok(handed)
    }
}

/// True for an `https` URL with a host.
fn is_route_service(url: &str) -> bool {
    url::Url::parse(url).is_ok_and(|url| url.scheme() == "https" && url.host_str().is_some_and(|host| !host.starts_with('.')))
}

fn text(value: Option<&Value>, name: &str, most: usize) -> Result<Option<String>, String> {
    match value {
        None => Ok(None),
        Some(Value::String(text)) if text.is_empty() => Ok(None),
        Some(Value::String(text)) if text.len() <= most => Ok(Some(text.clone())),
        Some(_) => Err(format!(
            "The service broker returned an invalid response: '{name}' must be a string of at most {most} characters."
        )),
    }
}

fn check_mounts(mounts: &Value) -> Result<(), String> {
    let lead = "The service broker returned an invalid response:";
    let Some(all) = mounts.as_array() else { return Err(format!("{lead} 'volume_mounts' must be an array.")) };
    if mounts.to_string().len() > MAX_MOUNTS {
        return Err(format!("{lead} 'volume_mounts' is too large."));
    }
    for mount in all {
        for name in ["driver", "container_dir", "mode", "device_type"] {
            if mount[name].as_str().is_none_or(str::is_empty) {
                return Err(format!("{lead} a volume mount must have '{name}'."));
            }
        }
        if !matches!(mount["mode"].as_str(), Some("r" | "rw")) {
            return Err(format!("{lead} the 'mode' of a volume mount must be 'r' or 'rw'."));
        }
        if mount["device_type"] != "shared" {
            return Err(format!("{lead} the 'device_type' of a volume mount must be 'shared'."));
        }
        if mount["device"]["volume_id"].as_str().is_none_or(str::is_empty) {
            return Err(format!("{lead} a volume mount must have a 'device' with 'volume_id'."));
        }
        if !(mount["device"]["mount_config"].is_null() || mount["device"]["mount_config"].is_object()) {
            return Err(format!("{lead} 'mount_config' of a volume mount must be an object."));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(body: Value, kind: &str, required: &[&str]) -> Result<Handed, String> {
        let required: Vec<String> = required.iter().map(|text| (*text).to_owned()).collect();
        let Value::Object(body) = body else { panic!() };
        Handed::read(&body, kind, &required)
    }

    #[test]
    fn what_a_broker_hands_over_is_taken_as_it_is() {
        let mount = json!([{ "driver": "nfs", "container_dir": "/d", "mode": "rw", "device_type": "shared", "device": { "volume_id": "v" } }]);
        let body = json!({ "credentials": { "uri": "x" }, "syslog_drain_url": "syslog://l", "volume_mounts": mount,
            "endpoints": [{ "host": "10.0.0.1", "ports": ["1"] }], "route_service_url": "nonsense", "unknown": 1 });
        let handed = read(body, "app", &["syslog_drain", "volume_mount"]).unwrap();
        assert_eq!(handed.credentials, Some(json!({ "uri": "x" })));
        assert_eq!(handed.syslog_drain_url.as_deref(), Some("syslog://l"));
        assert_eq!((handed.volume_mounts, handed.route_service_url), (Some(mount), None));
        assert!(handed.endpoints.is_some());
        assert_eq!(
            read(json!({ "credentials": null, "syslog_drain_url": null, "volume_mounts": [] }), "app", &[]),
            Ok(Handed::default())
        );
        let routed = read(json!({ "route_service_url": "https://r.x/p" }), "route", &[]).unwrap();
        assert_eq!(routed.route_service_url.as_deref(), Some("https://r.x/p"));
    }

    #[test]
    fn what_the_catalog_does_not_declare_or_the_contract_forbids_is_refused() {
        let cases = [
            (json!({ "credentials": "x" }), "app", "'credentials' must be a JSON object"),
            (json!({ "syslog_drain_url": "syslog://l" }), "app", "not registered as a logging service"),
            (json!({ "syslog_drain_url": 5 }), "app", "'syslog_drain_url' must be a string"),
            (json!({ "volume_mounts": {} }), "app", "'volume_mounts' must be an array"),
            (json!({ "volume_mounts": [{}] }), "app", "must have 'driver'"),
            (
                json!({ "volume_mounts": [{ "driver": "n", "container_dir": "/d", "mode": "x", "device_type": "shared", "device": {} }] }),
                "app",
                "must be 'r' or 'rw'",
            ),
            (
                json!({ "volume_mounts": [{ "driver": "n", "container_dir": "/d", "mode": "r", "device_type": "own", "device": {} }] }),
                "app",
                "must be 'shared'",
            ),
            (
                json!({ "volume_mounts": [{ "driver": "n", "container_dir": "/d", "mode": "r", "device_type": "shared", "device": {} }] }),
                "app",
                "'device' with 'volume_id'",
            ),
            (
                json!({ "volume_mounts": [{ "driver": "n", "container_dir": "/d", "mode": "r", "device_type": "shared", "device": { "volume_id": "v" } }] }),
                "app",
                "not registered as a volume mount service",
            ),
            (json!({ "route_service_url": "http://r.x" }), "route", "must be an https URL"),
            (json!({ "route_service_url": "https://.com" }), "route", "must be an https URL"),
        ];
        for (body, kind, expected) in cases {
            let told = read(body.clone(), kind, &[]).unwrap_err();
            assert!(told.contains(expected), "{body}: {told}");
        }
    }
}
