//! Where a browser may be sent.
//!
//! An address must be one that the client registered. Patterns, prefixes and other ports do not count: what was
//! registered with a `*` in it matches nothing (RFC 9700, section 4.1.3; the original does so by default since 2026).

use super::{Error, Result};
use crate::store::{clients::Client, split};
use url::{Host, Url};

/// Longest address in a request.
const LONGEST: usize = 2048;

/// The address to send the browser back to: `asked`, or without it the only one that there is.
///
/// # Errors
/// [`Error::Page`]; then nobody may be sent anywhere.
pub(crate) fn way_back(client: &Client, asked: Option<&str>) -> Result<Url> {
    let bad = || Error::Page("The address to come back to (redirect_uri) is not one that this client registered.");
    let registered = split(&client.redirect_uris);
    let Some(asked) = asked else {
        return match registered.as_slice() {
            [only] => usable(only).ok_or_else(bad),
            _ => Err(Error::Page("The request does not say where to come back to (redirect_uri).")),
        };
    };
    let asked = usable(asked).ok_or_else(bad)?;
    registered.iter().filter_map(|uri| usable(uri)).find(|uri| *uri == asked).ok_or_else(bad)
}

/// An address that can be matched and sent to. Reading it brings it into one form: case of the host, default port, dots.
fn usable(uri: &str) -> Option<Url> {
    let odd = |c: char| c.is_control() || c.is_whitespace() || matches!(c, '\\' | '*' | '#');
    if uri.len() > LONGEST || uri.contains(odd) {
        return None;
    }
    let url = Url::parse(uri).ok()?;
    let plain = url.has_host() && url.username().is_empty() && url.password().is_none();
    plain.then_some(url)
}

/// The address as a source of the content security policy: browsers refuse to follow a form to anywhere else.
pub(crate) fn policy_source(url: &Url) -> String {
    let named = |host: &str| host.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_'));
    match (url.host(), url.port()) {
        (Some(Host::Domain(host)), port) if matches!(url.scheme(), "http" | "https") && named(host) => {
            format!("{}://{host}{}", url.scheme(), port.map(|port| format!(":{port}")).unwrap_or_default())
        }
        (Some(Host::Ipv4(host)), port) => {
            format!("{}://{host}{}", url.scheme(), port.map(|port| format!(":{port}")).unwrap_or_default())
        }
        // a source cannot name other hosts
        _ => format!("{}:", url.scheme()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn client(uris: &str) -> Client {
        let text = String::new;
        Client {
            id: "c".into(),
            secret_hash: text(),
            name: text(),
            grants: text(),
            scopes: text(),
            authorities: text(),
            redirect_uris: uris.into(),
            autoapprove: text(),
            access_validity_s: None,
            refresh_validity_s: None,
            salt: text(),
            updated_at: 0,
        }
    }

    #[test]
    fn a_registered_address_is_accepted_however_it_is_written() {
        let client = client("https://d.test/callback https://d.test:8443/x?y=z myapp://callback https://bare.test");
        for good in [
            "https://d.test/callback",
            "https://D.TEST:443/callback",
            "https://d.test:8443/x?y=z",
            "myapp://callback",
            "https://bare.test",
            "https://bare.test/",
        ] {
            assert!(way_back(&client, Some(good)).is_ok(), "{good}");
        }
    }

    #[test]
    fn nothing_else_is() {
        let client = client("https://d.test/callback https://*.wild.test/** https://other.test/*");
        for bad in [
            "",
            "https://d.test",
            "https://d.test/callback/deeper",
            "https://d.test/callback/../evil",
            "https://d.test/callback?more=1",
            "https://d.test/callback#fragment",
            "http://d.test/callback",
            "https://d.test:8443/callback",
            "https://sub.d.test/callback",
            "https://d.test.evil.test/callback",
            "https://evil.test\\@d.test/callback",
            "https://user@d.test/callback",
            "https://d.test@evil.test/callback",
            "//d.test/callback",
            "/callback",
            "https://a.wild.test/x",
            "https://*.wild.test/**",
            "https://other.test/a",
            "javascript:alert(1)",
            "https://d.test/callback\r\nX: y",
            " https://d.test/callback",
        ] {
            assert!(way_back(&client, Some(bad)).is_err(), "{bad}");
        }
        assert!(way_back(&client, Some(&format!("https://d.test/{}", "x".repeat(3000)))).is_err());
    }

    #[test]
    fn without_an_address_the_only_one_is_taken() {
        assert_eq!(way_back(&client("https://d.test/c"), None).unwrap().as_str(), "https://d.test/c");
        assert!(way_back(&client("https://d.test/c https://d.test/e"), None).is_err());
        assert!(way_back(&client("https://*.test/"), None).is_err());
        assert!(way_back(&client(""), None).is_err());
    }

    #[test]
    fn a_policy_names_the_host_or_at_least_the_scheme() {
        for (uri, source) in [
            ("https://d.test/callback?x", "https://d.test"),
            ("http://d.test:8080/", "http://d.test:8080"),
            ("http://127.0.0.1:9/", "http://127.0.0.1:9"),
            ("http://[::1]:9/", "http:"),
            ("myapp://callback", "myapp:"),
            ("https://a;b.test/", "https:"),
        ] {
            assert_eq!(policy_source(&Url::parse(uri).unwrap()), source);
        }
    }
}
