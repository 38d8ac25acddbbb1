//! Routes: who may have which name, and where it leads is in [`super::destinations`].

use crate::{
    domain::{
        Access, Error, Hint, Result, Scope, Tx, audit, domains, flags,
        metadata::MetadataChange,
        quotas, reserved,
        services::{bindings, owners},
        taken,
    },
    store::{
        self,
        domains::Domain,
        jobs::{self, Job},
        metadata::{self, Described},
        query::key,
        routes::{KIND, RouteRow},
    },
};
use serde_json::{Map, Value, json};

const MAX_HOST: usize = 63;
const MAX_PATH: usize = 128;
const MAX_FULL: usize = 253;

/// What a new route is to be.
#[derive(Clone, Debug)]
pub struct NewRoute {
    pub space: String,
    pub domain: String,
    pub spelled: Spelled,
    pub options: Option<Map<String, Value>>,
    pub metadata: MetadataChange,
    pub request: Value,
}

/// How a route reads, besides its domain.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Spelled {
    pub host: String,
    /// Empty, or beginning with `/`.
    pub path: String,
    pub port: Option<i64>,
}

impl Spelled {
    /// What is wrong with its shape, in the contract's words.
    pub fn problems(&self) -> Vec<String> {
        let mut problems = vec![];
        let word = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        if self.host.chars().count() > MAX_HOST {
            problems.push(format!("Host cannot exceed {MAX_HOST} characters"));
        }
        if self.host != "*" && !self.host.bytes().all(word) {
            problems.push("Host must be either \"*\" or contain only alphanumeric characters, \"_\", or \"-\"".into());
        }
        if !self.path.is_empty() {
            let good = self.path.bytes().all(|b| b.is_ascii_graphic());
            if !self.path.starts_with('/') {
                problems.push("Path must begin with '/'".into());
            }
            if self.path == "/" {
                problems.push("Path cannot be exactly '/'".into());
            }
            if self.path.contains('?') || self.path.contains('#') || !good {
                problems.push("Path cannot contain '?'".into());
            }
            if self.path.len() > MAX_PATH {
                problems.push(format!("Path cannot exceed {MAX_PATH} characters"));
            }
        }
        if self.port.is_some_and(|port| !(0..=65_535).contains(&port)) {
            problems.push("Port must be between 0 and 65535".into());
        }
        problems
    }
}

/// A route that the caller sees (RR of its space or of one that it is shared with), with its domain and scope.
///
/// # Errors
/// [`Error::NotFound`].
pub fn readable(tx: &mut Tx<'_>, guid: &str) -> Result<(RouteRow, Domain, Scope)> {
    let missing = || Error::NotFound("Route");
    let (route, domain) = store::routes::find(tx.conn, guid)?.ok_or_else(missing)?;
    let scope = Scope::find(tx, &route.space_guid)?.ok_or_else(missing)?;
    let mut seen = tx.who.reads_routes(&scope.space.guid, &scope.org.guid);
    if !seen {
        for shared in store::routes::shared_spaces(tx.conn, guid)? {
            let with = Scope::find(tx, &shared)?;
            seen |= with.is_some_and(|with| tx.who.reads_routes(&with.space.guid, &with.org.guid));
        }
    }
    if seen { Ok((route, domain, scope)) } else { Err(missing()) }
}

/// A route that the caller may change (M).
pub fn manageable(tx: &mut Tx<'_>, guid: &str) -> Result<(RouteRow, Domain, Scope)> {
    let found = readable(tx, guid)?;
    found.2.check(tx, found.2.manages(tx))?;
    Ok(found)
}

/// Makes a route (M).
pub fn create(tx: &mut Tx<'_>, system_domain: &str, new: &NewRoute) -> Result<(Described<RouteRow>, Domain)> {
    flags::require(tx, "route_creation")?;
    let scope = Scope::referred(tx, &new.space, "Invalid space. Ensure that the space exists and you have access to it.")?;
    scope.check(tx, scope.manages(tx))?;
    let text = "Invalid domain. Ensure that the domain exists and you have access to it.";
    let domain = match domains::readable(tx, &new.domain) {
        Err(Error::NotFound(_)) => return Err(Error::invalid(text)),
        other => other?,
    };
    let options = new.options.clone().unwrap_or_default();
    let route = create_in(tx, system_domain, &scope, &domain, &new.spelled, &options, new.request.clone())?;
    let metadata = new.metadata.apply(tx, KIND, &route.guid)?;
    Ok((Described { row: route, metadata }, domain))
}

