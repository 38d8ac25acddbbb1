//! `/v3/processes` and `/v3/apps/:guid/processes`.

use crate::{
    api::{
        Answer, Api,
        body::{Fields, raw},
        no_content, ok, page,
        query::ListSpec,
        stats,
    },
    domain::{
        Access, Caller, Error, Result, Tx, apps, flags,
        process::{Check, CheckChange, ScaleChange},
        processes::{self, Found, ProcessChange, Which},
    },
    store::{
        self,
        metadata::{Described, describe, describe_one},
        processes::{KIND, Process},
        query::Listed,
    },
};
use actix_web::{
    HttpRequest, HttpResponse, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LIST: ListSpec = ListSpec {
    filters: &["types", "app_guids", "space_guids", "organization_guids"],
    embeds: &["process_instances"],
    ..ListSpec::STANDARD
};
const OF_APP: ListSpec = ListSpec { filters: &["types"], embeds: &["process_instances"], ..ListSpec::STANDARD };
const MOST: i64 = i32::MAX as i64;

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(list_all).service(show).service(update).service(scale).service(terminate);
    config.service(list_of_app).service(show_of_app).service(update_of_app).service(scale_of_app).service(terminate_of_app);
    config.service(instances);
}

/// A process as the API shows it. `space`: where it is; `command`: what of it may be seen.
fn body(api: &Api, process: &Described<Process>, space: &str, command: Value) -> Value {
    let Described { row, metadata } = process;
    let path = format!("/v3/processes/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("version".into(), row.version.clone().into());
    body.insert("type".into(), row.kind.clone().into());
    body.insert("command".into(), command);
    body.insert("user".into(), row.process_user.clone().unwrap_or_else(|| "vcap".into()).into());
    body.insert("instances".into(), row.instances.into());
    body.insert("memory_in_mb".into(), row.memory_mb.into());
    body.insert("disk_in_mb".into(), row.disk_mb.into());
    body.insert("log_rate_limit_in_bytes_per_second".into(), row.log_rate_limit.into());
    body.insert("health_check".into(), check_body(&row.health(), true));
    body.insert("readiness_health_check".into(), check_body(&row.readiness(), false));
    body.insert("relationships".into(), json!({ "app": page::to_one(Some(&row.app_guid)), "revision": null }));
    body.insert("metadata".into(), page::metadata(metadata));
    let links = json!({
        "self": page::link(api, &path),
        "scale": page::action(api, &format!("{path}/actions/scale"), "POST"),
        "app": page::link(api, &format!("/v3/apps/{}", row.app_guid)),
        "space": page::link(api, &format!("/v3/spaces/{space}")),
        "stats": page::link(api, &format!("{path}/stats")),
        "process_instances": page::link(api, &format!("{path}/process_instances")),
    });
    body.insert("links".into(), links);
    body.into()
}

fn check_body(check: &Check, with_timeout: bool) -> Value {
    let mut data = json!({ "invocation_timeout": check.invocation_timeout_s, "interval": check.interval_s });
    if with_timeout {
        data["timeout"] = check.timeout_s.into();
    }
    if check.kind == "http" {
        data["endpoint"] = check.endpoint.clone().into();
    }
    json!({ "type": check.kind, "data": data })
}

/// What of the command a caller sees: those who read secrets see it, the user's own or else the droplet's.
fn command(tx: &mut Tx<'_>, found: &Found) -> Result<Value> {
    if !tx.who.reads_secrets(&found.scope.space.guid) {
        return Ok("[PRIVATE DATA HIDDEN]".into());
    }
    if let Some(own) = &found.process.command {
        return Ok(own.clone().into());
    }
    let droplet = match &found.app.droplet_guid {
        Some(guid) => store::droplets::find(tx.conn, guid)?,
        None => None,
    };
    Ok(droplet.and_then(|droplet| droplet.commands().get(&found.process.kind).cloned()).into())
}

type Shown = (Described<Process>, String, Value);

fn shown(tx: &mut Tx<'_>, found: Found) -> Result<Shown> {
    let command = command(tx, &found)?;
    let guid = found.process.guid.clone();
    Ok((describe_one(tx.conn, KIND, found.process, &guid)?, found.scope.space.guid, command))
}

fn shown_body(api: &Api, (process, space, command): Shown) -> Value {
    body(api, &process, &space, command)
}

async fn list_where(api: &Api, caller: &Caller, request: &HttpRequest, app: Option<String>) -> Answer {
    let spec = if app.is_some() { OF_APP } else { LIST };
    let list = spec.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        if let Some(app) = &app {
            apps::readable(tx, app)?;
        }
        let who = tx.who.clone();
        let found = store::processes::list(tx.conn, &who, &asked, app.as_deref())?;
        let of: Vec<String> = found.rows.iter().map(|process| process.app_guid.clone()).collect();
        let places: BTreeMap<String, (String, bool)> = store::apps::places(tx.conn, &of)?
            .into_iter()
            .map(|(app, space, state)| (app, (space, state == "STARTED")))
            .collect();
        Ok((Listed { total: found.total, rows: describe(tx.conn, KIND, found.rows, |process| &process.guid)? }, places))
    };
    let (found, places) = api.read(caller, work).await?;
    let resources = found.rows.iter().map(|process| {
        let (space, started) = places.get(&process.row.app_guid).cloned().unwrap_or_default();
        let hidden = if process.row.command.is_some() { "[PRIVATE DATA HIDDEN IN LISTS]".into() } else { Value::Null };
        let mut body = body(api, process, &space, hidden);
        if list.includes("process_instances") {
            body["process_instances"] = stats::instances(api, &process.row, started).into();
        }
        body
    });
    ok(page::document(api, request.path(), request.query_string(), &list, found.total, resources.collect(), None))
}

