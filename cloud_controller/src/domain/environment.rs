//! Environment of apps: what users may set, and what a container gets.
//!
//! Source: specs of Cloud Foundry's container environment; merge orders of `lib/cloud_controller/diego/environment.rb` and
//! `lib/cloud_controller/backends/staging_environment_builder.rb` in cloudfoundry/cloud_controller_ng.

use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Variables by name.
pub type Vars = BTreeMap<String, String>;

/// A change of variables: `None` removes.
pub type VarsChange = BTreeMap<String, Option<String>>;

/// Open files of an app's container.
pub const FDS: u32 = 16_384;

/// Checks a `var` object of the API and reads it.
///
/// # Errors
/// Every rule that is broken, in the API's words.
pub fn read_change(vars: &Value) -> Result<VarsChange, Vec<String>> {
    let Some(vars) = vars.as_object() else { return Err(vec!["must be an object".into()]) };
    let mut problems = vec![];
    let mut change = VarsChange::new();
    for (name, value) in vars {
        if let Some(problem) = name_problem(name) {
            problems.push(problem);
        }
        match value {
            Value::Null => drop(change.insert(name.clone(), None)),
            Value::String(text) if text.contains('\0') => {
                problems.push(format!("Value of environment variable for key '{name}' must not contain NUL"));
            }
            Value::String(text) => drop(change.insert(name.clone(), Some(text.clone()))),
            other => {
                problems.push(format!("Non-string value in environment variable for key '{name}', value '{}'", shown(other)))
            }
        }
    }
    if problems.is_empty() { Ok(change) } else { Err(problems) }
}

/// Checks variables of a manifest, whose values may be of any scalar kind and become text.
///
/// # Errors
/// Every rule that is broken, in the API's words.
pub fn read_manifest(vars: &Value) -> Result<VarsChange, Vec<String>> {
    let Some(vars) = vars.as_object() else { return Err(vec!["Env must be an object of keys and values".into()]) };
    let mut problems: Vec<_> =
        vars.keys().filter_map(|name| name_problem(name)).map(|problem| format!("Env {problem}")).collect();
    let mut change = VarsChange::new();
    for (name, value) in vars {
        let text = match value {
            Value::Null => None,
            other => Some(shown(other)),
        };
        if text.as_ref().is_some_and(|text| text.contains('\0')) {
            problems.push(format!("Env value for key '{name}' must not contain NUL"));
        }
        change.insert(name.clone(), text);
    }
    if problems.is_empty() { Ok(change) } else { Err(problems) }
}

/// Applies a change.
pub fn apply(vars: &mut Vars, change: VarsChange) {
    for (name, value) in change {
        match value {
            Some(value) => vars.insert(name, value),
            None => vars.remove(&name),
        };
    }
}

fn name_problem(name: &str) -> Option<String> {
    let upper = name.to_ascii_uppercase();
    if name.is_empty() {
        Some("key must be a minimum length of 1".into())
    } else if upper.starts_with("VCAP_") {
        Some("cannot start with VCAP_".into())
    } else if upper.starts_with("VMC") {
        Some("cannot start with VMC_".into())
    } else if upper == "PORT" {
        Some("cannot set PORT".into())
    } else if name.contains(['=', '\0']) {
        Some(format!("key '{}' must not contain '=' or NUL", name.escape_debug()))
    } else {
        None
    }
}

/// Text of a value as manifests and messages show it: text as it is, everything else as JSON.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// What the environment says about an app.
#[derive(Clone, Debug, PartialEq)]
pub struct About {
    /// `https://api.<system domain>`
    pub cf_api: String,
    /// Guid and name of the app.
    pub app: (String, String),
    /// Guid and name of its space.
    pub space: (String, String),
    /// Guid and name of its organization.
    pub organization: (String, String),
    /// Its routes, without scheme.
    pub uris: Vec<String>,
}

