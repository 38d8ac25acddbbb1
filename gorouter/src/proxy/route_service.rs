//! Route services: what stands between a route and its app.
//!
//! A request to a route with a service goes to the service first, with the URL that it was sent to and a signature over it.
//! The service sends both back to that URL, and only then the request reaches the app. The signature is sealed with a key
//! that no one but the router has, so that nobody gets round the service by making one.
//!
//! A service that is a route of this router is reached through the router's own listener, everything else over verified TLS;
//! addresses of this host and of its links are refused unless the operator allows them.
//!
//! Source: cloudfoundry/gorouter, `handlers/routeservice.go`, `routeservice/routeservice_config.go`, `routeservice/signature.go`.

use super::{
    backend::{BackendSettings, set_options},
    refusal::Refusal,
};
use crate::table::Moment;
use aes_gcm::{Aes256Gcm, KeyInit, aead::Aead};
use base64::{
    Engine,
    engine::{
        DecodePaddingMode,
        general_purpose::{GeneralPurpose, GeneralPurposeConfig, STANDARD},
    },
};
use http::{HeaderMap, HeaderValue, Uri, header, uri::PathAndQuery};
use parking_lot::Mutex;
use pingora_core::{
    Error, ErrorType, Result,
    protocols::tls::CaType,
    upstreams::peer::HttpPeer,
    utils::tls::{WrappedX509, parse_x509},
};
use pingora_http::RequestHeader;
use rand::Rng;
use rustls::pki_types::{CertificateDer, pem::PemObject};
use serde::{Deserialize, Serialize};
use std::{
    collections::HashMap,
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, OnceLock},
    time::Duration,
};
use types::Timestamp;

/// The URL that the client's request was sent to.
pub(crate) const FORWARDED_URL: &str = "x-cf-forwarded-url";
/// The sealed signature.
pub(crate) const SIGNATURE: &str = "x-cf-proxy-signature";
/// What opens the signature, apart from the key.
pub(crate) const METADATA: &str = "x-cf-proxy-metadata";

/// How long a service may take.
const VALID: Duration = Duration::from_secs(60);
/// How long found addresses of a service are used.
const KNOWN: Duration = Duration::from_secs(5);
const MAX_KNOWN: usize = 1_000;
const LOOKUP: Duration = Duration::from_secs(5);
const NONCE: usize = 12;
const KEY_FILE: &str = "route_service.key";
/// With padding or without: services are known to drop it.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// Where a route's service is.
#[derive(Debug, PartialEq)]
pub(crate) struct Target {
    host: String,
    port: u16,
    authority: HeaderValue,
    path: PathAndQuery,
}

impl Target {
    /// Reads an `https` URL; user names in it are left out.
    pub(crate) fn parse(url: &str) -> Option<Self> {
        let uri: Uri = url.parse().ok()?;
        let named = uri.authority()?;
        if uri.scheme_str() != Some("https") || named.host().is_empty() {
            return None;
        }
        let port = named.port_u16();
        if port.is_none() && named.as_str().ends_with(|last: char| last == ':' || last.is_ascii_digit()) {
            // A port that is none: `host:`, `host:99999`.
            let after = named.as_str().rsplit_once('@').map_or(named.as_str(), |(_, after)| after);
            if after.len() != named.host().len() {
                return None;
            }
        }
        let authority = match port {
            None | Some(443) => named.host().to_owned(),
            Some(port) => format!("{}:{port}", named.host()),
        };
        let path = uri.path_and_query().filter(|path| !path.as_str().is_empty()).cloned();
        Some(Self {
            host: named.host().trim_matches(['[', ']']).to_ascii_lowercase(),
            port: port.unwrap_or(443),
            authority: HeaderValue::from_str(&authority).ok()?,
            path: path.unwrap_or(PathAndQuery::from_static("/")),
        })
    }
}

/// Settings of the part.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// The platform's authority, trusted beside those of the system.
    pub(crate) ca: Option<PathBuf>,
    /// Services may be at addresses of this host and of its links.
    pub(crate) allow_local: bool,
}

