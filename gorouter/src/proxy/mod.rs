//! From a request to the right instance: the decisions, in the places where the engine asks for them.
//!
//! - `backend`: what a request needs of an endpoint, made when it registers.
//! - `headers`: what is added and taken away.
//! - `refusal`: answers of the router's own.
//! - `route_service`: what stands between a route and its app.
//! - `sticky`: session cookies.
//! - `access_log`: the line in the app's log stream.
//! - `metrics`: counters.

pub(crate) mod access_log;
pub(crate) mod backend;
pub(crate) mod headers;
pub(crate) mod metrics;
pub(crate) mod refusal;
pub(crate) mod route_service;
pub(crate) mod sticky;

use crate::table::{Choice, Found, Lease, Moment, NoEndpoint, Pool, Table};
use access_log::{Lines, Record};
use async_trait::async_trait;
use backend::BackendSettings;
use bytes::Bytes;
use headers::ForwardedProto;
use http::{HeaderName, HeaderValue, Method, Version, header};
use metrics::{Metrics, count};
use parking_lot::Mutex;
use pingora_core::{Error, ErrorSource, ErrorType, Result, modules::http::HttpModules, upstreams::peer::HttpPeer};
use pingora_http::{RequestHeader, ResponseHeader};
use pingora_proxy::{FailToProxy, ProxyHttp, ProxyWarnLogContext, Session};
use rand::{Rng, rngs::StdRng};
use refusal::Refusal;
use route_service::{RouteServices, Signed, Target};
use std::{
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};
use tracing::{debug, warn};
use types::{Clock, Timestamp};

/// Rules that the proxy follows.
#[derive(Clone, Debug)]
pub(crate) struct Rules {
    pub(crate) max_attempts: usize,
    /// Open requests at which an endpoint takes no more; 0: no limit.
    pub(crate) max_open: usize,
    /// How long a failed endpoint is set aside.
    pub(crate) aside_for: Duration,
    pub(crate) session_cookies: Vec<String>,
    pub(crate) forwarded_proto: ForwardedProto,
}

/// What all workers share.
pub(crate) struct Shared {
    pub(crate) table: Table,
    pub(crate) rules: Rules,
    pub(crate) services: RouteServices,
    pub(crate) backend: BackendSettings,
    pub(crate) metrics: Metrics,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) epoch: Instant,
    pub(crate) draining: AtomicBool,
}

impl Shared {
    pub(crate) fn now(&self) -> Moment {
        Moment(u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX))
    }
}

/// The proxy's decisions, one for each worker.
pub(crate) struct Gateway {
    pub(crate) shared: Arc<Shared>,
    pub(crate) lines: Arc<Lines>,
    pub(crate) rng: Mutex<StdRng>,
}

/// One request on its way.
pub(crate) struct Ctx {
    started: Instant,
    started_at: Timestamp,
    request_id: HeaderValue,
    pool: Option<Arc<Pool>>,
    lease: Option<Lease>,
    /// Endpoints that failed this request.
    tried: Vec<SocketAddr>,
    attempts: usize,
    wish: Wish,
    /// The request goes to this service, and comes back with our signature.
    service: Option<Arc<Target>>,
    /// The request is on its way to a service that is an app here.
    to_service: bool,
    error: Option<String>,
    forwarded_for: Option<HeaderValue>,
    forwarded_proto: Option<HeaderValue>,
    sent_to_backend: Option<Instant>,
    /// Answers of the 100s that came before the real one.
    informational: u32,
    backend_took: Option<Duration>,
    /// The last failure, for when no endpoint is left.
    failure: Option<Refusal>,
}

/// Which of the route's endpoints the request asks for.
#[derive(Debug, Default, PartialEq, Eq)]
enum Wish {
    #[default]
    Any,
    /// `X-CF-App-Instance`
    Index { app: String, index: String },
    /// `X-CF-Process-Instance`
    Process { process: String, index: Option<String> },
    /// Its sticky cookie.
    Instance(String),
}

/// Answers of the 100s that an endpoint may give before the real one.
const MAX_INFORMATIONAL: u32 = 32;
const REQUEST_ID: HeaderName = HeaderName::from_static("x-vcap-request-id");
const APP_INSTANCE: &str = "x-cf-app-instance";
const PROCESS_INSTANCE: &str = "x-cf-process-instance";

