//! One request, one answer: bounded in time and size, with credentials for the broker and nobody else.

use super::{
    Address, Call, Settings,
    guard::{self, Policy, Refusal, Way},
    interpret::Op,
    resolve, retry_after,
};
use crate::{ApiVersion, ORIGINATING_IDENTITY_HEADER, REQUEST_IDENTITY_HEADER, VERSION_HEADER};
use reqwest::{
    Client, Method, Response, StatusCode,
    header::{ACCEPT, CONTENT_TYPE, HOST, LOCATION, RETRY_AFTER},
    redirect,
};
use std::{
    error::Error,
    sync::{Arc, OnceLock},
    time::Duration,
};
use types::Clock;
use url::Url;

/// How often a broker may send us elsewhere on itself.
const MAX_REDIRECTS: usize = 3;

pub(super) struct Transport {
    settings: Settings,
    policy: Arc<Policy>,
    clock: Arc<dyn Clock>,
    verified: Ways,
    /// Made when the first broker asks for it.
    unverified: OnceLock<Ways>,
}

/// A client for each way to a broker.
struct Ways {
    exact: Client,
    guarded: Client,
    router_http: Client,
    router_https: Client,
}

pub(super) struct Request<'a> {
    pub(super) op: Op,
    pub(super) method: Method,
    /// With its query.
    pub(super) path: String,
    pub(super) body: Option<Vec<u8>>,
    pub(super) call: &'a Call,
}

/// An answer that came to its end.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Body,
}

#[derive(Debug)]
pub(super) enum Body {
    Whole(Vec<u8>),
    /// It has more bytes than this.
    TooLarge(usize),
}

/// No answer.
#[derive(Debug)]
pub(super) enum Broken {
    /// The guard of addresses; nothing was sent.
    Refused(String),
    /// No name or no connection; nothing was sent. With the last cause.
    Unreachable(String),
    /// Too late; `sent`: the broker may have seen the request.
    Timeout { sent: bool },
    /// The connection broke when the broker may have seen the request.
    Lost(String),
    /// To another place, where nobody takes our credentials.
    Redirected(u16, &'static str),
}

impl Transport {
    pub(super) fn new(settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, reqwest::Error> {
        let policy = Arc::new(settings.policy.clone());
        let verified = Ways::new(&settings, &policy, false)?;
        Ok(Self { settings, policy, clock, verified, unverified: OnceLock::new() })
    }

    pub(super) fn policy(&self) -> &Policy {
        &self.policy
    }

    pub(super) async fn exchange(&self, address: &Address, request: Request<'_>) -> Result<Answer, Broken> {
        match tokio::time::timeout(self.settings.timeout, self.follow(address, request)).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Broken::Timeout { sent: true }),
        }
    }

    async fn follow(&self, address: &Address, request: Request<'_>) -> Result<Answer, Broken> {
        let mut url = target(&address.url, &request.path).ok_or_else(|| Broken::Refused("it is not a base address".into()))?;
        for _ in 0..=MAX_REDIRECTS {
            let response = self.send(&url, address, &request).await?;
            let status = response.status();
            let keeps_method = matches!(status, StatusCode::TEMPORARY_REDIRECT | StatusCode::PERMANENT_REDIRECT);
            let may_follow = keeps_method || (request.method == Method::GET && is_redirect(status));
            if !may_follow {
                return self.read(response, request.op).await;
            }
            let location = response.headers().get(LOCATION).and_then(|value| value.to_str().ok());
            let next = location.and_then(|location| url.join(location).ok());
            url = match next {
                Some(next) if next.origin() == url.origin() => without_user(next),
                Some(_) => return Err(Broken::Redirected(status.as_u16(), "to another host, which is not followed")),
                None => return Err(Broken::Redirected(status.as_u16(), "to nowhere")),
            };
        }
        Err(Broken::Redirected(StatusCode::PERMANENT_REDIRECT.as_u16(), "too often"))
    }

    async fn send(&self, url: &Url, address: &Address, request: &Request<'_>) -> Result<Response, Broken> {
        let way = self.policy.way(url).map_err(|refusal| Broken::Refused(refusal.to_string()))?;
        let ways = self.ways(address.skip_tls_verify || self.skips_tls_verify(url))?;
        let mut to = url.clone();
        let client = match way {
            Way::Exact => &ways.exact,
            Way::Guarded => &ways.guarded,
            // the router's port counts, not the one in the address; that stays in the header `Host`
            Way::Router(_) => {
                to.set_port(None).map_err(|()| Broken::Refused("it has no port".into()))?;
                if url.scheme() == "https" { &ways.router_https } else { &ways.router_http }
            }
        };
        let mut builder = client
            .request(request.method.clone(), to)
            .basic_auth(&address.user, Some(address.password.expose()))
            .header(VERSION_HEADER, ApiVersion::CURRENT.to_string())
            .header(REQUEST_IDENTITY_HEADER, &request.call.request_id)
            .header("X-Vcap-Request-Id", &request.call.request_id)
            .header(ACCEPT, "application/json");
        if let (Way::Router(_), Some(host), Some(port)) = (way, url.host_str(), url.port()) {
            builder = builder.header(HOST, format!("{host}:{port}"));
        }
        if let Some(identity) = &request.call.identity {
            builder = builder.header(ORIGINATING_IDENTITY_HEADER, identity.encode());
        }
        if let Some(location) = &self.settings.info_location {
            builder = builder.header("X-Api-Info-Location", location);
        }
        if let Some(body) = &request.body {
            builder = builder.header(CONTENT_TYPE, "application/json").body(body.clone());
        }
        builder.send().await.map_err(|error| broken(&error))
    }

