//! Which scopes a token gets.
//!
//! Source: cloudfoundry/uaa, `UaaAuthorizationRequestManager.java`; defaults: cloudfoundry/uaa-release, `jobs/uaa/spec`.

use super::{Error, Result};
use std::collections::BTreeSet;

/// Every user is in these.
pub(crate) const DEFAULT_GROUPS: &[&str] = &[
    "approvals.me",
    "cloud_controller.read",
    "cloud_controller.write",
    "cloud_controller_service_permissions.read",
    "notification_preferences.read",
    "notification_preferences.write",
    "oauth.approvals",
    "openid",
    "password.write",
    "profile",
    "roles",
    "scim.me",
    "uaa.offline_token",
    "uaa.user",
    "user_attributes",
];

/// The scope that grants nothing.
pub(crate) const NONE: &str = "uaa.none";

/// Scopes of a user's token: what was asked for (all that the client has, if nothing), of that what the client may carry, of
/// that what the user has.
///
/// # Errors
/// [`Error::Scope`] when a scope was asked for that the client cannot carry, or nothing is left.
pub(crate) fn of_user(requested: &[String], client: &[String], user: &BTreeSet<String>) -> Result<Vec<String>> {
    let asked = asked(requested, client)?;
    let granted: Vec<String> = user.iter().filter(|group| asked.iter().any(|pattern| matches(pattern, group))).cloned().collect();
    if granted.is_empty() && client.iter().any(|scope| scope != NONE) {
        return Err(Error::Scope("None of the requested scopes is held by the user, or may be used by this client.".into()));
    }
    Ok(granted)
}

/// Scopes of a client's own token.
///
/// # Errors
/// [`Error::Scope`] when a scope was asked for that the client does not have.
pub(crate) fn of_client(requested: &[String], authorities: &[String]) -> Result<Vec<String>> {
    let granted: BTreeSet<String> = asked(requested, authorities)?.into_iter().collect();
    Ok(granted.into_iter().collect())
}

/// Scopes after a refresh: never more than before, never more than the user still has.
///
/// # Errors
/// [`Error::Scope`] when more was asked for than was granted before.
pub(crate) fn of_refresh(
    requested: &[String],
    before: &[String],
    client: &[String],
    user: &BTreeSet<String>,
) -> Result<Vec<String>> {
    if let Some(more) = requested.iter().find(|scope| !before.contains(scope)) {
        return Err(Error::Scope(format!("Unable to narrow requested scopes to {more}: the refresh token does not have it.")));
    }
    let wanted = if requested.is_empty() { before } else { requested };
    let allowed = |scope: &&String| user.contains(*scope) && client.iter().any(|pattern| matches(pattern, scope));
    Ok(wanted.iter().filter(allowed).cloned().collect())
}

/// The audience: the client, and for each scope the part before its last dot.
pub(crate) fn audience(client_id: &str, scopes: &[String]) -> Vec<String> {
    let mut audience = vec![client_id.to_owned()];
    for scope in scopes.iter().filter(|scope| *scope != NONE) {
        let service = scope.rsplit_once('.').map_or(scope.as_str(), |(service, _)| service);
        if !audience.iter().any(|known| known == service) {
            audience.push(service.to_owned());
        }
    }
    audience
}

/// # Errors
/// [`Error::Scope`] when a scope was asked for that may not be.
pub(super) fn asked(requested: &[String], allowed: &[String]) -> Result<Vec<String>> {
    if requested.is_empty() {
        return Ok(allowed.to_vec());
    }
    match requested.iter().find(|scope| !allowed.iter().any(|pattern| matches(pattern, scope))) {
        Some(foreign) => Err(Error::Scope(format!("{foreign} is invalid. This client may not use it."))),
        None => Ok(requested.to_vec()),
    }
}

/// True when a client's scope, in which `*` stands for one part, covers this one. A star in `scope` is an ordinary character.
fn matches(pattern: &str, scope: &str) -> bool {
    if !pattern.contains('*') {
        return pattern == scope;
    }
    let (pattern, scope): (Vec<_>, Vec<_>) = (pattern.split('.').collect(), scope.split('.').collect());
    pattern.len() == scope.len() && pattern.iter().zip(scope).all(|(p, s)| *p == s || (*p == "*" && !s.is_empty()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(words: &str) -> Vec<String> {
        crate::store::split(words)
    }
    fn set(words: &str) -> BTreeSet<String> {
        list(words).into_iter().collect()
    }

    #[test]
    fn a_user_gets_what_client_and_user_both_have() {
        let client = list("openid cloud_controller.read cloud_controller.admin");
        assert_eq!(
            of_user(&[], &client, &set("openid cloud_controller.read scim.write")).unwrap(),
            list("cloud_controller.read openid")
        );
        assert_eq!(of_user(&list("openid"), &client, &set("openid cloud_controller.read")).unwrap(), list("openid"));
    }

    #[test]
    fn a_scope_that_the_client_or_the_user_lacks_is_not_granted() {
        let client = list("openid cloud_controller.admin");
        assert!(of_user(&list("scim.write"), &client, &set("scim.write openid")).is_err());
        assert!(of_user(&list("cloud_controller.admin"), &client, &set("openid")).is_err());
        assert!(of_user(&[], &client, &set("other")).is_err());
    }

    #[test]
    fn names_are_case_sensitive_and_stars_cover_one_part_of_clients_only() {
        assert!(matches("zones.*.admin", "zones.a.admin"));
        assert!(!matches("zones.*.admin", "zones.a.b.admin"));
        assert!(!matches("zones.*.admin", "zones..admin"));
        assert!(!matches("zones.a.admin", "zones.*.admin"));
        assert!(!matches("openid", "OpenID"));
    }

    #[test]
    fn a_refresh_never_widens_and_follows_the_groups_of_today() {
        let client = list("openid a.x a.y");
        let before = list("openid a.x");
        assert!(of_refresh(&list("a.y"), &before, &client, &set("openid a.x a.y")).is_err());
        assert_eq!(of_refresh(&list("a.x"), &before, &client, &set("openid a.x a.y")).unwrap(), list("a.x"));
        assert_eq!(of_refresh(&[], &before, &client, &set("openid")).unwrap(), list("openid"));
    }

    #[test]
    fn the_audience_names_each_service_once() {
        let scopes = list("cloud_controller.read cloud_controller.write openid routing.router_groups.read uaa.none");
        assert_eq!(audience("cf", &scopes), list("cf cloud_controller openid routing.router_groups"));
    }
}
