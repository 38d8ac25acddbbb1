//! What the router adds to a request, and what it takes away.
//!
//! Source: cloudfoundry/gorouter, `proxy/proxy.go`, `handlers/x_forwarded_proto.go`, `handlers/hop_by_hop.go`,
//! `handlers/clientcert.go`.

use super::route_service::{FORWARDED_URL, METADATA, SIGNATURE};
use http::{HeaderMap, HeaderValue, Method, header};
use pingora_core::Result;
use pingora_http::{RequestHeader, ResponseHeader};
use std::net::IpAddr;

/// Headers that only the router may set: whatever a client says in them is dropped.
const OURS: [&str; 4] = ["x-cf-applicationid", "x-cf-instanceid", "x-cf-instanceindex", "x-forwarded-client-cert"];

/// Headers of the way through a route service, which a service hands back as it got them.
const SIGNED: [&str; 3] = [SIGNATURE, METADATA, FORWARDED_URL];

/// Headers that a client may not declare to be for this hop only, so that a proxy strips them.
const KEPT: [&str; 10] = [
    "authorization",
    "cookie",
    "host",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-proto",
    "x-request-start",
    "x-vcap-request-id",
    "x-b3-traceid",
    "traceparent",
];

/// What becomes of `X-Forwarded-Proto`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum ForwardedProto {
    /// A proxy in front may set it.
    #[default]
    Trust,
    /// Always the protocol of the connection.
    Sanitize,
    /// Always `https`.
    Https,
}

impl ForwardedProto {
    pub(crate) fn value(self, https: bool, said: Option<&HeaderValue>) -> HeaderValue {
        let own = HeaderValue::from_static(if https { "https" } else { "http" });
        match self {
            Self::Trust => said.cloned().unwrap_or(own),
            Self::Sanitize => own,
            Self::Https => HeaderValue::from_static("https"),
        }
    }
}

/// Prepares a client's request: removes what only the router may say. Call it once, before the first attempt.
///
/// With `signed` the headers of a route service stay: this router made them, and the request is for the service.
pub(crate) fn clean(request: &mut RequestHeader, signed: bool) -> Result<()> {
    for name in OURS.iter().chain(SIGNED.iter().filter(|_| !signed)) {
        if request.headers.contains_key(*name) {
            request.remove_header(*name);
        }
    }
    if request.headers.get_all(header::CONNECTION).iter().all(is_simple) {
        return Ok(());
    }
    let named: Vec<&str> = request.headers.get_all(header::CONNECTION).iter().filter_map(|v| v.to_str().ok()).collect();
    let kept: Vec<&str> = named.iter().flat_map(|v| v.split(',')).map(str::trim).filter(|name| !is_kept(name)).collect();
    let kept = kept.join(", ");
    request.remove_header(&header::CONNECTION);
    if !kept.is_empty() {
        request.insert_header(header::CONNECTION, kept)?;
    }
    Ok(())
}

fn is_simple(value: &HeaderValue) -> bool {
    let value = value.as_bytes();
    [&b"keep-alive"[..], b"close", b"upgrade"].iter().any(|known| value.eq_ignore_ascii_case(known))
}

fn is_kept(name: &str) -> bool {
    KEPT.iter().chain(&OURS).chain(&SIGNED).any(|known| known.eq_ignore_ascii_case(name))
}

/// The peer, behind whoever the client says to forward for.
pub(crate) fn forwarded_for(headers: &HeaderMap, peer: IpAddr) -> HeaderValue {
    use std::io::Write;
    let mut text = Vec::with_capacity(64);
    for said in headers.get_all("x-forwarded-for") {
        if !said.is_empty() {
            text.extend_from_slice(said.as_bytes());
            text.extend_from_slice(b", ");
        }
    }
    let _ = write!(text, "{peer}");
    HeaderValue::from_maybe_shared(bytes::Bytes::from(text)).unwrap_or(HeaderValue::from_static("-"))
}

