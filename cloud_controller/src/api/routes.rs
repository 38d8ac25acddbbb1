//! `/v3/routes`, their destinations, and the routes of an app.

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw, to_one},
        created,
        include::Included,
        no_content, ok, page,
        query::ListSpec,
    },
    domain::{
        Caller, Error, Result, Tx, apps, destinations,
        destinations::Wanted,
        routes::{self, NewRoute, Spelled},
    },
    store::{
        self,
        domains::Domain,
        metadata::{Described, describe},
        query::List,
        routes::{Destination, KIND, RouteRow},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const LIST: ListSpec = ListSpec {
    filters: &[
        "hosts",
        "paths",
        "ports",
        "domain_guids",
        "app_guids",
        "space_guids",
        "organization_guids",
        "service_instance_guids",
    ],
    includes: &["domain", "space", "space.organization", "route_policies"],
    ..ListSpec::STANDARD
};
const SHOW: ListSpec = ListSpec { unprocessable: true, ..LIST };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(index).service(of_app).service(show).service(update).service(remove).service(remove_unmapped);
    config.service(list_destinations).service(add_destinations).service(replace_destinations);
    config.service(update_destination).service(remove_destination);
    config.service(shared_spaces).service(share).service(unshare).service(transfer);
}

/// A route with all that is shown with it.
pub struct View {
    route: Described<RouteRow>,
    domain: String,
    destinations: Vec<Destination>,
}

/// Adds to routes what is shown with them, in a fixed number of statements.
pub fn views(tx: &mut Tx<'_>, rows: Vec<RouteRow>) -> Result<Vec<View>> {
    let guids: Vec<String> = rows.iter().map(|route| route.guid.clone()).collect();
    let of_domains: Vec<String> = rows.iter().map(|route| route.domain_guid.clone()).collect();
    let domains = store::domains::find_all(tx.conn, &of_domains)?;
    let names: BTreeMap<String, String> = domains.into_iter().map(|domain: Domain| (domain.guid, domain.name)).collect();
    let mut by_route: BTreeMap<String, Vec<Destination>> = BTreeMap::new();
    for destination in store::routes::destinations_of(tx.conn, &guids)? {
        by_route.entry(destination.route_guid.clone()).or_default().push(destination);
    }
    let rows = describe(tx.conn, KIND, rows, |route| &route.guid)?;
    let view = |route: Described<RouteRow>| View {
        domain: names.get(&route.row.domain_guid).cloned().unwrap_or_default(),
        destinations: by_route.remove(&route.row.guid).unwrap_or_default(),
        route,
    };
    Ok(rows.into_iter().map(view).collect())
}

fn view(tx: &mut Tx<'_>, row: RouteRow) -> Result<View> {
    views(tx, vec![row])?.pop().ok_or(Error::NotFound("Route"))
}

