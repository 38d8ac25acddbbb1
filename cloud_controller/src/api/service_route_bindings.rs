//! `/v3/service_route_bindings`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw},
        created,
        include::Included,
        no_content, ok, page,
        query::ListSpec,
        service_credential_bindings::{fetch_parameters, last_operation, read_parameters},
    },
    domain::{
        Access, Caller, Error, Result, Tx,
        services::{
            bindings::{self, Made},
            route_bindings::{self, NewRouteBinding},
        },
    },
    store::{
        self,
        metadata::{Described, describe, describe_one},
        query::List,
        service_bindings::{Binding, ROUTE_KIND},
        service_instances::Instance,
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LIST: ListSpec = ListSpec {
    filters: &["route_guids", "service_instance_guids", "service_instance_names"],
    includes: &["route", "service_instance"],
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(show).service(update).service(remove).service(show_parameters);
}

/// A binding with its instance.
struct View {
    binding: Described<Binding>,
    instance: Option<Instance>,
}

fn views(tx: &mut Tx<'_>, rows: Vec<Binding>) -> Result<Vec<View>> {
    let guids: Vec<String> = rows.iter().map(|row| row.instance_guid.clone()).collect();
    let found = store::service_instances::find_all(tx.conn, &guids)?;
    let instances: BTreeMap<String, Instance> = found.into_iter().map(|instance| (instance.guid.clone(), instance)).collect();
    let rows = describe(tx.conn, ROUTE_KIND, rows, |binding| &binding.guid)?;
    let view = |binding: Described<Binding>| View { instance: instances.get(&binding.row.instance_guid).cloned(), binding };
    Ok(rows.into_iter().map(view).collect())
}

fn body(api: &Api, view: &View) -> Value {
    let Described { row, metadata } = &view.binding;
    let path = format!("/v3/service_route_bindings/{}", row.guid);
    let route = row.route_guid.as_deref().unwrap_or_default();
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    let url = view.instance.as_ref().and_then(|instance| route_bindings::url(row, instance));
    body.insert("route_service_url".into(), url.into());
    body.insert("last_operation".into(), last_operation(row));
    body.insert("metadata".into(), page::metadata(metadata));
    let relationships = json!({
        "service_instance": page::to_one(Some(&row.instance_guid)),
        "route": page::to_one(Some(route)),
    });
    body.insert("relationships".into(), relationships);
    let mut links = json!({
        "self": page::link(api, &path),
        "service_instance": page::link(api, &format!("/v3/service_instances/{}", row.instance_guid)),
        "route": page::link(api, &format!("/v3/routes/{route}")),
    });
    if view.instance.as_ref().is_some_and(|instance| instance.plan_guid.is_some()) {
        links["parameters"] = page::link(api, &format!("{path}/parameters"));
    }
    body.insert("links".into(), links);
    body.into()
}

#[post("/v3/service_route_bindings")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["relationships", "parameters", "metadata"])?;
    let mut to = fields.relationships(&["service_instance", "route"], &["service_instance", "route"]);
    let mut to = |name: &str| to.remove(name).flatten().unwrap_or_default();
    let new = NewRouteBinding {
        instance: to("service_instance"),
        route: to("route"),
        parameters: read_parameters(&mut fields),
        metadata: fields.metadata(),
        request: raw(&bytes),
    };
    fields.finish()?;
    let work = move |tx: &mut Tx<'_>| {
        Ok(match route_bindings::create(tx, &new)? {
            Made::Begun(_, job) => (Some(*job), None),
            Made::There(binding) => (None, views(tx, vec![binding.row])?.pop()),
        })
    };
    let (job, there) = api.write_and_wait_for(&caller, work, |made| made.0.as_ref()).await?;
    match (job, there) {
        (Some(job), _) => accepted(&api, &job),
        (None, Some(view)) => created(body(&api, &view)),
        (None, None) => no_content(),
    }
}

fn include(tx: &mut Tx<'_>, asked: &List, rows: &[View]) -> Result<Included> {
    let mut included = Included::default();
    if asked.includes("route") {
        included.routes(tx, rows.iter().filter_map(|view| view.binding.row.route_guid.clone()).collect())?;
    }
    if asked.includes("service_instance") {
        included.service_instances(tx, rows.iter().map(|view| view.binding.row.instance_guid.clone()).collect())?;
    }
    Ok(included)
}

#[get("/v3/service_route_bindings")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let found = store::service_bindings::list_route(tx.conn, &who, &asked)?;
        let rows = views(tx, found.rows)?;
        let included = include(tx, &asked, &rows)?;
        Ok((rows, found.total, included))
    };
    let (rows, total, included) = api.read(&caller, work).await?;
    let resources = rows.iter().map(|view| body(&api, view)).collect();
    ok(page::document(&api, request.path(), request.query_string(), &list, total, resources, included.body(&api)))
}

#[get("/v3/service_route_bindings/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = LIST.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let (binding, instance, _) = route_bindings::readable(tx, &guid)?;
        let view = View { binding: describe_one(tx.conn, ROUTE_KIND, binding, &guid)?, instance: Some(instance) };
        let included = include(tx, &asked, std::slice::from_ref(&view))?;
        Ok((view, included))
    };
    let (view, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &view);
    included.add_to(&api, &mut shown);
    ok(shown)
}

#[patch("/v3/service_route_bindings/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["metadata"])?;
    let metadata = fields.metadata();
    fields.finish()?;
    let request = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| {
        let (binding, instance, scope) = route_bindings::readable(tx, &guid)?;
        let binding = bindings::update(tx, (binding, scope), &metadata, request.clone())?;
        Ok(View { binding, instance: Some(instance) })
    };
    let view = api.write(&caller, work).await?;
    ok(body(&api, &view))
}

#[delete("/v3/service_route_bindings/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| route_bindings::delete(tx, &guid);
    match api.write_and_wait_for(&caller, work, Option::as_ref).await? {
        Some(job) => accepted(&api, &job),
        None => no_content(),
    }
}

#[get("/v3/service_route_bindings/{guid}/parameters")]
async fn show_parameters(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (binding, instance, scope) = route_bindings::readable(tx, &guid)?;
        Access::require(scope.writes(tx))?;
        bindings::check_made(&binding)?;
        Ok((binding, instance))
    };
    let (binding, instance) = api.read(&caller, work).await?;
    if instance.plan_guid.is_none() {
        let text = "user provided service instances do not support fetching route bindings parameters.";
        return Err(Error::BadRequest(text.into()).into());
    }
    let unsupported = || Error::BadRequest("this service does not support fetching route bindings parameters.".into());
    ok(fetch_parameters(&api, &caller, binding, instance, unsupported).await?)
}