/// As [`create`], once role and flag were checked.
pub fn create_in(
    tx: &mut Tx<'_>,
    system_domain: &str,
    scope: &Scope,
    domain: &Domain,
    spelled: &Spelled,
    options: &Map<String, Value>,
    request: Value,
) -> Result<RouteRow> {
    let problems = spelled.problems();
    if !problems.is_empty() {
        return Err(Error::Invalid(problems.join(", ")));
    }
    check_domain(tx, system_domain, scope, domain, spelled)?;
    // In a line from here on: "who has this host" must still be true at the commit.
    store::domains::touch(tx.conn, &domain.guid, None)?;
    check_taken(tx, scope, domain, spelled)?;
    quotas::check_routes(tx, scope)?;
    let row = RouteRow {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        space_guid: scope.space.guid.clone(),
        domain_guid: domain.guid.clone(),
        host: spelled.host.clone(),
        host_key: key(&spelled.host),
        path: spelled.path.clone(),
        path_key: key(&spelled.path),
        port: 0,
        options: Some(Value::Object(options.clone())).filter(|_| !options.is_empty()).map(|o| o.to_string()),
    };
    taken(store::routes::insert(tx.conn, &row), || already_exists(domain, spelled))?;
    let target = ("route", row.guid.as_str(), row.host.as_str());
    let data = json!({ "request": request });
    let (space, org) = (Some(scope.space.guid.as_str()), Some(scope.org.guid.as_str()));
    audit::record(tx, audit::Event { kind: "audit.route.create", target, space, org, data })?;
    Ok(row)
}

fn check_domain(tx: &mut Tx<'_>, system_domain: &str, scope: &Scope, domain: &Domain, spelled: &Spelled) -> Result<()> {
    let Domain { name, .. } = domain;
    let Spelled { host, path, port } = spelled;
    if !store::domains::usable_by(tx.conn, domain, &scope.org.guid)? {
        let text = format!("Invalid domain. Domain '{name}' is not available in organization '{}'.", scope.org.name);
        return Err(Error::invalid(text));
    }
    if port.is_some_and(|port| port > 0) {
        return Err(Error::invalid("Routes with protocol 'http' do not support ports."));
    }
    if domain.internal && host == "*" {
        return Err(Error::invalid("Wildcard hosts are not supported for internal domains."));
    }
    if domain.internal && !path.is_empty() {
        return Err(Error::invalid("Paths are not supported for internal domains."));
    }
    if domain.org_guid.is_none() && host.is_empty() {
        return Err(Error::invalid("Missing host. Routes in shared domains must have a host defined."));
    }
    if domain.org_guid.is_none() && host == "*" && !tx.who.admin() {
        let text = "You do not have sufficient permissions to create a route with a wildcard host on a domain not scoped to an organization.";
        return Err(Error::invalid(text));
    }
    if host.len() + 1 + name.len() > MAX_FULL {
        return Err(Error::invalid(format!("Host combined with domain name must be no more than {MAX_FULL} characters.")));
    }
    if reserved::is_system_host(system_domain, host, name) {
        return Err(Error::invalid("Route conflicts with a reserved system route."));
    }
    let full = format!("{host}.{name}").to_lowercase();
    if !host.is_empty() && store::domains::find_named(tx.conn, &full)?.is_some() {
        return Err(Error::invalid(format!("Route conflicts with domain '{full}'.")));
    }
    Ok(())
}

