//! Sticky sessions: an app that sets a session cookie gets its client back.
//!
//! Source: cloudfoundry/gorouter, `proxy/round_tripper/proxy_round_tripper.go`, `handlers/helpers.go`.

use http::{HeaderMap, HeaderValue, header};
use std::fmt::Write;

/// The cookie that names the instance.
pub(crate) const VCAP_COOKIE: &str = "__VCAP_ID__";

/// Longest instance id that is believed.
const MAX_ID: usize = 128;

/// The instance that the client's cookies ask for: it needs both, the app's session cookie and ours.
pub(crate) fn wanted_instance<'a>(headers: &'a HeaderMap, session_cookies: &[String]) -> Option<&'a str> {
    let mut instance = None;
    let mut session = false;
    for cookies in headers.get_all(header::COOKIE) {
        for cookie in cookies.as_bytes().split(|b| *b == b';') {
            let cookie = cookie.trim_ascii();
            let Some(at) = cookie.iter().position(|b| *b == b'=') else { continue };
            let (name, value) = (&cookie[..at], &cookie[at + 1..]);
            if name == VCAP_COOKIE.as_bytes() {
                instance = instance.or(std::str::from_utf8(value).ok());
            } else if session_cookies.iter().any(|known| known.as_bytes() == name) {
                session = true;
            }
        }
    }
    instance.filter(|id| session && !id.is_empty() && id.len() <= MAX_ID)
}

/// The cookie to add to an answer that was given by `instance`.
///
/// `moved`: the client asked for another instance, which is gone, and must be told the new one even if the app says nothing.
pub(crate) fn cookie(
    answer: &HeaderMap,
    session_cookies: &[String],
    instance: &str,
    path: &str,
    moved: bool,
) -> Option<HeaderValue> {
    let mut session = None;
    for set in answer.get_all(header::SET_COOKIE) {
        let Ok(set) = std::str::from_utf8(set.as_bytes()) else { continue };
        let Some((name, rest)) = set.split_once('=') else { continue };
        if name.trim() == VCAP_COOKIE {
            return None;
        }
        if session_cookies.iter().any(|known| known == name.trim()) {
            session = session.or(Some(rest));
        }
    }
    if session.is_none() && !moved {
        return None;
    }
    let mut text = format!("{VCAP_COOKIE}={instance}; Path={}", if path.is_empty() { "/" } else { path });
    let attributes: Vec<(&str, &str)> = session.unwrap_or_default().split(';').skip(1).map(attribute).collect();
    let find = |name: &str| attributes.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| *value);
    for (name, written) in [("expires", "Expires"), ("max-age", "Max-Age")] {
        if let Some(value) = find(name) {
            let _ = write!(text, "; {written}={value}");
        }
    }
    text.push_str("; HttpOnly");
    if find("secure").is_some() {
        text.push_str("; Secure");
    }
    if let Some(value) = find("samesite") {
        let _ = write!(text, "; SameSite={value}");
    }
    if find("partitioned").is_some() {
        text.push_str("; Partitioned");
    }
    HeaderValue::from_str(&text).ok()
}

fn attribute(text: &str) -> (&str, &str) {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    (name.trim(), value.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names() -> Vec<String> {
        vec!["JSESSIONID".to_owned()]
    }

    fn request(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|c| (header::COOKIE, HeaderValue::from_str(c).unwrap())).collect()
    }

    fn answer(cookies: &[&str]) -> HeaderMap {
        cookies.iter().map(|c| (header::SET_COOKIE, HeaderValue::from_str(c).unwrap())).collect()
    }

    #[test]
    fn both_cookies_are_needed() {
        assert_eq!(wanted_instance(&request(&["JSESSIONID=1; __VCAP_ID__=i-1"]), &names()), Some("i-1"));
        assert_eq!(wanted_instance(&request(&["__VCAP_ID__=i-1", "a=b; JSESSIONID=1"]), &names()), Some("i-1"));
        for cookies in [&["__VCAP_ID__=i-1"][..], &["JSESSIONID=1"], &["JSESSIONID=1; __VCAP_ID__="], &["JSESSIONID; =; ;"]] {
            assert_eq!(wanted_instance(&request(cookies), &names()), None, "{cookies:?}");
        }
        let long = format!("JSESSIONID=1; __VCAP_ID__={}", "x".repeat(MAX_ID + 1));
        assert_eq!(wanted_instance(&request(&[&long]), &names()), None);
    }

    #[test]
    fn the_cookie_follows_the_apps_own() {
        let cases = [
            (&["JSESSIONID=1"][..], false, Some("__VCAP_ID__=i-1; Path=/; HttpOnly")),
            (
                &["JSESSIONID=1; Secure; SameSite=Strict; Max-Age=60; Partitioned"],
                false,
                Some("__VCAP_ID__=i-1; Path=/; Max-Age=60; HttpOnly; Secure; SameSite=Strict; Partitioned"),
            ),
            (&["JSESSIONID=; Max-Age=-1"], false, Some("__VCAP_ID__=i-1; Path=/; Max-Age=-1; HttpOnly")),
            (&["other=1"], false, None),
            (&[], true, Some("__VCAP_ID__=i-1; Path=/; HttpOnly")),
            (&["JSESSIONID=1", "__VCAP_ID__=own"], true, None),
        ];
        for (cookies, moved, expected) in cases {
            let made = cookie(&answer(cookies), &names(), "i-1", "", moved);
            assert_eq!(made.as_ref().map(|c| c.to_str().unwrap()), expected, "{cookies:?}");
        }
    }
}
