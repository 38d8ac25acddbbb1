//! What every request passes, in this order: who is asking, which version of the API, then everything else.

use crate::{Failure, RawCredential, metrics::Metrics};
use actix_web::{
    HttpResponse, ResponseError,
    body::{BoxBody, MessageBody},
    dev::{ServiceRequest, ServiceResponse},
    http::header::{AUTHORIZATION, HeaderMap, HeaderName, HeaderValue, WWW_AUTHENTICATE},
    middleware::Next,
    web::Data,
};
use base64::{Engine, engine::general_purpose::STANDARD};
use osb::{ApiVersion, REQUEST_IDENTITY_HEADER, VERSION_HEADER};
use sha2::{Digest, Sha256};
use std::time::{Duration, Instant};
use subtle::ConstantTimeEq;
use tracing::{Instrument, error, info, info_span};

/// Longest part of a request's identity that is logged and echoed.
const MAX_IDENTITY_CHARS: usize = 200;

/// Who may pass, and how long it may take.
pub(crate) struct Gate {
    /// Digests of `user:password`: comparing them takes the same time whatever is sent.
    allowed: Vec<[u8; 32]>,
    pub(crate) timeout: Duration,
    pub(crate) metrics: Metrics,
}

impl Gate {
    pub(crate) fn new(credentials: &[RawCredential], timeout: Duration, metrics: Metrics) -> Self {
        let digest = |pair: &RawCredential| Sha256::digest(format!("{}:{}", pair.user, pair.password.expose())).into();
        Self { allowed: credentials.iter().map(digest).collect(), timeout, metrics }
    }

    fn knows(&self, headers: &HeaderMap) -> bool {
        let Some(sent) = headers.get(AUTHORIZATION).and_then(|value| basic(value.to_str().ok()?)) else { return false };
        let sent: [u8; 32] = Sha256::digest(sent).into();
        // all of them, so that the time does not tell which
        self.allowed.iter().fold(subtle::Choice::from(0), |found, pair| found | pair.ct_eq(&sent)).into()
    }
}

/// `user:password` of basic authentication.
fn basic(header: &str) -> Option<Vec<u8>> {
    let (scheme, encoded) = header.split_once(' ')?;
    scheme.eq_ignore_ascii_case("basic").then(|| STANDARD.decode(encoded.trim()).ok()).flatten()
}

/// The version of the API that the platform speaks.
///
/// # Errors
/// 412 if it is missing, unreadable, or another API.
pub(super) fn version(headers: &HeaderMap) -> Result<ApiVersion, Failure> {
    let Some(header) = headers.get(VERSION_HEADER) else {
        return Err(unsupported(&format!("the header {VERSION_HEADER} is missing")));
    };
    let version = header.to_str().ok().and_then(|text| text.parse::<ApiVersion>().ok());
    match version {
        None => Err(unsupported(&format!("the header {VERSION_HEADER} is not of the form MAJOR.MINOR"))),
        Some(version) if version.major != ApiVersion::CURRENT.major => {
            Err(unsupported(&format!("version {version} of the API is not supported")))
        }
        Some(version) => Ok(version),
    }
}

/// 412, with the version to use.
pub(super) fn unsupported(why: &str) -> Failure {
    Failure { status: 412, ..Failure::invalid(format!("{why}; use version {}", ApiVersion::CURRENT)) }
}

/// Lets a request pass, or not; counts it, logs it, gives its identity back.
pub(crate) async fn pass(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let started = Instant::now();
    let gate = request.app_data::<Data<Gate>>().cloned();
    let method = request.method().as_str().to_owned();
    let identity = request.headers().get(REQUEST_IDENTITY_HEADER).cloned();
    let shown: String =
        identity.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().chars().take(MAX_IDENTITY_CHARS).collect();
    let span = info_span!("request", request.id = shown);
    let route = request.match_pattern().unwrap_or_else(|| "(none)".into());
    let mut response = match check(gate.as_deref().map(|gate| &**gate), &request, &route) {
        Err(refusal) => request.into_response(refused(&refusal)),
        Ok(timeout) => within(timeout, request, next).instrument(span.clone()).await?,
    };
    if let Some(identity) = identity {
        response.headers_mut().insert(HeaderName::from_static("x-broker-api-request-identity"), identity);
    }
    let (status, took) = (response.status().as_u16(), started.elapsed());
    if let Some(gate) = gate {
        gate.metrics.answered(&method, &route, status, took);
    }
    let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
    // the route, never the path or the query: ids are enough in the spans of operations
    span.in_scope(|| match response.response().error().and_then(|error| error.as_error::<Failure>()) {
        Some(failure) if status >= 500 => {
            let cause = failure.cause.as_deref().map(|cause| cause as &(dyn std::error::Error + 'static));
            error!(status, took_ms, error = cause, "{method} {route}: {failure}");
        }
        Some(failure) => info!(status, took_ms, "{method} {route}: {failure}"),
        None if route == "/healthz" => {}
        None => info!(status, took_ms, "{method} {route}"),
    });
    Ok(response)
}

fn check(gate: Option<&Gate>, request: &ServiceRequest, route: &str) -> Result<Duration, Failure> {
    let gate = gate.ok_or_else(|| Failure::internal("the broker is not ready"))?;
    if route == "/healthz" {
        return Ok(gate.timeout);
    }
    if !gate.knows(request.headers()) {
        return Err(Failure { status: 401, ..Failure::invalid("user name or password are wrong") });
    }
    if request.path().starts_with("/v2/") {
        version(request.headers())?;
    }
    Ok(gate.timeout)
}

fn refused(failure: &Failure) -> HttpResponse {
    let mut response = failure.error_response();
    if failure.status == 401 {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Basic realm=\"broker\""));
    }
    response
}

/// An answer in time: whoever sends its body too slowly does not keep us.
async fn within(
    timeout: Duration,
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    match tokio::time::timeout(timeout, next.call(request)).await {
        Ok(response) => Ok(response?.map_into_boxed_body()),
        Err(_) => {
            info!(status = 408, "a request took too long");
            Err(Failure { status: 408, ..Failure::invalid("the request took too long") }.into())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use foundation::Secret;

    fn gate() -> Gate {
        let pair = |user: &str, password: &str| RawCredential { user: user.into(), password: Secret::new(password) };
        Gate::new(&[pair("old", "one"), pair("new", "t:wo")], Duration::from_secs(1), Metrics::new().unwrap())
    }

    fn headers(value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, HeaderValue::from_str(value).unwrap());
        headers
    }

    #[test]
    fn every_pair_passes_and_nothing_else() {
        let sent = |pair: &str| headers(&format!("Basic {}", STANDARD.encode(pair)));
        assert!(gate().knows(&sent("old:one")));
        assert!(gate().knows(&sent("new:t:wo")));
        for wrong in ["old:two", "new:one", "old", "", ":", "old:one "] {
            assert!(!gate().knows(&sent(wrong)), "{wrong}");
        }
        for wrong in ["", "Basic", "Basic !", "Bearer b2xkOm9uZQ==", "b2xkOm9uZQ=="] {
            assert!(!gate().knows(&headers(wrong)), "{wrong}");
        }
        assert!(!gate().knows(&HeaderMap::new()));
    }

    proptest::proptest! {
        #[test]
        fn nothing_that_is_sent_panics(header in "[ -~]*") {
            let _ = basic(&header);
        }
    }
}
