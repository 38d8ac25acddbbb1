//! Manifests: applying one, comparing one, and an app as one.

use crate::{
    api::{Answer, Api, accepted},
    domain::{
        Caller, Error, Result, Tx,
        manifest::{
            Refused,
            check::{self, AppManifest},
            diff, parse, render,
        },
        manifests,
    },
    store::jobs,
};
use actix_web::{
    HttpRequest, HttpResponse, get, post,
    web::{Bytes, Data, Path, ServiceConfig},
};
use serde_json::{Map, Value, json};

/// Registers this resource.
pub fn routes(config: &mut ServiceConfig) {
    config.service(apply).service(difference).service(show);
}

/// Reads the body of a request as a manifest.
fn read(request: &HttpRequest, bytes: &[u8]) -> Result<Vec<Map<String, Value>>> {
    let content_type = request.headers().get("Content-Type").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = content_type.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if !matches!(kind.as_str(), "application/x-yaml" | "application/yaml" | "text/yaml" | "text/x-yaml" | "text/vnd.yaml") {
        return Err(Error::BadRequest("Content-Type must be yaml".into()));
    }
    parse::parse(bytes).map_err(refused)
}

fn refused(why: Refused) -> Error {
    use crate::domain::Rule;
    match why {
        Refused::Bad(text) => Error::BadRequest(text),
        Refused::Unreadable(text) => Error::rule(Rule::MessageParse, format!("Request invalid due to parse error: {text}")),
        Refused::Invalid(mut texts) if texts.len() == 1 => Error::Invalid(texts.remove(0)),
        Refused::Invalid(texts) => Error::InvalidEach(texts),
    }
}

#[post("/v3/spaces/{guid}/actions/apply_manifest")]
async fn apply(api: Data<Api>, caller: Caller, space: Path<String>, request: HttpRequest, bytes: Bytes) -> Answer {
    let space = space.into_inner();
    may_write(&api, &caller, &space).await?;
    let texts = read(&request, &bytes)?;
    let apps = check::check(&texts).map_err(refused)?;
    if let Some(twice) =
        apps.iter().enumerate().find_map(|(i, app)| apps[..i].iter().any(|other| other.name == app.name).then_some(app))
    {
        return Err(Error::invalid(format!("For application '{}': is in the manifest twice", twice.name)).into());
    }
    let (policy, wanted, of_space) = (api.policy.clone(), apps.clone(), space.clone());
    let guids = api.write(&caller, move |tx| manifests::create_missing(tx, &policy, &of_space, &wanted)).await?;
    // In a task of its own: who hangs up now must not leave a manifest half-way through an app.
    let (shared, by) = (api.clone(), caller.clone());
    let task = api.tasks.spawn(async move { apply_all(&shared, &by, space, guids, apps, texts).await });
    let job = task.await.map_err(|e| Error::internal("applying a manifest", e))??;
    accepted(&api, &job)
}

async fn may_write(api: &Api, caller: &Caller, space: &str) -> Result<()> {
    let space = space.to_owned();
    let work = move |tx: &mut Tx<'_>| {
        let scope = crate::domain::Scope::readable(tx, &space, "Space")?;
        scope.check(tx, scope.writes(tx))
    };
    api.read(caller, work).await
}

/// App by app, until one fails; what was done before stays.
async fn apply_all(
    api: &Api,
    caller: &Caller,
    space: String,
    guids: Vec<(String, String)>,
    apps: Vec<AppManifest>,
    texts: Vec<Map<String, Value>>,
) -> Result<jobs::Job> {
    let mut failed = None;
    for (((guid, _), wanted), text) in guids.into_iter().zip(apps).zip(texts) {
        let (policy, text) = (api.policy.clone(), Value::Object(text));
        match api.write(caller, move |tx| manifests::apply(tx, &policy, &guid, &wanted, &text)).await {
            Ok((app, scope)) => api.log.tell(&app, &scope, api.now(), &format!("Applied manifest to app with guid {}", app.guid)),
            Err(e) => {
                failed = Some(e);
                break;
            }
        }
    }
    let work = move |tx: &mut Tx<'_>| {
        let resource = Some(("spaces", space.as_str()));
        match &failed {
            None => jobs::done(tx, "space.apply_manifest", resource),
            Some(why) => {
                let job = jobs::begin(tx, "space.apply_manifest", resource, None)?;
                jobs::fail(tx, &job.guid, why)?;
                Ok(job)
            }
        }
    };
    api.write(caller, work).await
}

#[post("/v3/spaces/{guid}/manifest_diff")]
async fn difference(api: Data<Api>, caller: Caller, space: Path<String>, request: HttpRequest, bytes: Bytes) -> Answer {
    let space = space.into_inner();
    may_write(&api, &caller, &space).await?;
    let texts = read(&request, &bytes)?;
    let apps = check::check(&texts).map_err(refused)?;
    let names: Vec<String> = apps.into_iter().map(|app| app.name).collect();
    let existing = api.read(&caller, move |tx| manifests::existing(tx, &space, &names)).await?;
    let each = texts.iter().zip(&existing).enumerate();
    let found: Vec<diff::Difference> = each.flat_map(|(index, (stated, app))| diff::diff(index, stated, app.as_ref())).collect();
    Ok(HttpResponse::Created().json(json!({ "diff": found })))
}

#[get("/v3/apps/{guid}/manifest")]
async fn show(api: Data<Api>, caller: Caller, guid: Path<String>) -> Answer {
    let document = api.read(&caller, move |tx| manifests::of(tx, &guid)).await?;
    let text = render::yaml(&document).map_err(|e| Error::internal("writing a manifest", e))?;
    Ok(HttpResponse::Ok().content_type("application/x-yaml").body(text))
}