/// A route as the API shows it.
pub fn body(api: &Api, view: &View) -> Value {
    let Described { row, metadata } = &view.route;
    let path = format!("/v3/routes/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("protocol".into(), "http".into());
    body.insert("host".into(), row.host.clone().into());
    body.insert("path".into(), row.path.clone().into());
    body.insert("port".into(), Value::Null);
    body.insert("url".into(), row.url(&view.domain).into());
    body.insert("destinations".into(), view.destinations.iter().map(destination_body).collect());
    let options = routes::options_of(row);
    if !options.is_empty() {
        body.insert("options".into(), options.into());
    }
    let relationships = json!({ "space": page::to_one(Some(&row.space_guid)), "domain": page::to_one(Some(&row.domain_guid)) });
    body.insert("relationships".into(), relationships);
    body.insert("metadata".into(), page::metadata(metadata));
    let links = json!({
        "self": page::link(api, &path),
        "space": page::link(api, &format!("/v3/spaces/{}", row.space_guid)),
        "destinations": page::link(api, &format!("{path}/destinations")),
        "domain": page::link(api, &format!("/v3/domains/{}", row.domain_guid)),
    });
    body.insert("links".into(), links);
    body.into()
}

fn destination_body(destination: &Destination) -> Value {
    let mut body = page::head(&destination.guid, destination.created_at, destination.updated_at);
    body.insert("app".into(), json!({ "guid": destination.app_guid, "process": { "type": destination.process_type } }));
    body.insert("weight".into(), destination.weight.into());
    body.insert("port".into(), destination.port.into());
    body.insert("protocol".into(), destination.protocol.clone().into());
    body.into()
}

fn destinations_body(api: &Api, route: &str, all: &[Destination]) -> Value {
    let links = json!({
        "self": page::link(api, &format!("/v3/routes/{route}/destinations")),
        "route": page::link(api, &format!("/v3/routes/{route}")),
    });
    json!({ "destinations": all.iter().map(destination_body).collect::<Vec<_>>(), "links": links })
}

#[post("/v3/routes")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["host", "path", "port", "options", "relationships", "metadata"])?;
    let mut to = fields.relationships(&["space", "domain"], &["space", "domain"]);
    let mut to = |name: &str| to.remove(name).flatten().unwrap_or_default();
    let (space, domain) = (to("space"), to("domain"));
    let spelled = Spelled {
        host: fields.string("host").unwrap_or_default(),
        path: fields.string("path").unwrap_or_default(),
        port: fields.integer("port", 0, 65_535),
    };
    for problem in spelled.problems() {
        fields.problem(problem);
    }
    let options = read_options(&mut fields);
    let new = NewRoute { space, domain, spelled, options, metadata: fields.metadata(), request: raw(&bytes) };
    fields.finish()?;
    let system_domain = api.config.system_domain.clone();
    let work = move |tx: &mut Tx<'_>| {
        let (made, _) = routes::create(tx, &system_domain, &new)?;
        view(tx, made.row)
    };
    let made = api.write(&caller, work).await?;
    created(body(&api, &made))
}

fn read_options(fields: &mut Fields) -> Option<Map<String, Value>> {
    match fields.take("options") {
        None => None,
        Some(Value::Object(options)) => {
            fields.problems(routes::option_problems(&options));
            Some(options)
        }
        Some(_) => {
            fields.problem("Options must be an object");
            None
        }
    }
}

fn include(tx: &mut Tx<'_>, asked: &List, rows: &[View]) -> Result<Included> {
    let mut included = Included::default();
    if asked.includes("domain") {
        included.domains(tx, rows.iter().map(|view| view.route.row.domain_guid.clone()).collect())?;
    }
    let spaces = rows.iter().map(|view| view.route.row.space_guid.clone()).collect();
    included.spaces(tx, spaces, asked.includes("space"), asked.includes("space.organization"))?;
    Ok(included)
}

async fn listed(api: &Api, caller: &Caller, request: &HttpRequest, app: Option<String>) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        if let Some(app) = &app {
            apps::readable(tx, app)?;
        }
        let who = tx.who.clone();
        let found = store::routes::list(tx.conn, &who, app.as_deref(), &asked)?;
        let rows = views(tx, found.rows)?;
        let included = include(tx, &asked, &rows)?;
        Ok((rows, found.total, included))
    };
    let (rows, total, included) = api.read(caller, work).await?;
    let resources = rows.iter().map(|view| body(api, view)).collect();
    ok(page::document(api, request.path(), request.query_string(), &list, total, resources, included.body(api)))
}

#[get("/v3/routes")]
async fn index(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    listed(&api, &caller, &request, None).await
}

#[get("/v3/apps/{guid}/routes")]
async fn of_app(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    listed(&api, &caller, &request, Some(guid.into_inner())).await
}

#[get("/v3/routes/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = SHOW.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let (route, ..) = routes::readable(tx, &guid)?;
        let view = view(tx, route)?;
        let included = include(tx, &asked, std::slice::from_ref(&view))?;
        Ok((view, included))
    };
    let (view, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &view);
    included.add_to(&api, &mut shown);
    ok(shown)
}