impl Gateway {
    /// A random (version 4) UUID.
    fn request_id(&self) -> HeaderValue {
        const HEX: &[u8; 16] = b"0123456789abcdef";
        let mut random = [0; 16];
        self.rng.lock().fill_bytes(&mut random);
        random[6] = random[6] & 0x0f | 0x40;
        random[8] = random[8] & 0x3f | 0x80;
        let mut text = [b'-'; 36];
        let mut at = 0;
        for (i, byte) in random.iter().enumerate() {
            at += usize::from(matches!(i, 4 | 6 | 8 | 10));
            text[at] = HEX[usize::from(byte >> 4)];
            text[at + 1] = HEX[usize::from(byte & 15)];
            at += 2;
        }
        HeaderValue::from_maybe_shared(Bytes::copy_from_slice(&text)).unwrap_or(HeaderValue::from_static("-"))
    }

    /// Finds the route, or says why there is none.
    fn find(&self, session: &mut Session, ctx: &mut Ctx) -> Result<(), Refusal> {
        let request = session.req_header();
        if request.method == Method::CONNECT || request.method == Method::TRACE {
            return Err(Refusal::new(405, "method_not_allowed", "The method is not allowed."));
        }
        let host = host_of(request);
        if host.is_empty() {
            return Err(Refusal::empty_host());
        }
        ctx.wish = wish(request, &self.shared.rules.session_cookies)?;
        let pool = match self.shared.table.lookup(host, request.uri.path().as_bytes()) {
            Found::Pool(pool) => pool,
            Found::Empty => return Err(Refusal::no_endpoints(&shown(host))),
            Found::Nothing => {
                count(&self.shared.metrics.rejected);
                return Err(match &ctx.wish {
                    Wish::Index { app, index } => Refusal::unknown_instance(app, index, &shown(host)),
                    _ => Refusal::unknown_route(&shown(host)),
                });
            }
        };
        // The first attempt's endpoint is chosen now, so that "none" is an answer and not a failure.
        match self.choose(&pool, ctx) {
            Ok(lease) => ctx.lease = Some(lease),
            Err(NoEndpoint::Overloaded) => {
                count(&self.shared.metrics.overloaded);
                return Err(Refusal::overloaded(&shown(host)));
            }
            Err(NoEndpoint::Exhausted) => {
                count(&self.shared.metrics.rejected);
                return Err(match &ctx.wish {
                    Wish::Index { app, index } => Refusal::unknown_instance(app, index, &shown(host)),
                    Wish::Process { process, index } => {
                        Refusal::unknown_instance(process, index.as_deref().unwrap_or("-"), &shown(host))
                    }
                    _ => Refusal::no_endpoints(&shown(host)),
                });
            }
        }
        let passed = self.through_service(request, &pool, ctx);
        ctx.pool = Some(pool);
        passed
    }

    /// Decides whether the request goes to the route's service, comes back from it, or is on its way to one that is an app.
    fn through_service(&self, request: &RequestHeader, pool: &Pool, ctx: &mut Ctx) -> Result<(), Refusal> {
        let services = &self.shared.services;
        let service = ctx.lease.as_ref().and_then(|lease| lease.instance.backend.route_service.clone());
        let signed = match request.headers.contains_key(route_service::SIGNATURE) {
            true => services.read(&request.headers, self.shared.clock.now()),
            false => Signed::No,
        };
        match (service, signed) {
            (None, Signed::For(_)) => {
                ctx.to_service = true;
                // What it wishes concerns the app behind the service.
                if std::mem::take(&mut ctx.wish) != Wish::Any {
                    ctx.lease = self.choose(pool, ctx).ok();
                }
            }
            (None, _) => {}
            (Some(service), Signed::No) => {
                ctx.lease = None;
                ctx.service = Some(service);
            }
            (Some(_), Signed::For(url)) if url == services.url(host_of(request), request.raw_path()) => {}
            (Some(_), signed) => return Err(route_service::refusal(&signed)),
        }
        Ok(())
    }

