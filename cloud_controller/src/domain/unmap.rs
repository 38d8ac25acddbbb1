//! Taking an app off all its routes.

use crate::{
    domain::{Result, Scope, Tx, apps as app_domain},
    store::{apps::App, schema::destinations},
};
use diesel::prelude::*;
use serde_json::json;

/// Removes every destination of an app; the routes stay.
pub fn all_of_app(tx: &mut Tx<'_>, app: &App, scope: &Scope) -> Result<()> {
    type Row = (String, String, String, i32, String, Option<i32>);
    let columns = (
        destinations::guid,
        destinations::route_guid,
        destinations::process_type,
        destinations::port,
        destinations::protocol,
        destinations::weight,
    );
    let of_app = destinations::table.filter(destinations::app_guid.eq(&app.guid));
    let rows: Vec<Row> = of_app.order((destinations::created_at, destinations::guid)).select(columns).load(tx.conn)?;
    for (guid, route, process_type, port, protocol, weight) in rows {
        diesel::delete(destinations::table.find(&guid)).execute(tx.conn)?;
        let data = json!({
            "route_guid": route, "app_port": port, "destination_guid": guid, "route_mapping_guid": guid,
            "process_type": process_type, "weight": weight, "protocol": protocol,
        });
        app_domain::event(tx, "audit.app.unmap-route", app, scope, data)?;
    }
    Ok(())
}