/// Why route services cannot work.
#[derive(Debug, thiserror::Error)]
pub enum RouteServiceError {
    /// The key can neither be read nor made.
    #[error("cannot use {0}")]
    Key(PathBuf, #[source] io::Error),
    /// The file is no key.
    #[error("{0} does not hold 32 bytes in base64")]
    Shape(PathBuf),
    /// The authority's certificate cannot be read.
    #[error("cannot read {0}")]
    Authority(PathBuf, #[source] rustls::pki_types::pem::Error),
}

/// Signs requests on their way to services, and knows them when they come back.
pub(crate) struct RouteServices {
    cipher: Aes256Gcm,
    roots: Arc<CaType>,
    allow_local: bool,
    own: OnceLock<Own>,
    known: Mutex<Known>,
}

/// Addresses of names and ports, and when they were found.
type Known = HashMap<(String, u16), (Moment, Arc<[SocketAddr]>)>;

/// The router's own listeners.
#[derive(Debug)]
struct Own {
    /// `https://`
    scheme: &'static str,
    /// `:8443`, or nothing for the scheme's own.
    port: String,
    /// Where the router reaches itself, and whether that takes TLS.
    address: SocketAddr,
    tls: bool,
}

/// What a request's signature says.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Signed {
    /// There is none.
    No,
    /// The router made it for this URL, a moment ago.
    For(String),
    /// The router made it, but too long ago.
    Expired,
    /// The router never made it.
    Forged,
}

#[derive(Serialize, Deserialize)]
struct Contents {
    forwarded_url: String,
    /// Microseconds since the epoch.
    requested_time: u64,
}

#[derive(Serialize, Deserialize)]
struct Metadata {
    nonce: String,
}

impl RouteServices {
    /// Reads the key, or makes it at the first start, and the authorities.
    pub(crate) fn open(state: &Path, settings: &Settings, rng: &mut dyn Rng) -> Result<Self, RouteServiceError> {
        Ok(Self {
            cipher: Aes256Gcm::new(&key(&state.join(KEY_FILE), rng)?.into()),
            roots: roots(settings.ca.as_deref())?,
            allow_local: settings.allow_local,
            own: OnceLock::new(),
            known: Mutex::default(),
        })
    }

    /// Tells where the router listens; once, when it is known.
    pub(crate) fn listen(&self, http: Option<SocketAddr>, https: Option<SocketAddr>) {
        let suffix = |port: u16, usual: u16| if port == usual { String::new() } else { format!(":{port}") };
        let (scheme, port) = match (https, http) {
            (Some(https), _) => ("https://", suffix(https.port(), 443)),
            (None, Some(http)) => ("http://", suffix(http.port(), 80)),
            (None, None) => return,
        };
        if let Some(listener) = http.or(https) {
            let ip = match listener.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
                IpAddr::V6(ip) if ip.is_unspecified() => Ipv6Addr::LOCALHOST.into(),
                ip => ip,
            };
            let _ = self.own.set(Own { scheme, port, address: (ip, listener.port()).into(), tls: http.is_none() });
        }
    }

    /// The URL that a request was sent to, as the service has to send it back.
    pub(crate) fn url(&self, host: &[u8], path: &[u8]) -> String {
        let host = String::from_utf8_lossy(host).to_ascii_lowercase();
        let host = match host.rsplit_once(':') {
            Some((name, port)) if port.bytes().all(|b| b.is_ascii_digit()) => name,
            _ => &host,
        };
        let (scheme, port) = self.own.get().map_or(("https://", ""), |own| (own.scheme, &own.port));
        format!("{scheme}{host}{port}{}", String::from_utf8_lossy(path))
    }

    /// What the signature of a request says.
    pub(crate) fn read(&self, headers: &HeaderMap, now: Timestamp) -> Signed {
        let Some(signature) = headers.get(SIGNATURE) else { return Signed::No };
        let contents = headers.get(METADATA).and_then(|metadata| self.open_sealed(signature.as_bytes(), metadata.as_bytes()));
        match contents {
            None => Signed::Forged,
            Some(contents) if now.since(Timestamp(contents.requested_time)) > VALID => Signed::Expired,
            Some(contents) => Signed::For(contents.forwarded_url),
        }
    }

