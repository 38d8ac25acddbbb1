//! Where routes lead.

use crate::{
    domain::{Error, Hint, Result, Scope, Tx, apps, audit, routes, taken},
    store::{
        self,
        apps::App,
        routes::{Destination, RouteRow},
    },
};
use serde_json::json;
use std::collections::BTreeSet;

/// The port of apps that name none.
pub const DEFAULT_PORT: i32 = 8080;
const MAX_DESTINATIONS: usize = 100;

/// A destination that is asked for.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Wanted {
    pub app: String,
    pub process_type: String,
    pub port: Option<i32>,
    /// `http1` or `http2`
    pub protocol: Option<String>,
    pub weight: Option<i32>,
}

/// Adds destinations (M); those that are there already are skipped.
pub fn add(tx: &mut Tx<'_>, route: &str, wanted: &[Wanted]) -> Result<Vec<Destination>> {
    let (route, _, scope) = routes::manageable(tx, route)?;
    let apps = apps_of(tx, &route, &scope, wanted)?;
    let present = store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))?;
    if present.iter().any(|d| d.weight.is_some()) {
        let text = "Destinations cannot be inserted when there are weighted destinations already configured.";
        return Err(Error::invalid(text));
    }
    if present.len() + wanted.len() > MAX_DESTINATIONS {
        return Err(Error::invalid(format!("Routes can be mapped to at most {MAX_DESTINATIONS} destinations.")));
    }
    for (wanted, (app, app_scope)) in wanted.iter().zip(&apps) {
        map(tx, &route, app, app_scope, wanted)?;
    }
    store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))
}

/// Replaces all destinations (M).
pub fn replace(tx: &mut Tx<'_>, route: &str, wanted: &[Wanted]) -> Result<Vec<Destination>> {
    let (route, _, scope) = routes::manageable(tx, route)?;
    let apps = apps_of(tx, &route, &scope, wanted)?;
    check_weights(wanted)?;
    for old in store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))? {
        let kept = wanted.iter().any(|w| same(&old, w) && old.weight == w.weight);
        if !kept {
            remove(tx, &route, &scope, &old)?;
        }
    }
    for (wanted, (app, app_scope)) in wanted.iter().zip(&apps) {
        map(tx, &route, app, app_scope, wanted)?;
    }
    store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))
}

fn same(old: &Destination, wanted: &Wanted) -> bool {
    old.app_guid == wanted.app
        && old.process_type == wanted.process_type
        && old.port == wanted.port.unwrap_or(DEFAULT_PORT)
        && old.protocol == wanted.protocol.as_deref().unwrap_or("http1")
}

fn check_weights(wanted: &[Wanted]) -> Result<()> {
    let weights: Vec<i32> = wanted.iter().filter_map(|w| w.weight).collect();
    if weights.is_empty() {
        return Ok(());
    }
    if weights.len() < wanted.len() {
        return Err(Error::invalid("Destinations cannot contain both weighted and unweighted destinations."));
    }
    if weights.iter().sum::<i32>() != 100 {
        return Err(Error::invalid("Destinations must have weights that sum to 100."));
    }
    Ok(())
}

/// The apps of a request, each once looked up, in its order.
fn apps_of(tx: &mut Tx<'_>, route: &RouteRow, scope: &Scope, wanted: &[Wanted]) -> Result<Vec<(App, Scope)>> {
    if wanted.iter().collect::<BTreeSet<_>>().len() < wanted.len() {
        return Err(Error::invalid("Destinations cannot contain duplicate entries"));
    }
    let (mut found, mut missing) = (vec![], BTreeSet::new());
    for wanted in wanted {
        match apps::readable(tx, &wanted.app) {
            Ok(app) => found.push(app),
            // Whether it exists is nothing that the caller may learn.
            Err(Error::NotFound(_)) => drop(missing.insert(format!("\"{}\"", wanted.app))),
            Err(e) => return Err(e),
        }
    }
    if !missing.is_empty() {
        let missing: Vec<String> = missing.into_iter().collect();
        return Err(Error::invalid(format!("App(s) with guid(s) {} do not exist.", missing.join(", "))));
    }
    let shared = store::routes::shared_spaces(tx.conn, &route.guid)?;
    let fits = |(app, _): &(App, Scope)| app.space_guid == scope.space.guid || shared.contains(&app.space_guid);
    if !found.iter().all(fits) {
        return Err(Error::invalid("Routes destinations must be in either the route's space or the route's shared spaces"));
    }
    Ok(found)
}

