//! What a registration says about an endpoint.

use super::Moment;
use crate::proxy::backend::{Backend, BackendSettings};
use messages::router::Register;
use std::{collections::BTreeMap, net::SocketAddr, time::Duration};

/// How a pool chooses among its endpoints.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Balance {
    /// One after the other.
    #[default]
    RoundRobin,
    /// The one with the fewest open requests.
    LeastConnection,
}

impl Balance {
    /// Reads the route option; `None` for values we do not know.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        match name {
            "round-robin" => Some(Self::RoundRobin),
            "least-connection" => Some(Self::LeastConnection),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RoundRobin => "round-robin",
            Self::LeastConnection => "least-connection",
        }
    }
}

/// The checked content of a registration, apart from its routes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Attributes {
    pub(crate) address: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) http2: bool,
    pub(crate) server_name: Option<String>,
    pub(crate) app: Option<String>,
    pub(crate) instance: Option<String>,
    pub(crate) index: Option<String>,
    pub(crate) route_service: Option<String>,
    pub(crate) tags: BTreeMap<String, String>,
    /// Lifetime asked for; never more than the router's own.
    pub(crate) ttl: Option<Duration>,
    /// When the sender last changed the endpoint, in its own nanoseconds.
    pub(crate) updated_ns: i64,
}

impl Attributes {
    /// Takes over a registration of the endpoint at `address`.
    pub(crate) fn new(message: &Register, address: SocketAddr, tls: bool) -> Self {
        let some = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        Self {
            address,
            tls,
            http2: message.protocol.as_deref() == Some("http2"),
            server_name: some(&message.server_cert_domain_san),
            app: some(&message.app),
            instance: some(&message.private_instance_id),
            index: some(&message.private_instance_index),
            route_service: some(&message.route_service_url),
            tags: message.tags.clone(),
            ttl: message.stale_threshold_in_seconds.filter(|s| *s > 0).map(|s| Duration::from_secs(s.into())),
            updated_ns: message.endpoint_updated_at_ns.unwrap_or_default(),
        }
    }
}

/// An endpoint's attributes, and what the proxy needs of them, made once.
#[derive(Debug)]
pub(crate) struct Instance {
    pub(crate) attributes: Attributes,
    pub(crate) backend: Backend,
}

impl Instance {
    pub(crate) fn new(attributes: Attributes, settings: &BackendSettings) -> Self {
        let backend = Backend::new(&attributes, settings);
        Self { attributes, backend }
    }

    /// True if both say the same; the time of the change does not count.
    pub(crate) fn same_as(&self, other: &Self) -> bool {
        let (mine, theirs) = (&self.attributes, &other.attributes);
        mine == theirs || *mine == Attributes { updated_ns: mine.updated_ns, ..theirs.clone() }
    }

    /// When it counts as gone, seen last at `seen`; TLS endpoints only go by failure or by being unregistered.
    pub(crate) fn expires(&self, seen: Moment, threshold: Duration) -> Option<Moment> {
        (!self.attributes.tls).then(|| seen + self.attributes.ttl.unwrap_or(threshold).min(threshold))
    }
}
