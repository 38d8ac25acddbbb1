//! `/v3/apps`: the app itself and its actions.

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw, to_one},
        created,
        include::Included,
        ok, page,
        query::ListSpec,
        warn,
    },
    domain::{
        Caller, Error, Result, Scope, Tx,
        apps::{self, AppChange, LifecycleChange, NewApp, masked},
        environment,
        metadata::MetadataChange,
        services::volumes,
    },
    store::{
        self,
        apps::{App, KIND},
        jobs,
        metadata::{Described, describe, describe_one, describe_page},
        query::{List, Listed},
    },
};
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec {
    filters: &["names", "organization_guids", "space_guids", "stacks", "lifecycle_type"],
    order_by: &["name", "state"],
    includes: &["space", "space.organization"],
    ..ListSpec::STANDARD
};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(list_all).service(show).service(update).service(remove);
    config.service(start).service(stop).service(restart).service(clear_cache);
    config.service(current_droplet).service(assign_droplet).service(permissions).service(of_stack);
}

/// An app as the API shows it.
pub fn body(api: &Api, app: &Described<App>) -> Value {
    let Described { row, metadata } = app;
    let path = format!("/v3/apps/{}", row.guid);
    let buildpacks: Vec<String> = row.chosen_buildpacks().iter().map(|buildpack| masked(buildpack)).collect();
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("state".into(), row.state.clone().into());
    body.insert("lifecycle".into(), json!({ "type": row.lifecycle, "data": { "buildpacks": buildpacks, "stack": row.stack } }));
    let relationships =
        json!({ "space": page::to_one(Some(&row.space_guid)), "current_droplet": page::to_one(row.droplet_guid.as_deref()) });
    body.insert("relationships".into(), relationships);
    body.insert("metadata".into(), page::metadata(metadata));
    let below = |part: &str| page::link(api, &format!("{path}/{part}"));
    let act = |part: &str| page::action(api, &format!("{path}/actions/{part}"), "POST");
    let links = json!({
        "self": page::link(api, &path),
        "environment_variables": below("environment_variables"),
        "space": page::link(api, &format!("/v3/spaces/{}", row.space_guid)),
        "processes": below("processes"),
        "packages": below("packages"),
        "current_droplet": below("droplets/current"),
        "droplets": below("droplets"),
        "tasks": below("tasks"),
        "start": act("start"),
        "stop": act("stop"),
        "clear_buildpack_cache": act("clear_buildpack_cache"),
        "revisions": below("revisions"),
        "deployed_revisions": below("revisions/deployed"),
        "features": below("features"),
    });
    body.insert("links".into(), links);
    body.into()
}

/// Reads `lifecycle` of a body.
pub fn lifecycle(fields: &mut Fields) -> LifecycleChange {
    let mut change = LifecycleChange::default();
    let Some(mut outer) = fields.object("lifecycle", "Lifecycle", &["type", "data"]) else { return change };
    change.kind = outer.string("type");
    let known: &[&str] = match change.kind.as_deref() {
        Some("cnb") => &["buildpacks", "stack", "credentials"],
        _ => &["buildpacks", "stack"],
    };
    if let Some(mut data) = outer.object("data", "Lifecycle", known) {
        change.buildpacks = if data.is_null("buildpacks") { Some(vec![]) } else { data.strings("buildpacks") };
        if change.buildpacks.iter().flatten().any(|name| name.is_empty() || name.chars().count() > 4096) {
            data.problem("Buildpacks entries must be between 1 and 4096 characters");
        }
        change.stack = if data.is_null("stack") { Some(None) } else { data.bounded("stack", 4096).map(Some) };
        outer.join(data);
    }
    fields.join(outer);
    change
}

/// Reads variables of a body.
pub fn variables(fields: &mut Fields, key: &str) -> environment::VarsChange {
    match fields.take(key).map(|vars| environment::read_change(&vars)) {
        None => Default::default(),
        Some(Ok(change)) => change,
        Some(Err(problems)) => {
            let lead = if key == "var" { "Var" } else { "Environment variables" };
            fields.problems(
                problems
                    .into_iter()
                    .map(|problem| if problem.starts_with("Non-string") { problem } else { format!("{lead} {problem}") })
                    .collect(),
            );
            Default::default()
        }
    }
}

