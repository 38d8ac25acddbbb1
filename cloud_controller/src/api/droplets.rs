//! `/v3/droplets`

use crate::{
    api::{
        Answer, Api, accepted,
        apps::only_metadata,
        body::{Fields, raw},
        created, download, ok, page,
        query::ListSpec,
        upload,
    },
    domain::{
        Caller, Error, Result, Tx, apps,
        archive::{self, Limits},
        droplets, packages,
    },
    store::{
        self,
        droplets::{Droplet, KIND, blob},
        jobs,
        metadata::{Described, describe_one, describe_page},
        query::List,
    },
};
use actix_multipart::Multipart;
use actix_web::{
    HttpRequest, HttpResponse, delete, get,
    http::header::LOCATION,
    patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const LIST: ListSpec = ListSpec { filters: &["app_guids", "space_guids", "organization_guids", "states"], ..ListSpec::STANDARD };
const OF_APP: ListSpec = ListSpec { filters: &["states", "current"], ..ListSpec::STANDARD };
const OF_PACKAGE: ListSpec = ListSpec { filters: &["states"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(list_all).service(list_of_app).service(list_of_package).service(show).service(current);
    config.service(update).service(remove).service(upload_bits).service(download_bits);
}

/// A droplet as the API shows it; `secrets`: its commands too.
fn body(api: &Api, droplet: &Described<Droplet>, secrets: Option<bool>) -> Value {
    let Described { row, metadata } = droplet;
    let path = format!("/v3/droplets/{}", row.guid);
    let commands = match secrets {
        Some(true) => (json!(row.commands()), json!(row.execution_metadata)),
        Some(false) => (json!({ "redacted_message": "[PRIVATE DATA HIDDEN]" }), json!("[PRIVATE DATA HIDDEN]")),
        None => (json!({ "redacted_message": "[PRIVATE DATA HIDDEN IN LISTS]" }), json!("[PRIVATE DATA HIDDEN IN LISTS]")),
    };
    let checksum = row.sha256.as_ref().map(|sum| json!({ "type": "sha256", "value": sum }));
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("state".into(), row.state.clone().into());
    body.insert("error".into(), row.error.clone().into());
    body.insert("lifecycle".into(), json!({ "type": "buildpack", "data": {} }));
    body.insert("checksum".into(), checksum.into());
    body.insert("buildpacks".into(), serde_json::from_str(&row.buildpacks).unwrap_or_else(|_| json!([])));
    body.insert("stack".into(), row.stack.clone().into());
    body.insert("image".into(), Value::Null);
    body.insert("execution_metadata".into(), commands.1);
    body.insert("process_types".into(), commands.0);
    body.insert("relationships".into(), json!({ "app": page::to_one(Some(&row.app_guid)) }));
    body.insert("metadata".into(), page::metadata(metadata));
    let mut links = json!({
        "self": page::link(api, &path),
        "app": page::link(api, &format!("/v3/apps/{}", row.app_guid)),
        "assign_current_droplet": page::action(api, &format!("/v3/apps/{}/relationships/current_droplet", row.app_guid), "PATCH"),
    });
    if let Some(package) = &row.package_guid {
        links["package"] = page::link(api, &format!("/v3/packages/{package}"));
    }
    match row.state.as_str() {
        "AWAITING_UPLOAD" => links["upload"] = page::action(api, &format!("{path}/upload"), "POST"),
        "STAGED" => links["download"] = page::link(api, &format!("{path}/download")),
        _ => {}
    }
    body.insert("links".into(), links);
    body.into()
}

type Shown = (Described<Droplet>, bool);

fn shown(tx: &mut Tx<'_>, droplet: Droplet, space: &str) -> Result<Shown> {
    let guid = droplet.guid.clone();
    Ok((describe_one(tx.conn, KIND, droplet, &guid)?, tx.who.reads_secrets(space)))
}

#[post("/v3/droplets")]
async fn create(api: Data<Api>, caller: Caller, request: HttpRequest, bytes: Bytes) -> Answer {
    let source = crate::api::query::pairs(request.query_string()).remove("source_guid");
    let mut fields = Fields::parse(&bytes, &["relationships", "process_types", "metadata"])?;
    let app = fields.relationships(&["app"], &["app"]).remove("app").flatten().unwrap_or_default();
    let metadata = fields.metadata();
    let types = read_types(&mut fields);
    fields.finish()?;
    if let Some(source) = source {
        return copy(&api, &caller, source, app).await;
    }
    let repeated = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| {
        let droplet = droplets::create(tx, &app, &types, &metadata, repeated.clone())?;
        let guid = droplet.guid.clone();
        describe_one(tx.conn, KIND, droplet, &guid)
    };
    created(body(&api, &api.write(&caller, work).await?, Some(true)))
}

fn read_types(fields: &mut Fields) -> BTreeMap<String, String> {
    let map = match fields.take("process_types") {
        None => return BTreeMap::from([("web".to_owned(), String::new())]),
        Some(Value::Object(map)) => map,
        Some(_) => {
            fields.problem("Process types must be an object");
            return BTreeMap::new();
        }
    };
    let mut types = BTreeMap::new();
    for (kind, command) in map {
        match command {
            Value::String(command) if crate::domain::manifest::check::is_process_type(&kind) => drop(types.insert(kind, command)),
            Value::String(_) => fields.problem("Process types key must not be empty"),
            _ => fields.problem("Process types value must be a string"),
        }
    }
    types
}

async fn copy(api: &Data<Api>, caller: &Caller, source: String, app: String) -> Answer {
    let (droplet, source) = api.write(caller, move |tx| droplets::copy(tx, &source, &app)).await?;
    let ended = match api.blobs.copy(&blob(&source.guid), &blob(&droplet.guid)).await {
        Ok(()) => Ok((source.sha256.unwrap_or_default(), source.size_bytes.unwrap_or_default().unsigned_abs())),
        Err(e) => {
            tracing::error!(error = &e as &dyn std::error::Error, "a droplet cannot be copied");
            Err("The bits of the source cannot be copied".to_owned())
        }
    };
    let guid = droplet.guid;
    let work = move |tx: &mut Tx<'_>| {
        let droplet = droplets::end(tx, &guid, "COPYING", &ended)?.ok_or(Error::NotFound("Droplet"))?;
        let guid = droplet.guid.clone();
        describe_one(tx.conn, KIND, droplet, &guid)
    };
    created(body(api, &api.write(caller, work).await?, Some(true)))
}

enum Of {
    All,
    App(String),
    Package(String),
}

async fn list_where(api: &Api, caller: &Caller, request: &HttpRequest, of: Of) -> Answer {
    let spec = match of {
        Of::All => LIST,
        Of::App(_) => OF_APP,
        Of::Package(_) => OF_PACKAGE,
    };
    let list = spec.parse(request.query_string())?;
    if list.first("current").is_some_and(|value| value != "true") {
        return Err(Error::BadQuery("Current only accepts the value 'true'".into()).into());
    }
    let find = move |tx: &mut Tx<'_>, asked: List| {
        let (app, package) = match &of {
            Of::All => (None, None),
            Of::App(app) => (Some(apps::readable(tx, app)?.0.guid), None),
            Of::Package(package) => (None, Some(packages::readable(tx, package)?.0.guid)),
        };
        let who = tx.who.clone();
        let found = store::droplets::list(tx.conn, &who, &asked, app.as_deref(), package.as_deref())?;
        describe_page(tx.conn, KIND, found, |droplet| &droplet.guid)
    };
    page::answer(api, caller, request, list, find, |droplet| body(api, droplet, None)).await
}

