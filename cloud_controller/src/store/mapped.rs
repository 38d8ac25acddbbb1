//! Routes as the runtime sees them: what leads to which process of an app.

use crate::{
    domain::Result,
    store::{
        Conn,
        schema::{destinations, domains, routes, service_bindings, service_instances},
    },
};
use cloud_controller_client::Route;
use diesel::prelude::*;
use serde_json::Value;

/// A route that leads to processes of one type of an app.
#[derive(Clone, Debug, PartialEq)]
pub struct Mapped {
    pub app_guid: String,
    pub process_type: String,
    pub route: Route,
}

type Row = (String, String, i32, String, String, String, String, Option<String>, Option<String>, Option<String>);

/// All routes that lead to these apps, in order of their creation.
pub fn of_apps(conn: &mut Conn, apps: &[String]) -> Result<Vec<Mapped>> {
    // A service that could not be bound, or is not yet, is none; one that is about to go still is.
    let never = service_bindings::op_type.eq("create").and(service_bindings::op_state.ne("succeeded"));
    let bound = service_bindings::route_guid.eq(routes::guid.nullable()).and(service_bindings::kind.eq("route"));
    let rows: Vec<Row> = destinations::table
        .inner_join(routes::table.on(routes::guid.eq(destinations::route_guid)))
        .inner_join(domains::table.on(domains::guid.eq(routes::domain_guid)))
        .left_join(service_bindings::table.on(bound.and(diesel::dsl::not(never))))
        .left_join(service_instances::table.on(service_instances::guid.eq(service_bindings::instance_guid)))
        .filter(destinations::app_guid.eq_any(apps))
        .order((destinations::created_at, destinations::guid))
        .select((
            destinations::app_guid,
            destinations::process_type,
            destinations::port,
            destinations::protocol,
            routes::host,
            domains::name,
            routes::path,
            routes::options,
            service_bindings::route_service_url.nullable(),
            service_instances::route_service_url.nullable(),
        ))
        .load(conn)?;
    let each = rows.into_iter().map(|(app_guid, process_type, port, protocol, host, domain, path, options, said, own)| {
        let options: Value = options.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let uri = if host.is_empty() { format!("{domain}{path}") } else { format!("{host}.{domain}{path}") };
        let port = u16::try_from(port).unwrap_or_default();
        let loadbalancing = options.get("loadbalancing").and_then(Value::as_str).map(str::to_owned);
        let route_service_url = said.or(own);
        Mapped { app_guid, process_type, route: Route { uri, port, protocol, loadbalancing, route_service_url } }
    });
    Ok(each.collect())
}