/// What only a running process knows.
#[derive(Clone, Debug, PartialEq)]
pub struct AboutProcess {
    /// Its guid.
    pub guid: String,
    /// `web`, ...
    pub kind: String,
    /// The start.
    pub version: String,
    /// Memory of an instance.
    pub memory_mb: u32,
    /// Disk of an instance.
    pub disk_mb: u32,
}

/// `VCAP_APPLICATION` as `GET /v3/apps/:guid/env` shows it.
pub fn vcap_application(about: &About) -> Value {
    json!({
        "cf_api": about.cf_api,
        "limits": {"fds": FDS},
        "application_name": about.app.1,
        "application_uris": about.uris,
        "name": about.app.1,
        "space_name": about.space.1,
        "space_id": about.space.0,
        "organization_id": about.organization.0,
        "organization_name": about.organization.1,
        "uris": about.uris,
        "users": null,
        "application_id": about.app.0,
    })
}

/// The environment of a process, without what only its host knows (`PORT`, `CF_INSTANCE_*` and so on).
///
/// Later wins: running group, the app's variables, the platform's own, those about services.
pub fn running(group: &Vars, app: &Vars, about: &About, process: &AboutProcess, services: &Vars) -> Vars {
    let mut application = vcap_application(about);
    application["limits"] = json!({"fds": FDS, "mem": process.memory_mb, "disk": process.disk_mb});
    application["version"] = process.version.clone().into();
    application["application_version"] = process.version.clone().into();
    application["process_id"] = process.guid.clone().into();
    application["process_type"] = process.kind.clone().into();
    if let Some(application) = application.as_object_mut() {
        application.remove("users");
    }
    let mut vars = group.clone();
    vars.extend(app.clone());
    vars.insert("VCAP_APPLICATION".into(), application.to_string());
    vars.insert("MEMORY_LIMIT".into(), format!("{}m", process.memory_mb));
    vars.extend(services.clone());
    vars.entry("LANG".into()).or_insert_with(|| "en_US.UTF-8".into());
    vars
}

/// What a staging may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StagingLimits {
    /// Memory of the container.
    pub memory_mb: u32,
    /// Disk of the container.
    pub disk_mb: u32,
}

/// The environment of a staging. Later wins: staging group, the app's variables, the build's own, the platform's own, those
/// about services.
pub fn staging(
    group: &Vars,
    app: &Vars,
    build: &Vars,
    about: &About,
    stack: &str,
    limits: StagingLimits,
    services: &Vars,
) -> Vars {
    let StagingLimits { memory_mb, disk_mb } = limits;
    let mut application = vcap_application(about);
    application["limits"] = json!({"fds": FDS, "mem": memory_mb, "disk": disk_mb});
    let mut vars = group.clone();
    vars.extend(app.clone());
    vars.extend(build.clone());
    vars.insert("CF_STACK".into(), stack.into());
    vars.insert("VCAP_APPLICATION".into(), application.to_string());
    vars.insert("MEMORY_LIMIT".into(), format!("{memory_mb}m"));
    vars.extend(services.clone());
    vars.entry("LANG".into()).or_insert_with(|| "en_US.UTF-8".into());
    vars
}

#[cfg(test)]
mod tests {
    use super::*;

    fn about() -> About {
        About {
            cf_api: "https://api.cf.localhost".into(),
            app: ("a-guid".into(), "dora".into()),
            space: ("s-guid".into(), "dev".into()),
            organization: ("o-guid".into(), "acme".into()),
            uris: vec!["dora.app.localhost".into()],
        }
    }
    fn vars(pairs: &[(&str, &str)]) -> Vars {
        pairs.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect()
    }
    fn process() -> AboutProcess {
        AboutProcess { guid: "p-guid".into(), kind: "web".into(), version: "v-guid".into(), memory_mb: 256, disk_mb: 512 }
    }

