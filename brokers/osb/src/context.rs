//! The platform's context of a request.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Where a request belongs on the platform; fields that another platform sends are in `other`.
///
/// Source: profile.md, "Context Object".
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Context {
    /// `cloudfoundry`, `kubernetes`; empty if the platform did not say.
    #[serde(default)]
    pub platform: String,
    /// The organization of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_guid: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_name: Option<String>,
    /// Its annotations that have a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub organization_annotations: Option<Map<String, Value>>,
    /// The space of the instance.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_guid: Option<String>,
    /// Its name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_name: Option<String>,
    /// Its annotations that have a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_annotations: Option<Map<String, Value>>,
    /// The name of the instance; absent when binding.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_name: Option<String>,
    /// Its annotations that have a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance_annotations: Option<Map<String, Value>>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

impl Context {
    /// The word for platforms like this one.
    pub const CLOUD_FOUNDRY: &str = "cloudfoundry";
}
