//! Service bindings: bind, rotate, fetch.

use crate::{Context, Credentials, Parameters, PrivateObject};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::fmt;

/// Body of `PUT /v2/service_instances/:instance_id/service_bindings/:binding_id`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BindRequest {
    /// The offering; absent only in a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service_id: Option<String>,
    /// The plan; absent only in a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub plan_id: Option<String>,
    /// Where the instance belongs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<Context>,
    /// The application; deprecated in favour of `bind_resource.app_guid`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_guid: Option<String>,
    /// What is bound.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bind_resource: Option<BindResource>,
    /// What the user gave.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
    /// The binding that this one follows: a rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub predecessor_binding_id: Option<String>,
}

/// What is bound: an application, a route, or nothing of these for a key.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BindResource {
    /// The application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_guid: Option<String>,
    /// The route's address, without scheme.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// The space of the application, which may not be the instance's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub space_guid: Option<String>,
    /// The application's annotations that have a prefix.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app_annotations: Option<Map<String, Value>>,
    /// The client that may read the credential of a key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential_client_id: Option<String>,
    /// Everything else.
    #[serde(flatten)]
    pub other: Map<String, Value>,
}

/// How long a binding is good for; RFC 3339 in UTC.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct BindingMetadata {
    /// From then on the credentials do not work.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<String>,
    /// Until then a successor should be made; not after `expires_at`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub renew_before: Option<String>,
}

/// An address that a bound application reaches.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Name or address.
    pub host: String,
    /// Each one port (`"5432"`) or a range (`"5000-5010"`).
    pub ports: Vec<String>,
    /// `tcp` (if absent), `udp`, `all`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
}

/// A volume to be mounted into the application's containers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct VolumeMount {
    /// Which driver mounts it.
    pub driver: String,
    /// Where.
    pub container_dir: String,
    /// `r` or `rw`.
    pub mode: String,
    /// `shared`.
    pub device_type: String,
    /// What.
    pub device: Device,
}

/// The device of a volume mount.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Device {
    /// Unique at the broker.
    pub volume_id: String,
    /// For the driver; may hold credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mount_config: Option<PrivateObject>,
}

/// Answer to a bind: 200, 201; or 202 with `operation` alone.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Binding {
    /// What to send along when polling.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// For the application.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Credentials>,
    /// Where the application's logs go; needs `syslog_drain`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub syslog_drain_url: Option<String>,
    /// Through where the route's requests go; needs `route_forwarding`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    /// What to mount; needs `volume_mount`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume_mounts: Option<Vec<VolumeMount>>,
    /// What the application connects to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoints: Option<Vec<Endpoint>>,
    /// How long it is good for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metadata: Option<BindingMetadata>,
}

impl fmt::Debug for Binding {
    /// Addresses of drains and route services can hold a password too: only their presence shows.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hidden = |value: &Option<String>| value.as_ref().map(|_| "[hidden]");
        f.debug_struct("Binding")
            .field("operation", &self.operation)
            .field("credentials", &self.credentials)
            .field("syslog_drain_url", &hidden(&self.syslog_drain_url))
            .field("route_service_url", &hidden(&self.route_service_url))
            .field("volume_mounts", &self.volume_mounts)
            .field("endpoints", &self.endpoints)
            .field("metadata", &self.metadata)
            .finish()
    }
}

/// Answer to `GET …/service_bindings/:binding_id`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FetchedBinding {
    /// The binding.
    #[serde(flatten)]
    pub binding: Binding,
    /// The parameters in force, if the broker shows them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters: Option<Parameters>,
}