/// True for requests that may be sent twice.
pub(crate) fn is_idempotent(request: &RequestHeader, body_empty: bool) -> bool {
    let method = matches!(request.method, Method::GET | Method::HEAD | Method::OPTIONS | Method::TRACE);
    let declared = || request.headers.contains_key("idempotency-key") || request.headers.contains_key("x-idempotency-key");
    body_empty && (method || declared())
}

/// Removes what an endpoint said for its own hop only.
pub(crate) fn clean_response(response: &mut ResponseHeader) {
    for name in ["keep-alive", "proxy-connection", "x-cf-proxy-signature"] {
        if response.headers.contains_key(name) {
            response.remove_header(name);
        }
    }
    if response.status.as_u16() != 101 && response.headers.contains_key(header::UPGRADE) {
        response.remove_header(&header::UPGRADE);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(headers: &[(&'static str, &str)]) -> RequestHeader {
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        for (name, value) in headers {
            request.append_header(*name, *value).unwrap();
        }
        request
    }

    #[test]
    fn a_client_cannot_speak_for_the_router() {
        let mut said = request(&[("X-CF-ApplicationID", "a"), ("x-forwarded-client-cert", "b"), ("X-Other", "c")]);
        clean(&mut said, false).unwrap();
        assert_eq!(said.headers.len(), 1);
        let mut said = request(&[("X-CF-Proxy-Signature", "a"), ("X-CF-Proxy-Metadata", "b"), ("X-CF-Forwarded-Url", "c")]);
        clean(&mut said, true).unwrap();
        assert_eq!(said.headers.len(), 3);
        clean(&mut said, false).unwrap();
        assert_eq!(said.headers.len(), 0);
    }

    #[test]
    fn protected_headers_cannot_be_declared_hop_by_hop() {
        let mut said =
            request(&[("Connection", "Keep-Alive, Authorization, X-Forwarded-For, X-Own"), ("Authorization", "bearer")]);
        clean(&mut said, false).unwrap();
        assert_eq!(said.headers[header::CONNECTION], "Keep-Alive, X-Own");
        let mut said = request(&[("Connection", "X-Vcap-Request-Id")]);
        clean(&mut said, false).unwrap();
        assert!(!said.headers.contains_key(header::CONNECTION));
    }

    #[test]
    fn the_peer_is_appended_to_those_forwarded_for() {
        let peer = "10.0.0.9".parse().unwrap();
        assert_eq!(forwarded_for(&request(&[]).headers, peer), "10.0.0.9");
        let said = request(&[("X-Forwarded-For", "1.1.1.1, 2.2.2.2"), ("X-Forwarded-For", "3.3.3.3")]);
        assert_eq!(forwarded_for(&said.headers, peer), "1.1.1.1, 2.2.2.2, 3.3.3.3, 10.0.0.9");
    }

    #[test]
    fn the_forwarded_protocol_follows_the_rule() {
        let said = HeaderValue::from_static("https");
        let value = |rule: ForwardedProto, https, said| rule.value(https, said).to_str().unwrap().to_owned();
        assert_eq!(value(ForwardedProto::Trust, false, Some(&said)), "https");
        assert_eq!(value(ForwardedProto::Trust, false, None), "http");
        assert_eq!(value(ForwardedProto::Sanitize, false, Some(&said)), "http");
        assert_eq!(value(ForwardedProto::Https, false, None), "https");
    }

    #[test]
    fn only_requests_without_effect_or_with_a_key_are_sent_twice() {
        assert!(is_idempotent(&request(&[]), true));
        assert!(!is_idempotent(&request(&[]), false));
        let mut post = request(&[]);
        post.set_method(Method::POST);
        assert!(!is_idempotent(&post, true));
        post.insert_header("Idempotency-Key", "1").unwrap();
        assert!(is_idempotent(&post, true));
    }
}
