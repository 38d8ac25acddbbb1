//! routes, create-route, map-route, unmap-route, delete-route, domains.

use super::{app, confirm, place};
use crate::{
    api::{Api, ApiError, array, query, text},
    cli::{Listing, RouteArgs},
    problem::Problem,
    ui::{self, say},
};
use anyhow::bail;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// Guids in one question.
const BATCH: usize = 200;

pub(super) async fn list(api: &mut Api, org_level: bool, listing: &Listing) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    let ((key, guid), where_) = if org_level {
        let org = api.org()?;
        (("organization_guids", org.guid), format!("org {} as {}", ui::name(&org.name), ui::name(&user)))
    } else {
        let (org, space) = api.space()?;
        let where_ = place(&org, &space, &user);
        (("space_guids", space.guid), where_)
    };
    let mut pairs = vec![(key, guid.as_str()), ("per_page", "5000")];
    pairs.extend(listing.selector());
    let routes = api.list(&query("/v3/routes", &pairs)).await?;
    if listing.format.json {
        ui::json(&Value::Array(routes));
        return Ok(());
    }
    say!("Getting routes for {where_}...\n");
    if routes.is_empty() {
        say!("No routes found.");
        return Ok(());
    }
    let spaces = names(api, "/v3/spaces", routes.iter().map(|route| text(route, "/relationships/space/data/guid"))).await?;
    let apps_of = |route| array(route, "/destinations").map(|destination| text(destination, "/app/guid")).collect::<Vec<_>>();
    let apps = names(api, "/v3/apps", routes.iter().flat_map(apps_of)).await?;
    let name = |names: &BTreeMap<String, String>, guid: &str| names.get(guid).cloned().unwrap_or_default();
    let services = services_of(api, &routes).await?;
    let mut rows: Vec<Vec<String>> = routes
        .iter()
        .map(|route| {
            let (url, host, path) = (text(route, "/url"), text(route, "/host"), text(route, "/path"));
            let port = route["port"].as_u64().map(|port| port.to_string()).unwrap_or_default();
            let domain = url.strip_suffix(path).unwrap_or(url);
            let domain = domain.strip_prefix(host).map_or(domain, |rest| rest.trim_start_matches('.'));
            let domain = domain.strip_suffix(&format!(":{port}")).unwrap_or(domain);
            let protocols: Vec<&str> =
                array(route, "/destinations").map(|d| text(d, "/protocol")).filter(|p| !p.is_empty()).collect();
            let mut apps: Vec<String> = apps_of(route).into_iter().map(|guid| name(&apps, guid)).collect();
            apps.dedup();
            let mut ports: Vec<String> =
                array(route, "/destinations").filter_map(|d| d["port"].as_u64()).map(|p| p.to_string()).collect();
            ports.sort();
            ports.dedup();
            vec![
                name(&spaces, text(route, "/relationships/space/data/guid")),
                host.to_owned(),
                domain.to_owned(),
                port,
                path.to_owned(),
                text(route, "/protocol").to_owned(),
                protocols.first().copied().unwrap_or_default().to_owned(),
                ports.join(", "),
                apps.join(", "),
                name(&services, text(route, "/guid")),
                options(route),
            ]
        })
        .collect();
    rows.sort();
    let headings = [
        "space",
        "host",
        "domain",
        "port",
        "path",
        "protocol",
        "app-protocol",
        "app-port",
        "apps",
        "service instance",
        "options",
    ];
    ui::table(&headings, &rows);
    Ok(())
}

/// The service instances that routes are bound to: name by the route's guid.
async fn services_of(api: &mut Api, routes: &[Value]) -> anyhow::Result<BTreeMap<String, String>> {
    let guids: Vec<&str> = routes.iter().map(|route| text(route, "/guid")).collect();
    let mut found = BTreeMap::new();
    for batch in guids.chunks(BATCH) {
        let pairs = [("include", "service_instance"), ("route_guids", &*batch.join(",")), ("per_page", "5000")];
        let (bindings, included) = api.list_with_included(&query("/v3/service_route_bindings", &pairs)).await?;
        for binding in &bindings {
            let guid = text(binding, "/relationships/service_instance/data/guid");
            let instance = array(&included, "/service_instances").find(|instance| text(instance, "/guid") == guid);
            let name = instance.map(|instance| text(instance, "/name")).unwrap_or_default();
            found.insert(text(binding, "/relationships/route/data/guid").to_owned(), name.to_owned());
        }
    }
    Ok(found)
}

/// `{loadbalancing=least-connection}`, as the official client writes them.
fn options(route: &Value) -> String {
    let options = route["options"].as_object().filter(|options| !options.is_empty());
    let one = |(key, value): (&String, &Value)| match value.as_str() {
        Some(text) => format!("{key}={text}"),
        None => format!("{key}={value}"),
    };
    options.map(|options| format!("{{{}}}", options.iter().map(one).collect::<Vec<_>>().join(", "))).unwrap_or_default()
}