fn check_taken(tx: &mut Tx<'_>, scope: &Scope, domain: &Domain, spelled: &Spelled) -> Result<()> {
    if store::routes::find_spelled(tx.conn, &domain.guid, &spelled.host, &spelled.path, 0)?.is_some() {
        return Err(already_exists(domain, spelled));
    }
    let shared = domain.org_guid.is_none();
    if shared && store::routes::host_in_other_space(tx.conn, &domain.guid, &spelled.host, &scope.space.guid)? {
        let host = match spelled.host.as_str() {
            "" => format!("the domain '{}' itself", domain.name),
            host => format!("the host '{host}' of the domain '{}'", domain.name),
        };
        return Err(Error::invalid(format!(
            "domain_id and host host_and_domain_taken_different_space: {host} belongs to a route of another space, with all \
             paths below it. Choose another host, or delete that route first."
        )));
    }
    Ok(())
}

fn already_exists(domain: &Domain, spelled: &Spelled) -> Error {
    let name = &domain.name;
    Error::invalid(match (spelled.host.as_str(), spelled.path.as_str()) {
        ("", "") => format!("Route already exists for domain '{name}'."),
        (host, "") => format!("Route already exists with host '{host}' for domain '{name}'."),
        ("", path) => format!("Route already exists with path '{path}' for domain '{name}'."),
        (host, path) => format!("Route already exists with host '{host}' and path '{path}' for domain '{name}'."),
    })
}

/// The route that a manifest spells (`host.domain/path`, without scheme): an existing one of this space (or shared with it),
/// or a new one.
///
/// It is first tried as a whole domain, then as a host with the longest domain that the organization may use.
///
/// # Errors
/// [`Error::Invalid`] in the words of manifests; `Feature Disabled` when a route would have to be made while that is off.
pub fn for_manifest(
    tx: &mut Tx<'_>,
    system_domain: &str,
    scope: &Scope,
    text: &str,
    options: &Map<String, Value>,
) -> Result<RouteRow> {
    let (name, path) = match text.split_once('/') {
        Some((name, path)) => (name, format!("/{path}")),
        None => (text, String::new()),
    };
    let name = name.to_lowercase();
    let mut tries = vec![(String::new(), name.clone())];
    tries.extend(name.split_once('.').map(|(host, domain)| (host.to_owned(), domain.to_owned())));
    for (host, domain) in tries {
        let Some(domain) = store::domains::find_named(tx.conn, &domain)? else { continue };
        if !store::domains::usable_by(tx.conn, &domain, &scope.org.guid)? {
            continue;
        }
        if let Some(route) = store::routes::find_spelled(tx.conn, &domain.guid, &host, &path, 0)? {
            let shared = store::routes::shared_spaces(tx.conn, &route.guid)?;
            if route.space_guid != scope.space.guid && !shared.contains(&scope.space.guid) {
                return Err(Error::invalid("Routes cannot be mapped to destinations in different spaces"));
            }
            return Ok(route);
        }
        flags::require_for_all(tx, "route_creation")?;
        let spelled = Spelled { host, path, port: None };
        return create_in(tx, system_domain, scope, &domain, &spelled, options, json!({ "manifest_route": text }));
    }
    Err(Error::invalid(format!("No domains exist for route {text}")))
}

/// Changes options and metadata (M).
pub fn update(
    tx: &mut Tx<'_>,
    guid: &str,
    options: Option<&Map<String, Value>>,
    change: &MetadataChange,
) -> Result<(Described<RouteRow>, Domain)> {
    let (mut route, domain, _) = manageable(tx, guid)?;
    if let Some(options) = options {
        set_options(tx, &mut route, options)?;
    }
    route.updated_at = tx.micros();
    store::routes::save(tx.conn, &route)?;
    let metadata = change.apply(tx, KIND, guid)?;
    Ok((Described { row: route, metadata }, domain))
}

/// Merges options into a route; null removes one. The apps that it leads to are told.
pub fn set_options(tx: &mut Tx<'_>, route: &mut RouteRow, change: &Map<String, Value>) -> Result<()> {
    let mut options = options_of(route);
    for (name, value) in change {
        match value {
            Value::Null => drop(options.remove(name)),
            value => drop(options.insert(name.clone(), value.clone())),
        }
    }
    route.options = Some(options).filter(|o| !o.is_empty()).map(|o| Value::Object(o).to_string());
    store::routes::save(tx.conn, route)?;
    tell_apps(tx, std::slice::from_ref(&route.guid))
}