fn described(tx: &mut Tx<'_>, (app, scope): (App, Scope)) -> Result<(Described<App>, Scope)> {
    let guid = app.guid.clone();
    Ok((describe_one(tx.conn, KIND, app, &guid)?, scope))
}

#[post("/v3/apps")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "relationships", "lifecycle", "environment_variables", "metadata"])?;
    let new = NewApp {
        name: fields.required("name", 255),
        space: fields.relationships(&["space"], &["space"]).remove("space").flatten().unwrap_or_default(),
        lifecycle: lifecycle(&mut fields),
        env: variables(&mut fields, "environment_variables"),
        metadata: fields.metadata(),
    };
    fields.finish()?;
    let (policy, request) = (api.policy.clone(), raw(&bytes));
    let work = move |tx: &mut Tx<'_>| {
        let made = apps::create(tx, &policy, new.clone(), request.clone())?;
        described(tx, made)
    };
    let (app, scope) = api.write(&caller, work).await?;
    api.log.tell(&app.row, &scope, api.now(), &format!("Created app with guid {}", app.row.guid));
    created(body(&api, &app))
}

#[get("/v3/apps")]
async fn list_all(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let asked = list.clone();
    let work = move |tx: &mut Tx<'_>| {
        let who = tx.who.clone();
        let found = store::apps::list(tx.conn, &who, &asked)?;
        let mut included = Included::default();
        let spaces = found.rows.iter().map(|app| app.space_guid.clone()).collect();
        included.spaces(tx, spaces, asked.includes("space"), asked.includes("space.organization"))?;
        Ok((Listed { total: found.total, rows: describe(tx.conn, KIND, found.rows, |app| &app.guid)? }, included))
    };
    let (found, included) = api.read(&caller, work).await?;
    let resources = found.rows.iter().map(|app| body(&api, app)).collect();
    ok(page::document(&api, request.path(), request.query_string(), &list, found.total, resources, included.body(&api)))
}

#[get("/v3/stacks/{guid}/apps")]
async fn of_stack(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, mut asked: List| {
        let stack = crate::domain::stacks::find(tx, &guid)?;
        asked.filters.insert("stacks".into(), vec![stack.name]);
        let who = tx.who.clone();
        let found = store::apps::list(tx.conn, &who, &asked)?;
        describe_page(tx.conn, KIND, found, |app| &app.guid)
    };
    page::answer(&api, &caller, &request, list, find, |app| body(&api, app)).await
}

#[get("/v3/apps/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    let asked = LIST.parse_show(request.query_string())?;
    let work = move |tx: &mut Tx<'_>| {
        let found = apps::readable(tx, &guid)?;
        let mut included = Included::default();
        included.spaces(tx, vec![found.0.space_guid.clone()], asked.includes("space"), asked.includes("space.organization"))?;
        Ok((described(tx, found)?.0, included))
    };
    let (app, included) = api.read(&caller, work).await?;
    let mut shown = body(&api, &app);
    included.add_to(&api, &mut shown);
    ok(shown)
}

#[patch("/v3/apps/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "lifecycle", "metadata"])?;
    let change = AppChange { name: fields.renamed("name", 255), lifecycle: lifecycle(&mut fields), metadata: fields.metadata() };
    fields.finish()?;
    let (policy, request) = (api.policy.clone(), raw(&bytes));
    let work = move |tx: &mut Tx<'_>| {
        let found = apps::update(tx, &policy, &guid, change.clone(), request.clone())?;
        described(tx, found)
    };
    let (app, scope) = api.write(&caller, work).await?;
    api.log.tell(&app.row, &scope, api.now(), &format!("Updated app with guid {}", app.row.guid));
    ok(body(&api, &app))
}

#[delete("/v3/apps/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let job = api.write_and_wait(&caller, move |tx| apps::delete(tx, &guid)).await?;
    api.sweep_blobs();
    accepted(&api, &job)
}

/// An app that was started or stopped.
struct Acted {
    app: Described<App>,
    scope: Scope,
    /// What whoever started it must know.
    warning: Option<String>,
}

fn begun(tx: &mut Tx<'_>, found: (App, Scope)) -> Result<Acted> {
    let (app, scope) = described(tx, found)?;
    Ok(Acted { warning: volumes::missing(tx, &app.row)?, app, scope })
}

