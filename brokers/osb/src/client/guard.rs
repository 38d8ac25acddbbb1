//! Which addresses a platform reaches on behalf of whoever registers a broker.
//!
//! The decision is taken on the address that is connected to, after its name was resolved: a name that points somewhere else
//! the next time gains nothing.

use ipnet::IpNet;
use std::{
    collections::BTreeSet,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};
use url::{Host, Url};

/// Which addresses may be reached.
///
/// Loopback, link-local, unspecified, multicast and reserved addresses are refused, and `refused`, except what is in
/// `allowed_ranges`. What is exactly in `allowed` is not looked at further. Names of the platform itself go to its router.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The platform's own ranges: containers, management.
    pub refused: Vec<IpNet>,
    /// What the operator allows nevertheless.
    pub allowed_ranges: Vec<IpNet>,
    /// Host (lower case) and port of brokers that the platform itself brings.
    pub allowed: BTreeSet<(String, u16)>,
    /// The platform's own domains.
    pub platform: Vec<PlatformDomain>,
}

/// A domain whose names are routes of the platform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlatformDomain {
    /// The domain, lower case: itself and every name under it.
    pub suffix: String,
    /// The router's address for `http`; without it, that scheme is refused.
    pub http: Option<SocketAddr>,
    /// The router's address for `https`.
    pub https: Option<SocketAddr>,
}

/// How to get to a broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// By name, whatever it resolves to: the operator said so.
    Exact,
    /// By name, and each address is looked at.
    Guarded,
    /// By the router, whatever port the address has.
    Router(SocketAddr),
}

/// Why an address may not be reached.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// It is in such a range.
    Range(IpAddr, &'static str),
    /// It is in a range of the platform.
    Platform(IpAddr),
    /// The router does not serve this scheme.
    Scheme(String),
    /// It is not an address of a broker at all.
    Shape(&'static str),
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Range(ip, what) => write!(f, "{ip} is {what}, which brokers may not have unless the operator allows it"),
            Self::Platform(ip) => {
                write!(f, "{ip} belongs to the platform itself, where brokers may not be unless the operator allows it")
            }
            Self::Scheme(scheme) => write!(f, "the platform's router does not serve {scheme}"),
            Self::Shape(why) => f.write_str(why),
        }
    }
}
impl std::error::Error for Refusal {}

impl Policy {
    /// How to get to this address.
    ///
    /// # Errors
    /// When it is already clear that nobody may.
    pub fn way(&self, url: &Url) -> Result<Way, Refusal> {
        if !matches!(url.scheme(), "http" | "https") {
            return Err(Refusal::Shape("the address of a broker begins with http:// or https://"));
        }
        let Some(host) = url.host() else { return Err(Refusal::Shape("the address has no host")) };
        let name = name(&host);
        let port = url.port_or_known_default().unwrap_or_default();
        if self.allowed.contains(&(name.clone(), port)) {
            return Ok(Way::Exact);
        }
        let ip = match host {
            Host::Ipv4(ip) => Some(IpAddr::V4(ip)),
            Host::Ipv6(ip) => Some(IpAddr::V6(ip)),
            Host::Domain(_) => None,
        };
        if let Some(ip) = ip {
            return self.check(ip).map(|()| Way::Guarded);
        }
        match self.domain(&name) {
            Some(domain) => {
                let router = if url.scheme() == "https" { domain.https } else { domain.http };
                router.map(Way::Router).ok_or_else(|| Refusal::Scheme(url.scheme().to_owned()))
            }
            None => Ok(Way::Guarded),
        }
    }

    /// Whether this address may be reached.
    ///
    /// # Errors
    /// Why not.
    pub fn check(&self, ip: IpAddr) -> Result<(), Refusal> {
        if self.allowed_ranges.iter().any(|range| range.contains(&ip)) {
            return Ok(());
        }
        // an IPv6 address that carries an IPv4 one arrives where that would
        for ip in [Some(ip), embedded(ip)].into_iter().flatten() {
            if self.allowed_ranges.iter().any(|range| range.contains(&ip)) {
                continue;
            }
            if let Some(what) = special(ip) {
                return Err(Refusal::Range(ip, what));
            }
            if self.refused.iter().any(|range| range.contains(&ip)) {
                return Err(Refusal::Platform(ip));
            }
        }
        Ok(())
    }

    /// The domain of the platform that this name belongs to: the longest one.
    pub(crate) fn domain(&self, name: &str) -> Option<&PlatformDomain> {
        let under = |suffix: &str| name.strip_suffix(suffix).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'));
        self.platform.iter().filter(|domain| under(&domain.suffix)).max_by_key(|domain| domain.suffix.len())
    }
}

/// A host as settings name it.
pub(super) fn name(host: &Host<&str>) -> String {
    match host {
        Host::Domain(name) => name.trim_end_matches('.').to_ascii_lowercase(),
        Host::Ipv4(ip) => ip.to_string(),
        Host::Ipv6(ip) => ip.to_string(),
    }
}

