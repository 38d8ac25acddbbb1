//! `/v3/buildpacks`

use crate::{
    api::{
        Answer, Api, accepted,
        body::{Fields, raw},
        created, ok, page,
        query::ListSpec,
        upload,
    },
    buildpack_bits,
    domain::{
        Caller, Error, Result, Tx,
        buildpacks::{self, BuildpackChange, NewBuildpack},
    },
    store::{
        self,
        buildpacks::{Buildpack, KIND},
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
use serde_json::Value;

const LIST: ListSpec =
    ListSpec { filters: &["names", "stacks", "lifecycle"], order_by: &["position", "lifecycle"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(list_all).service(show).service(update).service(remove).service(upload_bits);
}

/// A buildpack as the API shows it.
fn body(api: &Api, buildpack: &Described<Buildpack>) -> Value {
    let Described { row, metadata } = buildpack;
    let path = format!("/v3/buildpacks/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("name".into(), row.name.clone().into());
    body.insert("stack".into(), row.stack.clone().into());
    body.insert("state".into(), row.state.clone().into());
    body.insert("filename".into(), row.filename.clone().into());
    body.insert("position".into(), row.position.into());
    body.insert("enabled".into(), row.enabled.into());
    body.insert("locked".into(), row.locked.into());
    body.insert("lifecycle".into(), row.lifecycle.clone().into());
    body.insert("metadata".into(), page::metadata(metadata));
    let links = serde_json::json!({
        "self": page::link(api, &path),
        "upload": page::action(api, &format!("{path}/upload"), "POST"),
    });
    body.insert("links".into(), links);
    body.into()
}

fn described(tx: &mut Tx<'_>, buildpack: Buildpack) -> Result<Described<Buildpack>> {
    let guid = buildpack.guid.clone();
    describe_one(tx.conn, KIND, buildpack, &guid)
}

fn read_name(fields: &mut Fields, name: Option<String>) -> Option<String> {
    let name = name?;
    if !name.is_empty() && !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-')) {
        fields.problem("Name can only contain alphanumeric characters, hyphens and underscores");
    }
    Some(name)
}

fn read_position(fields: &mut Fields) -> Option<i32> {
    fields.integer("position", 1, i64::from(i32::MAX)).and_then(|position| i32::try_from(position).ok())
}

#[post("/v3/buildpacks")]
async fn create(api: Data<Api>, caller: Caller, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "stack", "position", "enabled", "locked", "lifecycle", "metadata"])?;
    let name = fields.required("name", 250);
    let name = read_name(&mut fields, Some(name)).unwrap_or_default();
    let lifecycle = fields.string("lifecycle").unwrap_or_else(|| "buildpack".into());
    if !matches!(lifecycle.as_str(), "buildpack" | "cnb") {
        fields.problem("Lifecycle must be either \"buildpack\" or \"cnb\"");
    }
    let new = NewBuildpack {
        name,
        stack: fields.bounded("stack", 250),
        lifecycle,
        position: read_position(&mut fields),
        enabled: fields.bool("enabled").unwrap_or(true),
        locked: fields.bool("locked").unwrap_or(false),
        metadata: fields.metadata(),
    };
    fields.finish()?;
    let request = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| {
        let buildpack = buildpacks::create(tx, new.clone(), request.clone())?;
        described(tx, buildpack)
    };
    created(body(&api, &api.write(&caller, work).await?))
}

#[get("/v3/buildpacks")]
async fn list_all(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    let list = LIST.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        let found = store::buildpacks::list(tx.conn, &asked)?;
        describe_page(tx.conn, KIND, found, |buildpack| &buildpack.guid)
    };
    page::answer(&api, &caller, &request, list, find, |buildpack| body(&api, buildpack)).await
}

#[get("/v3/buildpacks/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let buildpack = buildpacks::find(tx, &guid)?;
        described(tx, buildpack)
    };
    ok(body(&api, &api.read(&caller, work).await?))
}

#[patch("/v3/buildpacks/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let mut fields = Fields::parse(&bytes, &["name", "stack", "position", "enabled", "locked", "metadata"])?;
    let name = fields.renamed("name", 250);
    let change = BuildpackChange {
        name: read_name(&mut fields, name),
        stack: fields.bounded("stack", 250),
        position: read_position(&mut fields),
        enabled: fields.bool("enabled"),
        locked: fields.bool("locked"),
        metadata: fields.metadata(),
    };
    fields.finish()?;
    let request = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| {
        let buildpack = buildpacks::update(tx, &guid, change.clone(), request.clone())?;
        described(tx, buildpack)
    };
    ok(body(&api, &api.write(&caller, work).await?))
}

#[delete("/v3/buildpacks/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let buildpack = buildpacks::delete(tx, &guid)?;
        jobs::done(tx, "buildpack.delete", Some(("buildpacks", &buildpack.guid)))
    };
    let job = api.write(&caller, work).await?;
    api.sweep_blobs();
    accepted(&api, &job)
}

#[post("/v3/buildpacks/{guid}/upload")]
async fn upload_bits(api: Data<Api>, caller: Caller, guid: Path<String>, mut form: Multipart) -> Answer {
    let guid = guid.into_inner();
    let wanted = guid.clone();
    let buildpack = match api.read(&caller, move |tx| buildpacks::check_upload(tx, &wanted)).await {
        Ok(buildpack) => buildpack,
        Err(e) => {
            upload::drain(&mut form).await;
            return Err(e.into());
        }
    };
    let received = upload::receive(&api, &mut form, api.policy.limits.max_buildpack_bytes).await?;
    let bits = received.bits.ok_or_else(|| Error::invalid("A buildpack zip file must be uploaded as 'bits'"))?;
    if buildpack.lifecycle == "buildpack" && !bits.filename.ends_with(".zip") {
        let text = format!("{} is not a zip file. Buildpacks of lifecycle \"buildpack\" must be valid zip files.", bits.filename);
        return Err(Error::Invalid(text).into());
    }
    let (shared, by) = (api.clone(), caller.clone());
    let task = api.tasks.spawn(async move {
        let kept = buildpack_bits::keep(&shared, &by, &guid, bits.file.path(), &bits.filename).await;
        if let Err(e @ (Error::Internal(..) | Error::Unavailable(..) | Error::Contention(_))) = kept {
            return Err(e);
        }
        let work = move |tx: &mut Tx<'_>| {
            let resource = Some(("buildpacks", guid.as_str()));
            let job = match &kept {
                Ok(_) => jobs::done(tx, "buildpack.upload", resource)?,
                Err(why) => {
                    let job = jobs::begin(tx, "buildpack.upload", resource, None)?;
                    jobs::fail(tx, &job.guid, why)?;
                    job
                }
            };
            let buildpack = buildpacks::find(tx, &guid)?;
            Ok((described(tx, buildpack)?, job))
        };
        shared.write(&by, work).await
    });
    let (buildpack, job) = task.await.map_err(|e| Error::internal("keeping a buildpack", e))??;
    let location = api.url(&format!("/v3/jobs/{}", job.guid));
    Ok(HttpResponse::Accepted().insert_header((LOCATION, location)).json(body(&api, &buildpack)))
}