pub(super) async fn create(api: &mut Api, args: &RouteArgs) -> anyhow::Result<()> {
    let ((org, space), user) = (api.space()?, api.identity()?.name);
    say!("Creating route {} for {}...", ui::name(&url(args)), place(&org, &space, &user));
    let domain = domain(api, &args.domain).await?;
    match make(api, args, &domain, &space.guid).await {
        Ok(route) => say!("Route {} has been created.", ui::name(text(&route, "/url"))),
        Err(e) if e.downcast_ref::<ApiError>().is_some_and(|e| e.status == 422 && e.detail.contains("Route already exists")) => {
            eprintln!("{e}");
            if find(api, args, &domain).await?.is_none_or(|route| text(&route, "/relationships/space/data/guid") != space.guid) {
                eprintln!("It belongs to another space, so no app of this one can be mapped to it.");
            }
        }
        Err(e) => return Err(e),
    }
    ui::ok();
    Ok(())
}

pub(super) async fn map(api: &mut Api, name: &str, args: &RouteArgs, protocol: Option<&str>) -> anyhow::Result<()> {
    let domain = domain(api, &args.domain).await?;
    let app = app(api, name).await?;
    let route = match find(api, args, &domain).await? {
        Some(route) => route,
        None => {
            say!("Creating route {} for {}...", ui::name(&url(args)), app.place());
            let route = make(api, args, &domain, &app.space.guid).await?;
            ui::ok();
            say!();
            route
        }
    };
    say!("Mapping route {} to app {} in {}...", ui::name(&url(args)), ui::name(name), app.place());
    if array(&route, "/destinations").any(|d| text(d, "/app/guid") == app.guid && text(d, "/app/process/type") == "web") {
        say!("App '{name}' is already mapped to route '{}'. Nothing has been updated.", text(&route, "/url"));
    } else {
        let mut destination = json!({ "app": { "guid": app.guid } });
        if let Some(protocol) = protocol {
            destination["protocol"] = json!(protocol);
        }
        let path = format!("/v3/routes/{}/destinations", text(&route, "/guid"));
        api.post(&path, &json!({ "destinations": [destination] })).await?;
    }
    ui::ok();
    Ok(())
}

pub(super) async fn unmap(api: &mut Api, name: &str, args: &RouteArgs) -> anyhow::Result<()> {
    let domain = domain(api, &args.domain).await?;
    let app = app(api, name).await?;
    say!("Removing route {} from app {} in {}...", ui::name(&url(args)), ui::name(name), app.place());
    let route = find(api, args, &domain).await?.ok_or_else(|| missing(args))?;
    match array(&route, "/destinations").find(|destination| text(destination, "/app/guid") == app.guid) {
        Some(destination) => {
            let path = format!("/v3/routes/{}/destinations/{}", text(&route, "/guid"), text(destination, "/guid"));
            api.delete(&path).await?;
        }
        None => say!("Route to be unmapped is not currently mapped to the application."),
    }
    ui::ok();
    Ok(())
}

pub(super) async fn delete(api: &mut Api, args: &RouteArgs, force: bool) -> anyhow::Result<()> {
    let user = api.identity()?.name;
    if !force && !confirm(&format!("Really delete the route {}?", url(args)))? {
        say!("Route '{}' has not been deleted.", url(args));
        return Ok(());
    }
    say!("Deleting route {} as {}...", ui::name(&url(args)), ui::name(&user));
    let found = match domain(api, &args.domain).await {
        Ok(domain) => find(api, args, &domain).await?,
        Err(e) if e.is::<Problem>() => None,
        Err(e) => return Err(e),
    };
    match found {
        Some(route) => api.delete(&format!("/v3/routes/{}", text(&route, "/guid"))).await?,
        None => eprintln!("Unable to delete. Route '{}' does not exist.", url(args)),
    }
    ui::ok();
    Ok(())
}

pub(super) async fn check(api: &mut Api, args: &RouteArgs) -> anyhow::Result<()> {
    api.org()?;
    say!("Checking for route...");
    let domain = domain(api, &args.domain).await?;
    let path = slashed(args);
    let port = args.port.map(|port| port.to_string());
    let mut pairs = vec![];
    pairs.extend(args.hostname.as_deref().map(|host| ("host", host)));
    pairs.extend(args.path.is_some().then_some(("path", path.as_str())));
    pairs.extend(port.as_deref().map(|port| ("port", port)));
    let answer = api.get(&query(&format!("/v3/domains/{}/route_reservations", text(&domain, "/guid")), &pairs)).await?;
    match answer["matching_route"] == true {
        true => say!("Route '{}' does exist.", url(args)),
        false => say!("Route '{}' does not exist.", url(args)),
    }
    ui::ok();
    Ok(())
}