fn special(ip: IpAddr) -> Option<&'static str> {
    match ip {
        IpAddr::V4(ip) if ip.octets()[0] == 0 => Some("an unspecified address"),
        IpAddr::V4(ip) if ip.octets()[0] >= 240 => Some("a reserved address"),
        IpAddr::V6(ip) if ip.is_unspecified() => Some("an unspecified address"),
        IpAddr::V4(ip) if ip.is_link_local() => Some("a link-local address"),
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some("a link-local address"),
        ip if ip.is_loopback() => Some("a loopback address"),
        ip if ip.is_multicast() => Some("a multicast address"),
        _ => None,
    }
}

/// The IPv4 address within: mapped, compatible, NAT64, 6to4.
fn embedded(ip: IpAddr) -> Option<IpAddr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [a, b, c, d, e, f, g, h] = ip.segments();
    let low = || Some(v4(g, h));
    let found = match [a, b, c, d, e, f] {
        [0, 0, 0, 0, 0, 0] if ip > Ipv6Addr::LOCALHOST => low(),
        [0, 0, 0, 0, 0, 0xffff] | [0, 0, 0, 0, 0xffff, 0] | [0x64, 0xff9b, 0, 0, 0, 0] => low(),
        [0x2002, ..] => Some(v4(b, c)),
        _ => None,
    };
    found.map(IpAddr::V4)
}

fn v4(high: u16, low: u16) -> Ipv4Addr {
    let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
    Ipv4Addr::new(a, b, c, d)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy {
            refused: vec!["10.250.0.0/16".parse().unwrap()],
            allowed_ranges: vec![],
            allowed: [("127.0.0.1".to_owned(), 8091), ("localhost".to_owned(), 8091)].into(),
            platform: vec![
                PlatformDomain {
                    suffix: "apps.example.test".into(),
                    http: Some("127.0.0.1:8080".parse().unwrap()),
                    https: Some("127.0.0.1:8443".parse().unwrap()),
                },
                PlatformDomain { suffix: "secure.test".into(), http: None, https: Some("127.0.0.1:8443".parse().unwrap()) },
            ],
        }
    }

    #[test]
    fn addresses_of_the_machine_and_of_the_platform_are_refused_in_every_spelling() {
        for url in [
            "http://127.0.0.1/",
            "http://127.0.0.1:8092/",
            "http://127.1/",
            "http://0x7f.0.0.1/",
            "http://2130706433/",
            "http://017700000001/",
            "http://0.0.0.0/",
            "http://0.1.2.3/",
            "http://169.254.169.254/latest/meta-data",
            "http://224.0.0.1/",
            "http://240.0.0.1/",
            "http://255.255.255.255/",
            "http://10.250.3.4/",
            "http://[::1]/",
            "http://[::]/",
            "http://[::ffff:127.0.0.1]/",
            "http://[::ffff:7f00:1]/",
            "http://[::127.0.0.1]/",
            "http://[64:ff9b::7f00:1]/",
            "http://[2002:7f00:1::]/",
            "http://[::ffff:10.250.0.1]/",
            "http://[fe80::1]/",
            "http://[ff02::1]/",
            "ftp://example.com/",
            "file:///etc/passwd",
            "http://shop.secure.test/",
        ] {
            let url = url.parse().unwrap();
            assert!(policy().way(&url).is_err(), "{url}");
        }
    }

    #[test]
    fn public_and_private_addresses_are_reached() {
        for url in ["http://192.168.1.7/", "https://10.0.0.5:8443/", "http://[2001:db8::1]/", "https://broker.example.com/"] {
            assert_eq!(policy().way(&url.parse().unwrap()), Ok(Way::Guarded), "{url}");
        }
    }

    #[test]
    fn our_own_brokers_are_allowed_by_host_and_port_alone() {
        for url in ["http://127.0.0.1:8091/", "http://localhost:8091/", "http://LOCALHOST.:8091/"] {
            assert_eq!(policy().way(&url.parse().unwrap()), Ok(Way::Exact), "{url}");
        }
    }

    #[test]
    fn names_of_the_platform_go_to_its_router_whatever_they_resolve_to() {
        let (http, https) = (Way::Router("127.0.0.1:8080".parse().unwrap()), Way::Router("127.0.0.1:8443".parse().unwrap()));
        for (url, way) in [
            ("http://broker.apps.example.test/", http),
            ("http://apps.example.test:22/", http),
            ("https://A.B.apps.example.test.:9000/", https),
            ("http://evilapps.example.test/", Way::Guarded),
        ] {
            assert_eq!(policy().way(&url.parse().unwrap()), Ok(way), "{url}");
        }
    }

    #[test]
    fn the_operator_has_the_last_word() {
        let policy = Policy { allowed_ranges: vec!["127.0.0.0/8".parse().unwrap()], ..policy() };
        for ip in ["127.0.0.1", "::ffff:127.0.0.1"] {
            assert_eq!(policy.check(ip.parse().unwrap()), Ok(()), "{ip}");
        }
        assert!(policy.check("169.254.1.1".parse().unwrap()).is_err());
    }
}
