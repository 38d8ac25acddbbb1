//! An app as a manifest.

use crate::domain::sizes;
use serde::Serialize;
use serde_json::Value;
use std::collections::BTreeMap;

/// The document.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Document {
    /// The apps.
    pub applications: Vec<App>,
}

/// One app, in the order in which people read manifests.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct App {
    /// Its name.
    pub name: String,
    /// Its variables.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub env: BTreeMap<String, String>,
    /// `buildpack`, ...
    pub lifecycle: String,
    /// What the user chose.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub buildpacks: Vec<String>,
    /// Its stack.
    pub stack: String,
    /// Its features.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub features: BTreeMap<String, bool>,
    /// What is bound to it, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub services: Vec<Service>,
    /// Its routes, sorted.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub routes: Vec<Route>,
    /// Labels and annotations.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
    /// Its processes, sorted by type.
    pub processes: Vec<Process>,
}

/// One bound service instance: its name, or with the name of the binding.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(untagged)]
pub enum Service {
    /// Without a name of the binding's own.
    Plain(String),
    /// With one.
    Named {
        /// The instance's name.
        name: String,
        /// The binding's name.
        binding_name: String,
    },
}

impl Service {
    /// The instance's name.
    pub fn name(&self) -> &str {
        match self {
            Self::Plain(name) | Self::Named { name, .. } => name,
        }
    }
}

/// One route.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Route {
    /// `host.domain/path`
    pub route: String,
    /// `http1` or `http2`
    #[serde(skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// Its options.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub options: Option<Value>,
}

/// Labels and annotations.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Metadata {
    /// Labels.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl Metadata {
    fn is_empty(&self) -> bool {
        self.labels.is_empty() && self.annotations.is_empty()
    }
}

/// One process.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Process {
    /// `web`, ...
    pub r#type: String,
    /// How many.
    pub instances: u32,
    /// `256M`
    pub memory: String,
    /// `1024M`
    #[serde(rename = "disk_quota")]
    pub disk_quota: String,
    /// `-1`, `16K`
    pub log_rate_limit_per_second: String,
    /// The user's own command.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// `port`, ...
    pub health_check_type: String,
    /// Path of an `http` check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_http_endpoint: Option<String>,
    /// Time for a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_invocation_timeout: Option<u32>,
    /// Time between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub health_check_interval: Option<u32>,
    /// `process`, ...
    pub readiness_health_check_type: String,
    /// Path of an `http` check.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_health_check_http_endpoint: Option<String>,
    /// Time for a probe.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_health_check_invocation_timeout: Option<u32>,
    /// Time between probes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub readiness_health_check_interval: Option<u32>,
    /// Time for the start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub timeout: Option<u32>,
}

impl Process {
    /// Sets the scale from numbers.
    pub fn scaled(mut self, instances: u32, memory_mb: u32, disk_mb: u32, log_rate: i64) -> Self {
        self.instances = instances;
        self.memory = sizes::megabytes(memory_mb);
        self.disk_quota = sizes::megabytes(disk_mb);
        self.log_rate_limit_per_second = sizes::log_rate(log_rate);
        self
    }
}

/// The document as YAML.
///
/// # Errors
/// When the serializer refuses, which no such document makes it do.
pub fn yaml(document: &Document) -> Result<String, serde_saphyr::ser::Error> {
    serde_saphyr::to_string(document).map(|text| format!("---\n{text}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::manifest::{check::check, parse::parse};

    fn document() -> Document {
        let web = Process {
            r#type: "web".into(),
            health_check_type: "http".into(),
            health_check_http_endpoint: Some("/up".into()),
            ..Process::default()
        };
        let web = Process {
            readiness_health_check_type: "process".into(),
            timeout: Some(90),
            command: Some("./run: # \"x\"\nnext".into()),
            ..web
        };
        Document {
            applications: vec![App {
                name: "dora".into(),
                env: BTreeMap::from([("A".into(), "true".into()), ("B".into(), "007".into()), ("C".into(), "x: y # z".into())]),
                lifecycle: "buildpack".into(),
                buildpacks: vec!["binary_buildpack".into()],
                stack: "cflinuxfs4".into(),
                routes: vec![Route { route: "dora.app.localhost".into(), protocol: Some("http1".into()), options: None }],
                processes: vec![web.scaled(2, 256, 1024, -1)],
                ..App::default()
            }],
        }
    }

    #[test]
    fn a_generated_manifest_reads_back_as_the_same_app() {
        let text = yaml(&document()).unwrap();
        let apps = check(&parse(text.as_bytes()).unwrap()).unwrap_or_else(|e| panic!("{e:?}\n{text}"));
        let app = &apps[0];
        assert_eq!(app.env.as_ref().unwrap()["A"].as_deref(), Some("true"), "{text}");
        assert_eq!(app.env.as_ref().unwrap()["B"].as_deref(), Some("007"), "{text}");
        assert_eq!(app.env.as_ref().unwrap()["C"].as_deref(), Some("x: y # z"), "{text}");
        assert_eq!(app.processes[0].command, Some(Some("./run: # \"x\"\nnext".into())));
        assert_eq!(app.processes[0].scale.memory_mb, Some(256));
        assert_eq!(app.processes[0].scale.log_rate, Some(-1));
        assert!(text.starts_with("---\napplications:"), "{text}");
    }
}
