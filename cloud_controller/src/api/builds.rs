//! `/v3/builds`

use crate::{
    api::{
        Answer, Api,
        apps::{lifecycle, only_metadata, variables},
        body::{Fields, raw},
        created, ok, page,
        query::ListSpec,
    },
    domain::{
        Caller, Result, Tx,
        apps::{self, masked},
        builds::{self, NewBuild},
    },
    store::{
        self,
        builds::{Build, KIND},
        metadata::{Described, describe_one, describe_page},
        query::List,
    },
};
use actix_web::{
    HttpRequest, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};

const LIST: ListSpec = ListSpec { filters: &["app_guids", "package_guids", "states"], ..ListSpec::STANDARD };
const OF_APP: ListSpec = ListSpec { filters: &["states"], ..ListSpec::STANDARD };
const MOST: i64 = i32::MAX as i64;

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(list_all).service(list_of_app).service(show).service(update);
}

/// A build as the API shows it.
fn body(api: &Api, build: &Described<Build>) -> Value {
    let Described { row, metadata } = build;
    let chosen: Vec<String> = serde_json::from_str(&row.buildpacks).unwrap_or_default();
    let chosen: Vec<String> = chosen.iter().map(|name| masked(name)).collect();
    // The droplet's guid is drawn at the beginning, but it is nobody's business until it is there.
    let droplet = row.droplet_guid.as_ref().filter(|_| row.state == "STAGED");
    let error = row.error_id.as_ref().map(|id| format!("{id} - {}", row.error.as_deref().unwrap_or_default()));
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("state".into(), row.state.clone().into());
    body.insert("staging_memory_in_mb".into(), row.memory_mb.into());
    body.insert("staging_disk_in_mb".into(), row.disk_mb.into());
    body.insert("staging_log_rate_limit_bytes_per_second".into(), row.log_rate_limit.into());
    body.insert("error".into(), error.into());
    body.insert("lifecycle".into(), json!({ "type": "buildpack", "data": { "buildpacks": chosen, "stack": row.stack } }));
    body.insert("package".into(), json!({ "guid": row.package_guid }));
    body.insert("droplet".into(), droplet.map(|guid| json!({ "guid": guid })).into());
    body.insert("created_by".into(), json!({ "guid": row.user_guid, "name": row.user_name, "email": row.user_email }));
    body.insert("relationships".into(), json!({ "app": page::to_one(Some(&row.app_guid)) }));
    body.insert("metadata".into(), page::metadata(metadata));
    let mut links = json!({
        "self": page::link(api, &format!("/v3/builds/{}", row.guid)),
        "app": page::link(api, &format!("/v3/apps/{}", row.app_guid)),
    });
    if let Some(droplet) = droplet {
        links["droplet"] = page::link(api, &format!("/v3/droplets/{droplet}"));
    }
    body.insert("links".into(), links);
    body.into()
}

fn described(tx: &mut Tx<'_>, build: Build) -> Result<Described<Build>> {
    let guid = build.guid.clone();
    describe_one(tx.conn, KIND, build, &guid)
}

#[post("/v3/builds")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let known = [
        "package",
        "lifecycle",
        "staging_memory_in_mb",
        "staging_disk_in_mb",
        "staging_log_rate_limit_bytes_per_second",
        "environment_variables",
        "metadata",
    ];
    let mut fields = Fields::parse(&bytes, &known)?;
    let package = match fields.object("package", "Package", &["guid"]) {
        Some(mut package) => {
            let guid = package.string("guid").unwrap_or_default();
            fields.join(package);
            guid
        }
        None => {
            fields.problem("Package can't be blank");
            String::new()
        }
    };
    let mut whole = |key: &str| fields.integer(key, 1, MOST).and_then(|number| u32::try_from(number).ok());
    let new = NewBuild {
        package,
        memory_mb: whole("staging_memory_in_mb"),
        disk_mb: whole("staging_disk_in_mb"),
        log_rate: fields.integer("staging_log_rate_limit_bytes_per_second", -1, i64::MAX),
        lifecycle: lifecycle(&mut fields),
        env: variables(&mut fields, "environment_variables"),
        metadata: fields.metadata(),
    };
    fields.finish()?;
    let (policy, request) = (api.policy.clone(), raw(&bytes));
    let work = move |tx: &mut Tx<'_>| {
        let (build, app, scope) = builds::create(tx, &policy, new.clone(), request.clone())?;
        Ok((described(tx, build)?, app, scope))
    };
    let (build, app, scope) = api.write(&caller, work).await?;
    api.log.tell(&app, &scope, api.now(), &format!("Creating build for app with guid {}", app.guid));
    created(body(&api, &build))
}

async fn list_where(api: &Api, caller: &Caller, request: &HttpRequest, app: Option<String>) -> Answer {
    let spec = if app.is_some() { OF_APP } else { LIST };
    let list = spec.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        if let Some(app) = &app {
            apps::readable(tx, app)?;
        }
        let who = tx.who.clone();
        let found = store::builds::list(tx.conn, &who, &asked, app.as_deref())?;
        describe_page(tx.conn, KIND, found, |build| &build.guid)
    };
    page::answer(api, caller, request, list, find, |build| body(api, build)).await
}

#[get("/v3/builds")]
async fn list_all(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, None).await
}

#[get("/v3/apps/{guid}/builds")]
async fn list_of_app(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, Some(guid.into_inner())).await
}

#[get("/v3/builds/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (build, ..) = builds::readable(tx, &guid)?;
        described(tx, build)
    };
    ok(body(&api, &api.read(&caller, work).await?))
}

#[patch("/v3/builds/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let change = only_metadata(&bytes)?;
    let work = move |tx: &mut Tx<'_>| {
        let (build, _, scope) = builds::readable(tx, &guid)?;
        scope.check(tx, scope.writes(tx))?;
        change.apply(tx, KIND, &build.guid)?;
        described(tx, build)
    };
    ok(body(&api, &api.write(&caller, work).await?))
}