    fn open_sealed(&self, signature: &[u8], metadata: &[u8]) -> Option<Contents> {
        let metadata: Metadata = serde_json::from_slice(&BASE64.decode(metadata).ok()?).ok()?;
        let nonce: [u8; NONCE] = STANDARD.decode(metadata.nonce).ok()?.try_into().ok()?;
        let sealed = BASE64.decode(signature).ok()?;
        serde_json::from_slice(&self.cipher.decrypt(&nonce.into(), &sealed[..]).ok()?).ok()
    }

    /// Readies a request for the service; `url` is what the client asked for.
    pub(crate) fn address(
        &self,
        request: &mut RequestHeader,
        target: &Target,
        url: String,
        now: Timestamp,
        rng: &mut dyn Rng,
    ) -> Result<()> {
        let mut nonce = [0; NONCE];
        rng.fill_bytes(&mut nonce);
        let failed = |e: String| Error::explain(ErrorType::InternalError, e);
        let contents = Contents { forwarded_url: url, requested_time: now.0 };
        let plain = serde_json::to_vec(&contents).map_err(|e| failed(e.to_string()))?;
        let sealed = self.cipher.encrypt(&nonce.into(), &plain[..]).map_err(|e| failed(e.to_string()))?;
        let metadata = serde_json::to_vec(&Metadata { nonce: STANDARD.encode(nonce) }).map_err(|e| failed(e.to_string()))?;
        request.insert_header(header::HOST, target.authority.clone())?;
        request.set_uri(Uri::from(target.path.clone()));
        // Wishes for an instance are about the app, not about the service.
        for name in [super::APP_INSTANCE, super::PROCESS_INSTANCE] {
            if request.headers.contains_key(name) {
                request.remove_header(name);
            }
        }
        request.insert_header(
            FORWARDED_URL,
            HeaderValue::from_bytes(contents.forwarded_url.as_bytes()).map_err(|e| failed(e.to_string()))?,
        )?;
        request.insert_header(SIGNATURE, BASE64.encode(sealed))?;
        request.insert_header(METADATA, BASE64.encode(metadata))?;
        Ok(())
    }

    /// Whom to connect to, at the given attempt (from 1); `routed`: this router serves the host of the service.
    pub(crate) async fn peer(
        &self,
        target: &Target,
        routed: bool,
        attempt: usize,
        settings: &BackendSettings,
        now: Moment,
    ) -> Result<Box<HttpPeer>> {
        let refused = |why: &'static str| Error::explain(ErrorType::ConnectError, why).into_up();
        if routed {
            let own = self.own.get().ok_or_else(|| refused("the router does not listen yet"))?;
            let name = if own.tls { target.host.clone() } else { String::new() };
            let mut peer = HttpPeer::new(own.address, own.tls, name);
            set_options(&mut peer, settings);
            self.trust(&mut peer);
            return Ok(Box::new(peer));
        }
        let addresses = self.find(target, now).await.ok_or_else(|| refused("the route service has no address"))?;
        let allowed: Vec<SocketAddr> = addresses.iter().copied().filter(|a| self.allow_local || !is_local(a.ip())).collect();
        let count = allowed.len().max(1);
        let address = allowed.get(attempt.saturating_sub(1) % count);
        let address = address.ok_or_else(|| refused("the route service is at an address that is not allowed"))?;
        let mut peer = HttpPeer::new(*address, true, target.host.clone());
        set_options(&mut peer, settings);
        self.trust(&mut peer);
        Ok(Box::new(peer))
    }

    fn trust(&self, peer: &mut HttpPeer) {
        if peer.is_tls() {
            peer.options.ca = Some(self.roots.clone());
            // Never a connection that was opened to an endpoint, with other authorities.
            peer.group_key = 1;
        }
    }