    fn choose(&self, pool: &Pool, ctx: &Ctx) -> Result<Lease, NoEndpoint> {
        let rules = &self.shared.rules;
        let choice = Choice { tried: &ctx.tried, max_open: rules.max_open, aside_for: rules.aside_for, now: self.shared.now() };
        match &ctx.wish {
            Wish::Any => pool.pick(choice),
            Wish::Instance(id) if ctx.tried.is_empty() => pool.pick_instance(id, choice).map_or_else(|| pool.pick(choice), Ok),
            Wish::Instance(_) => pool.pick(choice),
            Wish::Index { app, index } => pool.pick_index(app, index, choice),
            Wish::Process { process, index } => pool.pick_process(process, index.as_deref(), choice),
        }
    }

    /// Notes that the chosen endpoint failed; true if another one may be tried.
    fn failed(&self, ctx: &mut Ctx, e: &Error, blame: bool) -> bool {
        if let Some(service) = &ctx.service {
            warn!(route.host = ctx.pool.as_ref().map(|pool| &*pool.key.host), "a route service failed: {}", e.etype().as_str());
            ctx.failure = Refusal::of_failure(e);
            return ctx.attempts < self.shared.rules.max_attempts && service.has_name();
        }
        let Some(lease) = ctx.lease.take() else { return false };
        count(&self.shared.metrics.endpoint_failures);
        ctx.failure = Refusal::of_failure(e);
        if blame {
            if lease.fail(self.shared.now()) {
                warn!(
                    route.host = ctx.pool.as_ref().map(|pool| &*pool.key.host),
                    app.id = lease.instance.attributes.app,
                    "endpoint {} is set aside: {}",
                    lease.address(),
                    e.etype().as_str(),
                );
            }
            // What is not what it was registered as will not become it: plain endpoints wait for their lifetime's end.
            if lease.instance.attributes.tls
                && let Some(pool) = &ctx.pool
            {
                self.shared.table.drop_endpoint(&pool.key, lease.address(), self.shared.now());
            }
        }
        ctx.tried.push(lease.address());
        let others = ctx.wish.may_move() && ctx.pool.as_ref().is_some_and(|pool| pool.has_untried(&ctx.tried));
        ctx.attempts < self.shared.rules.max_attempts && others
    }

    /// Writes an answer of our own.
    async fn refuse(&self, session: &mut Session, ctx: &mut Ctx, refusal: &Refusal) -> Result<()> {
        ctx.error = Some(refusal.error.clone().into_owned());
        let head = refusal.head(Some(&ctx.request_id))?;
        let body = refusal.body();
        session.write_response_header(Box::new(head), body.is_empty()).await?;
        if !body.is_empty() {
            session.write_response_body(Some(Bytes::from(body)), true).await?;
        }
        Ok(())
    }
}

impl Wish {
    /// True if another endpoint can take the place of a failed one.
    fn may_move(&self) -> bool {
        !matches!(self, Self::Index { .. })
    }
}

/// The host as the client wrote it.
fn host_of(request: &RequestHeader) -> &[u8] {
    match request.headers.get(header::HOST) {
        Some(host) => host.as_bytes(),
        None => request.uri.authority().map_or(b"", |authority| authority.as_str().as_bytes()),
    }
}

/// The host as it may stand in an answer.
fn shown(host: &[u8]) -> String {
    String::from_utf8_lossy(host).chars().filter(|c| !c.is_control() && !"<>&".contains(*c)).take(255).collect()
}

fn wish(request: &RequestHeader, session_cookies: &[String]) -> Result<Wish, Refusal> {
    if let Some(said) = request.headers.get(APP_INSTANCE) {
        let parts = said.to_str().ok().and_then(|said| said.split_once(':'));
        return match parts {
            Some((app, index)) if is_id(app) && is_index(index) => Ok(Wish::Index { app: app.into(), index: index.into() }),
            _ => Err(Refusal::new(400, "invalid_cf_app_instance_header", "Invalid X-CF-App-Instance Header")),
        };
    }
    if let Some(said) = request.headers.get(PROCESS_INSTANCE) {
        let invalid = || Refusal::new(400, "invalid_cf_process_instance_header", "Invalid X-CF-Process-Instance Header");
        let said = said.to_str().map_err(|_| invalid())?;
        let (process, index) = said.split_once(':').map_or((said, None), |(process, index)| (process, Some(index)));
        if !is_id(process) || !index.is_none_or(is_index) {
            return Err(invalid());
        }
        return Ok(Wish::Process { process: process.into(), index: index.map(str::to_owned) });
    }
    if !request.headers.contains_key(header::COOKIE) {
        return Ok(Wish::Any);
    }
    let wanted = sticky::wanted_instance(&request.headers, session_cookies);
    Ok(wanted.map_or(Wish::Any, |id| Wish::Instance(id.to_owned())))
}