/// The options of a route.
pub fn options_of(route: &RouteRow) -> Map<String, Value> {
    route.options.as_deref().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
}

/// What is wrong with options, in the contract's words; each is led by `Options`.
pub fn option_problems(options: &Map<String, Value>) -> Vec<String> {
    let unknown: Vec<String> = options.keys().filter(|k| *k != "loadbalancing").map(|k| format!("'{k}'")).collect();
    let mut problems = vec![];
    if !unknown.is_empty() {
        problems.push(format!("Options Unknown field(s): {}", unknown.join(", ")));
    }
    let good = |value: &Value| value.is_null() || matches!(value.as_str(), Some("round-robin" | "least-connection"));
    if options.get("loadbalancing").is_some_and(|value| !good(value)) {
        problems.push("Options Loadbalancing must be one of 'round-robin, least-connection' if present".into());
    }
    problems
}

/// Deletes a route (M).
pub fn delete(tx: &mut Tx<'_>, guid: &str) -> Result<Job> {
    let (route, _, scope) = manageable(tx, guid)?;
    let target = ("route", route.guid.as_str(), route.host.as_str());
    let (space, org) = (Some(scope.space.guid.as_str()), Some(scope.org.guid.as_str()));
    let data = json!({ "request": { "recursive": true } });
    audit::record(tx, audit::Event { kind: "audit.route.delete-request", target, space, org, data })?;
    if let Some(job) = (owners::Owner { app: false }).begin(tx, guid)? {
        return Ok(job);
    }
    delete_all(tx, std::slice::from_ref(&route.guid))?;
    jobs::done(tx, "route.delete", Some(("routes", guid)))
}

/// Deletes the routes of a space that lead nowhere (M).
pub fn delete_unmapped(tx: &mut Tx<'_>, space: &str) -> Result<Job> {
    let scope = Scope::readable(tx, space, "Space")?;
    scope.check(tx, scope.manages(tx))?;
    let unmapped = store::routes::unmapped_of_space(tx.conn, space)?;
    delete_all(tx, &unmapped)?;
    jobs::done(tx, "space.delete_unmapped_routes", Some(("spaces", space)))
}

/// Deletes all routes of a space.
pub fn delete_of_space(tx: &mut Tx<'_>, space: &str) -> Result<()> {
    let of_space = store::routes::of_space(tx.conn, space)?;
    delete_all(tx, &of_space)
}

/// Deletes routes, whoever asks; the apps that they led to are told, brokers of their services in the background.
pub fn delete_all(tx: &mut Tx<'_>, guids: &[String]) -> Result<()> {
    tell_apps(tx, guids)?;
    for binding in store::service_bindings::of_routes(tx.conn, guids)? {
        bindings::abandon(tx, &binding)?;
    }
    metadata::forget(tx.conn, KIND, guids)?;
    store::routes::delete(tx.conn, guids)
}

/// The DEAs that run the apps of these routes look again after the commit.
pub fn tell_apps(tx: &mut Tx<'_>, routes: &[String]) -> Result<()> {
    for destination in store::routes::destinations_of(tx.conn, routes)? {
        if let Ok(app) = destination.app_guid.parse() {
            tx.hint(Hint::Routes(app));
        }
    }
    Ok(())
}

/// True when a route of this spelling exists in any space, or is the platform's own.
pub fn is_reserved(tx: &mut Tx<'_>, system_domain: &str, domain: &str, host: &str, path: &str, port: i32) -> Result<bool> {
    let domain = domains::readable(tx, domain)?;
    let own = reserved::is_system_host(system_domain, host, &domain.name);
    Ok(own || store::routes::find_spelled(tx.conn, &domain.guid, host, path, port)?.is_some())
}