#[get("/v3/processes")]
async fn list_all(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, None).await
}

#[get("/v3/apps/{guid}/processes")]
async fn list_of_app(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, Some(guid.into_inner())).await
}

async fn show_one(api: &Api, caller: &Caller, which: Which) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let found = processes::readable(tx, &which)?;
        shown(tx, found)
    };
    ok(shown_body(api, api.read(caller, work).await?))
}

#[get("/v3/processes/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    show_one(&api, &caller, Which::Guid(guid.into_inner())).await
}

#[get("/v3/apps/{guid}/processes/{kind}")]
async fn show_of_app(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (app, kind) = path.into_inner();
    show_one(&api, &caller, Which::OfApp(app, kind)).await
}

fn read_check(fields: &mut Fields, key: &str, lead: &'static str) -> CheckChange {
    let mut change = CheckChange::default();
    let Some(mut outer) = fields.object(key, lead, &["type", "data"]) else { return change };
    change.kind = outer.string("type");
    if change.kind.is_none() && outer.has("type") {
        outer.problem("type must be \"port\", \"process\", or \"http\"");
    }
    let known: &[&str] = if key == "health_check" {
        &["timeout", "invocation_timeout", "interval", "endpoint"]
    } else {
        &["invocation_timeout", "interval", "endpoint"]
    };
    if let Some(mut data) = outer.object("data", lead, known) {
        let mut seconds = |name: &str| match data.is_null(name) {
            true => Some(None),
            false => data.integer(name, 1, MOST).and_then(|number| u32::try_from(number).ok()).map(Some),
        };
        change.timeout_s = seconds("timeout");
        change.invocation_timeout_s = seconds("invocation_timeout");
        change.interval_s = seconds("interval");
        change.endpoint = if data.is_null("endpoint") { Some(None) } else { data.string("endpoint").map(Some) };
        outer.join(data);
    }
    fields.join(outer);
    change
}

async fn update_one(api: &Api, caller: &Caller, which: Which, bytes: &[u8]) -> Answer {
    let mut fields = Fields::parse(bytes, &["command", "user", "health_check", "readiness_health_check", "metadata"])?;
    let change = ProcessChange {
        command: if fields.is_null("command") { Some(None) } else { fields.bounded("command", 4096).map(Some) },
        user: if fields.is_null("user") { Some(None) } else { fields.bounded("user", 255).map(Some) },
        health: read_check(&mut fields, "health_check", "Health check"),
        readiness: read_check(&mut fields, "readiness_health_check", "Readiness health check"),
        metadata: fields.metadata(),
    };
    fields.finish()?;
    let (policy, request) = (api.policy.clone(), raw(bytes));
    let work = move |tx: &mut Tx<'_>| {
        let found = processes::update(tx, &policy, &which, &change, request.clone())?;
        let told = (found.app.clone(), found.scope.clone(), found.process.kind.clone());
        Ok((shown(tx, found)?, told))
    };
    let (process, (app, scope, kind)) = api.write(caller, work).await?;
    api.log.tell(&app, &scope, api.now(), &format!("Updating process: \"{kind}\" of app with guid {}", app.guid));
    ok(shown_body(api, process))
}