fn is_id(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
}

fn is_index(text: &str) -> bool {
    !text.is_empty() && text.len() <= 9 && text.bytes().all(|b| b.is_ascii_digit())
}

#[async_trait]
impl ProxyHttp for Gateway {
    type CTX = Ctx;

    fn new_ctx(&self) -> Ctx {
        Ctx {
            started: Instant::now(),
            started_at: self.shared.clock.now(),
            request_id: self.request_id(),
            pool: None,
            lease: None,
            tried: Vec::new(),
            attempts: 0,
            wish: Wish::Any,
            service: None,
            to_service: false,
            error: None,
            forwarded_for: None,
            forwarded_proto: None,
            sent_to_backend: None,
            informational: 0,
            backend_took: None,
            failure: None,
        }
    }

    fn init_downstream_modules(&self, _modules: &mut HttpModules) {}

    async fn request_filter(&self, session: &mut Session, ctx: &mut Ctx) -> Result<bool> {
        if session.req_header().headers.get(header::USER_AGENT).is_some_and(|agent| agent == "HTTP-Monitor/1.1") {
            return self.answer_monitor(session, ctx).await.map(|()| true);
        }
        match self.find(session, ctx) {
            Ok(()) => headers::clean(session.req_header_mut(), ctx.to_service).map(|()| false),
            Err(refusal) => self.refuse(session, ctx, &refusal).await.map(|()| true),
        }
    }

    async fn upstream_peer(&self, session: &mut Session, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        let mut peer = self.peer(ctx).await?;
        if session.is_upgrade_req() {
            // A tunnel may be silent for as long as both ends are there, which TCP watches.
            peer.options.read_timeout = None;
            peer.options.write_timeout = None;
            session.set_read_timeout(None);
            session.set_write_timeout(None);
        }
        Ok(peer)
    }

    async fn upstream_request_filter(&self, session: &mut Session, request: &mut RequestHeader, ctx: &mut Ctx) -> Result<()> {
        if ctx.lease.is_none() && ctx.service.is_none() {
            return Ok(());
        }
        let peer = session.client_addr().and_then(|address| address.as_inet()).map(|address| address.ip());
        let https = session.digest().is_some_and(|digest| digest.ssl_digest.is_some());
        if let Some(peer) = peer {
            let value = headers::forwarded_for(&session.req_header().headers, peer);
            request.insert_header("X-Forwarded-For", value.clone())?;
            ctx.forwarded_for = Some(value);
        }
        let proto = self.shared.rules.forwarded_proto.value(https, session.req_header().headers.get("x-forwarded-proto"));
        request.insert_header("X-Forwarded-Proto", proto.clone())?;
        ctx.forwarded_proto = Some(proto);
        if !request.headers.contains_key("x-request-start") {
            request.insert_header("X-Request-Start", ctx.started_at.0 / 1_000)?;
        }
        request.insert_header("X-Vcap-Request-Id", ctx.request_id.clone())?;
        ctx.sent_to_backend = Some(Instant::now());
        if let Some(service) = &ctx.service {
            let asked = session.req_header();
            let url = self.shared.services.url(host_of(asked), asked.raw_path());
            let now = self.shared.clock.now();
            return self.shared.services.address(request, service, url, now, &mut *self.rng.lock());
        }
        let Some(lease) = &ctx.lease else { return Ok(()) };
        let backend = &lease.instance.backend;
        if let Some(app) = &backend.app {
            request.insert_header("X-CF-ApplicationID", app.clone())?;
        }
        request.insert_header("X-CF-InstanceID", backend.instance.clone())?;
        if let Some(index) = &backend.index {
            request.insert_header("X-CF-InstanceIndex", index.clone())?;
        }
        Ok(())
    }