    async fn find(&self, target: &Target, now: Moment) -> Option<Arc<[SocketAddr]>> {
        if let Ok(ip) = target.host.parse::<IpAddr>() {
            return Some(Arc::from([SocketAddr::new(ip, target.port)]));
        }
        let name = (target.host.clone(), target.port);
        if let Some((since, addresses)) = self.known.lock().get(&name)
            && now < *since + KNOWN
        {
            return Some(addresses.clone());
        }
        let found = tokio::time::timeout(LOOKUP, tokio::net::lookup_host((target.host.as_str(), target.port))).await;
        let addresses: Arc<[SocketAddr]> = found.ok()?.ok()?.collect();
        let mut known = self.known.lock();
        if known.len() >= MAX_KNOWN {
            known.clear();
        }
        known.insert(name, (now, addresses.clone()));
        Some(addresses)
    }
}

impl Target {
    /// True if it may have several addresses.
    pub(crate) fn has_name(&self) -> bool {
        self.host.parse::<IpAddr>().is_err()
    }

    /// Host and path, for the table.
    pub(crate) fn place(&self) -> (&[u8], &[u8]) {
        (self.host.as_bytes(), self.path.path().as_bytes())
    }
}

/// A signature that does not hold on a route that has a service.
pub(crate) fn refusal(signed: &Signed) -> Refusal {
    match signed {
        Signed::Expired => Refusal::new(
            504,
            "expired_route_service_signature",
            "Failed to validate Route Service Signature: Route service request expired.",
        ),
        _ => Refusal::new(502, "invalid_route_service_signature", "Failed to validate Route Service Signature."),
    }
}

fn is_local(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || ip.is_multicast()
                || ip.is_broadcast()
                || ip.octets()[0] == 0
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unicast_link_local() || ip.is_unspecified() || ip.is_multicast(),
    }
}

fn key(path: &Path, rng: &mut dyn Rng) -> Result<[u8; 32], RouteServiceError> {
    let failed = |e| RouteServiceError::Key(path.to_owned(), e);
    match std::fs::read_to_string(path) {
        Ok(text) => {
            let bytes = STANDARD.decode(text.trim()).ok().and_then(|bytes| bytes.try_into().ok());
            bytes.ok_or_else(|| RouteServiceError::Shape(path.to_owned()))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let mut key = [0; 32];
            rng.fill_bytes(&mut key);
            path.parent().map_or(Ok(()), std::fs::create_dir_all).map_err(failed)?;
            // Whole or not at all: a torn key would keep the router from ever starting again.
            let fresh = path.with_extension("new");
            let _ = std::fs::remove_file(&fresh);
            let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&fresh).map_err(failed)?;
            file.write_all(STANDARD.encode(key).as_bytes()).and_then(|()| file.sync_all()).map_err(failed)?;
            std::fs::rename(&fresh, path).map_err(failed)?;
            Ok(key)
        }
        Err(e) => Err(failed(e)),
    }
}

