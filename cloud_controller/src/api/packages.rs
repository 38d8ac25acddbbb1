//! `/v3/packages`: records, uploads, downloads.

use crate::{
    api::{
        Answer, Api, accepted,
        apps::only_metadata,
        body::{Fields, raw},
        created, download, ok, page,
        query::ListSpec,
        upload::{self, Received},
    },
    domain::{
        Caller, Error, Result, Rule, Tx, apps,
        archive::{self, ArchiveError, Checked, Limits, Matched},
        flags,
        packages::{self, Ended},
    },
    store::{
        self, jobs,
        metadata::{Described, describe_one, describe_page},
        packages::{KIND, Package, blob},
        query::List,
        resources::{self, Resource},
    },
};
use actix_multipart::Multipart;
use actix_web::{
    HttpRequest, delete, get, patch, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, path::PathBuf};
use tempfile::NamedTempFile;

const LIST: ListSpec =
    ListSpec { filters: &["states", "types", "app_guids", "space_guids", "organization_guids"], ..ListSpec::STANDARD };
const OF_APP: ListSpec = ListSpec { filters: &["states", "types"], ..ListSpec::STANDARD };

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(create).service(list_all).service(list_of_app).service(show).service(update).service(remove);
    config.service(upload_bits).service(download_bits);
}

/// A package as the API shows it.
fn body(api: &Api, package: &Described<Package>) -> Value {
    let Described { row, metadata } = package;
    let path = format!("/v3/packages/{}", row.guid);
    let mut body = page::head(&row.guid, row.created_at, row.updated_at);
    body.insert("type".into(), row.kind.clone().into());
    body.insert("data".into(), json!({ "error": row.error, "checksum": { "type": "sha256", "value": row.sha256 } }));
    body.insert("state".into(), row.state.clone().into());
    body.insert("relationships".into(), json!({ "app": page::to_one(Some(&row.app_guid)) }));
    body.insert("metadata".into(), page::metadata(metadata));
    let links = json!({
        "self": page::link(api, &path),
        "app": page::link(api, &format!("/v3/apps/{}", row.app_guid)),
        "upload": page::action(api, &format!("{path}/upload"), "POST"),
        "download": page::action(api, &format!("{path}/download"), "GET"),
    });
    body.insert("links".into(), links);
    body.into()
}

fn described(tx: &mut Tx<'_>, package: Package) -> Result<Described<Package>> {
    let guid = package.guid.clone();
    describe_one(tx.conn, KIND, package, &guid)
}

#[post("/v3/packages")]
async fn create(api: Data<Api>, caller: Caller, request: HttpRequest, bytes: Bytes) -> Answer {
    let source = crate::api::query::pairs(request.query_string()).remove("source_guid");
    let mut fields = Fields::parse(&bytes, &["type", "relationships", "data", "metadata"])?;
    let app = fields.relationships(&["app"], &["app"]).remove("app").flatten().unwrap_or_default();
    let metadata = fields.metadata();
    if let Some(source) = source {
        fields.finish()?;
        return copy(&api, &caller, source, app).await;
    }
    match fields.string("type").as_deref() {
        Some("bits") => {
            if fields.take("data").is_some_and(|data| data.as_object().is_none_or(|data| !data.is_empty())) {
                fields.problem("Data must be empty if provided for bits packages");
            }
        }
        Some("docker") => {
            fields.finish()?;
            // An app of the buildpack kind has no docker packages, and there are no others here.
            api.read(&caller, move |tx| apps::referred(tx, &app, "App is invalid. Ensure it exists and you have access to it."))
                .await?;
            return Err(Error::invalid("Cannot create Docker package for a buildpack app.").into());
        }
        _ => fields.problem("Type must be one of 'bits, docker'"),
    }
    fields.finish()?;
    let repeated = raw(&bytes);
    let work = move |tx: &mut Tx<'_>| {
        let package = packages::create(tx, &app, &metadata, repeated.clone())?;
        described(tx, package)
    };
    created(body(&api, &api.write(&caller, work).await?))
}