    async fn upstream_response_filter(&self, session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        let status = response.status.as_u16();
        if status == 101 && !session.is_upgrade_req() {
            return Err(Error::explain(ErrorType::InvalidHTTPHeader, "nobody asked for another protocol").into_up());
        }
        if response.status.is_informational() && status != 101 {
            ctx.informational += 1;
            return match ctx.informational > MAX_INFORMATIONAL {
                true => Err(Error::explain(ErrorType::InvalidHTTPHeader, "too many informational answers").into_up()),
                false => Ok(()),
            };
        }
        ctx.backend_took = ctx.sent_to_backend.map(|sent| sent.elapsed());
        Ok(())
    }

    async fn response_filter(&self, _session: &mut Session, response: &mut ResponseHeader, ctx: &mut Ctx) -> Result<()> {
        headers::clean_response(response);
        if response.status.is_informational() && response.status.as_u16() != 101 {
            return Ok(());
        }
        if !response.headers.contains_key(REQUEST_ID) {
            response.insert_header("X-Vcap-Request-Id", ctx.request_id.clone())?;
        }
        let Some(lease) = ctx.lease.as_ref().filter(|_| !ctx.to_service) else { return Ok(()) };
        let Some(instance) = lease.instance.attributes.instance.as_deref() else { return Ok(()) };
        let moved = matches!(&ctx.wish, Wish::Instance(wanted) if wanted != instance);
        if moved || response.headers.contains_key(header::SET_COOKIE) {
            let path = ctx.pool.as_ref().map_or("", |pool| &*pool.key.path);
            if let Some(cookie) = sticky::cookie(&response.headers, &self.shared.rules.session_cookies, instance, path, moved) {
                response.append_header("Set-Cookie", cookie)?;
            }
        }
        Ok(())
    }

    fn fail_to_connect(&self, session: &mut Session, _peer: &HttpPeer, ctx: &mut Ctx, mut e: Box<Error>) -> Box<Error> {
        e.set_retry(self.failed(ctx, &e, true) && session.response_written().is_none());
        e
    }

    fn error_while_proxy(
        &self,
        _peer: &HttpPeer,
        session: &mut Session,
        mut e: Box<Error>,
        ctx: &mut Ctx,
        reused: bool,
    ) -> Box<Error> {
        if *e.esource() != ErrorSource::Upstream {
            // What a client does says nothing about an endpoint.
            e.set_retry(false);
            return e;
        }
        let closed = matches!(e.etype(), ErrorType::ConnectionClosed | ErrorType::ReadError | ErrorType::WriteError);
        let untouched = session.response_written().is_none() && !session.as_ref().retry_buffer_truncated();
        let body_empty = session.is_body_empty();
        let again = closed && untouched && headers::is_idempotent(session.req_header(), body_empty);
        if reused && again && ctx.attempts < self.shared.rules.max_attempts {
            // An idle connection that the endpoint had closed: nothing is wrong with it.
            e.set_retry(true);
            return e;
        }
        let may = self.failed(ctx, &e, matches!(e.etype(), ErrorType::ReadError));
        e.set_retry(may && again);
        e
    }

    async fn fail_to_proxy(&self, session: &mut Session, e: &Error, ctx: &mut Ctx) -> FailToProxy {
        let refusal = match (Refusal::of_failure(e), ctx.failure.take()) {
            (Some(_), Some(earlier)) if *e.esource() == ErrorSource::Upstream => Some(earlier),
            (refusal, _) => refusal,
        };
        debug!("request failed: {e}");
        let mut status = 499;
        if let Some(refusal) = refusal {
            status = refusal.status;
            if status >= 500 {
                count(&self.shared.metrics.bad_gateways);
            }
            ctx.error = Some(refusal.error.clone().into_owned());
            if session.response_written().is_none()
                && let Err(e) = self.refuse(session, ctx, &refusal).await
            {
                debug!("the client is gone: {e}");
            }
        } else {
            ctx.error = Some("endpoint_failure (context canceled)".to_owned());
        }
        FailToProxy { error_code: status, can_reuse_downstream: false }
    }

