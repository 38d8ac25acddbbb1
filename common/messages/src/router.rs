//! Route registration, as the V2 protocol has it, so that foreign registrars work too.
//!
//! Source: cloudfoundry/gorouter, `mbus/subscriber.go` and `docs/02-nats-configurations.md`.

use crate::Message;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// `router.register` and, with the same fields, `router.unregister`. Sent again every interval that the router names.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Register {
    /// Address of the endpoint.
    pub host: String,
    /// Plain port.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// TLS port; preferred over `port`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls_port: Option<u16>,
    /// Host names with optional path; `*.` wildcards allowed.
    #[serde(default)]
    pub uris: Vec<String>,
    /// App guid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub app: Option<String>,
    /// Instance guid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_instance_id: Option<String>,
    /// Index, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_instance_index: Option<String>,
    /// Name that the endpoint's certificate must carry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_cert_domain_san: Option<String>,
    /// `http1` or `http2`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub protocol: Option<String>,
    /// A bound route service; must begin with `https`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_service_url: Option<String>,
    /// Lifetime of the registration; 0 or absent: the router's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_threshold_in_seconds: Option<u32>,
    /// When the sender last changed the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub endpoint_updated_at_ns: Option<i64>,
    /// `component`, `source_id`, `process_id`, `process_type`, ...
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub tags: BTreeMap<String, String>,
    /// Options of the route.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub options: Option<Options>,
}
impl Message for Register {
    const SUBJECT: &'static str = "router.register";
}

/// Subject of [`Register`] payloads that take endpoints away.
pub const UNREGISTER: &str = "router.unregister";

/// Options of a route.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Options {
    /// `round-robin` or `least-connection`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loadbalancing: Option<String>,
}

/// `router.start`, and the answer to a request on [`GREET`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RouterStart {
    /// The router.
    pub id: String,
    /// Its addresses.
    pub hosts: Vec<String>,
    /// How often to register.
    #[serde(rename = "minimumRegisterIntervalInSeconds")]
    pub register_interval_s: u32,
    /// When a silent registration is dropped.
    #[serde(rename = "pruneThresholdInSeconds")]
    pub prune_threshold_s: u32,
}
impl Message for RouterStart {
    const SUBJECT: &'static str = "router.start";
}

/// Subject: asks for a [`RouterStart`]; empty payload.
pub const GREET: &str = "router.greet";