    #[test]
    fn reserved_names_are_refused_in_any_case() {
        for (name, text) in [
            ("", "key must be a minimum length of 1"),
            ("VCAP_SERVICES", "cannot start with VCAP_"),
            ("vcap_x", "cannot start with VCAP_"),
            ("VMC_FOO", "cannot start with VMC_"),
            ("port", "cannot set PORT"),
        ] {
            assert_eq!(read_change(&json!({ name: "x" })), Err(vec![text.to_owned()]), "{name}");
        }
        assert!(read_change(&json!({"LD_PRELOAD": "/x", "PORTS": "1"})).is_ok(), "B21: other names are data");
    }

    #[test]
    fn a_value_that_is_no_text_is_refused_with_key_and_value() {
        let problems = read_change(&json!({"A": 1})).unwrap_err();
        assert_eq!(problems, ["Non-string value in environment variable for key 'A', value '1'"]);
    }

    #[test]
    fn null_removes_and_absence_keeps() {
        let mut kept = vars(&[("A", "1"), ("B", "2")]);
        apply(&mut kept, read_change(&json!({"A": null, "C": ""})).unwrap());
        assert_eq!(kept, vars(&[("B", "2"), ("C", "")]));
    }

    #[test]
    fn manifest_values_become_text() {
        let change = read_manifest(&json!({"N": 1, "B": true, "L": ["x"], "T": "t"})).unwrap();
        let texts: Vec<_> = change.into_values().flatten().collect();
        assert_eq!(texts, ["true", "[\"x\"]", "1", "t"]);
    }

    #[test]
    fn the_platform_wins_over_the_app_and_the_app_over_the_group() {
        let env = running(
            &vars(&[("A", "group"), ("G", "group")]),
            &vars(&[("A", "app"), ("MEMORY_LIMIT", "9g"), ("DATABASE_URL", "mine")]),
            &about(),
            &process(),
            &vars(&[("VCAP_SERVICES", "{}"), ("DATABASE_URL", "bound")]),
        );
        assert_eq!((env["A"].as_str(), env["G"].as_str(), env["MEMORY_LIMIT"].as_str()), ("app", "group", "256m"));
        assert_eq!(env["LANG"], "en_US.UTF-8");
        assert_eq!((env["VCAP_SERVICES"].as_str(), env["DATABASE_URL"].as_str()), ("{}", "bound"));
        assert!(!env.contains_key("PORT"), "only the host knows it");
    }

    #[test]
    fn vcap_application_of_a_running_process_has_every_field_of_the_contract() {
        let env = running(&Vars::new(), &Vars::new(), &about(), &process(), &Vars::new());
        let application: Value = serde_json::from_str(&env["VCAP_APPLICATION"]).unwrap();
        let expected = json!({
            "cf_api": "https://api.cf.localhost", "limits": {"fds": 16384, "mem": 256, "disk": 512},
            "application_name": "dora", "name": "dora", "application_uris": ["dora.app.localhost"], "uris": ["dora.app.localhost"],
            "space_name": "dev", "space_id": "s-guid", "organization_id": "o-guid", "organization_name": "acme",
            "application_id": "a-guid", "version": "v-guid", "application_version": "v-guid",
            "process_id": "p-guid", "process_type": "web",
        });
        assert_eq!(application, expected);
    }

    #[test]
    fn staging_sees_the_stack_and_the_variables_of_the_build() {
        let env = staging(
            &vars(&[("A", "group")]),
            &vars(&[("A", "app"), ("CF_STACK", "mine")]),
            &vars(&[("A", "build")]),
            &about(),
            "cflinuxfs4",
            StagingLimits { memory_mb: 1024, disk_mb: 4096 },
            &vars(&[("VCAP_SERVICES", "{}")]),
        );
        assert_eq!((env["A"].as_str(), env["CF_STACK"].as_str(), env["MEMORY_LIMIT"].as_str()), ("build", "cflinuxfs4", "1024m"));
        let application: Value = serde_json::from_str(&env["VCAP_APPLICATION"]).unwrap();
        assert_eq!(application["limits"]["mem"], 1024);
        assert!(application["users"].is_null() && application.get("process_id").is_none());
    }
}