    async fn logging(&self, session: &mut Session, e: Option<&Error>, ctx: &mut Ctx) {
        let status = match session.response_written() {
            Some(response) => response.status.as_u16(),
            None if e.is_some() => 499,
            None => 0,
        };
        self.shared.metrics.answered(status);
        if status == 101 {
            count(&self.shared.metrics.upgrades);
        }
        let lease = ctx.lease.take();
        let Some(pool) = &ctx.pool else { return };
        // A request that found no endpoint in the end still belongs to the route's app.
        let endpoint = lease.as_deref().or(pool.endpoints.first().map(|e| &**e));
        let Some(instance) = endpoint.map(|endpoint| &endpoint.instance) else { return };
        let Some(source) = &instance.backend.lines else { return };
        let request = session.req_header();
        let value = |name: HeaderName| request.headers.get(name).map_or(&b""[..], |value| value.as_bytes());
        let took = ctx.started.elapsed();
        let client = session.client_addr().map(|address| address.to_string()).unwrap_or_default();
        let attributes = &instance.attributes;
        self.lines.write(
            source,
            &Record {
                host: host_of(request),
                started: ctx.started_at,
                method: request.method.as_str().as_bytes(),
                uri: request.raw_path(),
                protocol: protocol(request.version),
                status,
                received: session.body_bytes_read(),
                sent: session.body_bytes_sent(),
                referer: value(header::REFERER),
                user_agent: value(header::USER_AGENT),
                client: &client,
                backend: if lease.is_some() { &instance.backend.address } else { "" },
                forwarded_for: ctx.forwarded_for.as_ref().map_or(&b""[..], |v| v.as_bytes()),
                forwarded_proto: ctx.forwarded_proto.as_ref().map_or(&b""[..], |v| v.as_bytes()),
                request_id: ctx.request_id.as_bytes(),
                took,
                router_took: ctx.backend_took.map(|backend| took.saturating_sub(backend)),
                app: attributes.app.as_deref().unwrap_or_default(),
                index: attributes.index.as_deref().unwrap_or_default(),
                instance: attributes.instance.as_deref().unwrap_or_default(),
                error: ctx.error.as_deref().unwrap_or_default(),
            },
        );
    }

    fn suppress_error_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error) -> bool {
        true
    }

    fn suppress_proxy_warn_log(&self, _session: &Session, _ctx: &Ctx, _error: &Error, _context: ProxyWarnLogContext) -> bool {
        true
    }
}

impl Gateway {
    /// Whom the request goes to now: the route's service, or an endpoint.
    async fn peer(&self, ctx: &mut Ctx) -> Result<Box<HttpPeer>> {
        ctx.attempts += 1;
        if let Some(service) = &ctx.service {
            let (host, path) = service.place();
            let routed = !matches!(self.shared.table.lookup(host, path), Found::Nothing);
            let services = &self.shared.services;
            return services.peer(service, routed, ctx.attempts, &self.shared.backend, self.shared.now()).await;
        }
        if ctx.lease.is_none() {
            let lease = ctx.pool.as_ref().and_then(|pool| self.choose(pool, ctx).ok());
            ctx.lease = lease;
        }
        let Some(lease) = &ctx.lease else {
            return Err(Error::explain(ErrorType::ConnectError, "no endpoint is left").into_up());
        };
        Ok(Box::new(lease.instance.backend.peer.clone()))
    }

    /// Answers a load balancer's health check on the main port.
    async fn answer_monitor(&self, session: &mut Session, ctx: &Ctx) -> Result<()> {
        let draining = self.shared.draining.load(Relaxed);
        let (status, body) = if draining { (503, "") } else { (200, "ok\n") };
        let mut head = ResponseHeader::build(status, Some(4))?;
        head.insert_header(header::CONTENT_LENGTH, body.len())?;
        head.insert_header("Cache-Control", "private, max-age=0")?;
        head.insert_header("X-Vcap-Request-Id", ctx.request_id.clone())?;
        session.write_response_header(Box::new(head), body.is_empty()).await?;
        if !body.is_empty() {
            session.write_response_body(Some(Bytes::from_static(body.as_bytes())), true).await?;
        }
        Ok(())
    }
}

fn protocol(version: Version) -> &'static str {
    match version {
        Version::HTTP_10 => "HTTP/1.0",
        Version::HTTP_2 => "HTTP/2.0",
        _ => "HTTP/1.1",
    }
}