#[patch("/v3/routes/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["options", "metadata"])?;
    let options = read_options(&mut fields);
    let metadata = fields.metadata();
    fields.finish()?;
    let work = move |tx: &mut Tx<'_>| {
        let (changed, _) = routes::update(tx, &guid, options.as_ref(), &metadata)?;
        view(tx, changed.row)
    };
    let changed = api.write(&caller, work).await?;
    ok(body(&api, &changed))
}

#[delete("/v3/routes/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write_and_wait(&caller, move |tx| routes::delete(tx, &guid)).await?;
    accepted(&api, &job)
}

#[delete("/v3/spaces/{guid}/routes")]
async fn remove_unmapped(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    if crate::api::query::pairs(request.query_string()).get("unmapped").map(String::as_str) != Some("true") {
        let text = "Mass delete not supported for routes. Use 'unmapped=true' parameter to delete all unmapped routes.";
        return Err(Error::invalid(text).into());
    }
    let job = api.write(&caller, move |tx| routes::delete_unmapped(tx, &guid)).await?;
    accepted(&api, &job)
}

#[get("/v3/routes/{guid}/destinations")]
async fn list_destinations(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    const FILTERS: ListSpec = ListSpec { filters: &["app_guids"], labels: false, unprocessable: true, ..ListSpec::STANDARD };
    let asked = FILTERS.parse(request.query_string())?;
    let route = guid.clone();
    let work = move |tx: &mut Tx<'_>| {
        let (route, ..) = routes::readable(tx, &guid)?;
        store::routes::destinations_of(tx.conn, &[route.guid])
    };
    let mut all = api.read(&caller, work).await?;
    if let Some(guids) = asked.values("guids") {
        all.retain(|destination| guids.contains(&destination.guid));
    }
    if let Some(apps) = asked.values("app_guids") {
        all.retain(|destination| apps.contains(&destination.app_guid));
    }
    ok(destinations_body(&api, &route, &all))
}

fn read_destinations(bytes: &[u8], least: usize) -> Result<Vec<Wanted>> {
    let mut fields = Fields::parse(bytes, &["destinations"])?;
    let entries = match fields.take("destinations") {
        Some(Value::Array(entries)) if (least..=100).contains(&entries.len()) => entries,
        _ => {
            fields.problem(format!("Destinations must be an array containing between {least} and 100 destination objects."));
            vec![]
        }
    };
    let mut wanted = vec![];
    for (at, entry) in entries.into_iter().enumerate() {
        let Value::Object(map) = entry else {
            fields.problem(format!("Destinations[{at}]: must be a hash."));
            continue;
        };
        let mut inner = Fields::of(map, "", &["app", "weight", "port", "protocol"]);
        let read = read_destination(&mut inner);
        if let Err(Error::Invalid(text)) = inner.finish() {
            fields.problem(format!("Destinations[{at}]: {text}"));
        }
        wanted.push(read);
    }
    fields.finish()?;
    Ok(wanted)
}

fn read_destination(inner: &mut Fields) -> Wanted {
    let (mut app, mut process_type) = (None, None);
    match inner.object("app", "", &["guid", "process"]) {
        None => inner.problem("must have an \"app\"."),
        Some(mut fields) => {
            app = fields.bounded("guid", 200);
            if app.is_none() {
                fields.problem("app must have the structure {\"guid\": \"app_guid\"}");
            }
            if let Some(mut process) = fields.object("process", "", &["type"]) {
                process_type = process.bounded("type", 255);
                if process_type.is_none() {
                    process.problem("process must have the structure {\"type\": \"process_type\"}");
                }
                fields.join(process);
            }
            inner.join(fields);
        }
    }
    let protocol = inner.string("protocol");
    if protocol.as_deref().is_some_and(|p| !matches!(p, "http1" | "http2")) {
        let given = protocol.clone().unwrap_or_default();
        inner.problem(format!("Cannot use '{given}' protocol for http routes; valid options are: [http1, http2]."));
    }
    Wanted {
        app: app.unwrap_or_default(),
        process_type: process_type.unwrap_or_else(|| "web".into()),
        port: inner.integer("port", 1024, 65_535).and_then(|port| i32::try_from(port).ok()),
        protocol,
        weight: inner.integer("weight", 1, 100).and_then(|weight| i32::try_from(weight).ok()),
    }
}

