//! Names of routes: host and path, in one canonical form.

use std::sync::Arc;

/// The longest host name that is looked at.
pub(crate) const MAX_HOST: usize = 253;
/// The longest path of a route.
pub(crate) const MAX_PATH: usize = 512;

/// A route's name: lower-case host without port or trailing dot, lower-case path without trailing slash.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) struct RouteKey {
    pub(crate) host: Arc<str>,
    pub(crate) path: Arc<str>,
}

impl RouteKey {
    /// Reads `host[/path]` as registrars send it; `None` for what can never match a request.
    pub(crate) fn parse(uri: &str) -> Option<Self> {
        let uri = uri.split(['?', '#']).next().unwrap_or_default();
        let (host, path) = uri.find('/').map_or((uri, ""), |at| uri.split_at(at));
        let mut buffer = [0; MAX_HOST + 1];
        let host = host_key(host.as_bytes(), &mut buffer)?;
        let path = path.strip_suffix('/').unwrap_or(path);
        let plain = |b: u8| b.is_ascii_graphic();
        if path.len() > MAX_PATH || !path.bytes().all(plain) || host.get(1..).is_some_and(|rest| rest.contains('*')) {
            return None;
        }
        Some(Self { host: Arc::from(&*host), path: Arc::from(path.to_ascii_lowercase()) })
    }
}

impl std::fmt::Display for RouteKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.host, self.path)
    }
}

/// Writes the canonical form of a host into `buffer`: no port, no trailing dot, lower case.
pub(crate) fn host_key<'a>(raw: &[u8], buffer: &'a mut [u8; MAX_HOST + 1]) -> Option<&'a mut str> {
    let host = without_port(raw);
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.is_empty() || host.len() > MAX_HOST || host[0] == b'.' {
        return None;
    }
    let out = &mut buffer[..host.len()];
    for (to, from) in out.iter_mut().zip(host) {
        if !from.is_ascii_graphic() {
            return None;
        }
        *to = from.to_ascii_lowercase();
    }
    std::str::from_utf8_mut(out).ok()
}

/// The host of `host:port`, with IPv6 addresses in brackets left whole.
pub(crate) fn without_port(host: &[u8]) -> &[u8] {
    match host.iter().rposition(|b| *b == b':') {
        Some(at) if host[at + 1..].iter().all(u8::is_ascii_digit) && (host[0] != b'[' || host[at - 1] == b']') => &host[..at],
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(uri: &str) -> Option<String> {
        RouteKey::parse(uri).map(|key| key.to_string())
    }

    #[test]
    fn many_spellings_of_a_route_have_one_name() {
        for uri in ["Shop.Example/Pay", "shop.example:80/pay/", "shop.example./pay?x=1", "SHOP.EXAMPLE:/pay#top"] {
            assert_eq!(key(uri).as_deref(), Some("shop.example/pay"), "{uri}");
        }
        assert_eq!(key("*.Example").as_deref(), Some("*.example"));
        assert_eq!(key("[::1]:80/x").as_deref(), Some("[::1]/x"));
        assert_eq!(key("[::1]").as_deref(), Some("[::1]"));
    }

    #[test]
    fn what_can_never_match_is_no_route() {
        let long = "x".repeat(MAX_HOST + 1);
        let deep = format!("a/{}", "x".repeat(MAX_PATH));
        for uri in ["", "/path", ".example", "sp ace", "ex\u{e4}mple", "a.*.example", "a/b c", long.as_str(), deep.as_str()] {
            assert_eq!(key(uri), None, "{uri}");
        }
    }
}