async fn copy(api: &Data<Api>, caller: &Caller, source: String, app: String) -> Answer {
    let (package, source) = api.write(caller, move |tx| packages::copy(tx, &source, &app)).await?;
    let ended = match api.blobs.copy(&blob(&source.guid), &blob(&package.guid)).await {
        Ok(()) => Ended::Ready {
            sha256: source.sha256.unwrap_or_default(),
            size_bytes: source.size_bytes.unwrap_or_default().unsigned_abs(),
        },
        Err(e) => {
            tracing::error!(error = &e as &dyn std::error::Error, "a package cannot be copied");
            Ended::Failed("The bits of the source cannot be copied".into())
        }
    };
    let guid = package.guid;
    let work = move |tx: &mut Tx<'_>| {
        let package = packages::end(tx, &guid, "COPYING", &ended)?.ok_or(Error::NotFound("Package"))?;
        described(tx, package)
    };
    created(body(api, &api.write(caller, work).await?))
}

async fn list_where(api: &Api, caller: &Caller, request: &HttpRequest, app: Option<String>) -> Answer {
    let spec = if app.is_some() { OF_APP } else { LIST };
    let list = spec.parse(request.query_string())?;
    let find = move |tx: &mut Tx<'_>, asked: List| {
        if let Some(app) = &app {
            apps::readable(tx, app)?;
        }
        let who = tx.who.clone();
        let found = store::packages::list(tx.conn, &who, &asked, app.as_deref())?;
        describe_page(tx.conn, KIND, found, |package| &package.guid)
    };
    page::answer(api, caller, request, list, find, |package| body(api, package)).await
}

#[get("/v3/packages")]
async fn list_all(api: Data<Api>, caller: Caller, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, None).await
}

#[get("/v3/apps/{guid}/packages")]
async fn list_of_app(api: Data<Api>, caller: Caller, guid: Path<String>, request: HttpRequest) -> Answer {
    list_where(&api, &caller, &request, Some(guid.into_inner())).await
}

#[get("/v3/packages/{guid}")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let (package, ..) = packages::readable(tx, &guid)?;
        described(tx, package)
    };
    ok(body(&api, &api.read(&caller, work).await?))
}

#[patch("/v3/packages/{guid}")]
async fn update(api: Data<Api>, caller: Caller, guid: Path<String>, bytes: Bytes) -> Answer {
    let change = only_metadata(&bytes)?;
    let work = move |tx: &mut Tx<'_>| {
        let (package, ..) = packages::writable(tx, &guid)?;
        change.apply(tx, KIND, &package.guid)?;
        described(tx, package)
    };
    ok(body(&api, &api.write(&caller, work).await?))
}

#[delete("/v3/packages/{guid}")]
async fn remove(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let work = move |tx: &mut Tx<'_>| {
        let package = packages::delete(tx, &guid)?;
        jobs::done(tx, "package.delete", Some(("packages", &package.guid)))
    };
    let job = api.write(&caller, work).await?;
    api.sweep_blobs();
    accepted(&api, &job)
}

#[get("/v3/packages/{guid}/download")]
async fn download_bits(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let package = api.write(&caller, move |tx| packages::download(tx, &guid)).await?;
    download::send(&api, &blob(&package.guid), "application/zip", &format!("{}.zip", package.guid)).await
}

#[post("/v3/packages/{guid}/upload")]
async fn upload_bits(api: Data<Api>, caller: Caller, guid: Path<String>, mut form: Multipart) -> Answer {
    let guid = guid.into_inner();
    let wanted = guid.clone();
    let allowed = move |tx: &mut Tx<'_>| {
        let found = packages::check_upload(tx, &wanted)?;
        flags::require(tx, "app_bits_upload")?;
        Ok(found)
    };
    let app = match api.read(&caller, allowed).await {
        Ok((_, app)) => app,
        Err(e) => {
            upload::drain(&mut form).await;
            return Err(e.into());
        }
    };
    let most = api.policy.limits.max_package_bytes;
    let received = upload::receive(&api, &mut form, most).await.map_err(|e| match e {
        Error::TooLarge(_) => too_large(most),
        other => other,
    })?;
    if received.bits.is_none() && received.resources.is_none() {
        return Err(Error::invalid("Upload must include either resources or bits").into());
    }
    let resources = read_resources(received.resources.as_deref())?;
    let wanted = guid.clone();
    api.write(&caller, move |tx| packages::begin_upload(tx, &wanted)).await?;
    // In a task of its own: who hangs up now must not leave a package half-way.
    let (shared, by) = (api.clone(), caller.clone());
    let task = api.tasks.spawn(async move { process(shared, by, guid, app.space_guid, received, resources).await });
    let package = task.await.map_err(|e| Error::internal("processing an upload", e))??;
    ok(body(&api, &package))
}