#[post("/v3/routes/{guid}/destinations")]
async fn add_destinations(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let wanted = read_destinations(&bytes, 1)?;
    if wanted.iter().any(|w| w.weight.is_some()) {
        return Err(Error::invalid("Destinations cannot contain weights when they are added.").into());
    }
    let route = guid.clone();
    let all = api.write(&caller, move |tx| destinations::add(tx, &guid, &wanted)).await?;
    ok(destinations_body(&api, &route, &all))
}

#[patch("/v3/routes/{guid}/destinations")]
async fn replace_destinations(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let wanted = read_destinations(&bytes, 0)?;
    let route = guid.clone();
    let all = api.write(&caller, move |tx| destinations::replace(tx, &guid, &wanted)).await?;
    ok(destinations_body(&api, &route, &all))
}

#[patch("/v3/routes/{guid}/destinations/{destination}")]
async fn update_destination(api: Data<Api>, caller: Caller, path: Path<(String, String)>, bytes: Bytes) -> Answer {
    let (route, guid) = path.into_inner();
    let mut fields = Fields::parse(&bytes, &["protocol"])?;
    let protocol = fields.string("protocol").unwrap_or_else(|| "http1".into());
    if !matches!(protocol.as_str(), "http1" | "http2") {
        fields.problem(format!("Cannot use '{protocol}' protocol for http routes; valid options are: [http1, http2]."));
    }
    fields.finish()?;
    let changed = api.write(&caller, move |tx| destinations::set_protocol(tx, &route, &guid, &protocol)).await?;
    ok(destination_body(&changed))
}

#[delete("/v3/routes/{guid}/destinations/{destination}")]
async fn remove_destination(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (route, guid) = path.into_inner();
    api.write(&caller, move |tx| destinations::delete(tx, &route, &guid)).await?;
    no_content()
}

fn shared_body(api: &Api, route: &str, spaces: &[String]) -> Value {
    let mut body = page::to_many(spaces);
    body["links"] = json!({ "self": page::link(api, &format!("/v3/routes/{route}/relationships/shared_spaces")) });
    body
}

#[get("/v3/routes/{guid}/relationships/shared_spaces")]
async fn shared_spaces(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let route = guid.clone();
    let work = move |tx: &mut Tx<'_>| {
        crate::domain::flags::require_for_all(tx, "route_sharing")?;
        routes::readable(tx, &guid)?;
        store::routes::shared_spaces(tx.conn, &guid)
    };
    let spaces = api.read(&caller, work).await?;
    ok(shared_body(&api, &route, &spaces))
}

#[post("/v3/routes/{guid}/relationships/shared_spaces")]
async fn share(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["data"])?;
    let with = fields.guids();
    fields.finish()?;
    let route = guid.clone();
    let spaces = api.write(&caller, move |tx| routes::share(tx, &guid, &with)).await?;
    ok(shared_body(&api, &route, &spaces))
}

#[delete("/v3/routes/{guid}/relationships/shared_spaces/{space}")]
async fn unshare(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, space) = path.into_inner();
    api.write(&caller, move |tx| routes::unshare(tx, &guid, &space)).await?;
    no_content()
}

#[patch("/v3/routes/{guid}/relationships/space")]
async fn transfer(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let to = to_one(&raw(&bytes)).ok().flatten();
    let to = to.ok_or_else(|| Error::invalid("Data must be structured like this: \"data\": {\"guid\": \"valid-guid\"}"))?;
    api.write(&caller, move |tx| routes::transfer(tx, &guid, &to)).await?;
    ok(json!({ "status": "ok" }))
}
