//! Answers that the router makes itself.
//!
//! Each carries `X-Cf-RouterError`, which tells the platform's errors from an app's, and `no-store`, so that no cache in
//! front keeps an error.
//!
//! Source: cloudfoundry/gorouter, `handlers/lookup.go`, `proxy/round_tripper/error_handler.go`, `errorwriter/error_writer.go`.

use http::{HeaderValue, StatusCode, header};
use pingora_core::{Error, ErrorSource, ErrorType, Result};
use pingora_http::ResponseHeader;
use std::borrow::Cow;

/// `X-Cf-RouterError`
pub(crate) const ROUTER_ERROR: &str = "X-Cf-RouterError";

/// An answer that the router makes itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub(crate) status: u16,
    /// Value of `X-Cf-RouterError`.
    pub(crate) error: Cow<'static, str>,
    /// The sentence behind status and reason; `None` for an empty body.
    pub(crate) message: Option<String>,
    cache: &'static str,
}

impl Refusal {
    pub(crate) fn new(status: u16, error: impl Into<Cow<'static, str>>, message: impl Into<String>) -> Self {
        Self { status, error: error.into(), message: Some(message.into()), cache: "no-cache, no-store" }
    }

    pub(crate) fn empty_host() -> Self {
        Self { cache: "public,max-age=2", ..Self::new(400, "empty_host", "Request had empty Host header") }
    }

    pub(crate) fn unknown_route(host: &str) -> Self {
        Self::new(404, "unknown_route", format!("Requested route ('{host}') does not exist."))
    }

    pub(crate) fn unknown_instance(guid: &str, index: &str, host: &str) -> Self {
        let text = format!("Requested instance ('{index}') with guid ('{guid}') does not exist for route ('{host}')");
        Self::new(400, "unknown_route", text)
    }

    pub(crate) fn no_endpoints(host: &str) -> Self {
        Self::new(503, "no_endpoints", format!("Requested route ('{host}') has no available endpoints."))
    }

    pub(crate) fn overloaded(host: &str) -> Self {
        Self::new(503, "Connection Limit Reached", format!("Requested route ('{host}') has reached the connection limit."))
    }

    pub(crate) fn too_large() -> Self {
        Self { message: None, ..Self::new(431, "max-request-size-exceeded", "") }
    }

    pub(crate) fn malformed(why: &str) -> Self {
        Self::new(400, "invalid_request", why)
    }

    /// What the client hears when no endpoint could answer; `None` when there is nobody left to hear it.
    pub(crate) fn of_failure(e: &Error) -> Option<Self> {
        match (e.esource(), e.etype()) {
            (ErrorSource::Downstream, ErrorType::InvalidHTTPHeader | ErrorType::H1Error | ErrorType::ConnectError) => {
                Some(Self::malformed("The request is malformed."))
            }
            (ErrorSource::Downstream, ErrorType::ReadTimedout) => {
                Some(Self::new(408, "request_timeout", "The request did not arrive in time."))
            }
            (ErrorSource::Downstream, _) => None,
            (ErrorSource::Internal, ErrorType::InvalidHTTPHeader) => Some(Self::malformed("The request is malformed.")),
            (ErrorSource::Internal, _) => Some(Self::new(502, "unknown_failure", "An unknown error caused the request to fail.")),
            (_, kind) => Some(Self::endpoint_failure(kind, e)),
        }
    }

    fn endpoint_failure(kind: &ErrorType, e: &Error) -> Self {
        let (status, reason) = match kind {
            ErrorType::TLSHandshakeFailure | ErrorType::HandshakeError | ErrorType::InvalidCert => handshake(&e.to_string()),
            ErrorType::TLSHandshakeTimedout => (525, "tls: handshake timeout"),
            kind => (502, reason(kind)),
        };
        Self::new(status, format!("endpoint_failure ({reason})"), "Registered endpoint failed to handle the request.")
    }

    /// The response's head; the body is [`Refusal::body`].
    pub(crate) fn head(&self, request_id: Option<&HeaderValue>) -> Result<ResponseHeader> {
        let mut head = ResponseHeader::build(self.status, Some(8))?;
        head.insert_header(ROUTER_ERROR, value(&self.error))?;
        head.insert_header("Cache-Control", self.cache)?;
        head.insert_header("X-Content-Type-Options", "nosniff")?;
        if self.message.is_some() {
            head.insert_header("Content-Type", "text/plain; charset=utf-8")?;
        }
        head.insert_header(header::CONTENT_LENGTH, self.body().len())?;
        if let Some(id) = request_id {
            head.insert_header("X-Vcap-Request-Id", id.clone())?;
        }
        Ok(head)
    }

