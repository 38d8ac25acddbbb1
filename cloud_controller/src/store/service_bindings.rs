//! Bindings of service instances: to apps, to routes, and keys.

use crate::{
    domain::{Access, Result},
    store::{
        Conn, Db, apps,
        query::{self, List, Listed},
        schema::{
            apps as app_table, routes, service_bindings, service_brokers, service_instances, service_offerings, service_plans,
            spaces as space_table,
        },
        service_instances::{Instance, lower},
        service_offerings::Offering,
        service_plans::Plan,
        spaces,
    },
};
use diesel::prelude::*;

/// The kind under which metadata of bindings to apps and of keys is kept.
pub const CREDENTIAL_KIND: &str = "service_credential_bindings";
/// The kind under which metadata of bindings to routes is kept.
pub const ROUTE_KIND: &str = "service_route_bindings";

/// A binding as the table has it.
#[derive(Clone, Debug, Queryable, Insertable, Selectable, AsChangeset)]
#[diesel(table_name = service_bindings, primary_key(guid), treat_none_as_null = true)]
pub struct Binding {
    pub guid: String,
    pub created_at: i64,
    pub updated_at: i64,
    /// `app`, `key`, `route`
    pub kind: String,
    pub name: Option<String>,
    pub instance_guid: String,
    pub app_guid: Option<String>,
    pub route_guid: Option<String>,
    /// A sealed JSON object.
    pub credentials: Option<Vec<u8>>,
    pub syslog_drain_url: Option<String>,
    pub route_service_url: Option<String>,
    /// A sealed JSON array, as the broker sent it.
    pub volume_mounts: Option<Vec<u8>>,
    /// A JSON array, as the broker sent it.
    pub endpoints: Option<String>,
    /// `create` or `delete`
    pub op_type: String,
    /// `initial`, `in progress`, `succeeded`, `failed`
    pub op_state: String,
    pub op_description: String,
    pub op_created_at: i64,
    pub op_updated_at: i64,
}

impl Binding {
    /// Where the credentials of a binding belong.
    pub fn place(guid: &str) -> String {
        format!("service_bindings.credentials:{guid}")
    }
    /// Where the volume mounts of a binding belong.
    pub fn place_of_mounts(guid: &str) -> String {
        format!("service_bindings.volume_mounts:{guid}")
    }
}

/// Adds a binding; names of keys of an instance, and the service of a route, are unique keys.
pub fn insert(conn: &mut Conn, row: &Binding) -> QueryResult<()> {
    diesel::insert_into(service_bindings::table).values(row).execute(conn).map(drop)
}
/// Writes all columns.
pub fn save(conn: &mut Conn, row: &Binding) -> QueryResult<()> {
    diesel::update(service_bindings::table.find(&row.guid)).set(row).execute(conn).map(drop)
}
/// Finds a binding.
pub fn find(conn: &mut Conn, guid: &str) -> Result<Option<Binding>> {
    Ok(service_bindings::table.find(guid).select(Binding::as_select()).first(conn).optional()?)
}
/// Removes a binding.
pub fn delete(conn: &mut Conn, guid: &str) -> Result<()> {
    diesel::delete(service_bindings::table.find(guid)).execute(conn)?;
    Ok(())
}

/// Bindings of an instance, oldest first.
pub fn of_instance(conn: &mut Conn, instance: &str) -> Result<Vec<Binding>> {
    let query = service_bindings::table.filter(service_bindings::instance_guid.eq(instance));
    Ok(query.order((service_bindings::created_at, service_bindings::guid)).select(Binding::as_select()).load(conn)?)
}
/// Bindings of an app, oldest first.
pub fn of_app(conn: &mut Conn, app: &str) -> Result<Vec<Binding>> {
    let query = service_bindings::table.filter(service_bindings::app_guid.eq(app)).filter(service_bindings::kind.eq("app"));
    Ok(query.order((service_bindings::created_at, service_bindings::guid)).select(Binding::as_select()).load(conn)?)
}
/// Bindings of the routes to their services.
pub fn of_routes(conn: &mut Conn, routes: &[String]) -> Result<Vec<Binding>> {
    let query =
        service_bindings::table.filter(service_bindings::route_guid.eq_any(routes)).filter(service_bindings::kind.eq("route"));
    Ok(query.order((service_bindings::created_at, service_bindings::guid)).select(Binding::as_select()).load(conn)?)
}
/// Routes that are bound to these instances.
pub fn routes_of_instances(conn: &mut Conn, instances: &[String]) -> Result<Vec<String>> {
    let query = service_bindings::table
        .filter(service_bindings::instance_guid.eq_any(instances))
        .filter(service_bindings::kind.eq("route"))
        .select(service_bindings::route_guid);
    let routes: Vec<Option<String>> = query.load(conn)?;
    Ok(routes.into_iter().flatten().collect())
}
/// How many keys instances of a space have.
pub fn keys_of_space(conn: &mut Conn, space: &str) -> Result<i64> {
    let query = service_bindings::table
        .inner_join(service_instances::table.on(service_instances::guid.eq(service_bindings::instance_guid)))
        .filter(service_bindings::kind.eq("key"))
        .filter(service_instances::space_guid.eq(space));
    Ok(query.count().get_result(conn)?)
}
/// How many keys instances of an organization have.
pub fn keys_of_org(conn: &mut Conn, org: &str) -> Result<i64> {
    let query = service_bindings::table
        .inner_join(service_instances::table.on(service_instances::guid.eq(service_bindings::instance_guid)))
        .inner_join(space_table::table.on(space_table::guid.eq(service_instances::space_guid)))
        .filter(service_bindings::kind.eq("key"))
        .filter(space_table::org_guid.eq(org));
    Ok(query.count().get_result(conn)?)
}