#[get("/v3/droplets")]
async fn list_all(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, Of::All).await
}

#[get("/v3/apps/{guid}/droplets")]
async fn list_of_app(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, Of::App(guid.into_inner())).await
}

#[get("/v3/packages/{guid}/droplets")]
async fn list_of_package(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, Of::Package(guid.into_inner())).await
}

#[get("/v3/apps/{guid}/droplets/current")]
async fn current(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (droplet, _, scope) = droplets::current(tx, &guid)?;
        shown(tx, droplet, &scope.space.guid)
    };
    let (droplet, secrets) = api.read(&caller, work).await?;
    ok(body(&api, &droplet, Some(secrets)))
}

#[get("/v3/droplets/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (droplet, _, scope) = droplets::readable(tx, &guid)?;
        shown(tx, droplet, &scope.space.guid)
    };
    let (droplet, secrets) = api.read(&caller, work).await?;
    ok(body(&api, &droplet, Some(secrets)))
}

#[patch("/v3/droplets/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let change = only_metadata(&bytes)?;
    let work = move |tx: &mut Tx<'_>| {
        let (droplet, _, scope) = droplets::writable(tx, &guid)?;
        change.apply(tx, KIND, &droplet.guid)?;
        shown(tx, droplet, &scope.space.guid)
    };
    let (droplet, secrets) = api.write(&caller, work).await?;
    ok(body(&api, &droplet, Some(secrets)))
}