/// Shares a route with other spaces (M in both).
pub fn share(tx: &mut Tx<'_>, guid: &str, with: &[String]) -> Result<Vec<String>> {
    flags::require_for_all(tx, "route_sharing")?;
    let (route, domain, scope) = manageable(tx, guid)?;
    let url = route.url(&domain.name);
    let listed = with.iter().map(|space| format!("'{space}'")).collect::<Vec<_>>().join(", ");
    for space in with {
        let text = format!(
            "Unable to share route {url} with spaces [{listed}]. Ensure the spaces exist and that you have access to them."
        );
        let target = Scope::referred(tx, space, &text)?;
        if *space == scope.space.guid {
            let why = "Routes cannot be shared into the space where they were created.";
            return Err(Error::invalid(format!("Unable to share route '{url}' with space '{space}'. {why}")));
        }
        if target.check(tx, target.manages(tx)).is_err() {
            let why = "Write permission is required in order to share a route with a space and the containing organization must not be suspended.";
            return Err(Error::invalid(format!("Unable to share route {url} with spaces [{listed}]. {why}")));
        }
    }
    for space in with {
        store::routes::share(tx.conn, guid, space)?;
    }
    record(tx, "audit.route.share", &route, &scope, json!({ "target_space_guids": with }))?;
    store::routes::shared_spaces(tx.conn, guid)
}

/// Ends sharing a route with a space; its apps there are unmapped.
pub fn unshare(tx: &mut Tx<'_>, guid: &str, from: &str) -> Result<()> {
    flags::require_for_all(tx, "route_sharing")?;
    let (route, domain, scope) = manageable(tx, guid)?;
    let url = route.url(&domain.name);
    let lead = format!("Unable to unshare route '{url}' from space '{from}'.");
    let target = Scope::referred(tx, from, &format!("{lead} Ensure the space exists and that you have access to it."))?;
    if from == scope.space.guid {
        return Err(Error::invalid(format!("{lead} Routes cannot be removed from the space that owns them.")));
    }
    if !target.manages(tx) {
        return Err(Error::invalid(format!("{lead} You don't have write permission for the target space.")));
    }
    tell_apps(tx, &[guid.to_owned()])?;
    for destination in store::routes::destinations_of(tx.conn, &[guid.to_owned()])? {
        if store::routes::app_space(tx.conn, &destination.app_guid)?.as_deref() == Some(from) {
            store::routes::delete_destination(tx.conn, &destination.guid)?;
        }
    }
    store::routes::unshare(tx.conn, guid, from)?;
    record(tx, "audit.route.unshare", &route, &scope, json!({ "target_space_guid": from }))
}

/// Gives a route to another space (W here, M there); this one keeps it as shared.
pub fn transfer(tx: &mut Tx<'_>, guid: &str, to: &str) -> Result<()> {
    flags::require_for_all(tx, "route_sharing")?;
    let (mut route, domain, scope) = readable(tx, guid)?;
    Access::require(scope.writes(tx))?;
    scope.check(tx, true)?;
    let url = route.url(&domain.name);
    let lead = format!("Unable to transfer owner of route '{url}' to space '{to}'.");
    let target = Scope::referred(tx, to, &format!("{lead} Ensure the space exists and that you have access to it."))?;
    if !target.manages(tx) {
        return Err(Error::invalid(format!("{lead} You don't have write permission for the target space.")));
    }
    if !store::domains::usable_by(tx.conn, &domain, &target.org.guid)? {
        return Err(Error::invalid(format!("{lead} Target space does not have access to route's domain")));
    }
    if to != scope.space.guid {
        store::routes::unshare(tx.conn, guid, to)?;
        store::routes::share(tx.conn, guid, &scope.space.guid)?;
        to.clone_into(&mut route.space_guid);
        route.updated_at = tx.micros();
        store::routes::save(tx.conn, &route)?;
        record(tx, "audit.route.transfer-owner", &route, &scope, json!({ "target_space_guid": to }))?;
    }
    Ok(())
}

fn record(tx: &mut Tx<'_>, kind: &str, route: &RouteRow, scope: &Scope, data: Value) -> Result<()> {
    let target = ("route", route.guid.as_str(), route.host.as_str());
    let (space, org) = (Some(scope.space.guid.as_str()), Some(scope.org.guid.as_str()));
    audit::record(tx, audit::Event { kind, target, space, org, data })
}