fn too_large(most: u64) -> Error {
    Error::rule(Rule::AppPackageInvalid, format!("The app package is invalid: Package may not be larger than {most} bytes"))
}

/// A file that the caller says is known already.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    pub sha1: String,
    pub size: i64,
    pub path: String,
    pub mode: u32,
}

/// Reads entries of `resources`, of the third version of the API or of the second.
///
/// # Errors
/// [`Error::Invalid`] when the shape is wrong.
fn read_resources(text: Option<&[u8]>) -> Result<Vec<Claimed>> {
    let Some(text) = text.filter(|text| !text.iter().all(u8::is_ascii_whitespace)) else { return Ok(vec![]) };
    let invalid = || Error::invalid("Resources must be valid JSON.");
    let entries: Vec<Value> = serde_json::from_slice(text).map_err(|_| invalid())?;
    entries.iter().map(|entry| read_resource(entry).ok_or_else(invalid)).collect()
}

/// Reads one entry.
pub fn read_resource(entry: &Value) -> Option<Claimed> {
    let sha1 = entry.pointer("/checksum/value").or_else(|| entry.get("sha1"))?.as_str()?;
    let size = entry.get("size_in_bytes").or_else(|| entry.get("size"))?.as_i64()?;
    let path = entry.get("path").or_else(|| entry.get("fn")).and_then(Value::as_str).unwrap_or_default();
    let mode = match entry.get("mode").and_then(Value::as_str) {
        None => 0o744,
        Some(text) => u32::from_str_radix(text, 8).ok()? & 0o777,
    };
    let good = sha1.len() == 40 && sha1.bytes().all(|b| b.is_ascii_hexdigit()) && size >= 0;
    good.then(|| Claimed { sha1: sha1.to_ascii_lowercase(), size, path: path.to_owned(), mode })
}

/// What an upload that was received comes to.
async fn process(
    api: Data<Api>,
    caller: Caller,
    guid: String,
    space: String,
    received: Received,
    resources: Vec<Claimed>,
) -> Result<Described<Package>> {
    let outcome = assemble(&api, &caller, &guid, &space, received, resources).await;
    let (ended, failure) = match outcome {
        Ok(Ok(ended)) => (ended, None),
        Ok(Err(why)) => {
            let text = format!("The app package is invalid: {why}");
            (Ended::Failed(why), Some(Error::rule(Rule::AppPackageInvalid, text)))
        }
        Err(e) => (Ended::Again, Some(e)),
    };
    let work = move |tx: &mut Tx<'_>| {
        let package = packages::end(tx, &guid, "PROCESSING_UPLOAD", &ended)?.ok_or(Error::NotFound("Package"))?;
        described(tx, package)
    };
    let package = api.write(&caller, work).await?;
    match failure {
        Some(failure) => {
            api.sweep_blobs();
            Err(failure)
        }
        None => Ok(package),
    }
}