/// A binding with what is shown with it.
#[derive(Clone, Debug)]
pub struct Shown {
    pub binding: Binding,
    pub instance: Instance,
    /// None of a user-provided instance.
    pub offered: Option<(Plan, Offering)>,
}

/// Bindings that an app can be told of, oldest first: made, and not about to go.
pub fn usable_of_app(conn: &mut Conn, app: &str) -> Result<Vec<Shown>> {
    let made = service_bindings::op_type.eq("create").and(service_bindings::op_state.eq("succeeded"));
    let kept = service_bindings::op_type.eq("delete").and(service_bindings::op_state.eq("failed"));
    let query = service_bindings::table
        .inner_join(service_instances::table.on(service_instances::guid.eq(service_bindings::instance_guid)))
        .left_join(service_plans::table.on(service_plans::guid.nullable().eq(service_instances::plan_guid)))
        .left_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .filter(service_bindings::app_guid.eq(app))
        .filter(service_bindings::kind.eq("app"))
        .filter(made.or(kept))
        .order((service_bindings::created_at, service_bindings::guid));
    let rows: Vec<(Binding, Instance, Option<Plan>, Option<Offering>)> = query
        .select((Binding::as_select(), Instance::as_select(), Option::<Plan>::as_select(), Option::<Offering>::as_select()))
        .load(conn)?;
    let each = rows.into_iter();
    Ok(each.map(|(binding, instance, plan, offering)| Shown { binding, instance, offered: plan.zip(offering) }).collect())
}

/// App and endpoints of usable bindings of these apps, as brokers that an operator registered sent them.
pub fn endpoints_of_apps(conn: &mut Conn, apps: &[String]) -> Result<Vec<(String, String)>> {
    let made = service_bindings::op_type.eq("create").and(service_bindings::op_state.eq("succeeded"));
    let query = service_bindings::table
        .inner_join(service_instances::table.on(service_instances::guid.eq(service_bindings::instance_guid)))
        .inner_join(service_plans::table.on(service_plans::guid.nullable().eq(service_instances::plan_guid)))
        .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
        .inner_join(service_brokers::table.on(service_brokers::guid.eq(service_offerings::broker_guid)))
        .filter(service_bindings::app_guid.eq_any(apps))
        .filter(service_bindings::kind.eq("app"))
        .filter(service_bindings::endpoints.is_not_null())
        .filter(service_brokers::space_guid.is_null())
        // One that is about to go still serves what runs.
        .filter(made.or(service_bindings::op_type.eq("delete")))
        .order((service_bindings::created_at, service_bindings::guid));
    let rows: Vec<(Option<String>, Option<String>)> =
        query.select((service_bindings::app_guid, service_bindings::endpoints)).load(conn)?;
    Ok(rows.into_iter().filter_map(|(app, endpoints)| app.zip(endpoints)).collect())
}

