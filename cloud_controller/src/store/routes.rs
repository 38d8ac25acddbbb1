//! Routes and their destinations.

use crate::{
    domain::{Access, Result},
    store::{
        Conn, Db,
        apps::App,
        domains::Domain,
        query::{self, List, Listed, key},
        schema::{apps, destinations, domains, route_shares, routes, service_bindings},
        spaces,
    },
};
use diesel::prelude::*;

/// The kind under which their metadata is kept.
pub const KIND: &str = "routes";

/// A route as the table has it.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = routes, primary_key(guid), treat_none_as_null = true)]
pub struct RouteRow {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub space_guid: String,
    pub domain_guid: String,
    pub host: String,
    pub host_key: String,
    /// Empty, or beginning with `/`.
    pub path: String,
    pub path_key: String,
    /// 0: none.
    pub port: i32,
    /// A JSON object.
    pub options: Option<String>,
}

impl RouteRow {
    /// `host.domain/path`
    pub fn url(&self, domain: &str) -> String {
        if self.host.is_empty() { format!("{domain}{}", self.path) } else { format!("{}.{domain}{}", self.host, self.path) }
    }
}

/// A destination as the table has it.
#[derive(Clone, Debug, PartialEq, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = destinations, primary_key(guid), treat_none_as_null = true)]
pub struct Destination {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    pub route_guid: String,
    pub app_guid: String,
    pub process_type: String,
    pub port: i32,
    /// `http1` or `http2`
    pub protocol: String,
    pub weight: Option<i32>,
}

/// Adds a route; domain, host, path and port are a unique key.
pub fn insert(conn: &mut Conn, route: &RouteRow) -> QueryResult<()> {
    diesel::insert_into(routes::table).values(route).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, route: &RouteRow) -> Result<()> {
    diesel::update(routes::table.find(&route.guid)).set(route).execute(conn)?;
    Ok(())
}
/// Removes routes with their destinations.
pub fn delete(conn: &mut Conn, guids: &[String]) -> Result<()> {
    diesel::delete(routes::table.filter(routes::guid.eq_any(guids))).execute(conn)?;
    Ok(())
}
/// Finds a route with its domain.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<(RouteRow, Domain)>> {
    let query = routes::table.inner_join(domains::table.on(domains::guid.eq(routes::domain_guid))).filter(routes::guid.eq(guid));
    Ok(query.select((RouteRow::as_select(), Domain::as_select())).first(conn).optional()?)
}
/// Routes by guid, in order of creation.
pub fn find_all(conn: &mut Conn, guids: &[String]) -> Result<Vec<RouteRow>> {
    let query = routes::table.filter(routes::guid.eq_any(guids)).order((routes::created_at, routes::guid));
    Ok(query.select(RouteRow::as_select()).load(conn)?)
}
/// Finds a route by what it spells.
pub fn find_spelled(conn: &mut Conn, domain: &str, host: &str, path: &str, port: i32) -> Result<Option<RouteRow>> {
    let query = routes::table
        .filter(routes::domain_guid.eq(domain))
        .filter(routes::host_key.eq(key(host)))
        .filter(routes::path_key.eq(key(path)))
        .filter(routes::port.eq(port));
    Ok(query.select(RouteRow::as_select()).first(conn).optional()?)
}
/// True when another space has this host in this domain, whatever the path.
pub fn host_in_other_space(conn: &mut Conn, domain: &str, host: &str, space: &str) -> Result<bool> {
    let query = routes::table
        .filter(routes::domain_guid.eq(domain))
        .filter(routes::host_key.eq(key(host)))
        .filter(routes::space_guid.ne(space));
    let found: i64 = query.count().get_result(conn)?;
    Ok(found > 0)
}
/// True when a route has this host in this domain.
pub fn has_host(conn: &mut Conn, domain: &str, host: &str) -> Result<bool> {
    let query = routes::table.filter(routes::domain_guid.eq(domain)).filter(routes::host_key.eq(key(host)));
    let found: i64 = query.count().get_result(conn)?;
    Ok(found > 0)
}
/// Guids of the routes of a space.
pub fn of_space(conn: &mut Conn, space: &str) -> Result<Vec<String>> {
    Ok(routes::table.filter(routes::space_guid.eq(space)).select(routes::guid).load(conn)?)
}
/// Guids of the routes of a space that lead nowhere.
pub fn unmapped_of_space(conn: &mut Conn, space: &str) -> Result<Vec<String>> {
    let mapped = destinations::table.select(destinations::route_guid);
    Ok(routes::table.filter(routes::space_guid.eq(space)).filter(routes::guid.ne_all(mapped)).select(routes::guid).load(conn)?)
}
/// Guids of the routes of a domain.
pub fn of_domain(conn: &mut Conn, domain: &str) -> Result<Vec<String>> {
    Ok(routes::table.filter(routes::domain_guid.eq(domain)).select(routes::guid).load(conn)?)
}

