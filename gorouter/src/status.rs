//! The status listener: `/health`, `/varz`, `/routes`.
//!
//! Source: cloudfoundry/gorouter, `router/health_listener.go`, `router/routes_listener.go`, `route/pool.go`.

use crate::proxy::{Shared, metrics::Counts};
use async_trait::async_trait;
use foundation::Shutdown;
use http::{Response, StatusCode, header};
use pingora_core::{
    apps::{
        ServerApp,
        http_app::{HttpServer, ServeHttp},
    },
    protocols::{http::ServerSession, l4::stream::Stream},
};
use serde::Serialize;
use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Arc, atomic::Ordering::Relaxed},
};
use tokio::{net::TcpListener, sync::watch};

struct Status(Arc<Shared>);

#[derive(Serialize)]
struct Varz {
    uptime_s: u64,
    routes: usize,
    endpoints: usize,
    #[serde(flatten)]
    counts: Counts,
}

#[derive(Serialize)]
struct RouteEndpoint {
    address: String,
    protocol: &'static str,
    tls: bool,
    ttl: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    route_service_url: Option<String>,
    tags: BTreeMap<String, String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    private_instance_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    server_cert_domain_san: Option<String>,
    load_balancing_algorithm: &'static str,
}

impl Status {
    fn varz(&self) -> Varz {
        let shared = &self.0;
        Varz {
            uptime_s: shared.epoch.elapsed().as_secs(),
            routes: shared.table.routes(),
            endpoints: shared.table.endpoints(),
            counts: shared.metrics.counts(),
        }
    }

    fn routes(&self) -> BTreeMap<String, Vec<RouteEndpoint>> {
        let mut routes = BTreeMap::new();
        self.0.table.each(|pool| {
            let show = |e: &Arc<crate::table::Endpoint>| {
                let attributes = &e.instance.attributes;
                RouteEndpoint {
                    address: attributes.address.to_string(),
                    protocol: if attributes.http2 { "http2" } else { "http1" },
                    tls: attributes.tls,
                    ttl: attributes.ttl.map_or(0, |ttl| ttl.as_secs()),
                    route_service_url: attributes.route_service.clone(),
                    tags: attributes.tags.clone(),
                    private_instance_id: attributes.instance.clone(),
                    server_cert_domain_san: attributes.server_name.clone(),
                    load_balancing_algorithm: pool.balance.as_str(),
                }
            };
            routes.insert(pool.key.to_string(), pool.endpoints.iter().map(show).collect());
        });
        routes
    }

    fn answer(&self, path: &str) -> (StatusCode, &'static str, Vec<u8>) {
        let json = |value: serde_json::Result<Vec<u8>>| match value {
            Ok(body) => (StatusCode::OK, "application/json", body),
            Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "text/plain", vec![]),
        };
        match path {
            "/health" | "/healthz" if self.0.draining.load(Relaxed) => (StatusCode::SERVICE_UNAVAILABLE, "text/plain", vec![]),
            "/health" | "/healthz" => (StatusCode::OK, "text/plain", b"ok\n".to_vec()),
            "/varz" => json(serde_json::to_vec(&self.varz())),
            "/routes" => json(serde_json::to_vec(&self.routes())),
            _ => (StatusCode::NOT_FOUND, "text/plain", b"not found\n".to_vec()),
        }
    }
}

#[async_trait]
impl ServeHttp for Status {
    async fn response(&self, session: &mut ServerSession) -> Response<Vec<u8>> {
        let (status, kind, body) = self.answer(session.req_header().uri.path());
        let length = header::HeaderValue::from(body.len());
        let mut response = Response::new(body);
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, header::HeaderValue::from_static(kind));
        headers.insert(header::CACHE_CONTROL, header::HeaderValue::from_static("private, max-age=0"));
        headers.insert(header::CONTENT_LENGTH, length);
        response
    }
}

/// Serves until the end; returns the real address.
pub(crate) async fn start(shared: Arc<Shared>, address: SocketAddr, shutdown: &Shutdown) -> std::io::Result<SocketAddr> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    let app = Arc::new(HttpServer::new_app(Status(shared)));
    let ending = shutdown.clone();
    shutdown.spawn(async move {
        let (sender, watch) = watch::channel(false);
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = ending.requested() => break,
            };
            match accepted {
                Ok((stream, _)) => {
                    let (app, watch, ending) = (app.clone(), watch.clone(), ending.clone());
                    tokio::spawn(async move {
                        tokio::select! {
                            _ = app.process_new(Box::new(Stream::from(stream)), &watch) => {}
                            () = ending.requested() => {}
                        }
                    });
                }
                Err(_) => tokio::time::sleep(std::time::Duration::from_millis(50)).await,
            }
        }
        drop(sender);
    });
    Ok(address)
}