/// Checks the bits, merges the matched files, keeps the outcome; the inner error is for the caller.
async fn assemble(
    api: &Data<Api>,
    caller: &Caller,
    guid: &str,
    space: &str,
    received: Received,
    claimed: Vec<Claimed>,
) -> Result<Result<Ended, String>> {
    let wanted: Vec<(String, i64)> = claimed.iter().map(|file| (file.sha1.clone(), file.size)).collect();
    let known = api.read(caller, move |tx| packages::known_resources(tx, &wanted)).await?;
    let mut copies: BTreeMap<(String, i64), NamedTempFile> = BTreeMap::new();
    for resource in &known {
        match api.blobs.fetch(&resources::blob(&resource.space_guid, &resource.sha256)).await? {
            Some(copy) => drop(copies.insert((resource.sha1.clone(), resource.size_bytes), copy)),
            None => forget(api, resource).await?,
        }
    }
    let mut matched = vec![];
    for file in &claimed {
        match copies.get(&(file.sha1.clone(), file.size)) {
            Some(copy) => matched.push(Matched { path: file.path.clone(), mode: file.mode, file: copy.path().to_owned() }),
            None => return Ok(Err(format!("the file `{}` is not known here; upload it", file.path.escape_debug()))),
        }
    }
    let out = api.blobs.temporary()?;
    let written = out.reopen().map_err(|e| crate::blobs::failed("opening a temporary file", e))?;
    let bits = received.bits.map(|bits| bits.file);
    let path: Option<PathBuf> = bits.as_ref().map(|file| file.path().to_owned());
    let work = move || -> Result<(Option<Checked>, archive::Packed), ArchiveError> {
        let limits = Limits::default();
        let mut checked = path.map(|path| archive::check(&path, limits)).transpose()?;
        let packed = archive::pack(checked.as_mut(), &matched, written, limits)?;
        Ok((checked, packed))
    };
    let (checked, packed) = match upload::on_files(work).await? {
        Ok(done) => done,
        Err(why) => return Ok(Err(why)),
    };
    drop(copies);
    let most = api.policy.limits.max_package_bytes;
    if packed.size > most {
        return Ok(Err(format!("Package may not be larger than {most} bytes")));
    }
    api.blobs.put_file(&blob(guid), out.path()).await?;
    if let (Some(checked), Some(bits)) = (checked, bits) {
        let (api, space) = (api.clone(), space.to_owned());
        let tasks = api.tasks.clone();
        tasks.spawn(async move { keep_for_matching(&api, &space, checked, bits).await });
    }
    Ok(Ok(Ended::Ready { sha256: packed.sha256, size_bytes: packed.size }))
}

async fn forget(api: &Api, resource: &Resource) -> Result<()> {
    let (space, sha256) = (resource.space_guid.clone(), resource.sha256.clone());
    api.write_as_system(move |tx| resources::forget_one(tx.conn, &space, &sha256)).await
}

/// Keeps large files of an upload, so that the next one need not send them. Best effort: the package is ready already.
async fn keep_for_matching(api: &Data<Api>, space: &str, mut checked: Checked, _bits: NamedTempFile) {
    let files = std::mem::take(&mut checked.poolable);
    for file in files {
        let Ok(out) = api.blobs.temporary() else { return };
        let Ok(mut written) = out.reopen() else { return };
        let index = file.index;
        let unpack = move || checked.unpack(index, &mut written).map(|()| checked);
        checked = match upload::on_files(unpack).await {
            Ok(Ok(checked)) => checked,
            _ => return,
        };
        let key = resources::blob(space, &file.sha256);
        let kept = match api.blobs.exists(&key).await {
            Ok(true) => Ok(()),
            Ok(false) => api.blobs.put_file(&key, out.path()).await.map(drop),
            Err(e) => Err(e),
        };
        let now = crate::domain::micros(api.now());
        let row = Resource {
            space_guid: space.to_owned(),
            sha1: file.sha1,
            sha256: file.sha256,
            size_bytes: i64::try_from(file.size).unwrap_or(i64::MAX),
            created_at: now,
            used_at: now,
        };
        let noted = match kept {
            Ok(()) => api.write_as_system(move |tx| resources::put(tx.conn, &row)).await,
            Err(e) => Err(e),
        };
        if let Err(e) = noted {
            // Also when the space is gone meanwhile. The blob is swept, as nothing speaks of it.
            tracing::debug!(error = &e as &dyn std::error::Error, "a file is not kept for matching");
            return;
        }
    }
}