#[patch("/v3/processes/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    update_one(&api, &caller, Which::Guid(guid.into_inner()), &bytes).await
}

#[patch("/v3/apps/{guid}/processes/{kind}")]
async fn update_of_app(api: Data<Api>, caller: Caller, path: Path<(String, String)>, bytes: Bytes) -> Answer {
    let (app, kind) = path.into_inner();
    update_one(&api, &caller, Which::OfApp(app, kind), &bytes).await
}

async fn scale_one(api: &Api, caller: &Caller, which: Which, bytes: &[u8]) -> Answer {
    let mut fields = Fields::parse(bytes, &["instances", "memory_in_mb", "disk_in_mb", "log_rate_limit_in_bytes_per_second"])?;
    let mut whole = |key: &str, least: i64| fields.integer(key, least, MOST).and_then(|number| u32::try_from(number).ok());
    let change = ScaleChange {
        instances: whole("instances", 0),
        memory_mb: whole("memory_in_mb", 1),
        disk_mb: whole("disk_in_mb", 1),
        log_rate: fields.integer("log_rate_limit_in_bytes_per_second", -1, i64::MAX),
    };
    fields.finish()?;
    let (policy, request) = (api.policy.clone(), raw(bytes));
    let work = move |tx: &mut Tx<'_>| {
        let found = processes::readable(tx, &which)?;
        Access::require(found.scope.manages(tx))?;
        flags::require(tx, "app_scaling")?;
        let found = processes::scale(tx, &policy, &which, change, request.clone())?;
        let told = (found.app.clone(), found.scope.clone(), found.process.kind.clone());
        Ok((shown(tx, found)?, told))
    };
    let (process, (app, scope, kind)) = api.write(caller, work).await?;
    api.log.tell(&app, &scope, api.now(), &format!("Scaling process: \"{kind}\" of app with guid {}", app.guid));
    Ok(HttpResponse::Accepted().json(shown_body(api, process)))
}

#[post("/v3/processes/{guid}/actions/scale")]
async fn scale(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    scale_one(&api, &caller, Which::Guid(guid.into_inner()), &bytes).await
}

#[post("/v3/apps/{guid}/processes/{kind}/actions/scale")]
async fn scale_of_app(api: Data<Api>, caller: Caller, path: Path<(String, String)>, bytes: Bytes) -> Answer {
    let (app, kind) = path.into_inner();
    scale_one(&api, &caller, Which::OfApp(app, kind), &bytes).await
}

async fn terminate_one(api: &Api, caller: &Caller, which: Which, index: &str) -> Answer {
    let index: u32 = index.parse().map_err(|_| Error::NotFound("Instance"))?;
    let found = api.write(caller, move |tx| processes::terminate(tx, &which, index)).await?;
    stats::terminate(api, &found.process, index).await?;
    api.log.tell(
        &found.app,
        &found.scope,
        api.now(),
        &format!("Terminating instance {index} of app with guid {}", found.app.guid),
    );
    no_content()
}

#[delete("/v3/processes/{guid}/instances/{index}")]
async fn terminate(api: Data<Api>, caller: Caller, path: Path<(String, String)>) -> Answer {
    let (guid, index) = path.into_inner();
    terminate_one(&api, &caller, Which::Guid(guid), &index).await
}

#[delete("/v3/apps/{guid}/processes/{kind}/instances/{index}")]
async fn terminate_of_app(api: Data<Api>, caller: Caller, path: Path<(String, String, String)>) -> Answer {
    let (app, kind, index) = path.into_inner();
    terminate_one(&api, &caller, Which::OfApp(app, kind), &index).await
}

#[get("/v3/processes/{guid}/process_instances")]
async fn instances(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let path = format!("/v3/processes/{guid}");
    let found = api.read(&caller, move |tx| processes::readable(tx, &Which::Guid(guid.into_inner()))).await?;
    let links = json!({ "self": page::link(&api, &format!("{path}/process_instances")), "process": page::link(&api, &path) });
    ok(json!({ "resources": stats::instances(&api, &found.process, found.app.started()), "links": links }))
}
