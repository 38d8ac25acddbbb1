//! Routes as the runtime sees them: what leads to which process of an app.

use crate::{
    domain::Result,
    store::{
        Conn,
        schema::{destinations, domains, routes},
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

type Row = (String, String, i32, String, String, String, String, Option<String>);

/// All routes that lead to these apps, in order of their creation.
pub fn of_apps(conn: &mut Conn, apps: &[String]) -> Result<Vec<Mapped>> {
    let rows: Vec<Row> = destinations::table
        .inner_join(routes::table.on(routes::guid.eq(destinations::route_guid)))
        .inner_join(domains::table.on(domains::guid.eq(routes::domain_guid)))
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
        ))
        .load(conn)?;
    let each = rows.into_iter().map(|(app_guid, process_type, port, protocol, host, domain, path, options)| {
        let options: Value = options.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
        let uri = if host.is_empty() { format!("{domain}{path}") } else { format!("{host}.{domain}{path}") };
        let port = u16::try_from(port).unwrap_or_default();
        let loadbalancing = options.get("loadbalancing").and_then(Value::as_str).map(str::to_owned);
        Mapped { app_guid, process_type, route: Route { uri, port, protocol, loadbalancing, route_service_url: None } }
    });
    Ok(each.collect())
}