/// Filters by instance and by what is above it.
macro_rules! of_instances {
    ($query:ident, $list:expr) => {
        if let Some(guids) = $list.values("service_instance_guids") {
            $query = $query.filter(service_bindings::instance_guid.eq_any(guids));
        }
        if let Some(names) = $list.keys("service_instance_names") {
            let named =
                service_instances::table.select(service_instances::guid).filter(lower(service_instances::name).eq_any(names));
            $query = $query.filter(service_bindings::instance_guid.eq_any(named));
        }
        if let Some(guids) = $list.values("service_plan_guids") {
            let of = service_instances::plan_guid.is_not_null().and(service_instances::plan_guid.assume_not_null().eq_any(guids));
            let of = service_instances::table.select(service_instances::guid).filter(of);
            $query = $query.filter(service_bindings::instance_guid.eq_any(of));
        }
        if let Some(names) = $list.keys("service_plan_names") {
            let of = service_instances::table
                .inner_join(service_plans::table.on(service_plans::guid.nullable().eq(service_instances::plan_guid)))
                .filter(lower(service_plans::name).eq_any(names))
                .select(service_instances::guid);
            $query = $query.filter(service_bindings::instance_guid.eq_any(of));
        }
        if let Some(guids) = $list.values("service_offering_guids") {
            let of = service_instances::table
                .inner_join(service_plans::table.on(service_plans::guid.nullable().eq(service_instances::plan_guid)))
                .filter(service_plans::offering_guid.eq_any(guids))
                .select(service_instances::guid);
            $query = $query.filter(service_bindings::instance_guid.eq_any(of));
        }
        if let Some(names) = $list.keys("service_offering_names") {
            let of = service_instances::table
                .inner_join(service_plans::table.on(service_plans::guid.nullable().eq(service_instances::plan_guid)))
                .inner_join(service_offerings::table.on(service_offerings::guid.eq(service_plans::offering_guid)))
                .filter(lower(service_offerings::name).eq_any(names))
                .select(service_instances::guid);
            $query = $query.filter(service_bindings::instance_guid.eq_any(of));
        }
    };
}

/// A page of the bindings to apps (R of the app's space) and keys (R of the instance's space) that the caller sees.
pub fn list_credential(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<Binding>> {
    let filtered = || -> service_bindings::BoxedQuery<'static, Db> {
        let mut query = service_bindings::table.into_boxed().filter(service_bindings::kind.eq_any(["app", "key"]));
        if !who.global_reader() {
            let of_app = service_bindings::app_guid.assume_not_null().eq_any(apps::readable(who));
            let instances = service_instances::table
                .select(service_instances::guid)
                .filter(service_instances::space_guid.eq_any(spaces::readable(who)));
            let of_key = service_bindings::kind.eq("key").and(service_bindings::instance_guid.eq_any(instances));
            query = query.filter(service_bindings::app_guid.is_not_null().and(of_app).or(of_key));
        }
        query::filter_common!(query, service_bindings, list, CREDENTIAL_KIND);
        if let Some(names) = list.values("names") {
            query =
                query.filter(service_bindings::name.is_not_null().and(service_bindings::name.assume_not_null().eq_any(names)));
        }
        if let Some(kinds) = list.values("type") {
            query = query.filter(service_bindings::kind.eq_any(kinds));
        }
        if let Some(guids) = list.values("app_guids") {
            let of = service_bindings::app_guid.assume_not_null().eq_any(guids);
            query = query.filter(service_bindings::app_guid.is_not_null().and(of));
        }
        if let Some(names) = list.keys("app_names") {
            let named = app_table::table.select(app_table::guid).filter(app_table::name_key.eq_any(names));
            let of = service_bindings::app_guid.assume_not_null().eq_any(named);
            query = query.filter(service_bindings::app_guid.is_not_null().and(of));
        }
        of_instances!(query, list);
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, service_bindings, list, "updated_at" => service_bindings::updated_at, "name" => service_bindings::name);
    Ok(Listed { rows: query.select(Binding::as_select()).load(conn)?, total })
}

/// A page of the bindings to routes that the caller sees (R of the route's space).
pub fn list_route(conn: &mut Conn, who: &Access, list: &List) -> Result<Listed<Binding>> {
    let filtered = || -> service_bindings::BoxedQuery<'static, Db> {
        let mut query = service_bindings::table.into_boxed().filter(service_bindings::kind.eq("route"));
        if !who.global_reader() {
            let seen = routes::table.select(routes::guid).filter(routes::space_guid.eq_any(spaces::readable(who)));
            query = query.filter(service_bindings::route_guid.assume_not_null().eq_any(seen));
        }
        query::filter_common!(query, service_bindings, list, ROUTE_KIND);
        if let Some(guids) = list.values("route_guids") {
            query = query.filter(service_bindings::route_guid.assume_not_null().eq_any(guids));
        }
        of_instances!(query, list);
        query
    };
    let total = filtered().count().get_result(conn)?;
    let mut query = filtered();
    query::order_and_page!(query, service_bindings, list, "updated_at" => service_bindings::updated_at);
    Ok(Listed { rows: query.select(Binding::as_select()).load(conn)?, total })
}