#[delete("/v3/droplets/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let droplet = droplets::delete(tx, &guid)?;
        jobs::done(tx, "droplet.delete", Some(("droplets", &droplet.guid)))
    };
    let job = api.write(&caller, work).await?;
    api.sweep_blobs();
    accepted(&api, &job)
}

#[get("/v3/droplets/{guid}/download")]
async fn download_bits(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let droplet = api.write(&caller, move |tx| droplets::download(tx, &guid)).await?;
    download::send(&api, &blob(&droplet.guid), "application/gzip", &format!("droplet_{}.tgz", droplet.guid)).await
}

#[post("/v3/droplets/{guid}/upload")]
async fn upload_bits(api: Data<Api>, caller: Caller, guid: Path<String>, mut form: Multipart) -> Answer {
    let guid = guid.into_inner();
    let wanted = guid.clone();
    if let Err(e) = api.read(&caller, move |tx| droplets::check_upload(tx, &wanted)).await {
        upload::drain(&mut form).await;
        return Err(e.into());
    }
    let received = upload::receive(&api, &mut form, api.policy.limits.max_package_bytes).await?;
    let invalid = |why: &str| Error::invalid(format!("Uploaded droplet file is invalid: {why}"));
    let bits = received.bits.ok_or_else(|| Error::invalid("A droplet tgz file must be uploaded as 'bits'"))?;
    if !bits.filename.ends_with(".tgz") && !bits.filename.ends_with(".tar.gz") {
        return Err(invalid(&format!("{} is not a tgz", bits.filename)).into());
    }
    let path = bits.file.path().to_owned();
    let info = match upload::on_files(move || archive::check_droplet(&path, Limits::default())).await? {
        Ok(info) => info,
        Err(why) => return Err(invalid(&why).into()),
    };
    let wanted = guid.clone();
    api.write(&caller, move |tx| droplets::begin_upload(tx, &wanted)).await?;
    // In a task of its own: who hangs up now must not leave a droplet half-way.
    let (shared, by) = (api.clone(), caller.clone());
    let task = api.tasks.spawn(async move {
        let ended = match shared.blobs.put_file(&blob(&guid), bits.file.path()).await {
            Ok(stored) => Ok((stored.sha256, stored.size_bytes)),
            Err(e) => Err(e),
        };
        let noted = ended.as_ref().map(Clone::clone).map_err(ToString::to_string);
        let work = move |tx: &mut Tx<'_>| {
            let mut droplet = droplets::end(tx, &guid, "PROCESSING_UPLOAD", &noted)?.ok_or(Error::NotFound("Droplet"))?;
            droplets::take_command(tx, &mut droplet, info.as_deref())?;
            let job = jobs::done(tx, "droplet.upload", Some(("droplets", &droplet.guid)))?;
            let guid = droplet.guid.clone();
            Ok((describe_one(tx.conn, KIND, droplet, &guid)?, job))
        };
        let shown = shared.write(&by, work).await?;
        ended.map(|_| shown)
    });
    let (droplet, job) = task.await.map_err(|e| Error::internal("keeping a droplet", e))??;
    let location = api.url(&format!("/v3/jobs/{}", job.guid));
    Ok(HttpResponse::Accepted().insert_header((LOCATION, location)).json(body(&api, &droplet, Some(true))))
}