/// A page of the routes that the caller sees (RR), in own and shared-in spaces; with `app`, only those that lead to it.
pub fn list(conn: &mut Conn, who: &Access, app: Option<&str>, list: &List) -> Result<Listed<RouteRow>> {
    let filtered = || -> routes::BoxedQuery<'static, Db> {
        let shared = |with| route_shares::table.select(route_shares::route_guid).filter(route_shares::space_guid.eq_any(with));
        let mut query = routes::table.into_boxed();
        if let Some(app) = app {
            let leading = destinations::table.select(destinations::route_guid).filter(destinations::app_guid.eq(app.to_owned()));
            query = query.filter(routes::guid.eq_any(leading));
        } else if !who.global_reader() {
            let own = routes::space_guid.eq_any(spaces::route_readable(who));
            query = query.filter(own.or(routes::guid.eq_any(shared(spaces::route_readable(who)))));
        }
        query::filter_common!(query, routes, list, KIND);
        if let Some(hosts) = list.keys("hosts") {
            query = query.filter(routes::host_key.eq_any(hosts));
        }
        if let Some(paths) = list.keys("paths") {
            query = query.filter(routes::path_key.eq_any(paths));
        }
        if let Some(ports) = list.values("ports") {
            // What is no number matches nothing; 0 stands for "none" in the table.
            let ports: Vec<i32> = ports.iter().filter_map(|port| port.parse().ok()).filter(|port| *port > 0).collect();
            query = query.filter(routes::port.eq_any(ports));
        }
        if let Some(domains) = list.values("domain_guids") {
            query = query.filter(routes::domain_guid.eq_any(domains));
        }
        if let Some(apps) = list.values("app_guids") {
            let leading = destinations::table.select(destinations::route_guid).filter(destinations::app_guid.eq_any(apps));
            query = query.filter(routes::guid.eq_any(leading));
        }
        if let Some(spaces) = list.values("space_guids") {
            let shared_in =
                route_shares::table.select(route_shares::route_guid).filter(route_shares::space_guid.eq_any(spaces.clone()));
            query = query.filter(routes::space_guid.eq_any(spaces).or(routes::guid.eq_any(shared_in)));
        }
        if let Some(orgs) = list.values("organization_guids") {
            query = query.filter(routes::space_guid.eq_any(spaces::of_orgs(orgs)));
        }
        if let Some(instances) = list.values("service_instance_guids") {
            let bound = service_bindings::table
                .filter(service_bindings::instance_guid.eq_any(instances))
                .filter(service_bindings::route_guid.is_not_null())
                .select(service_bindings::route_guid.assume_not_null());
            query = query.filter(routes::guid.eq_any(bound));
        }
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, routes, list, "updated_at" => routes::updated_at);
    Ok(Listed { rows: query.select(RouteRow::as_select()).load(conn)?, total })
}

/// The destinations of these routes, in order of creation.
pub fn destinations_of(conn: &mut Conn, routes: &[String]) -> Result<Vec<Destination>> {
    let query = destinations::table.filter(destinations::route_guid.eq_any(routes));
    let query = query.order((destinations::created_at, destinations::guid));
    Ok(query.select(Destination::as_select()).load(conn)?)
}
/// Adds a destination; route, app, process type, port and protocol are a unique key.
pub fn insert_destination(conn: &mut Conn, destination: &Destination) -> QueryResult<()> {
    diesel::insert_into(destinations::table).values(destination).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save_destination(conn: &mut Conn, destination: &Destination) -> Result<()> {
    diesel::update(destinations::table.find(&destination.guid)).set(destination).execute(conn)?;
    Ok(())
}
/// Removes a destination.
pub fn delete_destination(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(destinations::table.find(guid)).execute(conn)?;
    Ok(())
}

/// The spaces that a route is shared with.
pub fn shared_spaces(conn: &mut Conn, route: &str) -> Result<Vec<String>> {
    let query = route_shares::table.filter(route_shares::route_guid.eq(route)).select(route_shares::space_guid);
    Ok(query.order(route_shares::space_guid).load(conn)?)
}
/// Shares a route; doing it again changes nothing.
pub fn share(conn: &mut Conn, route: &str, space: &str) -> Result<()> {
    let known: i64 = route_shares::table.find((route, space)).count().get_result(conn)?;
    if known == 0 {
        let row = (route_shares::route_guid.eq(route), route_shares::space_guid.eq(space));
        diesel::insert_into(route_shares::table).values(row).execute(conn)?;
    }
    Ok(())
}
/// Ends sharing a route.
pub fn unshare(conn: &mut Conn, route: &str, space: &str) -> Result<()> {
    diesel::delete(route_shares::table.find((route, space))).execute(conn)?;
    Ok(())
}
/// An app that a destination names.
pub fn app(conn: &mut Conn, guid: &str) -> Result<Option<App>> {
    Ok(apps::table.find(guid).select(App::as_select()).first(conn).optional()?)
}
/// The space of an app.
pub fn app_space(conn: &mut Conn, guid: &str) -> Result<Option<String>> {
    Ok(apps::table.find(guid).select(apps::space_guid).first(conn).optional()?)
}