fn roots(ca: Option<&Path>) -> Result<Arc<CaType>, RouteServiceError> {
    let mut all = rustls_native_certs::load_native_certs().certs;
    if let Some(path) = ca {
        let failed = |e| RouteServiceError::Authority(path.to_owned(), e);
        for certificate in CertificateDer::pem_file_iter(path).map_err(failed)? {
            all.push(certificate.map_err(failed)?);
        }
    }
    let mut usable = rustls::RootCertStore::empty();
    let good = all.into_iter().filter(|certificate| {
        let parses = x509_parser::parse_x509_certificate(certificate).is_ok();
        parses && usable.add(certificate.clone()).is_ok()
    });
    Ok(good.map(|certificate| WrappedX509::new(certificate.to_vec(), parse_x509)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::{SeedableRng, rngs::StdRng};

    fn services(folder: &Path) -> RouteServices {
        let settings = Settings { ca: None, allow_local: false };
        let services = RouteServices::open(folder, &settings, &mut StdRng::seed_from_u64(3)).unwrap();
        services.listen(Some("0.0.0.0:80".parse().unwrap()), Some("0.0.0.0:8443".parse().unwrap()));
        services
    }

    fn signed(services: &RouteServices, url: &str, now: Timestamp) -> HeaderMap {
        let target = Target::parse("https://service.x/in?a=b").unwrap();
        let mut request = RequestHeader::build("GET", b"/", None).unwrap();
        services.address(&mut request, &target, url.to_owned(), now, &mut StdRng::seed_from_u64(4)).unwrap();
        assert_eq!(
            (request.raw_path(), &request.headers[header::HOST]),
            (&b"/in?a=b"[..], &HeaderValue::from_static("service.x"))
        );
        assert_eq!(request.headers[FORWARDED_URL], url);
        request.headers.clone()
    }

    #[test]
    fn a_signature_holds_for_a_minute_and_only_as_it_was_made() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path());
        let now = Timestamp::from_secs(1_000);
        let headers = signed(&services, "https://app.x/a?b", now);
        assert_eq!(services.read(&headers, now + VALID), Signed::For("https://app.x/a?b".into()));
        assert_eq!(services.read(&headers, now + VALID + Duration::from_secs(1)), Signed::Expired);
        for name in [SIGNATURE, METADATA] {
            let mut forged = headers.clone();
            let text = forged[name].to_str().unwrap().to_owned();
            let other = if text.starts_with('A') { 'B' } else { 'A' };
            forged.insert(name, format!("{other}{}", &text[1..]).parse().unwrap());
            assert_eq!(services.read(&forged, now), Signed::Forged, "{name}");
            forged.remove(name);
            assert_ne!(services.read(&forged, now), Signed::For("https://app.x/a?b".into()), "{name}");
        }
        // After a restart, too.
        assert_eq!(self::services(folder.path()).read(&headers, now), Signed::For("https://app.x/a?b".into()));
        // But another router's key is another one.
        let other = tempfile::tempdir().unwrap();
        let settings = Settings { ca: None, allow_local: false };
        let other = RouteServices::open(other.path(), &settings, &mut StdRng::seed_from_u64(9)).unwrap();
        assert_eq!(other.read(&headers, now), Signed::Forged);
    }

    #[test]
    fn a_key_that_is_none_is_told_and_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join(KEY_FILE), "short").unwrap();
        let settings = Settings { ca: None, allow_local: false };
        let opened = RouteServices::open(folder.path(), &settings, &mut StdRng::seed_from_u64(1));
        assert!(matches!(opened, Err(RouteServiceError::Shape(_))));
    }

    #[test]
    fn the_forwarded_url_names_the_public_port_whatever_the_client_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let services = services(folder.path());
        for host in ["App.x", "app.x:80", "app.x:8443"] {
            assert_eq!(services.url(host.as_bytes(), b"/a?b=%20"), "https://app.x:8443/a?b=%20");
        }
    }

    #[test]
    fn only_https_urls_with_a_host_are_services() {
        for good in
            ["https://a.b", "https://a.b/", "https://a.b:8443/x?y", "https://u:p@a.b/x", "https://[::1]:5/", "https://10.0.0.1"]
        {
            assert!(Target::parse(good).is_some(), "{good}");
        }
        assert_eq!(Target::parse("https://u:p@A.b/x").unwrap().authority, "A.b");
        for bad in ["http://a.b", "https://", "https:///x", "a.b", "", "https://a.b:99999/", "https://a b/"] {
            assert!(Target::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn addresses_of_this_host_and_its_links_are_local() {
        for local in
            ["127.0.0.1", "127.9.9.9", "169.254.169.254", "0.0.0.0", "0.1.2.3", "::1", "fe80::1", "::ffff:127.0.0.1", "224.0.0.1"]
        {
            assert!(is_local(local.parse().unwrap()), "{local}");
        }
        for other in ["10.0.0.1", "93.184.216.34", "2001:db8::1"] {
            assert!(!is_local(other.parse().unwrap()), "{other}");
        }
    }
}