    async fn read(&self, mut response: Response, op: Op) -> Result<Answer, Broken> {
        let limit = if op == Op::Catalog { self.settings.max_catalog_bytes } else { self.settings.max_answer_bytes };
        let header = response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let retry_after = header.and_then(|header| retry_after::parse(header, self.clock.now()));
        let status = response.status().as_u16();
        let mut body = vec![];
        let announced = response.content_length().unwrap_or_default();
        if announced > limit as u64 {
            return Ok(Answer { status, retry_after, body: Body::TooLarge(limit) });
        }
        while let Some(chunk) = response.chunk().await.map_err(|error| broken(&error))? {
            if body.len() + chunk.len() > limit {
                return Ok(Answer { status, retry_after, body: Body::TooLarge(limit) });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, retry_after, body: Body::Whole(body) })
    }

    fn skips_tls_verify(&self, url: &Url) -> bool {
        let place = || Some((guard::name(&url.host()?), url.port_or_known_default()?));
        place().is_some_and(|place| self.settings.skip_tls_verify.contains(&place))
    }

    fn ways(&self, skip_tls_verify: bool) -> Result<&Ways, Broken> {
        if !skip_tls_verify {
            return Ok(&self.verified);
        }
        if let Some(ways) = self.unverified.get() {
            return Ok(ways);
        }
        let made = Ways::new(&self.settings, &self.policy, true).map_err(|error| broken(&error))?;
        Ok(self.unverified.get_or_init(|| made))
    }
}

impl Ways {
    fn new(settings: &Settings, policy: &Arc<Policy>, skip_tls_verify: bool) -> Result<Self, reqwest::Error> {
        let mut authorities = vec![];
        for pem in &settings.authorities {
            authorities.extend(reqwest::Certificate::from_pem_bundle(pem)?);
        }
        let builder = || {
            Client::builder()
                .no_proxy()
                .redirect(redirect::Policy::none())
                .connect_timeout(settings.connect_timeout.min(settings.timeout))
                .pool_max_idle_per_host(4)
                .user_agent(concat!("cupola/", env!("CARGO_PKG_VERSION")))
                .tls_certs_merge(authorities.clone())
                .tls_danger_accept_invalid_certs(skip_tls_verify)
        };
        let router = |https| resolve::ToRouter { policy: policy.clone(), https };
        Ok(Self {
            exact: builder().build()?,
            guarded: builder().dns_resolver(resolve::Guarded(policy.clone())).build()?,
            // Only HTTP/1.1 lets the header `Host` differ from where the request goes.
            router_http: builder().http1_only().dns_resolver(router(false)).build()?,
            router_https: builder().http1_only().dns_resolver(router(true)).build()?,
        })
    }
}

/// The base address with this path behind it.
fn target(base: &Url, path_and_query: &str) -> Option<Url> {
    if base.cannot_be_a_base() {
        return None;
    }
    let mut base = without_user(base.clone());
    base.set_query(None);
    base.set_fragment(None);
    format!("{}{path_and_query}", base.as_str().trim_end_matches('/')).parse().ok()
}

/// Credentials come from the broker's record alone.
fn without_user(mut url: Url) -> Url {
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url
}

fn is_redirect(status: StatusCode) -> bool {
    matches!(status.as_u16(), 301 | 302 | 303 | 307 | 308)
}

/// What an error of the library means for us.
fn broken(error: &reqwest::Error) -> Broken {
    let mut cause: &(dyn Error + 'static) = error;
    let mut text = cause.to_string();
    loop {
        if let Some(refusal) = cause.downcast_ref::<Refusal>() {
            return Broken::Refused(refusal.to_string());
        }
        match cause.source() {
            Some(source) => {
                cause = source;
                text = cause.to_string();
            }
            None => break,
        }
    }
    match (error.is_connect() || error.is_builder(), error.is_timeout()) {
        (connecting, true) => Broken::Timeout { sent: !connecting },
        (true, false) => Broken::Unreachable(text),
        (false, false) => Broken::Lost(text),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_base_address_may_have_a_path_and_loses_what_else_it_has() {
        for (base, whole) in [
            ("https://b.example.com", "https://b.example.com/v2/catalog?x=1"),
            ("https://b.example.com/", "https://b.example.com/v2/catalog?x=1"),
            ("http://u:p@b.example.com:81/base/?q=1#f", "http://b.example.com:81/base/v2/catalog?x=1"),
        ] {
            assert_eq!(target(&base.parse().unwrap(), "/v2/catalog?x=1").unwrap().as_str(), whole);
        }
        assert_eq!(target(&"mailto:a@b".parse().unwrap(), "/"), None);
    }
}
