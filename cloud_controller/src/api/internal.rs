//! The internal API: mutual TLS, the caller's role is the common name of its certificate.
//!
//! The paths and who may call them stand in `cloud_controller_client`.

use crate::{
    api::{Answer, Api, Failure, auth},
    domain::{Error, Result},
    store::feed,
};
use actix_web::{
    FromRequest, HttpRequest, HttpResponse,
    dev::{Extensions, Payload},
    get,
    web::{Data, Path, Query, ServiceConfig},
};
use serde::Deserialize;
use std::{
    any::Any,
    future::{Ready, ready},
};
use x509_parser::{certificate::X509Certificate, prelude::FromDer};

const MAX_CHANGES: u32 = 10_000;

/// Registers what this file serves.
pub fn routes(config: &mut ServiceConfig) {
    config.service(desired).service(log_access);
}

/// Who calls: the common name of its certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peer(pub String);

impl Peer {
    /// Lets only these components on.
    ///
    /// # Errors
    /// [`Error::Forbidden`] for others.
    pub fn only(&self, roles: &[&str]) -> Result<()> {
        if roles.contains(&self.0.as_str()) { Ok(()) } else { Err(Error::Forbidden) }
    }
}

impl FromRequest for Peer {
    type Error = Failure;
    type Future = Ready<Result<Self, Failure>>;

    fn from_request(request: &HttpRequest, _: &mut Payload) -> Self::Future {
        ready(request.conn_data::<Peer>().cloned().ok_or(Failure(Error::NotAuthenticated)))
    }
}

/// Reads the certificate of a new connection; for `HttpServer::on_connect`.
pub fn identify(connection: &dyn Any, extensions: &mut Extensions) {
    type Stream = actix_tls::accept::rustls_0_23::TlsStream<actix_web::rt::net::TcpStream>;
    let Some(stream) = connection.downcast_ref::<Stream>() else { return };
    let (_, session) = stream.get_ref();
    if let Some(name) = session.peer_certificates().and_then(|chain| common_name(chain.first()?)) {
        extensions.insert(Peer(name));
    }
}

fn common_name(certificate: &[u8]) -> Option<String> {
    let (_, certificate) = X509Certificate::from_der(certificate).ok()?;
    let name = certificate.subject().iter_common_name().next()?;
    name.as_str().ok().map(str::to_owned)
}

#[derive(Deserialize)]
struct After {
    #[serde(default)]
    after: u64,
    limit: Option<u32>,
}

#[get("/internal/v1/desired")]
async fn desired(api: Data<Api>, peer: Peer, query: Query<After>) -> Answer {
    peer.only(&["health_manager"])?;
    let (after, limit) = (query.after, query.limit.unwrap_or(1000).clamp(1, MAX_CHANGES));
    let page = api.store.read(move |conn| feed::page(conn, after, limit)).await?;
    Ok(HttpResponse::Ok().json(page))
}

/// May the holder of this token read the logs of this app? The body stays empty either way.
#[get("/internal/v1/log_access/{source}")]
async fn log_access(api: Data<Api>, peer: Peer, source: Path<String>, request: HttpRequest) -> Answer {
    peer.only(&["log_cache"])?;
    let header = request.headers().get("Authorization").and_then(|v| v.to_str().ok()).ok_or(Error::NotAuthenticated)?;
    let caller = auth::authenticate(&api, header).await?;
    if !caller.reads {
        return Err(Error::NotFound("App").into());
    }
    let source = source.into_inner();
    let may = api.read(&caller, move |tx| crate::store::apps::is_readable(tx, &source)).await?;
    if may { Ok(HttpResponse::Ok().finish()) } else { Err(Error::NotFound("App").into()) }
}