/// Adds one destination that was checked; false when it was there already.
pub fn map(tx: &mut Tx<'_>, route: &RouteRow, app: &App, scope: &Scope, wanted: &Wanted) -> Result<bool> {
    let protocol = wanted.protocol.clone().unwrap_or_else(|| "http1".into());
    let port = wanted.port.unwrap_or(DEFAULT_PORT);
    let present = store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))?;
    let of_app = || present.iter().filter(|d| d.app_guid == app.guid && d.process_type == wanted.process_type && d.port == port);
    if of_app().any(|d| d.protocol == protocol) {
        return Ok(false);
    }
    if of_app().next().is_some() {
        let text =
            format!("Cannot add destination with protocol: {protocol}. Destination already exists for route: {}", route.host);
        return Err(Error::invalid(text));
    }
    let row = Destination {
        guid: tx.guid(),
        created_at: tx.micros(),
        updated_at: tx.micros(),
        route_guid: route.guid.clone(),
        app_guid: app.guid.clone(),
        process_type: wanted.process_type.clone(),
        port,
        protocol,
        weight: wanted.weight,
    };
    taken(store::routes::insert_destination(tx.conn, &row), || Error::invalid("Destinations cannot contain duplicate entries"))?;
    tell(tx, &row, app, scope, "audit.app.map-route")?;
    Ok(true)
}

/// Removes one destination (M).
pub fn delete(tx: &mut Tx<'_>, route: &str, guid: &str) -> Result<()> {
    let (route, _, scope) = routes::manageable(tx, route)?;
    let destination = find(tx, &route, guid)?;
    if destination.weight.is_some() {
        return Err(Error::invalid("Weighted destinations cannot be deleted individually."));
    }
    remove(tx, &route, &scope, &destination)
}

fn find(tx: &mut Tx<'_>, route: &RouteRow, guid: &str) -> Result<Destination> {
    let of_route = store::routes::destinations_of(tx.conn, std::slice::from_ref(&route.guid))?;
    let text = "Unable to unmap route from destination. Ensure the route has a destination with this guid.";
    of_route.into_iter().find(|d| d.guid == guid).ok_or_else(|| Error::invalid(text))
}

/// Removes one destination that was checked. `scope` is that of the route.
pub fn remove(tx: &mut Tx<'_>, route: &RouteRow, scope: &Scope, destination: &Destination) -> Result<()> {
    store::routes::delete_destination(tx.conn, &destination.guid)?;
    // The app may be in a space that the route is shared with, which the caller need not see.
    let app = store::routes::app(tx.conn, &destination.app_guid)?;
    match app {
        Some(app) if app.space_guid == route.space_guid => tell(tx, destination, &app, scope, "audit.app.unmap-route"),
        Some(app) => match Scope::find(tx, &app.space_guid)? {
            Some(scope) => tell(tx, destination, &app, &scope, "audit.app.unmap-route"),
            None => Ok(()),
        },
        None => Ok(()),
    }
}

/// Changes the protocol of a destination (M).
pub fn set_protocol(tx: &mut Tx<'_>, route: &str, guid: &str, protocol: &str) -> Result<Destination> {
    let (route, _, _) = routes::manageable(tx, route)?;
    let mut destination = find(tx, &route, guid)?;
    protocol.clone_into(&mut destination.protocol);
    destination.updated_at = tx.micros();
    store::routes::save_destination(tx.conn, &destination)?;
    routes::tell_apps(tx, std::slice::from_ref(&route.guid))?;
    Ok(destination)
}

fn tell(tx: &mut Tx<'_>, row: &Destination, app: &App, scope: &Scope, kind: &str) -> Result<()> {
    if let Ok(app) = app.guid.parse() {
        tx.hint(Hint::Routes(app));
    }
    let data = json!({
        "route_guid": row.route_guid, "app_port": row.port, "destination_guid": row.guid, "route_mapping_guid": row.guid,
        "process_type": row.process_type, "weight": row.weight, "protocol": row.protocol,
    });
    let (space, org) = (Some(scope.space.guid.as_str()), Some(scope.org.guid.as_str()));
    audit::record(tx, audit::Event { kind, target: ("app", &app.guid, &app.name), space, org, data })
}