pub(super) async fn domains(api: &mut Api, listing: &Listing) -> anyhow::Result<()> {
    let (org, user) = (api.org()?, api.identity()?.name);
    let pairs: Vec<_> = listing.selector().into_iter().collect();
    let domains = api.list(&query(&format!("/v3/organizations/{}/domains", org.guid), &pairs)).await?;
    if listing.format.json {
        ui::json(&Value::Array(domains));
        return Ok(());
    }
    say!("Getting domains in org {} as {}...\n", ui::name(&org.name), ui::name(&user));
    let row = |domain: &Value| {
        let shared = text(domain, "/relationships/organization/data/guid").is_empty();
        let protocols: Vec<&str> = array(domain, "/supported_protocols").filter_map(Value::as_str).collect();
        let internal = if domain["internal"] == true { "true" } else { "" };
        vec![
            text(domain, "/name").to_owned(),
            if shared { "shared" } else { "private" }.to_owned(),
            internal.to_owned(),
            protocols.join(","),
        ]
    };
    let mut rows: Vec<_> = domains.iter().map(row).collect();
    rows.sort();
    ui::table(&["name", "availability", "internal", "protocols"], &rows);
    Ok(())
}

/// Names by guid, asked for in batches.
async fn names<'a>(api: &mut Api, path: &str, guids: impl Iterator<Item = &'a str>) -> anyhow::Result<BTreeMap<String, String>> {
    let mut guids: Vec<&str> = guids.filter(|guid| !guid.is_empty()).collect();
    guids.sort_unstable();
    guids.dedup();
    let mut names = BTreeMap::new();
    for batch in guids.chunks(BATCH) {
        for one in api.list(&query(path, &[("guids", &batch.join(","))])).await? {
            names.insert(text(&one, "/guid").to_owned(), text(&one, "/name").to_owned());
        }
    }
    Ok(names)
}

/// The guid of a route that has to be there.
pub(super) async fn existing(api: &mut Api, args: &RouteArgs) -> anyhow::Result<String> {
    let domain = domain(api, &args.domain).await?;
    match find(api, args, &domain).await? {
        Some(route) => Ok(text(&route, "/guid").to_owned()),
        None => bail!(missing(args)),
    }
}

async fn domain(api: &mut Api, name: &str) -> anyhow::Result<Value> {
    match api.first(&query("/v3/domains", &[("names", name), ("per_page", "1"), ("page", "1")])).await? {
        Some(domain) => Ok(domain),
        None => {
            bail!(Problem::new(format!("Domain '{name}' not found.")).tip("'cf domains' lists the domains that you may use."))
        }
    }
}

async fn find(api: &mut Api, args: &RouteArgs, domain: &Value) -> anyhow::Result<Option<Value>> {
    let (host, path) = (args.hostname.as_deref().unwrap_or_default(), slashed(args));
    let mut pairs = vec![("domain_guids", text(domain, "/guid")), ("hosts", host), ("paths", path.as_str())];
    let port = args.port.map(|port| port.to_string());
    pairs.extend(port.as_deref().map(|port| ("ports", port)));
    pairs.extend([("per_page", "1"), ("page", "1")]);
    api.first(&query("/v3/routes", &pairs)).await
}

async fn make(api: &mut Api, args: &RouteArgs, domain: &Value, space: &str) -> anyhow::Result<Value> {
    let mut body = json!({ "relationships": {
        "space": { "data": { "guid": space } }, "domain": { "data": { "guid": text(domain, "/guid") } },
    } });
    if let Some(host) = &args.hostname {
        body["host"] = json!(host);
    }
    if args.path.is_some() {
        body["path"] = json!(slashed(args));
    }
    if let Some(port) = args.port {
        body["port"] = json!(port);
    }
    Ok(api.post("/v3/routes", &body).await?.body)
}

fn slashed(args: &RouteArgs) -> String {
    match args.path.as_deref() {
        None | Some("") => String::new(),
        Some(path) if path.starts_with('/') => path.to_owned(),
        Some(path) => format!("/{path}"),
    }
}

/// A route as it is shown: `host.domain/path`.
pub(super) fn url(args: &RouteArgs) -> String {
    let host = args.hostname.as_ref().map(|host| format!("{host}.")).unwrap_or_default();
    let port = args.port.map(|port| format!(":{port}")).unwrap_or_default();
    format!("{host}{}{port}{}", args.domain, slashed(args))
}

fn missing(args: &RouteArgs) -> Problem {
    Problem::new(format!("Route '{}' not found.", url(args))).tip("'cf routes' lists the routes of the space.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_is_shown_as_its_address() {
        let args =
            RouteArgs { domain: "app.localhost".into(), hostname: Some("www".into()), path: Some("api".into()), port: None };
        assert_eq!(url(&args), "www.app.localhost/api");
        let args = RouteArgs { domain: "tcp.localhost".into(), hostname: None, path: None, port: Some(1024) };
        assert_eq!(url(&args), "tcp.localhost:1024");
    }
}