async fn acted(api: &Api, found: Acted, told: &str) -> Answer {
    let Acted { app, scope, warning } = found;
    api.log.tell(&app.row, &scope, api.now(), &told.replace("{}", &app.row.guid));
    let mut answer = ok(body(api, &app))?;
    if let Some(warning) = &warning {
        api.log.tell(&app.row, &scope, api.now(), warning);
        warn(&mut answer, warning);
    }
    Ok(answer)
}

#[post("/v3/apps/{guid}/actions/start")]
async fn start(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let policy = api.policy.clone();
    let work = move |tx: &mut Tx<'_>| {
        let found = apps::start(tx, &policy, &guid)?;
        begun(tx, found)
    };
    acted(&api, api.write(&caller, work).await?, "Updated app with guid {} ({\"state\"=>\"STARTED\"})").await
}

#[post("/v3/apps/{guid}/actions/stop")]
async fn stop(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let found = apps::stop(tx, &guid)?;
        let (app, scope) = described(tx, found)?;
        Ok(Acted { app, scope, warning: None })
    };
    acted(&api, api.write(&caller, work).await?, "Updated app with guid {} ({\"state\"=>\"STOPPED\"})").await
}

#[post("/v3/apps/{guid}/actions/restart")]
async fn restart(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let policy = api.policy.clone();
    let work = move |tx: &mut Tx<'_>| {
        let found = apps::restart(tx, &policy, &guid)?;
        begun(tx, found)
    };
    acted(&api, api.write(&caller, work).await?, "Restarted app with guid {}").await
}

#[post("/v3/apps/{guid}/actions/clear_buildpack_cache")]
async fn clear_cache(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (app, _) = apps::manageable(tx, &guid)?;
        apps::clear_cache(tx, &app)?;
        jobs::done(tx, "app.clear_buildpack_cache", Some(("apps", &app.guid)))
    };
    let job = api.write(&caller, work).await?;
    api.sweep_blobs();
    accepted(&api, &job)
}

fn droplet_relationship(api: &Api, app: &App) -> Value {
    let path = format!("/v3/apps/{}", app.guid);
    let mut body = page::to_one(app.droplet_guid.as_deref());
    body["links"] = json!({
        "self": page::link(api, &format!("{path}/relationships/current_droplet")),
        "related": page::link(api, &format!("{path}/droplets/current")),
    });
    body
}

#[get("/v3/apps/{guid}/relationships/current_droplet")]
async fn current_droplet(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let (app, _) = api.read(&caller, move |tx| apps::readable(tx, &guid)).await?;
    if app.droplet_guid.is_none() {
        return Err(Error::NotFound("Droplet").into());
    }
    ok(droplet_relationship(&api, &app))
}

#[patch("/v3/apps/{guid}/relationships/current_droplet")]
async fn assign_droplet(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let droplet = to_one(&raw(&bytes)).map_err(|why| {
        Error::Invalid(why.unwrap_or_else(|| "Data must be structured like this: \"data\": {\"guid\": \"valid-guid\"}".into()))
    })?;
    let policy = api.policy.clone();
    let (app, scope) = api.write(&caller, move |tx| apps::assign_droplet(tx, &policy, &guid, droplet.as_deref())).await?;
    let text = format!(
        "Updated app with guid {} ({{\"droplet_guid\"=>\"{}\"}})",
        app.guid,
        app.droplet_guid.as_deref().unwrap_or_default()
    );
    api.log.tell(&app, &scope, api.now(), &text);
    ok(droplet_relationship(&api, &app))
}

#[get("/v3/apps/{guid}/permissions")]
async fn permissions(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (_, scope) = apps::readable(tx, &guid)?;
        Ok(tx.who.reads_secrets(&scope.space.guid))
    };
    let sensitive = api.read(&caller, work).await?;
    ok(json!({ "read_basic_data": true, "read_sensitive_data": sensitive }))
}

/// Reads a body that says nothing but `metadata`.
pub fn only_metadata(bytes: &[u8]) -> Result<MetadataChange> {
    let mut fields = Fields::parse(bytes, &["metadata"])?;
    let change = fields.metadata();
    fields.finish()?;
    Ok(change)
}