    /// `404 Not Found: ...`
    pub(crate) fn body(&self) -> String {
        let Some(message) = &self.message else { return String::new() };
        format!("{} {}: {message}\n", self.status, status_text(self.status))
    }

    /// The whole answer as HTTP/1.1 bytes, for connections that never became a request. The connection ends with it.
    pub(crate) fn to_http1(&self) -> Vec<u8> {
        let body = self.body();
        let kind = if body.is_empty() { "" } else { "Content-Type: text/plain; charset=utf-8\r\n" };
        format!(
            "HTTP/1.1 {} {}\r\n{ROUTER_ERROR}: {}\r\nCache-Control: {}\r\nX-Content-Type-Options: nosniff\r\n{kind}Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            self.status,
            status_text(self.status),
            self.error,
            self.cache,
            body.len(),
        )
        .into_bytes()
    }
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or(HeaderValue::from_static("endpoint_failure"))
}

fn status_text(status: u16) -> &'static str {
    StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default()
}

/// Why an endpoint failed, in words that name no address.
fn reason(kind: &ErrorType) -> &'static str {
    match kind {
        ErrorType::ConnectRefused => "dial: connect: connection refused",
        ErrorType::ConnectTimedout => "dial: i/o timeout",
        ErrorType::ConnectNoRoute => "dial: connect: no route to host",
        ErrorType::ConnectError | ErrorType::SocketError | ErrorType::BindError => "dial: connect: failed",
        ErrorType::ReadTimedout => "net/http: timeout awaiting response",
        ErrorType::WriteTimedout => "write: i/o timeout",
        ErrorType::ConnectionClosed => "EOF",
        ErrorType::ReadError => "read: connection reset by peer",
        ErrorType::WriteError => "write: broken pipe",
        ErrorType::InvalidHTTPHeader => "net/http: malformed response",
        ErrorType::H2Error | ErrorType::InvalidH2 | ErrorType::H2Downgrade => "http2: protocol error",
        _ => "failed",
    }
}

/// What went wrong with an endpoint's TLS, from the words of the library.
fn handshake(words: &str) -> (u16, &'static str) {
    let words = words.to_ascii_lowercase();
    if words.contains("not valid for name") || words.contains("notvalidforname") {
        (503, "x509: certificate is not valid for the instance")
    } else if words.contains("certificate required") || words.contains("certificaterequired") {
        (496, "tls: certificate required")
    } else if words.contains("certificate") {
        (526, "x509: certificate is not trusted")
    } else {
        (525, "tls: handshake failed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_the_official_ones() {
        let bodies = [
            (Refusal::unknown_route("x.y"), "404 Not Found: Requested route ('x.y') does not exist.\n"),
            (Refusal::no_endpoints("x"), "503 Service Unavailable: Requested route ('x') has no available endpoints.\n"),
            (Refusal::overloaded("x"), "503 Service Unavailable: Requested route ('x') has reached the connection limit.\n"),
            (Refusal::empty_host(), "400 Bad Request: Request had empty Host header\n"),
            (Refusal::too_large(), ""),
        ];
        for (refusal, body) in bodies {
            assert_eq!(refusal.body(), body);
        }
    }

    #[test]
    fn failures_have_the_official_codes() {
        let cases = [
            (ErrorType::ConnectRefused, 502, "endpoint_failure (dial: connect: connection refused)"),
            (ErrorType::ReadTimedout, 502, "endpoint_failure (net/http: timeout awaiting response)"),
            (ErrorType::TLSHandshakeTimedout, 525, "endpoint_failure (tls: handshake timeout)"),
        ];
        for (kind, status, error) in cases {
            let refusal = Refusal::of_failure(&Error::new_up(kind)).unwrap();
            assert_eq!((refusal.status, &*refusal.error), (status, error));
        }
        for (words, status) in [
            ("invalid peer certificate: certificate not valid for name \"a\"", 503),
            ("invalid peer certificate: UnknownIssuer", 526),
            ("received fatal alert: CertificateRequired", 496),
            ("received corrupt message of type InvalidContentType", 525),
        ] {
            assert_eq!(handshake(words).0, status, "{words}");
        }
        assert_eq!(Refusal::of_failure(&Error::new_down(ErrorType::ConnectionClosed)), None);
    }
}
