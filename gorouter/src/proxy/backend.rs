//! What the proxy needs of an endpoint, made once when it registers.

use super::route_service::Target;
use crate::table::Attributes;
use http::HeaderValue;
use loggregator_client::LineSource;
use pingora_core::{protocols::TcpKeepalive, upstreams::peer::HttpPeer};
use std::{sync::Arc, time::Duration};

/// After how much silence a peer is asked whether it is there, and how often again.
pub(crate) const KEEPALIVE: [Duration; 2] = [Duration::from_secs(15), Duration::from_secs(5)];
/// How often it is asked in vain before the connection ends: half a minute in all.
pub(crate) const KEEPALIVE_PROBES: usize = 3;

/// How endpoints are talked to.
#[derive(Clone, Debug)]
pub(crate) struct BackendSettings {
    /// The router's number, as its log lines carry it.
    pub(crate) router_index: String,
    pub(crate) connect_timeout: Duration,
    /// The longest silence of an endpoint that owes an answer.
    pub(crate) endpoint_timeout: Duration,
    /// How long an unused connection is kept.
    pub(crate) idle_timeout: Duration,
    /// There is an authority to verify endpoints' certificates with.
    pub(crate) verifies: bool,
}

/// Everything about an endpoint that a request would otherwise have to build.
#[derive(Debug)]
pub(crate) struct Backend {
    pub(crate) peer: HttpPeer,
    /// `X-CF-ApplicationID`.
    pub(crate) app: Option<HeaderValue>,
    /// `X-CF-InstanceID`: the instance, or the address where it is not known.
    pub(crate) instance: HeaderValue,
    /// `X-CF-InstanceIndex`.
    pub(crate) index: Option<HeaderValue>,
    /// The app's log stream.
    pub(crate) lines: Option<LineSource>,
    pub(crate) address: String,
    /// What requests have to go through first.
    pub(crate) route_service: Option<Arc<Target>>,
}

impl Backend {
    pub(crate) fn new(attributes: &Attributes, settings: &BackendSettings) -> Self {
        let header = |text: &Option<String>| text.as_deref().and_then(|text| HeaderValue::from_str(text).ok());
        let address = attributes.address.to_string();
        let by_address = || HeaderValue::from_str(&address).unwrap_or(HeaderValue::from_static("-"));
        let source = |app: &String| LineSource::new(app, &settings.router_index, "RTR", attributes.tags.clone());
        Self {
            peer: peer(attributes, settings),
            app: header(&attributes.app),
            instance: header(&attributes.instance).unwrap_or_else(by_address),
            index: header(&attributes.index),
            lines: attributes.app.as_ref().map(source),
            address,
            route_service: attributes.route_service.as_deref().and_then(Target::parse).map(Arc::new),
        }
    }
}

fn peer(attributes: &Attributes, settings: &BackendSettings) -> HttpPeer {
    // Without a name the certificate must carry the address: an empty name would switch verification off.
    let name = attributes.server_name.clone().unwrap_or_else(|| attributes.address.ip().to_string());
    let mut peer = HttpPeer::new(attributes.address, attributes.tls, if attributes.tls { name } else { String::new() });
    set_options(&mut peer, settings);
    if attributes.http2 {
        peer.options.set_http_version(2, 2);
        peer.options.max_h2_streams = 100;
    }
    peer
}

/// Timeouts, and whether the other end is still there.
pub(crate) fn set_options(peer: &mut HttpPeer, settings: &BackendSettings) {
    let tls = peer.is_tls();
    let options = &mut peer.options;
    options.connection_timeout = Some(settings.connect_timeout);
    options.total_connection_timeout = tls.then_some(settings.connect_timeout + Duration::from_secs(10));
    options.read_timeout = Some(settings.endpoint_timeout);
    options.write_timeout = Some(settings.endpoint_timeout);
    options.idle_timeout = Some(settings.idle_timeout);
    let [idle, interval] = KEEPALIVE;
    options.tcp_keepalive = Some(TcpKeepalive { idle, interval, count: KEEPALIVE_PROBES, user_timeout: Duration::ZERO });
}
